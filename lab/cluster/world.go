package cluster

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// Timing is how long the steps of the model take, in model time. The defaults follow recorded runs.
type Timing struct {
	// FormRing passes between two corosyncs becoming reachable for each other and their common membership.
	FormRing time.Duration
	// Leave passes between an orderly stop of corosync and the others' new membership. Abrupt losses take the token
	// timeout and the consensus on top.
	Leave time.Duration
	// AttachRetry is how often pmxcfs tries to reach corosync.
	AttachRetry time.Duration
	// ConfWrite passes until a changed cluster config stands in a member's local file, ConfReload until corosync has it.
	ConfWrite, ConfReload time.Duration
	// DeviceConnect passes until a started qdevice daemon has its vote.
	DeviceConnect time.Duration
	// LockExpiry is the age at which a lock directory of pmxcfs may be taken away.
	LockExpiry time.Duration
}

// DefaultTiming follows the records.
func DefaultTiming() Timing {
	return Timing{
		FormRing: 1900 * time.Millisecond, Leave: 200 * time.Millisecond, AttachRetry: 5 * time.Second,
		ConfWrite: 300 * time.Millisecond, ConfReload: time.Second, DeviceConnect: 2 * time.Second,
		LockExpiry: 120 * time.Second,
	}
}

// Options say what a World is built on.
type Options struct {
	Clock clock.Clock
	// Now is the time of day without any machine's skew.
	Now func() time.Time
	// Path says what the network does between two addresses.
	Path func(from, to netip.Addr) machine.Path
	// Knet is Path for corosync's packets; nil means that they fare like all others.
	Knet func(from, to netip.Addr) machine.Path
	// Find returns the machine of an address or name.
	Find   func(addressOrName string) *machine.Machine
	Timing Timing
	// Interrupt is asked by long programs when they reach a phase ("join:copied-key", …): the place where a fault cuts in.
	// An error makes the program fail with that text; it may block until ctx ends. nil never interferes.
	Interrupt func(ctx context.Context, node, phase string) error
}

// World is the model of all nodes. It is safe for concurrent use.
type World struct {
	clock     clock.Clock
	now       func() time.Time
	path      func(from, to netip.Addr) machine.Path
	knet      func(from, to netip.Addr) machine.Path
	find      func(addressOrName string) *machine.Machine
	timing    Timing
	interrupt func(ctx context.Context, node, phase string) error
	keys      machine.RSAKeys

	// mu guards everything below and all state of the nodes. Machines' file systems are never touched while it is
	// held: they call back into pmxcfs.
	mu       sync.Mutex
	nodes    map[string]*Node
	byName   []*Node // the same, in order; replaced when a node is added
	arbiters map[string]*Arbiter
	dbSeq    uint64
	shelves  map[string]*database // databases at rest, by the mark in config.db
	devices  map[string]deviceVote
	watchers []func()
}

// deviceVote remembers who had an arbiter's vote last, per cluster.
type deviceVote struct{ nodes []int }

// NewWorld returns a world without nodes.
func NewWorld(o Options) *World {
	if o.Interrupt == nil {
		o.Interrupt = func(context.Context, string, string) error { return nil }
	}
	if o.Timing == (Timing{}) {
		o.Timing = DefaultTiming()
	}
	if o.Knet == nil {
		o.Knet = o.Path
	}
	return &World{
		clock: o.Clock, now: o.Now, path: o.Path, knet: o.Knet, find: o.Find, timing: o.Timing, interrupt: o.Interrupt,
		nodes: map[string]*Node{}, arbiters: map[string]*Arbiter{}, shelves: map[string]*database{},
		devices: map[string]deviceVote{},
	}
}

// Node is one Proxmox host of the world.
type Node struct {
	w    *World
	m    *machine.Machine
	name string
	// ip is the address that the host's name resolves to, links its own addresses for corosync.
	ip      netip.Addr
	release Release
	cpus    int
	memory  int64 // bytes
	domain  string
	api     pvetool.API
	tasks   *pvetool.Tasks

	// Guarded by World.mu.
	coro        corosync
	coroSession int // counts starts and stops
	pmx         pmxcfs
	qdev        qdevice
	rrd         []func() string
}

// Name is the host name.
func (n *Node) Name() string { return n.name }

// Machine is the host it lives on.
func (n *Node) Machine() *machine.Machine { return n.m }

// Node returns a node by name, or nil.
func (w *World) Node(name string) *Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[name]
}

// ordered lists the nodes by name. The list must not be changed. The caller holds the lock.
func (w *World) ordered() []*Node { return w.byName }

// add enters a node. The caller holds the lock.
func (w *World) add(n *Node) {
	w.nodes[n.name] = n
	at, _ := slices.BinarySearchFunc(w.byName, n.name, func(o *Node, name string) int { return strings.Compare(o.name, name) })
	w.byName = slices.Insert(slices.Clone(w.byName), at, n)
}

// NetworkChanged tells the model that reachability between addresses has changed: corosync will notice in its time.
func (w *World) NetworkChanged() {
	w.mu.Lock()
	w.settle(false)
	w.lookForArbiters()
	watchers := w.watchers
	w.mu.Unlock()
	for _, f := range watchers {
		f()
	}
}

// View is a snapshot of one node for tests and status displays.
type View struct {
	Name                    string
	PVE                     string
	Mounted, Writable       bool
	CorosyncRunning         bool
	Cluster                 string
	ConfigVersion           int
	NodeID                  int
	Members                 []string
	Ring                    string
	Expected, Total, Quorum int
	Quorate                 bool
	Guests                  []string
}

// View returns what a node knows now.
func (n *Node) View() View {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	v := View{
		Name: n.name, PVE: n.release.Version, Mounted: n.pmx.running, Writable: n.writable(),
		CorosyncRunning: n.coro.running,
	}
	if conf := n.clusterConf(); conf != nil {
		v.Cluster, v.ConfigVersion = conf.ClusterName(), conf.Version()
	}
	if n.coro.running {
		t := n.tally()
		v.NodeID, v.Ring = n.coro.id, n.coro.ring.String()
		v.Expected, v.Total, v.Quorum, v.Quorate = t.expected, t.total, t.quorum, t.quorate
		for _, id := range n.coro.members {
			if m := n.w.member(n, id); m != nil {
				v.Members = append(v.Members, m.name)
			}
		}
	}
	if n.pmx.running {
		v.Guests = n.pmx.db.guestNames()
	}
	return v
}

// HolderOf is the node that has a guest's config, as this node sees the cluster.
func (n *Node) HolderOf(id int) (node string, ok bool) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if !n.pmx.running {
		return "", false
	}
	return n.pmx.db.holderOf(id)
}

// clusterConf is the cluster's config as the node's pmxcfs has it, or nil. The caller holds the lock.
func (n *Node) clusterConf() *Conf {
	if n.pmx.db == nil {
		return nil
	}
	return n.pmx.db.conf()
}
