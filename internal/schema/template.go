package schema

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// RenderTemplate fills in an HCL template: ${…} for values, %{ for … } and %{ if … } for control. vars is an object
// whose attributes are the names in scope. Only functions that depend on nothing but their arguments are there. The
// result is sensitive when anything secret went into it.
func RenderTemplate(name, src string, vars cty.Value) (secret.Text, error) {
	expr, diags := hclsyntax.ParseTemplate([]byte(src), name, hcl.InitialPos)
	if diags.HasErrors() {
		return secret.Text{}, templateError(diags)
	}
	scope, err := templateScope(vars)
	if err != nil {
		return secret.Text{}, fmt.Errorf("%s: %w", name, err)
	}
	v, diags := expr.Value(&hcl.EvalContext{Variables: scope, Functions: templateFunctions()})
	if diags.HasErrors() {
		return secret.Text{}, templateError(diags)
	}
	hidden := secret.Is(v)
	v, _ = v.UnmarkDeep()
	if !v.IsWhollyKnown() {
		return secret.Text{}, fmt.Errorf("%s: a value in it is known only after earlier tasks have run", name)
	}
	text, err := convert.Convert(v, cty.String)
	if err != nil || text.IsNull() {
		return secret.Text{}, fmt.Errorf("%s: the template gives %s, not a text", name, describe(v))
	}
	if hidden {
		return secret.Hidden(text.AsString()), nil
	}
	return secret.Plain(text.AsString()), nil
}

func templateScope(vars cty.Value) (map[string]cty.Value, error) {
	scope := map[string]cty.Value{}
	if isNull(vars) {
		return scope, nil
	}
	whole, marks := vars.Unmark()
	if t := whole.Type(); !whole.IsKnown() || !t.IsObjectType() && !t.IsMapType() {
		return nil, fmt.Errorf("the variables must be an object, not %s", describe(whole))
	}
	for it := whole.ElementIterator(); it.Next(); {
		k, v := it.Element()
		scope[k.AsString()] = v.WithMarks(marks)
	}
	return scope, nil
}

// templateError keeps place and text of each problem. Values are left out: they may be secret.
func templateError(diags hcl.Diagnostics) error {
	var lines []string
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		at := ""
		if d.Subject != nil {
			at = fmt.Sprintf("%s:%d: ", d.Subject.Filename, d.Subject.Start.Line)
		}
		lines = append(lines, at+d.Summary+": "+d.Detail)
	}
	return fmt.Errorf("%s", strings.Join(lines, "\n"))
}

func templateFunctions() map[string]function.Function {
	return map[string]function.Function{
		"abs": stdlib.AbsoluteFunc, "ceil": stdlib.CeilFunc, "floor": stdlib.FloorFunc, "max": stdlib.MaxFunc, "min": stdlib.MinFunc,
		"chomp": stdlib.ChompFunc, "format": stdlib.FormatFunc, "formatlist": stdlib.FormatListFunc, "indent": stdlib.IndentFunc,
		"join": stdlib.JoinFunc, "lower": stdlib.LowerFunc, "upper": stdlib.UpperFunc, "title": stdlib.TitleFunc,
		"replace": stdlib.ReplaceFunc, "regexall": stdlib.RegexAllFunc, "split": stdlib.SplitFunc, "substr": stdlib.SubstrFunc,
		"trim": stdlib.TrimFunc, "trimspace": stdlib.TrimSpaceFunc, "trimprefix": stdlib.TrimPrefixFunc, "trimsuffix": stdlib.TrimSuffixFunc,
		"coalesce": stdlib.CoalesceFunc, "compact": stdlib.CompactFunc, "concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc,
		"distinct": stdlib.DistinctFunc, "element": stdlib.ElementFunc, "flatten": stdlib.FlattenFunc, "keys": stdlib.KeysFunc,
		"length": stdlib.LengthFunc, "lookup": stdlib.LookupFunc, "merge": stdlib.MergeFunc, "range": stdlib.RangeFunc,
		"reverse": stdlib.ReverseListFunc, "slice": stdlib.SliceFunc, "sort": stdlib.SortFunc, "values": stdlib.ValuesFunc,
		"zipmap": stdlib.ZipmapFunc, "jsonencode": stdlib.JSONEncodeFunc, "jsondecode": stdlib.JSONDecodeFunc,
	}
}
