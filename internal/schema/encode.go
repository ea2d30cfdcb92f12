package schema

import (
	"fmt"
	"io/fs"
	"math"
	"reflect"
	"time"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/zclconf/go-cty/cty"
)

// Encode makes an object value of a struct, for a module's outputs. Lists become tuples, maps objects, durations and
// times texts; secrets are marked. Nil pointers and missing values are null.
func (b *Body) Encode(v any) cty.Value {
	rv := reflect.ValueOf(v)
	for rv.IsValid() && rv.Kind() == reflect.Pointer {
		rv = rv.Elem()
	}
	if !rv.IsValid() {
		return cty.NullVal(cty.DynamicPseudoType)
	}
	if rv.Type() != b.typ {
		panic(fmt.Sprintf("schema: Encode wants a %s, not %T", b.typ, v))
	}
	return encodeStruct(b, rv)
}

func encodeStruct(b *Body, rv reflect.Value) cty.Value {
	attrs := make(map[string]cty.Value, len(b.fields))
	for _, f := range b.fields {
		attrs[f.Name] = encode(f.Body, rv.FieldByIndex(f.index))
	}
	return cty.ObjectVal(attrs)
}

// encode turns one Go value into HCL's. body is the schema of the structs in it, if there are any.
func encode(body *Body, rv reflect.Value) cty.Value {
	switch kindOf(rv.Type()) {
	case kindString, kindPath:
		return cty.StringVal(rv.String())
	case kindBool:
		return cty.BoolVal(rv.Bool())
	case kindInt:
		if rv.CanUint() {
			return cty.NumberUIntVal(rv.Uint())
		}
		return cty.NumberIntVal(rv.Int())
	case kindFloat:
		return encodeFloat(rv.Float())
	case kindMode:
		return cty.StringVal(FormatMode(rv.Interface().(fs.FileMode)))
	case kindDuration, kindAddr, kindPrefix:
		return cty.StringVal(rv.Interface().(fmt.Stringer).String())
	case kindTime:
		return cty.StringVal(rv.Interface().(time.Time).Format(time.RFC3339))
	case kindSecret:
		return cty.StringVal(rv.Interface().(secret.String).Reveal()).Mark(secret.Mark)
	case kindText:
		return encodeText(rv.Interface().(secret.Text))
	case kindValue:
		if v := rv.Interface().(cty.Value); v != cty.NilVal {
			return v
		}
	case kindCustom:
		return encodeCustom(body, rv)
	case kindList:
		return encodeList(body, rv)
	case kindMap:
		return encodeMap(body, rv)
	case kindObject:
		if body == nil || body.typ != rv.Type() {
			body = bodyOf(rv.Type(), nil)
		}
		return encodeStruct(body, rv)
	case kindPointer, kindAny:
		if !rv.IsNil() {
			return encode(body, rv.Elem())
		}
	}
	return cty.NullVal(cty.DynamicPseudoType)
}

func encodeFloat(v float64) cty.Value {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return cty.NullVal(cty.Number) // JSON has no such numbers
	}
	return cty.NumberFloatVal(v)
}

func encodeText(t secret.Text) cty.Value {
	v := cty.StringVal(t.Reveal())
	if t.Sensitive() {
		return v.Mark(secret.Mark)
	}
	return v
}

func encodeList(body *Body, rv reflect.Value) cty.Value {
	items := make([]cty.Value, rv.Len())
	for i := range items {
		items[i] = encode(body, rv.Index(i))
	}
	return cty.TupleVal(items)
}

func encodeMap(body *Body, rv reflect.Value) cty.Value {
	items := make(map[string]cty.Value, rv.Len())
	for it := rv.MapRange(); it.Next(); {
		items[it.Key().String()] = encode(body, it.Value())
	}
	return cty.ObjectVal(items)
}

// encodeCustom writes a type with a form of its own by what it is made of.
func encodeCustom(body *Body, rv reflect.Value) cty.Value {
	switch rv.Kind() {
	case reflect.Slice:
		return encodeList(body, rv)
	case reflect.Map:
		if rv.Type().Key().Kind() == reflect.String {
			return encodeMap(body, rv)
		}
	case reflect.String:
		return cty.StringVal(rv.String())
	}
	return cty.NullVal(cty.DynamicPseudoType)
}
