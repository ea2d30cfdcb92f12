package system_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/modules/system"
	"github.com/stretchr/testify/require"
)

func get(t *testing.T, name string) module.Module {
	t.Helper()
	m, ok := module.NewRegistry(system.All()...).Get(name)
	require.True(t, ok)
	return m
}

// local is a target on this machine's own shell.
func local(t *testing.T) (*testkit.Target, *testkit.Local) {
	t.Helper()
	l := testkit.NewLocal(t)
	return testkit.NewTarget(t, "pve1", l), l
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

// requireRefusal wants a refusal that says the text.
func requireRefusal(t *testing.T, err error, text string) {
	t.Helper()
	var r *module.Refusal
	require.ErrorAs(t, err, &r)
	require.Contains(t, r.Error(), text)
}

func TestArgumentsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, tt := range []struct{ module, args, problem string }{
		{"command", ``, `give either run or argv.`},
		{"command", `run = "x"` + "\n" + `argv = ["x"]`, `give either run or argv.`},
		{"command", `run = "x"` + "\n" + `dir = "tmp"`, `dir: it must be an absolute path.`},
		{"command", `run = "x"` + "\n" + `creates = "tmp"`, `creates: it must be an absolute path.`},
		{"command", `run = "x"` + "\n" + `read_only = true` + "\n" + `unless = "y"`, `read_only: a command that changes nothing takes neither detach nor guards.`},
		{"command", `argv = [""]`, `argv[0]: the program has no name.`},
		{"command", `run = secret.x`, `run: run holds a secret`},
		{"command", `argv = ["login", secret.x]`, `argv[1]: argv[1] holds a secret`},
		{"script", ``, `give either source or content.`},
		{"script", `content = "x"` + "\n" + `interpreter = []`, `interpreter: interpreter must have at least 1 element, and has none.`},
		{"file", `path = "x"`, `path: it must be an absolute path.`},
		{"file", `path = "/"`, `path: write it without`},
		{"file", `path = "/etc/../x"`, `path: write it without`},
		{"file", `path = "/x"` + "\n" + `content = "a"` + "\n" + `source = "b"`, `source: give either content or source.`},
		{"file", `path = "/x"` + "\n" + `content = "a"` + "\n" + `state = "directory"`, `state: only a file has content`},
		{"file", `path = "/x"` + "\n" + `state = "link"`, `target: it belongs to`},
		{"file", `path = "/x"` + "\n" + `mode = 644`, `mode: mode wanted a file mode, got a number. Write it in quotes: "0644".`},
		{"file", `path = "/x"` + "\n" + `owner = "a b"`, `owner: "a b" is no name of a user or group.`},
		{"file", `path = "/etc/pve/x"` + "\n" + `mode = "0644"`, `path: /etc/pve sets modes and owners itself`},
		{"package", `names = []`, `names: names must have at least 1 element, and has none`},
		{"package", `names = ["Curl"]`, `names[0]: "Curl" is no name of a Debian package.`},
		{"package", `names = ["-y"]`, `names[0]: "-y" is no name of a Debian package.`},
		{"package", `names = ["a1", "a1"]`, `names[1]: "a1" stands there twice.`},
		{"service", `name = "x"`, `give state, enabled or both.`},
		{"service", `name = "--now"` + "\n" + `state = "started"`, `name: "--now" is no name of a unit.`},
		{"service", `name = "x"` + "\n" + `state = "strated"`, `Did you mean "started"?`},
		{"wait_for", ``, `give at least one of port, path, service and command.`},
		{"wait_for", `port = 70000`, `port: port must be between 1 and 65535, and is 70000`},
		{"wait_for", `port = 1` + "\n" + `address = "-x"`, `address: it must be an address or a name.`},
		{"assert", `that = []`, `that: that must have at least 1 element, and has none`},
		{"assert", `that = ["yes"]`, `that[0]: that[0] wanted a bool, got a string. Write it without quotes.`},
		{"pause", ``, `give either duration or prompt.`},
		{"pause", `duration = "1m"` + "\n" + `prompt = "x"`, `give either duration or prompt.`},
	} {
		t.Run(tt.module+" "+tt.args, func(t *testing.T) {
			_, problems := testkit.TryArgs(t, get(t, tt.module), tt.args)
			require.Contains(t, strings.Join(problems, "\n"), tt.problem)
		})
	}
}
