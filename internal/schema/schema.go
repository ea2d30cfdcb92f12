// Package schema turns one tagged struct into everything that is said about a module's arguments: the hcldec spec that
// reads them, defaults, validation, documentation, and the JSON schema for editors.
//
// The tags of a field:
//
//	hcl:"name"            required attribute; hcl:"name,optional"; hcl:"name,block" a nested block (struct, *struct or
//	                      slice of struct); hcl:"name,label" the label of a block
//	doc:"…"               one sentence; required on every field
//	default:"…"           for optional attributes, in HCL syntax or bare for strings and durations
//	oneof:"a b c"         the accepted words
//	min:"1" max:"32"      bounds of numbers, lengths of lists and strings, durations
//	example:"…"           shown in the docs
//
// Field types: string, bool, int, float64, time.Duration (written "2m"), netip.Addr, netip.Prefix, fs.FileMode (written
// "0644"), secret.String, slices and maps of these, cty.Value (anything), and types with FromCty(cty.Value) error.
// A struct may have Validate() error; errors made with At point at an attribute.
package schema

import (
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/zclconf/go-cty/cty"
)

// Body is the schema of one struct.
type Body struct{}

// For reads the tags of A. It panics on a wrong declaration: that is a mistake of the programmer, which the registry
// test finds.
func For[A any]() *Body { return &Body{} }

// Spec is what hcldec reads a block's body with.
func (b *Body) Spec() hcldec.Spec { return nil }

// Decode fills the struct that into points to from a value that Spec gave, applies defaults and validates. Unknown
// values must have been dealt with before. It returns every problem, each with the path of its attribute.
func (b *Body) Decode(v cty.Value, into any) []*Error { return nil }

// Encode makes an object value of a struct, for a module's outputs.
func (b *Body) Encode(v any) cty.Value { return cty.NilVal }

// Error is a problem with one attribute.
type Error struct {
	Path            cty.Path
	Summary, Detail string
}

func (e *Error) Error() string { return e.Summary + ": " + e.Detail }
