package runbooks

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/zclconf/go-cty/cty"
)

// What every task can have, whatever its module. A module that declares an argument of one of these names gets it.
var (
	commonAttributes = []string{"hosts", "when", "for_each", "timeout", "tags", "on_failure", "sensitive", "delegate_to", "run_once"}
	commonBlocks     = []hcl.BlockHeaderSchema{{Type: "retry"}, {Type: "before"}, {Type: "check", LabelNames: []string{"name"}}, {Type: "after"}}

	retrySchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "attempts"}, {Name: "delay"}}}
	hookSchema  = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "script", Required: true}, {Name: "timeout"}}}
)

func commonSchema(m module.Module) *hcl.BodySchema {
	s := &hcl.BodySchema{}
	for _, name := range commonAttributes {
		if _, own := m.Args().Field(name); !own {
			s.Attributes = append(s.Attributes, hcl.AttributeSchema{Name: name})
		}
	}
	for _, b := range commonBlocks {
		if _, own := m.Args().Field(b.Type); !own {
			s.Blocks = append(s.Blocks, b)
		}
	}
	return s
}

// task builds one task; nil when its module is not known.
func (bu *builder) task(b *hcl.Block, p position) *engine.Task {
	m, ok := bu.module(b)
	if !ok {
		return nil
	}
	common := commonSchema(m)
	content, rest, diags := b.Body.PartialContent(common)
	bu.l.report(bodyPlace{what: "The task block", body: b.Body, schema: common, at: b.DefRange}.explain(diags))
	t := &engine.Task{
		Path: bu.name + "/" + b.Labels[1], Name: bu.prefix + b.Labels[1], Module: m, Range: b.DefRange, OnFailure: engine.Stop, Aside: p.hook,
	}
	bu.constants(t, content)
	sc := bu.scope(p, b.Labels[1])
	shape := &taskShape{name: t.Name, block: p.rolling}
	for _, f := range m.Outputs().Fields() {
		shape.outputs = append(shape.outputs, f.Name)
	}
	t.Hosts = bu.taskHosts(t, content, p)
	if each, ok := content.Attributes["for_each"]; ok {
		t.Items = bu.itemsFunc(each, sc, p)
		sc.each = true
	}
	sc.self = true
	when := bu.when(t, content, sc, p)
	args := bu.arguments(t, b, rest, sc, p)
	t.Args = args.evaluate
	t.NeedsFacts = when.facts || args.uses.facts
	bu.checks = append(bu.checks, func() { bu.dryRun(t, args, when) })
	bu.env.tasks[b.Labels[1]] = shape
	return t
}

func (bu *builder) module(b *hcl.Block) (module.Module, bool) {
	name := b.Labels[0]
	if m, ok := bu.l.opts.Modules.Get(name); ok {
		return m, true
	}
	if _, declared := bu.l.decls.modules.get(name); declared {
		bu.l.report(diag.Error("Not available yet", fmt.Sprintf("The module %q is written in Lua, which this version cannot run yet.", name), b.LabelRanges[0]))
		return nil, false
	}
	known := slices.Concat(bu.l.opts.Modules.Names(), bu.l.decls.modules.order, stockNames())
	hint := diag.DidYouMean(name, known)
	if hint == "" {
		hint = " The command `pxrun modules` lists what there is."
	}
	bu.l.report(diag.Error("Unknown module", fmt.Sprintf("%q is not a module.%s", name, hint), b.LabelRanges[0]))
	return nil, false
}

func (bu *builder) scope(p position, current string) scope {
	return scope{cluster: bu.cluster, args: bu.args, tasks: &taskNames{all: bu.all, visible: p.visible, beside: p.beside, current: current}}
}

var tagForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// constants reads what is the same for all hosts.
func (bu *builder) constants(t *engine.Task, content *hcl.BodyContent) {
	a := bu.attributes(content)
	a.duration("timeout", &t.Timeout)
	a.flag("sensitive", &t.Sensitive)
	a.flag("run_once", &t.RunOnce)
	var onFailure string
	a.oneOf("on_failure", &onFailure, string(engine.Stop), string(engine.Continue))
	if onFailure != "" {
		t.OnFailure = engine.OnFailure(onFailure)
	}
	at, _ := a.texts("tags", &t.Tags)
	for _, tag := range t.Tags {
		if !tagForm.MatchString(tag) {
			bu.l.report(diag.Error("Invalid tag", fmt.Sprintf("%q is no tag: a tag consists of letters, digits, dots, hyphens and underscores.", tag), at))
		}
		if !slices.Contains(bu.info.Tags, tag) {
			bu.info.Tags = append(bu.info.Tags, tag)
		}
	}
	if v, at, ok := a.value("delegate_to"); ok {
		names, diags := selectHosts(bu.l.site, v, placesIn(content.Attributes["delegate_to"].Expr))
		if len(names) != 1 && !diags.HasErrors() {
			diags = diag.Error("One host needed", fmt.Sprintf("delegate_to names the one host that acts instead, and here it is %d.", len(names)), at)
		}
		bu.l.report(diags)
		if !diags.HasErrors() {
			t.DelegateTo = names[0]
		}
	}
	seen := false
	for _, b := range content.Blocks {
		if b.Type != "retry" {
			bu.l.report(hookDiags(b))
			continue
		}
		if seen {
			bu.l.report(diag.Error("Duplicate retry block", "There can be one retry block.", b.DefRange))
		}
		seen = true
		bu.retry(t, b)
	}
}

func (bu *builder) retry(t *engine.Task, b *hcl.Block) {
	content, diags := contentOf(b, retrySchema)
	bu.l.report(diags)
	a := bu.attributes(content)
	t.Retry = engine.Retry{Attempts: 3, Delay: 10 * time.Second}
	a.whole("attempts", 1, 1000, &t.Retry.Attempts)
	a.duration("delay", &t.Retry.Delay)
}

// hookDiags checks a before, check or after block and says that it cannot run yet: a gate that is silently left out
// would be an open gate.
func hookDiags(b *hcl.Block) diag.List {
	_, diags := contentOf(b, hookSchema)
	return append(diags, diag.Error("Not available yet", fmt.Sprintf("%s runs a Lua script, which this version cannot do yet. Remove the block; "+
		"the modules assert and wait_for can check much of what a script would.", b.Type), b.DefRange)...)
}

// taskHosts makes Hosts: the task's own attribute, the runbook's, or the nodes of its cluster. Inside of a rolling
// block a task without an attribute leaves its hosts to the block.
func (bu *builder) taskHosts(t *engine.Task, content *hcl.BodyContent, p position) func(engine.Scope) ([]string, *engine.Unknown, diag.List) {
	attr, own := content.Attributes["hosts"]
	switch {
	case own:
		return bu.hostsFunc(attr, p, t.Name)
	case p.rolling != nil:
		return func(engine.Scope) ([]string, *engine.Unknown, diag.List) { return nil, nil, nil }
	case bu.hosts != nil:
		return bu.hostsFunc(bu.hosts, position{visible: map[string]taskInfo{}}, t.Name)
	case bu.cluster != nil:
		nodes := bu.cluster.nodeNames()
		return func(engine.Scope) ([]string, *engine.Unknown, diag.List) { return nodes, nil, nil }
	}
	if !bu.clusterIsWrong() {
		bu.l.report(diag.Error("Task without hosts", "Nothing says where this task runs. Add hosts = … to it or to the runbook, or cluster = cluster.<name> to the runbook.", t.Range))
	}
	return func(engine.Scope) ([]string, *engine.Unknown, diag.List) { return nil, nil, nil }
}

// clusterIsWrong: the runbook names a cluster that does not exist, which is reported already.
func (bu *builder) clusterIsWrong() bool {
	return bu.content.Attributes["cluster"] != nil && bu.cluster == nil
}

// hostsFunc evaluates an expression that gives hosts.
func (bu *builder) hostsFunc(attr *hcl.Attribute, p position, task string) func(engine.Scope) ([]string, *engine.Unknown, diag.List) {
	sc := bu.scope(p, task)
	if wrong := bu.l.check(attr.Expr, sc); wrong.HasErrors() {
		bu.l.report(wrong)
		return func(engine.Scope) ([]string, *engine.Unknown, diag.List) { return nil, nil, wrong }
	}
	u, places := usesOf(attr.Expr.Variables()), placesIn(attr.Expr)
	evaluate := func(s engine.Scope) ([]string, *engine.Unknown, diag.List) {
		s.Host = nil // hosts are those of the whole task
		m := moment{s, p.rolling}
		v, diags := attr.Expr.Value(bu.env.context(m, u))
		if diags.HasErrors() {
			return nil, nil, clean(diags)
		}
		if plain, _ := v.UnmarkDeep(); !plain.IsWhollyKnown() && !namesKnown(plain) {
			return nil, bu.env.unknown(m, u), nil
		}
		names, diags := selectHosts(bu.l.site, v, places)
		return names, nil, diags
	}
	if u.constant() {
		names, unknown, diags := evaluate(engine.Scope{})
		bu.l.report(diags)
		if len(names) == 0 && unknown == nil && !diags.HasErrors() {
			bu.l.report(diag.Warning("No hosts", fmt.Sprintf("%s gives no host, so nothing will be done here.", attr.Name), places.whole))
		}
		return func(engine.Scope) ([]string, *engine.Unknown, diag.List) { return names, unknown, diags }
	}
	bu.checks = append(bu.checks, func() {
		_, _, diags := evaluate(engine.Scope{})
		bu.l.report(diags)
	})
	return evaluate
}

// namesKnown tells whether the hosts in a value are known, whatever else of them is not (an address from a secret).
func namesKnown(v cty.Value) bool {
	if !v.IsKnown() || v.IsNull() {
		return false
	}
	switch t := v.Type(); {
	case t == cty.String:
		return true
	case t.IsTupleType(), t.IsListType(), t.IsSetType():
		for it := v.ElementIterator(); it.Next(); {
			if _, item := it.Element(); !namesKnown(item) {
				return false
			}
		}
		return true
	case t.IsObjectType() && t.HasAttribute("nodes"):
		return namesKnown(v.GetAttr("nodes"))
	case t.IsObjectType() && t.HasAttribute("hosts"):
		return namesKnown(v.GetAttr("hosts"))
	case t.IsObjectType() && t.HasAttribute("name"):
		return v.GetAttr("name").IsKnown()
	}
	return false
}

func (e *environment) unknown(m moment, u uses) *engine.Unknown {
	return &engine.Unknown{Reason: u.reason(func(t taskUse) bool { return e.known(m, t) }, hasFacts(m.Facts))}
}

// arguments prepares the evaluation of what belongs to the module.
func (bu *builder) arguments(t *engine.Task, b *hcl.Block, rest hcl.Body, sc scope, p position) *arguments {
	spec := t.Module.Args().Spec()
	a := &arguments{
		env: bu.env, module: t.Module, body: rest, spec: spec, block: p.rolling, task: t.Name, label: b.LabelRanges[len(b.LabelRanges)-1],
		dir: filepath.Dir(bu.l.src.open(b.DefRange.Filename)),
	}
	traversals := hcldec.Variables(rest, spec)
	a.uses = usesOf(traversals)
	wrong := bu.l.checkReferences(traversals, argumentsIn(rest, t.Module.Args()), sc)
	wrong = append(wrong, bu.l.checkBodyCalls(rest)...)
	bu.l.report(wrong)
	a.wrong = wrong
	return a
}
