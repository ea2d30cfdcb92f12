package scripts_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/lua"
	"github.com/pxrun/pxrun/modules/scripts"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestModulesAreDeclaredInFull(t *testing.T) { testkit.CheckModules(t, scripts.All()) }

// ask plans a gate of a script for the host pve1.
func ask(t *testing.T, target module.Target, src, more string) ([]module.Change, error) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "lua"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lua", "shared.lua"), []byte(`return {word = "shared"}`), 0o600))
	path := filepath.Join(dir, "gates", "g.lua")
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(src), 0o600))
	gate := labkit.Only(t, scripts.All(), "gate")
	return gate.Plan(t.Context(), target, testkit.Args(t, gate, `script = "`+path+`"`+"\n"+more))
}

// target is a host pve1 that answers uptime, in a plan.
func target(t *testing.T) *testkit.Target {
	t.Helper()
	target := testkit.NewTarget(t, "pve1", testkit.NewConn(t, "pve1").OnOutput("uptime", "up 3 days\n"))
	target.Whole.Hosts[0].Vars = map[string]cty.Value{"tags": cty.TupleVal([]cty.Value{cty.StringVal("canary")}), "site": cty.StringVal("a")}
	return target
}

func TestAGateThatSaysPassIsOpen(t *testing.T) {
	pve1 := target(t)
	changes, err := ask(t, pve1, `
		assert(self.name == "pve1" and self.vars.site == "a" and hosts({tag = "canary"})[1] ~= nil)
		assert(require("shared").word == "shared" and args.lag == "3")
		print("looked")
		pass(self:run("uptime", {changes = false}).stdout)`, `args = { lag = "3" }`)
	require.NoError(t, err)
	require.Empty(t, changes)
	require.Equal(t, []string{"pve1: looked"}, pve1.Logs())
	require.Equal(t, []module.Record{module.Reading{Gate: "g.lua", Saw: "up 3 days", Want: "pass", OK: true}}, pve1.Records())
}

func TestASecretOfTheTaskReachesTheHostAndNothingElse(t *testing.T) {
	conn := testkit.NewConn(t, "pve1").OnOutput("psql", "ok\n")
	pve1 := testkit.NewTarget(t, "pve1", conn)
	_, err := ask(t, pve1, `
		local token = secret("token")
		print(token)
		self:run({"psql"}, {changes = false, stdin = token, env = {TOKEN = token}})
		fail(tostring(token))`, `secrets = { token = secret.token }`)
	require.ErrorContains(t, err, "saw: fail: •••")
	require.Equal(t, "s3cret-token", string(conn.Calls()[0].Stdin))
	require.Equal(t, "s3cret-token", conn.Calls()[0].Env["TOKEN"])
	require.NotContains(t, fmt.Sprintf("%v %v %+v", err, pve1.Logs(), pve1.Records()), "s3cret")
}

func TestEverythingElseClosesAGate(t *testing.T) {
	for src, want := range map[string]string{
		`fail("5 is too much")`: "saw: fail: 5 is too much",
		`print("hm")`:           "saw: the script ended without pass, retry or fail",
		`return true`:           "saw: the script ended without pass, retry or fail",
		"\nerror('broken')":     "g.lua:2: broken",
		`local s = "x" while true do s = s .. s end`: "g.lua:1: the script asked for more than the 128 MiB of memory that it may",
		`self:run("reboot")`:                         "reboot may change the host, and this script may only look",
		`self:write("/x", "y")`:                      "put /x may change the host",
		`pass(secret("none"))`:                       `the task gives the script no secret "none"`,
		`http.get("http://x")`:                       "scripts may not make requests here",
		`cluster()`:                                  "the run is for no cluster",
		`require("none")`:                            "there is no ",
	} {
		pve1 := target(t)
		changes, err := ask(t, pve1, src, "")
		require.ErrorContains(t, err, "pve1: refused: the gate g.lua", src)
		require.ErrorContains(t, err, want, src)
		require.Empty(t, changes)
		require.False(t, pve1.Records()[0].(module.Reading).OK)
	}
	_, err := ask(t, target(t), "x = = 1", "")
	require.ErrorContains(t, err, "g.lua:1")
}

func TestARunAsksAgainUntilTheTimeIsOver(t *testing.T) {
	pve1 := target(t)
	pve1.RunID = "run"
	_, err := ask(t, pve1, `retry("not yet")`, `within = "10s"`)
	require.ErrorContains(t, err, "saw: retry: not yet")
	require.InDelta(t, 10, pve1.Elapsed().Seconds(), 5, "1, 2, 4 and the rest")
	require.Contains(t, pve1.Logs(), "pve1: g.lua: not yet; asked again in 1s")

	pve1 = target(t)
	pve1.RunID = "run"
	_, err = ask(t, pve1, `retry("not yet", {after = "7s"})`, `within = "5s"`)
	require.Error(t, err)
	require.LessOrEqual(t, pve1.Elapsed(), 5*time.Second, "a pause is no longer than the time that is left")

	pve1 = target(t)
	pve1.RunID = "run"
	_, err = ask(t, pve1, `fail("never")`, "")
	require.ErrorContains(t, err, "never")
	require.Zero(t, pve1.Elapsed(), "fail is not asked again")
}

func TestAPlanTellsOfAGateThatIsClosedForNow(t *testing.T) {
	pve1 := target(t)
	changes, err := ask(t, pve1, `retry("not yet")`, "")
	require.NoError(t, err)
	require.Len(t, changes, 1, "the run is to wait for it")
	require.Equal(t, "it is closed for now", changes[0].Predicted)
	require.Equal(t, []string{"pve1: the gate g.lua is closed for now: not yet; the run will wait for it up to 5m0s"}, pve1.Warnings())
	require.ErrorContains(t, changes[0].Apply(t.Context(), pve1), "saw: retry: not yet")
}

func TestAPlanLeavesAGateOpenThatLooksAtWhatWillChange(t *testing.T) {
	pve1 := target(t)
	pve1.Earlier = []module.Planned{{Module: "service"}}
	changes, err := ask(t, pve1, `fail("not asked")`, "")
	require.NoError(t, err)
	require.Len(t, changes, 1)
	require.NotEmpty(t, changes[0].Predicted)
	require.True(t, changes[0].Imperative)
}

// What the cluster tells is what the reference says that it tells.
func TestClusterTellsWhatIsDeclared(t *testing.T) {
	l := labkit.New(t, 3, nil)
	l.Form()
	declared := map[string][]lua.Param{}
	for _, class := range lua.Declare(lua.Environment{}).Classes {
		for _, m := range class.Methods {
			if class.Name == "cluster" {
				declared[m.Name] = m.Returns[0].Fields
			}
		}
	}
	require.Len(t, declared, 5)
	script := `local c, wrong = cluster(), {}
		local function check(where, have, fields)
			for name, kind in pairs(fields) do
				if type(have[name]) ~= kind then wrong[#wrong + 1] = where .. "." .. name .. ": " .. type(have[name]) end
			end
			for name in pairs(have) do if not fields[name] then wrong[#wrong + 1] = where .. "." .. name .. " is not declared" end end
		end
		local s = c:snapshot()
		check("votes", c:votes(), ` + kinds(declared["votes"]) + `)
		check("node", s.nodes[1], ` + kinds(declared["snapshot"][1].Fields) + `)
		if c:ceph() then check("ceph", c:ceph(), ` + kinds(declared["ceph"]) + `) end
		if c:ha() then check("ha", c:ha(), ` + kinds(declared["ha"]) + `) end
		if not (s.votes.quorate and s.votes.bearable == 1 and #s.nodes == 3 and #c:guests() == 0) then fail("the numbers are wrong: " .. json.encode(s.votes)) end
		if #wrong > 0 then fail(table.concat(wrong, ", ")) end
		pass("as declared")`
	_, err := ask(t, l, script, "")
	require.NoError(t, err)
}

// kinds writes fields as a table of Lua: their names and what type() says of them.
func kinds(fields []lua.Param) string {
	text := "{"
	for _, f := range fields {
		kind := f.Type
		if kind != "string" && kind != "number" && kind != "boolean" {
			kind = "table"
		}
		text += f.Name + ` = "` + kind + `", `
	}
	return text + "}"
}
