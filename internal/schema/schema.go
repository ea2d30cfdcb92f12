// Package schema turns one tagged struct into everything that is said about a module's arguments: the hcldec spec that
// reads them, defaults, validation, documentation, and the JSON schema for editors.
//
// The tags of a field:
//
//	hcl:"name"            required attribute; hcl:"name,optional"; hcl:"name,block" a nested block (struct: exactly one,
//	                      *struct: at most one, slice of struct: any number, no two of the same labels);
//	                      hcl:"name,label" the label of a block
//	doc:"…"               one sentence; required on every field
//	default:"…"           for optional attributes, in HCL syntax or bare for strings and durations
//	oneof:"a b c"         the accepted words
//	min:"1" max:"32"      bounds of numbers, lengths of lists and strings, durations
//	each_min:"0" each_max:"9"  bounds of each element of a list or map
//	example:"…"           shown in the docs
//	literal:"ok"          a secret.String may be written into the files after all
//
// Field types: string, bool, int, float64, time.Duration (written "2m"), netip.Addr, netip.Prefix, fs.FileMode (written
// "0644"), Path (a local file), secret.String, secret.Text, slices and maps of these, structs (written as objects, which
// have attributes only), pointers to these where "not set" matters, cty.Value (anything), and types with FromCty(cty.Value) error.
// A struct may have Validate() error; errors made with At point at an attribute. Embedded structs are merged.
//
// Values that carry secret.Mark are accepted only by secret.String, secret.Text and cty.Value fields: anything else
// would be shown, or end in an argument list.
package schema

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/pxrun/pxrun/internal/diag"
)

// Body is the schema of one struct. It does not change once made and is safe for concurrent use.
type Body struct {
	typ    reflect.Type
	fields []*Field
	spec   hcldec.ObjectSpec
}

// For reads the tags of A. It panics on a wrong declaration: that is a mistake of the programmer, which the registry
// test finds.
func For[A any]() *Body { return bodyOf(reflect.TypeFor[A](), nil) }

func bodyOf(t reflect.Type, outer []reflect.Type) *Body {
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("schema: %s is not a struct", t))
	}
	for _, o := range outer {
		if o == t {
			panic(fmt.Sprintf("schema: %s contains itself", t))
		}
	}
	b := &Body{typ: t}
	b.collect(t, nil, append(outer[:len(outer):len(outer)], t))
	b.spec = hcldec.ObjectSpec{}
	for _, f := range b.fields {
		if _, twice := b.spec[f.Name]; twice {
			panic(fmt.Sprintf("schema: %s declares %q twice", t, f.Name))
		}
		b.spec[f.Name] = f.spec(b.labelIndex(f))
	}
	return b
}

// collect gathers the fields of a struct and, in their place, those of the structs embedded in it.
func (b *Body) collect(t reflect.Type, index []int, outer []reflect.Type) {
	for i := range t.NumField() {
		sf := t.Field(i)
		at := append(index[:len(index):len(index)], i)
		tag, tagged := sf.Tag.Lookup("hcl")
		switch {
		case tag == "-":
		case sf.Anonymous && !tagged && sf.Type.Kind() == reflect.Struct:
			b.collect(sf.Type, at, outer)
		case !sf.IsExported():
			panic(fmt.Sprintf("schema: field %s of %s is not exported", sf.Name, t))
		default:
			b.fields = append(b.fields, newField(t, sf, at, outer))
		}
	}
}

func (b *Body) labelIndex(f *Field) int {
	n := 0
	for _, other := range b.fields {
		if other == f {
			break
		}
		if other.Label {
			n++
		}
	}
	return n
}

// Spec is what hcldec reads a block's body with. Attributes keep whatever type was written: Decode converts them.
// Labels of the outermost block are not part of it, since hcldec sees only its body.
func (b *Body) Spec() hcldec.Spec {
	top := hcldec.ObjectSpec{}
	for name, s := range b.spec {
		if _, label := s.(*hcldec.BlockLabelSpec); !label {
			top[name] = s
		}
	}
	return top
}

// Fields lists attributes and labels in the order of their declaration.
func (b *Body) Fields() []*Field {
	var fields []*Field
	for _, f := range b.fields {
		if !f.Block {
			fields = append(fields, f)
		}
	}
	return fields
}

// Blocks lists the nested blocks in the order of their declaration.
func (b *Body) Blocks() []*Field {
	var blocks []*Field
	for _, f := range b.fields {
		if f.Block {
			blocks = append(blocks, f)
		}
	}
	return blocks
}

// Field returns the attribute, label or block of a name.
func (b *Body) Field(name string) (*Field, bool) {
	for _, f := range b.fields {
		if f.Name == name {
			return f, true
		}
	}
	return nil, false
}

// labels are a block's labels as they are written, and the field of the last one; nil for a block without.
func (b *Body) labels(rv reflect.Value) (written string, last *Field) {
	for _, f := range b.fields {
		if f.Label {
			written, last = written+" "+strconv.Quote(rv.FieldByIndex(f.index).String()), f
		}
	}
	return strings.TrimSpace(written), last
}

// shape is how an object is written: with what it must have, else with what comes first.
func (b *Body) shape() string {
	var parts []string
	for _, f := range b.fields {
		if f.Required {
			parts = append(parts, f.Name+" = …")
		}
	}
	if len(parts) == 0 && len(b.fields) > 0 {
		parts = append(parts, b.fields[0].Name+" = …")
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// suggest says what could have been meant by a name that nothing here has, or what there is.
func (b *Body) suggest(name string) string {
	if hint := diag.DidYouMean(name, b.names()); hint != "" {
		return hint
	}
	return " There is " + strings.Join(b.names(), ", ") + "."
}

func (b *Body) names() []string {
	names := make([]string, len(b.fields))
	for i, f := range b.fields {
		names[i] = f.Name
	}
	return names
}
