package schema

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Field is one attribute, label or nested block of a Body.
type Field struct {
	Name string
	// Type is the type for people: "string", "list of string", "duration".
	Type     string
	Required bool
	Label    bool
	Block    bool
	// Repeated is a block that may be written any number of times.
	Repeated bool
	// Secret says that the field takes secret values.
	Secret   bool
	Doc      string
	Default  string // as written in the tag; "" for none
	OneOf    []string
	Min, Max string
	// EachMin and EachMax are bounds of each element of a list or map.
	EachMin, EachMax string
	Example          string
	// Body is the schema of a nested block, or of the objects that the attribute is made of.
	Body *Body

	index     []int
	typ       reflect.Type
	kind      kind
	literalOK bool
	bounds    bounds
	each      bounds
	def       cty.Value // NilVal for none
}

func newField(owner reflect.Type, sf reflect.StructField, index []int, outer []reflect.Type) *Field {
	wrong := func(format string, args ...any) {
		panic(fmt.Sprintf("schema: field %s of %s: ", sf.Name, owner) + fmt.Sprintf(format, args...))
	}
	name, how, _ := strings.Cut(sf.Tag.Get("hcl"), ",")
	if name == "" {
		wrong("no hcl tag")
	}
	f := &Field{
		Name: name, Doc: sf.Tag.Get("doc"), Default: sf.Tag.Get("default"), Example: sf.Tag.Get("example"),
		OneOf: strings.Fields(sf.Tag.Get("oneof")), Min: sf.Tag.Get("min"), Max: sf.Tag.Get("max"),
		EachMin: sf.Tag.Get("each_min"), EachMax: sf.Tag.Get("each_max"),
		literalOK: sf.Tag.Get("literal") == "ok", index: index, typ: sf.Type,
	}
	switch how {
	case "":
		f.Required = true
	case "optional":
	case "label":
		f.Label, f.Required = true, true
		if sf.Type.Kind() != reflect.String {
			wrong("a label must be a string")
		}
	case "block":
		f.Block = true
	default:
		wrong("unknown word %q in the hcl tag", how)
	}
	if f.Doc == "" {
		wrong("no doc tag")
	}
	if f.Block {
		f.asBlock(outer, wrong)
		return f
	}
	f.kind = kindOf(sf.Type)
	if f.kind == kindNone {
		wrong("the type %s is not supported", sf.Type)
	}
	f.Type = f.typeName(sf.Type)
	leaf := leafOf(sf.Type)
	f.Secret = leaf == typeSecret || leaf == typeText || leaf == typeValue
	if kindOf(leaf) == kindObject {
		f.asObject(leaf, outer, wrong)
	}
	if err := f.readBounds(); err != nil {
		wrong("%v", err)
	}
	if _, has := sf.Tag.Lookup("default"); has {
		if f.Required {
			wrong("a required attribute has no default")
		}
		def, err := f.parseDefault()
		if err != nil {
			wrong("default: %v", err)
		}
		f.def = def
	}
	return f
}

// asObject reads the struct that an attribute's objects are made of.
func (f *Field) asObject(leaf reflect.Type, outer []reflect.Type, wrong func(string, ...any)) {
	if leaf == f.typ && !f.Required {
		wrong("an optional object must be a pointer, so that an object that is not written can be told from an empty one")
	}
	f.Body = bodyOf(leaf, outer)
	for _, inner := range f.Body.fields {
		if inner.Label || inner.Block {
			wrong("an object has attributes only, and %s declares a label or block %q", leaf, inner.Name)
		}
	}
}

func (f *Field) asBlock(outer []reflect.Type, wrong func(string, ...any)) {
	t := f.typ
	switch {
	case t.Kind() == reflect.Slice:
		f.Repeated, t = true, t.Elem()
	case t.Kind() == reflect.Pointer:
		t = t.Elem()
	default:
		f.Required = true
	}
	if t.Kind() != reflect.Struct {
		wrong("a block must be a struct, *struct or slice of struct")
	}
	f.Type, f.kind, f.Body = "block", kindObject, bodyOf(t, outer)
	if err := f.readBounds(); err != nil {
		wrong("%v", err)
	}
}

func (f *Field) spec(labelIndex int) hcldec.Spec {
	switch {
	case f.Label:
		return &hcldec.BlockLabelSpec{Index: labelIndex, Name: f.Name}
	case f.Block && f.Repeated:
		return &hcldec.BlockTupleSpec{TypeName: f.Name, Nested: f.Body.spec}
	case f.Block:
		return &hcldec.BlockSpec{TypeName: f.Name, Nested: f.Body.spec, Required: f.Required}
	}
	return &hcldec.AttrSpec{Name: f.Name, Type: cty.DynamicPseudoType, Required: f.Required}
}

// parseDefault reads the default tag and proves that it decodes, so that no user ever meets a wrong one.
func (f *Field) parseDefault() (cty.Value, error) {
	v := cty.StringVal(f.Default)
	if !f.writtenAsText() {
		expr, diags := hclsyntax.ParseExpression([]byte(f.Default), f.Name, hcl.InitialPos)
		if diags.HasErrors() {
			return cty.NilVal, diags
		}
		if v, diags = expr.Value(nil); diags.HasErrors() {
			return cty.NilVal, diags
		}
	}
	d := decoder{trusted: true}
	into := reflect.New(f.typ).Elem()
	if d.field(f, v, into, nil); len(d.errs) > 0 {
		return cty.NilVal, d.errs[0]
	}
	return v, nil
}

func (f *Field) writtenAsText() bool {
	t := f.typ
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch kindOf(t) {
	case kindString, kindDuration, kindAddr, kindPrefix, kindMode, kindSecret, kindText:
		return true
	}
	return false
}
