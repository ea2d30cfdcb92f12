package runbooks

import (
	"github.com/zclconf/go-cty/cty"
)

// shape is what is known of a value before anything is evaluated: which attributes it has. A nil shape may be anything.
type shape struct {
	// attrs are the attributes of an object, each with its own shape.
	attrs map[string]*shape
	// elem is what a list or map is made of.
	elem *shape
	kind shapeKind
}

type shapeKind int

const (
	shapeObject shapeKind = iota
	shapeList
	shapeMap
	shapeByHost // a map with the names of hosts for keys
	shapeText
	shapeNumber
	shapeBool
)

var (
	textShape = &shape{kind: shapeText}
	boolShape = &shape{kind: shapeBool}
)

func listOf(elem *shape) *shape { return &shape{kind: shapeList, elem: elem} }
func mapOf(elem *shape) *shape  { return &shape{kind: shapeMap, elem: elem} }

// shapeOf is the shape of the values of a type.
func shapeOf(t cty.Type) *shape {
	switch {
	case t == cty.NilType:
		return nil
	case t == cty.String:
		return textShape
	case t == cty.Number:
		return &shape{kind: shapeNumber}
	case t == cty.Bool:
		return boolShape
	case t.IsObjectType():
		s := &shape{attrs: map[string]*shape{}}
		for name, attr := range t.AttributeTypes() {
			s.attrs[name] = shapeOf(attr)
		}
		return s
	case t.IsListType(), t.IsSetType():
		return listOf(shapeOf(t.ElementType()))
	case t.IsMapType():
		return mapOf(shapeOf(t.ElementType()))
	}
	return nil
}

func (s *shape) what() string {
	switch s.kind {
	case shapeText:
		return "a text"
	case shapeNumber:
		return "a number"
	case shapeBool:
		return "true or false"
	}
	return "a list"
}

// items is what a for expression goes over.
func (s *shape) items() *shape {
	if s == nil || s.kind == shapeObject {
		return nil
	}
	return s.elem
}

// hostShape is a host or node as expressions see it; self has more.
func hostShape() *shape {
	return &shape{attrs: map[string]*shape{
		"address": textShape, "cluster": textShape, "id": {kind: shapeNumber}, "links": listOf(textShape), "name": textShape,
		"osds": listOf(shapeOf(osdType)), "vars": nil, "votes": {kind: shapeNumber},
	}}
}

func selfShape(facts cty.Type) *shape {
	s := hostShape()
	s.attrs["facts"], s.attrs["groups"] = shapeOf(facts), listOf(textShape)
	return s
}

// resultShape is task.<name> of a module with the given outputs.
func resultShape(outputs cty.Type) *shape {
	task, here := shapeOf(outputs), shapeOf(outputs)
	for _, s := range []*shape{task, here} {
		s.attrs["changed"], s.attrs["failed"], s.attrs["status"] = boolShape, boolShape, textShape
	}
	here.attrs["error"] = textShape
	task.attrs["results"] = &shape{kind: shapeByHost, elem: here}
	return task
}
