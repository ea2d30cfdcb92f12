package lua

import (
	"fmt"
	"math"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// stringFormat is string.format. As in C Lua a width and a precision have two digits at most.
func (s *session) stringFormat(l *lua.LState) int {
	format := l.CheckString(1)
	out := builder{s: s, l: l}
	arg := 1
	for {
		i := strings.IndexByte(format, '%')
		if i < 0 {
			break
		}
		out.write(format[:i])
		format = format[i+1:]
		if strings.HasPrefix(format, "%") {
			out.write("%")
			format = format[1:]
			continue
		}
		flags := s.flags(l, format)
		if len(flags) == len(format) {
			l.RaiseError("string.format: the format ends within %%%s", flags)
		}
		verb := format[len(flags)]
		format = format[len(flags)+1:]
		arg++
		if arg > l.GetTop() {
			l.RaiseError("string.format: there is no value for %%%s%c", flags, verb)
		}
		out.write(s.formatted(l, flags, verb, arg))
	}
	out.write(format)
	s.newText(l, string(out.text))
	return 1
}

// flags reads flags, width and precision.
func (s *session) flags(l *lua.LState, format string) string {
	i := 0
	digits := func() {
		from := i
		for i < len(format) && '0' <= format[i] && format[i] <= '9' {
			i++
		}
		if i-from > 2 {
			l.RaiseError("string.format: a width or precision has more than two digits")
		}
	}
	for i < len(format) && strings.IndexByte("-+ #0", format[i]) >= 0 {
		if i++; i > 5 {
			l.RaiseError("string.format: too many flags")
		}
	}
	digits()
	if i < len(format) && format[i] == '.' {
		i++
		digits()
	}
	return format[:i]
}

func (s *session) formatted(l *lua.LState, flags string, verb byte, arg int) string {
	switch verb {
	case 'd', 'i', 'u':
		return fmt.Sprintf("%"+flags+"d", int64(s.integer(l, arg)))
	case 'o', 'x', 'X':
		n := s.integer(l, arg)
		if n < 0 {
			return fmt.Sprintf("%"+flags+string(verb), uint64(int64(n)))
		}
		return fmt.Sprintf("%"+flags+string(verb), int64(n))
	case 'c':
		return fmt.Sprintf("%"+flags+"s", string([]byte{byte(int64(s.integer(l, arg)))}))
	case 'e', 'E', 'f', 'g', 'G':
		n := float64(l.CheckNumber(arg))
		if math.IsInf(n, 0) || math.IsNaN(n) {
			return fmt.Sprintf("%"+strings.ReplaceAll(flags, "0", "")+"s", strings.ToLower(fmt.Sprint(n)))
		}
		return fmt.Sprintf("%"+flags+string(verb), n)
	case 's':
		if isSecret(l.Get(arg)) {
			l.RaiseError("string.format: a secret cannot be put into a text")
		}
		text := s.shown(l, l.CheckAny(arg))
		if flags == "" {
			return text
		}
		s.alloc(l, int64(len(text))+stringCost)
		return fmt.Sprintf("%"+flags+"s", text)
	case 'q':
		return s.quoted(l, l.CheckString(arg))
	}
	l.RaiseError("string.format: %%%c is not a format", verb)
	return ""
}

func (s *session) integer(l *lua.LState, arg int) lua.LNumber {
	n := l.CheckNumber(arg)
	if math.IsNaN(float64(n)) || math.Abs(float64(n)) >= 1<<63 {
		l.ArgError(arg, "the number has no integer representation")
	}
	return n
}

// quoted is a text as Lua reads it.
func (s *session) quoted(l *lua.LState, text string) string {
	s.alloc(l, 5*int64(len(text))+stringCost)
	s.work(l, len(text)/16)
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(text) {
		switch c := text[i]; c {
		case '"', '\\', '\n':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\r':
			b.WriteString(`\r`)
		case 0:
			b.WriteString(`\000`)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
