package lua

import (
	"math/rand/v2"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// kept are the basic functions of Lua that scripts have. Everything else that the interpreter brings is taken out: what
// reads files, compiles text, or reaches into functions.
var kept = map[string]bool{
	"_VERSION": true, "assert": true, "error": true, "getmetatable": true, "ipairs": true, "next": true, "pairs": true,
	"rawequal": true, "rawget": true, "select": true, "tonumber": true, "type": true,
}

// library are the functions of the interpreter that scripts have as they are. They hold no state, so that all
// interpreters share them.
type library struct {
	base, math   []entry
	sort, remove lua.LGFunction
	table        []entry
}

type entry struct {
	name  string
	value lua.LValue
}

func newLibrary() library {
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer l.Close()
	for _, open := range []lua.LGFunction{lua.OpenBase, lua.OpenMath, lua.OpenTable} {
		open(l)
		l.SetTop(0)
	}
	entries := func(t *lua.LTable, wanted func(name string) bool) []entry {
		var all []entry
		t.ForEach(func(name, value lua.LValue) {
			if wanted(name.String()) {
				all = append(all, entry{name.String(), value})
			}
		})
		return all
	}
	globals := l.G.Global
	math, table := globals.RawGetString("math").(*lua.LTable), globals.RawGetString("table").(*lua.LTable)
	original := func(name string) lua.LGFunction { return table.RawGetString(name).(*lua.LFunction).GFunction }
	return library{
		base:   entries(globals, func(name string) bool { return kept[name] }),
		math:   entries(math, func(name string) bool { return name != "random" && name != "randomseed" }),
		table:  entries(table, func(name string) bool { return name == "maxn" || name == "getn" }),
		sort:   original("sort"),
		remove: original("remove"),
	}
}

// functions makes a table of shared functions and of the session's own.
func (s *session) functions(shared []entry, own map[string]lua.LGFunction) *lua.LTable {
	t := s.state.CreateTable(0, len(shared)+len(own))
	for _, e := range shared {
		t.RawSetString(e.name, e.value)
	}
	for name, f := range own {
		t.RawSetString(name, s.state.NewFunction(f))
	}
	return t
}

// open gives a new interpreter its library.
func (s *session) open() {
	l, shared := s.state, &s.script.runtime.library
	globals := l.G.Global
	globals.RawSetString("_G", globals)
	for _, e := range shared.base {
		globals.RawSetString(e.name, e.value)
	}
	for name, f := range map[string]lua.LGFunction{
		"pcall": s.pcall, "xpcall": s.xpcall, "print": s.print, "rawset": s.rawset, "require": s.require,
		"setmetatable": s.setmetatable, "tostring": s.tostring, "unpack": s.unpack,
	} {
		globals.RawSetString(name, l.NewFunction(f))
	}
	s.charges = []lua.LValue{l.NewFunction(s.concat), l.NewFunction(s.set), l.NewFunction(s.fill), l.NewFunction(s.charge)}
	globals.RawSetString("math", s.openMath(shared.math))
	globals.RawSetString("table", s.openTable(shared))
	s.openString(globals)
	if s.call.API != nil {
		s.bind(s.call.API)
	}
}

// openMath replaces the random functions, which use a source that is the whole program's.
func (s *session) openMath(shared []entry) *lua.LTable {
	s.random = rand.New(rand.NewPCG(s.call.Seed, 0))
	random := func(l *lua.LState) int {
		switch low, high := 1, 0; l.GetTop() {
		case 0:
			l.Push(lua.LNumber(s.random.Float64()))
		default:
			if high = l.CheckInt(1); l.GetTop() > 1 {
				low, high = high, l.CheckInt(2)
			}
			if high < low || high-low < 0 {
				l.RaiseError("math.random: the interval from %d to %d is empty", low, high)
			}
			l.Push(lua.LNumber(float64(low) + float64(s.random.Uint64N(uint64(high-low)+1))))
		}
		return 1
	}
	seed := func(l *lua.LState) int {
		s.random = rand.New(rand.NewPCG(s.call.Seed, uint64(l.CheckInt64(1))))
		return 0
	}
	return s.functions(shared, map[string]lua.LGFunction{"random": random, "randomseed": seed})
}

// pcall is Lua's, except that nothing catches the end of the call itself, and that the text of an error is charged.
func (s *session) pcall(l *lua.LState) int {
	l.CheckAny(1)
	if err := s.protected(l, l.GetTop()-1); err != nil {
		l.Push(lua.LFalse)
		l.Push(err)
		return 2
	}
	l.Insert(lua.LTrue, 1)
	return l.GetTop()
}

// xpcall calls its handler when the stack is unwound: there is no debug library that could look at it.
func (s *session) xpcall(l *lua.LState) int {
	f, handler := l.CheckAny(1), l.CheckFunction(2)
	l.SetTop(0)
	l.Push(f)
	err := s.protected(l, 0)
	if err == nil {
		l.Insert(lua.LTrue, 1)
		return l.GetTop()
	}
	l.SetTop(0)
	l.Push(lua.LFalse)
	l.Push(handler)
	l.Push(err)
	l.Call(1, lua.MultRet)
	return l.GetTop()
}

// caughtWork is what an error costs that is caught, in steps: the interpreter lists the calls that led to it.
const caughtWork = 5000

// protected calls what was pushed with n arguments and returns what it raised.
func (s *session) protected(l *lua.LState, n int) lua.LValue {
	err := l.PCall(n, lua.MultRet, nil)
	if err == nil {
		return nil
	}
	s.must(l, s.meter.over)
	s.work(l, caughtWork)
	raised, ok := err.(*lua.ApiError) //nolint:errorlint // PCall returns it as it is
	if !ok {
		return lua.LString(err.Error())
	}
	if verdictOf(raised.Object) != nil {
		l.Error(raised.Object, 0) // what the script decided is not caught
	}
	if text, ok := raised.Object.(lua.LString); ok {
		s.alloc(l, int64(len(text))+stringCost)
	}
	return raised.Object
}

func (s *session) print(l *lua.LState) int {
	parts := make([]string, 0, l.GetTop())
	total := 0
	for i := 1; i <= l.GetTop(); i++ {
		part := s.shown(l, l.Get(i))
		total += len(part) + 1
		s.must(l, s.meter.print(len(part)+1))
		parts = append(parts, part)
	}
	s.alloc(l, int64(total))
	s.tell(strings.Join(parts, "\t"))
	return 0
}

// tell hands lines to whoever listens.
func (s *session) tell(text string) {
	if s.call.Print == nil {
		return
	}
	for line := range strings.SplitSeq(text, "\n") {
		s.call.Print(line)
	}
}

// shown is what tostring gives.
func (s *session) shown(l *lua.LState, v lua.LValue) string {
	shown, ok := l.ToStringMeta(v).(lua.LString)
	if !ok {
		l.RaiseError("__tostring must return a string")
	}
	return string(shown)
}

func (s *session) tostring(l *lua.LState) int {
	if text, ok := l.CheckAny(1).(lua.LString); ok {
		l.Push(text)
		return 1
	}
	s.newText(l, s.shown(l, l.Get(1)))
	return 1
}

// setmetatable is for tables only: the metatables of strings and of pxrun's objects are not the script's.
func (s *session) setmetatable(l *lua.LState) int {
	t := l.CheckTable(1)
	l.CheckTypes(2, lua.LTNil, lua.LTTable)
	if m, ok := t.Metatable.(*lua.LTable); ok && m.RawGetString("__metatable") != lua.LNil {
		l.RaiseError("cannot change a protected metatable")
	}
	t.Metatable = l.Get(2)
	l.SetTop(1)
	return 1
}

func (s *session) unpack(l *lua.LState) int {
	t, from := l.CheckTable(1), l.OptInt(2, 1)
	to := l.OptInt(3, t.Len())
	if to < from {
		return 0
	}
	if n := to - from; n < 0 || n >= maxResults {
		l.RaiseError("unpack: more than %d values", maxResults)
	}
	s.work(l, to-from)
	for i := from; i <= to; i++ {
		l.Push(t.RawGetInt(i))
	}
	return to - from + 1
}
