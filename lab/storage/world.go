package storage

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/vfs"
)

// Export is what a host of the lab offers to nodes.
type Export struct {
	Kind string `json:"kind"` // nfs, cifs, iscsi or pbs
	// Name is the exported folder of nfs, the share of cifs, the target of iscsi, the datastore of pbs.
	Name string `json:"name"`
	// SizeGiB is 1024 unless it is given.
	SizeGiB  int  `json:"size_gib,omitempty"`
	ReadOnly bool `json:"read_only,omitempty"`
	// Username and Password are asked for by cifs and pbs. Without a password anybody is let in. Passwords are never written
	// down: they are those of the site that is rehearsed.
	Username string `json:"username,omitempty"`
	Password string `json:"-"`
}

// Kinds are the values of Export.Kind with the TCP port that a server of the kind listens on.
var Kinds = map[string]int{"nfs": 2049, "cifs": 445, "iscsi": 3260, "pbs": 8007}

var units = map[string]string{"nfs": "nfs-server.service", "cifs": "smbd.service", "iscsi": "target.service", "pbs": "proxmox-backup-proxy.service"}

// Validate says what is wrong with an export.
func (e Export) Validate() error {
	switch {
	case Kinds[e.Kind] == 0:
		return fmt.Errorf("export %q: kind %q is none of cifs, iscsi, nfs, pbs", e.Name, e.Kind)
	case e.Kind == "nfs" && !strings.HasPrefix(e.Name, "/"):
		return fmt.Errorf("export %q: nfs exports an absolute path", e.Name)
	case e.Name == "" || strings.ContainsAny(e.Name, " \t\n"):
		return fmt.Errorf("export %q: a name without blanks is needed", e.Name)
	case e.SizeGiB < 0:
		return fmt.Errorf("export %q: a size of %d GiB", e.Name, e.SizeGiB)
	}
	return nil
}

// export is an Export with what lies on it.
type export struct {
	Export
	on *machine.Machine
	fs *vfs.Mem // of nfs and cifs

	// Guarded by World.mu.
	hung    bool
	missing bool
	full    bool
	backups []snapshot // of pbs
}

func (e *export) size() int64 {
	if e.SizeGiB == 0 {
		return 1 << 40
	}
	return int64(e.SizeGiB) << 30
}

// World holds the servers and the nodes that use them. It is safe for concurrent use.
type World struct {
	cluster *cluster.World
	ctx     context.Context //nolint:containedctx // ends with the lab; what hangs and what the scheduler runs end with it

	// mu guards everything below and the changing parts of nodes and exports. No file of a machine is touched while it is
	// held.
	mu      sync.Mutex
	exports []*export
	nodes   map[string]*Node
	ceph    Ceph
}

// Ceph is what rbd and cephfs storages need to know. A nil Ceph has neither pools nor file systems.
type Ceph interface {
	// PoolUsage is the space of a pool in bytes as a node sees it; an error is what the node's client says.
	PoolUsage(node, pool string) (total, used int64, err error)
	// FilesystemUsage is the same for a CephFS; "" is the only one.
	FilesystemUsage(node, name string) (total, used int64, err error)
}

// New returns a world without servers. What hangs in it ends with ctx.
func New(ctx context.Context, w *cluster.World) *World {
	return &World{cluster: w, ctx: ctx, nodes: map[string]*Node{}}
}

// SetCeph says who answers for rbd and cephfs.
func (w *World) SetCeph(c Ceph) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ceph = c
}

// Serve makes a machine a server of exports.
func (w *World) Serve(ctx context.Context, m *machine.Machine, exports []Export) error {
	kinds := map[string]bool{}
	for _, e := range exports {
		if err := e.Validate(); err != nil {
			return err
		}
		one := &export{Export: e, on: m}
		if e.Kind == "nfs" || e.Kind == "cifs" {
			one.fs = vfs.NewMem(m.Now)
			one.fs.SetLimit(one.size())
			one.fs.SetReadOnly(e.ReadOnly)
		}
		if e.Kind == "nfs" {
			if err := m.FS.Mount(e.Name, &mount{Mem: one.fs, source: "/dev/mapper/data", kind: "ext4", total: one.size()}); err != nil {
				return err
			}
		}
		w.mu.Lock()
		w.exports = append(w.exports, one)
		w.mu.Unlock()
		if kinds[e.Kind] {
			continue
		}
		kinds[e.Kind] = true
		m.AddUnit(machine.Unit{Name: units[e.Kind], Description: e.Kind + " server", Enabled: true, Ports: []int{Kinds[e.Kind]}})
		if err := m.StartUnit(ctx, units[e.Kind]); err != nil {
			return err
		}
	}
	return nil
}

// find returns an export of a server, by the server's name or address.
func (w *World) find(kind, server, name string) *export {
	m := w.cluster.Find(server)
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.exports, func(e *export) bool { return e.Kind == kind && e.on == m && e.Name == name })
	if m == nil || i < 0 || w.exports[i].missing {
		return nil
	}
	return w.exports[i]
}

// exported lists what a server offers of a kind.
func (w *World) exported(kind, server string) []*export {
	m := w.cluster.Find(server)
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*export
	for _, e := range w.exports {
		if m != nil && e.Kind == kind && e.on == m && !e.missing {
			out = append(out, e)
		}
	}
	return out
}

// reaches reports whether a node gets an answer from a server of a kind.
func (n *Node) reaches(kind, server string) bool {
	m := n.w.cluster.Find(server)
	if m == nil || !m.Up() || !m.UnitActive(units[kind]) {
		return false
	}
	to := m.Addresses()
	if a, err := netip.ParseAddr(server); err == nil {
		to = []netip.Addr{a}
	}
	for _, from := range n.n.Machine().Addresses() {
		for _, a := range to {
			if n.w.cluster.Path(from, a).Reachable {
				return true
			}
		}
	}
	return false
}

// Trouble changes what is wrong with the exports of a machine that name names ("" is all of them): hang lets every access to
// their files block, missing takes them from the list of exports, full leaves no room, readOnly refuses writes. It returns how
// to undo it.
func (w *World) Trouble(m *machine.Machine, name, what string) (undo func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var hit []*export
	for _, e := range w.exports {
		if e.on == m && (name == "" || e.Name == name) {
			hit = append(hit, e)
		}
	}
	if len(hit) == 0 {
		return nil, fmt.Errorf("%s exports no %q", m.Name(), name)
	}
	set := func(on bool) {
		for _, e := range hit {
			switch what {
			case "hang":
				e.hung = on
			case "missing":
				e.missing = on
			case "full":
				e.full = on
				e.limit(on)
			case "read-only":
				if e.fs != nil {
					e.fs.SetReadOnly(on || e.ReadOnly)
				}
			}
		}
	}
	set(true)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		set(false)
	}, nil
}

// limit leaves no room on an export, or all of it.
func (e *export) limit(full bool) {
	if e.fs == nil {
		return
	}
	if !full {
		e.fs.SetLimit(e.size())
		return
	}
	used, _ := e.fs.Usage()
	e.fs.SetLimit(max(used, 1))
}

// mount is a file system of a server as it is mounted somewhere.
type mount struct {
	*vfs.Mem
	source, kind, options string
	total                 int64
}

// MountInfo is what /proc/mounts says of it.
func (m *mount) MountInfo() (source, kind, options string) {
	if m.options == "" {
		return m.source, m.kind, "rw,relatime"
	}
	return m.source, m.kind, m.options
}

// Usage is what df says of it.
func (m *mount) Usage() (used, limit int64) {
	used, limit = m.Mem.Usage()
	if limit < m.total { // no room is left
		return m.total, m.total
	}
	return used, m.total
}

// retry is how often a blocked access looks whether it may go on, in model time.
const retry = 500 * time.Millisecond
