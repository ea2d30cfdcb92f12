package awk

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

func (in *interp) eval(e *expr) (value, error) {
	switch e.op {
	case "num":
		return num(e.num), nil
	case "str":
		return str(e.text), nil
	case "regex":
		ok, err := in.matches(in.text(), e)
		return boolean(ok), err
	case "var":
		if e.text == "NF" {
			err := in.needFields()
			return num(float64(len(in.fields))), err
		}
		return in.get(e.text), nil
	case "field":
		v, err := in.eval(e.args[0])
		if err != nil {
			return value{}, err
		}
		return in.field(int(v.num()))
	case "index":
		key, err := in.subscript(e.args)
		if err != nil {
			return value{}, err
		}
		a := in.array(e.text)
		v, ok := a[key]
		if !ok && len(a) < 1<<20 {
			a[key] = value{}
		}
		return v, nil
	case "in":
		key, err := in.subscript(e.args)
		_, ok := in.array(e.text)[key]
		return boolean(ok), err
	case "group":
		return in.eval(e.args[len(e.args)-1])
	case "call":
		return in.call(e)
	case "getline":
		return in.getline(e)
	case "?:":
		c, err := in.eval(e.args[0])
		if err != nil {
			return value{}, err
		}
		if c.truth() {
			return in.eval(e.args[1])
		}
		return in.eval(e.args[2])
	case "&&", "||":
		l, err := in.eval(e.args[0])
		if err != nil || l.truth() == (e.op == "||") {
			return boolean(l.truth()), err
		}
		r, err := in.eval(e.args[1])
		return boolean(r.truth()), err
	case "~", "!~":
		l, err := in.eval(e.args[0])
		if err != nil {
			return value{}, err
		}
		ok, err := in.matches(l.str(), e.args[1])
		return boolean(ok == (e.op == "~")), err
	case "=", "+=", "-=", "*=", "/=", "%=", "^=":
		return in.assign(e)
	case "pre++", "pre--", "post++", "post--":
		return in.increment(e)
	case "!", "neg", "pos":
		v, err := in.eval(e.args[0])
		switch e.op {
		case "!":
			return boolean(!v.truth()), err
		case "neg":
			return num(-v.num()), err
		}
		return num(v.num()), err
	}
	return in.binary(e)
}

func (in *interp) binary(e *expr) (value, error) {
	l, err := in.eval(e.args[0])
	if err != nil {
		return value{}, err
	}
	r, err := in.eval(e.args[1])
	if err != nil {
		return value{}, err
	}
	switch e.op {
	case "concat":
		return limited(l.str() + r.str())
	case "<":
		return boolean(compare(l, r) < 0), nil
	case "<=":
		return boolean(compare(l, r) <= 0), nil
	case "==":
		return boolean(compare(l, r) == 0), nil
	case "!=":
		return boolean(compare(l, r) != 0), nil
	case ">":
		return boolean(compare(l, r) > 0), nil
	case ">=":
		return boolean(compare(l, r) >= 0), nil
	}
	return arithmetic(e.op, l.num(), r.num())
}

func limited(s string) (value, error) {
	if len(s) > stringLimit {
		return value{}, errors.New("string too long")
	}
	return str(s), nil
}

func arithmetic(op string, a, b float64) (value, error) {
	switch op[:1] {
	case "+":
		return num(a + b), nil
	case "-":
		return num(a - b), nil
	case "*":
		return num(a * b), nil
	case "/":
		if b == 0 {
			return value{}, errors.New("division by zero")
		}
		return num(a / b), nil
	case "%":
		if b == 0 {
			return value{}, errors.New("division by zero in %")
		}
		return num(math.Mod(a, b)), nil
	case "^":
		return num(math.Pow(a, b)), nil
	}
	return value{}, fmt.Errorf("unknown operator %s", op)
}

// matches tests a text against a regular expression, given as such or as a string.
func (in *interp) matches(text string, e *expr) (bool, error) {
	pattern, err := in.pattern(e)
	if err != nil {
		return false, err
	}
	re, err := in.regexp(pattern)
	if err != nil {
		return false, err
	}
	return re.MatchString(text), nil
}

func (in *interp) pattern(e *expr) (string, error) {
	for e.op == "group" && len(e.args) == 1 {
		e = e.args[0]
	}
	if e.op == "regex" {
		return e.text, nil
	}
	v, err := in.eval(e)
	return v.str(), err
}

func (in *interp) store(to *expr, v value) error {
	switch to.op {
	case "var":
		if to.text == "NF" {
			return in.setNF(int(v.num()))
		}
		in.set(to.text, v)
		return nil
	case "field":
		n, err := in.eval(to.args[0])
		if err != nil {
			return err
		}
		return in.setField(int(n.num()), v)
	case "index":
		key, err := in.subscript(to.args)
		if err != nil {
			return err
		}
		if a := in.array(to.text); len(a) < 1<<20 {
			a[key] = v
		}
		return nil
	}
	return errors.New("assignment to something that is no variable")
}

func (in *interp) setNF(n int) error {
	if err := in.needFields(); err != nil {
		return err
	}
	if n < 0 || n > 100000 {
		return errors.New("bad NF")
	}
	for len(in.fields) < n {
		in.fields = append(in.fields, str(""))
	}
	in.fields, in.dirty = in.fields[:n], true
	return nil
}

func (in *interp) assign(e *expr) (value, error) {
	v, err := in.eval(e.args[1])
	if err != nil {
		return value{}, err
	}
	if e.op != "=" {
		old, err := in.eval(e.args[0])
		if err != nil {
			return value{}, err
		}
		if v, err = arithmetic(e.op, old.num(), v.num()); err != nil {
			return value{}, err
		}
	}
	v.defined = true
	return v, in.store(e.args[0], v)
}

func (in *interp) increment(e *expr) (value, error) {
	old, err := in.eval(e.args[0])
	if err != nil {
		return value{}, err
	}
	by := 1.0
	if strings.HasSuffix(e.op, "--") {
		by = -1
	}
	next := num(old.num() + by)
	if err := in.store(e.args[0], next); err != nil {
		return value{}, err
	}
	if strings.HasPrefix(e.op, "pre") {
		return next, nil
	}
	return num(old.num()), nil
}

func (in *interp) getline(e *expr) (value, error) {
	line, ok := in.read()
	if !ok {
		return num(0), nil
	}
	if len(e.args) == 1 {
		return num(1), in.store(e.args[0], numeric(line))
	}
	in.setRecord(line)
	return num(1), nil
}
