package ceph

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ceph"
)

func keys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

// firstPGs is what a pool begins with that scales by itself: Ceph's own default. Proxmox's 128 are more than a few small disks
// may bear together (mon_max_pg_per_osd).
var firstPGs = 32

// createPool plans a new pool. Its storage is registered by a change of its own, so that a pool without one is mended too.
func (w *world) createPool(gate, name string, s poolSettings) (module.Change, bool) {
	actor := w.actor()
	if !w.need(actor, gate) || !w.writable(actor, gate) {
		return module.Change{}, false
	}
	size, minSize := w.sizes(name, s)
	argv := []string{"pveceph", "pool", "create", name}
	after := map[string]any{"pool": name}
	option := func(name, value string) {
		argv = append(argv, "--"+name, value)
		after[name] = value
	}
	number := func(name string, n *int) {
		if n != nil {
			option(name, strconv.Itoa(*n))
		}
	}
	number("size", &size)
	number("min_size", &minSize)
	if s.PGNum == nil && orDefault(s.Autoscale, "on") == "on" {
		s.PGNum = &firstPGs
	}
	number("pg_num", s.PGNum)
	number("pg_num_min", s.PGNumMin)
	option("pg_autoscale_mode", orDefault(s.Autoscale, "on"))
	option("application", orDefault(s.Application, "rbd"))
	if s.TargetSize != "" {
		option("target_size", s.TargetSize)
	}
	if s.TargetRatio != nil {
		option("target_size_ratio", strconv.FormatFloat(*s.TargetRatio, 'g', -1, 64))
	}
	if s.CrushRule != "" {
		option("crush_rule", s.CrushRule)
	}
	if e := s.Erasure; e != nil {
		code := fmt.Sprintf("k=%d,m=%d", e.K, e.M)
		if e.DeviceClass != "" {
			code += ",device-class=" + e.DeviceClass
		}
		if e.FailureDomain != "" {
			code += ",failure-domain=" + e.FailureDomain
		}
		option("erasure-coding", code)
	}
	argv = append(argv, "--add_storages", "0")
	return module.Change{
		ID: actor + "/" + kindPool + "/" + name, Host: actor, Action: module.Create, Summary: "make pool " + name, After: after,
		Apply: func(ctx context.Context, t module.Target) error { return makePool(ctx, t, actor, name, argv, s) },
	}, true
}

// makePool makes a pool. pveceph exits 0 when it failed, so only the pool itself proves that it is there (reference §1.2).
func makePool(ctx context.Context, t module.Target, actor, name string, argv []string, s poolSettings) error {
	before, err := status(ctx, t, actor)
	if err != nil {
		return err
	}
	var printed string
	parts := []string{name}
	if s.Erasure != nil {
		parts = []string{name + "-data", name + "-metadata"}
	}
	if made, err := appeared(ctx, t, actor, name, parts, s); made || err != nil {
		return err
	}
	failed := patiently(ctx, t, func() error {
		r, err := t.Detach(ctx, actor, tool("ceph-pool-"+name, daemonTimeout, argv...))
		if err != nil {
			return err
		}
		printed = lastWords(string(r.Stdout), string(r.Stderr))
		if r.Exit != 0 || locked(errors.New(printed)) {
			return fmt.Errorf("exit %d: %s", r.Exit, printed)
		}
		return nil
	})
	c, err := readCluster(ctx, t, actor)
	if err != nil {
		return errors.Join(failed, err)
	}
	for _, part := range parts {
		if _, there := c.Map.Pool(part); !there {
			why := printed
			if failed != nil {
				why = failed.Error()
			}
			return fmt.Errorf("%s: pveceph pool create %s: there is no pool %s afterwards: %s (look: ceph osd pool ls)", actor, name, part, why)
		}
	}
	if failed != nil {
		return fmt.Errorf("%s: pveceph pool create %s: %w", actor, name, failed)
	}
	if strings.Contains(printed, "Could not set") {
		t.Warn(actor, printed+"; what the runbook names is set by the next run")
	}
	// Whether all copies find a place is known from the map; without one the wait for clean would never end. Nor is it this
	// pool's business when others were being copied before.
	return awaitHealth(ctx, t, actor, s.HealthTimeout, placed(c, parts) && before.Clean() == "")
}

// appeared looks for pools that somebody else has made since the plan, or a command of an earlier run that goes on. One that
// becomes as wanted is fine; another is refused: pveceph would give it the settings of this one, fewer copies among them,
// without a word (reference §8.3).
func appeared(ctx context.Context, t module.Target, actor, name string, parts []string, s poolSettings) (bool, error) {
	differs := ""
	look := func(ctx context.Context) error {
		c, err := readCluster(ctx, t, actor)
		if err != nil {
			return module.Fatal(err)
		}
		differs = ""
		for i, part := range parts {
			p, there := c.Map.Pool(part)
			if !there && i == 0 {
				return nil
			}
			if diff := s.wanted(i == 0, i == len(parts)-1, p).Compare(p, c.Rules); !there || len(diff) > 0 {
				differs = fmt.Sprintf("there is a pool %s by now, and it is not as wanted", name)
				return errors.New(differs)
			}
		}
		differs = "none"
		return nil
	}
	err := t.WaitFor(ctx, module.Condition{Name: "pool " + name + " is as wanted", Timeout: appearTimeout, Check: look})
	switch {
	case err != nil && differs == "":
		return false, err
	case err != nil:
		return false, &module.Refusal{Host: actor, Gate: "make pool " + name, Saw: differs, Want: "none, or one as the runbook has it", Look: "ceph osd pool ls detail", Override: "plan again: what differs is shown then"}
	}
	return differs == "none", nil
}

// appearTimeout is how long a pool that is being made by somebody else may take to get its settings.
const appearTimeout = 30 * time.Second

// placed reports whether there are places for every copy of some pools.
func placed(c *ceph.Cluster, names []string) bool {
	for _, name := range names {
		p, _ := c.Map.Pool(name)
		rule := ceph.Rule{Domain: "host"}
		if i := slices.IndexFunc(c.Rules, func(r ceph.Rule) bool { return r.ID == p.Rule }); i >= 0 {
			rule = c.Rules[i]
		}
		if c.Map.Places(rule, func(ceph.OSD) bool { return true }) < p.Size {
			return false
		}
	}
	return true
}

// lastWords is the line that tells why: the last of stderr, or else of stdout. Lines about what could not be set come first.
func lastWords(stdout, stderr string) string {
	for line := range strings.Lines(stdout + "\n" + stderr) {
		if strings.Contains(line, "Could not set") {
			return strings.TrimSpace(line)
		}
	}
	for _, text := range []string{stderr, stdout} {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
			return last
		}
	}
	return "it said nothing"
}

// setPool plans settings of a pool that differ.
func (w *world) setPool(name string, want ceph.Wanted, diff []ceph.Setting) module.Change {
	actor := w.actor()
	argv := []string{"pveceph", "pool", "set", name}
	before, after := map[string]any{}, map[string]any{}
	risk := module.RiskNone
	for _, d := range diff {
		argv = append(argv, "--"+d.Option, d.Value)
		before[d.Option], after[d.Option] = d.Before, d.After
		switch {
		case d.Lowered:
			risk = module.RiskDestructive
		case d.Option == "crush_rule" && risk == module.RiskNone:
			risk = module.RiskDisruptive // the pool's data moves
		}
	}
	return module.Change{
		ID: actor + "/" + kindPool + "/" + name, Host: actor, Action: module.Update, Risk: risk, Summary: "change pool " + name, Before: before, After: after,
		Apply: func(ctx context.Context, t module.Target) error {
			return applySettings(ctx, t, actor, name, argv, want)
		},
	}
}

// applySettings sets what differs and reads the pool until it is so: the exit status tells nothing.
func applySettings(ctx context.Context, t module.Target, actor, name string, argv []string, want ceph.Wanted) error {
	var printed string
	err := patiently(ctx, t, func() error {
		r, err := t.Detach(ctx, actor, tool("ceph-pool-"+name, daemonTimeout, argv...))
		if err == nil {
			if printed = lastWords(string(r.Stdout), string(r.Stderr)); locked(errors.New(printed)) {
				err = errors.New(printed)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: pveceph pool set %s: %w", actor, name, err)
	}
	err = await(ctx, t, "pool "+name+" has its settings", actor, quickTimeout, func(c *ceph.Cluster) string {
		p, there := c.Map.Pool(name)
		if !there {
			return "the pool is gone"
		}
		for _, d := range want.Compare(p, c.Rules) {
			return fmt.Sprintf("%s is %v", d.Option, d.Before)
		}
		return ""
	})
	if err != nil {
		return fmt.Errorf("%s: pveceph pool set %s said %q: %w", actor, name, printed, err)
	}
	return nil
}

// withoutPool plans the end of a pool, with everything in it. The runbook must say its name twice.
func (w *world) withoutPool(name string, args poolArgs) []module.Change {
	gate := "destroy pool " + name
	if !w.answers(gate) {
		return nil
	}
	parts := []string{name}
	if _, there := w.Map.Pool(name); !there && args.Erasure != nil {
		parts = []string{name + "-data", name + "-metadata"}
	}
	var changes []module.Change
	for _, part := range parts {
		p, there := w.Map.Pool(part)
		if !there {
			continue
		}
		if args.Destroy != name {
			w.refuse("", gate, fmt.Sprintf("the pool is there, and destroy is %q", args.Destroy), "the pool's name in destroy: everything in it is lost", "ceph df; rbd -p "+part+" ls", fmt.Sprintf("destroy = %q", name))
			return nil
		}
		if user := w.usedBy(part, name); user != "" {
			w.refuse("", gate, user, "a pool that nothing uses", "cat /etc/pve/storage.cfg; ceph fs ls", "take that away first")
			return nil
		}
		changes = append(changes, w.destroyPool(p))
	}
	return changes
}

// usedBy says what uses a pool.
func (w *world) usedBy(part, name string) string {
	if strings.HasPrefix(part, ".") {
		return part + " is Ceph's own"
	}
	for _, s := range w.Storages {
		pool := s.Values["pool"]
		if s.Type == "rbd" && (orDefault(pool, "rbd") == part || s.Values["data-pool"] == part || pool == name) {
			return "storage " + s.ID + " uses it"
		}
	}
	for _, f := range w.Filesystems {
		if f.Metadata == part || slices.Contains(f.DataPools, part) {
			return "CephFS " + f.Name + " lies on it"
		}
	}
	return ""
}

func (w *world) destroyPool(p ceph.Pool) module.Change {
	actor := w.actor()
	return module.Change{
		ID: actor + "/" + kindPool + "/" + p.Name, Host: actor, Action: module.Delete, Risk: module.RiskDestructive, Summary: "DESTROY pool " + p.Name + " with all data in it",
		Before: map[string]any{"pool": p.Name, "size": p.Size, "applications": strings.Join(p.Applications, ", ")},
		Apply: func(ctx context.Context, t module.Target) error {
			r, err := t.Detach(ctx, actor, tool("ceph-pool-destroy-"+p.Name, daemonTimeout, "pveceph", "pool", "destroy", p.Name))
			if err != nil {
				return fmt.Errorf("%s: pveceph pool destroy %s: %w", actor, p.Name, err)
			}
			c, err := readCluster(ctx, t, actor)
			if err != nil {
				return err
			}
			if _, there := c.Map.Pool(p.Name); there {
				return fmt.Errorf("%s: pveceph pool destroy %s: it is still there: %s", actor, p.Name, lastWords(string(r.Stdout), string(r.Stderr)))
			}
			return nil
		},
	}
}
