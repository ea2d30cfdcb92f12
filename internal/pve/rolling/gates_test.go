package rolling

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVotesWhileANodeIsAway(t *testing.T) {
	for name, tt := range map[string]struct {
		nodes   []string
		prepare func(w *world)
		votes   Votes
		saw     string
		short   int
	}{
		"three nodes":               {[]string{"pve1", "pve2", "pve3"}, func(*world) {}, Votes{2, 2, 0}, "", 0},
		"two nodes":                 {[]string{"pve1", "pve2"}, func(*world) {}, Votes{1, 2, 0}, "without pve1 1 of 2 votes would be left, 1 short", 1},
		"two nodes and a QDevice":   {[]string{"pve1", "pve2"}, func(w *world) { w.s.Ballot.Device, w.s.Ballot.DeviceOnline = 1, true }, Votes{2, 2, 1}, "", 0},
		"a QDevice that is away":    {[]string{"pve1", "pve2"}, func(w *world) { w.s.Ballot.Device = 1 }, Votes{1, 2, 0}, "without pve1 1 of 3 votes would be left, 1 short; the QDevice does not vote", 1},
		"four nodes":                {[]string{"pve1", "pve2", "pve3", "pve4"}, func(*world) {}, Votes{3, 3, 0}, "", 0},
		"a failed node counts not":  {[]string{"pve1", "pve2", "pve3"}, func(w *world) { w.s.Failed = []string{"pve3"} }, Votes{1, 2, 0}, "without pve1, pve3 1 of 3 votes would be left, 1 short", 1},
		"a node with three votes":   {[]string{"pve1", "pve2", "pve3"}, func(w *world) { w.s.Ballot.Nodes[0].Votes = 3 }, Votes{2, 3, 0}, "without pve1 2 of 5 votes would be left, 1 short", 1},
		"nobody knows who can vote": {[]string{"pve1", "pve2", "pve3"}, func(w *world) { w.s.Ballot.Nodes = nil }, Votes{0, 1, 0}, "who votes is not known", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(tt.nodes...)
			tt.prepare(w)
			p := w.prove()
			require.Equal(t, tt.votes, p.Rounds[0].Votes)
			if tt.saw == "" {
				require.Empty(t, p.Blocks)
				return
			}
			require.Equal(t, VotesGate, p.Blocks[0].Gate)
			require.Equal(t, tt.saw, p.Blocks[0].Saw)
			require.Equal(t, tt.short, p.Blocks[0].ShortVotes)
			require.Equal(t, "pve1", p.Blocks[0].Node)
		})
	}
}

// hyperconverged is three nodes with a monitor and two OSDs each, which may go one at a time.
func hyperconverged() *world {
	w := newWorld("pve1", "pve2", "pve3")
	names := []string{"pve1", "pve2", "pve3"}
	w.s.Ceph = &Ceph{Monitors: names, Quorum: names, OSDs: map[string][]int{"pve1": {0, 1}, "pve2": {2, 3}, "pve3": {4, 5}}}
	for _, name := range names {
		w.s.Ceph.Stop = append(w.s.Ceph.Stop, StopAnswer{Nodes: []string{name}, OK: true})
	}
	return w
}

func TestCephWhileANodeIsAway(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(c *Ceph)
		says    string // of the first round
		saw     []string
	}{
		"all is well": {func(*Ceph) {}, "2 of 3 monitors left, may stop", nil},
		"no part of it": {func(c *Ceph) {
			delete(c.OSDs, "pve1")
			c.Monitors = []string{"pve2", "pve3"}
			c.Quorum = c.Monitors
			c.Stop = append(c.Stop, StopAnswer{Nodes: []string{"pve2", "pve3"}, OK: true})
		}, "no part of Ceph", []string{"pve2: without pve2 1 of 2 monitors would be left, 1 short", "pve3: without pve3 1 of 2 monitors would be left, 1 short"}},
		"nothing is known":      {func(c *Ceph) { c.Unknown = "the monitors did not answer" }, "", []string{"the state of Ceph is not known: the monitors did not answer"}},
		"not clean":             {func(c *Ceph) { c.Dirty = "placement groups: 3 active+undersized" }, "2 of 3 monitors left, may stop", []string{"placement groups: 3 active+undersized"}},
		"it complains":          {func(c *Ceph) { c.Complaints = []string{"POOL_FULL: 1 pool full"} }, "2 of 3 monitors left, may stop", []string{"Ceph complains: POOL_FULL: 1 pool full"}},
		"OSDs are down":         {func(c *Ceph) { c.Down = []int{4, 5} }, "2 of 3 monitors left, may stop", []string{"OSDs 4 5 are down or out"}},
		"a monitor is silent":   {func(c *Ceph) { c.Quorum = []string{"pve1", "pve2"} }, "without pve1 1 of 3 monitors would be left, 1 short", []string{"the monitors of pve3 are not in the quorum", "pve1: without pve1 1 of 3 monitors would be left, 1 short", "pve2: without pve2 1 of 3 monitors would be left, 1 short"}},
		"it may not stop":       {func(c *Ceph) { c.Stop[0] = StopAnswer{[]string{"pve1"}, false, "12 PGs would become offline"} }, "Ceph does not let pve1 go: 12 PGs would become offline", []string{"pve1: Ceph does not let pve1 go: 12 PGs would become offline"}},
		"it was not asked":      {func(c *Ceph) { c.Stop = c.Stop[1:] }, "Ceph does not let pve1 go: it was not asked whether it may stop, which counts as no", []string{"pve1: Ceph does not let pve1 go: it was not asked whether it may stop, which counts as no"}},
		"one answer for all":    {func(c *Ceph) { c.Stop = []StopAnswer{{[]string{"pve1", "pve2", "pve3"}, true, ""}} }, "2 of 3 monitors left, may stop", nil},
		"only pools warn of it": {func(c *Ceph) { c.Warnings = []string{"pool vm keeps two copies"} }, "2 of 3 monitors left, may stop", nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := hyperconverged()
			tt.prepare(w.s.Ceph)
			p := w.prove()
			require.Equal(t, tt.says, p.Rounds[0].Ceph)
			var saw []string
			for _, b := range p.Blocks {
				require.Equal(t, CephGate, b.Gate)
				saw = append(saw, b.String())
			}
			require.Equal(t, tt.saw, saw)
			require.Equal(t, w.s.Ceph.Warnings, p.Warnings)
		})
	}
}

func TestWhatIsOutAlreadyCounts(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3", "pve4", "pve5")
	w.guest(100, "pve1", gib).managed(100)
	w.s.Site.HA.Manager.Maintenance = []string{"pve4"}
	w.node("pve4").Idle = "nothing to do"
	p := w.prove()
	require.Len(t, p.Blocks, 4, "one for each node")
	require.Equal(t, "pve2: pve4 is out already (offline or in maintenance), and not by this run", p.Blocks[0].String())
	require.Equal(t, AwayGate, p.Blocks[0].Gate)
	require.Equal(t, 3, p.Rounds[0].Votes.Left, "it may go down at any time")
	w.s.Tolerated = []string{"pve4"}
	p = w.prove()
	require.Empty(t, p.Blocks)
	require.Equal(t, 3, p.Rounds[0].Votes.Left, "that it is tolerated gives it no vote")
	w.s.Tolerated, w.s.Max.Count = nil, 2
	p = w.prove()
	require.Empty(t, p.Blocks)
	for _, r := range p.Rounds {
		require.Len(t, r.Nodes, 1)
	}

	w = newWorld("pve1", "pve2", "pve3", "pve4", "pve5")
	w.s.Site.Members.Nodes[3].Online, w.s.Ballot.Nodes[3].Online = false, false
	p = w.prove()
	require.Equal(t, AwayGate, p.Blocks[0].Gate)
	require.Contains(t, p.Against("pve4"), Block{
		Gate: UnknownGate, Node: "pve4", Saw: "pve4 is offline", Want: "a node that is there and answers", Look: "pvecm nodes; ssh pve4", Override: "leave it out",
	})
	w.s.Failed = []string{"pve4"}
	require.Empty(t, w.prove().Blocks, "who is known to have failed is left out of the number")
}

func TestWhatIsNotKnownBlocks(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.s.Site.Unread["storages"] = "no answer within its time limit"
	w.s.Site.Quorate = false
	w.s.Nodes = append(w.s.Nodes, Node{Name: "pve9"})
	p := w.prove()
	var saw []string
	for _, b := range p.Blocks {
		saw = append(saw, b.String())
	}
	require.Equal(t, []string{
		"pve9: pve9 is no node of the cluster", "the read of storages failed: no answer within its time limit", "the cluster is not quorate as pve1 sees it",
	}, saw)
}
