package schema

import (
	"encoding/json"
	"reflect"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// JSON is the JSON schema (2020-12) of the body, for editors.
func (b *Body) JSON() ([]byte, error) {
	s := b.jsonSchema()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	return json.MarshalIndent(s, "", "  ")
}

type jsonObject = map[string]any

func (b *Body) jsonSchema() jsonObject {
	properties, required := jsonObject{}, []string{}
	for _, f := range b.fields {
		properties[f.Name] = f.jsonSchema()
		if f.Required {
			required = append(required, f.Name)
		}
	}
	s := jsonObject{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

func (f *Field) jsonSchema() jsonObject {
	var s jsonObject
	switch {
	case f.Block && f.Repeated:
		s = jsonObject{"type": "array", "items": f.Body.jsonSchema()}
	case f.Block:
		s = f.Body.jsonSchema()
	default:
		s = f.jsonType(f.typ)
	}
	s["description"] = f.Doc
	if how := f.how(); how != "" {
		s["x-hcl"] = how
	}
	if f.def != cty.NilVal {
		s["default"] = ctyjson.SimpleJSONValue{Value: f.def}
	}
	if f.Example != "" {
		s["examples"] = []string{f.Example}
	}
	f.bounds.jsonBounds(s, f.typ)
	if inner, ok := s["items"].(jsonObject); ok {
		f.each.jsonBounds(inner, leafOf(f.typ))
	}
	if inner, ok := s["additionalProperties"].(jsonObject); ok {
		f.each.jsonBounds(inner, leafOf(f.typ))
	}
	return s
}

// how tells programs that write HCL what is no attribute.
func (f *Field) how() string {
	switch {
	case f.Label:
		return "label"
	case f.Block:
		return "block"
	}
	return ""
}

func (b bounds) jsonBounds(s jsonObject, t reflect.Type) {
	if b.unit == nil || kindOf(t) == kindDuration {
		return
	}
	least, most := "minimum", "maximum"
	switch s["type"] {
	case "string":
		least, most = "minLength", "maxLength"
	case "array":
		least, most = "minItems", "maxItems"
	case "object":
		least, most = "minProperties", "maxProperties"
	}
	if b.min != nil {
		s[least] = *b.min
	}
	if b.max != nil {
		s[most] = *b.max
	}
}

func (f *Field) jsonType(t reflect.Type) jsonObject {
	switch kindOf(t) {
	case kindBool:
		return jsonObject{"type": "boolean"}
	case kindInt:
		return jsonObject{"type": "integer"}
	case kindFloat:
		return jsonObject{"type": "number"}
	case kindList:
		return jsonObject{"type": "array", "items": f.jsonType(t.Elem())}
	case kindMap:
		return jsonObject{"type": "object", "additionalProperties": f.jsonType(t.Elem())}
	case kindPointer:
		return f.jsonType(t.Elem())
	case kindObject:
		return f.Body.jsonSchema()
	case kindValue, kindCustom, kindAny:
		return jsonObject{}
	}
	s := jsonObject{"type": "string"}
	if len(f.OneOf) > 0 {
		s["enum"] = f.OneOf
	}
	return s
}
