package rolling

import (
	"fmt"
	"testing"

	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/stretchr/testify/require"
)

// Guest 100 of 8 GiB leaves pve1. pve2 has the most memory left; what speaks against it makes the guest go to pve3.
func TestTargetsAreNodesThatCanTakeTheGuest(t *testing.T) {
	for name, tt := range map[string]struct {
		guest   func(*guest.Guest)
		prepare func(w *world)
		want    string
		says    string
	}{
		"the most memory left": {nil, func(*world) {}, "pve2", ""},
		"offline":              {nil, func(w *world) { w.s.Site.Members.Nodes[1].Online = false; w.s.Failed = []string{"pve2"} }, "pve3", "pve2: is offline"},
		"not asked":            {nil, func(w *world) { delete(w.s.Site.Nodes, "pve2") }, "pve3", "pve2: was not asked what it has"},
		"failed before":        {nil, func(w *world) { w.s.Failed = []string{"pve2"} }, "pve3", "pve2: failed, and its state is not known"},
		"no bridge":            {nil, func(w *world) { w.s.Site.Nodes["pve2"].Interfaces = nil }, "pve3", "pve2: has no bridge vmbr0"},
		"older": {nil, func(w *world) { w.s.Site.Nodes["pve2"].QEMU = "9.2.0-7" }, "pve3",
			"pve2: runs an older version than pve1: QEMU 9.2.0-7 and 10.0.2-4, pve-manager 9.0.11 and 9.0.11"},
		"newer":       {nil, func(w *world) { w.s.Site.Nodes["pve2"].QEMU = "10.1.2-1" }, "pve2", ""},
		"no storage":  {nil, func(w *world) { w.s.Site.Storages[0].Values["nodes"] = "pve1,pve3" }, "pve3", "pve2: storage san of san:100/vm-100-disk-0.raw is not available on pve2"},
		"replicated":  {func(g *guest.Guest) { g.Jobs = []guest.Job{{ID: "100-0", Target: "pve3"}} }, func(*world) {}, "pve3", ""},
		"other maker": {func(g *guest.Guest) { g.CPU = "host" }, func(w *world) { w.s.Site.Nodes["pve2"].Model = "Epyc" }, "pve3", `its processor is the node's own (cpu: host), and pve2 has "Epyc" where pve1 has "Xeon"`},
		"Proxmox VE refuses": {nil, func(w *world) {
			w.s.Preconditions = map[int]guest.Preconditions{100: {Not: map[string][]string{"pve2": {"vm:101 keeps it away by a rule (resource-affinity)"}}}}
		}, "pve3", "Proxmox VE says of pve2: vm:101 keeps it away by a rule (resource-affinity)"},
		"room on the storage": {local, func(w *world) {
			w.s.Policies.Default = MigrateWithDisks
			w.s.Space = map[string]map[string]int64{"pve2": {"local-zfs": 60 * gib}, "pve3": {"local-zfs": 200 * gib}}
		}, "pve3", "storage local-zfs of pve2 is 40 GiB short of what would be copied to it"},
		"ARC of ZFS": {nil, func(w *world) { w.node("pve2").ReserveBytes = 58 * gib }, "pve3", "pve2: 6 GiB left, 2 GiB short"},
		"reserve":    {nil, func(w *world) { w.s.Site.Nodes["pve2"].Memory = 15 * gib; w.s.Reserve.Bytes = 8 * gib }, "pve3", "pve2: 7 GiB left, 1 GiB short"},
		"half":       {nil, func(w *world) { w.s.Site.Nodes["pve2"].Memory = 15 * gib; w.s.Reserve.Percent = 50 }, "pve3", "pve2: 7.5 GiB left, 512 MiB short"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld("pve1", "pve2", "pve3")
			change := []func(*guest.Guest){}
			if tt.guest != nil {
				change = append(change, tt.guest)
			}
			w.guest(100, "pve1", 8*gib, change...).guest(101, "pve3", 16*gib)
			tt.prepare(w)
			require.Equal(t, tt.want, Targets(w.s, "pve1", nil)[0].To)
			if tt.says == "" {
				return
			}
			// With pve3 gone as well, the message names what speaks against pve2.
			w.s.Site.Members.Nodes[2].Online = false
			g := Targets(w.s, "pve1", nil)[0]
			require.Equal(t, Blocked, g.Fate)
			require.Contains(t, g.Blocks[0].Saw, tt.says)
			require.Contains(t, g.Blocks[0].Saw, "pve3: is offline")
		})
	}
}

func TestWhatIsShortIsSaidInNumbers(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 48*gib).guest(101, "pve2", 40*gib).guest(102, "pve3", 30*gib)
	p := w.prove()
	g := plan(t, p, "pve1", 100)
	require.Equal(t, MemoryGate, g.Blocks[0].Gate)
	require.Equal(t, 14*gib, g.Blocks[0].ShortBytes)
	require.Equal(t, "14 GiB short of its 48 GiB at the least; no node can take it: pve2: 24 GiB left, 24 GiB short; pve3: 34 GiB left, 14 GiB short", g.Blocks[0].Saw)
	require.Equal(t, 3, len(p.Blocks), "nor do the other nodes find room")

	w.s.Policies.Default = Shutdown
	require.Equal(t, Blocked, plan(t, w.prove(), "pve1", 100).Fate, "memory that is short stops no guest of which nothing was said")
	w.s.Overcommit = true
	p = w.prove()
	require.Empty(t, p.Blocks)
	require.Contains(t, plan(t, p, "pve3", 102).Why, "it has promised more than it has")
	require.Equal(t, Headroom{"pve2", -6 * gib}, p.Rounds[0].Least)
}

func TestBigGuestsFindRoomBesideSmallOnes(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	// Spread over both, the small ones would leave no room for the big one: it goes first.
	w.guest(100, "pve1", 8*gib).guest(101, "pve1", 8*gib).guest(102, "pve1", 40*gib)
	w.s.Site.Nodes["pve2"].Memory, w.s.Site.Nodes["pve3"].Memory = 40*gib, 16*gib
	p := Targets(w.s, "pve1", nil)
	require.Equal(t, []string{"pve3", "pve3", "pve2"}, []string{p[0].To, p[1].To, p[2].To})
}

// 12+12 and 9+8 fill both nodes; neither giving each guest the emptiest node nor the fullest finds that.
func TestAllWaysAreTriedBeforeAGuestIsLeftWithoutAPlace(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	for i, memory := range []int64{12, 12, 9, 8} {
		w.guest(100+i, "pve1", memory*gib)
	}
	w.s.Site.Nodes["pve2"].Memory, w.s.Site.Nodes["pve3"].Memory = 18*gib, 25*gib
	for _, g := range Targets(w.s, "pve1", nil) {
		require.Equal(t, Moves, g.Fate, "%s: %s", g.Guest, g.Why)
	}

	// Where that would take too long, those with the fewest nodes to choose from still go first.
	w = newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 10*gib).guest(101, "pve1", 4*gib)
	w.s.Site.Guests[1].Bridges = []string{"vmbr7"}
	w.s.Site.Nodes["pve2"].Interfaces = []string{"vmbr0", "vmbr7"}
	w.s.Site.Nodes["pve2"].Memory, w.s.Site.Nodes["pve3"].Memory = 12*gib, 12*gib
	m := newSim(&w.s)
	m.places[0].out, m.searched = true, searchRun
	for _, l := range m.drain([]int{0}) {
		require.Equal(t, Moves, l.plan.Fate, "%s: %s", l.plan.Guest, l.plan.Why)
	}
}

// What others of the same node take of a storage is not there any more.
func TestRoomOnStoragesIsGivenOnce(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 4*gib, local).guest(101, "pve1", 4*gib, local).guest(102, "pve1", 4*gib, local)
	w.s.Policies.Default = MigrateWithDisks
	w.s.Space = map[string]map[string]int64{"pve2": {"local-zfs": 120 * gib}, "pve3": {"local-zfs": 150 * gib}}
	got := map[string]int{}
	for _, g := range Targets(w.s, "pve1", nil) {
		got[g.To]++
	}
	require.Equal(t, map[string]int{"pve2": 1, "pve3": 1, "": 1}, got)
	require.Equal(t, 120*gib, w.s.Space["pve2"]["local-zfs"], "the snapshot stays as it was")
}

// A machine of a node that was newer than the others from the beginning can leave it when another is upgraded.
func TestUpgradesOpenTheWayForNewerMachines(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 8*gib).guest(101, "pve2", 16*gib).guest(102, "pve3", 16*gib)
	w.s.Site.Nodes["pve1"].QEMU = "10.1.2-1"
	require.Equal(t, Blocked, Targets(w.s, "pve1", nil)[0].Fate)
	w.node("pve2").Canary = true
	p := w.prove()
	require.Empty(t, p.Blocks)
	require.Equal(t, "pve2", plan(t, p, "pve1", 100).To)

	w.node("pve2").Work.QEMU, w.node("pve2").Work.Manager = "", ""
	require.Empty(t, w.prove().Blocks, "what it will be is not known, but newer")
	w.node("pve2").Work, w.node("pve3").Work = Work{Reboot: Yes}, Work{Reboot: Yes}
	require.NotEmpty(t, w.prove().Blocks, "nothing is upgraded there")
}

// What Proxmox VE says of a node holds wherever the machine has come from by then.
func TestPreconditionsHoldForTheWholeRun(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 8*gib).guest(101, "pve2", 16*gib)
	w.s.Preconditions = map[int]guest.Preconditions{100: {Not: map[string][]string{"pve2": {"storage san is not available there"}}}}
	w.node("pve1").Canary = true
	p := w.prove()
	require.Equal(t, "pve3", plan(t, p, "pve1", 100).To)
	require.Equal(t, "pve1", plan(t, p, "pve3", 100).To)
	w.s.Preconditions[100] = guest.Preconditions{Refused: "VM is locked (backup)"}
	require.Equal(t, Blocked, plan(t, w.prove(), "pve1", 100).Fate)
	w.s.Site.Guests[0].Lock = "backup"
	require.Equal(t, Moves, plan(t, w.prove(), "pve1", 100).Fate, "that is waited for")
}

func TestGuestsArePackedWhenALaterNodeWouldFindNoRoom(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3", "pve4")
	// The small guests of pve1 must not be spread: pve2's big one needs one of the others whole.
	w.guest(100, "pve1", 10*gib).guest(101, "pve1", 10*gib).guest(102, "pve2", 60*gib)
	for _, name := range []string{"pve3", "pve4"} {
		w.node(name).Idle = "nothing to do"
	}
	w.node("pve1").Idle, w.s.Site.Nodes["pve1"].Memory = "", 24*gib
	p := w.prove()
	require.Empty(t, p.Blocks)
	require.True(t, p.Packed)
	require.Equal(t, plan(t, p, "pve1", 100).To, plan(t, p, "pve1", 101).To)
	require.Equal(t, plan(t, p, "pve1", 100), Targets(w.s, "pve1", nil)[0], "live too, as the situation names pve2")
	later := w.s.Nodes
	w.s.Nodes = later[:1]
	apart := Targets(w.s, "pve1", nil)
	require.NotEqual(t, apart[0].To, apart[1].To, "of its own accord, a node is not emptied so")
	w.s.Pack = p.Packed
	packed := Targets(w.s, "pve1", nil)
	require.Equal(t, packed[0].To, packed[1].To)
}

func TestGuestsAreSpreadEvenly(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3", "pve4", "pve5")
	for i := range 8 {
		w.guest(100+i, "pve1", 4*gib)
	}
	got := map[string]int{}
	for _, g := range Targets(w.s, "pve1", nil) {
		got[g.To]++
	}
	require.Equal(t, map[string]int{"pve2": 2, "pve3": 2, "pve4": 2, "pve5": 2}, got)
}

func TestReplicationTurnsRoundWithTheGuest(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 4*gib, func(g *guest.Guest) { g.Jobs = []guest.Job{{ID: "100-0", Target: "pve2"}} })
	w.guest(101, "pve3", 8*gib)
	w.node("pve1").Canary = true
	p := w.prove()
	require.Empty(t, p.Blocks)
	require.Equal(t, "pve2", plan(t, p, "pve1", 100).To)
	require.Contains(t, plan(t, p, "pve1", 100).Why, "the target of its replication")
	require.Equal(t, "pve1", plan(t, p, "pve2", 100).To, "it is replicated back to pve1 by then")
	require.Equal(t, "pve2", w.s.Site.Guests[0].Jobs[0].Target, "the snapshot stays as it was")

	// A container would be taken by any node, and lose its replication there.
	w.guest(102, "pve1", 4*gib, container, func(g *guest.Guest) { g.Jobs = []guest.Job{{ID: "102-0", Target: "pve9"}} })
	w.s.Policies.Containers = RestartContainer
	require.Equal(t, Blocked, plan(t, w.prove(), "pve1", 102).Fate)
}

// Every node of many lacks something: the message stays readable.
func TestMessagesNameAFewNodesOnly(t *testing.T) {
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("pve%02d", i))
	}
	w := newWorld(names...)
	w.guest(100, "pve00", 65*gib)
	w.s.Site.Nodes["pve00"].Memory = 128 * gib
	w.s.Site.Storages = append(w.s.Site.Storages, config.Section{Type: "dir", ID: "iso", Values: map[string]string{}})
	saw := Targets(w.s, "pve00", nil)[0].Blocks[0].Saw
	require.Contains(t, saw, "and 33 other nodes")
	require.Less(t, len(saw), 500)
}
