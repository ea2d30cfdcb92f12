package cluster

import (
	"errors"
	"fmt"
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
	if problems := conf.Verify(); n.coro.running && len(problems) > 0 {
		n.log("corosync", "  [CFG   ] Cannot configure new interface definitions: "+problems[0])
		return &invalidConfError{problems: problems}
	}
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

// tally counts the votes of the partition that a node is in. The caller holds the lock.
func (n *Node) tally() tally {
	votes := 0
	for _, id := range n.coro.members {
		entry, known := n.coro.conf.NodeByID(id)
		if !known {
			entry = n.w.entryOf(n, id)
		}
		votes += entry.Votes
	}
	return count([]int{votes}, n.deviceCast(), n.coro.expected)
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
