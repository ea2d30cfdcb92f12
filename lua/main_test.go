package lua_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/lua"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limits are small, so that what runs away ends soon. The time is for a machine that is busy.
var limits = lua.Limits{Time: 10 * time.Minute, Steps: 5_000_000, Memory: 16 << 20, Output: 10_000, Depth: 200}

func compile(t testing.TB, r *lua.Runtime, name, src string) *lua.Script {
	t.Helper()
	script, problems := r.Compile(name, []byte(src))
	require.Empty(t, problems)
	return script
}

// run runs a text as the script x.lua and returns what it returned and what it printed.
func run(t testing.TB, src string) (values []lua.Value, printed string, err error) {
	t.Helper()
	var lines []string
	result, err := compile(t, lua.New(nil), "x.lua", src).Run(t.Context(), lua.Call{
		Limits: limits,
		Seed:   1,
		Print:  func(line string) { lines = append(lines, line) },
	})
	return result.Values, strings.Join(lines, "\n"), err
}

// values is what a script returns that must not fail.
func values(t testing.TB, src string) []lua.Value {
	t.Helper()
	got, _, err := run(t, src)
	require.NoError(t, err, src)
	return got
}
