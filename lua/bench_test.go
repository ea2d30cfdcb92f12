package lua_test

import (
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pxrun/pxrun/lua"
	"github.com/stretchr/testify/require"
)

// gate is what a gate does beside asking hosts: it takes output apart and judges.
const gate = `
local lag = {}
for node, seconds in ("pve1=0 pve2=3 pve3=1"):gmatch("(%w+)=(%d+)") do
  lag[node] = tonumber(seconds)
end
for node, seconds in pairs(lag) do
  if seconds > 5 then return node .. " is behind" end
end
return "caught up"`

// busy is the processor time of the process, in nanoseconds: on a machine that does other things too it says more than
// the clock.
func busy(b *testing.B) int64 {
	b.Helper()
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return used.Utime.Nano() + used.Stime.Nano()
}

// measure runs a script again and again.
func measure(b *testing.B, src string, rounds int) {
	b.Helper()
	script := compile(b, lua.New(nil), "x.lua", src)
	b.ReportAllocs()
	before := busy(b)
	for b.Loop() {
		if _, err := script.Run(b.Context(), lua.Call{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(busy(b)-before)/float64(b.N*rounds), "cpu-ns/round")
}

func BenchmarkStart(b *testing.B) {
	measure(b, `return true`, 1)
}

func BenchmarkGate(b *testing.B) {
	measure(b, gate, 1)
}

// Instructions per second, and what the charged ones cost.
func BenchmarkLoop(b *testing.B) {
	for name, body := range map[string]string{
		"empty":    ``,
		"add":      `x = x + i`,
		"set":      `t[1] = i`,
		"concat":   `x = "a" .. i`,
		"call":     `f(i)`,
		"table":    `x = {}`,
		"find":     `x = s:find("%d+")`,
		"tostring": `x = tostring(i)`,
	} {
		b.Run(name, func(b *testing.B) {
			measure(b, `local x, t, s, f = 0, {}, "text 42", function() end for i = 1, 1000 do `+body+` end`, 1000)
		})
	}
}

// A thousand gates that wait at the same time.
func BenchmarkThousandGates(b *testing.B) {
	script := compile(b, lua.New(nil), "x.lua", strings.Replace(gate, "return \"caught up\"", "print() return lag", 1))
	for b.Loop() {
		var before, now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var all, there sync.WaitGroup
		release := make(chan struct{})
		there.Add(1000)
		for range 1000 {
			all.Go(func() {
				_, err := script.Run(b.Context(), lua.Call{Print: func(string) { there.Done(); <-release }})
				require.NoError(b, err)
			})
		}
		there.Wait()
		runtime.ReadMemStats(&now)
		b.ReportMetric(float64(now.Sys-before.Sys)/1e6, "MB-of-process")
		b.ReportMetric(float64(now.HeapAlloc-before.HeapAlloc)/1e6, "MB-of-heap")
		close(release)
		all.Wait()
	}
}

// A fresh interpreter with everything that a gate of a site with three hosts has.
func BenchmarkStartWithAPI(b *testing.B) {
	env, _ := world()
	api := lua.Declare(env)
	script := compile(b, lua.New(nil), "x.lua", `return true`)
	b.ReportAllocs()
	before := busy(b)
	for b.Loop() {
		if _, err := script.Run(b.Context(), lua.Call{API: api}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(busy(b)-before)/float64(b.N), "cpu-ns/round")
}
