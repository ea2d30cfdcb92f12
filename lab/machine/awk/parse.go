package awk

import (
	"errors"
	"fmt"
)

// program is a parsed script.
type program struct {
	begin, end []*stmt
	rules      []rule
	funcs      map[string]*function
}

type rule struct {
	from, to *expr // to only of ranges
	body     []*stmt
	print    bool // no action: print the record
	active   bool
}

type function struct {
	params []string
	body   []*stmt
}

// stmt is a statement. Which fields count depends on kind.
type stmt struct {
	kind             string // print printf expr if while do for forin block next exit break continue return delete getline
	exprs            []*expr
	cond, init, step *expr
	body, other      []*stmt
	name, array      string
}

// expr is an expression.
type expr struct {
	op   string // num str regex var field index call group and the operators
	text string
	num  float64
	args []*expr
}

type parser struct {
	toks  []token
	at    int
	prog  *program
	depth int
	noIn  bool
	noGt  bool
}

// maxDepth bounds nesting, so that no input overflows the stack.
const maxDepth = 200

// syntaxError travels up from deep inside the parser.
type syntaxError struct{ text string }

func parse(src string) (p *program, err error) {
	toks, err := lex(src)
	if err != nil {
		return nil, err
	}
	ps := &parser{toks: toks, prog: &program{funcs: map[string]*function{}}}
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(syntaxError)
			if !ok {
				panic(r)
			}
			p, err = nil, errors.New(e.text)
		}
	}()
	ps.program()
	return ps.prog, nil
}

func (p *parser) fail(format string, args ...any) {
	panic(syntaxError{fmt.Sprintf(format, args...)})
}

func (p *parser) tok() token { return p.toks[p.at] }

func (p *parser) is(texts ...string) bool {
	t := p.tok()
	if t.kind != tokOp && t.kind != tokWord {
		return false
	}
	for _, s := range texts {
		if t.text == s {
			return true
		}
	}
	return false
}

func (p *parser) accept(text string) bool {
	if p.is(text) {
		p.at++
		return true
	}
	return false
}

func (p *parser) expect(text string) {
	if !p.accept(text) {
		p.fail("syntax error at or near %s", p.tok())
	}
}

func (p *parser) newlines() {
	for p.is("\n", ";") {
		p.at++
	}
}

func (p *parser) optNewlines() {
	for p.is("\n") {
		p.at++
	}
}

func (p *parser) program() {
	for p.newlines(); p.tok().kind != tokEOF; p.newlines() {
		switch {
		case p.accept("BEGIN"):
			p.prog.begin = append(p.prog.begin, p.block()...)
		case p.accept("END"):
			p.prog.end = append(p.prog.end, p.block()...)
		case p.is("function", "func"):
			p.function()
		default:
			p.rule()
		}
	}
}

func (p *parser) function() {
	p.at++
	name := p.tok().text
	if k := p.tok().kind; k != tokWord && k != tokCall {
		p.fail("syntax error at or near %s", p.tok())
	}
	p.at++
	p.expect("(")
	f := &function{}
	for !p.accept(")") {
		f.params = append(f.params, p.tok().text)
		p.at++
		p.accept(",")
		if p.tok().kind == tokEOF {
			p.fail("syntax error at end of file")
		}
	}
	p.optNewlines()
	p.prog.funcs[name] = f
	f.body = p.block()
}

func (p *parser) rule() {
	r := rule{}
	if !p.is("{") {
		r.from = p.expr()
		if p.accept(",") {
			p.optNewlines()
			r.to = p.expr()
		}
	}
	if p.is("{") {
		r.body = p.block()
	} else {
		r.print = true
	}
	p.prog.rules = append(p.prog.rules, r)
}

func (p *parser) block() []*stmt {
	p.expect("{")
	var list []*stmt
	for p.newlines(); !p.accept("}"); p.newlines() {
		if p.tok().kind == tokEOF {
			p.fail("syntax error at end of file")
		}
		list = append(list, p.stmt())
	}
	return list
}

func (p *parser) enter() func() {
	if p.depth++; p.depth > maxDepth {
		p.fail("program too deeply nested")
	}
	return func() { p.depth-- }
}

// body is a block or one statement.
func (p *parser) body() []*stmt {
	p.optNewlines()
	if p.is("{") {
		return p.block()
	}
	if p.accept(";") {
		return nil
	}
	return []*stmt{p.stmt()}
}

func (p *parser) stmt() *stmt {
	defer p.enter()()
	switch {
	case p.is("{"):
		return &stmt{kind: "block", body: p.block()}
	case p.accept("if"):
		return p.ifStmt()
	case p.accept("while"):
		p.expect("(")
		s := &stmt{kind: "while", cond: p.expr()}
		p.expect(")")
		s.body = p.body()
		return s
	case p.accept("do"):
		s := &stmt{kind: "do", body: p.body()}
		p.newlines()
		p.expect("while")
		p.expect("(")
		s.cond = p.expr()
		p.expect(")")
		return s
	case p.accept("for"):
		return p.forStmt()
	}
	s := p.simple()
	if !p.is(";", "\n", "}") && p.tok().kind != tokEOF {
		p.fail("syntax error at or near %s", p.tok())
	}
	return s
}

func (p *parser) ifStmt() *stmt {
	p.expect("(")
	s := &stmt{kind: "if", cond: p.expr()}
	p.expect(")")
	s.body = p.body()
	mark := p.at
	p.newlines()
	if p.accept("else") {
		s.other = p.body()
	} else {
		p.at = mark
	}
	return s
}

func (p *parser) forStmt() *stmt {
	p.expect("(")
	if p.tok().kind == tokWord && p.toks[p.at+1].text == "in" && p.toks[p.at+2].kind == tokWord && p.toks[p.at+3].text == ")" {
		s := &stmt{kind: "forin", name: p.tok().text, array: p.toks[p.at+2].text}
		p.at += 4
		s.body = p.body()
		return s
	}
	s := &stmt{kind: "for"}
	if !p.is(";") {
		s.init = p.expr()
	}
	p.expect(";")
	if !p.is(";") {
		s.cond = p.expr()
	}
	p.expect(";")
	if !p.is(")") {
		s.step = p.expr()
	}
	p.expect(")")
	s.body = p.body()
	return s
}

func (p *parser) ends() bool {
	return p.is(";", "\n", "}") || p.tok().kind == tokEOF
}

func (p *parser) simple() *stmt {
	switch {
	case p.is("print", "printf"):
		s := &stmt{kind: p.tok().text}
		p.at++
		if p.ends() {
			return s
		}
		saved := p.noGt
		p.noGt = true
		if !p.is(">", ">>", "|") {
			s.exprs = p.printList()
		}
		p.noGt = saved
		if p.is(">", ">>", "|") {
			p.fail("output to files and commands is not simulated")
		}
		return s
	case p.accept("next"), p.accept("nextfile"):
		return &stmt{kind: "next"}
	case p.is("break", "continue"):
		p.at++
		return &stmt{kind: p.toks[p.at-1].text}
	case p.is("exit", "return"):
		s := &stmt{kind: p.tok().text}
		p.at++
		if !p.ends() {
			s.cond = p.expr()
		}
		return s
	case p.accept("delete"):
		s := &stmt{kind: "delete", array: p.tok().text}
		p.at++
		if p.accept("[") {
			s.exprs = p.list("]")
		}
		return s
	}
	return &stmt{kind: "expr", cond: p.expr()}
}

// printList is `print a, b` or `print(a, b)`.
func (p *parser) printList() []*expr {
	list := []*expr{p.expr()}
	for p.accept(",") {
		p.optNewlines()
		list = append(list, p.expr())
	}
	if len(list) == 1 && list[0].op == "group" && len(list[0].args) > 1 {
		return list[0].args
	}
	return list
}

func (p *parser) list(end string) []*expr {
	var list []*expr
	for !p.accept(end) {
		if p.tok().kind == tokEOF {
			p.fail("syntax error at end of file")
		}
		p.optNewlines()
		list = append(list, p.expr())
		p.optNewlines()
		if !p.accept(",") && !p.is(end) {
			p.fail("syntax error at or near %s", p.tok())
		}
	}
	return list
}
