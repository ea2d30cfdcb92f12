package guest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// Add puts a guest on a node, running if the spec says so. The node must be able to write to /etc/pve, and no other guest may
// have the id.
func (h *Host) Add(ctx context.Context, s Spec) error { return h.AddAll(ctx, []Spec{s}) }

// AddAll puts guests on a node until one cannot be.
func (h *Host) AddAll(ctx context.Context, list []Spec) error {
	a := h.byDaemon(ctx)
	storages := a.storages()
	for _, s := range list {
		if err := a.add(s, storages); err != nil {
			return err
		}
	}
	h.post()
	return nil
}

func (a *actor) add(s Spec, storages map[string]*storage) error {
	if err := s.Validate(); err != nil {
		return err
	}
	h, k := a.Host, s.kind()
	if node, ok := a.anywhere(s.ID); ok {
		return fmt.Errorf("guest %d is already on %s", s.ID, node)
	}
	path := configPath(k, h.name, s.ID)
	if err := a.view.MkdirAll(path[:strings.LastIndexByte(path, '/')], 0o755); err != nil {
		return fmt.Errorf("guest %d: %s: %s", s.ID, path, machine.Reason(err))
	}
	conf := s.config(storages)
	if err := a.view.WriteFile(path, []byte(conf.String()), 0o640); err != nil {
		return fmt.Errorf("guest %d: %s: %s", s.ID, path, machine.Reason(err))
	}
	if s.Pool != "" {
		if err := a.addToPool(s.Pool, s.ID); err != nil {
			return err
		}
	}
	h.w.mu.Lock()
	h.w.dirty[s.ID], h.w.deaf[s.ID] = s.Dirty, s.Deaf
	h.w.mu.Unlock()
	if s.Running {
		i := &instance{k: k, id: s.ID, conf: conf, qemu: h.qemuVersion(), model: h.cpuModel()}
		if err := a.fits(i, func(string) {}); err != nil && s.Config == "" {
			return fmt.Errorf("guest %d: %w", s.ID, err)
		}
		return h.enter(i)
	}
	return nil
}

// Remove takes a guest away, without asking anybody.
func (h *Host) Remove(id int) error {
	if i := h.instanceOf(id); i != nil {
		h.leave(i)
	}
	for _, k := range []*kind{vm, ct} {
		if h.m.FS.Remove(configPath(k, h.name, id)) == nil {
			return nil
		}
	}
	return fmt.Errorf("guest %d is not on %s", id, h.name)
}

// addToPool enters a guest in a resource pool, which is made if there is none.
func (a *actor) addToPool(pool string, id int) error {
	const file = "/etc/pve/user.cfg"
	text, _ := a.view.ReadFile(file) // none is an empty one
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	at := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "pool:"+pool+":") })
	if at < 0 {
		lines = append(lines, fmt.Sprintf("pool:%s::%d::", pool, id))
	} else if fields := strings.Split(lines[at], ":"); len(fields) > 3 {
		fields[3] = strings.Trim(fields[3]+","+strconv.Itoa(id), ",")
		lines[at] = strings.Join(fields, ":")
	}
	return a.view.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o640)
}

// SetDirty makes a machine write memory faster than it can be moved, or stops that.
func (w *World) SetDirty(id int, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirty[id] = on
}

// SetDeaf makes a guest ignore shutdowns, or stops that.
func (w *World) SetDeaf(id int, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf[id] = on
}

// SetLock writes a lock into a guest's config, as a backup or a snapshot does; "" takes it away.
func (h *Host) SetLock(ctx context.Context, id int, lock string) error {
	return h.Edit(ctx, id, func(values map[string]string) {
		delete(values, "lock")
		if lock != "" {
			values["lock"] = lock
		}
	})
}

// Edit changes lines of the config of a guest on the node, in the name of nobody.
func (h *Host) Edit(ctx context.Context, id int, edit func(values map[string]string)) error {
	a := h.byDaemon(ctx)
	for _, k := range []*kind{vm, ct} {
		if slices.Contains(a.ids(k, h.name), id) {
			return a.change(ctx, k, id, func(c *Config) error { edit(c.Values); return nil })
		}
	}
	return fmt.Errorf("guest %d is not on %s", id, h.name)
}

// Crash ends a guest's process as a crash does.
func (h *Host) Crash(id int) error {
	i := h.instanceOf(id)
	if i == nil {
		return errors.New("guest " + strconv.Itoa(id) + " does not run on " + h.name)
	}
	h.m.Kill(i.daemon.PID(), machine.SIGKILL)
	return nil
}

func (h *Host) cpuModel() string {
	model, _ := h.m.CPU()
	return model
}

// State is how a guest stands, for people who look at a lab.
type State struct {
	ID   int    `json:"id"`
	Type string `json:"type"`
	Name string `json:"name"`
	// Node is where its config lies, Runs where it runs.
	Node string   `json:"node"`
	Runs []string `json:"runs,omitempty"`
	Lock string   `json:"lock,omitempty"`
}

// List tells how all guests stand, by id. A guest whose node is not mounted is in it if another node has its config.
func (w *World) List() []State {
	w.mu.Lock()
	hosts := slices.Collect(maps.Values(w.hosts))
	w.mu.Unlock()
	seen := map[int]State{}
	for _, h := range hosts {
		a := &actor{Host: h, view: h.m.FS.View}
		nodes, err := a.view.ReadDir("/etc/pve/nodes")
		if err != nil {
			continue
		}
		for _, n := range nodes {
			for _, k := range []*kind{vm, ct} {
				for _, id := range a.ids(k, n.Name) {
					text, err := a.view.ReadFile(configPath(k, n.Name, id))
					if _, known := seen[id]; err != nil || known {
						continue
					}
					conf := ParseConfig(string(text))
					seen[id] = State{ID: id, Type: k.api, Name: k.nameOf(conf, id), Node: n.Name, Lock: conf.Values["lock"], Runs: w.Where(id)}
				}
			}
		}
	}
	return slices.SortedFunc(maps.Values(seen), func(a, b State) int { return a.ID - b.ID })
}
