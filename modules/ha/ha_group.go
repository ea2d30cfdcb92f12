package ha

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed ha_group.md
var haGroupDoc string

type haGroupArgs struct {
	Name       string                    `hcl:"name,optional" doc:"The name of the group (default: the task's)." example:"\"databases\""`
	Nodes      map[inventory.NodeRef]int `hcl:"nodes,optional" doc:"The nodes with their priorities; the highest is preferred." example:"{ pve1 = 2, pve2 = 1 }"`
	Resources  []string                  `hcl:"resources,optional" doc:"The guests of the group: exactly these (default: those that are in it stay). One that is not under HA yet is put there as it is: running or stopped." example:"[\"vm:100\"]"`
	Restricted *bool                     `hcl:"restricted,optional" doc:"Run on no other node, even when none of these is there (default: left as it is; false for a new one)."`
	Failback   *bool                     `hcl:"failback,optional" doc:"Whether guests return to a better node that comes back (default: left as it is; true for a new one)."`
	Comment    *string                   `hcl:"comment,optional" doc:"A note (default: left as it is)."`
	Ensure     string                    `hcl:"ensure,optional" default:"present" oneof:"present absent" doc:"Whether it shall be there. Absent, the group or rule is removed and its guests stay under HA."`
	HATimeout  time.Duration             `hcl:"ha_timeout,optional" default:"5m" min:"10s" doc:"How long the HA manager may take to follow, and Proxmox VE 9 to make rules of groups."`
}

// Validate checks what needs no cluster.
func (a *haGroupArgs) Validate() error {
	if a.Name != "" {
		if err := checkID(a.Name); err != nil {
			return schema.At("name", err)
		}
	}
	if a.Ensure == "present" && len(a.Nodes) == 0 {
		return schema.At("nodes", fmt.Errorf("a group needs at least one node"))
	}
	for name, priority := range a.Nodes {
		if priority < 0 || priority > 1000 {
			return schema.At("nodes", fmt.Errorf("the priority of %s is %d: it must lie between 0 and 1000", name, priority))
		}
	}
	if err := checkSIDs(a.Resources); err != nil {
		return schema.At("resources", err)
	}
	return nil
}

type haGroupOut struct {
	Kind      string   `hcl:"kind" doc:"What the group is in this cluster: group (Proxmox VE 8) or rule (9)."`
	Resources []string `hcl:"resources" doc:"The guests in it."`
}

func haGroup() module.Module {
	return module.Define(module.Spec{
		Name: "ha_group", Summary: "Say on which nodes guests under high availability run", Doc: haGroupDoc, Scope: module.PerCluster,
	}, module.Funcs[haGroupArgs, haGroupOut]{
		Probes: func(t module.Target, _ haGroupArgs) []module.Probe { return probes(t) },
		Plan:   planGroup,
		Read: func(ctx context.Context, t module.Target, args haGroupArgs) (haGroupOut, error) {
			args.named(t)
			w, err := look(ctx, t)
			if err != nil {
				return haGroupOut{}, err
			}
			if rule, there := w.groupRule(args.Name); there {
				return haGroupOut{Kind: "rule", Resources: rule.Resources}, nil
			}
			return haGroupOut{Kind: "group", Resources: w.inGroup(args.Name)}, nil
		},
	})
}

// ValidateTask checks the task's name where it is that of the group.
func (a *haGroupArgs) ValidateTask(name string) error {
	if a.Name != "" {
		return nil
	}
	return checkID(name)
}

func (a *haGroupArgs) named(t module.Target) {
	if a.Name == "" {
		a.Name = t.Task()
	}
}

func planGroup(ctx context.Context, t module.Target, args haGroupArgs) ([]module.Change, error) {
	args.named(t)
	if err := checkID(args.Name); err != nil {
		return nil, err
	}
	w, err := look(ctx, t)
	if err != nil {
		return nil, err
	}
	w.ask(ctx, t, args.Resources)
	coming := append(plannedIDs(t.Planned(), "ha_resource"), plannedIDs(t.Planned(), "ha_group")...)
	steps, warnings, refusals := w.group(args, coming)
	for _, text := range warnings {
		t.Warn(w.actor, text)
	}
	if refusal := w.releaseKnown("HA group " + args.Name); refusal != nil && len(steps) > 0 {
		refusals = append(refusals, refusal)
	}
	if len(refusals) > 0 {
		return nil, refusals
	}
	if w.mode == ha.Migrating && len(steps) > 0 {
		return []module.Change{w.migrate(args)}, nil
	}
	return w.changes(steps), nil
}

// migrate waits for the rules that Proxmox VE makes of groups, and brings the group's rule into line then.
func (w *world) migrate(args haGroupArgs) module.Change {
	host := w.actor
	return module.Change{
		ID: "ha/group:" + args.Name, Host: host, Action: module.Update,
		Summary: fmt.Sprintf("wait until Proxmox VE has made rules of its HA groups, then bring %s into line", args.Name),
		Apply: func(ctx context.Context, t module.Target) error {
			if err := awaitRules(ctx, t, host, args.HATimeout); err != nil {
				return err
			}
			changes, err := planGroup(ctx, t, args)
			if err != nil {
				return err
			}
			for _, c := range changes {
				if err := c.Apply(ctx, t); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// group decides what makes one intent true, as a group or as a rule. coming are resources and rules that earlier tasks are
// going to make.
func (w *world) group(args haGroupArgs, coming []string) (steps []step, warnings []string, refusals module.Refusals) {
	gate := "HA group " + args.Name
	if args.Ensure == "absent" {
		return w.removeGroup(args.Name), nil, nil
	}
	if refusal := w.checkNodes(gate, nodesOf(args.Nodes)); refusal != nil {
		return nil, nil, module.Refusals{refusal}
	}
	added, refusals := w.enlist(args, coming)
	if len(refusals) > 0 {
		return nil, nil, refusals
	}
	switch w.mode {
	case ha.ByRules:
		steps, refusal := w.asRule(args, gate)
		if refusal != nil {
			return nil, nil, module.Refusals{refusal}
		}
		have, _ := w.groupRule(args.Name)
		if or(args.Restricted, have.Strict) && len(args.Nodes) == 1 {
			warnings = append(warnings, fmt.Sprintf("%s binds its guests to one node: nothing takes them over when it fails, and it cannot be emptied", args.Name))
		}
		return append(added, steps...), warnings, nil
	case ha.Mixed:
		if len(added)+len(w.asGroup(args)) > 0 {
			return nil, nil, module.Refusals{mixedRefusal(gate)}
		}
		return nil, []string{"the cluster's nodes run Proxmox VE 8 and 9: " + args.Name + " is a group as wanted, and becomes a rule when all run 9"}, nil
	case ha.Migrating:
		if steps := w.asGroup(args); len(steps) > 0 {
			return steps, nil, nil
		}
		return added, []string{args.Name + " is a group as wanted, which Proxmox VE 9 makes a rule by itself once all nodes are online and none is in maintenance"}, nil
	}
	return append(added, w.asGroup(args)...), nil, nil
}

// enlist puts guests of the group under HA that are not. They keep running, or not, as they are.
func (w *world) enlist(args haGroupArgs, coming []string) ([]step, module.Refusals) {
	var steps []step
	var refusals module.Refusals
	for _, sid := range slices.Sorted(slices.Values(args.Resources)) {
		if _, there := w.Resource(sid); there || slices.Contains(coming, sid) {
			continue
		}
		s, refusal := w.addResource(sid, haResourceArgs{State: "keep", HATimeout: args.HATimeout})
		if refusal != nil {
			refusals = append(refusals, refusal)
			continue
		}
		steps = append(steps, s)
	}
	return steps, refusals
}

// asRule is the intent in Proxmox VE 9: a node affinity, and the failback of each guest.
func (w *world) asRule(args haGroupArgs, gate string) ([]step, *module.Refusal) {
	have, there := w.groupRule(args.Name)
	want := ha.Rule{ID: args.Name, Type: ha.NodeAffinity, Nodes: nodesOf(args.Nodes), Strict: or(args.Restricted, have.Strict), Comment: said(args.Comment, have.Comment), Resources: slices.Sorted(slices.Values(args.Resources))}
	if there {
		want.ID, want.Disabled = have.ID, false
		if args.Resources == nil {
			want.Resources = have.Resources
		}
		if have.Type != ha.NodeAffinity {
			return nil, wrongType(gate, have, ha.NodeAffinity)
		}
	}
	if len(want.Resources) == 0 {
		return nil, &module.Refusal{
			Gate: gate, Saw: "it has no guests, and Proxmox VE 9 has no rules without any", Want: "resources", Look: "ha-manager rules config", Override: "name the guests in resources",
		}
	}
	var steps []step
	if !there || !sameRule(have, want) {
		if refusal := w.ruleFits(gate, want); refusal != nil {
			return nil, refusal
		}
		s := w.ruleStep("rule:"+args.Name, have, want)
		if w.coming != "" {
			s.predicted = w.comingFor(want.Resources)
		}
		steps = append(steps, s)
	}
	if args.Failback == nil {
		return steps, nil
	}
	failback := *args.Failback
	for _, sid := range want.Resources {
		r, managed := w.Resource(sid)
		if managed && r.Failback == failback || !managed && failback {
			continue
		}
		steps = append(steps, step{
			id: "failback:" + sid, action: module.Update, summary: fmt.Sprintf("set failback of %s to %t", sid, failback),
			before: map[string]any{"failback": !failback}, after: map[string]any{"failback": failback},
			commands: [][]string{{"set", sid, "--failback", flag(failback)}},
		})
	}
	return steps, nil
}

// comingFor is why a rule is a forecast: what it names is not there yet.
func (w *world) comingFor(resources []string) string {
	for _, sid := range resources {
		if _, there := w.Resource(sid); !there {
			return sid + " is not under HA yet: " + w.coming
		}
	}
	if w.From == "" {
		return w.coming
	}
	return ""
}

func wrongType(gate string, have ha.Rule, want string) *module.Refusal {
	return &module.Refusal{
		Gate: gate, Saw: fmt.Sprintf("rule %s is a %s rule", have.ID, have.Type), Want: "a " + want + " rule of that name, or none", Look: "cat /etc/pve/ha/rules.cfg",
		Override: "choose another name; rules of others are not replaced",
	}
}

// asGroup is the intent in Proxmox VE 8.
func (w *world) asGroup(args haGroupArgs) []step {
	have, there := w.Group(args.Name)
	want := ha.Group{Name: args.Name, Nodes: nodesOf(args.Nodes), Restricted: or(args.Restricted, have.Restricted), NoFailback: !or(args.Failback, !have.NoFailback), Comment: said(args.Comment, have.Comment)}
	var steps []step
	s := step{id: "group:" + args.Name, after: shownGroup(want)}
	switch {
	case !there:
		s.action, s.summary = module.Create, "make HA group "+args.Name
		s.commands = [][]string{groupCommand("groupadd", ha.Group{Name: args.Name}, want)}
		if w.From == "" {
			s.predicted = w.coming
		}
		steps = append(steps, s)
	case !sameGroup(have, want):
		s.action, s.summary, s.before = module.Update, "change HA group "+args.Name, shownGroup(have)
		s.commands = [][]string{groupCommand("groupset", have, want)}
		steps = append(steps, s)
	}
	if args.Resources == nil {
		return steps
	}
	for _, sid := range slices.Sorted(slices.Values(args.Resources)) {
		r, managed := w.Resource(sid)
		if r.Group == args.Name {
			continue
		}
		s := step{
			id: "group:" + args.Name + "/" + sid, action: module.Update, summary: fmt.Sprintf("put %s into HA group %s", sid, args.Name),
			before: groupName(r.Group), after: groupName(args.Name), commands: [][]string{{"set", sid, "--group", args.Name}},
		}
		if !managed && w.coming != "" {
			s.predicted = w.comingFor([]string{sid})
		}
		steps = append(steps, s)
	}
	for _, sid := range w.inGroup(args.Name) {
		if !slices.Contains(args.Resources, sid) {
			steps = append(steps, w.leaveGroup(args.Name, sid))
		}
	}
	return steps
}

// groupCommand names only what differs: the rest stays as it is, or as a new group has it.
func groupCommand(verb string, have, want ha.Group) []string {
	out := []string{verb, want.Name}
	if want.Nodes.String() != have.Nodes.String() {
		out = append(out, "--nodes", want.Nodes.String())
	}
	if want.Restricted != have.Restricted {
		out = append(out, "--restricted", flag(want.Restricted))
	}
	if want.NoFailback != have.NoFailback {
		out = append(out, "--nofailback", flag(want.NoFailback))
	}
	switch {
	case want.Comment == have.Comment:
	case want.Comment == "":
		out = append(out, "--delete", "comment")
	default:
		out = append(out, "--comment", want.Comment)
	}
	return out
}

func groupName(name string) map[string]any { return map[string]any{"group": name} }

func (w *world) leaveGroup(group, sid string) step {
	return step{
		id: "group:" + group + "/" + sid, action: module.Update, summary: fmt.Sprintf("take %s out of HA group %s", sid, group),
		before: groupName(group), after: groupName(""), commands: [][]string{{"set", sid, "--delete", "group"}},
	}
}

// inGroup lists the guests of a group of Proxmox VE 8.
func (w *world) inGroup(name string) []string {
	var out []string
	for _, r := range w.Resources {
		if r.Group == name {
			out = append(out, r.SID)
		}
	}
	return out
}

// removeGroup takes a group or its rule away; guests leave it first.
func (w *world) removeGroup(name string) []step {
	var steps []step
	if g, there := w.Group(name); there {
		for _, sid := range w.inGroup(name) {
			steps = append(steps, w.leaveGroup(name, sid))
		}
		steps = append(steps, step{
			id: "group:" + name, action: module.Delete, summary: "remove HA group " + name, before: shownGroup(g), commands: [][]string{{"groupremove", name}},
		})
	}
	if r, there := w.groupRule(name); there && r.Type == ha.NodeAffinity {
		steps = append(steps, removeRule(r))
	}
	return steps
}

func removeRule(r ha.Rule) step {
	return step{id: "rule:" + r.ID, action: module.Delete, summary: "remove HA rule " + r.ID, before: shownRule(r), commands: [][]string{{"rules", "remove", r.ID}}}
}

func sameGroup(a, b ha.Group) bool {
	return a.Nodes.String() == b.Nodes.String() && a.Restricted == b.Restricted && a.NoFailback == b.NoFailback && a.Comment == b.Comment
}

func shownGroup(g ha.Group) map[string]any {
	out := map[string]any{"nodes": g.Nodes.String(), "restricted": g.Restricted, "failback": !g.NoFailback}
	if g.Comment != "" {
		out["comment"] = g.Comment
	}
	return out
}

// said is what the task says, or else what is there.
func said(wanted *string, have string) string {
	if wanted == nil {
		return have
	}
	return *wanted
}

// nodesOf are the nodes of a task with their priorities; nil without any.
func nodesOf(named map[inventory.NodeRef]int) ha.Nodes {
	if named == nil {
		return nil
	}
	nodes := make(ha.Nodes, len(named))
	for name, priority := range named {
		nodes[string(name)] = priority
	}
	return nodes
}

// or is what the task says, or else what is there.
func or(wanted *bool, have bool) bool {
	if wanted == nil {
		return have
	}
	return *wanted
}

// names joins for messages.
func names(items []string) string { return strings.Join(items, ", ") }
