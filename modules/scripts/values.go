package scripts

import (
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/lua"
	"github.com/zclconf/go-cty/cty"
)

// value makes a script's value of an expression's. What is secret stays so; what is not known yet is nil.
func value(v cty.Value) lua.Value {
	hidden := secret.Is(v)
	v, _ = v.Unmark()
	t := v.Type()
	switch {
	case !v.IsKnown() || v.IsNull():
		return nil
	case t == cty.String && hidden:
		return secret.New(v.AsString())
	case t == cty.String:
		return v.AsString()
	case t == cty.Bool:
		return v.True()
	case t == cty.Number:
		n, _ := v.AsBigFloat().Float64()
		return n
	case t.IsObjectType() || t.IsMapType():
		return named(v)
	case t.IsTupleType() || t.IsListType() || t.IsSetType():
		list := []lua.Value{}
		for _, item := range v.Elements() {
			list = append(list, value(item))
		}
		return list
	}
	return nil
}

func named(v cty.Value) map[string]lua.Value {
	made := map[string]lua.Value{}
	v, _ = v.Unmark()
	if !v.IsKnown() || v.IsNull() {
		return made
	}
	for name, item := range v.Elements() {
		plain, _ := name.Unmark()
		made[plain.AsString()] = value(item)
	}
	return made
}
