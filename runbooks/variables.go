package runbooks

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// Variable is what a file declares that its user may set.
type Variable struct {
	Name        string
	Description string
	// Type is the constraint as it is written in HCL; "any" when there is none.
	Type string
	// Default is cty.NilVal when the variable must be set.
	Default   cty.Value
	Sensitive bool
	// Value is what the variable has in this document, marked if it is sensitive. DynamicVal when it is wrong.
	Value cty.Value
	// From says where the value comes from: "--var", a file's name, "PXRUN_VAR_x" or "default".
	From  string
	Range diag.Range

	root     string // what a validation names it by: var, or arg for the argument of a runbook
	typ      cty.Type
	defaults *typeexpr.Defaults
	nullable bool
	checks   []*hcl.Block
	wrong    bool // its declaration is
}

var variableSchema = &hcl.BodySchema{
	Attributes: []hcl.AttributeSchema{{Name: "type"}, {Name: "default"}, {Name: "description"}, {Name: "sensitive"}, {Name: "nullable"}},
	Blocks:     []hcl.BlockHeaderSchema{{Type: "validation"}},
}

// declareVariable reads a variable block, or an argument block, which is the same inside of a runbook. Nothing in it but a validation may
// refer to anything.
func declareVariable(b *hcl.Block, functions map[string]function.Function) (*Variable, diag.List) {
	root := "var"
	if b.Type == "argument" {
		root = "arg"
	}
	v := &Variable{Name: b.Labels[0], root: root, Type: "any", typ: cty.DynamicPseudoType, nullable: true, Range: b.DefRange, Default: cty.NilVal}
	content, diags := contentOf(b, variableSchema)
	for name, into := range map[string]any{"description": &v.Description, "sensitive": &v.Sensitive, "nullable": &v.nullable} {
		if a, ok := content.Attributes[name]; ok {
			diags = append(diags, gohcl.DecodeExpression(a.Expr, nil, into)...)
		}
	}
	typed := false
	if a, ok := content.Attributes["type"]; ok {
		t, defaults, more := typeexpr.TypeConstraintWithDefaults(a.Expr)
		diags = append(diags, explainType(a.Expr, more)...)
		if !more.HasErrors() {
			v.typ, v.defaults, v.Type, typed = t, defaults, typeexpr.TypeString(t), true
		}
	}
	if a, ok := content.Attributes["default"]; ok {
		val, more := a.Expr.Value(&hcl.EvalContext{Functions: functions})
		if len(a.Expr.Variables()) > 0 {
			more = diag.Error("Default not constant", "The default of a variable is a constant: it cannot refer to other values. Use a local value for what is computed.", a.Expr.Range())
		}
		diags = append(diags, more...)
		if !more.HasErrors() {
			diags = append(diags, v.setDefault(val, typed, a.Expr.Range())...)
		}
	}
	v.checks = content.Blocks
	return v, diags
}

func (v *Variable) setDefault(val cty.Value, typed bool, at diag.Range) diag.List {
	if !typed && !val.IsNull() && val.Type().IsPrimitiveType() {
		// "8" given for a variable whose default is 8 must be a number, as the default is.
		v.typ, v.Type = val.Type(), typeexpr.TypeString(val.Type())
	}
	converted, err := v.convert(val)
	if err != nil {
		return diag.Error("Wrong type of default", fmt.Sprintf("The default does not fit the type %s: %s.", v.Type, err), at)
	}
	v.Default = converted
	return nil
}

// convert makes a value fit the variable's type.
func (v *Variable) convert(val cty.Value) (cty.Value, error) {
	if v.defaults != nil && !val.IsNull() {
		val = v.defaults.Apply(val)
	}
	return convert.Convert(val, v.typ)
}

// accept converts a given value, checks it against the variable's rules, and makes it the variable's value.
func (v *Variable) accept(g given, functions map[string]function.Function) diag.List {
	val, err := v.convert(g.value)
	if err != nil {
		return diag.Error("Wrong type of value", fmt.Sprintf("The value of %s %q from %s does not fit the type %s: %s.", v.word(), v.Name, g.from, v.Type, err), g.at)
	}
	if val.IsNull() && !v.nullable {
		if v.Default == cty.NilVal {
			return diag.Error("Value is null", fmt.Sprintf("The %s %q must not be null, and %s sets it to null.", v.word(), v.Name, g.from), g.at)
		}
		val = v.Default
	}
	if v.Sensitive {
		val = val.Mark(secret.Mark)
	}
	v.Value, v.From = val, g.from
	return v.validate(val, g, functions)
}

var validationSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{
	{Name: "condition", Required: true}, {Name: "error_message", Required: true},
}}

// validate runs the validation blocks against a value.
func (v *Variable) validate(val cty.Value, g given, functions map[string]function.Function) diag.List {
	var diags diag.List
	ctx := &hcl.EvalContext{
		Functions: functions,
		Variables: map[string]cty.Value{v.root: cty.ObjectVal(map[string]cty.Value{v.Name: val})},
	}
	for _, b := range v.checks {
		content, more := contentOf(b, validationSchema)
		diags = append(diags, more...)
		condition, message := content.Attributes["condition"], content.Attributes["error_message"]
		if condition == nil || message == nil {
			continue
		}
		if more := v.onlyItself(condition.Expr, message.Expr); more != nil {
			diags = append(diags, more...)
			continue
		}
		diags = append(diags, v.check(condition.Expr, message.Expr, ctx, g)...)
	}
	return diags
}

func (v *Variable) check(condition, message hcl.Expression, ctx *hcl.EvalContext, g given) diag.List {
	holds, diags := condition.Value(ctx)
	if diags.HasErrors() {
		return diags
	}
	holds, _ = holds.Unmark()
	if holds, err := convert.Convert(holds, cty.Bool); err != nil || holds.IsNull() || !holds.IsKnown() {
		return diag.Error("Invalid condition", "The condition of a validation must be true or false.", condition.Range())
	} else if holds.True() {
		return nil
	}
	text := "The value is not valid."
	if m, more := message.Value(ctx); more.HasErrors() {
		diags = append(diags, more...)
	} else if secret.Is(m) {
		text += " (Its error_message holds a secret and is not shown.)"
	} else if m, err := convert.Convert(m, cty.String); err == nil && !m.IsNull() && m.IsKnown() {
		text = m.AsString()
	}
	at := g.at
	if at == (diag.Range{}) {
		at = v.Range
	}
	return append(diags, diag.Error("Invalid value for "+v.word(), fmt.Sprintf("%s (%s %q, from %s)", text, v.word(), v.Name, g.from), at)...)
}

// word is what people call it.
func (v *Variable) word() string {
	if v.root == "arg" {
		return "argument"
	}
	return "variable"
}

// onlyItself refuses references of a validation to anything but the variable itself: what else there is may not be known yet.
func (v *Variable) onlyItself(exprs ...hcl.Expression) diag.List {
	var diags diag.List
	for _, e := range exprs {
		for _, t := range e.Variables() {
			name, ok := step(t, 1)
			if t.RootName() == v.root && ok && name == v.Name {
				continue
			}
			text := fmt.Sprintf("A validation can refer only to its own %s, %s.%s.", v.word(), v.root, v.Name)
			if ok && name == v.Name {
				text += fmt.Sprintf(" There is no %s.%s here.", t.RootName(), name)
			}
			diags = append(diags, diag.Error("Invalid reference in validation", text, t.SourceRange())...)
		}
	}
	return diags
}

// step returns the name at a position of a traversal, whether written .name or ["name"].
func step(t hcl.Traversal, i int) (string, bool) {
	if i >= len(t) {
		return "", false
	}
	switch s := t[i].(type) {
	case hcl.TraverseRoot:
		return s.Name, true
	case hcl.TraverseAttr:
		return s.Name, true
	case hcl.TraverseIndex:
		if s.Key.Type() == cty.String && s.Key.IsKnown() && !s.Key.IsNull() {
			return s.Key.AsString(), true
		}
	}
	return "", false
}

// parseText reads a value that came as text: from --var or the environment. Text for a string is taken as it is;
// anything else is an HCL expression.
func (v *Variable) parseText(text, from, filename string) (cty.Value, diag.List) {
	if v.typ == cty.String || v.typ == cty.DynamicPseudoType {
		return cty.StringVal(text), nil
	}
	if v.typ.IsPrimitiveType() {
		return cty.StringVal(text), nil // "8" and "true" convert
	}
	wrong := func(why string) diag.List {
		return diag.Error("Invalid value for "+v.word(), fmt.Sprintf("The value of %s %q from %s is no HCL expression of type %s: %s", v.word(), v.Name, from, v.Type, why), diag.Range{})
	}
	if diags := tooDeep([]byte(text), filename); diags != nil {
		return cty.NilVal, wrong(diags[0].Detail)
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), filename, hcl.InitialPos)
	if diags.HasErrors() {
		return cty.NilVal, wrong(diags[0].Detail)
	}
	val, diags := expr.Value(nil)
	if diags.HasErrors() {
		return cty.NilVal, wrong(diags[0].Detail)
	}
	return val, nil
}

// explainType says which types there are.
func explainType(expr hcl.Expression, diags diag.List) diag.List {
	for _, d := range diags {
		if d.Summary != "Invalid type specification" {
			continue
		}
		known := []string{"any", "bool", "list", "map", "number", "object", "set", "string", "tuple"}
		hint := diag.DidYouMean(hcl.ExprAsKeyword(expr), known)
		if hint == "" {
			hint = " There is string, number, bool, any, list(…), set(…), map(…), object({ … }) and tuple([ … ])."
		}
		d.Detail += hint
	}
	return diags
}
