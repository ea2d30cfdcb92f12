package cluster

import (
	"context"
	"net/netip"
	"time"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// What the other models of the lab (HA, guests, Ceph, storage) build on.

// Clock is the world's time.
func (w *World) Clock() clock.Clock { return w.clock }

// Nodes lists the nodes by name.
func (w *World) Nodes() []*Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ordered()
}

// Path says what the network does between two addresses.
func (w *World) Path(from, to netip.Addr) machine.Path { return w.path(from, to) }

// Find returns the machine of an address or name, or nil.
func (w *World) Find(addressOrName string) *machine.Machine { return w.find(addressOrName) }

// OnNetworkChange adds a function that hears when reachability between addresses has changed. It is called with no lock held.
func (w *World) OnNetworkChange(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watchers = append(w.watchers, f)
}

// Phase lets faults cut into a long program and model time pass: see Options.Interrupt.
func (n *Node) Phase(ctx context.Context, name string, d time.Duration) error {
	return n.phase(ctx, name, d)
}

// World is the world that the node belongs to.
func (n *Node) World() *World { return n.w }

// Address is what the node's name resolves to.
func (n *Node) Address() netip.Addr { return n.ip }

// API is what pvesh offers on the node.
func (n *Node) API() *pvetool.API { return &n.api }

// Tasks runs workers on the node.
func (n *Node) Tasks() *pvetool.Tasks { return n.tasks }

// Mounted reports whether pmxcfs is mounted.
func (n *Node) Mounted() bool { return n.mounted() }

// Writable reports whether /etc/pve is mounted and takes changes: the node is quorate, or in no cluster.
func (n *Node) Writable() bool { return n.canWrite() }

// Online reports whether the node's pmxcfs sees another node, by name. A node always sees itself.
func (n *Node) Online(name string) bool {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if name == n.name {
		return true
	}
	conf := n.clusterConf()
	if conf == nil || !n.pmx.clusteredSince {
		return false
	}
	for _, entry := range conf.Nodes() {
		if entry.Name == name {
			return n.online(entry)
		}
	}
	return false
}

// Members are the names of the nodes in the node's corosync.conf; only its own on a standalone node.
func (n *Node) Members() []string {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	conf := n.clusterConf()
	if conf == nil || !n.pmx.clusteredSince {
		return []string{n.name}
	}
	var names []string
	for _, entry := range conf.Nodes() {
		names = append(names, entry.Name)
	}
	return names
}

// SameDatabase reports whether two nodes share one /etc/pve now.
func (n *Node) SameDatabase(other *Node) bool {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.pmx.running && other.pmx.running && n.pmx.db == other.pmx.db
}

// AddRRD adds lines to what the node's pvestatd tells the others (.rrd). lines is called with the world's lock held: it
// must not ask the world or any file system, and each line ends with a line break.
func (n *Node) AddRRD(lines func() string) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.rrd = append(n.rrd, lines)
}

// Log writes a line to the machine's journal.
func (n *Node) Log(ident, text string) { n.log(ident, text) }

// Stamp tells one state of a file in /etc/pve from any other: daemons that poll compare it in place of the counters in
// .version, and read a file only when it has changed. Stamps of one file on nodes that share a database are equal. The
// zero Stamp stands for a file that is not there, or a pmxcfs that is not mounted.
type Stamp struct {
	db      *database
	file    *inode
	version uint64
}

// Stamp returns the stamp of a file by its path below /etc/pve, such as "ha/resources.cfg".
func (n *Node) Stamp(path string) Stamp {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if !n.pmx.running {
		return Stamp{}
	}
	file := n.pmx.db.lookup(path)
	if file == nil {
		return Stamp{}
	}
	return Stamp{file: file, version: file.version}
}

// GuestStamp is the stamp of .vmlist.
func (n *Node) GuestStamp() Stamp {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if !n.pmx.running {
		return Stamp{}
	}
	return Stamp{db: n.pmx.db, version: uint64(n.pmx.db.guestSeq)} //nolint:gosec // counts up from 1
}
