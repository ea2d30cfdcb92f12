package lua_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/lua"
	"github.com/stretchr/testify/require"
)

func TestAPI(t *testing.T) {
	for src, want := range map[string][]lua.Value{
		`return #hosts(), hosts()[1].name, tostring(hosts()[2])`:                                                                                list(3.0, "pve1", "pve2"),
		`return #hosts({cluster = "lab"}), hosts({group = "databases"})[1].name`:                                                                list(2.0, "db1"),
		`return hosts({tag = "canary"})[1].name, hosts({var = {site = "a", rack = 1}})[1].name, #hosts({var = {site = "c"}})`:                   list("pve1", "pve1", 0.0),
		`return hosts({name = "pve*", var = {site = "b"}})[1].address, #hosts({})`:                                                              list("192.0.2.12", 3.0),
		`local h = hosts()[1] return h.cluster, h.tags[1], h.vars.site, #h.groups, h == h`:                                                      list("lab", "canary", "a", 0.0, true),
		`local r = hosts()[1]:run("uptime") return r.stdout, r.stderr, r.exit`:                                                                  list("ok", "", 0.0),
		`return hosts()[1]:read("/etc/hostname"), hosts()[1]:read("/none")`:                                                                     list("pve1\n", nil),
		`local h = hosts()[1] h:write("/a", "text", {mode = "0600"}) return h:read("/a")`:                                                       list("text"),
		`return hosts()[3]:facts().hostname, hosts()[3]:facts().cpus`:                                                                           list("db1", 8.0),
		`local c = cluster() return c.name, tostring(c), c:votes().bearable, c:guests()[1].tags[1], c:ceph(), c:ha(), c:snapshot().votes.total`: list("lab", "lab", 1.0, "postgres", nil, nil, 3.0),
		`return parallel({3, 1, 2}, function(x, i) return x * 10 + i end)`:                                                                      list(list(31.0, 12.0, 23.0)),
		`local n = 0 parallel(hosts(), function(h) n = n + #h:run("x").stdout end, {limit = 2}) return n`:                                       list(6.0),
		`return parallel({}, print)`:                                                                                               list(map[string]lua.Value{}),
		`return #parallel({1, 2}, function() end)`:                                                                                 list(0.0),
		`return pcall(parallel, {1}, function() error("inside", 0) end)`:                                                           list(false, "inside"),
		`return (pcall(parallel, {1}, function() parallel({1}, print) end))`:                                                       list(false),
		`local n = 0 return wait(function() n = n + 1 return n == 3 and "there" end, {every = "1ms"}), n`:                          list("there", 3.0),
		`return json.decode('{"a": [1, null, "x"], "b": {"c": true}}')`:                                                            list(map[string]lua.Value{"a": map[string]lua.Value{"1": 1.0, "3": "x"}, "b": map[string]lua.Value{"c": true}}),
		`return json.encode({b = {1, 2}, a = "<&>", c = {}}), json.encode("x")`:                                                    list(`{"a":"<&>","b":[1,2],"c":{}}`, `"x"`),
		`return yaml.decode("a: [1, x]\nb:\n  c: true\n")`:                                                                         list(map[string]lua.Value{"a": list(1.0, "x"), "b": map[string]lua.Value{"c": true}}),
		`return yaml.decode("1: a\nwhen: 2024-05-06\nbig: 1.5\n~: x")`:                                                             list(map[string]lua.Value{"1": "a", "when": "2024-05-06T00:00:00Z", "big": 1.5, "<nil>": "x"}),
		`return yaml.encode({a = {1, "x"}, b = {c = true}})`:                                                                       list("a:\n  - 1\n  - x\nb:\n  c: true\n"),
		`return yaml.decode(yaml.encode({a = {1, 2}, b = "x: y"}))`:                                                                list(map[string]lua.Value{"a": list(1.0, 2.0), "b": "x: y"}),
		`return regex.match("a-12", "(\\w)-(\\d+)"), regex.match("ab", "b"), regex.match("a", "b")`:                                list(list("a", "12"), list("b"), nil),
		`return regex.all("a1b2", "[a-z](\\d)"), regex.replace("a1b2", "[a-z](\\d)", "<${1}>")`:                                    list(list(list("1"), list("2")), "<1><2>"),
		`return time.format(0), time.format(86400, "02 Jan 06"), time.parse("1970-01-02"), time.parse("Nov  2 10:00:00 2027 GMT")`: list("1970-01-01T00:00:00Z", "02 Jan 70", 86400.0, 1825149600.0),
		`return time.parse("02.01.1970", "02.01.2006"), time.now() > 1e9`:                                                          list(86400.0, true),
		`return tostring(secret("db_password")), type(secret("db_password"))`:                                                      list("•••", "userdata"),
		`log("x") return pcall(log)`:                                                                                               list(false, "x.lua:1: log: argument 1 (text): is missing; it must be a string"),
	} {
		env, _ := world()
		result, err := in(t, env, src)
		require.NoError(t, err, src)
		require.Equal(t, want, result.Values, src)
	}
}

func TestWrongArgumentsAreToldPlainly(t *testing.T) {
	env, _ := world()
	for src, want := range map[string]string{
		`hosts("x")`:                `x.lua:1: hosts: argument 1 (filter): must be a table, and is a string`,
		`hosts({grup = "x"})`:       `there is no "grup". Did you mean "group"?`,
		`hosts({group = 1})`:        `argument 1 (filter): group: must be a string, and is a number`,
		`hosts({}, 1)`:              `hosts: it takes filter and got 2 arguments`,
		`cluster(1)`:                `cluster: it takes no arguments and got 1`,
		`hosts({name = "["})`:       `name: "[" is no pattern`,
		`hosts()[1].nmae()`:         `a host has no "nmae". Did you mean "name"?`,
		`hosts()[1].run("x")`:       `call it with a colon, as in host:run(…)`,
		`hosts()[1].name = 1`:       `the fields of a host cannot be set`,
		`hosts()[1]:run({})`:        `argument 1 (command) is empty`,
		`hosts()[1]:run({"a", {}})`: `[2] must be a string, and is a table`,
		`hosts()[1]:run({"a", secret("db_password")})`: `[2] is a secret: arguments of programs can be seen by everybody on the host; hand it over as stdin or env`,
		`hosts()[1]:run("a", {env = {X = {}}})`:        `env: X must be a string or a secret, and is a table`,
		`hosts()[1]:run("a", {timeout = "soon"})`:      `timeout: "soon" is no duration; write "90s", "5m" or a number of seconds`,
		`hosts()[1]:read("etc")`:                       `"etc" is no absolute path`,
		`hosts()[1]:write("/a", "b", {mode = "99"})`:   `mode: "99" is no octal number such as "0644"`,
		`parallel({1}, print, {limit = 0})`:            `parallel: limit: 0 is not from 1 to 64`,
		`parallel({1}, 1)`:                             `argument 2 (fn): must be a function, and is a number`,
		`json.decode("{")`:                             `json.decode: unexpected end of JSON input`,
		`yaml.decode("a: [")`:                          `yaml.decode: `,
		`regex.match("x", "(")`:                        "regex.match: error parsing regexp: missing closing ): `(`",
		`json.encode({a = print})`:                     `json.encode: a: a function cannot be put into a text`,
		`json.encode({hosts()[1]})`:                    `json.encode: [1]: a host cannot be put into a text`,
		`time.parse("tomorrow")`:                       `time.parse: "tomorrow" is no time of the form`,
		`time.format(1e300)`:                           `beyond the years`,
		`secret("none")`:                               `secret: there is no secret none`,
		`task("service", {name = "x"})`:                `task: tasks cannot be performed here`,
		`http.get("http://192.0.2.80/")`:               `http.get: scripts may not make requests here`,
		`json.decode(("x"):rep(2000000))`:              `json.decode: the text has 2000000 bytes; it may have 1 MiB`,
		`fail()`:                                       `fail: argument 1 (reason): is missing; it must be a string`,
		`wait(function() end, {timeout = 0.001})`:      `wait: not within 1ms`,
	} {
		_, err := in(t, env, src)
		require.ErrorContains(t, err, want, src)
	}
	env.Cluster, env.Secret = nil, nil
	_, err := in(t, env, `cluster()`)
	require.ErrorContains(t, err, "the run is for no cluster")
	_, err = in(t, env, `secret("x")`)
	require.ErrorContains(t, err, "there are no secrets here")
}

func TestVerdictsEndTheScript(t *testing.T) {
	env, _ := world()
	for src, want := range map[string]*lua.Verdict{
		`pass() error("not reached")`:                            {Outcome: lua.Pass},
		`pass("lag 1s")`:                                         {Outcome: lua.Pass, Reading: "lag 1s"},
		`retry("lag 40s", {after = "10s"})`:                      {Outcome: lua.Retry, Reading: "lag 40s", After: 10 * time.Second},
		`pcall(function() fail("no") end) pass()`:                {Outcome: lua.Fail, Reading: "no"},
		`xpcall(function() fail("no") end, print) pass()`:        {Outcome: lua.Fail, Reading: "no"},
		`parallel({1, 2}, function() fail("inside") end) pass()`: {Outcome: lua.Fail, Reading: "inside"},
		`("x"):gsub("x", function() retry("deep") end)`:          {Outcome: lua.Retry, Reading: "deep"},
		`wait(function() pass("waited") end)`:                    {Outcome: lua.Pass, Reading: "waited"},
		`return 1`:                                               nil,
	} {
		result, err := in(t, env, src)
		require.NoError(t, err, src)
		require.Equal(t, want, result.Verdict, src)
	}
}

func TestErrorsOfHostsKeepTheirCause(t *testing.T) {
	lost := errors.New("the line is cut")
	env, machines := world()
	machines[0].run = func(context.Context, lua.Command) (lua.Output, error) {
		return lua.Output{}, fmt.Errorf("pve1: %w", lost)
	}
	machines[1].run = func(context.Context, lua.Command) (lua.Output, error) {
		return lua.Output{Stderr: "first\nno such unit\n", Exit: 4}, nil
	}
	_, err := in(t, env, "local h = hosts()[1]\nh:run('x')")
	require.ErrorIs(t, err, lost)
	require.EqualError(t, err, "x.lua:2: host:run: pve1: the line is cut")
	_, err = in(t, env, "parallel(hosts(), function(h) h:run('x') end)")
	require.ErrorIs(t, err, lost)
	_, err = in(t, env, "pcall(function() hosts()[1]:run('x') end) error('other')")
	require.NotErrorIs(t, err, lost)
	_, err = in(t, env, "hosts()[2]:run('x')")
	require.EqualError(t, err, "x.lua:1: host:run: pve2: exit 4: no such unit")
	result, err := in(t, env, "local r = hosts()[2]:run('x', {check = false}) return r.exit, r.stderr")
	require.NoError(t, err)
	require.Equal(t, list(4.0, "first\nno such unit"), result.Values)
}

func TestCommandsReachTheHostAsTheyWereMeant(t *testing.T) {
	env, machines := world()
	_, err := in(t, env, `
		local h = hosts()[1]
		h:run("a | b", {changes = false, timeout = "5s"})
		h:run({"psql", "-f", "-", 5}, {stdin = secret("db_password"), env = {PGPASSWORD = secret("db_password"), LANG = "C"}})
		h:write("/secret", secret("db_password"))`)
	require.NoError(t, err)
	first, second := machines[0].ran[0], machines[0].ran[1]
	require.Equal(t, lua.Command{Script: "a | b", Timeout: 5 * time.Second, Env: map[string]secret.String{}}, first)
	require.Equal(t, []string{"psql", "-f", "-", "5"}, second.Argv)
	require.True(t, second.Mutates, "whoever does not say otherwise changes something")
	require.Equal(t, password, second.Stdin.Reveal())
	require.Equal(t, password, second.Env["PGPASSWORD"].Reveal())
	require.Equal(t, "C", second.Env["LANG"].Reveal())
	require.Equal(t, password, machines[0].files["/secret"])
}

func TestSecretsGoNowhereElse(t *testing.T) {
	for _, use := range []string{
		`"x" .. s`, `s .. "x"`, `s .. s`, `s == secret("db_password")`, `s < s`, `#s`, `s.x`, `s()`, `s + 1`, `-s`, `("%s"):format(s)`, `("%q"):format(s)`,
		`("x"):rep(s)`, `json.encode(s)`, `json.encode({a = {s}})`, `yaml.encode({s})`, `regex.match(s, "x")`, `table.concat({s})`, `string.len(s)`,
		`tonumber(s) + 1`, `log(s)`, `fail(s)`, `hosts()[1]:run(s)`, `hosts()[1]:run({"echo", s})`, `hosts()[1]:read(s)`, `("x"):gsub("x", s)`,
		`("x"):gsub("x", {x = s})`, `("x"):gsub("x", function() return s end)`, `error(s)`, `setmetatable(s, {})`, `rawget(s, "x")`, `next(s)`, `require(s)`,
		`string.format(s)`, `secret(s)`, `hosts({name = s})`,
	} {
		env, _ := world()
		var printed strings.Builder
		script := compile(t, lua.New(nil), "x.lua", `local s = secret("db_password") print(s, tostring(s), {s}) local r = `+use+` print(r) return r`)
		result, err := script.Run(t.Context(), lua.Call{API: lua.Declare(env), Print: func(line string) { printed.WriteString(line) }})
		require.Error(t, err, use)
		require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", err, result, result, printed.String()), password, use)
		require.Contains(t, printed.String(), "•••\t•••")
	}
	env, _ := world()
	result, err := in(t, env, `return secret("db_password"), getmetatable(secret("db_password")), pcall(tostring, secret("db_password"))`)
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", result, result, result), password)
	require.Equal(t, false, result.Values[1])
}

func TestHostCallsOfAParallelOverlap(t *testing.T) {
	env, machines := world()
	var together sync.WaitGroup
	together.Add(len(machines))
	for _, m := range machines {
		m.run = func(context.Context, lua.Command) (lua.Output, error) {
			together.Done()
			together.Wait() // every host answers only once all were asked
			return lua.Output{Stdout: m.name}, nil
		}
	}
	result, err := in(t, env, `
		local seen = {}
		local names = parallel(hosts(), function(h)
			local name = h:run("hostname").stdout
			local read = pcall(function() return h:read("/etc/hostname") end)
			seen[#seen + 1] = read
			return name
		end)
		return table.concat(names, " "), #seen`)
	require.NoError(t, err)
	require.Equal(t, list("pve1 pve2 db1", 3.0), result.Values)
}

func TestAParallelBeginsNothingAfterAnError(t *testing.T) {
	env, machines := world()
	machines[0].run = func(context.Context, lua.Command) (lua.Output, error) { return lua.Output{Exit: 1}, nil }
	_, err := in(t, env, `parallel(hosts(), function(h) h:run("x") end, {limit = 1})`)
	require.ErrorContains(t, err, "pve1: exit 1")
	require.Empty(t, machines[1].ran)
}

func TestALimitEndsHostCallsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env, machines := world()
		for _, m := range machines {
			m.run = func(ctx context.Context, _ lua.Command) (lua.Output, error) {
				<-ctx.Done()
				return lua.Output{}, context.Cause(ctx)
			}
		}
		for _, src := range []string{
			`hosts()[1]:run("x", {timeout = "1h"})`,
			`while true do pcall(function() hosts()[1]:run("x") end) end`,
			`parallel(hosts(), function(h) h:run("x") end)`,
			`time.sleep("1h")`,
			`wait(function() end, {timeout = "1h"})`,
			`wait(function() pcall(time.sleep, "1h") end, {timeout = "2h"})`,
		} {
			began := time.Now()
			script := compile(t, lua.New(nil), "x.lua", src)
			_, err := script.Run(t.Context(), lua.Call{API: lua.Declare(env), Limits: lua.Limits{Time: 30 * time.Second}})
			reached, ok := errors.AsType[*lua.LimitError](err)
			require.True(t, ok, "%s: %v", src, err)
			require.Equal(t, "time", reached.Limit)
			require.Equal(t, 30*time.Second, time.Since(began), src)
		}
		// A step limit in one function ends the waiting of the others.
		_, err := compile(t, lua.New(nil), "x.lua", `parallel({1, 2, 3}, function(i) if i == 3 then while true do end end hosts()[1]:run("x") end)`).
			Run(t.Context(), lua.Call{API: lua.Declare(env), Limits: lua.Limits{Steps: 100_000}})
		reached, ok := errors.AsType[*lua.LimitError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, "steps", reached.Limit)
	})
}

func TestWaitsPollOnTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		env, _ := world()
		began := time.Now()
		_, err := in(t, env, `local n = 0 wait(function() n = n + 1 return n == 5 end, {every = "1s", timeout = "1m"})`)
		require.NoError(t, err)
		require.Equal(t, 1500*time.Millisecond, time.Since(began), "100, 200, 400 and 800 ms")
		began = time.Now()
		_, err = in(t, env, "local x\nwait(function() end, {timeout = '90s'})")
		require.EqualError(t, err, "x.lua:2: wait: not within 1m30s")
		require.Equal(t, 90*time.Second, time.Since(began))
	})
}

func TestRequestsGoWhereTheyMay(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			_, _ = w.Write(make([]byte, 2<<20))
		case "/slow":
			<-r.Context().Done()
		default:
			var body strings.Builder
			_ = r.Write(&body)
			w.Header().Set("X-Seen", r.Header.Get("Authorization"))
			w.WriteHeader(http.StatusTeapot)
			_, _ = fmt.Fprintf(w, "%s %s", r.Method, body.String()[strings.LastIndex(body.String(), "\r\n")+2:])
		}
	}))
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	env, _ := world(func(e *lua.Environment) { e.HTTP = client })
	result, err := in(t, env, `
		local a = http.get("`+server.URL+`/x", {headers = {Authorization = secret("db_password")}})
		local b = http.post("`+server.URL+`/x", "text")
		return a.status, a.body, #a.headers["X-Seen"], b.body`)
	require.NoError(t, err)
	require.Equal(t, list(418.0, "GET ", float64(len(password)), "POST text"), result.Values)
	for src, want := range map[string]string{
		`http.get("` + server.URL + `/large")`:                  "the answer has more than 1 MiB",
		`http.get("` + server.URL + `/slow", {timeout = 0.01})`: "deadline exceeded",
		`http.get("file:///etc/passwd")`:                        "no address that begins with http",
		`http.get("x")`:                                         "no address",
		`http.get("` + server.URL + `", {headers = {A = {}}})`:  "headers: A must be a string or a secret, and is a table",
	} {
		_, err := in(t, env, src)
		require.ErrorContains(t, err, want, src)
	}
}

func TestAliasesOfYAMLDoNotExplode(t *testing.T) {
	env, _ := world()
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 8 {
		fmt.Fprintf(&bomb, "a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	env.Hosts[0].(*machine).files["/bomb"] = bomb.String()
	_, err := in(t, env, `yaml.decode(hosts()[1]:read("/bomb"))`)
	require.Error(t, err)
}

func TestTaskHandsOverItsArguments(t *testing.T) {
	env, _ := world(func(e *lua.Environment) {
		e.Task = func(_ context.Context, module string, args map[string]lua.Value) (map[string]lua.Value, error) {
			return map[string]lua.Value{"module": module, "args": args}, nil
		}
	})
	result, err := in(t, env, `return task("service", {name = "x", hosts = {"pve1"}})`)
	require.NoError(t, err)
	require.Equal(t, list(map[string]lua.Value{"module": "service", "args": map[string]lua.Value{"name": "x", "hosts": list("pve1")}}), result.Values)
}

// Everything that is declared is documented, and every example runs.
func TestTheDeclarationIsWhole(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	env, _ := world(func(e *lua.Environment) { e.HTTP = client })
	api := lua.Declare(env)
	var check func(where string, p lua.Param)
	check = func(where string, p lua.Param) {
		require.NotEmpty(t, p.Name, where)
		require.NotEmpty(t, p.Type, where+" "+p.Name)
		require.NotEmpty(t, p.Doc, where+" "+p.Name)
		for _, f := range p.Fields {
			check(where+" "+p.Name, f)
		}
	}
	all := append([]lua.Func{}, api.Funcs...)
	for _, c := range api.Classes {
		require.NotEmpty(t, c.Doc)
		for _, f := range c.Fields {
			check(c.Name, f.Param)
		}
		all = append(all, c.Methods...)
	}
	for _, f := range all {
		require.NotEmpty(t, f.Doc, f.Name)
		for _, p := range append(f.Params, f.Returns...) {
			check(f.Name, p)
		}
		if f.Name == "task" {
			continue // it needs an engine
		}
		require.NotEmpty(t, f.Example, f.Name)
		_, err := in(t, env, strings.ReplaceAll(f.Example, "http://192.0.2.80", server.URL))
		require.NoError(t, err, f.Example)
	}
}

func BenchmarkHostCall(b *testing.B) {
	env, _ := world()
	api := lua.Declare(env)
	script := compile(b, lua.New(nil), "x.lua", `local h = hosts()[1] for i = 1, 1000 do h:read("/etc/hostname") end`)
	before := busy(b)
	for b.Loop() {
		if _, err := script.Run(b.Context(), lua.Call{API: api}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(busy(b)-before)/float64(b.N*1000), "cpu-ns/round")
}
