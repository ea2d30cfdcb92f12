package cluster

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// connected reports whether two running corosyncs hear each other on at least one link, and trust each other.
func (w *World) connected(a, b *Node) bool {
	if !a.coro.running || !b.coro.running || a.coro.key != b.coro.key || a.coro.conf.ClusterName() != b.coro.conf.ClusterName() {
		return false
	}
	from, okA := b.coro.conf.NodeByID(a.coro.id)
	to, okB := a.coro.conf.NodeByID(b.coro.id)
	if !okA || !okB {
		return false
	}
	for link := range from.Rings {
		if w.linkUp(from, to, link) {
			return true
		}
	}
	return false
}

// linkUp reports whether one link between two entries of a config works: both addresses exist, packets get through in
// time, and they are not lost more often than knet bears.
func (w *World) linkUp(a, b ConfNode, link int) bool {
	from, err1 := netip.ParseAddr(w.resolve(a.Rings[link]))
	to, err2 := netip.ParseAddr(w.resolve(b.Rings[link]))
	if err1 != nil || err2 != nil {
		return false
	}
	there, back := w.knet(from, to), w.knet(to, from)
	// knet's ping timeout is below a second; its smallest packets need 576 bytes less headers.
	const pongTimeout, smallest = 800 * time.Millisecond, 576
	for _, p := range []struct {
		ok   bool
		rtt  time.Duration
		mtu  int
		loss float64
	}{{there.Reachable, there.RTT, there.MTU, there.Loss}, {back.Reachable, back.RTT, back.MTU, back.Loss}} {
		if !p.ok || p.rtt > pongTimeout || (p.mtu > 0 && p.mtu < smallest) || p.loss > 0.5 {
			return false
		}
	}
	return true
}

// resolve turns a host name of a config into an address.
func (w *World) resolve(addr string) string {
	for _, n := range w.nodes {
		if n.name == addr {
			return n.ip.String()
		}
	}
	return addr
}

// member finds the node that another one sees under an id. The caller holds the lock.
func (w *World) member(n *Node, id int) *Node {
	entry, ok := n.coro.conf.NodeByID(id)
	if !ok {
		return nil
	}
	return w.nodes[entry.Name]
}

// components groups the running corosyncs by who hears whom, each sorted by node id.
func (w *World) components() [][]*Node {
	var out [][]*Node
	seen := map[*Node]bool{}
	for _, n := range w.ordered() {
		if seen[n] || !n.coro.running {
			continue
		}
		seen[n] = true
		group := []*Node{n}
		for i := 0; i < len(group) && len(seen) < len(w.ordered()); i++ {
			for _, other := range w.ordered() {
				if !seen[other] && w.connected(group[i], other) {
					seen[other] = true
					group = append(group, other)
				}
			}
		}
		slices.SortFunc(group, func(a, b *Node) int { return a.coro.id - b.coro.id })
		out = append(out, group)
	}
	return out
}

func ids(group []*Node) []int {
	out := make([]int, len(group))
	for i, n := range group {
		out[i] = n.coro.id
	}
	return out
}

// settle compares what the nodes believe with what is, and schedules the new memberships after the time that corosync
// needs to notice. orderly says that somebody left with a goodbye. The caller holds the lock.
func (w *World) settle(orderly bool) {
	now := w.clock.Elapsed()
	for _, group := range w.components() {
		want := ids(group)
		for _, n := range group {
			c := &n.coro
			switch {
			case slices.Equal(c.members, want):
				c.target = nil
			case !slices.Equal(c.target, want):
				delay := w.timing.FormRing
				if lost(c.members, want) {
					delay = lossDelay(c.conf.Token())
					if orderly {
						delay = w.timing.Leave
					}
				}
				c.target, c.due = want, now+delay
				w.clock.AfterFunc(delay, w.reform)
			}
		}
	}
}

// lossDelay is what corosync needs to declare a silent node gone: the token and most of the consensus.
func lossDelay(tokenMilliseconds int) time.Duration {
	return time.Duration(tokenMilliseconds) * time.Millisecond * 5 / 4
}

func lost(before, after []int) bool {
	for _, id := range before {
		if !slices.Contains(after, id) {
			return true
		}
	}
	return false
}

// reform gives every group of nodes that hear each other its membership as soon as one of them is due: the others
// follow it, as they do when corosync gathers.
func (w *World) reform() {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Timers of a fast clock fire a little before their time.
	const early = 50 * time.Millisecond
	now := w.clock.Elapsed() + early
	// Each node has asked for this, and the first to come has done it for all of its group.
	if !slices.ContainsFunc(w.ordered(), func(n *Node) bool { return n.coro.running && n.coro.target != nil && now >= n.coro.due }) {
		return
	}
	var changed []*Node
	for _, group := range w.components() {
		want := ids(group)
		ready, seq := false, 0
		for _, n := range group {
			seq = max(seq, n.coro.seq)
			if !slices.Equal(n.coro.members, want) && slices.Equal(n.coro.target, want) && now >= n.coro.due {
				ready = true
			}
		}
		if ready {
			w.formRing(group, want, seq+4)
			changed = append(changed, group...)
		}
	}
	if len(changed) > 0 {
		w.afterMembership(changed)
	}
}

func (w *World) formRing(group []*Node, want []int, seq int) {
	expected := 0
	for _, n := range group {
		expected = max(expected, n.coro.expected)
	}
	flags := map[int]voterFlags{}
	for _, n := range group {
		flags[n.coro.id] = n.coro.flags[n.coro.id]
	}
	for _, n := range group {
		c := &n.coro
		for _, id := range want {
			if !slices.Contains(c.members, id) {
				c.joins[id]++
				delete(c.left, id)
			}
		}
		for _, id := range c.members {
			if !slices.Contains(want, id) {
				c.left[id] = true
				c.downs[id]++
			}
		}
		c.members, c.seq, c.expected, c.target = slices.Clone(want), seq, expected, nil
		c.ring = ring{rep: want[0], seq: seq}
		c.flags = maps.Clone(flags)
		n.logRing()
	}
}

// logRing writes what corosync writes when a membership was formed. The caller holds the lock.
func (n *Node) logRing() {
	c := &n.coro
	members := strings.Trim(fmt.Sprint(c.members), "[]")
	n.log("corosync", fmt.Sprintf("  [TOTEM ] A new membership (%s) was formed. Members: %s", c.ring, members))
	if n.tally().quorate {
		n.log("corosync", "  [QUORUM] This node is within the primary component and will provide service.")
	} else {
		n.log("corosync", "  [QUORUM] This node is within the non-primary component and will NOT provide any services.")
	}
	n.log("corosync", fmt.Sprintf("  [QUORUM] Members[%d]: %s", len(c.members), members))
	n.log("corosync", "  [MAIN  ] Completed service synchronization, ready to provide service.")
}

// afterMembership lets votes, device and pmxcfs follow a change. The caller holds the lock.
func (w *World) afterMembership(changed []*Node) {
	w.castDeviceVotes()
	for _, n := range changed {
		n.pmx.clinfo++
	}
	w.synchronise()
}
