package awk

import (
	"strconv"
)

// expr parses assignment, the lowest precedence.
func (p *parser) expr() *expr {
	defer p.enter()()
	left := p.ternary()
	if p.is("=", "+=", "-=", "*=", "/=", "%=", "^=") {
		if left.op != "var" && left.op != "field" && left.op != "index" {
			p.fail("assignment to something that is no variable")
		}
		op := p.tok().text
		p.at++
		p.optNewlines()
		return &expr{op: op, args: []*expr{left, p.expr()}}
	}
	return left
}

func (p *parser) ternary() *expr {
	c := p.binary(0)
	if !p.accept("?") {
		return c
	}
	p.optNewlines()
	a := p.expr()
	p.optNewlines()
	p.expect(":")
	p.optNewlines()
	return &expr{op: "?:", args: []*expr{c, a, p.expr()}}
}

// levels are binary operators from weak to strong. Concatenation stands between comparison and addition.
var levels = [][]string{{"||"}, {"&&"}, {"in"}, {"~", "!~"}, {"<", "<=", "==", "!=", ">", ">="}, {" "}, {"+", "-"}, {"*", "/", "%"}}

func (p *parser) binary(level int) *expr {
	if level == len(levels) {
		return p.unary()
	}
	left := p.binary(level + 1)
	for {
		if levels[level][0] == " " {
			if !p.startsOperand() {
				return left
			}
			left = &expr{op: "concat", args: []*expr{left, p.binary(level + 1)}}
			continue
		}
		if !p.is(levels[level]...) || p.noGt && p.is(">") {
			return left
		}
		op := p.tok().text
		p.at++
		p.optNewlines()
		if op == "in" {
			left = &expr{op: "in", text: p.tok().text, args: []*expr{left}}
			p.at++
			continue
		}
		left = &expr{op: op, args: []*expr{left, p.binary(level + 1)}}
	}
}

// startsOperand tells whether the next token can begin the right side of a concatenation.
func (p *parser) startsOperand() bool {
	t := p.tok()
	switch t.kind {
	case tokNumber, tokString, tokRegex, tokCall:
		return true
	case tokWord:
		return !keywords[t.text]
	case tokOp:
		return t.text == "$" || t.text == "(" || t.text == "!" || t.text == "-" || t.text == "++" || t.text == "--"
	}
	return false
}

func (p *parser) unary() *expr {
	defer p.enter()()
	switch {
	case p.accept("!"):
		return &expr{op: "!", args: []*expr{p.unary()}}
	case p.accept("-"):
		return &expr{op: "neg", args: []*expr{p.unary()}}
	case p.accept("+"):
		return &expr{op: "pos", args: []*expr{p.unary()}}
	}
	return p.power()
}

func (p *parser) power() *expr {
	left := p.postfix()
	if p.accept("^") || p.accept("**") {
		return &expr{op: "^", args: []*expr{left, p.unaryPower()}}
	}
	return left
}

func (p *parser) unaryPower() *expr {
	if p.accept("-") {
		return &expr{op: "neg", args: []*expr{p.unaryPower()}}
	}
	return p.power()
}

func (p *parser) postfix() *expr {
	if p.is("++", "--") {
		op := p.tok().text
		p.at++
		return &expr{op: "pre" + op, args: []*expr{p.primary()}}
	}
	e := p.primary()
	if p.is("++", "--") && (e.op == "var" || e.op == "field" || e.op == "index") {
		e = &expr{op: "post" + p.tok().text, args: []*expr{e}}
		p.at++
	}
	return e
}

func (p *parser) primary() *expr {
	defer p.enter()()
	t := p.tok()
	p.at++
	switch t.kind {
	case tokNumber:
		n, err := strconv.ParseFloat(t.text, 64)
		if err != nil {
			if i, ierr := strconv.ParseInt(t.text, 0, 64); ierr == nil {
				n = float64(i)
			}
		}
		return &expr{op: "num", num: n}
	case tokString:
		return &expr{op: "str", text: unescape(t.text)}
	case tokRegex:
		return &expr{op: "regex", text: t.text}
	case tokCall:
		p.expect("(")
		return &expr{op: "call", text: t.text, args: p.list(")")}
	case tokWord:
		return p.word(t.text)
	}
	switch t.text {
	case "$":
		if p.is("++", "--") {
			return &expr{op: "field", args: []*expr{p.postfix()}}
		}
		if p.accept("-") {
			return &expr{op: "field", args: []*expr{{op: "neg", args: []*expr{p.primary()}}}}
		}
		return &expr{op: "field", args: []*expr{p.primary()}}
	case "(":
		savedGt := p.noGt
		p.noGt = false
		list := p.list(")")
		p.noGt = savedGt
		if len(list) == 0 {
			p.fail("syntax error at or near )")
		}
		if len(list) > 1 && p.is("in") {
			p.at++
			e := &expr{op: "in", text: p.tok().text, args: list}
			p.at++
			return e
		}
		return &expr{op: "group", args: list}
	}
	p.at--
	p.fail("syntax error at or near %s", t)
	return nil
}

func (p *parser) word(name string) *expr {
	if name == "getline" {
		e := &expr{op: "getline"}
		if p.tok().kind == tokWord && !keywords[p.tok().text] {
			e.args = []*expr{{op: "var", text: p.tok().text}}
			p.at++
		}
		if p.is("<") {
			p.fail("input from files is not simulated")
		}
		return e
	}
	if keywords[name] {
		p.at--
		p.fail("syntax error at or near %s", p.tok())
	}
	if builtins[name] { // length without parentheses
		e := &expr{op: "call", text: name}
		if p.accept("(") {
			e.args = p.list(")")
		}
		return e
	}
	if p.accept("[") {
		return &expr{op: "index", text: name, args: p.list("]")}
	}
	return &expr{op: "var", text: name}
}
