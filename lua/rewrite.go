package lua

import (
	"errors"
	"strconv"

	"github.com/yuin/gopher-lua/ast"
)

// The interpreter has no limit of memory, and no place to put one: `s = s .. s` and `t[50000000] = 1` are single
// instructions. So the syntax tree is rewritten before it is compiled: what allocates becomes a call of a function that
// charges the meter. The functions have names that no script can write.
const (
	concatName = "(..)"     // (..)(a, b, c) is a .. b .. c
	setName    = "([]=)"    // ([]=)(t, k, v) is t[k] = v
	fillName   = "({})"     // ({})(t, k, v, …) sets the computed fields of a table that is being made
	chargeName = "(charge)" // (charge)(n) charges what a block makes: its tables and functions
)

// What the things that a block makes cost, in bytes, at most: measured, see TestWhatIsChargedCoversWhatIsUsed.
const (
	tableCost   = 128
	namesCost   = 500 // of a table that has named fields
	itemCost    = 360 // of what a constructor puts into a table
	fieldCost   = 200 // of a field that is added to it later
	closureCost = 160
	upvalueCost = 80
)

// maxNesting bounds how deep expressions and blocks nest: the compiler recurses over them.
const maxNesting = 400

var errTooDeep = errors.New("expressions or blocks are nested too deep")

// maxPairs is how many computed fields one call of ({}) takes: a call has at most some 250 arguments.
const maxPairs = 50

// instrument makes the chunk that is compiled: a function that takes the charging functions and returns the script.
func instrument(chunk []ast.Stmt) ([]ast.Stmt, error) {
	r := &rewriter{}
	var outer frame
	main := &ast.FunctionExpr{ParList: &ast.ParList{HasVargs: true}, Stmts: r.block(chunk, &outer)}
	line, last := 1, 1
	if len(chunk) > 0 {
		line, last = chunk[0].Line(), chunk[len(chunk)-1].LastLine()+1
	}
	main.SetLine(line)
	main.SetLastLine(last)
	functions := &ast.LocalAssignStmt{
		Names: []string{concatName, setName, fillName, chargeName},
		Exprs: []ast.Expr{at(&ast.Comma3Expr{}, main)},
	}
	return []ast.Stmt{at(functions, main), at(&ast.ReturnStmt{Exprs: []ast.Expr{main}}, main)}, r.err
}

// at gives a new node the place of one that it stands for.
func at[N ast.PositionHolder](n N, like ast.PositionHolder) N {
	n.SetLine(like.Line())
	n.SetLastLine(max(like.Line(), like.LastLine()))
	return n
}

type rewriter struct {
	depth int
	err   error
}

// frame is a block of statements: what it makes each time that it is entered, in bytes.
type frame struct {
	cost  int
	names map[string]bool // identifiers in it, of functions inside too: what a closure may capture
}

func (f *frame) name(n string) {
	if f.names == nil {
		f.names = map[string]bool{}
	}
	f.names[n] = true
}

func (r *rewriter) enter() bool {
	if r.depth++; r.depth > maxNesting {
		r.err = errTooDeep
		return false
	}
	return true
}

func call(name string, like ast.PositionHolder, args ...ast.Expr) *ast.FuncCallExpr {
	f := at(&ast.IdentExpr{Value: name}, like)
	return at(&ast.FuncCallExpr{Func: f, Args: args}, like)
}

// block rewrites statements and puts the charge for what they make in front, and behind each label that they can be
// repeated from. Conditions are those that are evaluated each time the block is.
func (r *rewriter) block(stmts []ast.Stmt, in *frame, conditions ...*ast.Expr) []ast.Stmt {
	defer func() { r.depth-- }()
	if !r.enter() || len(stmts) == 0 && len(conditions) == 0 {
		return stmts
	}
	own := frame{names: in.names}
	if own.names == nil {
		own.names = map[string]bool{}
		in.names = own.names
	}
	var out []ast.Stmt
	var labels []int
	for i, s := range stmts {
		out = append(out, r.stmt(s, &own))
		if _, ok := s.(*ast.LabelStmt); ok && i < len(stmts)-1 {
			labels = append(labels, len(out))
		}
	}
	for _, c := range conditions {
		*c = r.expr(*c, &own)
	}
	if own.cost == 0 {
		return out
	}
	var like ast.PositionHolder
	if len(stmts) > 0 {
		like = stmts[0]
	} else {
		like = *conditions[0]
	}
	charge := func() ast.Stmt {
		n := at(&ast.NumberExpr{Value: strconv.Itoa(own.cost)}, like)
		return at(&ast.FuncCallStmt{Expr: call(chargeName, like, n)}, like)
	}
	for i := len(labels) - 1; i >= 0; i-- {
		out = append(out[:labels[i]], append([]ast.Stmt{charge()}, out[labels[i]:]...)...)
	}
	return append([]ast.Stmt{charge()}, out...)
}

func (r *rewriter) stmt(s ast.Stmt, f *frame) ast.Stmt {
	switch s := s.(type) {
	case *ast.AssignStmt:
		return r.assign(s, f)
	case *ast.LocalAssignStmt:
		r.exprs(s.Exprs, f)
	case *ast.FuncCallStmt:
		s.Expr = r.expr(s.Expr, f)
	case *ast.DoBlockStmt:
		s.Stmts = r.block(s.Stmts, f)
	case *ast.WhileStmt:
		s.Stmts = r.block(s.Stmts, f, &s.Condition)
	case *ast.RepeatStmt:
		s.Stmts = r.block(s.Stmts, f, &s.Condition)
	case *ast.IfStmt:
		s.Condition = r.expr(s.Condition, f)
		s.Then = r.block(s.Then, f)
		s.Else = r.block(s.Else, f)
	case *ast.NumberForStmt:
		s.Init, s.Limit, s.Step = r.expr(s.Init, f), r.expr(s.Limit, f), r.expr(s.Step, f)
		s.Stmts = r.block(s.Stmts, f)
	case *ast.GenericForStmt:
		r.exprs(s.Exprs, f)
		s.Stmts = r.block(s.Stmts, f)
	case *ast.FuncDefStmt:
		if s.Name.Func != nil {
			s.Name.Func = r.expr(s.Name.Func, f)
		}
		if s.Name.Receiver != nil {
			s.Name.Receiver = r.expr(s.Name.Receiver, f)
		}
		f.cost += fieldCost
		r.function(s.Func, f)
	case *ast.ReturnStmt:
		r.exprs(s.Exprs, f)
	}
	return s
}

func (r *rewriter) exprs(list []ast.Expr, f *frame) {
	for i := range list {
		list[i] = r.expr(list[i], f)
	}
}

// function rewrites the body of a function and charges the block for the closure.
func (r *rewriter) function(e *ast.FunctionExpr, f *frame) {
	var inner frame
	e.Stmts = r.block(e.Stmts, &inner)
	f.cost += closureCost + upvalueCost*(len(inner.names)+4)
	for n := range inner.names {
		f.name(n)
	}
}

// single makes an expression give exactly one value, as where it stood before.
func single(e ast.Expr) ast.Expr {
	switch e := e.(type) {
	case *ast.FuncCallExpr:
		e.AdjustRet = true
	case *ast.Comma3Expr:
		e.AdjustRet = true
	}
	return e
}

// many reports whether an expression at the end of a list may give any number of values.
func many(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.FuncCallExpr:
		return !e.AdjustRet
	case *ast.Comma3Expr:
		return !e.AdjustRet
	}
	return false
}
