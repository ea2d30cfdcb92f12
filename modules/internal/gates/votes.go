package gates

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ha"
)

// conf is the newest corosync.conf that a node has; nil outside of a cluster.
func (f Facts) conf() *pve.CorosyncConf {
	var newest *pve.CorosyncConf
	for _, s := range f.States {
		for _, c := range []*pve.CorosyncConf{s.Conf, s.LocalConf} {
			if c != nil && (newest == nil || c.Version > newest.Version) {
				newest = c
			}
		}
	}
	return newest
}

// clustered reports whether there are other nodes to mind. A node that could not be read may have some.
func (f Facts) clustered() bool {
	if c := f.conf(); c != nil {
		return len(c.Nodes) > 1
	}
	return len(f.States) > 1
}

// nameOf is a node's name in the cluster.
func nameOf(s pve.NodeState) string {
	if s.Hostname == "" {
		return s.Host
	}
	return s.Hostname
}

// own is the node's name in the cluster.
func (f Facts) own() string { return f.nameIn(f.Node) }

func (f Facts) nameIn(host string) string {
	for _, s := range f.States {
		if s.Host == host {
			return nameOf(s)
		}
	}
	return host
}

func (f Facts) namesIn(hosts []string) []string {
	out := make([]string, len(hosts))
	for i, h := range hosts {
		out[i] = f.nameIn(h)
	}
	return out
}

// witnesses are the nodes that stay and whose word on the cluster counts: neither the node itself, nor one that is under way,
// nor one that is known to be down.
func (f Facts) witnesses(o Options) []pve.NodeState {
	down := f.down(o)
	return slices.DeleteFunc(slices.Clone(f.States), func(s pve.NodeState) bool {
		return s.Host == f.Node || slices.Contains(o.Away, s.Host) || slices.Contains(down, nameOf(s))
	})
}

// down are the other nodes that a quorate node sees offline.
func (f Facts) down(o Options) []string {
	conf := f.conf()
	if conf == nil {
		return nil
	}
	var out []string
	for _, name := range conf.Names() {
		offline := func(s pve.NodeState) bool {
			return s.Err == nil && s.Writable && s.Host != f.Node && !slices.Contains(o.Away, s.Host) && nameOf(s) != name && !s.Members.Online(name)
		}
		if name != f.own() && slices.ContainsFunc(f.States, offline) {
			out = append(out, name)
		}
	}
	return out
}

// disagreement says what keeps the nodes that stay from agreeing on a quorate cluster; "" if they do.
func (f Facts) disagreement(staying []pve.NodeState) string {
	var first *pve.NodeState
	for i, s := range staying {
		switch {
		case s.Err != nil:
			return s.Host + " does not answer: " + s.Err.Error()
		case s.Quorum == nil && s.Unread["quorum"] != "":
			return "corosync on " + s.Host + ": " + s.Unread["quorum"]
		case s.Quorum == nil:
			return "corosync does not answer on " + s.Host
		case !s.Quorum.Quorate || !s.Writable:
			return s.Host + " is not quorate"
		case first == nil:
			first = &staying[i]
		case s.Quorum.Total != first.Quorum.Total || s.Quorum.Expected != first.Quorum.Expected || !slices.Equal(ids(s), ids(*first)):
			return fmt.Sprintf("%s counts %d of %d votes from %d nodes, %s %d of %d from %d", first.Host, first.Quorum.Total, first.Quorum.Expected, len(first.Quorum.Members),
				s.Host, s.Quorum.Total, s.Quorum.Expected, len(s.Quorum.Members))
		}
	}
	if first == nil {
		return "no node that stays can be asked"
	}
	return ""
}

func ids(s pve.NodeState) []int {
	var out []int
	for _, m := range s.Quorum.Members {
		out = append(out, m.ID)
	}
	slices.Sort(out)
	return out
}

const quorumLook = "corosync-quorumtool -s, on every node"

// quorum counts the votes that are left when the node, and those that are under way, are gone. The QDevice counts only when it is
// alive and votes on every node that stays (reference §7.5).
func (f Facts) quorum(o Options) (Verdict, *module.Votes) {
	const want = "quorum without the node, and every node that stays agreeing on it"
	staying := f.witnesses(o)
	if why := f.disagreement(staying); why != "" {
		return closed(Quorum, why, want, quorumLook, "none: bring the cluster to one mind first"), nil
	}
	conf, q := f.conf(), staying[0].Quorum
	gone := map[int]bool{}
	for _, n := range conf.Nodes {
		gone[n.ID] = n.Name == f.own() || slices.Contains(f.namesIn(o.Away), n.Name)
	}
	left, mute := 0, ""
	for _, m := range q.Members {
		if !gone[m.ID] {
			left += m.Votes
		}
	}
	device := 0
	if q.Device != nil {
		if mute = f.mute(staying, gone); mute == "" {
			device = q.Device.Votes
		}
	}
	needed := q.Quorum
	if !slices.Contains(q.Flags, "2Node") {
		// Somebody may have lowered the expected votes; what counts is the cluster as it is configured.
		needed = max(needed, pve.BallotOf(conf, func(string) bool { return true }, true).Quorum())
	}
	votes := &module.Votes{Present: q.Total, Needed: needed, Expected: q.Expected}
	if q.Device != nil {
		votes.Device = q.Device.Votes
	}
	saw := fmt.Sprintf("%d of %d votes stay without %s, %d are needed", left+device, q.Expected, strings.Join(append([]string{f.Node}, o.Away...), ", "), needed)
	if mute != "" {
		saw += "; the QDevice is not counted: " + mute
	}
	if left+device >= needed {
		return open(Quorum, saw, want), votes
	}
	v := closed(Quorum, saw, want, quorumLook, "none: bring absent nodes back, or add a node or a QDevice")
	v.Lasting = mute == "" && len(f.down(o)) == 0
	return v, votes
}

// mute says why the QDevice's vote does not count; "" if it is cast with every node that stays.
func (f Facts) mute(staying []pve.NodeState, gone map[int]bool) string {
	for _, s := range staying {
		for _, m := range s.Quorum.Members {
			if !gone[m.ID] && !m.Casting() {
				return fmt.Sprintf("%s shows %s for %s", s.Host, strings.Join(m.QDevice, ","), m.Name)
			}
		}
		if s.Quorum.Device == nil || s.Quorum.Device.Votes == 0 {
			return s.Host + " shows no vote of it"
		}
	}
	return ""
}

// others looks for nodes that are down or in maintenance without this run's doing.
func (f Facts) others(o Options) Verdict {
	const want = "no other node down or in maintenance, but for those that this run has under way"
	const look = "cat /etc/pve/.members; ha-manager status"
	absent := map[string]string{}
	for _, name := range f.down(o) {
		absent[name] = "down"
	}
	for _, s := range f.States {
		name := nameOf(s)
		if s.Err != nil && s.Host != f.Node && absent[name] == "" {
			absent[name] = "not answering"
		}
		if run, since, yes := s.GoingDown(); yes && s.Host != f.Node {
			absent[name] = fmt.Sprintf("about to go down: run %s told it to restart %s ago", run, since.Round(time.Second))
		}
	}
	if f.HA == nil {
		return closed(Others, "no quorate node could tell which nodes are in maintenance", want, look, "")
	}
	if m := f.HA.Manager; m != nil {
		for name, status := range m.Nodes {
			if status == "maintenance" || slices.Contains(m.Maintenance, name) {
				absent[name] = "in maintenance"
			}
		}
	}
	if why := unread(f.HA, "manager"); why != "" {
		return closed(Others, why, want, look, "")
	}
	away, tolerated := f.namesIn(o.Away), f.namesIn(o.Tolerate)
	var found, borne, named []string
	for _, name := range slices.Sorted(maps.Keys(absent)) {
		switch {
		case name == f.own() || slices.Contains(away, name):
		case slices.Contains(tolerated, name):
			borne, named = append(borne, name+" is "+absent[name]), append(named, strconv.Quote(name))
		default:
			found = append(found, name+" is "+absent[name])
		}
	}
	if len(found) > 0 {
		return closed(Others, strings.Join(append(found, borne...), ", "), want, look, "bring it back, or name it in tolerate")
	}
	if len(borne) > 0 {
		return overridden(closed(Others, strings.Join(borne, ", "), want, look, ""), "tolerate = ["+strings.Join(named, ", ")+"]")
	}
	saw := "all other nodes are there"
	if len(away) > 0 {
		saw = "all other nodes but " + strings.Join(away, ", ") + " are there"
	}
	return open(Others, saw, want)
}

func unread(s *ha.State, name string) string {
	if why := s.Unread[name]; why != "" {
		return "the HA manager's " + name + " cannot be read: " + why
	}
	return ""
}

// links looks at corosync's links between the nodes that stay.
func (f Facts) links(o Options) Verdict {
	const want = "every corosync link between the nodes that stay connected"
	conf, staying := f.conf(), f.witnesses(o)
	peers := map[int]string{}
	for _, s := range staying {
		if n, ok := conf.Node(nameOf(s)); ok && s.Err == nil {
			peers[n.ID] = n.Name
		}
	}
	var bad []string
	for _, s := range staying {
		if s.Err != nil {
			continue // told by another gate
		}
		self, _ := conf.Node(nameOf(s))
		seen := map[int]bool{}
		for _, l := range s.Links {
			seen[l.NodeID] = true
			if name := peers[l.NodeID]; name != "" && !l.Connected && l.NodeID != self.ID {
				bad = append(bad, fmt.Sprintf("link %d from %s to %s is down", l.Link, s.Host, name))
			}
		}
		for id, name := range peers {
			if !seen[id] && id != self.ID {
				bad = append(bad, fmt.Sprintf("%s tells nothing of its links to %s", s.Host, name))
			}
		}
	}
	if len(bad) > 0 {
		slices.Sort(bad)
		return closed(Links, strings.Join(bad, ", "), want, "corosync-cfgtool -n", "check the network of that link")
	}
	return open(Links, "all are connected", want)
}

// managerAge is the age from which the HA master counts as dead: it writes every ten seconds.
const managerAge = time.Minute

// age is how old a timestamp is that a daemon on a node has written, by that node's own clock: by that of another, which is wrong, a dead
// daemon could look alive. Of a node that tells no time the most is taken that the others' clocks say.
func (f Facts) age(node string, written time.Time) time.Duration {
	if now, ok := f.Clocks[node]; ok {
		return now.Sub(written)
	}
	age := f.HA.Now.Sub(written)
	for _, now := range f.Clocks {
		age = max(age, now.Sub(written))
	}
	return age
}

// silence is what is wrong with the age of a daemon's timestamp; "" if it is no older than a limit, and not of the future.
func silence(age, limit time.Duration) string {
	switch {
	case age > limit:
		return "has not written for " + age.Round(time.Second).String()
	case age < -limit:
		return "has last written " + (-age).Round(time.Second).String() + " in the future of its node's clock, which was set back: whether it lives is not known"
	}
	return ""
}

// ha looks whether the HA manager is at work on something else.
func (f Facts) ha(o Options) Verdict {
	const want, look = "the HA manager at rest: no node being fenced, no guest in error or recovery", "ha-manager status"
	if f.HA == nil {
		return closed(HA, "no quorate node could tell", want, look, "")
	}
	var bad []string
	for _, name := range []string{"manager", "resources"} {
		if why := unread(f.HA, name); why != "" {
			bad = append(bad, why)
		}
	}
	m := f.HA.Manager
	switch {
	case m == nil && len(f.HA.Resources) > 0:
		bad = append(bad, "no HA master has written yet")
	case m == nil:
	default:
		if why := silence(f.age(m.Master, m.Time), managerAge); len(f.HA.Resources) > 0 && why != "" {
			bad = append(bad, "the HA master "+m.Master+" "+why)
		}
		bad = append(bad, f.deadAgents(o)...)
		if m.Disarmed != "" {
			bad = append(bad, "HA is disarmed ("+m.Disarmed+")")
		}
		for _, name := range slices.Sorted(maps.Keys(m.Nodes)) {
			if m.Nodes[name] == "fence" {
				bad = append(bad, name+" is being fenced")
			}
		}
		for _, sid := range slices.Sorted(maps.Keys(m.Services)) {
			if s := m.Services[sid]; s.State == "error" || s.State == "fence" || s.State == "recovery" {
				bad = append(bad, fmt.Sprintf("%s is in state %s on %s", sid, s.State, s.Node))
			}
		}
	}
	if len(bad) > 0 {
		return closed(HA, strings.Join(bad, ", "), want, look, "mend that first")
	}
	return open(HA, "it is at rest", want)
}

// deadAgents are the HA agents that have services on nodes that stay and do not write: their nodes are about to be fenced.
func (f Facts) deadAgents(o Options) []string {
	busy := map[string]bool{}
	for _, s := range f.HA.Manager.Services {
		busy[s.Node] = true
	}
	var out []string
	for _, s := range f.witnesses(o) {
		lrm, known := f.HA.LRMs[nameOf(s)]
		if name := nameOf(s); known && busy[name] && s.Err == nil {
			if why := silence(f.age(name, lrm.Time), managerAge); why != "" {
				out = append(out, "the HA agent of "+name+" "+why)
			}
		}
	}
	return out
}
