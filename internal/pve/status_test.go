package pve

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

func wanted(names ...string) Wanted {
	w := Wanted{Cluster: "lab"}
	for i, n := range names {
		w.Nodes = append(w.Nodes, WantedNode{Name: n, Votes: 1, Links: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(i + 1)})}, Priorities: []int{0}})
	}
	return w
}

func find(r Report, check, node string) []Finding {
	var found []Finding
	for _, f := range r.Findings {
		if f.Check == check && f.Node == node {
			found = append(found, f)
		}
	}
	return found
}

func TestStatusOfAHealthyCluster(t *testing.T) {
	conf := confOf("lab", 3, "pve1", "pve2", "pve3")
	r := Status([]NodeState{member("pve1", conf), member("pve2", conf), member("pve3", conf)}, wanted("pve1", "pve2", "pve3"))
	require.Empty(t, r.Findings)
	require.True(t, r.Healthy())
	require.True(t, r.Quorate)
	require.Equal(t, VoteReport{Expected: 3, Total: 3, Quorum: 2, Bearable: 1}, r.Votes)
	text, err := json.Marshal(r)
	require.NoError(t, err)
	require.Contains(t, string(text), `"config_version":3`)
}

func TestStatusBeforeTheCluster(t *testing.T) {
	r := Status([]NodeState{fresh("pve1"), fresh("pve2")}, wanted("pve1", "pve2"))
	require.False(t, r.Formed)
	require.True(t, r.Healthy(), "nothing is wrong with nodes that are not in a cluster yet")
	require.Len(t, r.Findings, 1)
}

func TestStatusFindings(t *testing.T) {
	conf := confOf("lab", 3, "pve1", "pve2", "pve3")
	tests := []struct {
		name        string
		spoil       func(s []NodeState)
		check, node string
		severity    Severity
	}{
		{"a node away", func(s []NodeState) { s[2] = NodeState{Host: "pve3", Hostname: "pve3", Err: errors.New("no route")} }, "reachable", "pve3", Critical},
		{"a service down", func(s []NodeState) { s[1].Units = map[string]Unit{"pveproxy": {Load: "loaded", Active: "failed"}} }, "services", "pve2", Critical},
		{"a slow link", func(s []NodeState) { s[0].Links = []PeerLink{{NodeID: 2, Connected: true, RTT: 3 * time.Millisecond}} }, "links", "pve1", Warning},
		{"a link too slow", func(s []NodeState) { s[0].Links = []PeerLink{{NodeID: 2, Connected: true, RTT: 9 * time.Millisecond}} }, "links", "pve1", Critical},
		{"a link down", func(s []NodeState) { s[0].Links = []PeerLink{{NodeID: 2}} }, "links", "pve1", Warning},
		{"a clock off", func(s []NodeState) { s[0].Tracking = &Tracking{Synced: true, Offset: -time.Second} }, "time", "pve1", Warning},
		{"a clock alone", func(s []NodeState) { s[0].Tracking = &Tracking{} }, "time", "pve1", Warning},
		{"files that differ", func(s []NodeState) { s[0].ConfsEqual = false }, "configuration", "pve1", Critical},
		{"versions that differ", func(s []NodeState) { s[0].Conf = confOf("lab", 2, "pve1", "pve2", "pve3") }, "configuration", "", Critical},
		{"releases that differ", func(s []NodeState) {
			s[0].Packages, s[1].Packages = map[string]string{"pve-manager": "9.1.1"}, map[string]string{"pve-manager": "9.1.4"}
		}, "release", "", Warning},
		{"a QDevice that was not put back", func(s []NodeState) { s[0].QDeviceNote = []byte("{}") }, "leftover", "", Warning},
		{"no quorum anywhere", func(s []NodeState) {
			for i := range s {
				s[i].Writable = false
			}
		}, "quorum", "", Critical},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			states := []NodeState{member("pve1", conf), member("pve2", conf), member("pve3", conf)}
			tt.spoil(states)
			r := Status(states, wanted("pve1", "pve2", "pve3"))
			found := find(r, tt.check, tt.node)
			require.NotEmpty(t, found, "%+v", r.Findings)
			require.Equal(t, tt.severity, found[0].Severity)
			require.NotEmpty(t, found[0].Remedy)
			require.False(t, r.Healthy())
		})
	}
}

// TestStatusCountsTheViewOfQuorateNodes covers a node whose corosync stopped: it sees nobody but itself, and that says nothing about the others.
func TestStatusCountsTheViewOfQuorateNodes(t *testing.T) {
	conf := confOf("lab", 3, "pve1", "pve2", "pve3")
	view := func(online ...string) func(*NodeState) {
		return func(s *NodeState) {
			list := map[string]map[string]int{}
			for i, name := range []string{"pve1", "pve2", "pve3"} {
				list[name] = map[string]int{"id": i + 1, "online": 0}
			}
			for _, name := range online {
				list[name]["online"] = 1
			}
			text, err := json.Marshal(map[string]any{"nodename": s.Hostname, "version": 5, "cluster": map[string]any{"name": "lab", "version": 3, "nodes": 3, "quorate": 1}, "nodelist": list})
			require.NoError(t, err)
			s.Members, err = ParseMembers(text)
			require.NoError(t, err)
		}
	}
	cut := func(s *NodeState) { s.Writable, s.Quorum = false, nil }
	phases := func(r Report) (out []JoinPhase, online []bool) {
		for _, n := range r.Nodes {
			out, online = append(out, n.Phase), append(online, n.Online)
		}
		return out, online
	}
	r := Status([]NodeState{
		changed(member("pve1", conf), view("pve1", "pve2")), changed(member("pve2", conf), view("pve1", "pve2")),
		changed(member("pve3", conf), func(s *NodeState) { view("pve3")(s); cut(s) }),
	}, wanted("pve1", "pve2", "pve3"))
	have, online := phases(r)
	require.Equal(t, []JoinPhase{PhaseMember, PhaseMember, PhaseOffline}, have)
	require.Equal(t, []bool{true, true, false}, online)
	require.Empty(t, find(r, "membership", "pve1"), "a node that is well is not blamed for what another one does not see")

	r = Status([]NodeState{
		changed(member("pve1", conf), func(s *NodeState) { view("pve1")(s); cut(s) }), changed(member("pve2", conf), func(s *NodeState) { view("pve2")(s); cut(s) }),
		changed(member("pve3", conf), func(s *NodeState) { view("pve3")(s); cut(s) }),
	}, wanted("pve1", "pve2", "pve3"))
	_, online = phases(r)
	require.Equal(t, []bool{false, false, false}, online, "that a node sees itself is not that it is online")
	require.Contains(t, find(r, "membership", "pve1")[0].Saw+find(r, "membership", "pve1")[1].Saw, "pve1 does not see pve2, pve3 online")
}

func TestStatusTellsTheMargin(t *testing.T) {
	conf := confOf("lab", 2, "pve1", "pve2")
	r := Status([]NodeState{member("pve1", conf), member("pve2", conf)}, wanted("pve1", "pve2"))
	require.Equal(t, 0, r.Votes.Bearable)
	require.Len(t, find(r, "quorum", ""), 1)

	withDevice := confOf("lab", 3, "pve1", "pve2")
	withDevice.Device = &ConfDevice{Model: "net", Host: "192.0.2.50", Algorithm: "ffsplit", Votes: 1}
	casting := func(s *NodeState) {
		s.Quorum = &QuorumStatus{Nodes: 2, Quorate: true, Device: &QuorumDevice{Votes: 1, Configured: 1}}
		s.Units = map[string]Unit{"corosync-qdevice": {Load: "loaded", Active: "active"}}
	}
	r = Status([]NodeState{changed(member("pve1", withDevice), casting), changed(member("pve2", withDevice), casting)}, wanted("pve1", "pve2"))
	require.Equal(t, VoteReport{Expected: 3, Total: 3, Quorum: 2, Bearable: 1, Device: "192.0.2.50", DeviceVotes: 1, DeviceOnline: true}, r.Votes)
	require.True(t, r.Healthy())
}

func TestDrift(t *testing.T) {
	conf := confOf("lab", 3, "pve1", "pve2", "pve9")
	conf.Nodes[1].Votes = 2
	conf.Nodes[1].Links[1] = "10.0.2.2"
	conf.LinkPriorities[0] = 10
	w := wanted("pve1", "pve2", "pve3")
	w.Nodes[0].ID = 5
	d := CompareMembership(w, conf)
	require.Equal(t, []string{"pve3"}, d.Missing)
	require.Equal(t, []string{"pve9"}, d.Foreign)
	require.Equal(t, []Difference{
		{Node: "pve1", What: "node id", Want: "5", Have: "1"},
		{Node: "pve2", What: "link 1", Want: "", Have: "10.0.2.2"},
		{Node: "pve2", What: "votes", Want: "1", Have: "2"},
		{Node: "pve1", What: "priority of link 0", Want: "0", Have: "10"},
	}, d.Differences)
	require.Equal(t, "link 1 of pve2 is 10.0.2.2, wanted not set", d.Differences[1].String())
	require.True(t, CompareMembership(wanted("pve1"), confOf("lab", 1, "pve1")).Empty())
}

func TestWantedFromInventory(t *testing.T) {
	site := &inventory.Site{Hosts: []inventory.Host{
		{Name: "pve1", Address: "192.0.2.11", Node: &inventory.Node{Votes: 1, ID: 4, Links: []inventory.Link{{Address: netip.MustParseAddr("10.0.1.1"), Priority: 20}}}},
		{Name: "pve2", Address: "192.0.2.12", Node: &inventory.Node{Votes: 1}},
		{Name: "pve3", Address: "pve3.example.org", Node: &inventory.Node{Votes: 1}},
	}}
	w := WantedCluster(&inventory.Cluster{Name: "lab", Nodes: []string{"pve1", "pve2", "pve3"}}, site)
	require.Equal(t, []WantedNode{
		{Name: "pve1", Links: []netip.Addr{netip.MustParseAddr("10.0.1.1")}, Priorities: []int{20}, ID: 4, Votes: 1},
		{Name: "pve2", Links: []netip.Addr{netip.MustParseAddr("192.0.2.12")}, Priorities: []int{0}, Votes: 1},
		{Name: "pve3", Votes: 1},
	}, w.Nodes)
}
