package ceph

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/disk"
	"github.com/pxrun/pxrun/lab/machine"
)

// Model is all Ceph of a lab. It is safe for concurrent use.
type Model struct {
	world *cluster.World

	// mu guards all state of the clusters. The file systems of machines are never touched while it is held.
	mu       sync.Mutex
	nodes    map[string]*Node
	clusters map[string]*Cluster // by fsid
}

// Node is a Proxmox node that can be part of a Ceph cluster.
type Node struct {
	model *Model
	pve   *cluster.Node
	m     *machine.Machine
	disks *disk.Disks
	name  string

	// deaf: no client on the node gets through to a monitor. Guarded by Model.mu.
	deaf     bool
	diskLock chan struct{} // one change of the disks at a time, as Proxmox's lock allows
}

// New returns a model without nodes.
func New(world *cluster.World) *Model {
	m := &Model{world: world, nodes: map[string]*Node{}, clusters: map[string]*Cluster{}}
	world.OnNetworkChange(m.networkChanged)
	return m
}

// Attach lets a node take part: the programs that every Proxmox node has, the packages on offer, the paths of pvesh.
func (m *Model) Attach(node *cluster.Node, disks *disk.Disks) error {
	n := &Node{model: m, pve: node, m: node.Machine(), disks: disks, name: node.Name(), diskLock: make(chan struct{}, 1)}
	m.mu.Lock()
	m.nodes[n.name] = n
	m.mu.Unlock()
	n.m.OnPower(func(up bool) {
		if !up {
			n.powerLost()
		}
	})
	n.m.Register("/usr/bin/pveceph", n.pveceph)
	n.addPaths()
	disks.AddPaths(node.API(), node.Tasks(), n.name)
	return n.offer()
}

// now is the model's time.
func (m *Model) now() time.Duration { return m.world.Clock().Elapsed() }

// networkChanged lets the daemons notice that addresses reach each other or not any more.
func (m *Model) networkChanged() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.clusters {
		c.settle()
	}
}

// powerLost ends all daemons of a machine at once.
func (n *Node) powerLost() {
	m := n.model
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.clusters {
		c.advance(m.now())
		for _, d := range c.daemons() {
			if d.node == n && d.on {
				d.on, d.clean = false, false
			}
		}
		c.observe(m.now())
	}
}

// address is the node's first address in one of the networks ("10.0.0.0/24,…"), invalid if there is none. Without a
// network it is what the node's name resolves to.
func (n *Node) address(networks string) netip.Addr {
	list := n.addresses(networks)
	if len(list) == 0 {
		return netip.Addr{}
	}
	return list[0]
}

func (n *Node) addresses(networks string) []netip.Addr {
	if networks == "" {
		return []netip.Addr{n.pve.Address()}
	}
	var out []netip.Addr
	for text := range strings.SplitSeq(networks, ",") {
		network, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			continue
		}
		for _, a := range n.m.Addresses() {
			if network.Contains(a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// reaches reports whether packets pass between two addresses.
func (m *Model) reaches(from, to netip.Addr) bool {
	return from == to || from.IsValid() && to.IsValid() && m.world.Path(from, to).Reachable
}

// reachesFrom reports whether a node reaches an address from any of its own.
func (n *Node) reachesFrom(to netip.Addr) bool {
	if n.m.Owns(to) {
		return n.m.Up()
	}
	for _, a := range n.m.Addresses() {
		if sameNetwork(a, to) && n.model.reaches(a, to) {
			return true
		}
	}
	return n.model.reaches(n.pve.Address(), to)
}

// sameNetwork compares the first 24 bits (64 of IPv6), as networks are in the lab.
func sameNetwork(a, b netip.Addr) bool {
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	return err == nil && p.Contains(b)
}
