package runbooks

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/inventory"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// Load reads files and folders as one document and checks all of it. Problems come sorted; when there are errors among
// them the document is still returned, for its Files, but nothing of it should be run. The context bounds the commands
// that secrets are read with.
func Load(ctx context.Context, paths []string, o Options) (*Document, diag.List) {
	l := newLoader(ctx, o, readSources(paths, o.BaseDir))
	l.report(l.src.diags)
	l.load()
	return l.document(), shown(diag.Sort(l.believable()))
}

// believable leaves out what may only follow from a syntax error: everything else in that file, which was not
// understood, and names that other files use and that may stand in the part that was lost.
func (l *loader) believable() diag.List {
	if len(l.src.broken) == 0 {
		return l.diags
	}
	syntax := len(l.src.diags)
	return slices.Concat(l.diags[:syntax], slices.DeleteFunc(l.diags[syntax:], func(d *hcl.Diagnostic) bool {
		return d.Subject == nil || l.src.broken[d.Subject.Filename] || strings.HasPrefix(d.Summary, "Unknown ") && d.Summary != "Unknown argument" && d.Summary != "Unknown block" || d.Summary == "No such host"
	}))
}

// maxProblems is how many are shown at once. More are never read: they come from a file that is something else.
const maxProblems = 100

func shown(diags diag.List) diag.List {
	if len(diags) <= maxProblems {
		return diags
	}
	more := fmt.Sprintf("There are %d more problems, which are not shown.", len(diags)-maxProblems)
	severity := diag.Warning
	if diags[maxProblems:].HasErrors() {
		severity = diag.Error
	}
	return append(diags[:maxProblems:maxProblems], severity("Many problems", more, diag.Range{})...)
}

// loader is the work of one Load.
type loader struct {
	ctx    context.Context //nolint:containedctx // lives as long as the call that it belongs to
	opts   Options
	around surroundings
	src    *sources
	diags  diag.List

	decls       *declarations
	skeleton    *skeleton
	settings    []*hcl.BodyContent
	variables   []*Variable
	variableBy  map[string]*Variable
	secretBy    map[string]*secretDecl
	optional    bool // secrets that are asked for now need not be there
	hidden      *hiddenTexts
	secretText  map[string]secret.String // those that were read, by name
	evaluation  evaluator
	functionsIn map[string]map[string]function.Function
	clusterSSH  map[string]inventory.SSH
	stock       map[string]*hcl.Block // built-in runbooks that were asked for

	site      *inventory.Site
	values    map[string]cty.Value // of the runbooks' expressions
	modules   []ModuleDecl
	runbooks  []*engine.Runbook
	infos     []RunbookInfo
	schedules []Schedule
	notifies  []Notify
}

func newLoader(ctx context.Context, o Options, src *sources) *loader {
	hidden := &hiddenTexts{}
	l := &loader{
		ctx: ctx, opts: o, src: src, hidden: hidden,
		around:      surroundings{env: o.environment(), home: o.Home, seen: &filesSeen{}, hidden: hidden.add},
		variableBy:  map[string]*Variable{},
		secretBy:    map[string]*secretDecl{},
		secretText:  map[string]secret.String{},
		evaluation:  evaluator{done: map[ref]cty.Value{}},
		functionsIn: map[string]map[string]function.Function{},
		clusterSSH:  map[string]inventory.SSH{},
		stock:       map[string]*hcl.Block{},
	}
	if o.Now != nil {
		l.around.now = o.Now()
	}
	return l
}

// report takes problems in. HCL's own carry the values that the expression saw, for a printer that shows them; these
// may be secret.
func (l *loader) report(diags diag.List) { l.diags = append(l.diags, clean(diags)...) }

func clean(diags diag.List) diag.List {
	for _, d := range diags {
		d.Expression, d.EvalContext = nil, nil
		if d.Summary == "Invalid template interpolation value" {
			d.Summary, d.Detail = "Not a text", d.Detail+interpolationHint(d.Detail)
		}
	}
	return diags
}

// interpolationHint says how a text is made of what is none.
func interpolationHint(detail string) string {
	switch {
	case strings.HasSuffix(detail, "have object."):
		return " Take one of its attributes, such as its name."
	case strings.HasSuffix(detail, "have tuple."), strings.Contains(detail, "have list of"):
		return ` Make one text of its elements: join(", ", …).`
	}
	return ""
}

// load goes from names to values to steps. Each stage goes on with what the one before could make sense of, so that
// all problems are found at once.
func (l *loader) load() {
	var diags diag.List
	l.decls, diags = declare(l.src.bodies())
	l.report(diags)
	if l.decls.blocks == 0 && !l.src.diags.HasErrors() && !diags.HasErrors() {
		l.report(diag.Warning("Empty site", "The files declare nothing at all.", diag.Range{}))
	}
	l.skeleton, diags = newSkeleton(l.decls)
	l.report(diags)

	l.setVariables()
	l.readSettings()
	l.declareSecrets()
	l.checkSecrets()
	for _, name := range l.decls.localNames {
		l.get(ref{"local", name}, l.decls.locals[name].NameRange)
	}
	l.loadSite()
	l.declareModules()
	l.checkHooks()
	l.loadRunbooks()
	l.loadSchedules()
	l.loadNotifies()
}

func (l *loader) setVariables() {
	// Defaults and validations may call functions; files are read from the folder of the first file.
	functions := l.around.in(l.src.base)
	if len(l.src.order) > 0 {
		functions = l.functions(l.src.order[0])
	}
	vars, diags := setVariables(&l.decls.variables, l.opts, l.src, functions)
	l.report(diags)
	l.variables = vars
	for _, v := range vars {
		l.variableBy[v.Name] = v
		if v.Sensitive {
			l.hidden.add(v.Value)
		}
	}
}

// loadSite evaluates the inventory and checks what concerns several hosts.
func (l *loader) loadSite() {
	for _, h := range l.skeleton.hosts {
		l.get(ref{"host", h.name}, h.block.DefRange)
	}
	for _, g := range l.skeleton.groups {
		l.get(ref{"group", g.name}, g.block.DefRange)
	}
	l.connections()
	l.checkAddresses()
	for _, c := range l.skeleton.clusters {
		l.checkNodes(c)
	}
	l.site = l.assemble()
	l.values = l.staticValues()
}

// assemble makes the inventory. Variables of groups apply to hosts that do not set them; a later group wins.
func (l *loader) assemble() *inventory.Site {
	site := &inventory.Site{}
	for _, c := range l.skeleton.clusters {
		site.Clusters = append(site.Clusters, &inventory.Cluster{Name: c.name, Nodes: c.nodeNames(), SSH: l.clusterSSH[c.name], Range: c.block.DefRange})
	}
	byHost := map[string][]*groupDecl{}
	for _, g := range l.skeleton.groups {
		site.Groups = append(site.Groups, g.group)
		for _, name := range g.group.Hosts {
			byHost[name] = append(byHost[name], g)
		}
	}
	for _, h := range l.skeleton.hosts {
		host := h.host
		vars := map[string]cty.Value{}
		for _, g := range byHost[h.name] {
			host.Groups = append(host.Groups, g.name)
			for key, v := range g.group.Vars {
				vars[key] = v
			}
		}
		for key, v := range h.host.Vars {
			vars[key] = v
		}
		host.Vars = vars
		site.Hosts = append(site.Hosts, host)
	}
	return site
}

// staticValues are what expressions of runbooks see on every host.
func (l *loader) staticValues() map[string]cty.Value {
	hosts := map[string]cty.Value{}
	for _, h := range l.site.Hosts {
		hosts[h.Name] = hostObject(h)
	}
	groups := map[string]cty.Value{}
	for _, g := range l.site.Groups {
		groups[g.Name] = groupObject(g, func(name string) cty.Value { return hosts[name] })
	}
	clusters := map[string]cty.Value{}
	for _, c := range l.site.Clusters {
		clusters[c.Name] = clusterObject(c, hosts)
	}
	vars, locals := map[string]cty.Value{}, map[string]cty.Value{}
	for _, v := range l.variables {
		vars[v.Name] = v.Value
	}
	for _, name := range l.decls.localNames {
		locals[name] = l.get(ref{"local", name}, l.decls.locals[name].NameRange)
	}
	return map[string]cty.Value{
		"var": cty.ObjectVal(vars), "local": cty.ObjectVal(locals), "host": cty.ObjectVal(hosts),
		"group": cty.ObjectVal(groups), "cluster": cty.ObjectVal(clusters),
	}
}

func clusterObject(c *inventory.Cluster, hosts map[string]cty.Value) cty.Value {
	parts := map[string]cty.Value{"name": cty.StringVal(c.Name)}
	nodes := make([]cty.Value, len(c.Nodes))
	for i, name := range c.Nodes {
		nodes[i], parts[name] = hosts[name], hosts[name]
	}
	parts["nodes"] = cty.TupleVal(nodes)
	return cty.ObjectVal(parts)
}

// checkAddresses finds hosts that would be one and the same machine.
func (l *loader) checkAddresses() {
	type endpoint struct {
		address string
		port    int
	}
	seen := map[endpoint]*hostDecl{}
	for _, h := range l.skeleton.hosts {
		if h.host.Address == "" {
			continue
		}
		e := endpoint{h.host.Address, h.host.SSH.Port}
		if e.port == 0 {
			e.port = 22
		}
		first, twice := seen[e]
		if !twice {
			seen[e] = h
			continue
		}
		l.report(diag.Error("Duplicate address", fmt.Sprintf("%s has the address %s of %s, which is defined at %s. Two names for one machine would be changed twice.",
			h.name, h.host.Address, first.name, place(first.block.DefRange)), h.content.Attributes["address"].Expr.Range()))
	}
}
