package pve

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func confOf(cluster string, version int, names ...string) *CorosyncConf {
	c := &CorosyncConf{ClusterName: cluster, Version: version, LinkPriorities: map[int]int{}}
	for i, n := range names {
		c.Nodes = append(c.Nodes, ConfNode{Name: n, ID: i + 1, Votes: 1, Links: map[int]string{0: "10.0.1." + string(rune('1'+i))}})
	}
	return c
}

// fresh is a node right after its installation.
func fresh(name string) NodeState {
	return NodeState{Host: name, Hostname: name, Mounted: true, Writable: true, ConfigDB: true, Certs: []string{name}, Members: &Members{NodeName: name}}
}

// member is a node of a cluster in which all is well: every node of the configuration is online.
func member(name string, conf *CorosyncConf) NodeState {
	s := fresh(name)
	s.Conf, s.LocalConf, s.ConfsEqual, s.Authkey = conf, conf, true, true
	s.Certs = conf.Names()
	s.Quorum = &QuorumStatus{Nodes: len(conf.Nodes), Quorate: true, Expected: len(conf.Nodes), Total: len(conf.Nodes), Quorum: Quorum(len(conf.Nodes))}
	s.Members = &Members{NodeName: name, Cluster: &MemberCluster{Name: conf.ClusterName, Version: conf.Version, Nodes: len(conf.Nodes), Quorate: true}}
	for _, n := range conf.Nodes {
		s.Members.Nodes = append(s.Members.Nodes, Member{Name: n.Name, ID: n.ID, Online: true})
	}
	return s
}

// changed returns a state after a function worked on it.
func changed(s NodeState, f func(*NodeState)) NodeState {
	f(&s)
	return s
}

// alone makes a member one that sees nobody else and is not quorate.
func alone(s *NodeState) {
	s.Writable = false
	q := *s.Quorum
	q.Nodes, q.Quorate = 1, false
	s.Quorum = &q
	m := *s.Members
	m.Nodes = nil
	for _, n := range s.Members.Nodes {
		n.Online = n.Name == s.Hostname
		m.Nodes = append(m.Nodes, n)
	}
	s.Members = &m
}

func withoutCert(name string) func(*NodeState) {
	return func(s *NodeState) {
		var kept []string
		for _, c := range s.Certs {
			if c != name {
				kept = append(kept, c)
			}
		}
		s.Certs = kept
	}
}

func TestJoinStates(t *testing.T) {
	one, two := confOf("lab", 1, "pve1"), confOf("lab", 2, "pve1", "pve2")
	// after addnode from one to two nodes: pve1 waits for pve2
	waiting := changed(member("pve1", two), alone)
	waiting = changed(waiting, withoutCert("pve2"))
	// before it noticed
	unaware := changed(member("pve1", two), func(s *NodeState) {
		withoutCert("pve2")(s)
		s.Members = &Members{Nodes: []Member{{Name: "pve1", Online: true}, {Name: "pve2"}}}
	})
	// the same in a larger cluster, which keeps its quorum
	three := confOf("lab", 3, "pve1", "pve2", "pve3")
	var quorate []NodeState
	for _, name := range []string{"pve1", "pve3"} {
		quorate = append(quorate, changed(member(name, three), func(s *NodeState) {
			withoutCert("pve2")(s)
			s.Members = &Members{Nodes: []Member{{Name: "pve1", Online: true}, {Name: "pve2"}, {Name: "pve3", Online: true}}}
		}))
	}
	tests := []struct {
		name      string
		joiner    NodeState
		members   []NodeState
		want      JoinPhase
		resumable bool
	}{
		{"nothing anywhere", fresh("pve2"), nil, PhaseFresh, false},
		{"not yet in the cluster", fresh("pve2"), []NodeState{member("pve1", one)}, PhaseFresh, false},
		{"member", member("pve2", two), []NodeState{member("pve1", two)}, PhaseMember, false},
		{"only member", member("pve1", one), nil, PhaseMember, false},
		{"in another cluster", member("pve2", confOf("prod", 4, "pve2")), []NodeState{member("pve1", one)}, PhaseOther, false},
		{"only its local file names another cluster", changed(fresh("pve2"), func(s *NodeState) { s.LocalConf = confOf("prod", 4, "pve2") }), nil, PhaseOther, false},
		{"pvecm add at work", changed(fresh("pve2"), func(s *NodeState) { s.Joining = true }), []NodeState{waiting}, PhaseRunning, true},
		{"cut off after addnode", fresh("pve2"), quorate, PhaseAdded, true},
		{"cut off after addnode, quorum about to be lost", fresh("pve2"), []NodeState{unaware}, PhaseDeadlock, true},
		{"create cut off before the start", changed(member("pve1", one), func(s *NodeState) { s.Quorum = nil }), nil, PhaseCreated, true},
		{"create not ready", changed(member("pve1", one), func(s *NodeState) { s.Writable = false }), nil, PhaseCreated, true},
		{"create in its restart", changed(member("pve1", one), func(s *NodeState) { s.Mounted, s.Conf, s.Members = false, nil, nil }), nil, PhaseCreated, true},
		{"cut off after addnode, quorum lost", fresh("pve2"), []NodeState{waiting}, PhaseDeadlock, true},
		{"the same with guests on the joiner", changed(fresh("pve2"), func(s *NodeState) { s.Guests = []Guest{{ID: "100"}} }), []NodeState{waiting}, PhaseDeadlock, false},
		{"key copied, pmxcfs not yet stopped", changed(fresh("pve2"), func(s *NodeState) { s.Authkey = true }), []NodeState{waiting}, PhaseBegun, true},
		{"key copied and guests", changed(fresh("pve2"), func(s *NodeState) { s.Authkey, s.Guests = true, []Guest{{ID: "100"}} }), []NodeState{waiting}, PhaseBegun, false},
		{"pmxcfs stopped", changed(fresh("pve2"), func(s *NodeState) { s.Authkey, s.LocalConf, s.Mounted, s.Writable = true, two, false, false }), []NodeState{waiting}, PhaseStopped, true},
		{"pmxcfs started, corosync not", changed(member("pve2", two), func(s *NodeState) { s.Quorum, s.Writable, s.Certs = nil, false, nil }), []NodeState{waiting}, PhaseStopped, true},
		{"corosync reaches nobody", changed(changed(member("pve2", two), alone), func(s *NodeState) { s.Certs = nil }), []NodeState{waiting}, PhaseWaiting, true},
		{"not quorate yet", changed(member("pve2", two), func(s *NodeState) { s.Writable, s.Certs = false, nil }), []NodeState{waiting}, PhaseWaiting, true},
		{"no certificate", changed(member("pve2", two), withoutCert("pve2")), []NodeState{changed(member("pve1", two), withoutCert("pve2"))}, PhaseNoCert, true},
		{"a whole member that is away", changed(member("pve2", two), alone), []NodeState{changed(member("pve1", two), alone)}, PhaseOffline, false},
		{"a whole member without corosync", changed(member("pve2", two), func(s *NodeState) { s.Quorum = nil }), []NodeState{member("pve1", two)}, PhaseOffline, false},
		{"removed from the cluster", member("pve2", two), []NodeState{member("pve1", one)}, PhaseDeleted, false},
		{"left-over key", changed(fresh("pve2"), func(s *NodeState) { s.Authkey = true }), []NodeState{member("pve1", one)}, PhaseStaleKey, false},
		{"left-over local file", changed(fresh("pve2"), func(s *NodeState) { s.LocalConf = two }), nil, PhaseDeleted, false},
		{"unreachable", NodeState{Host: "pve2", Err: errors.New("no route to host")}, []NodeState{member("pve1", one)}, PhaseUnknown, false},
		{"unreadable", changed(fresh("pve2"), func(s *NodeState) { s.Unread = map[string]string{"conf": "hangs"} }), []NodeState{member("pve1", one)}, PhaseUnknown, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ClassifyJoin("lab", tt.joiner, tt.members)
			require.Equal(t, tt.want, got.Phase, got.Saw)
			require.Equal(t, tt.resumable, got.Resumable)
			require.NotEmpty(t, got.Saw)
			if got.Phase != PhaseFresh && got.Phase != PhaseMember {
				require.NotEmpty(t, got.Remedy, "whatever is wrong comes with a way out")
			}
		})
	}
}

func TestClassificationIgnoresTheNodeAmongTheMembers(t *testing.T) {
	two := confOf("lab", 2, "pve1", "pve2")
	states := []NodeState{member("pve1", two), member("pve2", two)}
	require.Equal(t, PhaseMember, ClassifyJoin("lab", states[1], MembersOf(states, "lab")).Phase)
}

func TestJoinedEverywhere(t *testing.T) {
	two, old := confOf("lab", 2, "pve1", "pve2"), confOf("lab", 1, "pve1", "pve2")
	whole := []NodeState{member("pve1", two), member("pve2", two)}
	require.Empty(t, JoinedEverywhere("pve2", whole))
	tests := map[string]struct {
		spoil func(*NodeState)
		want  string
	}{
		"read-only":     {func(s *NodeState) { s.Writable = false }, "pve2: /etc/pve is read-only"},
		"unmounted":     {func(s *NodeState) { s.Mounted = false }, "pve2: /etc/pve shows no cluster"},
		"not quorate":   {func(s *NodeState) { s.Quorum = nil }, "pve2: not quorate"},
		"files differ":  {func(s *NodeState) { s.ConfsEqual = false }, "pve2: /etc/corosync/corosync.conf is not yet the cluster's"},
		"not online":    {func(s *NodeState) { s.Members = nil }, "pve2: does not see pve2 online"},
		"no cert":       {withoutCert("pve2"), "pve2: no certificate of pve2"},
		"other version": {func(s *NodeState) { s.Conf = old }, "the nodes have different versions of the configuration"},
		"unreachable":   {func(s *NodeState) { s.Err = errors.New("pve2: refused") }, "pve2: refused"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, JoinedEverywhere("pve2", []NodeState{whole[0], changed(whole[1], tt.spoil)}), tt.want)
		})
	}
}
