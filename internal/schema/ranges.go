package schema

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/zclconf/go-cty/cty"
)

// RangeOf finds what a path of an Error points at in the body that was decoded: the element of a list, else the
// attribute, else the block, else the place where the missing thing would stand.
func (b *Body) RangeOf(body hcl.Body, path cty.Path) hcl.Range {
	content, _, _ := body.PartialContent(hcldec.ImpliedSchema(b.Spec()))
	return b.rangeIn(content, path, body.MissingItemRange())
}

func (b *Body) rangeIn(content *hcl.BodyContent, path cty.Path, fallback hcl.Range) hcl.Range {
	if len(path) == 0 || content == nil {
		return fallback
	}
	step, ok := path[0].(cty.GetAttrStep)
	if !ok {
		return fallback
	}
	if attr, found := content.Attributes[step.Name]; found {
		return expressionRange(attr.Expr, path[1:])
	}
	f, known := b.Field(step.Name)
	if !known || !f.Block {
		return fallback
	}
	rest, n := path[1:], 0
	if f.Repeated && len(rest) > 0 {
		n, rest = index(rest[0]), rest[1:]
	}
	blocks := content.Blocks.OfType(f.Name)
	if n < 0 || n >= len(blocks) {
		return fallback
	}
	return f.Body.rangeInBlock(blocks[n], rest)
}

func (b *Body) rangeInBlock(block *hcl.Block, path cty.Path) hcl.Range {
	if len(path) > 0 {
		if step, ok := path[0].(cty.GetAttrStep); ok {
			if f, known := b.Field(step.Name); known && f.Label {
				if i := b.labelIndex(f); i < len(block.LabelRanges) {
					return block.LabelRanges[i]
				}
			}
		}
	}
	content, _, _ := block.Body.PartialContent(hcldec.ImpliedSchema(b.spec))
	return b.rangeIn(content, path, block.DefRange)
}

// expressionRange follows a path into a list or object that is written out, as far as it goes.
func expressionRange(expr hcl.Expression, path cty.Path) hcl.Range {
	for _, step := range path {
		inner := elementOf(expr, step)
		if inner == nil {
			break
		}
		expr = inner
	}
	return expr.Range()
}

func elementOf(expr hcl.Expression, step cty.PathStep) hcl.Expression {
	if n := index(step); n >= 0 {
		if list, diags := hcl.ExprList(expr); !diags.HasErrors() && n < len(list) {
			return list[n]
		}
		return nil
	}
	pairs, diags := hcl.ExprMap(expr)
	if diags.HasErrors() {
		return nil
	}
	for _, pair := range pairs {
		if key, ok := keyName(pair.Key); ok && key == name(step) {
			return pair.Value
		}
	}
	return nil
}

func keyName(expr hcl.Expression) (string, bool) {
	if word := hcl.ExprAsKeyword(expr); word != "" {
		return word, true
	}
	v, diags := expr.Value(nil)
	if diags.HasErrors() || v.IsMarked() || v.IsNull() || !v.IsKnown() || v.Type() != cty.String {
		return "", false
	}
	return v.AsString(), true
}

func name(step cty.PathStep) string {
	switch s := step.(type) {
	case cty.GetAttrStep:
		return s.Name
	case cty.IndexStep:
		if key, _ := s.Key.Unmark(); key.Type() == cty.String && key.IsKnown() && !key.IsNull() {
			return key.AsString()
		}
	}
	return ""
}

// index is the number of a list element, or -1.
func index(step cty.PathStep) int {
	s, ok := step.(cty.IndexStep)
	if !ok {
		return -1
	}
	key, _ := s.Key.Unmark()
	if key.Type() != cty.Number || !key.IsKnown() || key.IsNull() {
		return -1
	}
	n, _ := key.AsBigFloat().Int64()
	return int(n)
}
