package siteimport

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/zclconf/go-cty/cty"
)

// highAvailability writes resources that are treated alike as one task, then groups and rules.
func (w *writer) highAvailability() {
	type likeness struct {
		state, comment          string
		maxRestart, maxRelocate int
	}
	alike := map[likeness][]string{}
	var order []likeness
	for _, r := range w.HA.Resources {
		k := likeness{r.State, r.Comment, r.MaxRestart, r.MaxRelocate}
		if alike[k] == nil {
			order = append(order, k)
		}
		alike[k] = append(alike[k], r.SID)
	}
	for _, k := range order {
		b := w.task("ha_resource", "ha_"+k.state)
		slices.Sort(alike[k])
		setList(b, "resources", alike[k])
		set(b, "state", k.state)
		setInt(b, "max_restart", k.maxRestart)
		setInt(b, "max_relocate", k.maxRelocate)
		if k.comment != "" {
			set(b, "comment", k.comment)
		}
	}
	for _, g := range w.HA.Groups {
		var members []string
		for _, r := range w.HA.Resources {
			if r.Group == g.Name {
				members = append(members, r.SID)
			}
		}
		w.group(g.Name, g.Nodes, members, g.Restricted, !g.NoFailback, g.Comment)
	}
	for _, r := range w.HA.Rules {
		w.rule(r)
	}
}

func (w *writer) group(name string, nodes ha.Nodes, members []string, restricted, failback bool, comment string) {
	b := w.task("ha_group", name)
	set(b, "name", name)
	setNodes(b, nodes)
	setList(b, "resources", members)
	setBool(b, "restricted", restricted)
	setBool(b, "failback", failback)
	if comment != "" {
		set(b, "comment", comment)
	}
}

func setNodes(b *hclwrite.Body, nodes ha.Nodes) {
	values := map[string]cty.Value{}
	for name, priority := range nodes {
		values[name] = cty.NumberIntVal(int64(priority))
	}
	b.SetAttributeValue("nodes", cty.ObjectVal(values))
}

// rule writes a node affinity whose guests all fail back alike as the group that it is on both releases, any other as a rule.
func (w *writer) rule(r ha.Rule) {
	failback := map[bool]bool{}
	for _, sid := range r.Resources {
		resource, _ := w.HA.Resource(sid)
		failback[resource.Failback] = true
	}
	if r.Type == ha.NodeAffinity && !r.Disabled && len(failback) == 1 {
		w.group(r.ID, r.Nodes, r.Resources, r.Strict, slices.Collect(maps.Keys(failback))[0], r.Comment)
		return
	}
	if r.Type != ha.NodeAffinity && r.Type != ha.ResourceAffinity {
		w.note("HA rule %s is of type %s, which pxrun does not know", r.ID, r.Type)
		return
	}
	b := w.task("ha_rule", r.ID)
	set(b, "name", r.ID)
	set(b, "type", r.Type)
	setList(b, "resources", r.Resources)
	if r.Type == ha.NodeAffinity {
		setNodes(b, r.Nodes)
		setBool(b, "strict", r.Strict)
	} else {
		set(b, "affinity", r.Affinity)
	}
	if r.Disabled {
		setBool(b, "disabled", true)
	}
	if r.Comment != "" {
		set(b, "comment", r.Comment)
	}
}
