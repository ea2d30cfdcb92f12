package runbooks

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/inventory"
	"github.com/zclconf/go-cty/cty"
)

// environment is what the expressions of one runbook are evaluated in. It does not change once made: the engine
// evaluates on many hosts at once.
type environment struct {
	// base holds all that is the same everywhere and always.
	base *hcl.EvalContext
	// self is the current host without its facts, by name, as attributes.
	self map[string]map[string]cty.Value
	// objects are the same as values, ready for use where facts are not needed.
	objects map[string]cty.Value
	// hosts are the names of all hosts, nodes those of the nodes of the runbook's cluster. No nodes: it has no cluster.
	hosts, nodes []string
	// cluster is the name of the runbook's cluster.
	cluster string
	// tasks are all tasks of the runbook that exist so far.
	tasks map[string]*taskShape
}

// taskShape is what is known of a task's result before there is one.
type taskShape struct {
	name    string
	outputs []string
	// block is the rolling block that the task is in; nil for none.
	block *engine.Rolling
}

func (l *loader) newEnvironment(filename string, cluster *clusterDecl) *environment {
	values := maps.Clone(l.values)
	values["secret"] = l.secretObject()
	if cluster != nil {
		// cluster.nodes and cluster.name are those of the runbook's own cluster.
		clusters := values["cluster"].AsValueMap()
		own := clusters[cluster.name]
		clusters["nodes"], clusters["name"] = own.GetAttr("nodes"), own.GetAttr("name")
		values["cluster"] = cty.ObjectVal(clusters)
	}
	e := &environment{
		base:    &hcl.EvalContext{Variables: values, Functions: l.functions(filename)},
		self:    make(map[string]map[string]cty.Value, len(l.site.Hosts)),
		objects: make(map[string]cty.Value, len(l.site.Hosts)),
		hosts:   l.skeleton.hostNames(),
		tasks:   map[string]*taskShape{},
	}
	if cluster != nil {
		e.nodes, e.cluster = cluster.nodeNames(), cluster.name
	}
	for _, h := range l.site.Hosts {
		parts := selfParts(h)
		e.self[h.Name], e.objects[h.Name] = parts, cty.ObjectVal(parts)
	}
	return e
}

// secretObject holds the secrets that were asked for so far.
func (l *loader) secretObject() cty.Value {
	values := map[string]cty.Value{}
	for _, name := range l.decls.secrets.order {
		if v, used := l.evaluation.done[ref{"secret", name}]; used {
			values[name] = v
		}
	}
	return cty.ObjectVal(values)
}

func selfParts(h inventory.Host) map[string]cty.Value {
	parts := hostParts(h)
	parts["groups"] = cty.ListValEmpty(cty.String)
	if len(h.Groups) > 0 {
		parts["groups"] = cty.ListVal(valuesOf(h.Groups, cty.StringVal))
	}
	return parts
}

// moment is where and when something is evaluated: the engine's scope, and the rolling block that asks.
type moment struct {
	engine.Scope
	block *engine.Rolling
}

// context makes the evaluation context for expressions with the given uses.
func (e *environment) context(m moment, u uses) *hcl.EvalContext {
	if u.constant() {
		return e.base
	}
	ctx := e.base.NewChild()
	ctx.Variables = make(map[string]cty.Value, 3)
	if u.self {
		ctx.Variables["self"] = e.selfValue(m, u.facts)
	}
	if u.each {
		each := cty.DynamicVal
		if m.Item != nil {
			each = cty.ObjectVal(map[string]cty.Value{"key": cty.StringVal(m.Item.Key), "value": m.Item.Value})
		}
		ctx.Variables["each"] = each
	}
	if len(u.tasks) > 0 {
		ctx.Variables["task"] = e.taskValues(m, u.tasks)
	}
	return ctx
}

func (e *environment) selfValue(m moment, facts bool) cty.Value {
	if m.Host == nil {
		return cty.DynamicVal
	}
	if !facts {
		if v, ok := e.objects[m.Host.Name]; ok {
			return v
		}
	}
	parts, ok := e.self[m.Host.Name]
	if !ok {
		parts = selfParts(*m.Host) // a host that is not of the site, made up by a test
	}
	parts = maps.Clone(parts)
	parts["facts"] = cty.DynamicVal
	if hasFacts(m.Facts) {
		parts["facts"] = m.Facts
	}
	return cty.ObjectVal(parts)
}

func hasFacts(v cty.Value) bool { return v != cty.NilVal && !v.IsNull() }

func (e *environment) taskValues(m moment, wanted []taskUse) cty.Value {
	values := map[string]cty.Value{}
	for _, t := range wanted {
		if t.name != "" {
			if shape, ok := e.tasks[t.name]; ok {
				// One expression may ask for the whole and for a part; the whole serves both.
				all := slices.ContainsFunc(wanted, func(o taskUse) bool { return o.results && (o.name == t.name || o.name == "") })
				values[t.name] = shape.value(m, all)
			}
			continue
		}
		for name, shape := range e.tasks {
			values[name] = shape.value(m, true)
		}
	}
	return cty.ObjectVal(values)
}

// known reports whether the result that a reference asks for is there.
func (e *environment) known(m moment, t taskUse) bool {
	if t.name == "" {
		return false
	}
	shape := e.tasks[t.name]
	if shape == nil {
		return false
	}
	result, ran := m.Results[shape.name]
	if !ran {
		return false
	}
	if shape.perHost(m) {
		_, ran = result.Hosts[m.Host.Name]
	}
	return ran
}

// perHost tells whether the result that is asked for is that of the current host alone: both tasks are in one rolling
// block, which goes from host to host.
func (s *taskShape) perHost(m moment) bool {
	return s.block != nil && s.block == m.block && m.Host != nil
}

// value is task.<name>: changed, failed, status, results by host, and the outputs on the current host.
func (s *taskShape) value(m moment, results bool) cty.Value {
	result, ran := m.Results[s.name]
	changed, failed, status := result.Changed, result.Failed, result.Status
	var here *engine.HostResult
	if m.Host != nil {
		if r, ok := result.Hosts[m.Host.Name]; ok {
			here = &r
		}
	}
	if here == nil && len(result.Hosts) == 1 && !s.perHost(m) {
		for _, r := range result.Hosts { // a task that ran on one host, or once for all
			here = &r
		}
	}
	if s.perHost(m) {
		if ran = here != nil; ran {
			changed, failed, status = here.Changed, here.Failed, here.Status
		}
	}
	parts := make(map[string]cty.Value, 4+len(s.outputs))
	if !ran {
		for _, name := range s.outputs {
			parts[name] = cty.DynamicVal
		}
		parts["changed"], parts["failed"], parts["status"] = cty.UnknownVal(cty.Bool), cty.UnknownVal(cty.Bool), cty.UnknownVal(cty.String)
		parts["results"] = cty.DynamicVal
		return cty.ObjectVal(parts)
	}
	s.addOutputs(parts, here)
	parts["changed"], parts["failed"], parts["status"] = cty.BoolVal(changed), cty.BoolVal(failed), cty.StringVal(string(status))
	if results {
		byHost := make(map[string]cty.Value, len(result.Hosts))
		for host, r := range result.Hosts {
			byHost[host] = s.hostResult(&r)
		}
		parts["results"] = cty.ObjectVal(byHost)
	}
	return cty.ObjectVal(parts)
}

// hostResult is task.<name>.results[host].
func (s *taskShape) hostResult(r *engine.HostResult) cty.Value {
	parts := make(map[string]cty.Value, 4+len(s.outputs))
	s.addOutputs(parts, r)
	parts["changed"], parts["failed"], parts["status"] = cty.BoolVal(r.Changed), cty.BoolVal(r.Failed), cty.StringVal(string(r.Status))
	parts["error"] = textOrNull(r.Error)
	return cty.ObjectVal(parts)
}

// addOutputs adds the outputs of a module on a host; null where the task did not run.
func (s *taskShape) addOutputs(parts map[string]cty.Value, r *engine.HostResult) {
	for _, name := range s.outputs {
		parts[name] = cty.NullVal(cty.DynamicPseudoType)
	}
	if r == nil || r.Outputs == cty.NilVal {
		return
	}
	plain, marks := r.Outputs.Unmark()
	if plain.IsNull() || !plain.IsKnown() || !plain.CanIterateElements() {
		return
	}
	for name, v := range plain.AsValueMap() {
		parts[name] = v.WithMarks(marks)
	}
}

// eval evaluates an expression that depends on nothing but the files.
func (e *environment) eval(expr hcl.Expression) (cty.Value, diag.List) {
	v, diags := expr.Value(e.base)
	return v, clean(diags)
}
