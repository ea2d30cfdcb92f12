package rolling

import (
	"testing"

	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/stretchr/testify/require"
)

func affinity(strict bool, nodes ha.Nodes, sids ...string) ha.Rule {
	return ha.Rule{ID: "where", Type: ha.NodeAffinity, Nodes: nodes, Strict: strict, Resources: sids}
}

func between(kind string, sids ...string) ha.Rule {
	return ha.Rule{ID: kind, Type: ha.ResourceAffinity, Affinity: kind, Resources: sids}
}

// pve1 is emptied; vm 100 is under HA there.
func TestTheHAManagersChoiceIsForetold(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(w *world)
		to      string
		why     string
	}{
		"the fewest services": {func(w *world) {
			w.guest(101, "pve2", gib).guest(102, "pve3", gib).guest(103, "pve4", gib).managed(101).managed(103)
		}, "pve3", "the node with the fewest HA services; the HA manager decides"},
		"guests that are not under HA do not count": {func(w *world) {
			w.guest(101, "pve2", 50*gib).guest(102, "pve3", gib).managed(102)
		}, "pve2", "the node with the fewest HA services; the HA manager decides"},
		"services that do not run do not count": {func(w *world) {
			w.guest(101, "pve2", gib).managed(101, func(r *ha.Resource) { r.State = "stopped" })
		}, "pve2", "the node with the fewest HA services; the HA manager decides"},
		"a static scheduler looks at memory": {func(w *world) {
			w.guest(101, "pve2", 50*gib).guest(102, "pve3", 40*gib).managed(102).guest(103, "pve4", 45*gib)
			w.s.Scheduler = "static"
		}, "pve3", "the node with the most memory left, as the static scheduler weighs it; the HA manager decides"},
		"the highest priority of its affinity": {func(w *world) {
			w.rule(affinity(true, ha.Nodes{"pve1": 9, "pve3": 1, "pve4": 2}, "vm:100"))
		}, "pve4", "of the nodes of its affinity with priority 2; the HA manager decides"},
		"the next priority when the first is not there": {func(w *world) {
			w.rule(affinity(true, ha.Nodes{"pve1": 9, "pve3": 1, "pve4": 2}, "vm:100"))
			w.s.Site.HA.Manager.Nodes["pve4"] = "unknown"
		}, "pve3", "of the nodes of its affinity with priority 1; the HA manager decides"},
		"outside of its affinity if that is not strict": {func(w *world) {
			w.rule(affinity(false, ha.Nodes{"pve1": 1}, "vm:100"))
		}, "pve2", "no node of its affinity is there, and the affinity is not strict; the HA manager decides"},
		"nowhere if it is strict": {func(w *world) {
			w.rule(affinity(true, ha.Nodes{"pve1": 1}, "vm:100"))
		}, "", "the HA manager has nowhere to put it: its node affinity is strict and leaves it no node that is online; it would stay on the node"},
		"a rule that is off says nothing": {func(w *world) {
			r := affinity(true, ha.Nodes{"pve1": 1}, "vm:100")
			r.Disabled = true
			w.rule(r)
		}, "pve2", "the node with the fewest HA services; the HA manager decides"},
		"a group of Proxmox VE 8": {func(w *world) {
			w.s.Site.HA.Groups = []ha.Group{{Name: "g", Nodes: ha.Nodes{"pve1": 2, "pve4": 1}, Restricted: true}}
			w.s.Site.HA.Resources[0].Group = "g"
		}, "pve4", "of the nodes of its affinity with priority 1; the HA manager decides"},
		"together": {func(w *world) {
			w.guest(101, "pve4", gib).managed(101).rule(between(ha.Positive, "vm:100", "vm:101"))
		}, "pve4", "with those that it must stay together with; the HA manager decides"},
		"together by way of a third": {func(w *world) {
			w.guest(101, "pve3", gib).guest(102, "pve3", gib).managed(101).managed(102)
			r := between(ha.Positive, "vm:101", "vm:102")
			r.ID = "other"
			w.rule(between(ha.Positive, "vm:100", "vm:101")).rule(r)
		}, "pve3", "with those that it must stay together with; the HA manager decides"},
		"apart": {func(w *world) {
			w.guest(101, "pve2", gib).guest(102, "pve3", gib).guest(103, "pve4", gib).guest(104, "pve4", gib)
			w.managed(101).managed(102).managed(103).managed(104)
			w.rule(between(ha.Negative, "vm:100", "vm:101", "vm:102"))
		}, "pve4", "the node with the fewest HA services; the HA manager decides"},
		"apart from services on every node": {func(w *world) {
			w.guest(101, "pve2", gib).guest(102, "pve3", gib).guest(103, "pve4", gib)
			w.managed(101).managed(102).managed(103).rule(between(ha.Negative, "vm:100", "vm:101", "vm:102", "vm:103"))
		}, "", "the HA manager has nowhere to put it: services that it must be apart from are on every node that is left; it would stay on the node"},
		"without room there": {func(w *world) {
			w.guest(101, "pve2", 60*gib)
		}, "", "the HA manager would put it on pve2, which has 4 GiB left for its 8 GiB: 4 GiB short"},
		"disarmed": {func(w *world) { w.s.Site.HA.Manager.Disarmed = "freeze" }, "", "the HA manager would put it on pve2: the HA stack is disarmed (freeze): commands are ignored"},
		"in error": {func(w *world) { w.s.Site.Guests[0].Managed.Service.State = "error" }, "", "the HA manager would put it on pve2: the HA manager has it in state error: it does nothing with it"},
		"a storage that is not there": {func(w *world) { w.s.Site.Storages[0].Values["nodes"] = "pve1,pve3" }, "",
			"the HA manager would put it on pve2: storage san of san:100/vm-100-disk-0.raw is not available on pve2"},
		"a node that was not asked": {func(w *world) { delete(w.s.Site.Nodes, "pve2") }, "", "the HA manager would put it on pve2, and pve2 was not asked what it has"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld("pve1", "pve2", "pve3", "pve4")
			w.guest(100, "pve1", 8*gib).managed(100)
			tt.prepare(w)
			g := Targets(w.s, "pve1", nil)[0]
			require.Equal(t, tt.why, g.Why)
			require.Equal(t, tt.to, g.To)
			require.True(t, g.ByHA)
			require.Equal(t, tt.to == "", g.Fate == Blocked)
		})
	}
}

func TestServicesFollowEachOther(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3", "pve4")
	for id := 100; id < 104; id++ {
		w.guest(id, "pve1", gib).managed(id)
	}
	w.rule(between(ha.Positive, "vm:100", "vm:101")).rule(between(ha.Negative, "vm:102", "vm:103"))
	plans := Targets(w.s, "pve1", nil)
	require.Equal(t, plans[0].To, plans[1].To)
	require.NotEqual(t, plans[2].To, plans[3].To)
}

func TestPoliciesOfGuestsUnderHA(t *testing.T) {
	for name, tt := range map[string]struct {
		policy  Policy
		prepare func(w *world)
		fate    Fate
		why     string
	}{
		"shut down through the HA manager": {Shutdown, func(*world) {}, StopsIt, "its policy is to be shut down"},
		"leave cannot be, it is moved":     {Leave, func(*world) {}, Moves, "the node with the fewest HA services; the HA manager decides"},
		"leave, and it has nowhere to go":  {Leave, func(w *world) { w.rule(affinity(true, ha.Nodes{"pve1": 1}, "vm:100")) }, Stays, "it cannot move: the HA manager has nowhere to put it: its node affinity is strict and leaves it no node that is online; it would stay on the node"},
		"block":                            {Refuse, func(*world) {}, Blocked, "its policy is block, and it runs"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld("pve1", "pve2", "pve3")
			w.guest(100, "pve1", 8*gib).managed(100)
			w.s.Policies.Guests = map[int]Policy{100: tt.policy}
			tt.prepare(w)
			g := Targets(w.s, "pve1", nil)[0]
			require.Equal(t, tt.fate, g.Fate)
			require.Equal(t, tt.why, g.Why)
		})
	}
}

// The HA manager copies local disks and restarts containers without being asked: policies must allow it.
func TestTheHAManagerMayNotDoWhatPoliciesForbid(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 8*gib, local).guest(101, "pve1", 8*gib, container).managed(100).managed(101)
	for _, g := range Targets(w.s, "pve1", nil) {
		require.Equal(t, Blocked, g.Fate, g.Guest)
	}
	w.s.Policies = Policies{Default: MigrateWithDisks, Containers: RestartContainer}
	plans := Targets(w.s, "pve1", nil)
	require.Equal(t, []Fate{Moves, Moves}, []Fate{plans[0].Fate, plans[1].Fate})
	require.Equal(t, 100*gib, plans[0].DiskBytes)
	require.True(t, plans[1].Stopping())
}

func TestRulesThatContradictEachOtherAreIgnoredAndTold(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", gib).guest(101, "pve2", gib).managed(100).managed(101)
	w.rule(between(ha.Positive, "vm:100", "vm:101")).rule(between(ha.Negative, "vm:100", "vm:101"))
	p := w.prove()
	require.Empty(t, p.Blocks)
	require.Len(t, p.Warnings, 1)
	require.Contains(t, p.Warnings[0], "the HA manager ignores rules that contradict each other")
	require.Equal(t, "pve3", plan(t, p, "pve1", 100).To)
}

func TestServicesGoHomeByThemselves(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve2", gib).guest(101, "pve2", gib).guest(102, "pve2", gib)
	w.managed(100).managed(101, func(r *ha.Resource) { r.Failback = false })
	w.s.Return = ReturnNever
	p := w.prove()
	require.Empty(t, p.Blocks)
	s, _ := p.Step("pve2")
	require.Len(t, s.Home, 2, "102 is not under HA")
	require.Equal(t, 100, s.Home[0].ID)
	require.Equal(t, "pve2", s.Home[0].To)
	require.Equal(t, "the HA manager brings it back", s.Home[0].Why)
	require.Equal(t, Stays, s.Home[1].Fate)
	require.Equal(t, "the HA manager does not bring it back: its failback is off", s.Home[1].Why)
	require.Contains(t, p.MayChange, "Where guests under HA go is for the HA manager to decide; the plan foretells it by its rules.")
}

func TestAServiceThatCannotGoBackBlocks(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve2", gib).managed(100)
	w.s.Site.Guests[0].CPU = "host"
	w.s.Site.Nodes["pve1"].Flags = map[string]bool{"sse4_2": true, "avx": true}
	w.s.Site.Nodes["pve3"].Flags = map[string]bool{"sse4_2": true, "avx": true}
	p := w.prove()
	require.NotEmpty(t, p.Blocks)
	require.Equal(t, "pve2: vm 100 (g100): the HA manager would bring it back to pve2, where it cannot go: its processor is the node's own (cpu: host), and pve2 lacks the flag avx", p.Blocks[0].String())
	require.Equal(t, HAGate, p.Blocks[0].Gate)
}

func TestServicesThatLeftCountNoMore(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	stay := func(r *ha.Resource) { r.Failback = false }
	w.guest(100, "pve2", gib).guest(101, "pve2", gib).guest(102, "pve3", 8*gib).guest(103, "pve1", gib).guest(104, "pve1", gib)
	for id := 100; id < 105; id++ {
		w.managed(id, stay)
	}
	p := w.prove()
	require.Empty(t, p.Blocks)
	require.Equal(t, "pve2", p.Order[0])
	require.Equal(t, "pve2", plan(t, p, "pve3", 102).To, "both of its services are elsewhere and stay there")
}

func TestWhatTheHAManagerDoesAlreadyIsWaitedFor(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", gib).guest(101, "pve1", gib).managed(100).managed(101)
	w.s.Site.HA.Manager.Maintenance = []string{"pve1"}
	w.s.Site.Guests[0].Managed.Service = ha.Service{Node: "pve1", State: "migrate", Target: "pve3", MaintenanceNode: "pve1"}
	w.s.Site.Guests[0].Lock = "migrate"
	w.s.Site.Guests[1].Managed.Service.State = "request_start"
	plans := Targets(w.s, "pve1", nil)
	require.Equal(t, "pve3", plans[0].To)
	require.Equal(t, "it is on its way there; the HA manager decides", plans[0].Why)
	require.Equal(t, []string{"it is locked now (migrate): that is waited for", "the HA manager is at work on it (migrate): that is waited for"}, plans[0].Notes)
	require.Equal(t, "pve2", plans[1].To)

	w.s.Site.Guests[1].Managed.Service.State = "recovery"
	require.Equal(t, Blocked, Targets(w.s, "pve1", nil)[1].Fate)
}
