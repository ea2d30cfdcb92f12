package lua

import (
	"math"
	"strconv"

	"github.com/pxrun/pxrun/lua/pattern"
	lua "github.com/yuin/gopher-lua"
)

// builder is a text that grows and whose bytes are charged as they come. What growing copies is charged too.
type builder struct {
	s    *session
	l    *lua.LState
	text []byte
}

func (b *builder) write(text string) {
	if len(b.text)+len(text) > cap(b.text) {
		room := max(2*cap(b.text), len(b.text)+len(text), 64)
		b.s.alloc(b.l, int64(room))
		b.text = append(make([]byte, 0, room), b.text...)
	}
	b.text = append(b.text, text...)
}

func (s *session) stringGsub(l *lua.LState) int {
	text := l.CheckString(1)
	p := s.pattern(l, l.CheckString(2), true)
	replace := s.replacement(l)
	limit := l.OptInt(4, math.MaxInt)
	out := builder{s: s, l: l}
	count, copied, at := 0, 0, 0
	for count < limit && at <= len(text) {
		m, ok, err := p.Find(text, at, s.meter.work)
		s.must(l, err)
		if !ok {
			break
		}
		count++
		out.write(text[copied:m.Start])
		replace(&out, text, m)
		copied = m.End
		if at = m.End; m.End == m.Start {
			at++
		}
		if p.Anchored() {
			break
		}
	}
	if count == 0 {
		s.text(l, text)
	} else {
		out.write(text[copied:])
		s.newText(l, string(out.text))
	}
	l.Push(lua.LNumber(count))
	return 2
}

// replacement gives the function that writes what stands for a match: from a text with %1, a table or a function.
func (s *session) replacement(l *lua.LState) func(out *builder, text string, m pattern.Match) {
	switch with := l.CheckAny(3).(type) {
	case lua.LString, lua.LNumber:
		template := with.String()
		return func(out *builder, text string, m pattern.Match) { s.expand(out, template, text, m) }
	case *lua.LTable:
		return func(out *builder, text string, m pattern.Match) {
			s.first(l, text, m)
			key := l.Get(-1)
			l.Pop(1)
			s.insert(out, text, m, l.GetTable(with, key))
		}
	case *lua.LFunction:
		return func(out *builder, text string, m pattern.Match) {
			l.Push(with)
			l.Call(s.captures(l, text, m), 1)
			value := l.Get(-1)
			l.Pop(1)
			s.insert(out, text, m, value)
		}
	}
	l.ArgError(3, "string, table or function expected, got "+l.Get(3).Type().String())
	return nil
}

// first pushes the first capture.
func (s *session) first(l *lua.LState, text string, m pattern.Match) {
	if len(m.Captures) > 0 {
		s.capture(l, text, m.Captures[0])
		return
	}
	s.part(l, text, m.Start, m.End)
}

// insert writes what a table or a function gave: nil and false leave the match.
func (s *session) insert(out *builder, text string, m pattern.Match, value lua.LValue) {
	switch {
	case lua.LVIsFalse(value):
		out.write(text[m.Start:m.End])
	case lua.LVCanConvToString(value):
		out.write(value.String())
	default:
		out.l.RaiseError("invalid replacement value (a %s)", value.Type())
	}
}

func (s *session) expand(out *builder, template, text string, m pattern.Match) {
	from := 0
	for i := 0; i < len(template); i++ {
		if template[i] != '%' || i+1 == len(template) {
			continue
		}
		out.write(template[from:i])
		i++
		from = i + 1
		switch d := template[i]; {
		case d == '0', d == '1' && len(m.Captures) == 0:
			out.write(text[m.Start:m.End])
		case '1' <= d && d <= '9':
			n := int(d - '1')
			if n >= len(m.Captures) {
				out.l.RaiseError("invalid capture index %%%c in the replacement", d)
			}
			if c := m.Captures[n]; c.Position {
				out.write(strconv.Itoa(c.Start + 1))
			} else {
				out.write(text[c.Start:c.End])
			}
		default:
			out.write(template[i : i+1])
		}
	}
	out.write(template[from:])
	s.work(out.l, len(template)/16)
}
