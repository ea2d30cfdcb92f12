package runbooks

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/internal/diag"
)

// contentOf reads a block by its schema. What does not fit is told in the words of this language.
func contentOf(b *hcl.Block, schema *hcl.BodySchema) (*hcl.BodyContent, diag.List) {
	content, diags := b.Body.Content(schema)
	place := bodyPlace{what: "The " + b.Type + " block", body: b.Body, schema: schema, at: b.DefRange}
	return content, place.explain(diags)
}

// bodyPlace is where HCL found that something does not fit.
type bodyPlace struct {
	what   string // what the body belongs to, as a sentence begins: "The node block"
	body   hcl.Body
	schema *hcl.BodySchema
	at     hcl.Range // where to say that something is missing
	more   string    // where to look when there is too much to list
}

// explain makes HCL's complaints about names, labels and missing things name what was meant, or what there is. A missing
// argument that stands there misspelt is not reported twice.
func (p bodyPlace) explain(diags diag.List) diag.List {
	var better diag.List
	meant := p.meant(diags)
	for _, d := range clean(diags) {
		switch d.Summary {
		case "Unsupported argument", "Unsupported block type":
			better = append(better, p.unknown(d))
			continue
		case "Missing required argument":
			name := between(d.Detail, `"`, `"`)
			if !slices.Contains(meant, name) {
				better = append(better, diag.Error(d.Summary, fmt.Sprintf("%s needs the argument %q.", p.what, name), p.at)...)
			}
			continue
		}
		better = append(better, p.labels(d))
	}
	return better
}

// meant are the names that misspelt ones were probably meant to be.
func (p bodyPlace) meant(diags diag.List) []string {
	var names []string
	for _, d := range diags {
		if name, isBlock, ok := p.nameAt(d); ok {
			names = append(names, diag.Suggest(name, p.known(isBlock)))
		}
	}
	return names
}

// nameAt is the name of the attribute or block that a complaint points at.
func (p bodyPlace) nameAt(d *hcl.Diagnostic) (name string, isBlock, ok bool) {
	body, syntax := p.body.(*hclsyntax.Body)
	if !syntax || d.Subject == nil {
		return "", false, false
	}
	for _, attr := range body.Attributes {
		if attr.NameRange == *d.Subject {
			return attr.Name, false, true
		}
	}
	for _, b := range body.Blocks {
		if b.TypeRange == *d.Subject {
			return b.Type, true, true
		}
	}
	return "", false, false
}

func (p bodyPlace) known(blocks bool) []string {
	if blocks {
		return valuesOf(p.schema.Blocks, func(b hcl.BlockHeaderSchema) string { return b.Type })
	}
	return valuesOf(p.schema.Attributes, func(a hcl.AttributeSchema) string { return a.Name })
}

func (p bodyPlace) unknown(d *hcl.Diagnostic) *hcl.Diagnostic {
	name, isBlock, ok := p.nameAt(d)
	if !ok {
		return d
	}
	kind := "argument"
	if isBlock {
		kind = "block"
	}
	problem := func(format string, args ...any) *hcl.Diagnostic {
		return diag.Error("Unknown "+kind, fmt.Sprintf(format, args...), *d.Subject)[0]
	}
	switch {
	case isBlock && slices.Contains(p.known(false), name):
		return problem("%q is an argument, not a block: write %s = ….", name, name)
	case !isBlock && slices.Contains(p.known(true), name):
		return problem("%q is a block, not an argument: write %s, without an equals sign.", name, p.header(name))
	}
	if home, exists := homes[name]; exists && isBlock {
		return problem("A %s block cannot stand here: it stands %s.", name, home)
	}
	hint := diag.DidYouMean(name, p.known(isBlock))
	if other := diag.Suggest(name, p.known(!isBlock)); hint == "" && other != "" {
		hint = fmt.Sprintf(" Did you mean %s?", p.form(other, !isBlock))
	}
	if hint == "" {
		hint = p.list(isBlock)
	}
	if p.at == (hcl.Range{}) {
		return problem("There is no %s %q at the top of a file.%s", kind, name, hint)
	}
	return problem("%s has no %s %q.%s", p.what, kind, name, hint)
}

// list says what there is.
func (p bodyPlace) list(blocks bool) string {
	known := p.known(blocks)
	switch {
	case len(known) == 0 && blocks:
		return " It takes no blocks."
	case len(known) == 0:
		return " Only blocks stand here: " + enumerate(p.known(true)) + "."
	case p.more != "" && !blocks:
		return p.more
	}
	return " There is " + enumerate(known) + "."
}

func (p bodyPlace) form(name string, block bool) string {
	if block {
		return "the block " + p.header(name)
	}
	return name + " = …"
}

// header is how a block is written.
func (p bodyPlace) header(name string) string {
	text := name
	for _, b := range p.schema.Blocks {
		if b.Type == name {
			for _, label := range b.LabelNames {
				text += ` "<` + label + `>"`
			}
		}
	}
	return text + " { … }"
}

// labels explains a block with too few or too many labels.
func (p bodyPlace) labels(d *hcl.Diagnostic) *hcl.Diagnostic {
	_, name, ok := strings.Cut(d.Summary, " for ")
	missing, extra := strings.HasPrefix(d.Summary, "Missing "), strings.HasPrefix(d.Summary, "Extraneous label")
	if !ok || d.Subject == nil || !missing && !extra || !slices.Contains(p.known(true), name) {
		return d
	}
	what := "Here one of the labels is missing."
	if extra {
		what = "Here is a label too many."
	}
	return diag.Error("Wrong number of labels", fmt.Sprintf("A %s block is written %s. %s", name, p.header(name), what), *d.Subject)[0]
}

// homes say where the blocks stand that may be found in the wrong place.
var homes = map[string]string{
	"node": "inside of a cluster block", "validation": "inside of a variable or argument block", "become": "inside of an ssh block",
	"task": "inside of a runbook block", "parallel": "inside of a runbook block", "rolling": "inside of a runbook block",
	"between": "inside of a rolling block", "argument": "inside of a runbook block", "hook": atTop,
	"retry": "inside of a task block", "ssh": "at the top of a file, or inside of a cluster, node or host block",
	"cluster": atTop, "host": atTop, "group": atTop, "variable": atTop, "locals": atTop, "secret": atTop, "runbook": atTop,
	"module": atTop, "schedule": atTop, "notify": atTop, "pxrun": atTop,
}

const atTop = "at the top of a file, outside of all other blocks"

// between is the first part of a text that stands between two marks.
func between(text, left, right string) string {
	_, rest, _ := strings.Cut(text, left)
	inside, _, _ := strings.Cut(rest, right)
	return inside
}
