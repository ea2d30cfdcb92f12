package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

// Options say how fast the guests of a world move.
type Options struct {
	// RAMSpeed and DiskSpeed are how many bytes a second of memory and of disks go from node to node.
	RAMSpeed, DiskSpeed int64
}

const (
	defaultRAMSpeed  = 1000 << 20
	defaultDiskSpeed = 200 << 20
)

// World is the guests of all nodes. It is safe for concurrent use.
type World struct {
	cluster *cluster.World
	opt     Options

	// mu guards what follows and the hosts' state. Neither the cluster's model nor a file system is asked while it is held.
	mu        sync.Mutex
	hosts     map[string]*Host
	locks     map[int]chan struct{} // of a guest's config file
	dirty     map[int]bool          // live migrations of these never end
	deaf      map[int]bool          // these ignore a shutdown
	rows      map[int]*row          // what pvestatd last told of each guest
	usable    func(ctx context.Context, node *cluster.Node, storage string) error
	moved     func(id int, from, to string)
	resources []func(node *cluster.Node) []pvetool.Object
}

// New makes a world without guests.
func New(w *cluster.World, o Options) *World {
	if o.RAMSpeed <= 0 {
		o.RAMSpeed = defaultRAMSpeed
	}
	if o.DiskSpeed <= 0 {
		o.DiskSpeed = defaultDiskSpeed
	}
	return &World{
		cluster: w, opt: o, hosts: map[string]*Host{}, locks: map[int]chan struct{}{}, dirty: map[int]bool{}, deaf: map[int]bool{}, rows: map[int]*row{},
	}
}

// StorageUsable lets the model of storages say whether a guest's volumes can be reached on a node: an error is what keeps
// the guest from starting there. It may block, as a storage that hangs does.
func (w *World) StorageUsable(ask func(ctx context.Context, node *cluster.Node, storage string) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.usable = ask
}

// OnMoved lets the model of replication hear, in place of the guests' own, that a guest's config now lies on another node.
func (w *World) OnMoved(heard func(id int, from, to string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.moved = heard
}

// AddResources adds rows to pvesh get /cluster/resources.
func (w *World) AddResources(rows func(node *cluster.Node) []pvetool.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.resources = append(w.resources, rows)
}

// Host is the guests of one node.
type Host struct {
	w    *World
	node *cluster.Node
	m    *machine.Machine
	name string

	running map[int]*instance // guarded by World.mu
}

// Install puts qm, pct and what belongs to them on a node.
func (w *World) Install(node *cluster.Node) (*Host, error) {
	h := &Host{w: w, node: node, m: node.Machine(), name: node.Name(), running: map[int]*instance{}}
	w.mu.Lock()
	w.hosts[h.name] = h
	w.mu.Unlock()
	for _, dir := range []string{"/sys/fs/cgroup/qemu.slice", "/sys/fs/cgroup/lxc", "/run/qemu-server"} {
		if err := h.m.FS.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	h.m.Register("/usr/sbin/qm", h.program(vm))
	h.m.Register("/usr/sbin/pct", h.program(ct))
	h.m.AddUnit(machine.Unit{Name: "pve-guests.service", Description: "PVE guests", Enabled: true, Oneshot: true, OnStart: h.boot, OnStop: h.shutdown})
	h.m.OnPower(func(up bool) {
		if !up {
			h.powerLost()
		}
	})
	h.addPaths()
	node.AddRRD(h.rrdLines)
	h.statusLoop()
	return h, nil
}

// Host returns the guests of a node, or nil.
func (w *World) Host(name string) *Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hosts[name]
}

// actor is in whose name something is done: a program's, or a daemon's of the node.
type actor struct {
	*Host
	proc *machine.Proc
	view *vfs.View
	// direct actors act on HA guests themselves: the HA manager, and the boot.
	direct bool
}

// byProgram acts as a program of the node.
func (h *Host) byProgram(p *machine.Proc) *actor { return &actor{Host: h, proc: p, view: p.View()} }

// byDaemon acts as a daemon of the node, whose file operations end with ctx.
func (h *Host) byDaemon(ctx context.Context) *actor {
	view := *h.m.FS.View
	view.Ctx = ctx
	return &actor{Host: h, proc: &machine.Proc{Machine: h.m}, view: &view, direct: true}
}

// outliving is the actor for what is cleaned up after its program was ended.
func (a *actor) outliving() *actor {
	b := *a
	b.view = a.m.FS.View
	return &b
}

// path is the file of a guest's config on a node.
func configPath(k *kind, node string, id int) string { return "/etc/pve/" + k.file(node, id) }

// missing is the error of a guest whose config does not lie on a node.
type missing struct {
	k    *kind
	node string
	id   int
}

func (e *missing) Error() string {
	return fmt.Sprintf("Configuration file '%s' does not exist", e.k.file(e.node, e.id))
}

// load reads the config of a guest of this node.
func (a *actor) load(k *kind, id int) (*Config, error) {
	text, err := a.view.ReadFile(configPath(k, a.name, id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &missing{k, a.name, id}
	case err != nil:
		return nil, fmt.Errorf("unable to read '%s': %s", configPath(k, a.name, id), machine.Reason(err))
	}
	return ParseConfig(string(text)), nil
}

// store writes a guest's config as Proxmox does: beside it, then renamed.
func (a *actor) store(k *kind, id int, c *Config) error {
	name := configPath(k, a.name, id)
	temp := fmt.Sprintf("%s.tmp.%d", name, a.proc.PID())
	err := a.view.WriteFile(temp, []byte(c.String()), 0o640)
	if err == nil {
		err = a.view.Rename(temp, name)
	}
	if err != nil {
		return fmt.Errorf("unable to open file '%s' - %s", temp, machine.Reason(err))
	}
	return nil
}

// change reads, edits and writes a guest's config under its lock.
func (a *actor) change(ctx context.Context, k *kind, id int, edit func(*Config) error) error {
	unlock, err := a.lockFile(ctx, k, id)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := a.load(k, id)
	if err != nil {
		return err
	}
	if err := edit(c); err != nil {
		return err
	}
	return a.store(k, id, c)
}

// lockWait is how long programs wait for a guest's lock.
const lockWait = 10 * time.Second

// lockFile takes the lock of a guest's config file.
func (a *actor) lockFile(ctx context.Context, k *kind, id int) (unlock func(), err error) {
	a.w.mu.Lock()
	lock := a.w.locks[id]
	if lock == nil {
		lock = make(chan struct{}, 1)
		a.w.locks[id] = lock
	}
	a.w.mu.Unlock()
	unlock = func() { <-lock }
	select {
	case lock <- struct{}{}:
		return unlock, nil
	default:
	}
	for start := a.w.cluster.Clock().Elapsed(); a.w.cluster.Clock().Elapsed()-start < lockWait; {
		if err := a.m.Sleep(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
		select {
		case lock <- struct{}{}:
			return unlock, nil
		default:
		}
	}
	file := fmt.Sprintf("/var/lock/qemu-server/lock-%d.conf", id)
	if k == ct {
		file = fmt.Sprintf("/run/lock/lxc/pve-config-%d.lock", id)
	}
	return nil, fmt.Errorf("can't lock file '%s' - got timeout", file)
}

// locked is the refusal of a guest whose config holds a lock, or nil.
func locked(k *kind, c *Config) error {
	if lock := c.Values["lock"]; lock != "" {
		return fmt.Errorf("%s is locked (%s)", k.noun, lock)
	}
	return nil
}

// storages reads storage.cfg.
func (a *actor) storages() map[string]*storage {
	text, _ := a.view.ReadFile("/etc/pve/storage.cfg") // what cannot be read is empty
	return parseStorages(string(text))
}

// datacenter reads a property string of datacenter.cfg.
func (a *actor) datacenter(key string) map[string]string {
	text, _ := a.view.ReadFile("/etc/pve/datacenter.cfg")
	for line := range strings.SplitSeq(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, key+":"); ok {
			return properties(strings.TrimSpace(value))
		}
	}
	return map[string]string{}
}

// managed reports whether the HA manager looks after a guest.
func (a *actor) managed(k *kind, id int) bool {
	text, err := a.view.ReadFile("/etc/pve/ha/resources.cfg")
	if err != nil {
		return false
	}
	for _, s := range pvetool.ParseSections(string(text)) {
		if s.Type == k.sid && s.ID == fmt.Sprint(id) {
			return s.Values["state"] != "ignored"
		}
	}
	return false
}

// ids lists the guests of a kind whose configs lie on a node, in order.
func (a *actor) ids(k *kind, node string) []int {
	entries, err := a.view.ReadDir("/etc/pve/nodes/" + node + "/" + k.dir)
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		number, ok := strings.CutSuffix(e.Name, ".conf")
		if id, err := parseID(number); ok && err == nil {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}
