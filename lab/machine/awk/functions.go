package awk

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
)

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
