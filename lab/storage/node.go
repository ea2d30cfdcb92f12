package storage

import (
	"context"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

// NodeOptions say what a node has of its own.
type NodeOptions struct {
	// Pools are ZFS pools and data sets: "tank", "rpool/data". Groups are LVM volume groups and thin pools in them: "data",
	// "data/thin". Every node has the group pve with its thin pool data.
	Pools, Groups []string
	// GroupSpace answers for volume groups that are not listed here. nil knows none.
	GroupSpace func(name string) (total, free int64, ok bool)
	// Fault adds a fault of the node's files and returns what takes it away.
	Fault func(vfs.Fault) (undo func() error)
}

// Node is a Proxmox node with its storages.
type Node struct {
	w      *World
	n      *cluster.Node
	name   string
	old    bool // Proxmox VE 8
	pools  []string
	groups []string
	space  func(name string) (total, free int64, ok bool)
	fault  func(vfs.Fault) (undo func() error) // of NodeOptions

	// Guarded by World.mu.
	mounts   map[string]*export      // by mount point
	troubles map[string]func() error // of the mounts: what takes them away
	held     []*volume
	rows     []row
	seenAt   time.Duration // model time of rows, and the time of day
	seenTime time.Time
	runs     map[string]run // replication and backup jobs by id
}

// volume is a disk image on a block storage.
type volume struct {
	storage, name string
	vmid          int
	size          int64
}

// row is a line of pvestatd.
type row struct {
	id          string
	total, used int64
}

// Attach gives a node its storages and the programs about them.
func (w *World) Attach(node *cluster.Node, o NodeOptions) *Node {
	n := &Node{
		w: w, n: node, name: node.Name(), old: node.Release().Major() < 9, pools: o.Pools, groups: append([]string{"pve", "pve/data"}, o.Groups...), space: o.GroupSpace, mounts: map[string]*export{},
		runs: map[string]run{}, fault: o.Fault, troubles: map[string]func() error{},
	}
	w.mu.Lock()
	w.nodes[node.Name()] = n
	w.mu.Unlock()
	m := node.Machine()
	for path, program := range map[string]machine.Program{
		"/usr/sbin/pvesm": n.pvesm, "/usr/bin/pvesr": n.pvesr, "/usr/bin/vzdump": n.vzdump,
		"/usr/sbin/zpool": n.zpool, "/usr/sbin/zfs": n.zfs, "/usr/sbin/showmount": n.showmount,
	} {
		m.Register(path, program)
	}
	n.addPaths()
	n.addReplicationPaths()
	n.addBackupPaths()
	n.addDatacenterPaths()
	node.AddRRD(n.rrd)
	m.OnPower(func(up bool) {
		if !up {
			n.unmountAll()
		}
	})
	n.stat() // a node that has run for a while has told of its storages
	n.every(statRound, "pvestatd.service", n.stat)
	n.every(minute, "pvescheduler.service", n.schedule)
	return n
}

const (
	statRound = 10 * time.Second
	minute    = time.Minute
)

// every does something again and again while a unit is active.
func (n *Node) every(d time.Duration, unit string, do func()) {
	n.w.cluster.Clock().AfterFunc(d, func() {
		if m := n.n.Machine(); m.Up() && m.UnitActive(unit) && n.n.Mounted() {
			do()
		}
		n.every(d, unit, do)
	})
}

// elapsed is the model's time.
func (n *Node) elapsed() time.Duration { return n.w.cluster.Clock().Elapsed() }

// access is asked before each operation on the node's files. A hard mount of NFS waits for its server for ever; one of CIFS
// gives up.
func (n *Node) access(ctx context.Context, op vfs.Op, path string) error {
	for {
		e := n.mountedAt(path)
		if e == nil {
			return nil
		}
		away := !n.reaches(e.Kind, e.on.Name())
		n.w.mu.Lock()
		hung, full := e.hung, e.full
		n.w.mu.Unlock()
		switch {
		case !hung && !away && full && (op == vfs.OpCreate || op == vfs.OpWrite || op == vfs.OpMkdir):
			return syscall.ENOSPC
		case !hung && !away:
			return nil
		case !hung && e.Kind == "cifs":
			return syscall.EHOSTDOWN
		}
		if n.w.ctx.Err() != nil || n.w.cluster.Clock().Sleep(ctx, retry) != nil {
			return syscall.EINTR
		}
	}
}

// mountedAt is the export that a path lies on, or nil.
func (n *Node) mountedAt(path string) *export {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for at, e := range n.mounts {
		if path == at || strings.HasPrefix(path, at+"/") {
			return e
		}
	}
	return nil
}

// stuck reports whether an access to a path would block.
func (n *Node) stuck(path string) bool {
	e := n.mountedAt(path)
	if e == nil {
		return false
	}
	n.w.mu.Lock()
	hung := e.hung
	n.w.mu.Unlock()
	return hung || e.Kind == "nfs" && !n.reaches(e.Kind, e.on.Name())
}

// mount mounts an export.
func (n *Node) mount(at, source, kind, options string, e *export) error {
	if err := n.n.Machine().FS.Mount(at, &mount{Mem: e.fs, source: source, kind: kind, options: options, total: e.size()}); err != nil {
		return err
	}
	var undo func() error
	if n.fault != nil {
		undo = n.fault(vfs.Fault{Below: at, Ask: n.access})
	}
	n.w.mu.Lock()
	n.mounts[at] = e
	before := n.troubles[at]
	n.troubles[at] = undo
	n.w.mu.Unlock()
	if before != nil {
		return before()
	}
	return nil
}

// unmount takes a mounted export away, as umount -l does.
func (n *Node) unmount(at string) {
	n.w.mu.Lock()
	_, mounted := n.mounts[at]
	undo := n.troubles[at]
	delete(n.mounts, at)
	delete(n.troubles, at)
	n.w.mu.Unlock()
	if undo != nil {
		_ = undo() // never fails
	}
	if mounted {
		_ = n.n.Machine().FS.Unmount(at) // somebody else was faster
	}
}

func (n *Node) unmountAll() {
	n.w.mu.Lock()
	var at []string
	for path := range n.mounts {
		at = append(at, path)
	}
	n.w.mu.Unlock()
	for _, path := range at {
		n.unmount(path)
	}
}

// dataset reports whether a ZFS pool or data set is there.
func (n *Node) dataset(name string) bool {
	return slices.ContainsFunc(n.pools, func(p string) bool { return p == name || strings.HasPrefix(p, name+"/") })
}

// groupSpace is the size of a volume group.
func (n *Node) groupSpace(name string) (total, free int64, ok bool) {
	if slices.Contains(n.groups, name) {
		return 400 << 30, 300 << 30, true
	}
	if n.space != nil {
		return n.space(name)
	}
	return 0, 0, false
}

// Usable says whether a storage can be reached on a node: it is allowed there and becomes active. It blocks where a storage
// hangs.
func (w *World) Usable(ctx context.Context, node *cluster.Node, id string) error {
	w.mu.Lock()
	n := w.nodes[node.Name()]
	w.mu.Unlock()
	if n == nil {
		return nil
	}
	v := *n.n.Machine().FS.View
	v.Ctx = ctx
	s, err := readConfig(&v).enabled(id, n.name)
	if err != nil {
		return err
	}
	return n.activate(ctx, &v, s)
}

// Resources are the rows of storages in /cluster/resources, as a node sees them.
func (w *World) Resources(node *cluster.Node) []pvetool.Object {
	w.mu.Lock()
	nodes := maps.Clone(w.nodes)
	w.mu.Unlock()
	var out []pvetool.Object
	c := readConfig(node.Machine().FS.View)
	for _, member := range node.Members() {
		n := nodes[member]
		for _, s := range c.entries {
			if n == nil || !allowed(s, member) || disabled(s) {
				continue
			}
			o := pvetool.Object{
				"id": "storage/" + member + "/" + s.ID, "type": "storage", "storage": s.ID, "node": member, "plugintype": s.Type,
				"content": shuffled(s.Values["content"]), "shared": map[bool]int{true: 1}[sharedStorage(s)], "status": "unknown",
			}
			if u, known := n.told(s.ID); known && node.Online(member) {
				o["status"], o["disk"], o["maxdisk"] = "available", u.used, u.total
			}
			out = append(out, o)
		}
	}
	return out
}

// told is what pvestatd said last about a storage of the node.
func (n *Node) told(id string) (usage, bool) {
	if id == "local" {
		return usage{96 << 30, 4 << 30}, true
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	i := slices.IndexFunc(n.rows, func(r row) bool { return r.id == id })
	if i < 0 || n.elapsed()-n.seenAt > rrdAge {
		return usage{}, false
	}
	return usage{n.rows[i].total, n.rows[i].used}, true
}
