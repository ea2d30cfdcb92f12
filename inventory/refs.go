package inventory

import (
	"fmt"

	"github.com/zclconf/go-cty/cty"
)

// Refs is a list of host names as a module argument. In HCL it is written as a list of names, of node or host objects
// (cluster.lab.nodes), or one of either.
type Refs []string

// CtyTypeName is what the type is called in documentation and messages.
func (*Refs) CtyTypeName() string { return "hosts" }

// FromCty reads the forms above. It is what internal/schema calls for fields of this type.
func (r *Refs) FromCty(v cty.Value) error {
	*r = nil
	v, _ = v.Unmark()
	if v.IsNull() {
		return nil
	}
	if t := v.Type(); t.IsTupleType() || t.IsListType() || t.IsSetType() {
		for it := v.ElementIterator(); it.Next(); {
			_, item := it.Element()
			if err := r.add(item); err != nil {
				return err
			}
		}
		return nil
	}
	return r.add(v)
}

func (r *Refs) add(v cty.Value) error {
	name, err := refName(v)
	if err != nil {
		return err
	}
	*r = append(*r, name)
	return nil
}

// Ref is the name of one host as a module argument, written as a name or as a node or host object (cluster.lab.pve1).
// A map with Refs for keys has names for keys: { pve1 = 2, pve2 = 1 }.
type Ref string

// CtyTypeName is what the type is called in documentation and messages.
func (*Ref) CtyTypeName() string { return "host" }

// FromCty reads the forms above. It is what internal/schema calls for fields of this type.
func (r *Ref) FromCty(v cty.Value) error {
	name, err := refName(v)
	if err != nil {
		return err
	}
	*r = Ref(name)
	return nil
}

// NodeRefs is Refs for hosts that must be nodes of the runbook's cluster. Whoever reads the files checks that.
type NodeRefs []string

// CtyTypeName is what the type is called in documentation and messages.
func (*NodeRefs) CtyTypeName() string { return "nodes" }

// FromCty reads the forms of Refs. It is what internal/schema calls for fields of this type.
func (r *NodeRefs) FromCty(v cty.Value) error { return (*Refs)(r).FromCty(v) }

// NodeRef is Ref for a host that must be a node of the runbook's cluster.
type NodeRef string

// CtyTypeName is what the type is called in documentation and messages.
func (*NodeRef) CtyTypeName() string { return "node" }

// FromCty reads the forms of Ref. It is what internal/schema calls for fields of this type.
func (r *NodeRef) FromCty(v cty.Value) error { return (*Ref)(r).FromCty(v) }

func refName(v cty.Value) (string, error) {
	v, _ = v.Unmark()
	switch t := v.Type(); {
	case v.IsNull():
		return "", fmt.Errorf("a host is null")
	case t == cty.String:
		return v.AsString(), nil
	case t.IsObjectType() && t.HasAttribute("name") && t.AttributeType("name") == cty.String:
		return v.GetAttr("name").AsString(), nil
	default:
		return "", fmt.Errorf("a host must be a name or an object such as cluster.lab.pve1, not %s", t.FriendlyName())
	}
}
