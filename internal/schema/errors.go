package schema

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// Error is a problem with one attribute. RangeOf turns its path into a place in a file.
type Error struct {
	Path            cty.Path
	Summary, Detail string
	// Whole is set for what the struct's own Validate found. It relies on all arguments, so what it says means little
	// while one of them is misspelt.
	Whole bool
}

func (e *Error) Error() string { return e.Summary + ": " + e.Detail }

// NotKnown is the summary of an Error about a value that is known only after earlier tasks have run.
const NotKnown = "Value not known yet"

// At is how Validate points at an attribute: At("content", err), At("pool[0].size", err). A nil err stays nil.
func At(path string, err error) error {
	if err == nil {
		return nil
	}
	return &atError{parsePath(path), err}
}

type atError struct {
	path  cty.Path
	cause error
}

func (e *atError) Error() string { return FormatPath(e.path) + ": " + e.cause.Error() }
func (e *atError) Unwrap() error { return e.cause }

// parsePath reads a.b[0].c["key"]. It is fed by programmers: what it does not understand becomes a name.
func parsePath(text string) cty.Path {
	var path cty.Path
	for text != "" {
		switch {
		case text[0] == '.':
			text = text[1:]
		case text[0] == '[':
			inside, rest, _ := strings.Cut(text[1:], "]")
			if n, err := strconv.Atoi(inside); err == nil {
				path = path.IndexInt(n)
			} else {
				path = path.IndexString(strings.Trim(inside, `"`))
			}
			text = rest
		default:
			end := strings.IndexAny(text, ".[")
			if end < 0 {
				end = len(text)
			}
			path = path.GetAttr(text[:end])
			text = text[end:]
		}
	}
	return path
}

// FormatPath writes a path as it would be written in HCL: pool[0].size.
func FormatPath(path cty.Path) string {
	var b strings.Builder
	for _, step := range path {
		switch s := step.(type) {
		case cty.GetAttrStep:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s.Name)
		case cty.IndexStep:
			key, _ := s.Key.Unmark()
			switch {
			case key.IsNull() || !key.IsKnown():
				b.WriteString("[?]")
			case key.Type() == cty.Number:
				b.WriteString("[" + key.AsBigFloat().Text('f', -1) + "]")
			case key.Type() == cty.String:
				fmt.Fprintf(&b, "[%q]", key.AsString())
			default:
				b.WriteString("[?]")
			}
		}
	}
	return b.String()
}

// subject is what a sentence about a path begins with.
func subject(path cty.Path) string {
	if len(path) == 0 {
		return "The value"
	}
	return FormatPath(path)
}

// describe says what a value is without saying what it holds.
func describe(v cty.Value) string {
	if v.IsNull() {
		return "null"
	}
	switch t := v.Type(); {
	case t == cty.String, t == cty.Number, t == cty.Bool:
		return article(t.FriendlyName())
	case t.IsTupleType(), t.IsListType(), t.IsSetType():
		return "a list"
	case t.IsMapType(), t.IsObjectType():
		return "an object"
	default:
		return article(t.FriendlyName())
	}
}

func typeHint(k kind, v cty.Value) string {
	textual := k != kindBool && k != kindInt && k != kindFloat
	switch t := v.Type(); {
	case k == kindMode:
		return ` Write it in quotes: "0644".`
	case k == kindDuration && t == cty.Number:
		return ` Write a number and a unit in quotes, such as "30s".`
	case textual && (t == cty.Number || t == cty.Bool):
		return " Write it in quotes."
	case !textual && t == cty.String:
		return " Write it without quotes."
	case t.IsTupleType() || t.IsListType():
		return " It takes one value."
	}
	return ""
}

func article(noun string) string {
	if noun == "hosts" || noun == "any" {
		return noun
	}
	if strings.ContainsRune("aeioAEIO", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}

// quote shows a piece of a user's text, shortened.
func quote(text string) string {
	const most = 60
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return strconv.Quote(text)
}

// sentence ends a text as a sentence.
func sentence(text string) string {
	text = strings.TrimSpace(text)
	if text == "" || strings.HasSuffix(text, ".") || strings.HasSuffix(text, "?") || strings.HasSuffix(text, "!") {
		return text
	}
	return text + "."
}
