package lua_test

import (
	"errors"
	"testing"

	"github.com/pxrun/pxrun/lua"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// one is a list of one value, or of several.
func list(v ...lua.Value) []lua.Value { return v }

// What is rewritten before it is compiled must mean what it meant.
func TestRewrittenScriptsMeanTheSame(t *testing.T) {
	for src, want := range map[string][]lua.Value{
		`return 1 .. "a" .. 2 .. 0.5`:                                                                                            list("1a20.5"),
		`return ("a" .. "b") .. ("c" .. "d")`:                                                                                    list("abcd"),
		`local function f() return "x", "y" end return "a" .. f()`:                                                               list("ax"),
		`local function f() return "x", "y" end return f() .. f()`:                                                               list("xx"),
		`local t = {} t.a = 1 t["b"] = 2 t[1] = 3 return t.a, t.b, t[1], #t`:                                                     list(1.0, 2.0, 3.0, 1.0),
		`local t, u = {}, {} t.x, u.y, z = 1, 2, 3 return t.x, u.y, z`:                                                           list(1.0, 2.0, 3.0),
		`local function f() return 1, 2, 3 end local t = {} t.a, t.b = f() return t.a, t.b`:                                      list(1.0, 2.0),
		`local t = {1, 2} t[1], t[2] = t[2], t[1] return t[1], t[2]`:                                                             list(2.0, 1.0),
		`local i, t = 1, {} i, t[i] = 2, "x" return i, t[1], t[2]`:                                                               list(2.0, "x", nil),
		`local function f() return 1, 2 end local t = {} t.a = f() return t.a`:                                                   list(1.0),
		`local function f(...) local t = {...} return #t, select("#", ...) end return f(1, 2, 3)`:                                list(3.0, 3.0),
		`local function f() return 1, 2, 3 end return #{f()}, #{f(), f()}, #{(f())}`:                                             list(3.0, 4.0, 1.0),
		`local t = {[1] = "a", [2] = "b", ["c d"] = 3, e = 4} return #t, t[2], t["c d"], t.e`:                                    list(2.0, "b", 3.0, 4.0),
		`local k = "x" local t = {[k] = 1, [k .. k] = 2} return t.x, t.xx`:                                                       list(1.0, 2.0),
		`local function f() return 1, 2 end return {f(), [7] = 1}`:                                                               list(map[string]lua.Value{"1": 1.0, "7": 1.0}),
		`local function f(n) if n == 0 then return 1, 2 end return f(n - 1) end return f(50)`:                                    list(1.0, 2.0),
		`local function f(...) return select("#", ...) end return f(nil, nil)`:                                                   list(2.0),
		`local t = setmetatable({}, {__newindex = function(t, k, v) rawset(t, k, v * 2) end}) t.a = 2 return t.a`:                list(4.0),
		`local u = {} local t = setmetatable({}, {__newindex = u}) t.a = 2 return rawget(t, "a"), u.a`:                           list(nil, 2.0),
		`local t = setmetatable({}, {__concat = function(a, b) return "c" end}) return t .. "x", "x" .. t, "a" .. "b" .. t`:      list("c", "c", "ac"),
		`local t = {} function t.f() return 1 end function t:g() return self == t end return t.f(), t:g()`:                       list(1.0, true),
		`local t = {} function t.a() end t.b = {} function t.b.c() return 2 end return t.b.c()`:                                  list(2.0),
		`local n = 0 for i = 1, 3 do local f = function() n = n + i end f() end return n`:                                        list(6.0),
		`local n, t = 0, {} while #t < 3 do t[#t + 1] = {n} end return #t, t[3][1]`:                                              list(3.0, 0.0),
		`local n = 0 repeat local t = {n} n = n + 1 until t[1] == 2 return n`:                                                    list(3.0),
		`local n = 0 ::again:: local t = {} n = n + 1 if n < 3 then goto again end return n`:                                     list(3.0),
		`for i = 1, 3 do for j = 1, 3 do if j == 2 then goto continue end x = (x or "") .. i .. j ::continue:: end end return x`: list("111321233133"),
		`return pcall(error, "x", 0)`:                                                                                            list(false, "x"),
		`return pcall(error, {message = "m"})`:                                                                                   list(false, map[string]lua.Value{"message": "m"}),
		`return xpcall(function() return 1, 2 end, print)`:                                                                       list(true, 1.0, 2.0),
		`return xpcall(function() error("x", 0) end, function(m) return m .. "!" end)`:                                           list(false, "x!"),
		`return (xpcall(function() end, print))`:                                                                                 list(true),
		`return pcall(function(...) return ... end, 1, 2)`:                                                                       list(true, 1.0, 2.0),
		`local t = {3, 1, 2} table.sort(t, function(a, b) return a > b end) return t[1], t[3]`:                                   list(3.0, 1.0),
		`local t = {1, 2} table.insert(t, 3) table.insert(t, 1, 0) return table.concat(t, ","), table.remove(t), #t`:             list("0,1,2,3", 3.0, 3.0),
		`return table.concat({}), table.concat({1, "b"}, "-", 2, 2), table.concat({1}, "-", 3)`:                                  list("", "b", ""),
		`return unpack({1, 2, 3}, 2)`:                                                                                            list(2.0, 3.0),
		`local f = function() local t = {} t[1] = 1; (print or t)("x") return t[1] end return f()`:                               list(1.0),
		`return -2 ^ 2, not nil == true, 7 % 3, #"abc"`:                                                                          list(-4.0, true, 1.0, 3.0),
		``:                               nil,
		"#!/usr/bin/env pxrun\nreturn 1": list(1.0),
	} {
		require.Equal(t, want, values(t, src), src)
	}
}

func TestStrings(t *testing.T) {
	for src, want := range map[string][]lua.Value{
		`return ("hello"):sub(2, -2), ("x"):rep(3), ("abc"):reverse(), ("aB1"):upper(), ("AB1"):lower(), ("abc"):len()`: list("ell", "xxx", "cba", "AB1", "ab1", 3.0),
		`return ("abc"):sub(0), ("abc"):sub(-2), ("abc"):sub(4), ("abc"):sub(2, 1), ("abc"):sub(-10, 1)`:                list("abc", "bc", "", "", "a"),
		`return ("abc"):byte(), ("abc"):byte(-1), ("abc"):byte(1, -1)`:                                                  list(97.0, 99.0, 97.0, 98.0, 99.0),
		`return string.char(72, 105), ("abc"):byte(10)`:                                                                 list("Hi"),
		`return ("hello"):find("l"), ("hello"):find("l", 1, true)`:                                                      list(3.0, 3.0, 3.0),
		`return ("a.b"):find(".", 1, true), ("a.b"):find("%.")`:                                                         list(2.0, 2.0, 2.0),
		`return ("k = v"):find("(%w+) = (%w+)")`:                                                                        list(1.0, 5.0, "k", "v"),
		`return ("abc"):find("", 10), ("abc"):find("b", -1)`:                                                            list(4.0, nil),
		`return ("v8.4.1"):match("(%d+)%.(%d+)"), ("x"):match("y")`:                                                     list("8", nil),
		`return ("2024-05-06"):match("(%d+)-(%d+)-(%d+)")`:                                                              list("2024", "05", "06"),
		`return ("  trim "):match("^%s*(.-)%s*$")`:                                                                      list("trim"),
		`local t = {} for k, v in ("a=1, b=2"):gmatch("(%w+)=(%w+)") do t[k] = v end return t.a, t.b`:                   list("1", "2"),
		`local n = 0 for _ in ("abc"):gmatch("") do n = n + 1 end return n`:                                             list(4.0),
		`return ("hello world"):gsub("o", "0")`:                                                                         list("hell0 w0rld", 2.0),
		`return ("hello"):gsub("(l)(l)", "%2%1%0%%")`:                                                                   list("hellll%o", 1.0),
		`return ("abc"):gsub("%w", "%0%0", 2)`:                                                                          list("aabbc", 2.0),
		`return ("abc"):gsub("", "-")`:                                                                                  list("-a-b-c-", 4.0),
		`return ("$name is $age"):gsub("%$(%w+)", {name = "pve1"})`:                                                     list("pve1 is $age", 2.0),
		`return ("abc"):gsub("%w", function(c) if c == "b" then return "[" .. c .. "]" end end)`:                        list("a[b]c", 3.0),
		`return ("abc abc"):gsub("^abc", "x")`:                                                                          list("x abc", 1.0),
		`return ("abc"):gsub("x", "y")`:                                                                                 list("abc", 0.0),
		`return ("%d items, %5.1f%%, %s and %-4s|"):format(3, 2.25, true, "x")`:                                         list("3 items,   2.2%, true and x   |"),
		`return ("%x %X %o %c %q %i"):format(255, 255, 8, 65, 'a"\n', -3)`:                                              list("ff FF 10 A \"a\\\"\\\n\" -3"),
		`return ("%05d|%+d|%.3s|%g|%e"):format(42, 7, "abcdef", 0.1, 12345)`:                                            list("00042|+7|abc|0.1|1.234500e+04"),
		`return tostring(nil), tostring(1), tostring(1.5), tostring("x"), tostring(true)`:                               list("nil", "1", "1.5", "x", "true"),
		`return tonumber("0x10"), tonumber("10", 2), tonumber(" 5 "), tonumber("x"), tonumber("1e3") or "none"`:         list(16.0, 2.0, 5.0, nil, "none"),
		`return #("x"):rep(0), ("x"):rep(-1)`:                                                                           list(0.0, ""),
	} {
		got := values(t, src)
		require.Equal(t, want, got, src)
	}
}

func TestErrorsTellFileAndLine(t *testing.T) {
	for src, want := range map[string]string{
		"\n\nerror('no')":                               "x.lua:3: no",
		"local x\nreturn x.y":                           "x.lua:2: attempt to index a non-table object(nil) with key 'y'",
		"local x\nx.y = 1":                              "x.lua:2: attempt to set the field 'y' of a nil value",
		"local t = {}\nreturn 'a' .. t":                 "x.lua:2: attempt to concatenate a table value",
		"local t = {}\n\nt[nil] = 1":                    "x.lua:3: table index is nil",
		"\nreturn ('x'):rep({})":                        "x.lua:2: bad argument #2 to rep (number expected, got table)",
		"local function f()\n  error('deep')\nend\nf()": "x.lua:2: deep",
		"error({message = 'structured'})":               "x.lua: structured",
		"error(nil)":                                    "x.lua: a nil was raised as an error",
		"return ('x'):find('[')":                        "x.lua:1: malformed pattern (missing ']')",
		"return ('%y'):format(1)":                       "x.lua:1: string.format: %y is not a format",
		"return ('%d'):format()":                        "x.lua:1: string.format: there is no value for %d",
		"return ('%999d'):format(1)":                    "x.lua:1: string.format: a width or precision has more than two digits",
		"local t = {} t.t = t return t":                 "x.lua: 't': 't': 't'",
		"return require('x')":                           "x.lua:1: require: there is no folder of modules",
	} {
		_, _, err := run(t, src)
		require.ErrorContains(t, err, want, src)
	}
	_, _, err := run(t, "local function f()\n  error('deep')\nend\nf()")
	failed, ok := errors.AsType[*lua.Error](err)
	require.True(t, ok)
	require.Equal(t, "x.lua", failed.File)
	require.Equal(t, 2, failed.Line)
	require.Equal(t, []string{"x.lua:2 in function 'f'", "x.lua:4"}, failed.Trace[:2])
}

func TestSyntaxErrorsPointAtTheirPlace(t *testing.T) {
	for src, want := range map[string]string{
		"x = = 1":      `x.lua:1,5-6: Lua syntax error; syntax error near "="`,
		"\nif x then":  "x.lua:2,1-2: Lua syntax error; the script ends in the middle of something: syntax error",
		"x = 'open":    "x.lua:1",
		"goto nowhere": "x.lua:1",
		"break":        "x.lua:1",
	} {
		_, problems := lua.New(nil).Compile("x.lua", []byte(src))
		require.True(t, problems.HasErrors(), src)
		require.ErrorContains(t, problems, want, src)
	}
}

func TestRandomNumbersFollowTheSeed(t *testing.T) {
	draw := func(seed uint64) []lua.Value {
		result, err := compile(t, lua.New(nil), "x.lua", `return math.random(1, 1000000), math.random(), math.random(6)`).Run(t.Context(), lua.Call{Seed: seed})
		require.NoError(t, err)
		return result.Values
	}
	require.Equal(t, draw(7), draw(7))
	require.NotEqual(t, draw(7), draw(8))
	for _, v := range values(t, `local t = {} for i = 1, 200 do t[i] = math.random(3) end return unpack(t)`) {
		require.Contains(t, list(1.0, 2.0, 3.0), v)
	}
}

func TestPrintBecomesLines(t *testing.T) {
	_, printed, err := run(t, `print("a", 1, nil, true) print("two\nlines") print()`)
	require.NoError(t, err)
	require.Equal(t, "a\t1\tnil\ttrue\ntwo\nlines\n", printed)
}

func TestSubAgreesWithSlices(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		from, to := rapid.IntRange(-7, 7).Draw(rt, "from"), rapid.IntRange(-7, 7).Draw(rt, "to")
		want := ""
		for i := 1; i <= 5; i++ {
			after := func(p int) int {
				if p < 0 {
					return 6 + p
				}
				return p
			}
			if i >= after(from) && i <= after(to) {
				want += string("abcde"[i-1])
			}
		}
		result, err := compile(t, lua.New(nil), "x.lua", `return ("abcde"):sub(a, b)`).Run(t.Context(), lua.Call{Globals: map[string]lua.Value{"a": from, "b": to}})
		if err != nil || result.Values[0] != want {
			rt.Fatalf("%d, %d: %v %v, want %q", from, to, result.Values, err, want)
		}
	})
}
