package runbooks

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/zclconf/go-cty/cty"
)

// scope says what an expression may refer to besides var, local, secret, cluster, host and group.
type scope struct {
	self, each bool
	// tasks are those of the runbook; nil outside of runbooks.
	tasks *taskNames
	// cluster is what cluster.nodes and cluster.name refer to; nil for nothing.
	cluster *clusterDecl
	// constant refuses references to hosts, clusters and groups too: where no order of evaluation could serve them.
	constant bool
	// args are the arguments of the runbook.
	args []string
}

// Attributes of the objects that expressions see.
var (
	hostAttributes = []string{"address", "cluster", "id", "links", "name", "osds", "vars", "votes"}
	selfAttributes = append([]string{"facts", "groups"}, hostAttributes...)
)

// check reports every reference of an expression that leads nowhere and every function that does not exist.
func (l *loader) check(expr hcl.Expression, sc scope) diag.List {
	return slices.Concat(l.checkReferences(expr.Variables(), []hcl.Expression{expr}, sc), l.checkCalls(expr))
}

// checkReferences checks the references of some expressions, and then what they do with the values.
func (l *loader) checkReferences(traversals []hcl.Traversal, expressions []hcl.Expression, sc scope) diag.List {
	var diags diag.List
	for _, t := range traversals {
		diags = append(diags, l.checkTraversal(t, sc)...)
	}
	for _, expr := range expressions {
		for _, d := range l.checkAttributes(expr, sc) {
			if !overlaps(diags, *d.Subject) {
				diags = append(diags, d)
			}
		}
	}
	return diags
}

func (l *loader) checkCalls(expr hcl.Expression) diag.List {
	node, ok := expr.(hclsyntax.Node)
	if !ok {
		return nil
	}
	var diags diag.List
	functions := l.functions(expr.Range().Filename)
	_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		call, ok := n.(*hclsyntax.FunctionCallExpr)
		if !ok {
			return nil
		}
		if _, known := functions[call.Name]; !known {
			diags = append(diags, diag.Error("Unknown function", fmt.Sprintf("There is no function %q.%s", call.Name,
				diag.DidYouMean(call.Name, slices.Collect(maps.Keys(functions)))), call.NameRange)...)
		}
		return nil
	})
	return diags
}

// checkTraversal follows a reference as far as names are known before anything is evaluated.
func (l *loader) checkTraversal(t hcl.Traversal, sc scope) diag.List {
	root, at := t.RootName(), t.SourceRange()
	if sc.constant && (root == "cluster" || root == "host" || root == "group") {
		return diag.Error("Reference not possible here", fmt.Sprintf("Only var, local and secret can be used here, not %s.", root), at)
	}
	switch root {
	case "var":
		return l.checkStep(t, "variable", l.decls.variables.order)
	case "local":
		return l.checkStep(t, "local value", l.decls.localNames)
	case "secret":
		return l.checkStep(t, "secret", l.decls.secrets.order)
	case "group":
		return l.checkObject(t, "group", l.skeleton.groupNames(), []string{"hosts", "name", "vars"})
	case "host":
		return l.checkObject(t, "host", l.skeleton.hostNames(), hostAttributes)
	case "cluster":
		return l.checkCluster(t, sc)
	case "self":
		if !sc.self {
			return diag.Error("No current host here", "self is the host that a task runs on. It exists in a task's own arguments and in when, not here.", at)
		}
		return l.checkAttribute(t, 1, "self", selfAttributes)
	case "each":
		if !sc.each {
			return diag.Error("No item here", "each is an item of for_each. It exists only inside a task that has for_each, in its own arguments and in when.", at)
		}
		return l.checkAttribute(t, 1, "each", []string{"key", "value"})
	case "task":
		return l.checkTask(t, sc)
	case "arg":
		if len(sc.args) == 0 {
			return diag.Error("No arguments here", "arg.<name> is an argument of the runbook, which it declares with: argument \"<name>\" { … }.", at)
		}
		return l.checkStep(t, "argument", sc.args)
	case "runbook":
		return diag.Error("Reference not possible here", "runbook.<name> can be used only as the runbook of a schedule.", at)
	}
	known := []string{"var", "local", "secret", "cluster", "host", "group"}
	if sc.self {
		known = append(known, "self")
	}
	if sc.each {
		known = append(known, "each")
	}
	if sc.tasks != nil {
		known = append(known, "task")
	}
	if len(sc.args) > 0 {
		known = append(known, "arg")
	}
	hint := diag.DidYouMean(root, known)
	if hint == "" {
		hint = l.rootHint(root)
	}
	return diag.Error("Unknown reference", fmt.Sprintf("%q is nothing that can be referred to here. References start with %s.%s", root, enumerate(known), hint), t[0].SourceRange())
}

// rootHint guesses what a bare name was meant to be.
func (l *loader) rootHint(name string) string {
	for prefix, names := range map[string][]string{"var": l.decls.variables.order, "local": l.decls.localNames, "host": l.skeleton.hostNames()} {
		if slices.Contains(names, name) {
			return fmt.Sprintf(" Did you mean %s.%s?", prefix, name)
		}
	}
	return " A text must be written in quotes."
}

// checkStep checks the first name after the root: var.<name>.
func (l *loader) checkStep(t hcl.Traversal, kind string, known []string) diag.List {
	if len(t) == 1 {
		return nil // var["x"] with a computed key, or all of them
	}
	name, ok := step(t, 1)
	if !ok || slices.Contains(known, name) {
		return nil
	}
	return diag.Error("Unknown "+kind, fmt.Sprintf("There is no %s %q.%s", kind, name, suggestion(name, known)), t[:2].SourceRange())
}

// checkObject checks <root>.<name>.<attribute>.
func (l *loader) checkObject(t hcl.Traversal, kind string, known, attributes []string) diag.List {
	if diags := l.checkStep(t, kind, known); diags != nil {
		return diags
	}
	return l.checkAttribute(t, 2, kind, attributes)
}

func (l *loader) checkAttribute(t hcl.Traversal, i int, kind string, attributes []string) diag.List {
	name, ok := step(t, i)
	if !ok || slices.Contains(attributes, name) {
		return nil
	}
	hint := suggestion(name, attributes)
	if kind == "host" && name == "groups" || name == "facts" {
		hint = " Only self has it."
	}
	return diag.Error("Unknown attribute", fmt.Sprintf("%s has no attribute %q.%s", written(t[:i]), name, hint), t[i].SourceRange())
}

func (l *loader) checkCluster(t hcl.Traversal, sc scope) diag.List {
	name, ok := step(t, 1)
	if !ok {
		return nil
	}
	if name == "nodes" || name == "name" {
		if sc.cluster != nil {
			return nil
		}
		hint := ""
		if len(l.skeleton.clusters) > 0 {
			hint = fmt.Sprintf(" Write cluster.%s.%s.", l.skeleton.clusters[0].name, name)
			if sc.tasks != nil {
				hint = fmt.Sprintf(" Add cluster = cluster.%s to the runbook, or write cluster.%s.%s.", l.skeleton.clusters[0].name, l.skeleton.clusters[0].name, name)
			}
		}
		return diag.Error("Which cluster?", fmt.Sprintf("cluster.%s is that of the runbook's own cluster, and there is none here.%s", name, hint), t.SourceRange())
	}
	if diags := l.checkStep(t, "cluster", l.skeleton.clusterNames()); diags != nil {
		return diags
	}
	c := l.skeleton.clusterBy[name]
	attr, ok := step(t, 2)
	if !ok || attr == "name" || attr == "nodes" {
		return nil
	}
	if _, isNode := c.node(attr); isNode {
		return l.checkAttribute(t, 3, "host", hostAttributes)
	}
	return diag.Error("Unknown node", fmt.Sprintf("The cluster %q has no node %q.%s", name, attr, suggestion(attr, append(c.nodeNames(), "nodes", "name"))), t[2].SourceRange())
}

func (l *loader) checkTask(t hcl.Traversal, sc scope) diag.List {
	if sc.tasks == nil {
		return diag.Error("No tasks here", "task.<name> is the result of an earlier task. It exists only inside a runbook.", t.SourceRange())
	}
	name, ok := step(t, 1)
	if !ok {
		return nil
	}
	at := t[:2].SourceRange()
	if _, visible := sc.tasks.visible[name]; !visible {
		switch {
		case name == sc.tasks.current:
			return diag.Error("Reference to itself", fmt.Sprintf("The task %q cannot use its own result.", name), at)
		case slices.Contains(sc.tasks.beside, name):
			return diag.Error("Task runs at the same time", fmt.Sprintf("The task %q is in the same parallel block, so it runs at the same time and its result is not known yet. "+
				"Move one of the two out of the block.", name), at)
		case sc.tasks.later(name):
			return diag.Error("Task runs later", fmt.Sprintf("The task %q stands further down, so its result is not known here. Only results of earlier tasks can be used.", name), at)
		}
		return diag.Error("Unknown task", fmt.Sprintf("The runbook has no task %q.%s", name, suggestion(name, sc.tasks.names())), at)
	}
	return nil
}

// suggestion is a did-you-mean, or the list of what there is when it is short.
func suggestion(name string, known []string) string {
	if hint := diag.DidYouMean(name, known); hint != "" {
		return hint
	}
	switch n := len(known); {
	case n == 0:
		return " None is defined."
	case n <= 12:
		return " There is " + enumerate(known) + "."
	}
	return ""
}

// enumerate writes a list for people, each name once.
func enumerate(names []string) string {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// written is a traversal as it stands in the file.
func written(t hcl.Traversal) string {
	var b strings.Builder
	for i := range t {
		name, ok := step(t, i)
		switch {
		case !ok:
			b.WriteString("[…]")
		case i == 0:
			b.WriteString(name)
		case hclsyntax.ValidIdentifier(name):
			b.WriteString("." + name)
		default:
			fmt.Fprintf(&b, "[%q]", name)
		}
	}
	return b.String()
}

// taskNames are the tasks of a runbook as one expression sees them.
type taskNames struct {
	// all are the tasks of the runbook in order.
	all []string
	// visible are those that have ended by the time that the expression is evaluated.
	visible map[string]taskInfo
	// beside are those that run at the same time.
	beside  []string
	current string
}

// taskInfo is what is known of a task before it runs.
type taskInfo struct {
	outputs cty.Type
	any     bool // the task is wrong itself, so what it has is not known
}

func (n *taskNames) later(name string) bool { return slices.Contains(n.all, name) }

func (n *taskNames) names() []string { return slices.Collect(maps.Keys(n.visible)) }
