package runbooks

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/zclconf/go-cty/cty"
)

// Argument is what a runbook may be told: by a task that uses it as a module, or on the command line.
type Argument struct {
	Name, Description, Type string
	// Default is cty.NilVal when the argument must be given.
	Default cty.Value
}

// argumentBlocks are the declared arguments of a runbook.
func (l *loader) declareArguments(content *hcl.BodyContent) []*Variable {
	var all []*Variable
	for _, b := range content.Blocks {
		if b.Type != "argument" {
			continue
		}
		l.report(identifier("argument", b.Labels[0], b.LabelRanges[0]))
		if slices.ContainsFunc(all, func(v *Variable) bool { return v.Name == b.Labels[0] }) {
			l.report(diag.Error("Duplicate argument", fmt.Sprintf("The argument %q is already defined in this runbook.", b.Labels[0]), b.LabelRanges[0]))
			continue
		}
		v, diags := declareVariable(b, l.functions(b.DefRange.Filename))
		l.report(diags)
		all = append(all, v)
	}
	return all
}

// giveArguments makes the object arg of what is given. at is where to say that something is missing; no place leaves it unknown.
func (l *loader) giveArguments(declared []*Variable, values map[string]given, at hcl.Range, runbook string) cty.Value {
	parts := map[string]cty.Value{}
	for _, v := range declared {
		g, ok := values[v.Name]
		if !ok {
			g = given{value: v.Default, from: "default", at: v.Range}
			if v.Default == cty.NilVal {
				parts[v.Name] = cty.DynamicVal
				if at == (hcl.Range{}) {
					continue // nobody runs it now
				}
				l.report(diag.Error("Missing argument", fmt.Sprintf("The runbook %q needs the argument %q: %s", runbook, v.Name, v.Description), at))
				continue
			}
		}
		parts[v.Name] = cty.DynamicVal
		if diags := v.accept(g, l.functions(v.Range.Filename)); diags.HasErrors() {
			l.report(diags)
			continue
		}
		parts[v.Name] = v.Value
	}
	return cty.ObjectVal(parts)
}

// directArguments are those of the command line for the runbook that is to be run.
func (l *loader) directArguments(declared []*Variable, runbook string, at hcl.Range) map[string]given {
	values := map[string]given{}
	if l.opts.Runbook != runbook {
		return values
	}
	for _, a := range l.opts.Arguments {
		i := slices.IndexFunc(declared, func(v *Variable) bool { return v.Name == a.Name })
		if i < 0 {
			l.report(diag.Error("Unknown argument", fmt.Sprintf("The runbook %q has no argument %q.%s", runbook, a.Name, suggestion(a.Name, namesOf(declared))), at))
			continue
		}
		v, diags := declared[i].parseText(a.Value, "--arg", "--arg "+a.Name)
		l.report(diags)
		if !diags.HasErrors() {
			values[a.Name] = given{value: v, from: "--arg"}
		}
	}
	return values
}

func namesOf(declared []*Variable) []string {
	return valuesOf(declared, func(v *Variable) string { return v.Name })
}

func argumentsOf(declared []*Variable) []Argument {
	return valuesOf(declared, func(v *Variable) Argument {
		return Argument{Name: v.Name, Description: v.Description, Type: v.Type, Default: v.Default}
	})
}

// callable finds the runbook that a task's first label names: one of the files, or a built-in one.
func (l *loader) callable(name string) (*hcl.Block, bool) {
	if b, ok := l.decls.runbooks.get(name); ok {
		return b, true
	}
	return l.stockRunbook(name)
}

// expand puts the steps of a runbook in the place of a task that uses it as a module.
func (bu *builder) expand(called *hcl.Block, b *hcl.Block, p position) ([]engine.Step, map[string]taskInfo) {
	l, label := bu.l, b.Labels[1]
	wrong := map[string]taskInfo{label: {any: true}}
	switch {
	case p.rolling != nil || p.parallel:
		l.report(diag.Error("Runbook inside a block", fmt.Sprintf("%q is a runbook with steps of its own: it cannot stand inside a parallel or rolling block.", b.Labels[0]), b.LabelRanges[0]))
		return nil, wrong
	case slices.Contains(bu.calls, called.Labels[0]):
		l.report(diag.Error("Runbook inside itself", fmt.Sprintf("The runbook %q would contain itself: %s.", called.Labels[0], strings.Join(append(bu.calls, called.Labels[0]), " → ")), b.LabelRanges[0]))
		return nil, wrong
	}
	content, diags := contentOf(called, runbookSchema)
	l.report(diags)
	declared := l.declareArguments(content)
	inner := &builder{
		l: l, name: bu.name + "/" + label, prefix: bu.prefix + label + ".", content: bu.content, cluster: bu.cluster, hosts: bu.hosts,
		hooksOf: called.Labels[0], calls: append(slices.Clone(bu.calls), called.Labels[0]),
		defined: map[string]hcl.Range{}, blocks: map[string]hcl.Range{}, info: &RunbookInfo{},
	}
	inner.env = l.newEnvironment(called.DefRange.Filename, bu.cluster)
	values, missing := bu.givenTo(b, declared)
	inner.bind(declared, values, missing, called.Labels[0])
	inner.collectTasks(content.Blocks)
	steps, _ := inner.steps(content.Blocks, position{visible: map[string]taskInfo{}})
	inner.hooksDone()
	bu.checks = append(bu.checks, inner.checks...)
	for _, name := range inner.all {
		bu.info.Tasks = append(bu.info.Tasks, label+"/"+name)
	}
	return steps, wrong
}

// givenTo reads the attributes of a task that uses a runbook. missing is where to say that one is missing: nowhere if a name was
// not understood, which may have been meant to be it.
func (bu *builder) givenTo(b *hcl.Block, declared []*Variable) (values map[string]given, missing hcl.Range) {
	schema := &hcl.BodySchema{}
	for _, v := range declared {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: v.Name})
	}
	content, diags := b.Body.Content(schema)
	bu.l.report(bodyPlace{what: fmt.Sprintf("The runbook %q", b.Labels[0]), body: b.Body, schema: schema, at: b.DefRange}.explain(diags))
	if !diags.HasErrors() {
		missing = b.DefRange
	}
	values = map[string]given{}
	a := bu.attributes(content)
	for name := range content.Attributes {
		if v, at, ok := a.value(name); ok {
			values[name] = given{value: v, from: "the task", at: at}
		}
	}
	return values, missing
}

// bind makes arg.<name> known to the runbook's expressions.
func (bu *builder) bind(declared []*Variable, values map[string]given, at hcl.Range, runbook string) {
	bu.args = namesOf(declared)
	bu.env.base.Variables = maps.Clone(bu.env.base.Variables)
	bu.env.base.Variables["arg"] = bu.l.giveArguments(declared, values, at, runbook)
}
