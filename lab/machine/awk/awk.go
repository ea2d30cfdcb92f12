// Package awk is a small awk for the programs of a simulated machine: patterns and actions, fields, associative arrays,
// the usual functions, printf, getline from the main input, user functions. It knows no files, commands or redirections:
// its input is one stream, its output another.
package awk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Run executes a program over an input and returns the exit status.
func Run(o Options) (int, error) {
	p, err := parse(o.Program)
	if err != nil {
		return 2, err
	}
	in := &interp{
		prog: p, opt: o, globals: map[string]*cell{}, in: bufio.NewReader(o.Input), out: bufio.NewWriter(o.Output), regexps: map[string]*regexp.Regexp{},
	}
	in.set("FS", str(" "))
	in.set("OFS", str(" "))
	in.set("ORS", str("\n"))
	in.set("RS", str("\n"))
	in.set("SUBSEP", str("\x1c"))
	in.set("NR", num(0))
	in.set("FNR", num(0))
	in.set("CONVFMT", str("%.6g"))
	in.set("OFMT", str("%.6g"))
	in.set("FILENAME", str(o.Filename))
	environ := &cell{array: map[string]value{}}
	for k, v := range o.Env {
		environ.array[k] = numeric(v)
	}
	in.globals["ENVIRON"] = environ
	for _, assign := range o.Assign {
		name, text, ok := strings.Cut(assign, "=")
		if !ok {
			return 2, fmt.Errorf("%s: not an assignment", assign)
		}
		in.set(name, numeric(unescape(text)))
	}
	if o.FieldSeparator != "" {
		in.set("FS", str(unescape(o.FieldSeparator)))
	}
	status, err := in.run()
	return status, errors.Join(err, in.out.Flush())
}

// Options are a run of awk.
type Options struct {
	Program        string
	Input          io.Reader
	Output         io.Writer
	Assign         []string // -v
	FieldSeparator string   // -F
	Filename       string
	Env            map[string]string
	// Canceled is asked now and then; true ends the run.
	Canceled func() bool
	// Regexp compiles an extended regular expression.
	Regexp func(string) (*regexp.Regexp, error)
}

// value is a string, a number, or what looks like a number and compares as one.
type value struct {
	s       string
	n       float64
	isNum   bool
	looks   bool // a string from the input that looks like a number
	defined bool
}

func str(s string) value  { return value{s: s, defined: true} }
func num(n float64) value { return value{n: n, isNum: true, defined: true} }

func boolean(b bool) value {
	if b {
		return num(1)
	}
	return num(0)
}

// numeric is a string from outside.
func numeric(s string) value {
	v := str(s)
	t := strings.TrimSpace(s)
	if t == "" {
		return v
	}
	if n, err := strconv.ParseFloat(t, 64); err == nil && !strings.ContainsAny(t, "xXpP_nNiI") {
		v.n, v.looks = n, true
	}
	return v
}

func (v value) num() float64 {
	if v.isNum || v.looks {
		return v.n
	}
	return leading(v.s)
}

// leading is the number at a string's beginning.
func leading(s string) float64 {
	s = strings.TrimLeft(s, " \t\n")
	end, digits := 0, false
	for end < len(s) {
		c := s[end]
		switch {
		case c >= '0' && c <= '9':
			digits = true
		case c == '.' && !strings.Contains(s[:end], "."):
		case (c == '+' || c == '-') && (end == 0 || s[end-1] == 'e' || s[end-1] == 'E'):
		case (c == 'e' || c == 'E') && digits && !strings.ContainsAny(s[:end], "eE"):
		default:
			goto out
		}
		end++
	}
out:
	for end > 0 {
		if n, err := strconv.ParseFloat(s[:end], 64); err == nil {
			return n
		}
		end--
	}
	return 0
}

func (v value) str() string {
	if !v.isNum {
		return v.s
	}
	return number(v.n, "%.6g")
}

func number(n float64, layout string) string {
	if n == math.Trunc(n) && math.Abs(n) < 1e16 {
		return strconv.FormatInt(int64(n), 10)
	}
	return formatFloat(layout, n)
}

func formatFloat(layout string, n float64) string {
	switch {
	case math.IsNaN(n):
		return "nan"
	case math.IsInf(n, 1):
		return "inf"
	case math.IsInf(n, -1):
		return "-inf"
	}
	return fmt.Sprintf(layout, n)
}

func (v value) truth() bool {
	switch {
	case v.isNum || v.looks:
		return v.n != 0
	default:
		return v.s != ""
	}
}

func compare(a, b value) int {
	if (a.isNum || a.looks || !a.defined) && (b.isNum || b.looks || !b.defined) {
		x, y := a.num(), b.num()
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
	return strings.Compare(a.str(), b.str())
}

// unescape interprets the escapes of a string constant.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		const from, to = `abfnrtv\"/`, "\a\b\f\n\r\t\v\\\"/"
		if at := strings.IndexByte(from, s[i]); at >= 0 {
			b.WriteByte(to[at])
			continue
		}
		if s[i] >= '0' && s[i] <= '7' {
			n, used := 0, 0
			for used < 3 && i+used < len(s) && s[i+used] >= '0' && s[i+used] <= '7' {
				n = n*8 + int(s[i+used]-'0')
				used++
			}
			b.WriteByte(byte(n))
			i += used - 1
			continue
		}
		b.WriteByte('\\')
		b.WriteByte(s[i])
	}
	return b.String()
}

func runes(s string) int { return utf8.RuneCountInString(s) }
