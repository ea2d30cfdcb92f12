package ha

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed ha_rule.md
var haRuleDoc string

type haRuleArgs struct {
	Name      string                    `hcl:"name,optional" doc:"The rule's id (default: the task's name)." example:"\"web-apart\""`
	Type      string                    `hcl:"type" oneof:"node-affinity resource-affinity" doc:"What the rule says: where guests run (node-affinity), or which of them run together or apart (resource-affinity)."`
	Resources []string                  `hcl:"resources" min:"1" doc:"The guests: vm:<id> or ct:<id>. They must be under HA." example:"[\"vm:100\", \"vm:101\"]"`
	Nodes     map[inventory.NodeRef]int `hcl:"nodes,optional" doc:"Of a node-affinity: the nodes with their priorities; the highest is preferred." example:"{ pve1 = 2, pve2 = 1 }"`
	Strict    *bool                     `hcl:"strict,optional" doc:"Of a node-affinity: run on no other node, even when none of these is there (default: left as it is; false for a new one)."`
	Affinity  string                    `hcl:"affinity,optional" oneof:"positive negative" doc:"Of a resource-affinity: positive keeps the guests on one node, negative each on a node of its own."`
	Disabled  *bool                     `hcl:"disabled,optional" doc:"Keep the rule without following it (default: left as it is; false for a new one)."`
	Comment   *string                   `hcl:"comment,optional" doc:"A note (default: left as it is)."`
	Ensure    string                    `hcl:"ensure,optional" default:"present" oneof:"present absent" doc:"Whether it shall be there. Absent, the rule is removed and its guests stay under HA."`
	HATimeout time.Duration             `hcl:"ha_timeout,optional" default:"2m" min:"10s" doc:"How long to wait until the HA manager knows all nodes."`
}

// Validate checks that the arguments belong to the type.
func (a *haRuleArgs) Validate() error {
	if a.Name != "" {
		if err := checkID(a.Name); err != nil {
			return schema.At("name", err)
		}
	}
	if err := checkSIDs(a.Resources); err != nil {
		return schema.At("resources", err)
	}
	if a.Ensure == "absent" {
		return nil
	}
	switch {
	case a.Type == ha.NodeAffinity && len(a.Nodes) == 0:
		return schema.At("type", errors.New("a node-affinity rule needs nodes"))
	case a.Type == ha.NodeAffinity && a.Affinity != "":
		return schema.At("affinity", errors.New("affinity belongs to a resource-affinity rule"))
	case a.Type == ha.ResourceAffinity && len(a.Nodes) > 0:
		return schema.At("nodes", errors.New("nodes belong to a node-affinity rule"))
	case a.Type == ha.ResourceAffinity && or(a.Strict, false):
		return schema.At("strict", errors.New("strict belongs to a node-affinity rule"))
	case a.Type == ha.ResourceAffinity && a.Affinity == "":
		return schema.At("type", errors.New("a resource-affinity rule needs affinity: positive or negative"))
	case a.Type == ha.ResourceAffinity && len(a.Resources) < 2:
		return schema.At("resources", errors.New("a resource-affinity rule needs two guests at least: with one it has no effect"))
	}
	return nil
}

type haRuleOut struct {
	Resources []string `hcl:"resources" doc:"The guests in the rule."`
}

func haRule() module.Module {
	return module.Define(module.Spec{
		Name: "ha_rule", Summary: "Keep guests under high availability on nodes, together or apart", Doc: haRuleDoc, Scope: module.PerCluster,
	}, module.Funcs[haRuleArgs, haRuleOut]{
		Probes: func(t module.Target, _ haRuleArgs) []module.Probe { return probes(t) },
		Plan: func(ctx context.Context, t module.Target, args haRuleArgs) ([]module.Change, error) {
			args.named(t)
			if err := checkID(args.Name); err != nil {
				return nil, err
			}
			w, err := look(ctx, t)
			if err != nil {
				return nil, err
			}
			steps, refusal := w.rule(args, w.unmanaged(t, args.Resources))
			if refusal == nil && len(steps) > 0 {
				refusal = w.releaseKnown("HA rule " + args.Name)
			}
			if refusal != nil {
				return nil, module.Refusals{refusal}
			}
			have, _ := w.Rule(args.Name)
			if args.Ensure == "present" && or(args.Strict, have.Strict) && len(args.Nodes) == 1 {
				t.Warn(w.actor, fmt.Sprintf("%s binds its guests to one node: nothing takes them over when it fails, and it cannot be emptied", args.Name))
			}
			if args.Ensure == "present" && args.Disabled == nil && have.Disabled {
				t.Warn(w.actor, fmt.Sprintf("HA rule %s is disabled, so that nobody follows it; disabled = false would put it in use", args.Name))
			}
			return w.changes(steps), nil
		},
		Read: func(ctx context.Context, t module.Target, args haRuleArgs) (haRuleOut, error) {
			args.named(t)
			w, err := look(ctx, t)
			if err != nil {
				return haRuleOut{}, err
			}
			r, _ := w.Rule(args.Name)
			return haRuleOut{Resources: r.Resources}, nil
		},
	})
}

// ValidateTask checks the task's name where it is that of the rule.
func (a *haRuleArgs) ValidateTask(name string) error {
	if a.Name != "" {
		return nil
	}
	return checkID(name)
}

func (a *haRuleArgs) named(t module.Target) {
	if a.Name == "" {
		a.Name = t.Task()
	}
}

// rule decides what makes a rule true. unmanaged are resources that are not under HA and are not going to be.
func (w *world) rule(args haRuleArgs, unmanaged []string) ([]step, *module.Refusal) {
	gate := "HA rule " + args.Name
	have, there := w.Rule(args.Name)
	switch {
	case args.Ensure == "absent" && !there:
		return nil, nil
	case args.Ensure == "absent":
		return []step{removeRule(have)}, nil
	case w.mode == ha.Mixed:
		return nil, mixedRefusal(gate)
	case w.mode == ha.ByGroups:
		return nil, &module.Refusal{
			Gate: gate, Saw: "the cluster runs Proxmox VE 8, which has no rules", Want: "Proxmox VE 9 on all nodes", Look: "pveversion",
			Override: "use ha_group, which is a group on 8 and a rule on 9; guests apart or together need Proxmox VE 9",
		}
	case w.mode == ha.Migrating:
		return nil, &module.Refusal{
			Gate: gate, Saw: "HA groups have not become rules yet", Want: "no groups", Look: "cat /etc/pve/ha/groups.cfg; journalctl -u pve-ha-crm",
			Override: "Proxmox VE makes rules of them within a minute or two once all nodes are online and none is in maintenance: apply again then",
		}
	case there && have.Type != args.Type:
		return nil, wrongType(gate, have, args.Type)
	case len(unmanaged) > 0:
		return nil, &module.Refusal{
			Gate: gate, Saw: names(unmanaged) + " not under HA", Want: "guests that the HA manager looks after", Look: "ha-manager config",
			Override: "put an ha_resource task for them before this one",
		}
	}
	want := ha.Rule{
		ID: args.Name, Type: args.Type, Resources: slices.Sorted(slices.Values(args.Resources)), Nodes: nodesOf(args.Nodes), Strict: or(args.Strict, have.Strict), Affinity: args.Affinity,
		Disabled: or(args.Disabled, have.Disabled), Comment: said(args.Comment, have.Comment),
	}
	if there && sameRule(have, want) {
		return nil, nil
	}
	if refusal := w.ruleFits(gate, want); refusal != nil {
		return nil, refusal
	}
	s := w.ruleStep("rule:"+args.Name, have, want)
	s.first = func(ctx context.Context, t module.Target, host string) error {
		return awaitNodes(ctx, t, host, args.HATimeout)
	}
	if w.coming != "" {
		s.predicted = w.comingFor(want.Resources)
	}
	return []step{s}, nil
}
