package runbooks

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/internal/diag"
)

// topLevel is what may stand outside of any block's braces.
var topLevel = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
	{Type: "cluster", LabelNames: []string{"name"}},
	{Type: "host", LabelNames: []string{"name"}},
	{Type: "group", LabelNames: []string{"name"}},
	{Type: "variable", LabelNames: []string{"name"}},
	{Type: "locals"},
	{Type: "secret", LabelNames: []string{"name"}},
	{Type: "runbook", LabelNames: []string{"name"}},
	{Type: "hook", LabelNames: []string{"runbook", "point"}},
	{Type: "module", LabelNames: []string{"name"}},
	{Type: "schedule", LabelNames: []string{"name"}},
	{Type: "notify", LabelNames: []string{"name"}},
	{Type: "pxrun"},
	{Type: "ssh"},
}}

// declarations are the top-level blocks by kind and name, not evaluated yet.
type declarations struct {
	variables, secrets, clusters, groups, runbooks, modules, schedules, notifies named
	locals                                                                       map[string]*hcl.Attribute
	localNames                                                                   []string
	ssh                                                                          []*hcl.Block
	settings                                                                     []*hcl.Block // pxrun { }
	machines                                                                     []*hcl.Block // clusters and hosts in the files' order
	hooks                                                                        []*hcl.Block // in the files' order
	blocks                                                                       int          // all of them
}

// named are blocks of one type by their label.
type named struct {
	byName map[string]*hcl.Block
	order  []string
}

func (n *named) get(name string) (*hcl.Block, bool) {
	b, ok := n.byName[name]
	return b, ok
}

// add files a block under its label. What is no name, or is taken, is reported; the first block of a name stays.
func (n *named) add(b *hcl.Block) diag.List {
	name := b.Labels[0]
	if first, twice := n.byName[name]; twice {
		return diag.Error("Duplicate "+b.Type, fmt.Sprintf("The %s %q is already defined at %s. Names must be unique.",
			b.Type, name, place(first.DefRange)), b.LabelRanges[0])
	}
	if n.byName == nil {
		n.byName = map[string]*hcl.Block{}
	}
	n.byName[name] = b
	n.order = append(n.order, name)
	return nil
}

// place is a range as people write it.
func place(r hcl.Range) string { return fmt.Sprintf("%s:%d", r.Filename, r.Start.Line) }

// declare sorts the blocks of all files.
func declare(bodies []hcl.Body) (*declarations, diag.List) {
	d := &declarations{locals: map[string]*hcl.Attribute{}}
	var diags diag.List
	for _, body := range bodies {
		content, more := body.Content(topLevel)
		diags = append(diags, bodyPlace{body: body, schema: topLevel}.explain(more)...)
		d.blocks += len(content.Blocks)
		for _, b := range content.Blocks {
			diags = append(diags, d.add(b)...)
		}
	}
	return d, diags
}

func (d *declarations) add(b *hcl.Block) diag.List {
	kinds := map[string]*named{
		"variable": &d.variables, "secret": &d.secrets, "cluster": &d.clusters, "group": &d.groups,
		"runbook": &d.runbooks, "module": &d.modules, "schedule": &d.schedules, "notify": &d.notifies,
	}
	switch b.Type {
	case "locals":
		return d.addLocals(b)
	case "ssh":
		d.ssh = append(d.ssh, b)
		return nil
	case "hook":
		d.hooks = append(d.hooks, b)
		return nil
	case "pxrun":
		d.settings = append(d.settings, b)
		return nil
	case "host":
		// Names of hosts and clusters follow rules of their own. Those of hosts are shared with nodes.
		d.machines = append(d.machines, b)
		return nil
	case "cluster":
		d.machines = append(d.machines, b)
		diags := kinds[b.Type].add(b)
		if diags != nil {
			d.machines = d.machines[:len(d.machines)-1]
		}
		return diags
	default:
		if diags := identifier(b.Type, b.Labels[0], b.LabelRanges[0]); diags != nil {
			return diags
		}
	}
	return kinds[b.Type].add(b)
}

func (d *declarations) addLocals(b *hcl.Block) diag.List {
	attrs, diags := b.Body.JustAttributes()
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		a := attrs[name]
		if first, twice := d.locals[name]; twice {
			diags = append(diags, diag.Error("Duplicate local value", fmt.Sprintf("The local value %q is already defined at %s. Names must be unique.",
				name, place(first.NameRange)), a.NameRange)...)
			continue
		}
		d.locals[name] = a
		d.localNames = append(d.localNames, name)
	}
	return diags
}

// identifier refuses a label that no expression could refer to.
func identifier(kind, name string, at hcl.Range) diag.List {
	if hclsyntax.ValidIdentifier(name) {
		return nil
	}
	return diag.Error("Invalid name", fmt.Sprintf("%q is no valid name for a %s: a name starts with a letter and holds letters, digits, _ and -.", name, kind), at)
}
