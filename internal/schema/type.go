package schema

import (
	"reflect"

	"github.com/zclconf/go-cty/cty"
)

// Type is the type of what Encode gives, as far as the declaration fixes it: DynamicPseudoType stands for what may be
// anything.
func (b *Body) Type() cty.Type {
	attrs := make(map[string]cty.Type, len(b.fields))
	for _, f := range b.fields {
		attrs[f.Name] = typeOf(f.Body, f.typ)
	}
	return cty.Object(attrs)
}

func typeOf(body *Body, t reflect.Type) cty.Type {
	switch kindOf(t) {
	case kindString, kindPath, kindMode, kindDuration, kindAddr, kindPrefix, kindTime, kindSecret, kindText:
		return cty.String
	case kindBool:
		return cty.Bool
	case kindInt, kindFloat:
		return cty.Number
	case kindList:
		return cty.List(typeOf(body, t.Elem()))
	case kindMap:
		return cty.Map(typeOf(body, t.Elem()))
	case kindPointer:
		return typeOf(body, t.Elem())
	case kindObject:
		if body != nil {
			return body.Type()
		}
	}
	return cty.DynamicPseudoType
}
