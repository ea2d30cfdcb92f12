package schema

import (
	"fmt"
	"strings"
)

// Markdown documents arguments: a table for each body, those of nested blocks after that of their parent.
func (b *Body) Markdown() string {
	var out strings.Builder
	b.document(&out, "", true)
	return out.String()
}

// OutputsMarkdown documents what a module gives: the same tables without what one may leave out.
func (b *Body) OutputsMarkdown() string {
	var out strings.Builder
	b.document(&out, "", false)
	return out.String()
}

func (b *Body) document(out *strings.Builder, heading string, written bool) {
	if heading != "" {
		fmt.Fprintf(out, "\n### %s\n\n", heading)
	}
	if len(b.fields) == 0 {
		out.WriteString("None.\n")
		return
	}
	if written {
		out.WriteString("| name | type | | what it is |\n|---|---|---|---|\n")
	} else {
		out.WriteString("| name | type | what it is |\n|---|---|---|\n")
	}
	for _, f := range b.fields {
		fmt.Fprintf(out, "| `%s` | %s | ", f.Name, f.Type)
		if written {
			out.WriteString(f.need() + " | ")
		}
		out.WriteString(cell(f.explain()) + " |\n")
	}
	for _, f := range b.fields {
		if f.Body == nil {
			continue
		}
		what := "Objects of `" + f.Name + "`"
		if f.Block {
			what = "Block `" + f.Name + "`"
		}
		f.Body.document(out, what, written)
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
