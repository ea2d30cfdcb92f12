package pve

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
)

// sees gives a member the view that the named nodes are online.
func sees(t *testing.T, names []string, online ...string) func(*NodeState) {
	t.Helper()
	return func(s *NodeState) {
		list := map[string]map[string]int{}
		for i, name := range names {
			list[name] = map[string]int{"id": i + 1, "online": 0}
		}
		for _, name := range online {
			list[name]["online"] = 1
		}
		text, err := json.Marshal(map[string]any{"nodename": s.Hostname, "version": 5, "cluster": map[string]any{"name": "lab", "version": 3, "nodes": len(names), "quorate": 1}, "nodelist": list})
		require.NoError(t, err)
		s.Members, err = ParseMembers(text)
		require.NoError(t, err)
	}
}

// told lists findings as "severity saw", with what follows from them behind arrows.
func told(findings []Finding) (out []string) {
	for _, f := range findings {
		out = append(out, strings.Join(append([]string{string(f.Severity) + " " + f.Saw}, f.Consequences...), " → "))
	}
	return out
}

func TestALostNodeIsOneFinding(t *testing.T) {
	names := []string{"pve1", "pve2", "pve3"}
	conf := confOf("lab", 3, names...)
	down := []PeerLink{{NodeID: 3, Link: 0}, {NodeID: 3, Link: 1}}
	well := func(s *NodeState) { sees(t, names, "pve1", "pve2")(s); s.Links = down }
	away := NodeState{Host: "pve3", Err: &transport.UnreachableError{Host: "pve3", Phase: "connect", Cause: errors.New("no route to host"), Hint: "give it power"}}
	r := Status([]NodeState{changed(member("pve1", conf), well), changed(member("pve2", conf), well), away}, wanted(names...))
	require.Greater(t, len(r.Findings), 4, "before folding each stands alone")
	require.Equal(t, []string{
		"critical pve3 is down: it does not answer (connect: no route to host), and the others do not see it" +
			" → 2 of 3 votes are there and 2 are needed: the next node that fails stops the cluster" +
			" → corosync's links between pve3 and the others are down",
	}, told(Fold(r.Findings)))

	// A link between two nodes that are there has another cause.
	also := changed(member("pve1", conf), func(s *NodeState) { well(s); s.Links = append(s.Links, PeerLink{NodeID: 2, Link: 1}) })
	r = Status([]NodeState{also, changed(member("pve2", conf), well), away}, wanted(names...))
	require.Contains(t, told(Fold(r.Findings)), "warning link 1 to pve2 is down")

	// A node that its peers see, and only the controller does not reach, is not lost.
	r = Status([]NodeState{member("pve1", conf), member("pve2", conf), away}, wanted(names...))
	require.Empty(t, r.Lost)
	require.Equal(t, "give it power", find(r, "reachable", "pve3")[0].Remedy)
}

func TestNodesThatAreCutOffTogetherAreOneFinding(t *testing.T) {
	names := []string{"a1", "a2", "b1", "b2", "b3"}
	conf := confOf("lab", 5, names...)
	minority := func(s *NodeState) { sees(t, names, "a1", "a2")(s); s.Writable = false; s.Quorum = nil }
	majority := sees(t, names, "b1", "b2", "b3")
	states := []NodeState{
		changed(member("a1", conf), minority), changed(member("a2", conf), minority),
		changed(member("b1", conf), majority), changed(member("b2", conf), majority), changed(member("b3", conf), majority),
	}
	r := Status(states, wanted(names...))
	folded := told(Fold(r.Findings))
	require.Len(t, folded, 1, strings.Join(folded, "\n"))
	require.Contains(t, folded[0], "a1, a2 are cut off from the cluster: they answer and see one another, and the quorate nodes do not see them")

	// One of them whose corosync does not run is a case of its own, with a remedy of its own.
	states[1] = changed(member("a2", conf), func(s *NodeState) {
		sees(t, names, "a2")(s)
		s.Writable, s.Quorum, s.Units = false, nil, map[string]Unit{"corosync": {Load: "loaded", Active: "failed"}}
	})
	r = Status(states, wanted(names...))
	found := find(r, "membership", "a2")
	require.Len(t, found, 1)
	require.Equal(t, "a2 is out of the cluster: corosync does not run on it", found[0].Saw)
	require.Equal(t, "systemctl start corosync", found[0].Remedy)
}

func TestWithoutQuorumTheRestFollowsFromThat(t *testing.T) {
	names := []string{"pve1", "pve2", "pve3"}
	conf := confOf("lab", 3, names...)
	alone := func(name string) func(*NodeState) {
		return func(s *NodeState) { sees(t, names, name)(s); s.Writable, s.Quorum = false, nil }
	}
	r := Status([]NodeState{
		changed(member("pve1", conf), alone("pve1")), changed(member("pve2", conf), alone("pve2")), {Host: "pve3", Err: errors.New("timeout")},
	}, wanted(names...))
	folded := Fold(r.Findings)
	require.Len(t, folded, 2, "%v", told(folded))
	require.Contains(t, folded[0].Saw, "no node that answered is quorate")
	require.Contains(t, folded[1].Saw, "pve3 is down: it does not answer (timeout)")
}

func TestFoldHidesNothingWhoseCauseIsLeftOut(t *testing.T) {
	cause := Finding{Severity: Critical, Check: "membership", Saw: "pve3 is down", Cause: "lost pve3"}
	ceph := Finding{Severity: Critical, Check: "ceph", Saw: "Ceph does not answer", Cause: "ceph", Follows: "lost pve3"}
	storage := Finding{Severity: Warning, Check: "storage", Saw: "vm is not active", Brief: "no storage", Follows: "ceph"}
	other := Finding{Severity: Warning, Check: "disk", Saw: "/ is full"}
	require.Equal(t, []string{"critical pve3 is down → Ceph does not answer → no storage", "warning / is full"}, told(Fold([]Finding{cause, ceph, storage, other})))
	require.Equal(t, []string{"critical Ceph does not answer → no storage", "warning / is full"}, told(Fold([]Finding{ceph, storage, other})))
	require.Equal(t, []string{"warning vm is not active", "warning / is full"}, told(Fold([]Finding{storage, other})))
	// Two that name each other as their cause both stay.
	one, two := Finding{Saw: "one", Cause: "1", Follows: "2"}, Finding{Saw: "two", Cause: "2", Follows: "1"}
	require.Len(t, Fold([]Finding{one, two, other}), 3)
}

func TestAFreshNodeLacksNoService(t *testing.T) {
	node := changed(fresh("pve1"), func(s *NodeState) {
		s.Units = map[string]Unit{"corosync": {Load: "loaded", Active: "inactive"}, "pve-cluster": {Load: "loaded", Active: "active"}}
	})
	r := Status([]NodeState{node}, wanted("pve1"))
	require.Equal(t, map[string]bool{"pve-cluster": true}, r.Nodes[0].Services)
}
