package rolling

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func rounds(p Proof) (out [][]string) {
	for _, r := range p.Rounds {
		out = append(out, r.Nodes)
	}
	return out
}

func nodes(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("pve%d", i+1))
	}
	return out
}

func TestNodesGoTogetherOnlyIfAllBearsIt(t *testing.T) {
	for name, tt := range map[string]struct {
		nodes   int
		prepare func(w *world)
		want    [][]string
		why     string // of the first round
	}{
		"one at a time": {3, func(*world) {}, [][]string{{"pve1"}, {"pve2"}, {"pve3"}}, "no more than 1 at once"},
		"two of five":   {5, func(w *world) { w.s.Max.Count = 2 }, [][]string{{"pve1", "pve2"}, {"pve3", "pve4"}, {"pve5"}}, "no more than 2 at once"},
		"votes": {4, func(w *world) { w.s.Max.Count = 2 }, [][]string{{"pve1"}, {"pve2"}, {"pve3"}, {"pve4"}},
			"without pve1, pve4 2 of 4 votes would be left, 1 short"},
		"a QDevice helps": {4, func(w *world) { w.s.Max.Count = 2; w.s.Ballot.Device, w.s.Ballot.DeviceOnline = 1, true }, [][]string{{"pve1", "pve2"}, {"pve3", "pve4"}}, "no more than 2 at once"},
		"a share":         {10, func(w *world) { w.s.Max.Percent = 25 }, [][]string{{"pve1", "pve10"}, {"pve2", "pve3"}, {"pve4", "pve5"}, {"pve6", "pve7"}, {"pve8", "pve9"}}, "no more than 2 at once"},
		"a small share":   {3, func(w *world) { w.s.Max.Percent = 20 }, [][]string{{"pve1"}, {"pve2"}, {"pve3"}}, "no more than 1 at once"},
		"one of each site": {5, func(w *world) {
			w.s.Max = Limit{Count: 1, PerSite: true}
			w.node("pve3").Site, w.node("pve4").Site = "b", "b"
		}, [][]string{{"pve1", "pve3"}, {"pve2", "pve4"}, {"pve5"}}, `no more than 1 of site "" at once`},
		"the first go alone":  {5, func(w *world) { w.s.Max.Count = 2; w.s.Canary = 1 }, [][]string{{"pve1"}, {"pve2", "pve3"}, {"pve4", "pve5"}}, "the first go alone"},
		"canaries by name":    {5, func(w *world) { w.s.Max.Count = 2; w.node("pve4").Canary = true }, [][]string{{"pve4"}, {"pve1", "pve2"}, {"pve3", "pve5"}}, ""},
		"the master not with": {5, func(w *world) { w.s.Max.Count = 2; w.guest(100, "pve5", gib).managed(100) }, [][]string{{"pve2", "pve3"}, {"pve4", "pve5"}, {"pve1"}}, "no more than 2 at once"},
		"Ceph was not asked about two": {5, func(w *world) {
			w.s.Max.Count = 2
			w.s.Ceph = &Ceph{Monitors: []string{"pve3", "pve4", "pve5"}, Quorum: []string{"pve3", "pve4", "pve5"}, OSDs: map[string][]int{"pve1": {0}, "pve2": {1}}}
			for _, n := range nodes(5) {
				w.s.Ceph.Stop = append(w.s.Ceph.Stop, StopAnswer{Nodes: []string{n}, OK: true})
			}
		}, [][]string{{"pve1"}, {"pve2"}, {"pve3"}, {"pve4"}, {"pve5"}}, "Ceph does not let pve1, pve5 go: it was not asked whether they may stop together, which counts as no"},
		"Ceph lets two go": {5, func(w *world) {
			w.s.Max.Count = 2
			w.s.Ceph = &Ceph{OSDs: map[string][]int{"pve1": {0}, "pve2": {1}, "pve3": {2}}, Stop: []StopAnswer{
				{[]string{"pve1", "pve2"}, false, "unsafe to stop osd(s)"}, {[]string{"pve1", "pve3"}, true, ""}, {[]string{"pve2"}, true, ""},
			}}
		}, [][]string{{"pve1", "pve3"}, {"pve2", "pve4"}, {"pve5"}}, "no more than 2 at once"},
		"memory": {5, func(w *world) {
			w.s.Max.Count = 2
			w.guest(100, "pve1", 40*gib).guest(101, "pve2", 40*gib).guest(103, "pve4", 30*gib).guest(104, "pve5", 30*gib)
			for _, n := range []string{"pve3", "pve4", "pve5"} {
				w.node(n).Idle = "nothing to do"
			}
		}, [][]string{{"pve1"}, {"pve2"}}, "with 2 at once, guests would find no place"},
		"guests that can go nowhere keep no others": {5, func(w *world) {
			w.s.Max.Count = 2
			w.guest(100, "pve1", gib, device).guest(101, "pve2", gib)
		}, [][]string{{"pve3", "pve4"}, {"pve5", "pve1"}, {"pve2"}}, "no more than 2 at once"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(nodes(tt.nodes)...)
			tt.prepare(w)
			p := w.prove()
			require.Equal(t, tt.want, rounds(p), "%v", p.Blocks)
			require.Equal(t, tt.why, p.Rounds[0].Why)
		})
	}
}

func TestWhatMayBeginBesideNodesThatAreAway(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(w *world)
		next    []string
		why     string
	}{
		"none is away":    {func(w *world) { w.s.Away = nil }, []string{"pve1", "pve2"}, ""},
		"one more":        {func(*world) {}, []string{"pve1"}, ""},
		"no more at once": {func(w *world) { w.s.Max.Count = 1 }, []string{}, "no more than 1 may be away at once"},
		"no more of its site": {func(w *world) {
			w.s.Max = Limit{Count: 1, PerSite: true}
			w.node("pve1").Site, w.node("pve2").Site = "b", "b"
			w.node("pve4").Site = "b"
		}, []string{"pve1"}, ""},
		"votes":           {func(w *world) { w.s.Ballot.Nodes[4].Votes = 3 }, []string{"pve1"}, ""},
		"too few votes":   {func(w *world) { w.s.Ballot.Nodes[2].Votes = 3 }, []string{}, "without pve1, pve3 3 of 7 votes would be left, 1 short"},
		"the first alone": {func(w *world) { w.s.Canary = 1 }, []string{}, "the first go alone"},
		"none is left": {func(w *world) {
			for _, n := range []string{"pve1", "pve2", "pve4", "pve5"} {
				w.node(n).Idle = "done"
			}
		}, []string{}, "no node is left"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(nodes(5)...)
			w.guest(100, "pve1", 8*gib)
			w.s.Max.Count, w.s.Away = 2, []string{"pve3"}
			if name != "none is away" {
				w.guest(101, "pve2", 16*gib)
			} else {
				w.s.Site.Guests, w.s.Site.Nodes["pve1"].Running = nil, nil
			}
			w.guest(102, "pve4", 16*gib).guest(103, "pve5", 16*gib)
			tt.prepare(w)
			p := w.prove()
			require.Equal(t, tt.next, p.Next)
			require.Equal(t, tt.why, p.Why)
			require.Equal(t, len(w.s.Away) == 0, slices.Contains(p.Order, "pve3"))
			if len(p.Next) > 0 && len(w.s.Away) > 0 {
				for _, g := range p.Rounds[0].Steps[0].Guests {
					require.NotEqual(t, "pve3", g.To)
				}
			}
		})
	}
}

func TestNodesThatGoTogetherTakeNoGuestsOfEachOther(t *testing.T) {
	w := newWorld(nodes(6)...)
	for i, n := range nodes(6) {
		w.guest(100+i, n, 8*gib)
	}
	w.s.Max.Count = 2
	p := w.prove()
	require.Empty(t, p.Blocks)
	for _, r := range p.Rounds {
		require.Len(t, r.Nodes, 2)
		require.Len(t, r.Headroom, 4)
		require.Equal(t, "votes, Ceph and memory bear that it goes at the same time", r.Steps[1].Why)
		for _, s := range r.Steps {
			for _, g := range s.Guests {
				require.NotContains(t, r.Nodes, g.To)
			}
		}
	}
}

// A node that failed in the run is out: it holds its place in its site, it takes no guests, its votes and OSDs are gone, and that its
// daemons are down stops nothing by itself.
func TestNodesThatHaveFailedCountAsOut(t *testing.T) {
	failed := func(names ...string) *world {
		w := newWorld(nodes(6)...)
		w.s.Max, w.s.Failed = Limit{Count: 1, PerSite: true}, names
		for _, n := range []string{"pve4", "pve5", "pve6"} {
			w.node(n).Site = "b"
		}
		return w
	}
	t.Run("the other site goes on", func(t *testing.T) {
		w := failed("pve1")
		p := w.prove()
		require.Equal(t, []string{"pve4"}, p.Next)
		require.Empty(t, p.Against("pve4"))
		require.NotEmpty(t, p.Against("pve2"))
		require.Equal(t, AwayGate, p.Against("pve2")[0].Gate)
		require.Contains(t, p.Against("pve2")[0].Saw, "pve1 is out already, having failed in this run")
	})
	t.Run("beside one that is away", func(t *testing.T) {
		w := failed("pve1")
		w.s.Away = []string{"pve4"}
		p := w.prove()
		require.Empty(t, p.Next)
		require.Contains(t, p.Why, "no more than 1 may be away at once")
	})
	t.Run("without sites the number is not for the proof", func(t *testing.T) {
		w := failed("pve1")
		w.s.Max = Limit{Count: 1}
		require.Empty(t, w.prove().Against("pve2"))
	})
	t.Run("votes", func(t *testing.T) {
		w := failed("pve1", "pve4")
		w.s.Max = Limit{Count: 1}
		require.Contains(t, w.prove().Against("pve2")[0].Saw, "without pve1, pve2, pve4 3 of 6 votes would be left, 1 short")
	})
	t.Run("Ceph", func(t *testing.T) {
		w := failed("pve1")
		w.s.Max = Limit{Count: 1}
		w.s.Ceph = &Ceph{
			Monitors: []string{"pve1", "pve3", "pve5"}, Quorum: []string{"pve3", "pve5"}, OSDs: map[string][]int{"pve1": {0}, "pve2": {1}, "pve6": {5}}, Down: []int{0},
			Stop: []StopAnswer{{Nodes: []string{"pve2"}, OK: true}, {Nodes: []string{"pve6", "pve1"}, OK: true}, {Nodes: []string{"pve4", "pve1"}, OK: true}},
		}
		p := w.prove()
		require.Contains(t, p.Against("pve2")[0].Saw, "Ceph does not let pve1, pve2 go: it was not asked whether they may stop together")
		require.Empty(t, p.Against("pve6"))
		require.Contains(t, p.Against("pve3")[0].Saw, "without pve1, pve3 1 of 3 monitors would be left")
		w.s.Failed = nil
		w.s.Nodes = w.s.Nodes[1:]
		require.Contains(t, w.prove().Against("pve6")[0].Saw, "OSDs 0 are down or out")
	})
	t.Run("it is no target", func(t *testing.T) {
		w := failed("pve1")
		w.guest(100, "pve2", gib)
		for _, p := range Targets(w.s, "pve2", []string{"pve1"}) {
			require.NotEqual(t, "pve1", p.To)
		}
	})
}
