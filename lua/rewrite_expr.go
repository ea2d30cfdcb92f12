package lua

import (
	"slices"
	"strconv"

	"github.com/yuin/gopher-lua/ast"
)

func (r *rewriter) expr(e ast.Expr, f *frame) ast.Expr {
	defer func() { r.depth-- }()
	if !r.enter() {
		return e
	}
	switch e := e.(type) {
	case *ast.IdentExpr:
		f.name(e.Value)
	case *ast.AttrGetExpr:
		e.Object, e.Key = r.expr(e.Object, f), r.expr(e.Key, f)
	case *ast.TableExpr:
		return r.table(e, f)
	case *ast.FuncCallExpr:
		if e.Func != nil {
			e.Func = r.expr(e.Func, f)
		}
		if e.Receiver != nil {
			e.Receiver = r.expr(e.Receiver, f)
		}
		r.exprs(e.Args, f)
	case *ast.LogicalOpExpr:
		e.Lhs, e.Rhs = r.expr(e.Lhs, f), r.expr(e.Rhs, f)
	case *ast.RelationalOpExpr:
		e.Lhs, e.Rhs = r.expr(e.Lhs, f), r.expr(e.Rhs, f)
	case *ast.ArithmeticOpExpr:
		e.Lhs, e.Rhs = r.expr(e.Lhs, f), r.expr(e.Rhs, f)
	case *ast.StringConcatOpExpr:
		return r.concat(e, f)
	case *ast.UnaryMinusOpExpr:
		e.Expr = r.expr(e.Expr, f)
	case *ast.UnaryNotOpExpr:
		e.Expr = r.expr(e.Expr, f)
	case *ast.UnaryLenOpExpr:
		e.Expr = r.expr(e.Expr, f)
	case *ast.FunctionExpr:
		r.function(e, f)
	}
	return e
}

// maxPieces is how many pieces one call of (..) takes.
const maxPieces = 50

// concat makes one call of a chain of `..`, which associates to the right; of a very long one, calls inside of calls.
func (r *rewriter) concat(e *ast.StringConcatOpExpr, f *frame) ast.Expr {
	pieces := []ast.Expr{r.expr(e.Lhs, f)}
	rest := e.Rhs
	for {
		next, ok := rest.(*ast.StringConcatOpExpr)
		if !ok {
			break
		}
		pieces = append(pieces, r.expr(next.Lhs, f))
		rest = next.Rhs
	}
	pieces = append(pieces, r.expr(rest, f))
	join := func(pieces []ast.Expr) ast.Expr {
		single(pieces[len(pieces)-1])
		return single(call(concatName, e, pieces...))
	}
	for len(pieces) > maxPieces {
		var joined []ast.Expr
		for part := range slices.Chunk(pieces, maxPieces) {
			joined = append(joined, join(part))
		}
		pieces = joined
	}
	return join(pieces)
}

// table rewrites a table constructor. Its size is charged by the block. Computed keys, which may be any number, and an
// end of unknown length are charged as the table is made.
func (r *rewriter) table(e *ast.TableExpr, f *frame) ast.Expr {
	f.cost += tableCost + itemCost*len(e.Fields)
	var kept []*ast.Field
	var pairs []ast.Expr
	names := 0
	for i, field := range e.Fields {
		field.Value = r.expr(field.Value, f)
		if field.Key == nil {
			if i < len(e.Fields)-1 {
				single(field.Value)
			}
			kept = append(kept, field)
			continue
		}
		field.Key = r.expr(field.Key, f)
		if _, ok := field.Key.(*ast.StringExpr); ok {
			kept, names = append(kept, field), namesCost
			continue
		}
		pairs = append(pairs, single(field.Key), single(field.Value))
	}
	f.cost += names
	open := len(e.Fields) > 0 && e.Fields[len(e.Fields)-1].Key == nil && many(e.Fields[len(e.Fields)-1].Value)
	if len(pairs) == 0 && !open {
		return e
	}
	e.Fields = kept
	var made ast.Expr = e
	for first := true; first || len(pairs) > 0; first = false {
		n := min(len(pairs), 2*maxPairs)
		filled := call(fillName, e, append([]ast.Expr{made}, pairs[:n]...)...)
		filled.AdjustRet = true
		made, pairs = filled, pairs[n:]
	}
	return made
}

// assign rewrites an assignment to fields. Several at once are evaluated first and assigned then, as Lua does.
func (r *rewriter) assign(s *ast.AssignStmt, f *frame) ast.Stmt {
	fields := 0
	for i, target := range s.Lhs {
		s.Lhs[i] = r.expr(target, f)
		if _, ok := target.(*ast.AttrGetExpr); ok {
			fields++
		}
	}
	r.exprs(s.Rhs, f)
	if fields == 0 {
		return s
	}
	if target, ok := s.Lhs[0].(*ast.AttrGetExpr); ok && len(s.Lhs) == 1 && len(s.Rhs) == 1 {
		set := call(setName, s, single(target.Object), single(target.Key), single(s.Rhs[0]))
		return at(&ast.FuncCallStmt{Expr: set}, s)
	}
	return r.assignMany(s)
}

func (r *rewriter) assignMany(s *ast.AssignStmt) ast.Stmt {
	ident := func(name string) ast.Expr { return at(&ast.IdentExpr{Value: name}, s) }
	places := at(&ast.LocalAssignStmt{}, s)
	values := at(&ast.LocalAssignStmt{Exprs: s.Rhs}, s)
	var sets []ast.Stmt
	for i, target := range s.Lhs {
		n := strconv.Itoa(i)
		value := "(value " + n + ")"
		values.Names = append(values.Names, value)
		field, ok := target.(*ast.AttrGetExpr)
		if !ok {
			sets = append(sets, at(&ast.AssignStmt{Lhs: []ast.Expr{target}, Rhs: []ast.Expr{ident(value)}}, s))
			continue
		}
		object, key := "(object "+n+")", "(key "+n+")"
		places.Names = append(places.Names, object, key)
		places.Exprs = append(places.Exprs, single(field.Object), single(field.Key))
		sets = append(sets, at(&ast.FuncCallStmt{Expr: call(setName, s, ident(object), ident(key), ident(value))}, s))
	}
	return at(&ast.DoBlockStmt{Stmts: append([]ast.Stmt{places, values}, sets...)}, s)
}
