package ha

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/transport"
)

// migratedPrefix is how Proxmox VE names the rules that it makes of groups.
const migratedPrefix = "ha-group-"

// groupRule finds the rule that stands for a group: of its name, or the one that Proxmox VE made of the group.
func (w *world) groupRule(name string) (ha.Rule, bool) {
	if r, ok := w.Rule(name); ok {
		return r, true
	}
	return w.Rule(migratedPrefix + name)
}

// enterRule puts a guest into the rule that stands for a group.
func (w *world) enterRule(sid, group string, coming []string) ([]step, *module.Refusal) {
	gate := fmt.Sprintf("put %s into %s", sid, group)
	have, there := w.groupRule(group)
	if !there {
		if !slices.Contains(coming, "rule:"+group) && !slices.Contains(coming, "group:"+group) {
			return nil, noGroup(gate, group)
		}
		return nil, nil // the task that makes the rule puts its guests into it, and this one looks again
	}
	if slices.Contains(have.Resources, sid) {
		return nil, nil
	}
	want := have
	want.Resources = append(slices.Clone(have.Resources), sid)
	slices.Sort(want.Resources)
	if refusal := w.ruleFits(gate, want); refusal != nil {
		return nil, refusal
	}
	w.willBe(want)
	return []step{w.ruleStep("rule:"+have.ID+"/"+sid, have, want)}, nil
}

// willBe has later steps of the plan rest on a rule as this one leaves it: each command sets all of its guests.
func (w *world) willBe(rule ha.Rule) {
	w.Rules = slices.Clone(w.Rules)
	for i := range w.Rules {
		if w.Rules[i].ID == rule.ID {
			w.Rules[i] = rule
		}
	}
}

// ruleFits refuses a rule that would be refused or ignored, or that leaves a guest nowhere to run. Conflicts among other
// rules are not this task's.
func (w *world) ruleFits(gate string, want ha.Rule) *module.Refusal {
	if refusal := w.checkNodes(gate, want.Nodes); refusal != nil {
		return refusal
	}
	rules := slices.DeleteFunc(slices.Clone(w.Rules), func(r ha.Rule) bool { return r.ID == want.ID })
	var found []string
	for _, c := range ha.Conflicts(append(rules, want), w.State.KnownNodes(w.nodes)) {
		if slices.Contains(c.Rules, want.ID) {
			found = append(found, c.String())
		}
	}
	if len(found) == 0 {
		return nil
	}
	return &module.Refusal{
		Gate: gate, Saw: strings.Join(found, "; "), Want: "a set of rules that Proxmox VE can keep", Look: "ha-manager rules config",
		Override: "change one of the rules; one that cannot be kept would be ignored silently",
	}
}

// ruleStep makes or changes a rule. Empty have.ID means that there is none.
func (w *world) ruleStep(id string, have, want ha.Rule) step {
	s := step{id: id, action: module.Update, summary: fmt.Sprintf("change HA rule %s", want.ID), before: shownRule(have), after: shownRule(want)}
	verb := "set"
	if have.ID == "" {
		s.action, s.summary, s.before, verb = module.Create, "make HA rule "+want.ID, nil, "add"
	}
	s.commands = [][]string{ruleCommand(verb, have, want)}
	s.then = func(ctx context.Context, t module.Target, host string) error { return inUse(ctx, t, host, want) }
	return s
}

func ruleCommand(verb string, have, want ha.Rule) []string {
	out := []string{"rules", verb, want.Type, want.ID, "--resources", strings.Join(want.Resources, ",")}
	switch want.Type {
	case ha.NodeAffinity:
		out = append(out, "--nodes", want.Nodes.String())
		if want.Strict != have.Strict {
			out = append(out, "--strict", flag(want.Strict))
		}
	case ha.ResourceAffinity:
		out = append(out, "--affinity", want.Affinity)
	}
	if want.Disabled != have.Disabled {
		out = append(out, "--disable", flag(want.Disabled))
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

func shownRule(r ha.Rule) map[string]any {
	out := map[string]any{"type": r.Type, "resources": r.Resources}
	if r.Type == ha.NodeAffinity {
		out["nodes"], out["strict"] = r.Nodes.String(), r.Strict
	} else {
		out["affinity"] = r.Affinity
	}
	if r.Disabled {
		out["disabled"] = true
	}
	if r.Comment != "" {
		out["comment"] = r.Comment
	}
	return out
}

func sameRule(a, b ha.Rule) bool {
	return a.Type == b.Type && slices.Equal(a.Resources, b.Resources) && a.Nodes.String() == b.Nodes.String() && a.Strict == b.Strict &&
		a.Affinity == b.Affinity && a.Disabled == b.Disabled && a.Comment == b.Comment
}

// inUse proves that Proxmox VE follows a rule: one that contradicts others is stored all the same, and ignored.
func inUse(ctx context.Context, t module.Target, host string, want ha.Rule) error {
	if want.Disabled {
		return nil
	}
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return err
	}
	command := transport.Command{Argv: []string{"ha-manager", "rules", "config", "--output-format", "json"}, Timeout: 30 * time.Second}
	r, err := conn.Run(ctx, command)
	if err == nil {
		err = r.Err(command)
	}
	if err != nil {
		return err
	}
	var rules []struct {
		Rule   string              `json:"rule"`
		Errors map[string][]string `json:"errors"`
	}
	if err := json.Unmarshal(r.Stdout, &rules); err != nil {
		return fmt.Errorf("ha-manager rules config: %w", err)
	}
	for _, rule := range rules {
		if rule.Rule != want.ID {
			continue
		}
		var why []string
		for _, texts := range rule.Errors {
			why = append(why, texts...)
		}
		if len(why) > 0 {
			slices.Sort(why)
			return fmt.Errorf("HA rule %s is stored and ignored: %s (look: ha-manager rules config)", want.ID, strings.Join(why, "; "))
		}
		return nil
	}
	return fmt.Errorf("HA rule %s is not there after it was made (look: ha-manager rules config)", want.ID)
}
