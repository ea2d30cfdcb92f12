package config

import (
	"errors"

	"github.com/zclconf/go-cty/cty"
)

// Scalar is the value of an option as a module's argument: a string, a number or a bool, as Proxmox writes it.
type Scalar string

// CtyTypeName is what the type is called in documentation and messages.
func (*Scalar) CtyTypeName() string { return "string, number or bool" }

// FromCty reads the forms above. It is what internal/schema calls for fields of this type.
func (s *Scalar) FromCty(v cty.Value) error {
	switch {
	case v.IsNull():
		return errors.New("a value is null")
	case v.Type() == cty.String:
		*s = Scalar(v.AsString())
	case v.Type() == cty.Number:
		*s = Scalar(v.AsBigFloat().Text('f', -1))
	case v.Type() == cty.Bool && v.True():
		*s = "1"
	case v.Type() == cty.Bool:
		*s = "0"
	default:
		return errors.New("a value must be a string, a number or a bool")
	}
	return nil
}
