package awk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
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
