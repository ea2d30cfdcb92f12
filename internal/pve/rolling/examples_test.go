package rolling

import (
	"testing"

	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/stretchr/testify/require"
)

// Two nodes and a QDevice: everything of the one goes to the other and, as it is upgraded by then, back in one piece.
func TestTwoNodesAndAQDevice(t *testing.T) {
	w := newWorld("pve1", "pve2")
	w.s.Ballot.Device, w.s.Ballot.DeviceOnline = 1, true
	w.guest(100, "pve1", 16*gib).guest(101, "pve1", 8*gib).guest(102, "pve2", 24*gib).guest(103, "pve2", 8*gib).managed(102)
	p := w.prove()
	require.Empty(t, p.Blocks)
	require.Equal(t, []string{"pve2", "pve1"}, p.Order, "pve1 is the HA manager's master")
	require.Equal(t, Votes{Left: 2, Needed: 2, Device: 1}, p.Rounds[0].Votes)
	require.Equal(t, Headroom{"pve1", 8 * gib}, p.Rounds[0].Least)
	require.Equal(t, 6, p.Moves, "102 goes home by itself, 103 goes to pve1 and back")
	require.Equal(t, "pve2", plan(t, p, "pve1", 103).To)
	require.Equal(t, 1, p.Again)

	w.s.Ballot.DeviceOnline = false
	p = w.prove()
	require.Len(t, p.Blocks, 2)
	require.Equal(t, "without pve2 1 of 3 votes would be left, 1 short; the QDevice does not vote", p.Blocks[0].Saw)
}

// Three hyperconverged nodes: votes, monitors and OSDs bear one of them away, and memory is tight.
func TestThreeNodesWithCeph(t *testing.T) {
	w := hyperconverged()
	w.s.Ceph.Manager = "pve1"
	w.s.Reserve.Percent = 10 // 57.6 GiB each for guests
	for i, node := range []string{"pve1", "pve1", "pve2", "pve2", "pve3", "pve3"} {
		w.guest(100+i, node, 18*gib)
	}
	p := w.prove()
	require.Empty(t, p.Blocks)
	require.Equal(t, []string{"pve2", "pve3", "pve1"}, p.Order, "pve1 has the active manager")
	for _, r := range p.Rounds {
		require.Equal(t, "2 of 3 monitors left, may stop", r.Ceph)
		require.Equal(t, Votes{Left: 2, Needed: 2}, r.Votes)
		require.GreaterOrEqual(t, r.Least.Bytes, int64(3)*gib)
	}
	require.Contains(t, p.MayChange, "Whether Ceph lets a node go is asked again right before it: the answer here is of now, and of all nodes being there.")

	w.s.Reserve.Bytes = 12 * gib
	p = w.prove()
	require.Equal(t, MemoryGate, p.Blocks[0].Gate)
	require.Equal(t, 2*gib, p.Blocks[0].ShortBytes)
	require.Equal(t, "pve2", p.Blocks[0].Node)
}

// Five nodes with guests of every kind and HA of both kinds of affinity.
func TestFiveNodesOfEveryKind(t *testing.T) {
	w := newWorld(nodes(5)...)
	w.guest(100, "pve1", 16*gib).guest(101, "pve1", 4*gib, container).guest(102, "pve2", 8*gib, device, tagged("gpu")).guest(103, "pve2", 8*gib)
	w.guest(104, "pve3", 4*gib, local).guest(105, "pve3", 4*gib, stopped).guest(106, "pve4", 4*gib, template).guest(107, "pve4", 30*gib).guest(108, "pve5", 12*gib)
	w.guest(200, "pve2", 4*gib).guest(201, "pve3", 4*gib).guest(202, "pve3", 2*gib).guest(203, "pve5", 2*gib)
	w.managed(200).managed(201).managed(202).managed(203)
	w.rule(between(ha.Negative, "vm:200", "vm:201")).rule(between(ha.Positive, "vm:201", "vm:202"))
	w.rule(ha.Rule{ID: "home", Type: ha.NodeAffinity, Strict: true, Nodes: ha.Nodes{"pve4": 1, "pve5": 2}, Resources: []string{"vm:203"}})
	w.node("pve4").Canary = true
	w.node("pve3").Idle = "nothing to upgrade, no reboot needed"
	w.s.Policies = Policies{Default: MigrateWithDisks, Containers: RestartContainer, Tags: map[string]Policy{"gpu": Shutdown}}
	w.s.Return = ReturnMoved
	p := w.prove()
	require.Empty(t, p.Blocks)
	require.Equal(t, []string{"pve4", "pve5", "pve2", "pve1"}, p.Order)
	require.Equal(t, "pve4", plan(t, p, "pve5", 203).To, "the next priority of its affinity")
	require.Equal(t, "of the nodes of its affinity with priority 1; the HA manager decides", plan(t, p, "pve5", 203).Why)
	require.NotEqual(t, "pve3", plan(t, p, "pve2", 200).To, "201 is there")
	require.Equal(t, StopsIt, plan(t, p, "pve2", 102).Fate)
	require.Equal(t, Stays, plan(t, p, "pve4", 106).Fate)
	require.Equal(t, "pve3", plan(t, p, "pve4", 107).To, "nothing is done to pve3")
	require.Equal(t, 3, p.Stops, "a container there and back, and a guest with a device")
	for _, r := range p.Rounds {
		require.Equal(t, Votes{Left: 4, Needed: 3}, r.Votes)
	}
}

// A node of its own: nobody votes, and nothing can move.
func TestANodeWithoutACluster(t *testing.T) {
	w := newWorld("pve1")
	w.s.Site.Members.Cluster, w.s.Site.Members.Nodes, w.s.Ballot.Nodes = nil, nil, nil
	w.guest(100, "pve1", gib).guest(101, "pve1", gib, stopped)
	p := w.prove()
	require.Len(t, p.Blocks, 1)
	require.Equal(t, "pve1: vm 100 (g100): no node can take it: there is no other node", p.Blocks[0].String())
	w.s.Policies.Default = Shutdown
	p = w.prove()
	require.Empty(t, p.Blocks)
	require.Equal(t, 1, p.Stops)
}
