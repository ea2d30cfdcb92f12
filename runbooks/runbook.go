package runbooks

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/zclconf/go-cty/cty"
)

var stepBlocks = []hcl.BlockHeaderSchema{
	{Type: "task", LabelNames: []string{"module", "name"}},
	{Type: "parallel"},
	{Type: "rolling", LabelNames: []string{"name"}},
}

var (
	runbookSchema  = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "cluster"}, {Name: "description"}, {Name: "hosts"}}, Blocks: append([]hcl.BlockHeaderSchema{{Type: "argument", LabelNames: []string{"name"}}}, stepBlocks...)}
	parallelSchema = &hcl.BodySchema{Blocks: stepBlocks}
)

// builder makes the steps of one runbook.
type builder struct {
	l *loader
	// name is the path that tasks' paths begin with, prefix what their names begin with in results: both grow where a runbook is
	// used inside another.
	name, prefix string
	cluster      *clusterDecl
	env          *environment
	content      *hcl.BodyContent
	// hosts is the runbook's own hosts attribute; nil without one.
	hosts *hcl.Attribute
	// all are the tasks of the whole runbook in the files' order, defined where their blocks stand.
	all     []string
	defined map[string]hcl.Range
	// blocks are the rolling blocks so far.
	blocks map[string]hcl.Range
	info   *RunbookInfo
	checks []func()
	// args are the names of the runbook's arguments.
	args []string
	// hooksOf is the runbook whose hooks apply, points the places for hooks that it has.
	hooksOf string
	points  []string
	// calls are the runbooks that this one stands inside of, itself included.
	calls []string
}

func (l *loader) loadRunbooks() {
	needed := func(name string) bool { return l.opts.SecretsOf == nil || slices.Contains(l.opts.SecretsOf, name) }
	for _, optional := range []bool{false, true} {
		l.optional = optional
		for _, name := range l.decls.runbooks.order {
			if needed(name) != optional {
				l.askForSecrets(l.decls.runbooks.byName[name].Body)
			}
		}
	}
	l.optional = false
	for _, b := range l.decls.hooks {
		l.askForSecrets(b.Body)
	}
	for _, name := range l.wanted() {
		if b, ok := l.callable(name); ok {
			l.loadRunbook(b)
		}
	}
}

// askForSecrets reads the secrets that the expressions of a block use.
func (l *loader) askForSecrets(body hcl.Body) {
	for _, t := range bodyVariables(body) {
		if t.RootName() != "secret" {
			continue
		}
		names := l.decls.secrets.order
		if name, ok := step(t, 1); ok {
			names = []string{name}
		}
		for _, name := range names {
			if _, exists := l.secretBy[name]; exists {
				l.get(ref{"secret", name}, t.SourceRange())
			}
		}
	}
}

// bodyVariables are all references in a block and the blocks inside it.
func bodyVariables(body hcl.Body) []hcl.Traversal {
	syntax, ok := body.(*hclsyntax.Body)
	if !ok {
		return nil
	}
	var all []hcl.Traversal
	for _, attr := range syntax.Attributes {
		all = append(all, attr.Expr.Variables()...)
	}
	for _, b := range syntax.Blocks {
		all = append(all, bodyVariables(b.Body)...)
	}
	return all
}

func (l *loader) loadRunbook(b *hcl.Block) {
	content, diags := contentOf(b, runbookSchema)
	l.report(diags)
	rb := &engine.Runbook{Name: b.Labels[0], Site: l.site, Range: b.DefRange}
	info := RunbookInfo{Name: rb.Name, Range: b.DefRange}
	l.attributes(content, scope{constant: true}).text("description", &info.Description)
	bu := &builder{l: l, name: rb.Name, content: content, hosts: content.Attributes["hosts"], defined: map[string]hcl.Range{}, blocks: map[string]hcl.Range{}, info: &info, hooksOf: rb.Name, calls: []string{rb.Name}}
	bu.cluster = l.runbookCluster(content, b.Body)
	if bu.cluster != nil {
		rb.Cluster, _ = l.site.Cluster(bu.cluster.name)
		info.Cluster = bu.cluster.name
	}
	bu.env = l.newEnvironment(b.DefRange.Filename, bu.cluster)
	declared := l.declareArguments(content)
	info.Arguments = argumentsOf(declared)
	_, info.BuiltIn = l.stock[rb.Name]
	at := hcl.Range{}
	if l.opts.Runbook == rb.Name {
		at = b.DefRange
	}
	bu.bind(declared, l.directArguments(declared, rb.Name, b.DefRange), at, rb.Name)
	info.known = at != hcl.Range{}
	bu.collectTasks(content.Blocks)
	bu.collectHooks()
	rb.Steps, _ = bu.steps(content.Blocks, position{visible: map[string]taskInfo{}})
	bu.hooksDone()
	for _, check := range bu.checks {
		check()
	}
	if len(rb.Steps) == 0 && !l.diags.HasErrors() {
		l.report(diag.Warning("Empty runbook", fmt.Sprintf("The runbook %q has no steps.", rb.Name), b.DefRange))
	}
	info.Tasks = append(bu.all, info.Tasks...)
	l.runbooks = append(l.runbooks, rb)
	l.infos = append(l.infos, info)
}

// runbookCluster finds the cluster that a runbook is for: the one that it names, or the only one of the site if the
// runbook needs a cluster and names no hosts either.
func (l *loader) runbookCluster(content *hcl.BodyContent, body hcl.Body) *clusterDecl {
	if attr, ok := content.Attributes["cluster"]; ok {
		return l.clusterReference(attr)
	}
	if len(l.skeleton.clusters) != 1 {
		return nil
	}
	only := l.skeleton.clusters[0]
	for _, t := range bodyVariables(body) {
		if name, _ := step(t, 1); t.RootName() == "cluster" && (name == "nodes" || name == "name") {
			return only
		}
	}
	if content.Attributes["hosts"] == nil && tasksWithoutHosts(content.Blocks) {
		return only
	}
	return nil
}

// tasksWithoutHosts reports whether some task leaves its hosts to the runbook.
func tasksWithoutHosts(blocks hcl.Blocks) bool {
	for _, b := range blocks {
		switch b.Type {
		case "parallel":
			inner, _, _ := b.Body.PartialContent(parallelSchema)
			if tasksWithoutHosts(inner.Blocks) {
				return true
			}
		case "task":
			c, _, _ := b.Body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "hosts"}}})
			if c.Attributes["hosts"] == nil {
				return true
			}
		}
	}
	return false
}

// clusterReference reads cluster = cluster.lab, as a name: what the cluster is made of does not matter here.
func (l *loader) clusterReference(attr *hcl.Attribute) *clusterDecl {
	t, diags := hcl.AbsTraversalForExpr(attr.Expr)
	if diags.HasErrors() || t.RootName() != "cluster" || len(t) != 2 {
		l.report(diag.Error("Invalid cluster", "The cluster of a runbook is written cluster = cluster.<name>.", attr.Expr.Range()))
		return nil
	}
	if wrong := l.checkStep(t, "cluster", l.skeleton.clusterNames()); wrong != nil {
		l.report(wrong)
		return nil
	}
	name, _ := step(t, 1)
	return l.skeleton.clusterBy[name]
}

// collectTasks lists all tasks first, so that a reference to a later one can be told from one to none at all.
func (bu *builder) collectTasks(blocks hcl.Blocks) {
	for _, b := range blocks {
		switch b.Type {
		case "task":
			name := b.Labels[1]
			if first, twice := bu.defined[name]; twice {
				bu.l.report(diag.Error("Duplicate task", fmt.Sprintf("The task %q is already defined at %s. Names of tasks are unique in a runbook.", name, place(first)), b.LabelRanges[1]))
				continue
			}
			bu.l.report(identifier("task", name, b.LabelRanges[1]))
			bu.defined[name] = b.DefRange
			bu.all = append(bu.all, name)
		case "parallel":
			inner, _, _ := b.Body.PartialContent(parallelSchema)
			bu.collectTasks(inner.Blocks)
		case "rolling":
			inner, _, _ := b.Body.PartialContent(rollingSchema)
			bu.collectTasks(inner.Blocks)
		case "between":
			inner, _, _ := b.Body.PartialContent(parallelSchema)
			bu.collectTasks(inner.Blocks)
		}
	}
}

// position is where a step stands: what it can see, and what it is inside of.
type position struct {
	visible  map[string]taskInfo
	beside   []string
	rolling  *engine.Rolling
	parallel bool
	hook     bool // inside of a hook
}

// with is the position after some tasks.
func (p position) with(done map[string]taskInfo) position {
	visible := make(map[string]taskInfo, len(p.visible)+len(done))
	for name, info := range p.visible {
		visible[name] = info
	}
	for name, info := range done {
		visible[name] = info
	}
	p.visible = visible
	return p
}

// steps builds steps that run one after the other. It returns the tasks among them.
func (bu *builder) steps(blocks hcl.Blocks, p position) ([]engine.Step, map[string]taskInfo) {
	var steps []engine.Step
	made := map[string]taskInfo{}
	add := func(more []engine.Step, done map[string]taskInfo) {
		steps = append(steps, more...)
		p = p.with(done)
		for name, info := range done {
			made[name] = info
		}
	}
	for _, b := range blocks {
		if b.Type == "argument" {
			continue
		}
		if called, ok := bu.calledBy(b); ok {
			add(bu.expand(called, b, p))
			continue
		}
		hooks := p.rolling != nil && b.Type == "task" && !p.hook
		if hooks {
			at := p
			at.hook = true
			add(bu.hooked(at, pointsOf("before_", b)...))
		}
		s, done := bu.step(b, p)
		if s != nil {
			add([]engine.Step{s}, done)
		} else {
			add(nil, done)
		}
		if hooks {
			at := p
			at.hook = true
			add(bu.hooked(at, pointsOf("after_", b)...))
		}
	}
	return steps, made
}

// calledBy is the runbook that a task uses as its module, if it does.
func (bu *builder) calledBy(b *hcl.Block) (*hcl.Block, bool) {
	if b.Type != "task" {
		return nil, false
	}
	if _, module := bu.l.opts.Modules.Get(b.Labels[0]); module {
		return nil, false
	}
	return bu.l.callable(b.Labels[0])
}

func (bu *builder) step(b *hcl.Block, p position) (engine.Step, map[string]taskInfo) {
	switch b.Type {
	case "parallel":
		return bu.parallel(b, p)
	case "rolling":
		return bu.rolling(b, p)
	default:
		t := bu.task(b, p)
		if t == nil {
			// A task that is wrong still has a name that later ones may use.
			return nil, map[string]taskInfo{b.Labels[1]: {any: true}}
		}
		return t, map[string]taskInfo{b.Labels[1]: {outputs: t.Module.Outputs().Type()}}
	}
}

func (bu *builder) parallel(b *hcl.Block, p position) (engine.Step, map[string]taskInfo) {
	content, diags := contentOf(b, parallelSchema)
	bu.l.report(diags)
	par := &engine.Parallel{Range: b.DefRange}
	made := map[string]taskInfo{}
	// A branch sees what ran before the block, and what stands earlier in the branch itself.
	names := make([][]string, len(content.Blocks))
	for i, inner := range content.Blocks {
		names[i] = tasksIn(inner)
	}
	for i, inner := range content.Blocks {
		branch := p
		branch.parallel = true
		branch.beside = slices.Clone(p.beside)
		for j, others := range names {
			if j != i {
				branch.beside = append(branch.beside, others...)
			}
		}
		if called, ok := bu.calledBy(inner); ok {
			_, _ = bu.expand(called, inner, branch) // which says that it cannot stand here
			continue
		}
		s, done := bu.step(inner, branch)
		if s != nil {
			par.Steps = append(par.Steps, s)
		}
		for name, info := range done {
			made[name] = info
		}
	}
	return par, made
}

// tasksIn are the names of the tasks in a step.
func tasksIn(b *hcl.Block) []string {
	if b.Type == "task" {
		return []string{b.Labels[1]}
	}
	content, _, _ := b.Body.PartialContent(parallelSchema)
	var names []string
	for _, inner := range content.Blocks {
		names = append(names, tasksIn(inner)...)
	}
	return names
}

// attributes reads a block of a runbook, whose expressions may use cluster.nodes.
func (bu *builder) attributes(c *hcl.BodyContent) attributes {
	return attributes{c.Attributes, func(expr hcl.Expression) cty.Value {
		if wrong := bu.l.check(expr, scope{cluster: bu.cluster, args: bu.args}); wrong.HasErrors() {
			bu.l.report(wrong)
			return cty.DynamicVal
		}
		v, diags := bu.env.eval(expr)
		bu.l.report(diags)
		if diags.HasErrors() {
			return cty.DynamicVal
		}
		return v
	}, bu.l.report}
}
