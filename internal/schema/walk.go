package schema

import (
	"reflect"

	"github.com/zclconf/go-cty/cty"
)

// Walk visits every value of type T in the struct that args points to, the keys of maps included, each with the path of
// where it is written. It is how names of things are checked that the schema knows nothing of.
func Walk[T any](b *Body, args any, visit func(cty.Path, T)) {
	w := walker{reflect.TypeFor[T](), func(path cty.Path, rv reflect.Value) { visit(path, rv.Interface().(T)) }}
	w.body(b, reflect.ValueOf(args).Elem(), nil)
}

type walker struct {
	wanted reflect.Type
	visit  func(cty.Path, reflect.Value)
}

func (w walker) body(b *Body, rv reflect.Value, path cty.Path) {
	for _, f := range b.fields {
		w.value(f, rv.FieldByIndex(f.index), path.GetAttr(f.Name))
	}
}

func (w walker) value(f *Field, rv reflect.Value, path cty.Path) {
	if rv.Type() == w.wanted {
		w.visit(path, rv)
		return
	}
	switch kindOf(rv.Type()) {
	case kindPointer:
		if !rv.IsNil() {
			w.value(f, rv.Elem(), path)
		}
	case kindList:
		for i := range rv.Len() {
			w.value(f, rv.Index(i), path.IndexInt(i))
		}
	case kindMap:
		w.mapping(f, rv, path)
	case kindObject:
		if f.Body != nil {
			w.body(f.Body, rv, path)
		}
	}
}

func (w walker) mapping(f *Field, rv reflect.Value, path cty.Path) {
	for it := rv.MapRange(); it.Next(); {
		at := path.IndexString(it.Key().String())
		if it.Key().Type() == w.wanted {
			w.visit(at, it.Key())
		}
		w.value(f, it.Value(), at)
	}
}
