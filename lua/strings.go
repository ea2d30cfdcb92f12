package lua

import (
	"math"
	"strings"

	"github.com/pxrun/pxrun/lua/pattern"
	lua "github.com/yuin/gopher-lua"
)

// openString makes the string library and the methods of strings.
func (s *session) openString(globals *lua.LTable) {
	l := s.state
	library := s.functions(nil, map[string]lua.LGFunction{
		"byte": s.stringByte, "char": s.stringChar, "find": s.stringFind, "format": s.stringFormat, "gmatch": s.stringGmatch,
		"gsub": s.stringGsub, "len": s.stringLen, "lower": s.stringCase('A', 'Z', 'a'-'A'), "match": s.stringMatch, "rep": s.stringRep,
		"reverse": s.stringReverse, "sub": s.stringSub, "upper": s.stringCase('a', 'z', 'A'-'a'),
	})
	globals.RawSetString("string", library)
	methods := l.CreateTable(0, 2)
	methods.RawSetString("__index", library)
	methods.RawSetString("__metatable", lua.LFalse)
	l.SetMetatable(lua.LString(""), methods)
}

// span turns the positions of Lua, from 1 and from the end if negative, into a slice's bounds.
func span(length, from, to int) (int, int) {
	if from < 0 {
		from = max(length+from+1, 1)
	}
	if to < 0 {
		to = length + to + 1
	}
	from, to = max(from, 1), min(to, length)
	if from > to {
		return 0, 0
	}
	return from - 1, to
}

func (s *session) stringByte(l *lua.LState) int {
	text, from := l.CheckString(1), l.OptInt(2, 1)
	from, to := span(len(text), from, l.OptInt(3, from))
	if to-from > maxResults {
		l.RaiseError("string.byte: more than %d values", maxResults)
	}
	for i := from; i < to; i++ {
		l.Push(lua.LNumber(text[i]))
	}
	return to - from
}

func (s *session) stringChar(l *lua.LState) int {
	bytes := make([]byte, l.GetTop())
	for i := range bytes {
		n := l.CheckInt(i + 1)
		if n < 0 || n > 255 {
			l.ArgError(i+1, "invalid value")
		}
		bytes[i] = byte(n)
	}
	s.newText(l, string(bytes))
	return 1
}

func (s *session) stringLen(l *lua.LState) int {
	l.Push(lua.LNumber(len(l.CheckString(1))))
	return 1
}

// stringCase moves the letters from low to high by a distance. Other letters than ASCII's stay, as in the C locale.
func (s *session) stringCase(low, high byte, by int) lua.LGFunction {
	return func(l *lua.LState) int {
		text := l.CheckString(1)
		s.alloc(l, int64(2*len(text))+stringCost)
		s.work(l, len(text)/64)
		bytes := []byte(text)
		for i, b := range bytes {
			if low <= b && b <= high {
				bytes[i] = byte(int(b) + by)
			}
		}
		s.text(l, string(bytes))
		return 1
	}
}

func (s *session) stringRep(l *lua.LState) int {
	text, n := l.CheckString(1), l.CheckInt(2)
	if n <= 0 || text == "" {
		s.text(l, "")
		return 1
	}
	if int64(n) > s.meter.limits.Memory/int64(len(text)) {
		s.must(l, s.meter.end(s.meter.limits.memoryError()))
	}
	s.alloc(l, int64(len(text))*int64(n)+stringCost)
	s.work(l, len(text)*n/64)
	s.text(l, strings.Repeat(text, n))
	return 1
}

func (s *session) stringReverse(l *lua.LState) int {
	text := l.CheckString(1)
	s.alloc(l, int64(2*len(text))+stringCost)
	s.work(l, len(text)/64)
	bytes := []byte(text)
	for i, j := 0, len(bytes)-1; i < j; i, j = i+1, j-1 {
		bytes[i], bytes[j] = bytes[j], bytes[i]
	}
	s.text(l, string(bytes))
	return 1
}

func (s *session) stringSub(l *lua.LState) int {
	text := l.CheckString(1)
	from, to := span(len(text), l.CheckInt(2), l.OptInt(3, -1))
	s.part(l, text, from, to)
	return 1
}

// part hands over a copy of a part of a text, so that it does not hold the whole text in memory.
func (s *session) part(l *lua.LState, text string, from, to int) {
	if to-from < len(text) {
		s.alloc(l, int64(to-from)+stringCost)
		text = strings.Clone(text[from:to])
	}
	s.text(l, text)
}

// pattern compiles a pattern, once per call.
func (s *session) pattern(l *lua.LState, text string, anchor bool) *pattern.Pattern {
	key := text
	if !anchor {
		key = "\x00" + text
	}
	if p := s.patterns[key]; p != nil {
		return p
	}
	s.alloc(l, int64(len(text))*64+512)
	s.work(l, len(text))
	p, err := pattern.Compile(text, anchor)
	if err != nil {
		l.RaiseError("%s", err.Error())
	}
	if len(s.patterns) >= 64 {
		clear(s.patterns)
	}
	if s.patterns == nil {
		s.patterns = map[string]*pattern.Pattern{}
	}
	s.patterns[strings.Clone(key)] = p
	return p
}

// start is where a search begins.
func start(l *lua.LState, arg, length int) int {
	at := l.OptInt(arg, 1)
	if at < 0 {
		at = length + at + 1
	}
	return min(max(at-1, 0), length)
}

func (s *session) stringFind(l *lua.LState) int {
	text, wanted := l.CheckString(1), l.CheckString(2)
	from := start(l, 3, len(text))
	if l.ToBool(4) || !strings.ContainsAny(wanted, "^$*+?.([%-") {
		s.work(l, (len(text)-from+len(wanted))/16)
		i := strings.Index(text[from:], wanted)
		if i < 0 {
			l.Push(lua.LNil)
			return 1
		}
		l.Push(lua.LNumber(from + i + 1))
		l.Push(lua.LNumber(from + i + len(wanted)))
		return 2
	}
	m, ok := s.match(l, text, wanted, from)
	if !ok {
		l.Push(lua.LNil)
		return 1
	}
	l.Push(lua.LNumber(m.Start + 1))
	l.Push(lua.LNumber(m.End))
	for _, c := range m.Captures {
		s.capture(l, text, c)
	}
	return 2 + len(m.Captures)
}

func (s *session) stringMatch(l *lua.LState) int {
	text, wanted := l.CheckString(1), l.CheckString(2)
	m, ok := s.match(l, text, wanted, start(l, 3, len(text)))
	if !ok {
		l.Push(lua.LNil)
		return 1
	}
	return s.captures(l, text, m)
}

func (s *session) match(l *lua.LState, text, wanted string, from int) (pattern.Match, bool) {
	m, ok, err := s.pattern(l, wanted, true).Find(text, from, s.meter.work)
	s.must(l, err)
	return m, ok
}

func (s *session) capture(l *lua.LState, text string, c pattern.Capture) {
	if c.Position {
		l.Push(lua.LNumber(c.Start + 1))
		return
	}
	s.part(l, text, c.Start, c.End)
}

// captures hands over the captures of a match, or the whole of it if there are none.
func (s *session) captures(l *lua.LState, text string, m pattern.Match) int {
	if len(m.Captures) == 0 {
		s.part(l, text, m.Start, m.End)
		return 1
	}
	for _, c := range m.Captures {
		s.capture(l, text, c)
	}
	return len(m.Captures)
}

func (s *session) stringGmatch(l *lua.LState) int {
	text := l.CheckString(1)
	p := s.pattern(l, l.CheckString(2), false)
	s.alloc(l, 300)
	at := 0
	l.Push(l.NewFunction(func(l *lua.LState) int {
		if at > len(text) {
			l.Push(lua.LNil)
			return 1
		}
		m, ok, err := p.Find(text, at, s.meter.work)
		s.must(l, err)
		if !ok {
			at = math.MaxInt
			l.Push(lua.LNil)
			return 1
		}
		if at = m.End; m.End == m.Start {
			at++
		}
		return s.captures(l, text, m)
	}))
	return 1
}
