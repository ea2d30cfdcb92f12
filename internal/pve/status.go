package pve

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	Critical Severity = "critical" // something does not work
	Warning  Severity = "warning"  // something should be mended soon
	Info     Severity = "info"     // worth knowing
)

// Finding is one thing that is not as it should be.
type Finding struct {
	Severity Severity `json:"severity"`
	Node     string   `json:"node,omitempty"`
	Check    string   `json:"check"`
	Saw      string   `json:"saw"`
	Look     string   `json:"look,omitempty"`   // the command that shows it
	Remedy   string   `json:"remedy,omitempty"` // what to do about it
	// Consequences are what follows from it and is no finding of its own any more: see Fold.
	Consequences []string `json:"consequences,omitempty"`

	// Cause is the name under which others follow from this finding, Follows that of the finding from which this one follows.
	Cause   string `json:"-"`
	Follows string `json:"-"`
	// Brief is what it says as a consequence; empty means Saw.
	Brief string `json:"-"`
}

// Report is the state of a cluster for people and for monitoring.
type Report struct {
	Cluster string       `json:"cluster"`
	Formed  bool         `json:"formed"` // the cluster exists
	Quorate bool         `json:"quorate"`
	Version int          `json:"config_version,omitempty"`
	Votes   VoteReport   `json:"votes"`
	Nodes   []NodeReport `json:"nodes"`
	Drift   Drift        `json:"drift"`
	// Lost are members that are out of the cluster now.
	Lost []Lost `json:"-"`
	// Findings are sorted by severity, worst first.
	Findings []Finding `json:"findings"`
}

// VoteReport is the arithmetic of the votes.
type VoteReport struct {
	Expected int `json:"expected"`
	Total    int `json:"total"`
	Quorum   int `json:"quorum"`
	// Bearable is how many more nodes may fail, whichever they are; -1 when quorum is lost.
	Bearable int `json:"bearable_failures"`
	// Device is the QDevice's host, "" without one.
	Device       string `json:"qdevice,omitempty"`
	DeviceVotes  int    `json:"qdevice_votes,omitempty"`
	DeviceOnline bool   `json:"qdevice_casting,omitempty"`
}

// NodeReport is one node.
type NodeReport struct {
	Name     string          `json:"name"`
	ID       int             `json:"id,omitempty"`
	Votes    int             `json:"votes"`
	Phase    JoinPhase       `json:"phase"`
	Online   bool            `json:"online"` // by the view of the others
	Quorate  bool            `json:"quorate"`
	PVE      string          `json:"pve,omitempty"`
	Kernel   string          `json:"kernel,omitempty"`
	Version  int             `json:"config_version,omitempty"`
	Services map[string]bool `json:"services,omitempty"` // whether each is running
	Links    []PeerLink      `json:"links,omitempty"`
	Guests   int             `json:"guests"`
	Error    string          `json:"error,omitempty"`
}

// Latencies of a link beyond which Status speaks up: corosync wants less than 5 ms, and 2 ms leave room for load.
const (
	WarnRTT = 2 * time.Millisecond
	FailRTT = 5 * time.Millisecond
)

// Status judges the states of a cluster's nodes, as ReadCluster gives them, against what is wanted.
func Status(states []NodeState, w Wanted) Report {
	r := Report{Cluster: w.Cluster, Votes: VoteReport{Bearable: -1}}
	members := MembersOf(states, w.Cluster)
	r.Formed = len(members) > 0
	witnesses := witnessesOf(members)
	for _, s := range states {
		r.Nodes = append(r.Nodes, nodeReport(w.Cluster, s, members, witnesses))
	}
	if !r.Formed {
		r.unformed(states)
		return r
	}
	conf := NewestConf(members)
	r.Version = conf.Version
	r.Drift = CompareMembership(w, conf)
	r.Lost = lostOf(states, members, witnesses, conf)
	r.votes(members, witnesses, conf)
	r.membership(states, members, witnesses, conf)
	r.versions(states, members)
	for i, s := range states {
		r.services(s, r.Nodes[i])
		r.links(s, conf)
		r.clock(s)
	}
	r.sort()
	return r
}

// witnessesOf are the members whose view of the others counts: those that are quorate, since a node that is cut off sees only itself and would make
// the others look ill. Without quorum it is all of them.
func witnessesOf(members []NodeState) []NodeState {
	var quorate []NodeState
	for _, m := range members {
		if m.Mounted && m.Writable {
			quorate = append(quorate, m)
		}
	}
	if len(quorate) == 0 {
		return members
	}
	return quorate
}

func nodeReport(cluster string, s NodeState, members, witnesses []NodeState) NodeReport {
	n := NodeReport{Name: s.Host, PVE: s.Version(), Kernel: s.Kernel, Links: s.Links}
	n.Phase = ClassifyJoin(cluster, s, witnesses).Phase
	if s.Err != nil {
		n.Error = s.Err.Error()
	}
	name := nameOf(s)
	if c, ok := NewestConf(members).Node(name); ok {
		n.ID, n.Votes = c.ID, c.Votes
	}
	alone := len(NewestConf(members).Names()) < 2
	n.Online = slices.ContainsFunc(witnesses, func(m NodeState) bool {
		// Without quorum every node that runs sees itself, which says nothing of the cluster.
		return m.Members.Online(name) && (m.Writable || m.Hostname != name || alone)
	})
	n.Quorate = s.Conf != nil && s.Writable
	if s.Conf != nil {
		n.Version = s.Conf.Version
	}
	for _, g := range s.Guests {
		if g.Node == name {
			n.Guests++
		}
	}
	for _, unit := range Services {
		// Corosync cannot run before there is a cluster.
		if u, known := s.Units[unit]; known && u.Installed() && (unit != "corosync" || n.Phase != PhaseFresh) {
			if n.Services == nil {
				n.Services = map[string]bool{}
			}
			n.Services[unit] = u.Running()
		}
	}
	return n
}

// nameOf is a node's name in its cluster, or that of the inventory where the node did not answer.
func nameOf(s NodeState) string {
	if s.Hostname == "" {
		return s.Host
	}
	return s.Hostname
}

func (r *Report) add(f Finding) { r.Findings = append(r.Findings, f) }

// unformed reports on nodes none of which is in the wanted cluster.
func (r *Report) unformed(states []NodeState) {
	r.add(Finding{
		Severity: Info, Check: "membership", Saw: fmt.Sprintf("cluster %q does not exist yet on any of the nodes that answered", r.Cluster),
		Look: "pvecm status", Remedy: "form it with cluster_create and node_join",
	})
	r.strays(states, nil)
	r.sort()
}

func (r *Report) votes(members, witnesses []NodeState, conf *CorosyncConf) {
	online := func(name string) bool {
		return slices.ContainsFunc(members, func(m NodeState) bool { return m.Writable && m.Members.Online(name) })
	}
	casting := slices.ContainsFunc(witnesses, func(m NodeState) bool {
		return m.Quorum != nil && m.Quorum.Device != nil && m.Quorum.Device.Votes > 0
	})
	b := BallotOf(conf, online, casting)
	r.Quorate = anyWritable(members)
	r.Votes = VoteReport{Expected: b.Expected(), Total: b.Total(), Quorum: b.Quorum(), Bearable: b.Bearable(), DeviceVotes: b.Device, DeviceOnline: b.DeviceOnline}
	if conf.Device != nil {
		r.Votes.Device = conf.Device.Host
	}
	switch {
	case !r.Quorate:
		r.add(Finding{
			Severity: Critical, Check: "quorum", Cause: CauseQuorum, Saw: "no node that answered is quorate: /etc/pve is read-only and nothing can be started or moved",
			Look: "pvecm status", Remedy: "bring absent nodes or their network back; never lower the expected votes while another part of the cluster may live",
		})
	case r.Votes.Bearable < 1:
		follows := ""
		if all := BallotOf(conf, func(string) bool { return true }, casting); len(r.Lost) > 0 && all.Bearable() > 0 {
			follows = r.Lost[0].cause()
		}
		r.add(Finding{
			Severity: Warning, Check: "quorum", Follows: follows, Saw: fmt.Sprintf("%d of %d votes are there and %d are needed: the next node that fails stops the cluster", b.Total(), b.Expected(), b.Quorum()),
			Look: "pvecm status", Remedy: "bring absent nodes back, or add a third node or a QDevice",
		})
	}
	if conf.Device != nil && !casting {
		r.add(Finding{
			Severity: Warning, Check: "qdevice", Saw: "the QDevice on " + conf.Device.Host + " casts no vote",
			Look: "corosync-qdevice-tool -s", Remedy: "check corosync-qnetd on the arbiter, TCP 5403 to it, and corosync-qdevice on every node",
		})
	}
	if conf.Device == nil && len(conf.Nodes)%2 == 0 {
		r.add(Finding{
			Severity: Info, Check: "qdevice", Saw: fmt.Sprintf("%d nodes and no QDevice: a split in two halves stops both", len(conf.Nodes)),
			Look: "pvecm status", Remedy: "add a QDevice or an odd node",
		})
	}
}

func (r *Report) membership(states, members, witnesses []NodeState, conf *CorosyncConf) {
	for _, l := range r.Lost {
		r.add(l.finding())
	}
	blind := map[string][]string{}
	for _, name := range conf.Names() {
		if CauseOf(r.Lost, name) != "" {
			continue
		}
		for _, m := range witnesses {
			if !m.Members.Online(name) {
				blind[m.Host] = append(blind[m.Host], name)
			}
		}
	}
	for _, m := range witnesses {
		if others := blind[m.Host]; len(others) > 0 {
			r.add(Finding{
				Severity: Critical, Node: m.Host, Check: "membership", Saw: m.Host + " does not see " + strings.Join(others, ", ") + " online",
				Look: "cat /etc/pve/.members", Remedy: "check the corosync links of both nodes", Follows: r.withoutQuorum(),
			})
		}
	}
	for _, name := range r.Drift.Foreign {
		r.add(Finding{
			Severity: Warning, Node: name, Check: "inventory", Saw: name + " is a member and not in the inventory",
			Look: "pvecm nodes", Remedy: "add it to the files, or remove it from the cluster",
		})
	}
	for _, d := range r.Drift.Differences {
		r.add(Finding{Severity: Warning, Node: d.Node, Check: "inventory", Saw: d.String(), Look: "cat /etc/pve/corosync.conf", Remedy: "change the files, or the cluster by the procedure for corosync.conf"})
	}
	r.strays(states, witnesses)
	for _, m := range members {
		if len(m.QDeviceNote) > 0 {
			r.add(Finding{
				Severity: Warning, Check: "leftover", Saw: "the QDevice was taken off for joins and not put back", Look: "cat " + QDeviceNote,
				Remedy: "apply the runbook with node_join again",
			})
			break
		}
	}
}

// withoutQuorum is the cause of what does not work because nobody is quorate, "" while somebody is.
func (r *Report) withoutQuorum() string {
	if r.Formed && !r.Quorate {
		return CauseQuorum
	}
	return ""
}

// strays reports nodes that could not be read, and those that stand between standalone and member.
func (r *Report) strays(states, witnesses []NodeState) {
	for _, s := range states {
		j := ClassifyJoin(r.Cluster, s, witnesses)
		f := Finding{Node: s.Host, Check: "join", Saw: j.Saw, Look: j.Look, Remedy: j.Remedy}
		cause := CauseOf(r.Lost, nameOf(s))
		switch j.Phase {
		case PhaseMember:
			continue
		case PhaseFresh:
			f.Severity, f.Remedy = Info, "join it with node_join"
		case PhaseUnknown:
			f.Severity, f.Check = Critical, "reachable"
			if e, ok := errors.AsType[*transport.UnreachableError](s.Err); ok && e.Hint != "" {
				f.Remedy = e.Hint
			}
			if f.Follows = cause; s.Err != nil && cause != "" {
				continue // told with the loss
			}
		case PhaseRunning:
			f.Severity = Info
		case PhaseOffline:
			if cause != "" {
				continue
			}
			f.Severity, f.Check, f.Follows, f.Brief = Critical, "membership", r.withoutQuorum(), "the nodes that answer see too few of the others"
		default:
			f.Severity = Critical
		}
		if r.Formed || j.Phase != PhaseFresh {
			r.add(f)
		}
	}
}

func (r *Report) versions(states, members []NodeState) {
	seen := map[int][]string{}
	for _, m := range members {
		seen[m.Conf.Version] = append(seen[m.Conf.Version], m.Host)
		if m.Mounted && !m.ConfsEqual {
			r.add(Finding{
				Severity: Critical, Node: m.Host, Check: "configuration", Saw: "/etc/corosync/corosync.conf is not the same as /etc/pve/corosync.conf",
				Look: "diff /etc/pve/corosync.conf /etc/corosync/corosync.conf", Remedy: "restart pve-cluster on this node; it copies the cluster's file",
			})
		}
	}
	if len(seen) > 1 {
		r.add(Finding{
			Severity: Critical, Check: "configuration", Saw: fmt.Sprintf("the nodes have %d different versions of corosync.conf", len(seen)),
			Look: "grep config_version /etc/pve/corosync.conf", Remedy: "restore the connection between the nodes",
		})
	}
	releases := map[string]bool{}
	for _, s := range states {
		if v := s.Version(); v != "" {
			releases[v] = true
		}
	}
	if len(releases) > 1 {
		r.add(Finding{
			Severity: Warning, Check: "release", Saw: "the nodes run different versions of pve-manager", Look: "pveversion",
			Remedy: "upgrade the nodes one after the other to the same version",
		})
	}
}

func (r *Report) services(s NodeState, n NodeReport) {
	if s.Err != nil || n.Phase == PhaseFresh {
		return
	}
	var down []string
	for unit, running := range n.Services {
		if !running {
			down = append(down, unit)
		}
	}
	if s.Conf != nil && s.Conf.Device != nil && !s.Units["corosync-qdevice"].Running() {
		down = append(down, "corosync-qdevice")
	}
	if len(down) == 0 {
		return
	}
	slices.Sort(down)
	r.add(Finding{
		Severity: Critical, Node: s.Host, Check: "services", Saw: strings.Join(down, ", ") + " not running",
		Look: "systemctl status " + strings.Join(down, " "), Remedy: "systemctl start " + strings.Join(down, " "),
		Follows: CauseOf(r.Lost, nameOf(s)), Brief: strings.Join(down, ", ") + " not running on " + s.Host,
	})
}

func (r *Report) links(s NodeState, conf *CorosyncConf) {
	for _, l := range s.Links {
		peer := fmt.Sprintf("node %d", l.NodeID)
		if i := slices.IndexFunc(conf.Nodes, func(n ConfNode) bool { return n.ID == l.NodeID }); i >= 0 {
			peer = conf.Nodes[i].Name
		}
		switch {
		case !l.Connected:
			f := Finding{
				Severity: Warning, Node: s.Host, Check: "links", Saw: fmt.Sprintf("link %d to %s is down", l.Link, peer),
				Look: "corosync-cfgtool -n", Remedy: fmt.Sprintf("check the network of link %d and UDP port %d", l.Link, 5405+l.Link),
			}
			f.Follows, f.Brief = r.linkCause(nameOf(s), peer)
			r.add(f)
		case l.RTT >= WarnRTT:
			f := Finding{
				Severity: Warning, Node: s.Host, Check: "links", Saw: fmt.Sprintf("link %d to %s takes %s there and back", l.Link, peer, l.RTT),
				Look: "corosync-cmapctl -m stats", Remedy: "give corosync a network of its own",
			}
			if l.RTT >= FailRTT {
				f.Severity = Critical
			}
			r.add(f)
		}
	}
}

// linkCause is why a link between two nodes is down: one of them is lost, or nobody is quorate.
func (r *Report) linkCause(node, peer string) (cause, brief string) {
	for _, end := range []string{peer, node} {
		if l, ok := lostWith(r.Lost, end); ok {
			return l.cause(), "corosync's links between " + strings.Join(l.Names, ", ") + " and the others are down"
		}
	}
	return r.withoutQuorum(), fmt.Sprintf("corosync's links between %s and %s are down", min(node, peer), max(node, peer))
}

// maxOffset is the offset of clocks from which Ceph complains.
const maxOffset = 50 * time.Millisecond

func (r *Report) clock(s NodeState) {
	switch t := s.Tracking; {
	case t == nil:
	case !t.Synced:
		r.add(Finding{Severity: Warning, Node: s.Host, Check: "time", Saw: "the clock is not synchronised", Look: "chronyc tracking", Remedy: "check the time servers in /etc/chrony/chrony.conf"})
	case t.Offset.Abs() > maxOffset:
		r.add(Finding{Severity: Warning, Node: s.Host, Check: "time", Saw: fmt.Sprintf("the clock is off by %s", t.Offset), Look: "chronyc tracking", Remedy: "wait for chrony, or chronyc makestep"})
	}
}

func (r *Report) sort() {
	rank := map[Severity]int{Critical: 0, Warning: 1, Info: 2}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return rank[a.Severity] - rank[b.Severity] })
}

// Healthy reports whether nothing worse than information was found.
func (r Report) Healthy() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity != Info })
}
