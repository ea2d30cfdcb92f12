package cluster

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// corosync is the state of one node's corosync. It is guarded by the world's lock.
type corosync struct {
	running bool
	conf    *Conf  // as loaded at start or reload, not what the file says now
	key     string // the authkey it was started with
	id      int

	members  []int // of the current membership, sorted
	ring     ring
	seq      int // the last ring sequence number seen; survives restarts
	expected int
	joins    map[int]int        // how often a node was seen to join
	left     map[int]bool       // nodes that have been members and are gone
	downs    map[int]int        // per peer: how often its link went down
	flags    map[int]voterFlags // of the members, as they told each other

	target []int         // the membership that is to come, and when
	due    time.Duration // on the lab's clock
}

// ring identifies a membership: the lowest member and a number that grows by four with each change.
type ring struct{ rep, seq int }

func (r ring) String() string { return fmt.Sprintf("%x.%x", r.rep, r.seq) }

// errNotInList is corosync's refusal to start on a host that its config does not name.
var errNotInList = errors.New("corosync: the local node is not in the node list")

// idIn finds the node's id in a config, by its name or by one of its addresses; 0 means that it is not named.
func (n *Node) idIn(conf *Conf) int {
	local := n.localAddrs()
	for _, entry := range conf.Nodes() {
		if entry.Name == n.name || owns(local, entry.Rings) {
			return entry.ID
		}
	}
	return 0
}

// startCorosync starts corosync, unless it was stopped again since session. Alone at first, it finds the others later.
func (n *Node) startCorosync(session int, conf *Conf, key string) error {
	id := n.idIn(conf)
	if id == 0 {
		return errNotInList
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if n.coroSession != session || n.coro.running {
		return nil
	}
	c := &n.coro
	*c = corosync{
		running: true, conf: conf, key: key, id: id, seq: c.seq, expected: conf.Expected(),
		joins: map[int]int{id: 1}, left: map[int]bool{}, flags: map[int]voterFlags{}, downs: map[int]int{},
	}
	// At its start corosync adds one, lest a restart within the token timeout went unnoticed, and then forms its own ring.
	c.seq += 1 + 4
	c.members, c.ring = []int{id}, ring{rep: id, seq: c.seq}
	n.logRing()
	n.w.afterMembership([]*Node{n})
	n.w.settle(false)
	n.w.lookForArbiters()
	return nil
}

func owns(local map[netip.Addr]bool, rings map[int]string) bool {
	for _, addr := range rings {
		if a, err := netip.ParseAddr(addr); err == nil && local[a] {
			return true
		}
	}
	return false
}

// stopCorosync ends corosync in order: the others notice soon.
func (n *Node) stopCorosync() { n.haltCorosync(true) }

func (n *Node) haltCorosync(orderly bool) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.coroSession++
	if !n.coro.running {
		return
	}
	n.coro.running = false
	n.coro.members = nil
	n.detach()
	n.w.settle(orderly)
}

// reloadCorosync makes a running corosync take over the local file.
func (n *Node) reloadCorosync(confText string) error {
	conf, err := ParseConf(confText)
	if err != nil {
		return err
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if !n.coro.running || conf.Version() == n.coro.conf.Version() && conf.String() == n.coro.conf.String() {
		return nil
	}
	n.coro.conf = conf
	n.coro.expected = conf.Expected()
	n.w.afterMembership([]*Node{n})
	n.w.settle(false)
	n.w.lookForArbiters()
	return nil
}

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
		for i := 0; i < len(group); i++ {
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

// tally counts the votes of the partition that a node is in. The caller holds the lock.
func (n *Node) tally() tally {
	var votes []int
	for _, id := range n.coro.members {
		entry, known := n.coro.conf.NodeByID(id)
		if !known {
			entry = n.w.entryOf(n, id)
		}
		votes = append(votes, entry.Votes)
	}
	return count(votes, n.deviceCast(), n.coro.expected)
}

// setExpected is what `corosync-quorumtool -e` does: it changes the whole partition.
func (n *Node) setExpected(votes int) error {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if !n.coro.running {
		return errNoCorosync
	}
	if !expectedAllowed(votes, n.tally().total) {
		return errors.New("Unable to set expected votes: CS_ERR_INVALID_PARAM") //nolint:revive,staticcheck // corosync's words
	}
	var group []*Node
	for _, id := range n.coro.members {
		if m := n.w.member(n, id); m != nil {
			m.coro.expected = votes
			group = append(group, m)
		}
	}
	n.w.afterMembership(group)
	return nil
}

var errNoCorosync = errors.New("Cannot initialize CMAP service") //nolint:revive,staticcheck // corosync's words

// killNode is `corosync-cfgtool -k`: the named member's corosync ends.
func (n *Node) killNode(id int) (*Node, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if !n.coro.running {
		return nil, errNoCorosync
	}
	if !slices.Contains(n.coro.members, id) {
		return nil, errors.New("Could not kill node (error = CS_ERR_NOT_EXIST)") //nolint:revive,staticcheck // corosync's words
	}
	victim := n.w.member(n, id)
	if victim == nil || !victim.coro.running {
		return nil, errors.New("Could not kill node (error = CS_ERR_NOT_EXIST)") //nolint:revive,staticcheck // corosync's words
	}
	victim.coroSession++
	victim.coro.running = false
	victim.coro.members = nil
	victim.detach()
	n.w.settle(true)
	return victim, nil
}

// ringAddr is a node's address on the first link of a config, as status displays show it.
func ringAddr(entry ConfNode) string {
	for link := range maxLinks {
		if addr, ok := entry.Rings[link]; ok {
			return addr
		}
	}
	return ""
}

func isAddr(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// trimLines joins an error's lines, as Proxmox does for the last line of a failed task.
func trimLines(s string) string { return strings.Join(strings.Fields(s), " ") }
