package ha

import (
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

// nine is a cluster of Proxmox VE 9 with three guests, of which vm:100 is under HA and vm:102 does not run.
func nine(change func(*world)) *world {
	w := &world{
		cluster: "lab", nodes: []string{"pve1", "pve2", "pve3"}, mode: ha.ByRules, actor: "pve1",
		State: &ha.State{
			From: "pve1", Quorate: true,
			Resources: []ha.Resource{{SID: "vm:100", State: "started", MaxRestart: 1, MaxRelocate: 1, Failback: true}},
			Guests:    []ha.Guest{{SID: "vm:100", Running: "running"}, {SID: "vm:101", Running: "running"}, {SID: "vm:102", Running: "stopped"}, {SID: "vm:103"}, {SID: "vm:104", Running: "stopped", Template: true}},
		},
	}
	if change != nil {
		change(w)
	}
	return w
}

func commandsOf(steps []step) []string {
	var out []string
	for _, s := range steps {
		for _, c := range s.commands {
			out = append(out, strings.Join(c, " "))
		}
	}
	return out
}

func number(n int) *int { return &n }
func yes(b bool) *bool  { return &b }

func TestResources(t *testing.T) {
	for name, c := range map[string]struct {
		world   func(*world)
		args    haResourceArgs
		want    []string
		refused string
		says    string // in the summary
	}{
		"a running guest is added as started": {args: haResourceArgs{Resources: []string{"vm:101"}}, want: []string{"add vm:101 --state started"}},
		"a stopped guest is not started":      {args: haResourceArgs{Resources: []string{"vm:102"}}, want: []string{"add vm:102 --state stopped"}},
		"unless it is asked for": {
			args: haResourceArgs{Resources: []string{"vm:102"}, State: "started"}, want: []string{"add vm:102 --state started"}, says: "which starts it",
		},
		"what is not known is not guessed": {args: haResourceArgs{Resources: []string{"vm:103"}}, refused: "does not say whether vm:103 runs"},
		"a template cannot run":            {args: haResourceArgs{Resources: []string{"vm:104"}}, refused: "is a template"},
		"a guest that is not there":        {args: haResourceArgs{Resources: []string{"vm:999"}}, refused: "does not exist"},
		"a guest that an earlier task may make": {
			world: func(w *world) { w.coming = "earlier tasks" }, args: haResourceArgs{Resources: []string{"vm:999"}, State: "started"}, want: []string{"add vm:999 --state started"},
		},
		"nothing to do": {args: haResourceArgs{Resources: []string{"vm:100"}}},
		"a changed limit": {
			args: haResourceArgs{Resources: []string{"vm:100"}, MaxRestart: number(3), MaxRelocate: number(0)}, want: []string{"set vm:100 --max_restart 3 --max_relocate 0"},
		},
		"a state that stops it": {args: haResourceArgs{Resources: []string{"vm:100"}, State: "stopped"}, want: []string{"set vm:100 --state stopped"}, says: "which stops it"},
		"a state by hand is left alone": {
			world: func(w *world) { w.State.Resources[0].State = "disabled" }, args: haResourceArgs{Resources: []string{"vm:100"}},
		},
		"absent":               {args: haResourceArgs{Resources: []string{"vm:100"}, Ensure: "absent"}, want: []string{"remove vm:100"}},
		"absent and not there": {args: haResourceArgs{Resources: []string{"vm:101"}, Ensure: "absent"}},
		"a service in error": {
			world: func(w *world) {
				w.State.Manager = &ha.Manager{Services: map[string]ha.Service{"vm:100": {Node: "pve2", State: "error"}}}
			},
			args: haResourceArgs{Resources: []string{"vm:100"}, MaxRestart: number(3)}, refused: "state error on pve2",
		},
		"failback on 8": {
			world: func(w *world) { w.mode = ha.ByGroups }, args: haResourceArgs{Resources: []string{"vm:100"}, Failback: yes(false)}, refused: "Proxmox VE 8",
		},
		"failback on 9": {args: haResourceArgs{Resources: []string{"vm:100"}, Failback: yes(false)}, want: []string{"set vm:100 --failback 0"}},
		"failback in a mixed cluster": {
			world: func(w *world) { w.mode = ha.Mixed }, args: haResourceArgs{Resources: []string{"vm:100"}, Failback: yes(false)}, refused: "8 and 9",
		},
		"a group on 8": {
			world: func(w *world) { w.mode, w.State.Groups = ha.ByGroups, []ha.Group{{Name: "db"}} }, args: haResourceArgs{Resources: []string{"vm:101"}, Group: "db"},
			want: []string{"add vm:101 --state started --group db"},
		},
		"a group that is not there": {world: func(w *world) { w.mode = ha.ByGroups }, args: haResourceArgs{Resources: []string{"vm:101"}, Group: "db"}, refused: `no group or rule "db"`},
		"a group on 9 is a rule": {
			world: func(w *world) {
				w.State.Rules = []ha.Rule{{ID: "ha-group-db", Type: ha.NodeAffinity, Nodes: ha.Nodes{"pve1": 0}, Resources: []string{"vm:101"}}}
			},
			args: haResourceArgs{Resources: []string{"vm:100"}, Group: "db"}, want: []string{"rules set node-affinity ha-group-db --resources vm:100,vm:101 --nodes pve1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.args.State == "" {
				c.args.State = "keep"
			}
			if c.args.Ensure == "" {
				c.args.Ensure = "present"
			}
			steps, refusals := nine(c.world).resources(c.args, nil)
			check(t, steps, refusals, c.want, c.refused)
			if c.says != "" {
				require.Contains(t, steps[0].summary, c.says)
			}
		})
	}
}

func check(t *testing.T, steps []step, refusals module.Refusals, want []string, refused string) {
	t.Helper()
	if refused != "" {
		require.Len(t, refusals, 1)
		require.Contains(t, refusals[0].Error(), refused)
		return
	}
	require.Empty(t, refusals)
	require.Equal(t, want, commandsOf(steps))
}

func TestGroups(t *testing.T) {
	rule := func(nodes string, resources ...string) ha.Rule {
		return ha.Rule{ID: "db", Type: ha.NodeAffinity, Nodes: ha.ParseNodes(nodes), Resources: resources}
	}
	base := haGroupArgs{Name: "db", Nodes: map[inventory.NodeRef]int{"pve1": 2, "pve2": 1}, Resources: []string{"vm:100"}, Ensure: "present"}
	with := func(change func(*haGroupArgs)) haGroupArgs {
		a := base
		change(&a)
		return a
	}
	eight := func(w *world) { w.mode = ha.ByGroups }
	whole := func(w *world) {
		w.State.Groups = []ha.Group{{Name: "db", Nodes: ha.Nodes{"pve1": 2, "pve2": 1}}}
		w.State.Resources[0].Group = "db"
	}
	for name, c := range map[string]struct {
		world   func(*world)
		args    haGroupArgs
		want    []string
		refused string
	}{
		"a rule on 9": {args: base, want: []string{"rules add node-affinity db --resources vm:100 --nodes pve1:2,pve2:1"}},
		"a rule with a guest that is not under HA": {
			args: with(func(a *haGroupArgs) { a.Resources = []string{"vm:102", "vm:100"} }),
			want: []string{"add vm:102 --state stopped", "rules add node-affinity db --resources vm:100,vm:102 --nodes pve1:2,pve2:1"},
		},
		"as wanted":         {world: func(w *world) { w.State.Rules = []ha.Rule{rule("pve2:1,pve1:2", "vm:100")} }, args: base},
		"other priorities":  {world: func(w *world) { w.State.Rules = []ha.Rule{rule("pve1,pve2", "vm:100")} }, args: base, want: []string{"rules set node-affinity db --resources vm:100 --nodes pve1:2,pve2:1"}},
		"a guest too many":  {world: func(w *world) { w.State.Rules = []ha.Rule{rule("pve1:2,pve2:1", "vm:100", "vm:7")} }, args: base, want: []string{"rules set node-affinity db --resources vm:100 --nodes pve1:2,pve2:1"}},
		"guests left alone": {world: func(w *world) { w.State.Rules = []ha.Rule{rule("pve1:2,pve2:1", "vm:100")} }, args: with(func(a *haGroupArgs) { a.Resources = nil })},
		"a migrated rule": {world: func(w *world) {
			r := rule("pve1:2,pve2:1", "vm:100")
			r.ID = "ha-group-db"
			w.State.Rules = []ha.Rule{r}
		}, args: base},
		"no failback on 9": {
			world: func(w *world) { w.State.Rules = []ha.Rule{rule("pve1:2,pve2:1", "vm:100")} }, args: with(func(a *haGroupArgs) { a.Failback = yes(false) }), want: []string{"set vm:100 --failback 0"},
		},
		"no guests on 9": {args: with(func(a *haGroupArgs) { a.Resources = nil }), refused: "no rules without any"},
		"in another rule": {
			world: func(w *world) {
				r := rule("pve3", "vm:100")
				r.ID = "other"
				w.State.Rules = []ha.Rule{r}
			}, args: base, refused: "one node affinity rule only",
		},
		"a node that does not exist": {args: with(func(a *haGroupArgs) { a.Nodes = map[inventory.NodeRef]int{"pve8": 1} }), refused: `"pve8" is no node`},
		"nowhere to go": {
			world: func(w *world) {
				w.State.Resources = append(w.State.Resources, ha.Resource{SID: "vm:101"})
				w.State.Rules = []ha.Rule{{ID: "apart", Type: ha.ResourceAffinity, Affinity: ha.Negative, Resources: []string{"vm:100", "vm:101"}}}
			},
			args: with(func(a *haGroupArgs) {
				a.Nodes, a.Restricted, a.Resources = map[inventory.NodeRef]int{"pve1": 0}, yes(true), []string{"vm:100", "vm:101"}
			}),
			refused: "no node left",
		},
		"a group on 8": {
			world: eight, args: base,
			want: []string{"groupadd db --nodes pve1:2,pve2:1", "set vm:100 --group db"},
		},
		"as wanted on 8": {world: func(w *world) { eight(w); whole(w) }, args: base},
		"drift on 8": {
			world: func(w *world) { eight(w); whole(w) },
			args:  with(func(a *haGroupArgs) { a.Restricted, a.Resources = yes(true), []string{} }),
			want:  []string{"groupset db --restricted 1", "set vm:100 --delete group"},
		},
		"what is not written stays on 8": {
			world: func(w *world) {
				eight(w)
				whole(w)
				w.State.Groups[0].Restricted, w.State.Groups[0].NoFailback = true, true
			},
			args: with(func(a *haGroupArgs) { a.Nodes = map[inventory.NodeRef]int{"pve1": 2} }), want: []string{"groupset db --nodes pve1:2"},
		},
		"what is written is repaired on 8": {
			world: func(w *world) {
				eight(w)
				whole(w)
				w.State.Groups[0].Restricted, w.State.Groups[0].NoFailback = true, true
			},
			args: with(func(a *haGroupArgs) { a.Restricted, a.Failback = yes(false), yes(true) }), want: []string{"groupset db --restricted 0 --nofailback 0"},
		},
		"a new group on 8 with all of it": {
			world: eight, args: with(func(a *haGroupArgs) { a.Restricted, a.Failback, a.Resources = yes(true), yes(false), nil }),
			want: []string{"groupadd db --nodes pve1:2,pve2:1 --restricted 1 --nofailback 1"},
		},
		"what is not written stays on 9": {
			world: func(w *world) {
				r := rule("pve1:2,pve2:1", "vm:100")
				r.Strict = true
				w.State.Rules, w.State.Resources[0].Failback = []ha.Rule{r}, false
			},
			args: with(func(a *haGroupArgs) { a.Nodes = map[inventory.NodeRef]int{"pve1": 2, "pve3": 1} }), want: []string{"rules set node-affinity db --resources vm:100 --nodes pve1:2,pve3:1"},
		},
		"what is written is repaired on 9": {
			world: func(w *world) {
				r := rule("pve1:2,pve2:1", "vm:100")
				r.Strict = true
				w.State.Rules, w.State.Resources[0].Failback = []ha.Rule{r}, false
			},
			args: with(func(a *haGroupArgs) { a.Restricted, a.Failback = yes(false), yes(true) }),
			want: []string{"rules set node-affinity db --resources vm:100 --nodes pve1:2,pve2:1 --strict 0", "set vm:100 --failback 1"},
		},
		"mixed and as wanted": {world: func(w *world) { w.mode = ha.Mixed; whole(w) }, args: base},
		"mixed and not":       {world: func(w *world) { w.mode = ha.Mixed }, args: base, refused: "8 and 9"},
		"gone on 8": {
			world: func(w *world) { eight(w); whole(w) }, args: haGroupArgs{Name: "db", Ensure: "absent"}, want: []string{"set vm:100 --delete group", "groupremove db"},
		},
		"gone on 9": {world: func(w *world) { w.State.Rules = []ha.Rule{rule("pve1", "vm:100")} }, args: haGroupArgs{Name: "db", Ensure: "absent"}, want: []string{"rules remove db"}},
	} {
		t.Run(name, func(t *testing.T) {
			steps, _, refusals := nine(c.world).group(c.args, nil)
			check(t, steps, refusals, c.want, c.refused)
		})
	}
}

func TestRules(t *testing.T) {
	apart := haRuleArgs{Name: "apart", Type: ha.ResourceAffinity, Affinity: ha.Negative, Resources: []string{"vm:101", "vm:100"}, Ensure: "present"}
	both := func(w *world) { w.State.Resources = append(w.State.Resources, ha.Resource{SID: "vm:101"}) }
	stored := ha.Rule{ID: "apart", Type: ha.ResourceAffinity, Affinity: ha.Negative, Resources: []string{"vm:100", "vm:101"}}
	for name, c := range map[string]struct {
		world     func(*world)
		args      haRuleArgs
		unmanaged []string
		want      []string
		refused   string
	}{
		"made":               {world: both, args: apart, want: []string{"rules add resource-affinity apart --resources vm:100,vm:101 --affinity negative"}},
		"as wanted":          {world: func(w *world) { both(w); w.State.Rules = []ha.Rule{stored} }, args: apart},
		"not under HA":       {args: apart, unmanaged: []string{"vm:101"}, refused: "vm:101 not under HA"},
		"on 8":               {world: func(w *world) { w.mode = ha.ByGroups }, args: apart, refused: "which has no rules"},
		"mixed":              {world: func(w *world) { w.mode = ha.Mixed }, args: apart, refused: "8 and 9"},
		"groups not yet":     {world: func(w *world) { w.mode = ha.Migrating }, args: apart, refused: "have not become rules yet"},
		"of another type":    {world: func(w *world) { w.State.Rules = []ha.Rule{{ID: "apart", Type: ha.NodeAffinity}} }, args: apart, refused: "is a node-affinity rule"},
		"gone":               {world: func(w *world) { w.State.Rules = []ha.Rule{stored} }, args: haRuleArgs{Name: "apart", Ensure: "absent"}, want: []string{"rules remove apart"}},
		"gone and not there": {args: haRuleArgs{Name: "apart", Ensure: "absent"}},
		"what is not written stays": {
			world: func(w *world) {
				w.State.Rules = []ha.Rule{{ID: "apart", Type: ha.NodeAffinity, Nodes: ha.Nodes{"pve1": 1}, Strict: true, Disabled: true, Comment: "mine", Resources: []string{"vm:100"}}}
			},
			args: haRuleArgs{Name: "apart", Type: ha.NodeAffinity, Nodes: map[inventory.NodeRef]int{"pve2": 1}, Resources: []string{"vm:100"}, Ensure: "present"},
			want: []string{"rules set node-affinity apart --resources vm:100 --nodes pve2:1"},
		},
		"what is written is repaired": {
			world: func(w *world) {
				w.State.Rules = []ha.Rule{{ID: "apart", Type: ha.NodeAffinity, Nodes: ha.Nodes{"pve2": 1}, Strict: true, Disabled: true, Resources: []string{"vm:100"}}}
			},
			args: haRuleArgs{Name: "apart", Type: ha.NodeAffinity, Nodes: map[inventory.NodeRef]int{"pve2": 1}, Resources: []string{"vm:100"}, Strict: yes(false), Disabled: yes(false), Ensure: "present"},
			want: []string{"rules set node-affinity apart --resources vm:100 --nodes pve2:1 --strict 0 --disable 0"},
		},
		"disabled again": {
			world: func(w *world) { both(w); w.State.Rules = []ha.Rule{stored} },
			args: func() haRuleArgs {
				a := apart
				a.Disabled = yes(true)
				return a
			}(),
			want: []string{"rules set resource-affinity apart --resources vm:100,vm:101 --affinity negative --disable 1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			steps, refusal := nine(c.world).rule(c.args, c.unmanaged)
			var refusals module.Refusals
			if refusal != nil {
				refusals = module.Refusals{refusal}
			}
			check(t, steps, refusals, c.want, c.refused)
		})
	}
}

func TestThePasswordOfAControllerIsInNoCommandLine(t *testing.T) {
	d := device{node: "pve3", via: "pve1", args: fenceDeviceArgs{Address: "198.51.100.13", User: "fence", Interface: "lanplus", Password: secret.New("s3cret")}}
	for _, what := range []string{"status", "off"} {
		c := d.command(what)
		require.NotContains(t, strings.Join(c.Argv, " ")+c.Script, "s3cret")
		require.Equal(t, "s3cret\n", string(c.Stdin))
		require.Equal(t, what != "status", c.Mutates)
	}
}

// Each command sets the whole list of a rule: the second guest must not push the first out again.
func TestGuestsThatEnterARuleTogether(t *testing.T) {
	w := nine(func(w *world) {
		w.Rules = []ha.Rule{{ID: "db", Type: ha.NodeAffinity, Resources: []string{"vm:100"}, Nodes: ha.Nodes{"pve1": 1}}}
		w.Resources = append(w.Resources, ha.Resource{SID: "vm:101", State: "started", MaxRestart: 1, MaxRelocate: 1, Failback: true}, ha.Resource{SID: "vm:102", State: "stopped", MaxRestart: 1, MaxRelocate: 1, Failback: true})
	})
	steps, refusals := w.resources(haResourceArgs{Resources: []string{"vm:101", "vm:102"}, State: "keep", Group: "db"}, nil)
	require.Empty(t, refusals)
	require.Equal(t, []string{
		"rules set node-affinity db --resources vm:100,vm:101 --nodes pve1:1",
		"rules set node-affinity db --resources vm:100,vm:101,vm:102 --nodes pve1:1",
	}, commandsOf(steps))
}
