package lua_test

import (
	"runtime"
	"testing"

	"github.com/pxrun/pxrun/lua"
	"github.com/stretchr/testify/require"
)

// hoards are scripts that keep what they make, a few MB of it, and print when they have it.
var hoards = map[string]string{
	"numbers in a list":               `for i = 1, 50000 do t[i] = i + 0.5 end`,
	"one number of many":              `for i = 1, 12500 do local x = i + 0.1 x = x + 1 x = x + 1 x = x + 1 t[i] = x end`,
	"one number of many in records":   `for i = 1, 5000 do local x = 0.1 for j = 1, 31 do x = x + 1 end t[i] = {x = x} end`,
	"one number of many in functions": `for i = 1, 5000 do local x = 0.1 for j = 1, 31 do x = x + 1 end t[i] = function() return x end end`,
	"numbers by insert":               `for i = 1, 50000 do table.insert(t, i) end`,
	"a list up to an index":           `t[100000] = 1`,
	"empty tables":                    `for i = 1, 10000 do t[i] = {} end`,
	"lists of one":                    `for i = 1, 2500 do t[i] = {i} end`,
	"lists of one, made empty":        `for i = 1, 2500 do local u = {} u[1] = i t[i] = u end`,
	"records":                         `for i = 1, 2500 do t[i] = {name = i, other = true} end`,
	"records of three":                `for i = 1, 2500 do t[i] = {a = i, b = i, c = i} end`,
	"records, made empty":             `for i = 1, 1000 do local u = {} u.name = i t[i] = u end`,
	"records with a list":             `for i = 1, 1000 do local u = {i} u.name = i t[i] = u end`,
	"records with a list, at once":    `for i = 1, 1000 do t[i] = {i, name = i} end`,
	"records, half made":              `for i = 1, 1000 do local u = {a = i} for j = 1, 20 do u["k" .. j] = j end t[i] = u end`,
	"many names in one table":         `for i = 1, 10000 do t["name" .. i] = i end`,
	"odd keys":                        `for i = 1, 10000 do t[i + 0.5] = i end`,
	"odd keys in small tables":        `for i = 1, 2500 do local u = {} u[i + 0.5] = i t[i] = u end`,
	"computed keys":                   `for i = 1, 1000 do t[i] = {["k" .. i] = i} end`,
	"tables as keys":                  `for i = 1, 5000 do t[{}] = true end`,
	"functions":                       `for i = 1, 10000 do t[i] = function() return i end end`,
	"functions of functions":          `local f for i = 1, 10000 do local g = f f = function() return g, i, t end end t.f = f`,
	"small strings":                   `for i = 1, 25000 do t[i] = "x" .. i end`,
	"large strings":                   `for i = 1, 25 do t[i] = ("x"):rep(100000) .. i end`,
	"parts of strings":                `local s = ("x"):rep(1000000) for i = 1, 25000 do t[i] = s:sub(i, i + 10) end`,
	"captures":                        `for line in (("word "):rep(50000)):gmatch("%w+") do t[#t + 1] = line end`,
	"upper case":                      `for i = 1, 25 do t[i] = ("x"):rep(100000):upper() end`,
	"replaced":                        `for i = 1, 25 do t[i] = ("x"):rep(10000):gsub("x", "yyyyyyyyyy") end`,
	"formatted":                       `for i = 1, 10000 do t[i] = ("%s and %d"):format("x", i) end`,
	"joined":                          `for i = 1, 25 do t[i] = table.concat({("x"):rep(50000), ("y"):rep(50000)}) end`,
	"caught errors":                   `for i = 1, 2500 do t[i] = select(2, pcall(error, "x" .. i)) end`,
	"shown":                           `for i = 1, 10000 do t[i] = tostring(t) end`,
	"unpacked":                        `local u = {} for i = 1, 125 do u[i] = i end for i = 1, 125 do t[i] = {unpack(u)} end`,
	"variable arguments":              `local function f(...) return {...} end for i = 1, 2500 do t[i] = f(i, i, i, i) end`,
	"iterators":                       `for i = 1, 5000 do t[i] = ("x"):gmatch("x") end`,
	"metatables":                      `for i = 1, 2500 do t[i] = setmetatable({}, {__index = t}) end`,
}

// What a script keeps must not be more than what it was charged for, or the limit would mean nothing.
func TestWhatIsChargedCoversWhatIsUsed(t *testing.T) {
	for name, body := range hoards {
		script := compile(t, lua.New(nil), "x.lua", "local t = {} "+body+" print() return #t")
		var before, now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		result, err := script.Run(t.Context(), lua.Call{Limits: lua.Limits{Memory: 1 << 30}, Print: func(string) {
			runtime.GC()
			runtime.ReadMemStats(&now)
		}})
		require.NoError(t, err)
		used := int64(now.HeapAlloc) - int64(before.HeapAlloc)
		t.Logf("%-30s charged %8d, used %8d: %.2f", name, result.Memory, used, float64(used)/float64(result.Memory))
		const interpreter = 100_000
		if used > result.Memory+interpreter {
			t.Errorf("%s: charged %d, used %d", name, result.Memory, used)
		}
	}
}
