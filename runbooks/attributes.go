package runbooks

import (
	"fmt"
	"math/big"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// attributes reads the attributes of one block into Go values. Each method reports what is wrong and leaves its target
// alone when the attribute is missing, null, wrong, or not known (a secret that was not read).
type attributes struct {
	from   hcl.Attributes
	eval   func(hcl.Expression) cty.Value // reports, and gives DynamicVal for what is wrong
	report func(diag.List)
}

// attributes reads a block of the inventory.
func (l *loader) attributes(c *hcl.BodyContent, sc scope) attributes {
	return attributes{c.Attributes, func(e hcl.Expression) cty.Value { return l.eval(e, sc) }, l.report}
}

// value evaluates one attribute. ok is false when there is nothing to use.
func (a attributes) value(name string) (v cty.Value, at hcl.Range, ok bool) {
	attr, given := a.from[name]
	if !given {
		return cty.NilVal, hcl.Range{}, false
	}
	at = attr.Expr.Range()
	v = a.eval(attr.Expr)
	plain, _ := v.Unmark()
	if plain.IsNull() || !plain.IsKnown() {
		return v, at, false
	}
	return v, at, true
}

func (a attributes) wrong(name string, at hcl.Range, wanted string, got cty.Value) {
	a.report(wrongType(name, wanted, got, at))
}

func wrongType(name, wanted string, got cty.Value, at hcl.Range) diag.List {
	return diag.Error("Wrong type", fmt.Sprintf("%s wanted %s, got %s.", name, wanted, describe(got)), at)
}

// describe says what a value is without saying what it holds.
func describe(v cty.Value) string {
	plain, _ := v.Unmark()
	switch t := plain.Type(); {
	case plain.IsNull():
		return "null"
	case t.IsTupleType(), t.IsListType(), t.IsSetType():
		return "a list"
	case t.IsObjectType(), t.IsMapType():
		return "an object"
	default:
		return "a " + t.FriendlyName()
	}
}

// text reads a string. Numbers and booleans are accepted, as everywhere in HCL.
func (a attributes) text(name string, into *string) (at hcl.Range, ok bool) {
	v, at, ok := a.value(name)
	if !ok {
		return at, false
	}
	plain, _ := v.Unmark()
	s, err := convert.Convert(plain, cty.String)
	if err != nil {
		a.wrong(name, at, "a text", v)
		return at, false
	}
	*into = s.AsString()
	return at, true
}

// secretText reads a string that may be a secret, and nothing but one: a password has no place in a file.
func (a attributes) secretText(name string, into *secret.String) {
	v, at, ok := a.value(name)
	if !ok {
		return
	}
	plain, _ := v.UnmarkDeep()
	if plain.Type() != cty.String {
		a.wrong(name, at, "a text", v)
		return
	}
	if !secret.Is(v) {
		a.report(diag.Error("Secret in the file", fmt.Sprintf("%s must not be written into a file. Declare a secret block that reads it from the environment, "+
			"a file, a command or an age file, and write %s = secret.<name>.", name, name), at))
		return
	}
	*into = secret.New(plain.AsString())
}

func (a attributes) flag(name string, into *bool) {
	v, at, ok := a.value(name)
	if !ok {
		return
	}
	plain, _ := v.Unmark()
	b, err := convert.Convert(plain, cty.Bool)
	if err != nil {
		a.wrong(name, at, "true or false", v)
		return
	}
	*into = b.True()
}

// whole reads a whole number within bounds.
func (a attributes) whole(name string, least, most int, into *int) (at hcl.Range, ok bool) {
	v, at, ok := a.value(name)
	if !ok {
		return at, false
	}
	n, diags := wholeNumber(name, v, least, most, at)
	a.report(diags)
	if diags.HasErrors() {
		return at, false
	}
	*into = n
	return at, true
}

func wholeNumber(name string, v cty.Value, least, most int, at hcl.Range) (int, diag.List) {
	plain, _ := v.Unmark()
	num, err := convert.Convert(plain, cty.Number)
	if err != nil || num.IsNull() || !num.IsKnown() {
		return 0, wrongType(name, "a whole number", v, at)
	}
	n, exact := num.AsBigFloat().Int64()
	if exact != big.Exact {
		return 0, diag.Error("Wrong type", fmt.Sprintf("%s wanted a whole number, got a fraction.", name), at)
	}
	if n < int64(least) || n > int64(most) {
		return 0, diag.Error("Value out of bounds", fmt.Sprintf("%s must be from %d to %d, not %d.", name, least, most, n), at)
	}
	return int(n), nil
}

// duration reads "2m" or "1h30m".
func (a attributes) duration(name string, into *time.Duration) {
	v, at, ok := a.value(name)
	if !ok {
		return
	}
	d, diags := durationOf(name, v, at)
	a.report(diags)
	if !diags.HasErrors() {
		*into = d
	}
}

func durationOf(name string, v cty.Value, at hcl.Range) (time.Duration, diag.List) {
	plain, _ := v.Unmark()
	if plain.Type() != cty.String {
		return 0, wrongType(name, `a duration in quotes, such as "30s" or "2m"`, v, at)
	}
	d, err := time.ParseDuration(plain.AsString())
	if err != nil {
		return 0, diag.Error("Invalid duration", fmt.Sprintf("%s must be a number and a unit, such as \"30s\", \"2m\" or \"1h30m\".", name), at)
	}
	if d < 0 {
		return 0, diag.Error("Invalid duration", fmt.Sprintf("%s must not be negative.", name), at)
	}
	return d, nil
}

// texts reads a string or a list of strings.
func (a attributes) texts(name string, into *[]string) (at hcl.Range, ok bool) {
	v, at, ok := a.value(name)
	if !ok {
		return at, false
	}
	list, diags := textList(name, v, at)
	a.report(diags)
	if diags.HasErrors() {
		return at, false
	}
	*into = list
	return at, true
}

func textList(name string, v cty.Value, at hcl.Range) ([]string, diag.List) {
	plain, _ := v.UnmarkDeep()
	items := []cty.Value{plain}
	if t := plain.Type(); t.IsTupleType() || t.IsListType() || t.IsSetType() {
		items = plain.AsValueSlice()
	}
	texts := make([]string, 0, len(items))
	for _, item := range items {
		s, err := convert.Convert(item, cty.String)
		if err != nil || s.IsNull() || !s.IsKnown() {
			return nil, wrongType(name, "a text or a list of texts", v, at)
		}
		texts = append(texts, s.AsString())
	}
	return texts, nil
}

// object reads an object or map as its attributes, marks and all.
func (a attributes) object(name string, into *map[string]cty.Value) {
	v, at, ok := a.value(name)
	if !ok {
		return
	}
	plain, marks := v.Unmark()
	if t := plain.Type(); !t.IsObjectType() && !t.IsMapType() {
		a.wrong(name, at, "an object such as { site = \"a\" }", v)
		return
	}
	*into = map[string]cty.Value{}
	for key, item := range plain.AsValueMap() {
		(*into)[key] = item.WithMarks(marks)
	}
}

// oneOf reads one of some words.
func (a attributes) oneOf(name string, into *string, words ...string) {
	var text string
	at, ok := a.text(name, &text)
	if !ok {
		return
	}
	for _, w := range words {
		if text == w {
			*into = text
			return
		}
	}
	a.report(diag.Error("Invalid value", fmt.Sprintf("%s must be %s, not %q.%s", name, either(words), text, diag.DidYouMean(text, words)), at))
}

func either(words []string) string {
	text := ""
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			text += " or "
		default:
			text += ", "
		}
		text += fmt.Sprintf("%q", w)
	}
	return text
}
