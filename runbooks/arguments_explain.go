package runbooks

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/inventory"
	"github.com/zclconf/go-cty/cty"
)

// explain makes HCL's messages those of this language.
func (a *arguments) explain(diags diag.List) diag.List {
	var better diag.List
	for _, d := range clean(diags) {
		missing := d.Summary == "Missing required argument" || strings.HasPrefix(d.Summary, "Missing ") && strings.HasSuffix(d.Summary, " block")
		if missing || d.Subject != nil && overlaps(a.wrong, *d.Subject) {
			continue // said elsewhere, and better: by the module's declaration, or before the evaluation
		}
		better = append(better, a.placeOf(d).explain(diag.List{d})...)
	}
	return better
}

// placeOf finds the innermost block of the arguments that a problem is in.
func (a *arguments) placeOf(d *hcl.Diagnostic) bodyPlace {
	args := a.module.Args()
	p := bodyPlace{what: fmt.Sprintf("The module %q", a.module.Spec().Name), body: a.body, schema: hcldec.ImpliedSchema(args.Spec()), at: a.body.MissingItemRange()}
	if len(p.schema.Attributes) > 12 {
		p.more = fmt.Sprintf(" See `pxrun modules show %s`.", a.module.Spec().Name)
	}
	for _, name := range commonAttributes {
		p.schema.Attributes = append(p.schema.Attributes, hcl.AttributeSchema{Name: name})
	}
	p.schema.Blocks = append(p.schema.Blocks, hcl.BlockHeaderSchema{Type: "retry"})
	syntax, ok := a.body.(*hclsyntax.Body)
	for ok && d.Subject != nil {
		inner := blockAround(syntax, *d.Subject)
		if inner == nil {
			break
		}
		f, known := args.Field(inner.Type)
		if !known || !f.Block {
			break
		}
		syntax, args = inner.Body, f.Body
		p = bodyPlace{what: "The " + inner.Type + " block", body: inner.Body, schema: hcldec.ImpliedSchema(args.Spec()), at: inner.DefRange()}
	}
	return p
}

// blockAround is the block of a body that a place is inside the braces of.
func blockAround(body *hclsyntax.Body, at hcl.Range) *hclsyntax.Block {
	for _, b := range body.Blocks {
		if b.Body.SrcRange.Filename == at.Filename && b.Body.SrcRange.ContainsPos(at.Start) && at.Start.Byte > b.OpenBraceRange.Start.Byte {
			return b
		}
	}
	return nil
}

// follows tells a problem that only follows from a misspelt name.
func (a *arguments) follows(e *schema.Error, diags diag.List) bool {
	for _, d := range diags {
		if d.Summary != "Unknown argument" && d.Summary != "Unknown block" {
			continue
		}
		if e.Whole {
			return true // the module judges all of its arguments at once, and one of them is not what was meant
		}
		p := a.placeOf(d)
		if len(e.Path) == 0 || !strings.HasPrefix(e.Summary, "Missing required ") {
			continue
		}
		name, isBlock, ok := p.nameAt(d)
		last, isAttr := e.Path[len(e.Path)-1].(cty.GetAttrStep)
		if ok && isAttr && (name == last.Name || diag.Suggest(name, p.known(isBlock)) == last.Name) {
			return true
		}
	}
	return false
}

// detail adds to a secret in the wrong place which arguments take one.
func (a *arguments) detail(e *schema.Error) string {
	if e.Summary != "Secret in a plain argument" {
		return e.Detail
	}
	var takers []string
	for _, f := range a.module.Args().Fields() {
		if f.Secret {
			takers = append(takers, f.Name)
		}
	}
	if len(takers) == 0 {
		return fmt.Sprintf("%s The module %q has none.", e.Detail, a.module.Spec().Name)
	}
	return fmt.Sprintf("%s The module %q takes one in %s.", e.Detail, a.module.Spec().Name, enumerate(takers))
}

// checkName lets arguments judge the task's own name, which is the default for that of what many modules make.
func (a *arguments) checkName(args any) diag.List {
	judge, ok := args.(interface{ ValidateTask(name string) error })
	if !ok {
		return nil
	}
	if err := judge.ValidateTask(a.task); err != nil {
		return diag.Error("Unusable name", fmt.Sprintf("The name of the task is that of what it makes: %v.", err), a.label)
	}
	return nil
}

// checkHosts reports hosts that an argument names and the inventory does not have, and hosts that are no nodes where only a
// node of the runbook's cluster will do.
func (a *arguments) checkHosts(args any) diag.List {
	var diags diag.List
	report := func(path cty.Path, summary, detail string) {
		diags = append(diags, diag.Error(summary, detail, a.module.Args().RangeOf(a.body, path))...)
	}
	check := func(path cty.Path, name string) {
		if !slices.Contains(a.env.hosts, name) {
			report(path, "Unknown host", fmt.Sprintf("There is no host %q.%s", name, suggestion(name, a.env.hosts)))
		}
	}
	checkNode := func(path cty.Path, name string) {
		switch {
		case !slices.Contains(a.env.hosts, name):
			report(path, "Unknown host", fmt.Sprintf("There is no host %q.%s", name, suggestion(name, append(slices.Clone(a.env.nodes), a.env.hosts...))))
		case len(a.env.nodes) > 0 && !slices.Contains(a.env.nodes, name):
			report(path, "Not a node", fmt.Sprintf("The host %q is not a node of the cluster %q, which has %s.", name, a.env.cluster, enumerate(a.env.nodes)))
		}
	}
	schema.Walk(a.module.Args(), args, func(path cty.Path, r inventory.Ref) {
		if r != "" {
			check(path, string(r))
		}
	})
	schema.Walk(a.module.Args(), args, func(path cty.Path, refs inventory.Refs) {
		for i, name := range refs {
			check(path.IndexInt(i), name)
		}
	})
	schema.Walk(a.module.Args(), args, func(path cty.Path, r inventory.NodeRef) {
		if r != "" {
			checkNode(path, string(r))
		}
	})
	schema.Walk(a.module.Args(), args, func(path cty.Path, refs inventory.NodeRefs) {
		for i, name := range refs {
			checkNode(path.IndexInt(i), name)
		}
	})
	return diags
}
