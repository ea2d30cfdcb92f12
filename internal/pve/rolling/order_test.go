package rolling

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOrderOfNodes(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(w *world)
		want    []string
		why     string // of the last
	}{
		"the least to move first, then by name": {func(w *world) {
			w.guest(100, "pve1", 16*gib).guest(101, "pve3", 4*gib)
		}, []string{"pve2", "pve4", "pve3", "pve1"}, "its guests find room on nodes that are through"},
		"stopped guests weigh nothing": {func(w *world) {
			w.guest(100, "pve1", 16*gib, stopped).guest(101, "pve2", gib).guest(102, "pve3", gib).guest(103, "pve4", gib)
		}, []string{"pve1", "pve2", "pve3", "pve4"}, "its guests find room on nodes that are through"},
		"of those that need no second move, the one that makes the most room": {func(w *world) {
			w.guest(100, "pve2", 8*gib).guest(101, "pve3", 2*gib).guest(102, "pve4", 6*gib)
			w.s.Site.Nodes["pve2"].Memory = 256 * gib
		}, []string{"pve1", "pve2", "pve3", "pve4"}, "its guests find room on nodes that are through"},
		"what needs a second move waits, however much room it would make": {func(w *world) {
			w.guest(100, "pve1", 100*gib).guest(101, "pve1", 8*gib).guest(102, "pve2", 9*gib)
			w.s.Site.Nodes["pve1"].Memory, w.s.Site.Nodes["pve2"].Memory = 256*gib, 128*gib
			w.s.Site.Nodes["pve3"].Memory, w.s.Site.Nodes["pve4"].Memory = 8*gib, 100*gib
			w.node("pve4").Idle = "nothing to do"
		}, []string{"pve2", "pve1", "pve3"}, "no guest is on it"},
		"canaries first": {func(w *world) {
			w.guest(100, "pve3", 32*gib)
			w.node("pve3").Canary = true
		}, []string{"pve3", "pve2", "pve4", "pve1"}, "its guests find room on nodes that are through"},
		"the master of the HA manager late": {func(w *world) {
			w.guest(100, "pve4", gib).managed(100)
		}, []string{"pve2", "pve3", "pve4", "pve1"}, "late: it is the master of the HA manager"},
		"a master without services is none": {func(w *world) {
			w.guest(100, "pve4", gib).managed(100)
			w.s.Site.Guests[0].Managed.State = "ignored"
		}, []string{"pve1", "pve2", "pve3", "pve4"}, "its guests find room on nodes that are through"},
		"Ceph's active manager late, before the master": {func(w *world) {
			w.guest(100, "pve4", gib).managed(100)
			w.s.Ceph = &Ceph{Manager: "pve2"}
		}, []string{"pve3", "pve4", "pve2", "pve1"}, "late: it is the master of the HA manager"},
		"pxrun's own node last": {func(w *world) {
			w.guest(100, "pve4", gib).managed(100)
			w.s.Own = Own{Node: "pve2", Allow: true}
		}, []string{"pve3", "pve4", "pve1", "pve2"}, "last: pxrun runs on it"},
		"what is in maintenance already before all others": {func(w *world) {
			w.guest(100, "pve4", gib).managed(100)
			w.node("pve2").Canary = true
			w.s.Site.HA.Manager.Maintenance = []string{"pve3"}
			w.s.Site.HA.Manager.Nodes["pve3"] = "maintenance"
		}, []string{"pve3", "pve2", "pve4", "pve1"}, "late: it is the master of the HA manager"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld("pve1", "pve2", "pve3", "pve4")
			tt.prepare(w)
			p := w.prove()
			require.Empty(t, p.Blocks)
			require.Equal(t, tt.want, p.Order)
			require.Equal(t, tt.want[:1], p.Next)
			last, _ := p.Step(tt.want[len(tt.want)-1])
			require.Equal(t, tt.why, last.Why)
		})
	}
}

func TestNodesWithNothingToDoAreSkippedAndTakeGuests(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 8*gib).guest(101, "pve2", 40*gib)
	w.node("pve2").Idle = "nothing to upgrade, no reboot needed"
	w.node("pve3").Work = Work{Reboot: Yes, Why: "the kernel 6.14 is installed and 6.8 runs"}
	p := w.prove()
	require.Empty(t, p.Blocks)
	require.Equal(t, []Skipped{{"pve2", "nothing to upgrade, no reboot needed"}}, p.Skipped)
	require.Equal(t, []string{"pve3", "pve1"}, p.Order)
	s, _ := p.Step("pve3")
	require.Equal(t, "a reboot (the kernel 6.14 is installed and 6.8 runs)", s.Work)
	require.Equal(t, [][]string{{"pve2", "nothing to upgrade, no reboot needed"}}, p.Idle().Rows)
}

func TestGuestsGoToNodesThatAreThrough(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 8*gib).guest(101, "pve2", 9*gib).guest(102, "pve3", 10*gib)
	p := w.prove()
	require.Empty(t, p.Blocks)
	require.Equal(t, []string{"pve1", "pve3", "pve2"}, p.Order, "pve2 has the guest of pve1 by then")
	require.Equal(t, "pve1", plan(t, p, "pve3", 102).To, "pve2 is yet to go")
	require.Contains(t, plan(t, p, "pve3", 102).Why, "upgraded already; ")
	require.Equal(t, 1, p.Again, "only the guest of the first node had nowhere to go that was through")

	w.node("pve3").Idle = "nothing to do"
	p = w.prove()
	require.Equal(t, "pve3", plan(t, p, "pve1", 100).To)
	require.Contains(t, plan(t, p, "pve1", 100).Why, "nothing is to be done on it")
	require.Zero(t, p.Again, "each guest moves once")
}

func TestWherePxrunItselfRuns(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 8*gib)
	w.s.Own.Node = "pve2"
	p := w.prove()
	require.Len(t, p.Blocks, 1)
	require.Equal(t, OwnGate, p.Blocks[0].Gate)
	require.Equal(t, "pve2: pxrun itself runs on this node, and would end when it restarts", p.Blocks[0].String())
	require.Equal(t, "pve2", p.Order[2])
	require.Empty(t, p.Against("pve1"))
	require.Len(t, p.Against("pve2"), 1)

	w.node("pve2").Work.Reboot = No
	require.Empty(t, w.prove().Blocks, "without a restart it runs on")

	w = newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 8*gib).s.Own.Guest = 100
	require.Empty(t, w.prove().Blocks, "a guest that moves live takes pxrun along")
	w.s.Policies.Guests = map[int]Policy{100: Shutdown}
	p = w.prove()
	require.Len(t, p.Blocks, 1)
	require.Equal(t, "pve1: vm 100 (g100): pxrun itself runs in this guest, which would stop", p.Blocks[0].String())
}
