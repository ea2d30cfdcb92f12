package runbooks

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// ref is something that an expression can depend on.
type ref struct{ kind, name string }

func (r ref) String() string {
	if h := r.kind + "." + r.name; !strings.ContainsAny(r.name, ". ") {
		return h
	}
	return fmt.Sprintf("%s[%q]", r.kind, r.name)
}

// evaluator evaluates what depends on each other in whatever order the references ask for.
type evaluator struct {
	done map[ref]cty.Value
	busy []ref
}

// functions are those for the expressions of a file.
func (l *loader) functions(filename string) map[string]function.Function {
	dir := filepath.Dir(l.src.open(filename))
	all, ok := l.functionsIn[dir]
	if !ok {
		all = l.around.in(dir)
		l.functionsIn[dir] = all
	}
	return all
}

// eval evaluates an expression of the inventory. What is wrong is reported, and gives a DynamicVal.
func (l *loader) eval(expr hcl.Expression, sc scope) cty.Value {
	if wrong := l.check(expr, sc); wrong.HasErrors() {
		l.report(wrong)
		return cty.DynamicVal
	}
	v, diags := expr.Value(&hcl.EvalContext{
		Variables: l.variablesFor(expr.Variables()),
		Functions: l.functions(expr.Range().Filename),
	})
	l.report(diags)
	if diags.HasErrors() {
		return cty.DynamicVal
	}
	return v
}

// variablesFor builds just those objects that the references need, so that evaluating one host does not ask for all.
func (l *loader) variablesFor(traversals []hcl.Traversal) map[string]cty.Value {
	roots := map[string]map[string]cty.Value{}
	put := func(root, name string, v cty.Value) {
		if roots[root] == nil {
			roots[root] = map[string]cty.Value{}
		}
		roots[root][name] = v
	}
	clusters := map[string]map[string]cty.Value{}
	for _, t := range traversals {
		root, at := t.RootName(), t.SourceRange()
		name, named := step(t, 1)
		switch root {
		case "cluster":
			for _, c := range l.skeleton.clusters {
				if !named || c.name == name {
					l.clusterParts(c, t, clusters, at)
				}
			}
			continue
		case "var", "local", "secret", "host", "group":
		default:
			continue
		}
		names := []string{name}
		if !named {
			names = l.namesUnder(root)
		}
		if _, exists := roots[root]; !exists {
			roots[root] = map[string]cty.Value{}
		}
		for _, n := range names {
			put(root, n, l.get(ref{root, n}, at))
		}
	}
	for name, parts := range clusters {
		put("cluster", name, cty.ObjectVal(parts))
	}
	vars := make(map[string]cty.Value, len(roots))
	for root, names := range roots {
		vars[root] = cty.ObjectVal(names)
	}
	return vars
}

// clusterParts adds what a reference cluster.<name>… needs of a cluster.
func (l *loader) clusterParts(c *clusterDecl, t hcl.Traversal, into map[string]map[string]cty.Value, at hcl.Range) {
	parts := into[c.name]
	if parts == nil {
		parts = map[string]cty.Value{"name": cty.StringVal(c.name)}
		into[c.name] = parts
	}
	attr, ok := step(t, 2)
	if ok && attr == "name" {
		return
	}
	if n, isNode := c.node(attr); ok && isNode {
		parts[attr] = l.get(ref{"host", n.name}, at)
		return
	}
	nodes := make([]cty.Value, len(c.nodes))
	for i, n := range c.nodes {
		nodes[i] = l.get(ref{"host", n.name}, at)
		parts[n.name] = nodes[i]
	}
	parts["nodes"] = cty.TupleVal(nodes)
}

func (l *loader) namesUnder(root string) []string {
	switch root {
	case "var":
		return l.decls.variables.order
	case "local":
		return l.decls.localNames
	case "secret":
		return l.decls.secrets.order
	case "host":
		return l.skeleton.hostNames()
	}
	return l.skeleton.groupNames()
}

// get returns the value of something by name, evaluating it when it was not yet. Something that depends on itself is
// reported once.
func (l *loader) get(r ref, at hcl.Range) cty.Value {
	if v, ok := l.evaluation.done[r]; ok {
		return v
	}
	for i, busy := range l.evaluation.busy {
		if busy == r {
			l.report(cycle(append(l.evaluation.busy[i:len(l.evaluation.busy):len(l.evaluation.busy)], r), at))
			return cty.DynamicVal
		}
	}
	l.evaluation.busy = append(l.evaluation.busy, r)
	v := l.compute(r)
	l.evaluation.busy = l.evaluation.busy[:len(l.evaluation.busy)-1]
	l.evaluation.done[r] = v
	return v
}

func cycle(path []ref, at hcl.Range) diag.List {
	if len(path) == 2 {
		return diag.Error("Reference to itself", fmt.Sprintf("%s cannot be defined by itself.", path[0]), at)
	}
	return diag.Error("References in a circle", fmt.Sprintf("Each of these needs the next one first, and the last is the first again: %s. "+
		"Break the circle by writing one of them without the other.", strings.Join(valuesOf(path, ref.String), " → ")), at)
}

func (l *loader) compute(r ref) cty.Value {
	switch r.kind {
	case "var":
		if v, ok := l.variableBy[r.name]; ok {
			return v.Value
		}
	case "local":
		if a, ok := l.decls.locals[r.name]; ok {
			return l.eval(a.Expr, scope{})
		}
	case "secret":
		if s, ok := l.secretBy[r.name]; ok {
			return l.secretValue(s)
		}
	case "host":
		if h, ok := l.skeleton.hostBy[r.name]; ok {
			return l.evalHost(h)
		}
	case "group":
		if g, ok := l.skeleton.groupBy[r.name]; ok {
			return l.evalGroup(g)
		}
	}
	return cty.DynamicVal
}
