package guest

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// only reads a list of guests; nil is all.
func only(list string) map[int]bool {
	if list == "" {
		return nil
	}
	out := map[int]bool{}
	for word := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ' ' || r == ';' }) {
		if id, err := parseID(word); err == nil {
			out[id] = true
		}
	}
	return out
}

func (h *Host) apiStartAll(ctx context.Context, r pvetool.Request) (any, error) {
	h.startAll(ctx, r.Options.Is("force"), only(r.Options.Values["vms"]))
	return nil, ctx.Err()
}

func (h *Host) apiStopAll(ctx context.Context, r pvetool.Request) (any, error) {
	timeout := 180 * time.Second
	if n := r.Options.Int("timeout"); n > 0 {
		timeout = time.Duration(n) * time.Second
	}
	h.stopAll(ctx, timeout, only(r.Options.Values["vms"]))
	return nil, ctx.Err()
}

// migrateAll is the bulk migration of a node: its task is fine although single migrations failed (reference §6.6).
func (h *Host) migrateAll(ctx context.Context, r pvetool.Request) (any, error) {
	a := h.byProgram(r.Proc)
	workers := max(r.Options.Int("max-workers"), r.Options.Int("maxworkers"))
	if n, err := strconv.Atoi(a.datacenter("max_workers")[""]); err == nil && workers == 0 {
		workers = n
	}
	if workers == 0 {
		return nil, errNoWorkers
	}
	wanted := only(r.Options.Values["vms"])
	target := r.Options.Values["target"]
	upid, code := h.node.Tasks().Run(ctx, r.Proc, &pvetool.Task{Kind: "migrateall"}, func(ctx context.Context, out io.Writer) error {
		started := 0
		for _, k := range []*kind{vm, ct} {
			for _, id := range a.ids(k, h.name) {
				if wanted != nil && !wanted[id] {
					continue
				}
				m := &migration{actor: a, k: k, id: id, target: target, online: true, restart: true, withDisks: r.Options.Is("with-local-disks"), timeout: 180 * time.Second}
				if err := m.refusal(func(string) {}); err != nil {
					fmt.Fprintf(out, "skip %s %d - precondition check failed: %s\n", k.noun, id, err)
					continue
				}
				fmt.Fprintf(out, "Migrating %s %d\n", k.noun, id)
				started++
				if err := h.one(ctx, m); err != nil {
					fmt.Fprintf(out, "Migrating %s %d failed: %s\n", k.noun, id, err)
				}
			}
		}
		if started == 0 {
			return fmt.Errorf("no migrations worker started...")
		}
		fmt.Fprintf(out, "All jobs finished, used %d workers in total.\n", started)
		return nil
	})
	if code == pvetool.ExitKilled {
		return nil, pvetool.ErrKilled
	}
	return upid, nil
}

// one moves one guest of a bulk migration in a task of its own, those of the HA manager by asking it.
func (h *Host) one(ctx context.Context, m *migration) error {
	if m.managed(m.k, m.id) {
		if code := pvetool.Run(ctx, m.proc, nil, nil, "ha-manager", "migrate", fmt.Sprintf("%s:%d", m.k.sid, m.id), m.target); code != 0 {
			return fmt.Errorf("ha-manager: exit code %d", code)
		}
		return nil
	}
	_, err := h.node.Tasks().Background(ctx, &pvetool.Task{Kind: m.k.migrateTask(), ID: strconv.Itoa(m.id)}, worker(m.do))
	return err
}
