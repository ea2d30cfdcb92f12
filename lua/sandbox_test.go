package lua_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pxrun/pxrun/lua"
	"github.com/stretchr/testify/require"
)

func TestWhatScriptsMustNotHaveIsNotThere(t *testing.T) {
	for _, name := range []string{
		"os", "io", "debug", "package", "coroutine", "channel", "load", "loadstring", "loadfile", "dofile", "collectgarbage", "newproxy",
		"setfenv", "getfenv", "_printregs", "module", "_GOPHER_LUA_VERSION", "string.dump", "string.gfind", "arg", "_LOADED", "_M",
	} {
		for _, road := range []string{
			"return " + name,
			"return _G." + name,
			"return _G._G." + name,
			"return rawget(_G, '" + name + "')",
			"for k in pairs(_G) do if k == '" + name + "' then return 'found' end end",
			"local f = function(...) return " + name + " end return f()",
		} {
			for _, v := range values(t, road) {
				require.Nil(t, v, road)
			}
		}
	}
	// The whole of what is there.
	names := values(t, `
		local all = {}
		for k, v in pairs(_G) do
			all[#all + 1] = k
			if type(v) == "table" and k ~= "_G" then for n in pairs(v) do all[#all + 1] = k .. "." .. n end end
		end
		table.sort(all)
		return table.concat(all, " ")`)
	require.Equal(t, "_G _VERSION assert error getmetatable ipairs math math.abs math.acos math.asin math.atan math.atan2 math.ceil math.cos math.cosh "+
		"math.deg math.exp math.floor math.fmod math.frexp math.huge math.ldexp math.log math.log10 math.max math.min math.mod math.modf math.pi math.pow "+
		"math.rad math.random math.randomseed math.sin math.sinh math.sqrt math.tan math.tanh next pairs pcall print rawequal rawget rawset require select "+
		"setmetatable string string.byte string.char string.find string.format string.gmatch string.gsub string.len string.lower string.match string.rep "+
		"string.reverse string.sub string.upper table table.concat table.getn table.insert table.maxn table.remove table.sort table.unpack tonumber "+
		"tostring type unpack xpcall", names[0])
}

func TestMetatablesOfStringsAreClosed(t *testing.T) {
	require.Equal(t, list(false), values(t, `return getmetatable("")`))
	_, _, err := run(t, `setmetatable("", {__index = function() return 1 end})`)
	require.ErrorContains(t, err, "table expected")
	_, _, err = run(t, `getmetatable("").__index.rep = nil`)
	require.Error(t, err)
	// What a script does to its library ends with it.
	script := compile(t, lua.New(nil), "x.lua", `local before = string.rep string.rep = nil secret = 1 return before ~= nil`)
	for range 2 {
		result, err := script.Run(t.Context(), lua.Call{})
		require.NoError(t, err)
		require.Equal(t, list(true), result.Values)
	}
}

func TestTheChargingFunctionsCannotBeReached(t *testing.T) {
	for _, src := range []string{
		`return ...`, `return (...)`, `local f = ... return f`, `return _G["(charge)"], _G["(..)"], _G["([]=)"]`,
		`return select("#", ...) > 0 or nil`,
	} {
		for _, v := range values(t, src) {
			require.Nil(t, v, src)
		}
	}
}

// runaways are scripts that must end at a limit, and which.
var runaways = map[string]string{
	`while true do end`: "steps",
	`while true do pcall(function() while true do end end) end`:                                          "steps",
	`pcall(pcall, pcall, function() while true do end end) while true do end`:                            "steps",
	`xpcall(function() while true do end end, function() while true do end end)`:                         "steps",
	`local function f() pcall(f) f() end f()`:                                                            "steps",
	`repeat local x = 1 until false`:                                                                     "steps",
	`::a:: goto a`:                                                                                       "steps",
	`for i = 1, 1e18 do end`:                                                                             "steps",
	`setmetatable(_G, {__index = function() while true do end end}) return nothing`:                      "steps",
	`table.sort({1, 2, 3}, function() while true do end end)`:                                            "steps",
	`("x"):gsub("x", function() while true do end end)`:                                                  "steps",
	`return (("a"):rep(100000)):find(("a*"):rep(30) .. "b")`:                                             "steps",
	`return (("a"):rep(100000)):find((".-"):rep(20) .. "b")`:                                             "steps",
	`return (("a"):rep(100000)):gsub(("a?"):rep(50) .. ("a"):rep(50) .. "b", "")`:                        "steps",
	`for _ in (("("):rep(100000)):gmatch("%b()") do end`:                                                 "steps",
	`local s = "x" while true do s = s .. s end`:                                                         "memory",
	`local s = "x" while true do pcall(function() s = s .. s end) end`:                                   "memory",
	`local s = "" while true do s = s .. "more" end`:                                                     "memory",
	`return ("x"):rep(1e9)`:                                                                              "memory",
	`return ("x"):rep(1e18)`:                                                                             "memory",
	`local t = {} for i = 1, 1000 do t[i] = ("x"):rep(1e6) end`:                                          "memory",
	`local t = {} for i = 1, 1e9 do t[i] = i end`:                                                        "memory",
	`local t = {} for i = 1, 1e9 do t[#t + 1] = {} end`:                                                  "memory",
	`local t = {} for i = 1, 1e9 do t[{}] = true end`:                                                    "memory",
	`local t = {} for i = 1, 1e9 do t["k" .. i] = i end`:                                                 "memory",
	`local t = {} for i = 1, 1e9 do table.insert(t, i) end`:                                              "memory",
	`local t = {} for i = 1, 1e9 do rawset(t, i, i) end`:                                                 "memory",
	`local t = {} t[60000000] = 1`:                                                                       "memory",
	`local t = {[60000000] = 1}`:                                                                         "memory",
	`local t = {} rawset(t, 60000000, 1)`:                                                                "memory",
	`local t = {} local a a, t[60000000] = 1, 1`:                                                         "memory",
	`local t = setmetatable({}, {__newindex = {}}) t[60000000] = 1`:                                      "memory",
	`local f for i = 1, 1e9 do local g = f f = function() return g, i end end`:                           "memory",
	`::a:: local t = {x} x = t goto a`:                                                                   "memory",
	`while #{x} < 2 do x = {x} end`:                                                                      "memory",
	`repeat x = {x} until #{x} > 2`:                                                                      "memory",
	`local function f(...) local t = {...} return f(t, ...) end for i = 1, 1e9 do pcall(f) end`:          "memory",
	`local t = {} for i = 1, 8000 do t[i] = i end local u = {} for i = 1, 1e9 do u[i] = {unpack(t)} end`: "memory",
	`local t = {} for i = 1, 1000 do t[i] = ("x"):rep(1000) end local u = {} for i = 1, 1e9 do u[i] = table.concat(t) end`:  "memory",
	`local s = ("x"):rep(1e6) for i = 1, 1e9 do s = s:gsub("x", ("x"):rep(100)) end`:                                        "memory",
	`local s = ("x"):rep(1e6) local t = {} for i = 1, 1e9 do t[i] = s:upper() end`:                                          "memory",
	`local s = ("x"):rep(1e6) local t = {} for i = 1, 1e9 do t[i] = s:reverse() end`:                                        "memory",
	`local s = ("x"):rep(1e6) local t = {} for i = 1, 1e9 do t[i] = s:sub(2) end`:                                           "memory",
	`local s = ("x"):rep(1e6) local t = {} for i = 1, 1e9 do t[i] = s:match(".+x") end`:                                     "steps",
	`local s = ("x"):rep(1e6) local t = {} for i = 1, 1e9 do t[i] = ("%s%s"):format(s, s) end`:                              "memory",
	`local s = ("x"):rep(1e6) local t = {} for i = 1, 1e9 do t[i] = ("%q"):format(s) end`:                                   "memory",
	`local s = ("x"):rep(1e6) local t = {} for i = 1, 1e9 do t[i] = select(2, pcall(error, s)) end`:                         "memory",
	`local s = ("x"):rep(1e6) local t = {} for i = 1, 1e9 do t[i] = select(2, pcall(function() return nothing[s] end)) end`: "memory",
	`local s = ("x"):rep(1e6) local t = {} for i = 1, 1e9 do t[i] = ("x"):gsub("x", s) end`:                                 "memory",
	`while true do print("again") end`:        "output",
	`print(("x"):rep(100000))`:                "output",
	`while true do pcall(print, "again") end`: "output",
}

func TestRunawaysEndAtTheirLimit(t *testing.T) {
	for src, want := range runaways {
		t.Run(src, func(t *testing.T) {
			t.Parallel()
			_, _, err := run(t, src)
			reached, ok := errors.AsType[*lua.LimitError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, want, reached.Limit)
			failed, ok := errors.AsType[*lua.Error](err)
			require.True(t, ok)
			require.Equal(t, 1, failed.Line, "the place is told")
		})
	}
}

func TestNestedCallsEndAtTheDepth(t *testing.T) {
	for _, src := range []string{
		`local function f() return 1 + f() end f()`,
		`local function f() return f() end f()`,
		`local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k .. "x"] end return t.a`,
		`local t = setmetatable({}, {}) getmetatable(t).__newindex = function(t, k) t[k] = 1 end t.a = 1`,
		`local t = setmetatable({}, {}) getmetatable(t).__concat = function(a, b) return a .. b end return t .. "x"`,
		`local t = setmetatable({}, {}) getmetatable(t).__call = function(self) return self() end t()`,
		`local t = setmetatable({}, {}) getmetatable(t).__tostring = function(self) return tostring(self) end return tostring(t)`,
		`local function f() table.sort({1, 2}, f) end f()`,
		`local function f() ("x"):gsub("x", f) end f()`,
		`local function f() error(f()) end f()`,
	} {
		_, _, err := run(t, src)
		require.ErrorContains(t, err, "stack overflow", src)
	}
	got := values(t, `local function f() return 1 + f() end return (pcall(f))`)
	require.Equal(t, list(false), got, "a script may catch it, for the stack is free again")
}

func TestSyntaxThatNestsWithoutEndIsRefused(t *testing.T) {
	for _, src := range []string{
		"return " + strings.Repeat("(", 20_000) + "1" + strings.Repeat(")", 20_000),
		"return " + strings.Repeat("{", 20_000) + strings.Repeat("}", 20_000),
		"return " + strings.Repeat("not ", 20_000) + "x",
		"return " + strings.Repeat("- ", 20_000) + "x",
		"return x" + strings.Repeat(" + x", 20_000),
		"return x" + strings.Repeat("^x", 20_000),
		"return x" + strings.Repeat(".x", 20_000),
		"return x" + strings.Repeat("()", 20_000),
		strings.Repeat("do ", 10_000) + strings.Repeat("end ", 10_000),
		strings.Repeat("if x then ", 10_000) + strings.Repeat("end ", 10_000),
		strings.Repeat("local x = function() ", 20_000) + strings.Repeat("end ", 20_000),
		"return " + strings.Repeat("x", lua.MaxSource) + "xxxxxx",
		"local " + strings.Repeat("x, ", 300) + "x",
	} {
		_, problems := lua.New(nil).Compile("x.lua", []byte(src))
		if problems.HasErrors() {
			continue
		}
		_, _, err := run(t, src) // parentheses are no nesting once they are read
		require.NoError(t, err)
	}
	require.Equal(t, list(strings.Repeat("x", 20_001)), values(t, "local x = 'x' return x"+strings.Repeat(" .. x", 20_000)))
}

func TestACallEndsWithItsTimeAndWithItsCaller(t *testing.T) {
	script := compile(t, lua.New(nil), "x.lua", `while true do pcall(string.rep, "x", 10) end`)
	unbounded := lua.Limits{Steps: 1 << 60, Memory: 1 << 60}
	unbounded.Time = time.Millisecond
	_, err := script.Run(t.Context(), lua.Call{Limits: unbounded})
	reached, ok := errors.AsType[*lua.LimitError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "time", reached.Limit)
	require.ErrorContains(t, err, "x.lua:1: the script took longer than the 1ms that it may")

	unbounded.Time = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	script = compile(t, lua.New(nil), "x.lua", `print("started") while true do pcall(string.rep, "x", 10) end`)
	done := make(chan error)
	go func() {
		_, err := script.Run(ctx, lua.Call{Limits: unbounded, Print: func(string) { close(started) }})
		done <- err
	}()
	<-started
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestLongLibraryCallsEndInTime(t *testing.T) {
	for _, src := range []string{
		`return (("a"):rep(1000000)):find((".-"):rep(20) .. "b")`,
		`local t = {} for i = 1, 100000 do t[i] = i % 1000 end while true do table.sort(t) end`,
		`local s = ("x"):rep(4000000) while true do s:find("y", 1, true) end`,
		`local s = ("x"):rep(1000000) while true do s:gsub("x", "y") end`,
	} {
		limits := lua.Limits{Time: 10 * time.Minute, Steps: 2_000_000, Memory: 256 << 20}
		_, err := compile(t, lua.New(nil), "x.lua", src).Run(t.Context(), lua.Call{Limits: limits})
		_, ok := errors.AsType[*lua.LimitError](err)
		require.True(t, ok, "%s: %v", src, err)
	}
}

// site makes a folder lua/ with modules, beside a file that scripts must not read.
func site(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "lua"), 0o700))
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return filepath.Join(dir, "lua")
}

func TestRequireFindsModulesOfTheSite(t *testing.T) {
	dir := site(t, map[string]string{
		"lua/disks.lua":       `local m = {} function m.free() return 3 end return m`,
		"lua/checks/ceph.lua": `loads = (loads or 0) + 1 local disks = require("disks") return {name = ..., free = disks.free()}`,
		"lua/plain.lua":       `value = 5`,
		"lua/bad.lua":         "x = 1\ny = = 2",
		"lua/fails.lua":       "\nerror('at load')",
		"lua/a.lua":           `return require("b")`,
		"lua/b.lua":           `return require("a")`,
		"lua/self.lua":        `return require("self")`,
	})
	require.NoError(t, os.Symlink("disks.lua", filepath.Join(dir, "alias.lua")))
	runtime := lua.New(lua.Folder(dir))
	run := func(src string) ([]lua.Value, error) {
		result, err := compile(t, runtime, "x.lua", src).Run(t.Context(), lua.Call{})
		return result.Values, err
	}
	got, err := run(`local c = require("checks.ceph") return c.free, c.name, require("checks/ceph") == c, loads, require("plain"), value, require("alias").free()`)
	require.NoError(t, err)
	require.Equal(t, list(3.0, nil, true, 1.0, true, 5.0, 3.0), got)

	for src, want := range map[string]string{
		`require("bad")`:   filepath.Join(dir, "bad.lua") + `:2: syntax error near "="`,
		`require("fails")`: filepath.Join(dir, "fails.lua") + ":2: at load",
		`require("a")`:     "a loop: a needs b needs a",
		`require("self")`:  "a loop: self needs self",
		`require("none")`:  "there is no " + filepath.Join(dir, "none.lua"),
	} {
		_, err := run(src)
		require.ErrorContains(t, err, want, src)
	}
}

func TestRequireStaysInsideItsFolder(t *testing.T) {
	dir := site(t, map[string]string{"outside.lua": `return "outside"`, "lua/in.lua": `return 1`, "lua/dir.lua/x": ""})
	require.NoError(t, os.Symlink("../outside.lua", filepath.Join(dir, "link.lua")))
	require.NoError(t, os.Symlink(filepath.Join(filepath.Dir(dir), "outside.lua"), filepath.Join(dir, "absolute.lua")))
	require.NoError(t, os.Symlink("..", filepath.Join(dir, "up")))
	require.NoError(t, os.Symlink("loop.lua", filepath.Join(dir, "loop.lua")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe.lua"), 0o600))
	for _, name := range []string{
		"../outside", "..outside", "./../outside", "/etc/passwd", filepath.Join(filepath.Dir(dir), "outside"), "in/../../outside", "link", "absolute",
		"up.outside", "up/outside", "loop", "pipe", "dir", "", ".", "in.lua", "in\x00", "~/x", "C:x", `..\outside`, strings.Repeat("a/", 500) + "a",
	} {
		src := fmt.Sprintf("return pcall(require, %q)", name)
		result, err := compile(t, lua.New(lua.Folder(dir)), "x.lua", src).Run(t.Context(), lua.Call{})
		require.NoError(t, err)
		require.Equal(t, false, result.Values[0], "%s: %v", name, result.Values)
	}
	_, err := compile(t, lua.New(lua.Folder(dir+"/none")), "x.lua", `require("x")`).Run(t.Context(), lua.Call{})
	require.ErrorContains(t, err, "there is no folder")
}

func TestScriptsAreCompiledOnce(t *testing.T) {
	runtime := lua.New(nil)
	first := compile(t, runtime, "x.lua", "return 1")
	require.Same(t, first, compile(t, runtime, "x.lua", "return 1"))
	require.NotSame(t, first, compile(t, runtime, "x.lua", "return 2"))
	require.NotSame(t, first, compile(t, runtime, "y.lua", "return 1"), "errors name the file")
	for i := range 600 {
		compile(t, runtime, "x.lua", fmt.Sprint("return ", i))
	}
}
