package awk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// cell is a variable: a value or an array.
type cell struct {
	v     value
	array map[string]value
}

// interp is a running program.
type interp struct {
	prog    *program
	opt     Options
	globals map[string]*cell
	locals  []map[string]*cell
	in      *bufio.Reader
	out     *bufio.Writer
	regexps map[string]*regexp.Regexp

	record   string
	fields   []value
	split    bool // fields are those of record
	dirty    bool // record must be rebuilt from fields
	steps    int
	status   int
	returned value
}

// What unwinds the interpreter.
var (
	errNext     = errors.New("next")
	errExit     = errors.New("exit")
	errBreak    = errors.New("break")
	errContinue = errors.New("continue")
	errReturn   = errors.New("return")
)

// stringLimit bounds one string, so that a loop that doubles one ends.
const stringLimit = 16 << 20

func (in *interp) set(name string, v value) { in.cell(name).v = v }

func (in *interp) get(name string) value { return in.cell(name).v }

func (in *interp) cell(name string) *cell {
	if len(in.locals) > 0 {
		if c := in.locals[len(in.locals)-1][name]; c != nil {
			return c
		}
	}
	c := in.globals[name]
	if c == nil {
		c = &cell{}
		in.globals[name] = c
	}
	return c
}

func (in *interp) array(name string) map[string]value {
	c := in.cell(name)
	if c.array == nil {
		c.array = map[string]value{}
	}
	return c.array
}

func (in *interp) run() (int, error) {
	err := in.block(in.prog.begin)
	if err == nil && (len(in.prog.rules) > 0 || len(in.prog.end) > 0) {
		err = in.records()
	}
	if err == nil || errors.Is(err, errExit) {
		if err == nil || len(in.prog.end) > 0 && !errors.Is(err, errExit) || errors.Is(err, errExit) {
			endErr := in.block(in.prog.end)
			if endErr != nil && !errors.Is(endErr, errExit) {
				return 2, endErr
			}
		}
		return in.status, nil
	}
	return 2, err
}

// records runs the rules over the input.
func (in *interp) records() error {
	for {
		line, ok := in.read()
		if !ok {
			return nil
		}
		in.setRecord(line)
		if err := in.rules(); err != nil && !errors.Is(err, errNext) {
			return err
		}
	}
}

func (in *interp) rules() error {
	for i := range in.prog.rules {
		r := &in.prog.rules[i]
		ok, err := in.selects(r)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if r.print {
			err = in.write(in.text() + in.get("ORS").str())
		} else {
			err = in.block(r.body)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (in *interp) selects(r *rule) (bool, error) {
	if r.from == nil {
		return true, nil
	}
	if r.to == nil {
		v, err := in.eval(r.from)
		return v.truth(), err
	}
	if !r.active {
		v, err := in.eval(r.from)
		if err != nil || !v.truth() {
			return false, err
		}
		r.active = true
	}
	v, err := in.eval(r.to)
	if v.truth() {
		r.active = false
	}
	return true, err
}

func (in *interp) write(text string) error {
	if _, err := in.out.WriteString(text); err != nil {
		return err
	}
	if in.out.Buffered() > 2048 {
		return in.out.Flush()
	}
	return nil
}

// read reads one record.
func (in *interp) read() (string, bool) {
	if in.opt.Canceled != nil && in.opt.Canceled() {
		return "", false
	}
	rs := in.get("RS").str()
	var line string
	var err error
	switch {
	case rs == "":
		line, err = in.paragraph()
	default:
		line, err = in.in.ReadString(rs[0])
		if err == nil {
			line = line[:len(line)-1]
		} else if rs[0] != '\n' {
			line = strings.TrimSuffix(line, "\n")
		}
	}
	if err != nil && line == "" {
		return "", false
	}
	in.set("NR", num(in.get("NR").num()+1))
	in.set("FNR", num(in.get("FNR").num()+1))
	return line, true
}

// paragraph reads up to an empty line.
func (in *interp) paragraph() (string, error) {
	var lines []string
	for {
		line, err := in.in.ReadString('\n')
		text := strings.TrimSuffix(line, "\n")
		if text != "" {
			lines = append(lines, text)
		}
		if err != nil || text == "" && len(lines) > 0 {
			if len(lines) > 0 {
				err = nil
			} else {
				err = io.EOF
			}
			return strings.Join(lines, "\n"), err
		}
	}
}

func (in *interp) setRecord(line string) {
	in.record, in.split, in.dirty = line, false, false
}

// text is $0.
func (in *interp) text() string {
	if in.dirty {
		parts := make([]string, len(in.fields))
		for i, f := range in.fields {
			parts[i] = f.str()
		}
		in.record, in.dirty = strings.Join(parts, in.get("OFS").str()), false
	}
	return in.record
}

func (in *interp) needFields() error {
	if in.split {
		return nil
	}
	parts, err := in.splitText(in.record, in.get("FS").str())
	in.fields = in.fields[:0]
	for _, p := range parts {
		in.fields = append(in.fields, numeric(p))
	}
	in.split = true
	return err
}

func (in *interp) splitText(text, fs string) ([]string, error) {
	switch {
	case text == "":
		return nil, nil
	case fs == " ":
		return strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' }), nil
	case fs == "":
		return strings.Split(text, ""), nil
	case len(fs) == 1 && fs != `\`:
		if in.get("RS").str() == "" {
			return strings.FieldsFunc(text, func(r rune) bool { return string(r) == fs || r == '\n' }), nil
		}
		return strings.Split(text, fs), nil
	}
	re, err := in.regexp(fs)
	if err != nil {
		return nil, err
	}
	return re.Split(text, -1), nil
}

func (in *interp) regexp(text string) (*regexp.Regexp, error) {
	if re := in.regexps[text]; re != nil {
		return re, nil
	}
	re, err := in.opt.Regexp(text)
	if err != nil {
		return nil, fmt.Errorf("regular expression %s: %w", text, err)
	}
	in.regexps[text] = re
	return re, nil
}

func (in *interp) field(n int) (value, error) {
	if n == 0 {
		return numeric(in.text()), nil
	}
	if n < 0 {
		return value{}, fmt.Errorf("attempt to access field %d", n)
	}
	if err := in.needFields(); err != nil {
		return value{}, err
	}
	if n > len(in.fields) {
		return value{}, nil
	}
	return in.fields[n-1], nil
}

func (in *interp) setField(n int, v value) error {
	if n == 0 {
		in.setRecord(v.str())
		return nil
	}
	if n < 0 || n > 100000 {
		return fmt.Errorf("attempt to access field %d", n)
	}
	if err := in.needFields(); err != nil {
		return err
	}
	for len(in.fields) < n {
		in.fields = append(in.fields, str(""))
	}
	in.fields[n-1], in.dirty = v, true
	return nil
}

func (in *interp) block(list []*stmt) error {
	for _, s := range list {
		if err := in.exec(s); err != nil {
			return err
		}
	}
	return nil
}

func (in *interp) exec(s *stmt) error {
	if in.steps++; in.steps%1000 == 0 && in.opt.Canceled != nil && in.opt.Canceled() {
		return errExit
	}
	switch s.kind {
	case "expr":
		_, err := in.eval(s.cond)
		return err
	case "print", "printf":
		return in.print(s)
	case "block":
		return in.block(s.body)
	case "if":
		v, err := in.eval(s.cond)
		if err != nil {
			return err
		}
		if v.truth() {
			return in.block(s.body)
		}
		return in.block(s.other)
	case "while", "do", "for":
		return in.loop(s)
	case "forin":
		return in.forIn(s)
	case "next":
		return errNext
	case "break":
		return errBreak
	case "continue":
		return errContinue
	case "exit", "return":
		return in.leave(s)
	case "delete":
		return in.remove(s)
	}
	return fmt.Errorf("unknown statement %s", s.kind)
}

func (in *interp) leave(s *stmt) error {
	v := value{}
	if s.cond != nil {
		var err error
		if v, err = in.eval(s.cond); err != nil {
			return err
		}
	}
	if s.kind == "return" {
		in.returned = v
		return errReturn
	}
	if s.cond != nil {
		in.status = int(v.num()) & 255
	}
	return errExit
}

func (in *interp) remove(s *stmt) error {
	if s.exprs == nil {
		clear(in.array(s.array))
		return nil
	}
	key, err := in.subscript(s.exprs)
	delete(in.array(s.array), key)
	return err
}

func (in *interp) loop(s *stmt) error {
	if s.init != nil {
		if _, err := in.eval(s.init); err != nil {
			return err
		}
	}
	for first := true; ; first = false {
		if s.cond != nil && !(s.kind == "do" && first) {
			v, err := in.eval(s.cond)
			if err != nil || !v.truth() {
				return err
			}
		}
		if in.steps++; in.steps%1000 == 0 && in.opt.Canceled != nil && in.opt.Canceled() {
			return errExit
		}
		if err := in.block(s.body); err != nil && !errors.Is(err, errContinue) {
			if errors.Is(err, errBreak) {
				return nil
			}
			return err
		}
		if s.step != nil {
			if _, err := in.eval(s.step); err != nil {
				return err
			}
		}
	}
}

// forIn goes through an array in an order that does not change between runs: numbers first.
func (in *interp) forIn(s *stmt) error {
	var keys []string
	for k := range in.array(s.array) {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return compare(numeric(a), numeric(b)) })
	for _, k := range keys {
		in.set(s.name, numeric(k))
		if err := in.block(s.body); err != nil && !errors.Is(err, errContinue) {
			if errors.Is(err, errBreak) {
				return nil
			}
			return err
		}
	}
	return nil
}

func (in *interp) print(s *stmt) error {
	values := make([]value, len(s.exprs))
	for i, e := range s.exprs {
		var err error
		if values[i], err = in.eval(e); err != nil {
			return err
		}
	}
	if s.kind == "printf" {
		if len(values) == 0 {
			return errors.New("printf: no format")
		}
		return in.write(sprintf(values[0].str(), values[1:]))
	}
	if len(values) == 0 {
		return in.write(in.text() + in.get("ORS").str())
	}
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = v.str()
		if v.isNum {
			parts[i] = number(v.n, safeLayout(in.get("OFMT").str()))
		}
	}
	return in.write(strings.Join(parts, in.get("OFS").str()) + in.get("ORS").str())
}

// safeLayout is OFMT if it is a float format.
func safeLayout(layout string) string {
	if ok, _ := regexp.MatchString(`^%[0-9.]{0,6}[efgEG]$`, layout); ok {
		return layout
	}
	return "%.6g"
}

func (in *interp) subscript(list []*expr) (string, error) {
	parts := make([]string, len(list))
	for i, e := range list {
		v, err := in.eval(e)
		if err != nil {
			return "", err
		}
		parts[i] = v.str()
	}
	return strings.Join(parts, in.get("SUBSEP").str()), nil
}

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

// call runs a user's function or one of awk's own.
func (in *interp) call(e *expr) (value, error) {
	if f := in.prog.funcs[e.text]; f != nil {
		return in.callUser(e, f)
	}
	switch e.text {
	case "split":
		return in.callSplit(e)
	case "sub", "gsub":
		return in.substitute(e)
	case "length":
		if len(e.args) == 1 && e.args[0].op == "var" {
			if c := in.cell(e.args[0].text); c.array != nil {
				return num(float64(len(c.array))), nil
			}
		}
	}
	args := make([]value, len(e.args))
	for i, a := range e.args {
		if e.text == "match" && i == 1 {
			pattern, err := in.pattern(a)
			if err != nil {
				return value{}, err
			}
			args[i] = str(pattern)
			continue
		}
		var err error
		if args[i], err = in.eval(a); err != nil {
			return value{}, err
		}
	}
	return in.builtin(e.text, args)
}

func (in *interp) callUser(e *expr, f *function) (value, error) {
	if len(in.locals) > maxDepth {
		return value{}, errors.New("function call nesting too deep")
	}
	if len(e.args) > len(f.params) {
		return value{}, fmt.Errorf("function %s called with too many arguments", e.text)
	}
	scope := make(map[string]*cell, len(f.params))
	for i, name := range f.params {
		c := &cell{}
		if i < len(e.args) {
			if a := e.args[i]; a.op == "var" && (in.cell(a.text).array != nil || !in.cell(a.text).v.defined) {
				c = in.cell(a.text) // arrays go by reference
			} else {
				v, err := in.eval(e.args[i])
				if err != nil {
					return value{}, err
				}
				c.v = v
			}
		}
		scope[name] = c
	}
	in.locals = append(in.locals, scope)
	err := in.block(f.body)
	in.locals = in.locals[:len(in.locals)-1]
	if errors.Is(err, errReturn) {
		return in.returned, nil
	}
	return value{}, err
}

func (in *interp) callSplit(e *expr) (value, error) {
	if len(e.args) < 2 || e.args[1].op != "var" {
		return value{}, errors.New("split: bad arguments")
	}
	text, err := in.eval(e.args[0])
	if err != nil {
		return value{}, err
	}
	fs := in.get("FS").str()
	if len(e.args) > 2 {
		if fs, err = in.pattern(e.args[2]); err != nil {
			return value{}, err
		}
	}
	parts, err := in.splitText(text.str(), fs)
	if err != nil {
		return value{}, err
	}
	a := in.array(e.args[1].text)
	clear(a)
	for i, p := range parts {
		a[strconv.Itoa(i+1)] = numeric(p)
	}
	return num(float64(len(parts))), nil
}

func (in *interp) substitute(e *expr) (value, error) {
	if len(e.args) < 2 {
		return value{}, fmt.Errorf("%s: too few arguments", e.text)
	}
	pattern, err := in.pattern(e.args[0])
	if err != nil {
		return value{}, err
	}
	with, err := in.eval(e.args[1])
	if err != nil {
		return value{}, err
	}
	target := &expr{op: "field", args: []*expr{{op: "num"}}}
	if len(e.args) > 2 {
		target = e.args[2]
	}
	old, err := in.eval(target)
	if err != nil {
		return value{}, err
	}
	re, err := in.regexp(pattern)
	if err != nil {
		return value{}, err
	}
	limit := 1
	if e.text == "gsub" {
		limit = -1
	}
	text, replace := old.str(), with.str()
	var b strings.Builder
	at, n := 0, 0
	for _, m := range re.FindAllStringIndex(text, limit) {
		b.WriteString(text[at:m[0]])
		b.WriteString(replacement(replace, text[m[0]:m[1]]))
		at = m[1]
		n++
		if b.Len() > stringLimit {
			return value{}, errors.New("string too long")
		}
	}
	if n == 0 {
		return num(0), nil
	}
	b.WriteString(text[at:])
	return num(float64(n)), in.store(target, str(b.String()))
}

// replacement fills & in the text of sub.
func replacement(text, matched string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && (text[i+1] == '&' || text[i+1] == '\\'):
			i++
			b.WriteByte(text[i])
		case text[i] == '&':
			b.WriteString(matched)
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

func (in *interp) builtin(name string, args []value) (value, error) {
	arg := func(i int) value {
		if i < len(args) {
			return args[i]
		}
		return value{}
	}
	switch name {
	case "length":
		if len(args) == 0 {
			return num(float64(runes(in.text()))), nil
		}
		return num(float64(runes(arg(0).str()))), nil
	case "substr":
		return substr(arg(0).str(), args), nil
	case "index":
		s := arg(0).str()
		at := strings.Index(s, arg(1).str())
		if at < 0 {
			return num(0), nil
		}
		return num(float64(runes(s[:at]) + 1)), nil
	case "match":
		re, err := in.regexp(arg(1).str())
		if err != nil {
			return value{}, err
		}
		s := arg(0).str()
		start, length := 0, -1
		if m := re.FindStringIndex(s); m != nil {
			start, length = runes(s[:m[0]])+1, runes(s[m[0]:m[1]])
		}
		in.set("RSTART", num(float64(start)))
		in.set("RLENGTH", num(float64(length)))
		return num(float64(start)), nil
	case "sprintf":
		if len(args) == 0 {
			return value{}, errors.New("sprintf: no format")
		}
		return limited(sprintf(args[0].str(), args[1:]))
	case "tolower":
		return str(strings.ToLower(arg(0).str())), nil
	case "toupper":
		return str(strings.ToUpper(arg(0).str())), nil
	case "int":
		return num(math.Trunc(arg(0).num())), nil
	case "sqrt":
		return num(math.Sqrt(arg(0).num())), nil
	case "exp":
		return num(math.Exp(arg(0).num())), nil
	case "log":
		return num(math.Log(arg(0).num())), nil
	case "sin":
		return num(math.Sin(arg(0).num())), nil
	case "cos":
		return num(math.Cos(arg(0).num())), nil
	case "atan2":
		return num(math.Atan2(arg(0).num(), arg(1).num())), nil
	case "rand":
		return num(rand.Float64()), nil //nolint:gosec // awk's rand is no secret
	case "strtonum":
		n, err := strconv.ParseInt(arg(0).str(), 0, 64)
		if err != nil {
			return num(arg(0).num()), nil
		}
		return num(float64(n)), nil
	case "srand", "close":
		return num(0), nil
	case "fflush":
		return num(0), in.out.Flush()
	case "system":
		return value{}, errors.New("system is not simulated")
	}
	return value{}, fmt.Errorf("function %s never defined", name)
}

func substr(s string, args []value) value {
	r := []rune(s)
	start, end := 1.0, math.Inf(1)
	if len(args) > 1 {
		start = math.RoundToEven(args[1].num())
	}
	if len(args) > 2 {
		end = start + math.RoundToEven(args[2].num())
	}
	from := int(math.Max(1, math.Min(start, float64(len(r)+1))))
	to := int(math.Max(float64(from), math.Min(end, float64(len(r)+1))))
	return str(string(r[from-1 : to-1]))
}

// sprintf formats as C does.
func sprintf(layout string, args []value) string {
	var b strings.Builder
	next := func() value {
		if len(args) == 0 {
			return value{}
		}
		v := args[0]
		args = args[1:]
		return v
	}
	for i := 0; i < len(layout) && b.Len() <= stringLimit; i++ {
		if layout[i] != '%' || i+1 == len(layout) {
			b.WriteByte(layout[i])
			continue
		}
		if layout[i+1] == '%' {
			b.WriteByte('%')
			i++
			continue
		}
		spec := "%"
		for i++; i < len(layout) && strings.IndexByte("-+ #0123456789.*", layout[i]) >= 0; i++ {
			if layout[i] == '*' {
				spec += strconv.Itoa(int(math.Max(-9999, math.Min(9999, next().num()))))
			} else if len(spec) < 12 {
				spec += string(layout[i])
			}
		}
		if i == len(layout) {
			b.WriteString(spec)
			break
		}
		b.WriteString(directive(clampWidth(spec), layout[i], next))
	}
	return b.String()
}

// clampWidth keeps a width or precision below what would take memory.
func clampWidth(spec string) string {
	return regexp.MustCompile(`[0-9]{5,}`).ReplaceAllString(spec, "9999")
}

func directive(spec string, c byte, next func() value) string {
	switch c {
	case 'd', 'i':
		return fmt.Sprintf(spec+"d", int64(next().num()))
	case 'u':
		return fmt.Sprintf(spec+"d", uint64(int64(next().num())))
	case 'o', 'x', 'X':
		return fmt.Sprintf(spec+string(c), uint64(int64(next().num())))
	case 'c':
		v := next()
		if v.isNum {
			return fmt.Sprintf(spec+"s", string(rune(int(v.n))))
		}
		r := []rune(v.str())
		return fmt.Sprintf(spec+"s", string(r[:min(1, len(r))]))
	case 's':
		return fmt.Sprintf(spec+"s", next().str())
	case 'e', 'E', 'f', 'F', 'g', 'G':
		return fmt.Sprintf(spec+string(c), next().num())
	}
	return spec + string(c)
}
