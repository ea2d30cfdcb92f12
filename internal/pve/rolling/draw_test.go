package rolling

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"pgregory.net/rapid"
)

// anyWorld draws a cluster with guests of every kind, rules and policies. Much of what comes out does not fit, and must say so.
func anyWorld(t *rapid.T) *world {
	var names []string
	for i := range rapid.IntRange(1, 6).Draw(t, "nodes") {
		names = append(names, fmt.Sprintf("pve%d", i+1))
	}
	w := newWorld(names...)
	versions := []string{"10.0.2-4", "10.1.2-1", "9.2.0-7"}
	for _, name := range names {
		n := w.s.Site.Nodes[name]
		n.Memory = int64(rapid.IntRange(8, 64).Draw(t, "memory")) * gib
		n.QEMU = rapid.SampledFrom(versions[:2]).Draw(t, "qemu")
		if rapid.IntRange(0, 9).Draw(t, "other processor") == 0 {
			n.Vendor = "AuthenticAMD"
		}
		node := w.node(name)
		node.Site = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "site")
		switch rapid.IntRange(0, 5).Draw(t, "work") {
		case 0:
			node.Idle = "nothing to upgrade, no reboot needed"
		case 1:
			node.Work = Work{Packages: 3, Reboot: No}
		case 2:
			node.Canary = true
		}
	}
	for i := range rapid.IntRange(0, 20).Draw(t, "guests") {
		drawGuest(t, w, 100+i, rapid.SampledFrom(names).Draw(t, "on"), names)
	}
	drawRules(t, w, names)
	s := &w.s
	policies := []Policy{"", Migrate, MigrateWithDisks, Shutdown, RestartContainer, Leave, Refuse}
	s.Policies = Policies{
		Default: rapid.SampledFrom(policies).Draw(t, "default"), Containers: rapid.SampledFrom(policies).Draw(t, "containers"),
		Tags:   map[string]Policy{"db": rapid.SampledFrom(policies).Draw(t, "tag")},
		Guests: map[int]Policy{101: rapid.SampledFrom(policies).Draw(t, "guest 101")},
	}
	s.Return = rapid.SampledFrom([]Return{"", ReturnNever, ReturnMoved, ReturnBalanced}).Draw(t, "return")
	s.Max = Limit{Count: rapid.IntRange(0, 3).Draw(t, "max"), Percent: rapid.SampledFrom([]int{0, 20, 50}).Draw(t, "percent"), PerSite: rapid.Bool().Draw(t, "per site")}
	s.Canary = rapid.IntRange(0, 2).Draw(t, "canary")
	s.Reserve = Reserve{Percent: rapid.SampledFrom([]int{0, 10}).Draw(t, "reserve")}
	if rapid.Bool().Draw(t, "qdevice") {
		s.Ballot.Device, s.Ballot.DeviceOnline = 1, rapid.Bool().Draw(t, "qdevice votes")
	}
	if rapid.IntRange(0, 3).Draw(t, "ceph") == 0 {
		drawCeph(t, w, names)
	}
	if rapid.IntRange(0, 4).Draw(t, "some away") == 0 {
		s.Away = []string{rapid.SampledFrom(names).Draw(t, "away")}
	}
	drawTroubles(t, w, names)
	return w
}

// drawTroubles draws nodes that are not as they should be.
func drawTroubles(t *rapid.T, w *world, names []string) {
	name := rapid.SampledFrom(names).Draw(t, "troubled")
	switch rapid.IntRange(0, 12).Draw(t, "trouble") {
	case 0:
		w.s.Failed = []string{name}
	case 1:
		w.s.Done = []string{name}
	case 2:
		w.managed(0).s.Site.HA.Manager.Maintenance = []string{name}
	case 3:
		w.s.Site.Members.Nodes[0].Online, w.s.Ballot.Nodes[0].Online = false, false
	case 4:
		w.s.Site.Nodes[name].Err = errors.New("ssh: no answer")
	case 5:
		w.s.Space = map[string]map[string]int64{name: {"local-zfs": int64(rapid.IntRange(0, 400).Draw(t, "space")) * gib}}
	case 6:
		for i := range w.s.Site.Guests {
			w.s.Site.Guests[i].Lock = rapid.SampledFrom([]string{"", "", "backup"}).Draw(t, "lock")
		}
	}
}

// closed reports whether a node takes no guests at all. Maintenance of a node of the run ends with its own turn.
func (w *world) closed(name string, done []string) bool {
	manager := w.s.Site.HA.Manager
	return slices.Contains(w.s.Failed, name) || !w.s.Site.Members.Online(name) || w.s.Site.Nodes[name].Err != nil ||
		manager != nil && slices.Contains(manager.Maintenance, name) && !slices.Contains(done, name)
}

// outAnyway are nodes that are out without the run's doing.
func (w *world) outAnyway() (out []string) {
	for _, n := range w.s.Nodes {
		manager := w.s.Site.HA.Manager
		left := n.Idle != "" || slices.Contains(w.s.Done, n.Name)
		maintained := manager != nil && slices.Contains(manager.Maintenance, n.Name)
		if !slices.Contains(w.s.Failed, n.Name) && !slices.Contains(w.s.Away, n.Name) && (!w.s.Site.Members.Online(n.Name) || maintained && left) {
			out = append(out, n.Name)
		}
	}
	return out
}

func drawGuest(t *rapid.T, w *world, id int, node string, names []string) {
	change := []func(*guest.Guest){}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		change = append(change, stopped)
	case 1, 2:
		change = append(change, container)
	case 3:
		change = append(change, local)
	case 4:
		change = append(change, device)
	case 5:
		change = append(change, template)
	case 6:
		change = append(change, func(g *guest.Guest) {
			g.Jobs = []guest.Job{{ID: fmt.Sprintf("%d-0", id), Target: rapid.SampledFrom(names).Draw(t, "replicated to")}}
		})
	case 7:
		change = append(change, func(g *guest.Guest) { g.CPU = "host" })
	}
	if rapid.IntRange(0, 3).Draw(t, "tagged") == 0 {
		change = append(change, tagged("db"))
	}
	w.guest(id, node, int64(rapid.IntRange(1, 16).Draw(t, "gib"))*gib, change...)
	g := w.s.Site.Guests[len(w.s.Site.Guests)-1]
	if g.Status == "running" && rapid.IntRange(0, 2).Draw(t, "ha") == 0 {
		w.managed(id, func(r *ha.Resource) { r.Failback = rapid.Bool().Draw(t, "failback") })
	}
}

func drawRules(t *rapid.T, w *world, names []string) {
	var sids []string
	for _, r := range w.s.Site.HA.Resources {
		sids = append(sids, r.SID)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "rules") {
		if len(sids) < 2 {
			return
		}
		r := ha.Rule{ID: fmt.Sprintf("rule%d", i), Type: ha.ResourceAffinity, Affinity: ha.Negative, Resources: rapid.SliceOfNDistinct(rapid.SampledFrom(sids), 2, 2, rapid.ID).Draw(t, "resources")}
		switch rapid.IntRange(0, 2).Draw(t, "rule") {
		case 0:
			r.Affinity = ha.Positive
		case 1:
			r.Type, r.Affinity, r.Strict, r.Nodes = ha.NodeAffinity, "", rapid.Bool().Draw(t, "strict"), ha.Nodes{}
			for range rapid.IntRange(1, 2).Draw(t, "rule's nodes") {
				r.Nodes[rapid.SampledFrom(names).Draw(t, "rule's node")] = rapid.IntRange(0, 2).Draw(t, "priority")
			}
		}
		slices.Sort(r.Resources)
		w.rule(r)
	}
}

func drawCeph(t *rapid.T, w *world, names []string) {
	c := &Ceph{Monitors: names, Quorum: names, OSDs: map[string][]int{}, Manager: names[0]}
	for i, name := range names {
		c.OSDs[name] = []int{i}
		c.Stop = append(c.Stop, StopAnswer{Nodes: []string{name}, OK: rapid.IntRange(0, 4).Draw(t, "ok to stop") > 0, Said: "unsafe to stop osd(s) at this time"})
	}
	if rapid.Bool().Draw(t, "pairs") && len(names) > 1 {
		c.Stop = append(c.Stop, StopAnswer{Nodes: names[:2], OK: true})
	}
	w.s.Ceph = c
}
