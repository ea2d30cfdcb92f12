package lab

import (
	"net/netip"
	"sync"
	"time"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/machine"
)

// network joins the machines of a lab. It implements machine.Network.
type network struct {
	clock clock.Clock
	base  machine.Path

	mu sync.Mutex
	// hosts holds each host under its name and its addresses.
	hosts map[string]*host
	// parts holds the island of each host by name while the network is partitioned; hosts of different islands do not
	// reach each other.
	parts map[string]int
	// mute holds hosts whose corosync packets are dropped while everything else passes.
	mute map[string]bool
	// rtt and mtu override a host's or an address's paths.
	rtt map[string]time.Duration
	mtu map[string]int
}

func newNetwork(c clock.Clock, base machine.Path) *network {
	return &network{
		clock: c, base: base, hosts: map[string]*host{}, parts: map[string]int{}, mute: map[string]bool{}, rtt: map[string]time.Duration{}, mtu: map[string]int{},
	}
}

// Clock is the lab's time.
func (n *network) Clock() clock.Clock { return n.clock }

// Find returns the machine that owns an address or is called name.
func (n *network) Find(addressOrName string) *machine.Machine {
	if h := n.host(addressOrName); h != nil {
		return h.machine
	}
	return nil
}

func (n *network) host(addressOrName string) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[addressOrName]
}

// Path says what happens to packets between two addresses.
func (n *network) Path(from, to netip.Addr) machine.Path {
	return n.between(from, to, false)
}

// knet is Path for the packets of corosync.
func (n *network) knet(from, to netip.Addr) machine.Path {
	return n.between(from, to, true)
}

func (n *network) between(from, to netip.Addr, knet bool) machine.Path {
	target := n.host(to.String())
	p := n.base
	if to.IsLoopback() || target != nil && (from.IsLoopback() || target.machine.Owns(from)) {
		p.Reachable, p.RTT, p.MTU = true, 40*time.Microsecond, 65536
		return p
	}
	source := n.host(from.String())
	if source == nil || target == nil || !source.machine.Up() || !target.machine.Up() || !source.machine.Owns(from) || !target.machine.Owns(to) {
		p.Reachable = false
		return p
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	p.Reachable = n.parts[source.spec.Name] == n.parts[target.spec.Name]
	if knet && (n.mute[source.spec.Name] || n.mute[target.spec.Name]) {
		p.Reachable = false
	}
	for _, end := range []struct {
		h    *host
		addr string
	}{{source, from.String()}, {target, to.String()}} {
		p.MTU = min(p.MTU, end.h.mtuOf(end.addr))
		for _, key := range []string{end.h.spec.Name, end.addr} {
			if rtt, ok := n.rtt[key]; ok {
				p.RTT = max(p.RTT, rtt)
			}
			if mtu, ok := n.mtu[key]; ok {
				p.MTU = min(p.MTU, mtu)
			}
		}
		p.RTT = max(p.RTT, end.h.spec.RTT)
	}
	return p
}

// change edits the network's state under its lock.
func (n *network) change(edit func(*network)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	edit(n)
}
