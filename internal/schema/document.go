package schema

import (
	"fmt"
	"strings"
)

// Markdown documents arguments: a table for each body, those of nested blocks after that of their parent.
func (b *Body) Markdown() string {
	var out strings.Builder
	b.document(&out, "", "", true)
	return out.String()
}

// OutputsMarkdown documents what a module gives: the same tables without what one may leave out.
func (b *Body) OutputsMarkdown() string {
	var out strings.Builder
	b.document(&out, "", "", false)
	return out.String()
}

func (b *Body) document(out *strings.Builder, heading, outer string, written bool) {
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
		place := outer + f.Name
		what := "Objects of `" + place + "`"
		switch {
		case f.Block:
			what = "Block `" + outer + f.Written() + "`"
		case f.Type == "object":
			what = "Object `" + place + "`"
		}
		f.Body.document(out, what, place+".", written)
	}
}

// Written is how the head of a block is written, or the name of an attribute: pool "<name>".
func (f *Field) Written() string {
	if !f.Block {
		return f.Name
	}
	text := f.Name
	for _, inner := range f.Body.fields {
		if inner.Label {
			text += ` "<` + inner.Name + `>"`
		}
	}
	return text
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
	if limits := f.Limits(); limits != "" {
		text += " " + strings.ToUpper(limits[:1]) + limits[1:] + "."
	}
	if f.Example != "" {
		text += " Example: `" + f.Example + "`."
	}
	return text
}

// Limits says what min, max and the bounds of each element allow: "from 1 to 7", "at most 3 blocks, each from 0 to 9".
func (f *Field) Limits() string {
	var parts []string
	if text := limits(f.Min, f.Max, f.bounds.noun); text != "" {
		parts = append(parts, text)
	}
	if text := limits(f.EachMin, f.EachMax, f.each.noun); text != "" {
		parts = append(parts, "each "+text)
	}
	return strings.Join(parts, ", ")
}

func limits(least, most, noun string) string {
	last, text := most, ""
	switch {
	case least != "" && most != "":
		text = "from " + least + " to " + most
	case least != "":
		last, text = least, "at least "+least
	case most != "":
		text = "at most " + most
	default:
		return ""
	}
	if noun == "" {
		return text
	}
	if last != "1" {
		noun += "s"
	}
	return text + " " + noun
}

func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "|", `\|`), "\n", " ")
}
