package runbooks

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/internal/diag"
)

// attributeCheck follows values of known shape through an expression and reports attributes that none of them can
// have. What the expression is evaluated with later does not matter, so it finds them before any connection.
type attributeCheck struct {
	l     *loader
	sc    scope
	diags diag.List
	// items are what the anonymous symbols of splat expressions stand for.
	items map[*hclsyntax.AnonSymbolExpr]item
}

type item struct {
	shape *shape
	of    hclsyntax.Expression
}

// checkAttributes reports the attributes in an expression that do not exist.
func (l *loader) checkAttributes(expr hcl.Expression, sc scope) diag.List {
	syntax, ok := expr.(hclsyntax.Expression)
	if !ok {
		return nil
	}
	c := attributeCheck{l: l, sc: sc, items: map[*hclsyntax.AnonSymbolExpr]item{}}
	c.follow(syntax, nil)
	return c.diags
}

// follow gives the shape of an expression. locals are the names that for expressions around it define.
func (c *attributeCheck) follow(expr hclsyntax.Expression, locals map[string]*shape) *shape {
	switch e := expr.(type) {
	case *hclsyntax.ScopeTraversalExpr:
		s, from := c.root(e.Traversal, locals)
		return c.steps(s, e.Traversal, from, func(i int) string { return written(e.Traversal[:i]) })
	case *hclsyntax.RelativeTraversalExpr:
		s := c.follow(e.Source, locals)
		return c.steps(s, e.Traversal, 0, func(int) string { return c.source(e.Source) })
	case *hclsyntax.IndexExpr:
		s := c.follow(e.Collection, locals)
		c.follow(e.Key, locals)
		return s.items()
	case *hclsyntax.SplatExpr:
		s := c.follow(e.Source, locals)
		if s != nil && s.kind == shapeList {
			s = s.elem // anything but a list is taken as a list of one
		}
		c.items[e.Item] = item{s, e.Source}
		return listOf(c.follow(e.Each, locals))
	case *hclsyntax.AnonSymbolExpr:
		return c.items[e].shape
	case *hclsyntax.ForExpr:
		return c.loop(e, locals)
	case *hclsyntax.ParenthesesExpr:
		return c.follow(e.Expression, locals)
	case *hclsyntax.TemplateWrapExpr:
		return c.follow(e.Wrapped, locals)
	case *hclsyntax.FunctionCallExpr:
		return c.call(e, locals)
	}
	for _, part := range partsOf(expr) {
		c.follow(part, locals)
	}
	return nil
}

// partsOf are the expressions that another one is made of, where the whole has no shape of its own.
func partsOf(expr hclsyntax.Expression) []hclsyntax.Expression {
	switch e := expr.(type) {
	case *hclsyntax.ConditionalExpr:
		return []hclsyntax.Expression{e.Condition, e.TrueResult, e.FalseResult}
	case *hclsyntax.BinaryOpExpr:
		return []hclsyntax.Expression{e.LHS, e.RHS}
	case *hclsyntax.UnaryOpExpr:
		return []hclsyntax.Expression{e.Val}
	case *hclsyntax.TemplateExpr:
		return e.Parts
	case *hclsyntax.TemplateJoinExpr:
		return []hclsyntax.Expression{e.Tuple}
	case *hclsyntax.TupleConsExpr:
		return e.Exprs
	case *hclsyntax.ObjectConsExpr:
		var parts []hclsyntax.Expression
		for _, item := range e.Items {
			if hcl.ExprAsKeyword(item.KeyExpr) == "" {
				parts = append(parts, item.KeyExpr)
			}
			parts = append(parts, item.ValueExpr)
		}
		return parts
	case *hclsyntax.ObjectConsKeyExpr:
		return []hclsyntax.Expression{e.Wrapped}
	}
	return nil
}

func (c *attributeCheck) loop(e *hclsyntax.ForExpr, locals map[string]*shape) *shape {
	inside := maps.Clone(locals)
	if inside == nil {
		inside = map[string]*shape{}
	}
	inside[e.KeyVar] = nil
	inside[e.ValVar] = c.follow(e.CollExpr, locals).items()
	if e.CondExpr != nil {
		c.follow(e.CondExpr, inside)
	}
	value := c.follow(e.ValExpr, inside)
	switch {
	case e.KeyExpr == nil:
		return listOf(value)
	case e.Group:
		value = listOf(value)
	}
	c.follow(e.KeyExpr, inside)
	return mapOf(value)
}

// call knows the functions that hand on what they are given.
func (c *attributeCheck) call(e *hclsyntax.FunctionCallExpr, locals map[string]*shape) *shape {
	args := make([]*shape, len(e.Args))
	for i, arg := range e.Args {
		args[i] = c.follow(arg, locals)
	}
	if len(args) == 0 || args[0] == nil {
		return nil
	}
	switch e.Name {
	case "values":
		return listOf(args[0].items())
	case "element", "one":
		return args[0].items()
	case "reverse":
		return args[0]
	}
	return nil
}

// root is the shape of what a reference begins with, and the step after it. References that lead nowhere are reported
// by checkTraversal and have no shape here.
func (c *attributeCheck) root(t hcl.Traversal, locals map[string]*shape) (*shape, int) {
	if s, local := locals[t.RootName()]; local {
		return s, 1
	}
	name, named := step(t, 1)
	switch root := t.RootName(); {
	case root == "self" && c.sc.self:
		return selfShape(c.l.opts.Facts), 1
	case root == "task" && named && c.sc.tasks != nil:
		if info, ok := c.sc.tasks.visible[name]; ok && !info.any {
			return resultShape(info.outputs), 2
		}
	case root == "cluster" && named && name == "nodes":
		return listOf(hostShape()), 2
	case root == "cluster" && named:
		if attr, ok := step(t, 2); ok && attr == "nodes" {
			return listOf(hostShape()), 3
		} else if ok && attr != "name" {
			return hostShape(), 3
		}
	case root == "host" && named:
		return hostShape(), 2
	case root == "group" && named:
		if attr, ok := step(t, 2); ok && attr == "hosts" {
			return listOf(hostShape()), 3
		}
	}
	return nil, len(t)
}

// steps follows a traversal from a shape on.
func (c *attributeCheck) steps(s *shape, t hcl.Traversal, from int, before func(int) string) *shape {
	for i := from; i < len(t) && s != nil; i++ {
		name, named := step(t, i)
		switch {
		case s.kind == shapeObject && named:
			inner, exists := s.attrs[name]
			if !exists {
				c.report(t[i], "%s has no attribute %q.%s", before(i), name, suggestion(name, slices.Collect(maps.Keys(s.attrs))))
				return nil
			}
			s = inner
		case s.kind == shapeByHost && named && c.unknownHost(t[i], s, name, before(i)):
			return nil
		case s.elem != nil && (s.kind != shapeList || !named):
			s = s.elem
		case s.kind == shapeList && named:
			c.report(t[i], "%s is a list and has no attribute %q. Write [0] for its first element, or [*] for all of them.", before(i), name)
			return nil
		case s.kind >= shapeText:
			c.report(t[i], "%s is %s and has no parts.", before(i), s.what())
			return nil
		default:
			return nil
		}
	}
	return s
}

// source names what a reference goes on from where it is no plain reference itself.
func (c *attributeCheck) source(expr hclsyntax.Expression) string {
	switch e := expr.(type) {
	case *hclsyntax.ScopeTraversalExpr:
		return written(e.Traversal)
	case *hclsyntax.ParenthesesExpr:
		return c.source(e.Expression)
	case *hclsyntax.IndexExpr:
		return c.source(e.Collection) + "[…]"
	case *hclsyntax.AnonSymbolExpr:
		return c.source(c.items[e].of) + "[*]"
	case *hclsyntax.FunctionCallExpr:
		return e.Name + "(…)"
	}
	return "The value"
}

// unknownHost reports a key of results that is no host: most often somebody forgot to say which host is meant.
func (c *attributeCheck) unknownHost(at hcl.Traverser, s *shape, name, before string) bool {
	known := c.l.skeleton.hostNames()
	if slices.Contains(known, name) {
		return false
	}
	hint := suggestion(name, known)
	if s.elem != nil && s.elem.attrs != nil {
		if _, output := s.elem.attrs[name]; output {
			before, _, _ := strings.Cut(before, "[")
			hint = fmt.Sprintf(" Say of which host: %s[self.name].%s.", before, name)
		}
	}
	c.report(at, "%s has one entry for each host, and there is no host %q.%s", before, name, hint)
	return true
}

func (c *attributeCheck) report(at hcl.Traverser, format string, args ...any) {
	c.diags = append(c.diags, diag.Error("Unknown attribute", fmt.Sprintf(format, args...), at.SourceRange())...)
}
