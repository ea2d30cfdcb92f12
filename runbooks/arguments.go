package runbooks

import (
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/inventory"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// arguments evaluates and decodes what belongs to the module of one task. It is safe for concurrent use.
type arguments struct {
	env    *environment
	module module.Module
	body   hcl.Body
	spec   hcldec.Spec
	uses   uses
	block  *engine.Rolling
	task   string
	label  hcl.Range // of the task's name
	dir    string
	wrong  diag.List // what is wrong whatever the host

	once  sync.Once // for arguments that are the same everywhere
	value any
	why   *engine.Unknown
	diags diag.List
}

// evaluate is engine.Task.Args.
func (a *arguments) evaluate(s engine.Scope) (any, *engine.Unknown, diag.List) {
	if a.wrong.HasErrors() {
		return nil, nil, a.wrong
	}
	if !a.uses.constant() {
		return a.decode(s)
	}
	a.once.Do(func() { a.value, a.why, a.diags = a.decode(engine.Scope{}) })
	return a.value, a.why, a.diags
}

func (a *arguments) decode(s engine.Scope) (any, *engine.Unknown, diag.List) {
	m := moment{s, a.block}
	v, diags := hcldec.Decode(a.body, a.spec, a.env.context(m, a.uses))
	if diags = a.explain(diags); diags.HasErrors() {
		return nil, nil, diags
	}
	if !v.IsWhollyKnown() {
		return nil, a.env.unknown(m, a.uses), diags
	}
	args := a.module.NewArgs()
	more := a.decodeInto(v, args)
	return args, nil, append(diags, more...)
}

func (a *arguments) decodeInto(v cty.Value, into any) diag.List {
	var diags diag.List
	for _, e := range a.module.Args().DecodeIn(a.dir, v, into) {
		diags = append(diags, diag.Error(e.Summary, a.detail(e), a.module.Args().RangeOf(a.body, e.Path))...)
	}
	if len(diags) > 0 {
		return diags
	}
	return append(a.checkHosts(into), a.checkName(into)...)
}

// preview evaluates as far as possible before anything is known of hosts and results, and returns what is wrong
// already.
func (a *arguments) preview(s engine.Scope) diag.List {
	v, diags := hcldec.Decode(a.body, a.spec, a.env.context(moment{s, a.block}, a.uses))
	diags = a.explain(diags)
	args := a.module.NewArgs()
	for _, e := range a.module.Args().DecodeIn(a.dir, v, args) {
		if e.Summary == schema.NotKnown || a.follows(e, diags) {
			continue
		}
		if r := a.module.Args().RangeOf(a.body, e.Path); !overlaps(diags, r) {
			diags = append(diags, diag.Error(e.Summary, a.detail(e), r)...)
		}
	}
	diags = append(diags, a.checkHosts(args)...)
	if v.IsWhollyKnown() {
		diags = append(diags, a.checkName(args)...)
	}
	return diags
}

func overlaps(diags diag.List, r hcl.Range) bool {
	return slices.ContainsFunc(diags, func(d *hcl.Diagnostic) bool { return d.Subject != nil && d.Subject.Overlaps(r) })
}

// argumentsIn are the expressions of a body and its blocks that a schema knows.
func argumentsIn(body hcl.Body, known *schema.Body) []hcl.Expression {
	syntax, ok := body.(*hclsyntax.Body)
	if !ok {
		return nil
	}
	var all []hcl.Expression
	for _, attr := range syntax.Attributes {
		if _, own := known.Field(attr.Name); own {
			all = append(all, attr.Expr)
		}
	}
	for _, b := range syntax.Blocks {
		if f, own := known.Field(b.Type); own && f.Block {
			all = append(all, argumentsIn(b.Body, f.Body)...)
		}
	}
	return all
}

// checkBodyCalls checks the function calls in a body that is not evaluated as one expression.
func (l *loader) checkBodyCalls(body hcl.Body) diag.List {
	syntax, ok := body.(*hclsyntax.Body)
	if !ok {
		return nil
	}
	var diags diag.List
	for _, attr := range syntax.Attributes {
		diags = append(diags, l.checkCalls(attr.Expr)...)
	}
	for _, b := range syntax.Blocks {
		diags = append(diags, l.checkBodyCalls(b.Body)...)
	}
	return diags
}

// condition is a task's when.
type condition struct {
	uses
	evaluate func(engine.Scope) (bool, *engine.Unknown, diag.List)
}

// when prepares the condition of a task.
func (bu *builder) when(t *engine.Task, content *hcl.BodyContent, sc scope, p position) condition {
	attr, ok := content.Attributes["when"]
	if !ok {
		return condition{}
	}
	if wrong := bu.l.check(attr.Expr, sc); wrong.HasErrors() {
		bu.l.report(wrong)
		t.When = func(engine.Scope) (bool, *engine.Unknown, diag.List) { return false, nil, wrong }
		return condition{}
	}
	u, at := usesOf(attr.Expr.Variables()), attr.Expr.Range()
	t.When = func(s engine.Scope) (bool, *engine.Unknown, diag.List) {
		m := moment{s, p.rolling}
		v, diags := attr.Expr.Value(bu.env.context(m, u))
		if diags.HasErrors() {
			return false, nil, clean(diags)
		}
		v, _ = v.Unmark()
		b, err := convert.Convert(v, cty.Bool)
		switch {
		case err != nil:
			return false, nil, diag.Error("Invalid condition", fmt.Sprintf("when must be true or false, and it is %s.", describe(v)), at)
		case !b.IsKnown():
			return false, bu.env.unknown(m, u), nil
		case b.IsNull():
			return false, nil, diag.Error("Invalid condition", "when is null, neither true nor false. An output of a task that did not run on this host is null: "+
				"coalesce(…, false) gives a value for that case.", at)
		}
		return b.True(), nil, nil
	}
	return condition{u, t.When}
}

// itemsFunc prepares for_each.
func (bu *builder) itemsFunc(attr *hcl.Attribute, sc scope, p position) func(engine.Scope) ([]engine.Item, *engine.Unknown, diag.List) {
	if wrong := bu.l.check(attr.Expr, sc); wrong.HasErrors() {
		bu.l.report(wrong)
		return func(engine.Scope) ([]engine.Item, *engine.Unknown, diag.List) { return nil, nil, wrong }
	}
	u, at := usesOf(attr.Expr.Variables()), attr.Expr.Range()
	return func(s engine.Scope) ([]engine.Item, *engine.Unknown, diag.List) {
		s.Host = nil
		m := moment{s, p.rolling}
		v, diags := attr.Expr.Value(bu.env.context(m, u))
		if diags.HasErrors() {
			return nil, nil, clean(diags)
		}
		v, marks := v.Unmark()
		if !v.IsKnown() {
			return nil, bu.env.unknown(m, u), nil
		}
		if _, hidden := marks[secret.Mark]; hidden {
			return nil, nil, diag.Error("Secret items", "The keys of for_each are shown in plans and reports, and these are secret. "+
				"Go over something that is not, and look the secret up by each.key.", at)
		}
		items, diags := itemsOf(v, marks, at)
		return items, nil, diags
	}
}

// itemsOf reads a map, an object, a set or a list. Items of a set bear their value as key, those of a list their index.
func itemsOf(v cty.Value, marks cty.ValueMarks, at hcl.Range) ([]engine.Item, diag.List) {
	t := v.Type()
	if v.IsNull() || !v.CanIterateElements() {
		return nil, wrongType("for_each", "a map, a list or a set", v, at)
	}
	var items []engine.Item
	for it := v.ElementIterator(); it.Next(); {
		key, item := it.Element()
		if t.IsSetType() {
			key = item
		}
		text, err := convert.Convert(key, cty.String)
		if err != nil || text.IsNull() || !text.IsKnown() || text.IsMarked() {
			return nil, diag.Error("Invalid for_each", "Items of a set are told apart by their values, which must be texts or numbers here. Use a map or a list.", at)
		}
		items = append(items, engine.Item{Key: text.AsString(), Value: item.WithMarks(marks)})
	}
	return items, nil
}

// dryRun evaluates a task without facts and results, so that what is wrong in any case is found before any connection.
func (bu *builder) dryRun(t *engine.Task, a *arguments, when condition) {
	hosts, _, _ := t.Hosts(engine.Scope{})
	if len(hosts) == 0 && a.block != nil {
		hosts, _, _ = a.block.Over(engine.Scope{})
	}
	items := []*engine.Item{nil}
	if t.Items != nil {
		list, _, diags := t.Items(engine.Scope{})
		bu.l.report(diags)
		for i := range list {
			items = append(items, &list[i])
		}
		if len(list) > 0 {
			items = items[1:]
		}
	}
	bu.l.report(firstWrong(bu.l.site.Host, hosts, items, when.uses, func(s engine.Scope) diag.List {
		if when.evaluate == nil {
			return nil
		}
		_, _, diags := when.evaluate(s)
		return diags
	}))
	bu.l.report(firstWrong(bu.l.site.Host, hosts, items, a.uses, a.preview))
}

// firstWrong evaluates without a host, then for the hosts and items that can make a difference, up to the first for
// which something is wrong: the others are most likely wrong in the same way.
func firstWrong(find func(string) (inventory.Host, bool), hosts []string, items []*engine.Item, u uses, evaluate func(engine.Scope) diag.List) diag.List {
	first := engine.Scope{Item: items[0]}
	diags := evaluate(first)
	try := func(s engine.Scope, who string) bool {
		before := len(diags)
		for _, d := range evaluate(s) {
			if d.Subject == nil || !overlaps(diags[:before], *d.Subject) {
				d.Detail += " It is so for " + who + "."
				diags = append(diags, d)
			}
		}
		return len(diags) > before
	}
	if u.self {
		for _, name := range hosts {
			if h, ok := find(name); ok {
				s := engine.Scope{Host: &h, Item: items[0]}
				if first.Host == nil {
					first = s
				}
				if try(s, name) {
					break
				}
			}
		}
	}
	if u.each {
		for _, item := range items[1:] {
			if try(engine.Scope{Host: first.Host, Item: item}, fmt.Sprintf("the item %q", item.Key)) {
				break
			}
		}
	}
	return diags
}
