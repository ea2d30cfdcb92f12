package rolling

import (
	"testing"

	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/stretchr/testify/require"
)

func TestWhoComesHome(t *testing.T) {
	for name, tt := range map[string]struct {
		policy Return
		here   [2]int64 // GiB of the guests 100 and 101
		there  int64
		want   []int
	}{
		"nothing said":                  {"", [2]int64{4, 12}, 28, nil},
		"never":                         {ReturnNever, [2]int64{4, 12}, 28, nil},
		"moved":                         {ReturnMoved, [2]int64{4, 12}, 28, []int{100, 101}},
		"balanced, the other is fuller": {ReturnBalanced, [2]int64{20, 12}, 16, []int{100}},
		"balanced, the other is empty":  {ReturnBalanced, [2]int64{20, 20}, 0, []int{100}},
		"balanced, both then are even":  {ReturnBalanced, [2]int64{1, 1}, 28, []int{100, 101}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld("pve1", "pve2")
			w.s.Ballot.Device, w.s.Ballot.DeviceOnline = 1, true
			w.guest(100, "pve1", tt.here[0]*gib).guest(101, "pve1", tt.here[1]*gib, container).guest(102, "pve1", 4*gib, stopped).guest(103, "pve2", tt.there*gib)
			w.s.Policies.Containers, w.s.Return = RestartContainer, tt.policy
			w.node("pve1").Canary = true
			p := w.prove()
			require.Empty(t, p.Blocks)
			s, _ := p.Step("pve1")
			var got []int
			for _, g := range s.Home {
				require.Equal(t, []string{"pve2", "pve1"}, []string{g.From, g.To})
				got = append(got, g.ID)
			}
			require.Equal(t, tt.want, got)
		})
	}
}

func TestWhoCannotComeHomeIsTold(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 4*gib)
	w.s.Site.Guests[0].CPU, w.s.Return = "host", ReturnMoved
	for _, name := range []string{"pve2", "pve3"} {
		w.s.Site.Nodes[name].Flags = map[string]bool{"sse4_2": true, "avx": true}
	}
	w.node("pve1").Canary = true
	p := w.prove()
	require.Empty(t, p.Blocks)
	s, _ := p.Step("pve1")
	require.Equal(t, Stays, s.Home[0].Fate)
	require.Equal(t, "it cannot come home: its processor is the node's own (cpu: host), and pve1 lacks the flag avx", s.Home[0].Why)
	require.Equal(t, 2, p.Moves, "there, and once more when that node goes")

	w = newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 60*gib).guest(101, "pve1", 20*gib)
	w.node("pve1").Canary, w.s.Return = true, ReturnMoved
	p = w.prove()
	s, _ = p.Step("pve1")
	require.Equal(t, []Fate{Moves, Stays}, []Fate{s.Home[0].Fate, s.Home[1].Fate})
	require.Equal(t, "it cannot come home: pve1 is 16 GiB short of its memory", s.Home[1].Why)
	require.Equal(t, []string{"the running guests of pve1 may take 16 GiB more than it has beside its reserve"}, p.Warnings)
}

func TestWhatGoesThereAndBackIsCopiedTwice(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 4*gib, local)
	w.s.Policies.Default, w.s.Return = MigrateWithDisks, ReturnMoved
	w.s.Space = map[string]map[string]int64{"pve2": {"local-zfs": 150 * gib}, "pve3": {"local-zfs": 90 * gib}}
	w.node("pve1").Canary = true
	p := w.prove()
	require.Empty(t, p.Blocks)
	s, _ := p.Step("pve1")
	require.Equal(t, 100*gib, s.Guests[0].DiskBytes)
	require.Equal(t, "pve2", s.Guests[0].To)
	require.Equal(t, 100*gib, s.Home[0].DiskBytes)
	require.Equal(t, guest.Live, s.Home[0].Way)
}

func TestGuestsUnderHAComeHomeBeforeTheOthers(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 50*gib).guest(101, "pve1", 20*gib).managed(101)
	w.node("pve1").Canary, w.s.Return = true, ReturnMoved
	w.s.Site.HA.Manager.Master = "pve3"
	p := w.prove()
	s, _ := p.Step("pve1")
	require.Equal(t, Stays, s.Home[0].Fate, "it would find 44 GiB, as the HA manager asks nobody")
	require.Equal(t, Moves, s.Home[1].Fate)
}

func TestNodesThatTheRunIsThroughWithTakeGuestsFirst(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve2", 8*gib).guest(101, "pve1", 20*gib)
	w.s.Done = []string{"pve1"}
	p := w.prove()
	require.Equal(t, []string{"pve3", "pve2"}, p.Order)
	require.Equal(t, "pve3", plan(t, p, "pve2", 100).To)
	w.s.Failed = []string{"pve3"}
	require.Contains(t, plan(t, w.prove(), "pve2", 100).Why, "the only node")
	w.s.Failed = nil
	w.node("pve2").Canary = true
	g := plan(t, w.prove(), "pve2", 100)
	require.Equal(t, "pve1", g.To)
	require.Contains(t, g.Why, "upgraded already")
}
