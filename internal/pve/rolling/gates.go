package rolling

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/pve/guest"
)

// without are the names of nodes that do not vote while a set is out: the set itself, those that are away, and those whose
// state is not known.
func (m *sim) without(set []int) []string {
	names := slices.Concat(m.away, m.foreign, m.s.Failed)
	for _, at := range set {
		names = append(names, m.places[at].name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// others are nodes that are out without the run's doing: offline, or in maintenance and not to be released by the run.
func (m *sim) others() (names []string) {
	for i := range m.places {
		p := &m.places[i]
		if slices.Contains(m.s.Failed, p.name) || slices.Contains(m.s.Away, p.name) {
			continue
		}
		if !m.x.Online(p.name) || p.maintained && p.back {
			names = append(names, p.name)
		}
	}
	return names
}

// lacksNumber is what is wrong with taking one node more away; nil if nothing is. With a limit for each site, nodes that have failed
// in this run hold their place too.
func (m *sim) lacksNumber(one *Node) *Block {
	failed := slices.DeleteFunc(slices.Clone(m.s.Failed), func(name string) bool {
		at, ok := m.at[name]
		return !m.s.Max.PerSite || !ok || m.places[at].node == nil || m.places[at].node.Site != one.Site
	})
	if len(m.counted)+len(failed) == 0 || !m.crowded(nil, one) {
		return nil
	}
	var saw []string
	is := func(names []string, what string) {
		switch len(names) {
		case 0:
		case 1:
			saw = append(saw, names[0]+" is "+what)
		default:
			saw = append(saw, strings.Join(names, ", ")+" are "+what)
		}
	}
	is(m.counted, "out already (offline or in maintenance), and not by this run")
	is(failed, "out already, having failed in this run")
	return &Block{
		Gate: AwayGate, Saw: strings.Join(saw, "; "), Want: "no more than " + fmt.Sprint(m.limit(one)) + " out at once",
		Look: "pvecm nodes; ha-manager status", Override: "bring it back, end its maintenance, name it in tolerate, or raise max_unavailable",
	}
}

// unready is why a node itself cannot go through with it; nil if it can.
func (m *sim) unready(p *place) *Block {
	if p.unfit == "" || p.maintained && p.unfit == p.name+inMaintenance {
		return nil
	}
	return &Block{Gate: UnknownGate, Saw: p.unfit, Want: "a node that is there and answers", Look: "pvecm nodes; ssh " + p.name, Override: "leave it out"}
}

// votes counts the votes while a set is out.
func (m *sim) votes(set []int) Votes {
	rest := m.s.Ballot.Without(m.without(set)...)
	v := Votes{Left: rest.Total(), Needed: rest.Quorum()}
	if rest.DeviceOnline && v.Left > 0 {
		v.Device = rest.Device
	}
	return v
}

// lacksVotes is what is wrong with the votes while a set is out; nil if nothing is.
func (m *sim) lacksVotes(set []int) *Block {
	v := m.votes(set)
	if members := m.s.Site.Members; members != nil && members.Cluster == nil {
		return nil // a node of its own needs nobody's votes
	}
	if len(m.s.Ballot.Nodes) == 0 {
		return &Block{Gate: VotesGate, Saw: "who votes is not known", Want: "the votes of corosync", Look: "pvecm status"}
	}
	if v.Left >= v.Needed {
		return nil
	}
	device := ""
	if m.s.Ballot.Device > 0 && !m.s.Ballot.DeviceOnline {
		device = "; the QDevice does not vote"
	}
	return &Block{
		Gate: VotesGate, ShortVotes: v.Needed - v.Left,
		Saw:  fmt.Sprintf("without %s %d of %d votes would be left, %d short%s", strings.Join(m.without(set), ", "), v.Left, m.s.Ballot.Expected(), v.Needed-v.Left, device),
		Want: fmt.Sprintf("%d votes", v.Needed), Look: "pvecm status", Override: "bring back what is offline, or set up a QDevice",
	}
}

// cephAtLarge is what is wrong with Ceph whichever node goes.
func (m *sim) cephAtLarge() []Block {
	c := m.s.Ceph
	if c == nil {
		return nil
	}
	var blocks []Block
	add := func(saw, want, look, override string) {
		blocks = append(blocks, Block{Gate: CephGate, Saw: saw, Want: want, Look: look, Override: override})
	}
	if c.Unknown != "" {
		add("the state of Ceph is not known: "+c.Unknown, "an answer of its monitors", "ceph -s", "")
		return blocks
	}
	if c.Dirty != "" {
		add(c.Dirty, "all placement groups active and clean", "ceph -s", "wait until they are")
	}
	for _, complaint := range c.Complaints {
		name, _, _ := strings.Cut(complaint, ":")
		add("Ceph complains: "+complaint, "no complaint that is not accepted", "ceph health detail", fmt.Sprintf("mend it, or ceph_accept = [%q]", name))
	}
	out := slices.Concat(m.s.Away, m.s.Failed) // that their daemons are down is no news; whether Ceph bears one node more it says itself
	down := slices.DeleteFunc(slices.Clone(c.Down), func(id int) bool {
		return slices.ContainsFunc(out, func(name string) bool { return slices.Contains(c.OSDs[name], id) })
	})
	if len(down) > 0 {
		add(fmt.Sprintf("OSDs %s are down or out", strings.Trim(fmt.Sprint(down), "[]")), "all OSDs up and in", "ceph osd tree", "bring them back")
	}
	var silent []string
	for _, mon := range c.Monitors {
		if !slices.Contains(c.Quorum, mon) && !slices.Contains(out, mon) {
			silent = append(silent, mon)
		}
	}
	if len(silent) > 0 {
		add("the monitors of "+strings.Join(silent, ", ")+" are not in the quorum", "all monitors in the quorum", "ceph quorum_status", "bring them back")
	}
	return blocks
}

// lacksCeph is what Ceph says of a set that is out: a sentence for people, and what is wrong; nil if nothing is.
func (m *sim) lacksCeph(set []int) (said string, wrong *Block) {
	c := m.s.Ceph
	if c == nil || c.Unknown != "" {
		return "", nil
	}
	var parts []string
	left := len(c.Quorum)
	for _, name := range m.without(set) {
		mon := slices.Contains(c.Monitors, name)
		if mon && slices.Contains(c.Quorum, name) {
			left--
		}
		if mon || len(c.OSDs[name]) > 0 {
			parts = append(parts, name)
		}
	}
	if len(parts) == 0 {
		return "no part of Ceph", nil
	}
	names := strings.Join(parts, ", ")
	block := func(saw, want, look string) *Block {
		return &Block{Gate: CephGate, Saw: saw, Want: want, Look: look, Override: "wait, or mend Ceph first"}
	}
	if needed := len(c.Monitors)/2 + 1; left < needed && len(c.Monitors) > 0 {
		return "", block(fmt.Sprintf("without %s %d of %d monitors would be left, %d short", names, left, len(c.Monitors), needed-left), fmt.Sprintf("%d monitors", needed), "ceph quorum_status")
	}
	said = fmt.Sprintf("%d of %d monitors left", left, len(c.Monitors))
	no := "it was not asked whether they may stop together, which counts as no"
	if len(parts) == 1 {
		no = "it was not asked whether it may stop, which counts as no"
	}
	for _, a := range c.Stop {
		if missing(parts, a.Nodes) {
			continue
		}
		if a.OK {
			return said + ", may stop", nil
		}
		no = a.Said
	}
	look := "ceph osd ok-to-stop " + m.osdsOf(parts)
	return "", block("Ceph does not let "+names+" go: "+no, "ok to stop", look)
}

func (m *sim) osdsOf(nodes []string) string {
	var ids []string
	for _, name := range nodes {
		for _, id := range m.s.Ceph.OSDs[name] {
			ids = append(ids, fmt.Sprint(id))
		}
	}
	return strings.Join(ids, " ")
}

// missing reports whether one of some names is not in a list.
func missing(names, list []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(list, n) })
}

// headroom is the memory left on all nodes that are there, and the least of it.
func (m *sim) headroom() (all []Headroom, least Headroom) {
	all = make([]Headroom, 0, len(m.places))
	for i := range m.places {
		p := &m.places[i]
		if p.out || p.capacity == 0 {
			continue
		}
		h := Headroom{Node: p.name, Bytes: p.free}
		if len(all) == 0 || h.Bytes < least.Bytes {
			least = h
		}
		all = append(all, h)
	}
	return all, least
}

// own is what is wrong with taking the node away on which pxrun runs itself.
func (m *sim) own(at int, plans []Plan) *Block {
	p := &m.places[at]
	if p.name == m.s.Own.Node && p.node.Work.Reboot != No && !m.s.Own.Allow {
		return &Block{
			Gate: OwnGate, Saw: "pxrun itself runs on this node, and would end when it restarts", Want: "pxrun on another machine", Look: "hostname",
			Override: "run it from elsewhere, or leave this node out",
		}
	}
	for _, g := range plans {
		if g.ID == m.s.Own.Guest && g.ID != 0 && (g.Fate == StopsIt || g.Fate == Stays && g.Policy == Leave || g.Way == guest.Restart) {
			return &Block{
				Gate: OwnGate, Guest: g.Guest, Saw: "pxrun itself runs in this guest, which would stop", Want: "a guest that moves while it runs",
				Look: fmt.Sprintf("%s config %d", g.Kind.Tool(), g.ID), Override: "run it from elsewhere",
			}
		}
	}
	return nil
}
