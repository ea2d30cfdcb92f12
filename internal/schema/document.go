package schema

import (
	"fmt"
	"strings"
)

// Markdown documents the arguments: a table for each body, those of nested blocks after that of their parent.
func (b *Body) Markdown() string {
	var out strings.Builder
	b.document(&out, "")
	return out.String()
}

func (b *Body) document(out *strings.Builder, heading string) {
	if heading != "" {
		fmt.Fprintf(out, "\n### %s\n\n", heading)
	}
	if len(b.fields) == 0 {
		out.WriteString("None.\n")
		return
	}
	out.WriteString("| name | type | | what it is |\n|---|---|---|---|\n")
	for _, f := range b.fields {
		fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", f.Name, f.Type, f.need(), cell(f.explain()))
	}
	for _, f := range b.fields {
		if f.Body == nil {
			continue
		}
		what := "Objects of `" + f.Name + "`"
		if f.Block {
			what = "Block `" + f.Name + "`"
		}
		f.Body.document(out, what)
	}
}

func (f *Field) need() string {
	switch {
	case f.Label:
		return "label"
	case f.Repeated:
		return "any number"
	case f.Required:
		return "required"
	case f.Default != "":
		return "default `" + f.Default + "`"
	}
	return ""
}

func (f *Field) explain() string {
	text := sentence(f.Doc)
	if len(f.OneOf) > 0 {
		text += " One of `" + strings.Join(f.OneOf, "`, `") + "`."
	}
	switch {
	case f.Min != "" && f.Max != "":
		text += fmt.Sprintf(" From %s to %s.", f.Min, f.Max)
	case f.Min != "":
		text += " At least " + f.Min + "."
	case f.Max != "":
		text += " At most " + f.Max + "."
	}
	if f.bounds.noun != "" {
		text = strings.TrimSuffix(text, ".") + " " + f.bounds.noun + "."
	}
	if f.Example != "" {
		text += " Example: `" + f.Example + "`."
	}
	return text
}

func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "|", `\|`), "\n", " ")
}
