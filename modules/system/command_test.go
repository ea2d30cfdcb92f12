package system_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/stretchr/testify/require"
)

func TestCommandWithoutGuardsRunsEveryTime(t *testing.T) {
	target, _ := local(t)
	log := filepath.Join(t.TempDir(), "log")
	args := fmt.Sprintf(`run = "echo ran >>%s"`, log)
	for range 2 {
		changes := testkit.Converge(t, get(t, "command"), target, args)
		require.Equal(t, []string{"run echo ran >>" + log}, testkit.Summaries(changes))
		require.True(t, changes[0].Imperative)
	}
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Equal(t, "ran\nran\n", string(text))
}

func TestCommandGuards(t *testing.T) {
	for _, tt := range []struct {
		name, guard, run string
		there            bool // whether the marker exists before
		runs             bool
	}{
		{"creates, not there", `creates = "%s"`, "touch %s", false, true},
		{"creates, there", `creates = "%s"`, "touch %s", true, false},
		{"removes, not there", `removes = "%s"`, "rm %s", false, false},
		{"removes, there", `removes = "%s"`, "rm %s", true, true},
		{"unless, fails", `unless = "test -e %s"`, "touch %s", false, true},
		{"unless, succeeds", `unless = "test -e %s"`, "touch %s", true, false},
		{"only_if, fails", `only_if = "test -e %s"`, "rm %s", false, false},
		{"only_if, succeeds", `only_if = "test -e %s"`, "rm %s", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target, _ := local(t)
			marker := filepath.Join(t.TempDir(), "marker")
			if tt.there {
				require.NoError(t, os.WriteFile(marker, nil, 0o600))
			}
			args := fmt.Sprintf("run = %q\n"+tt.guard, fmt.Sprintf(tt.run, marker), marker)
			require.Equal(t, tt.runs, len(testkit.Converge(t, get(t, "command"), target, args)) == 1)
		})
	}
}

func TestCommandThatLeavesItsGuardOpenIsNotProved(t *testing.T) {
	target, _ := local(t)
	args := `run = "true"` + "\n" + `creates = "/nonexistent/x"`
	m := get(t, "command")
	changes := testkit.Plan(t, m, target, args)
	require.False(t, changes[0].Imperative)
	require.NoError(t, testkit.Apply(t.Context(), target, changes))
	require.NotEmpty(t, testkit.Plan(t, m, target, args))
}

func TestCommandGuardThatCannotRunIsAnError(t *testing.T) {
	target, _ := local(t)
	_, err := testkit.TryPlan(t, get(t, "command"), target, `run = "true"`+"\n"+`unless = "no-such-program"`)
	require.ErrorContains(t, err, "the guard unless could not be run: no-such-program: exit 127")
	target.Earlier = []module.Planned{{Module: "package", Change: module.Change{Host: "pve1", Summary: "install no-such-program"}}}
	changes := testkit.Plan(t, get(t, "command"), target, `run = "true"`+"\n"+`unless = "no-such-program"`)
	require.Contains(t, changes[0].Predicted, "install no-such-program")
}

func TestCommandPassesWordsDirectoryEnvironmentAndSecretInput(t *testing.T) {
	target, l := local(t)
	dir := t.TempDir()
	args := fmt.Sprintf(`
		argv  = ["sh", "-c", "pwd >out; cat >>out; printf '[%%s]' \"$V\" \"$@\" >>out", "x", "it's $HOME", ""]
		stdin = "pw=${secret.pw}\n"
		env   = { V = "a b" }
		dir   = %q`, dir)
	changes := testkit.Converge(t, get(t, "command"), target, args)
	require.NotContains(t, asJSON(t, changes), "s3cret")
	text, err := os.ReadFile(filepath.Join(dir, "out"))
	require.NoError(t, err)
	require.Equal(t, dir+"\npw=s3cret-pw\n[a b][it's $HOME][]", string(text))
	for _, c := range l.Calls() {
		require.NotContains(t, fmt.Sprint(c.Argv, c.Script, c.Env), "s3cret")
	}

	testkit.Converge(t, get(t, "command"), target, fmt.Sprintf("run = \"pwd >>out\"\ndir = %q", dir))
	text, err = os.ReadFile(filepath.Join(dir, "out"))
	require.NoError(t, err)
	require.Contains(t, string(text), "[]"+dir+"\n")
}

func TestCommandFailsWithItsLastWords(t *testing.T) {
	target, _ := local(t)
	m := get(t, "command")
	err := testkit.Apply(t.Context(), target, testkit.Plan(t, m, target, `run = "echo no space left >&2; exit 3"`))
	require.ErrorContains(t, err, "exit 3: no space left")
	require.NoError(t, testkit.Apply(t.Context(), target, testkit.Plan(t, m, target, "run = \"exit 3\"\nok_exit = [0, 3]")))
	err = testkit.Apply(t.Context(), target, testkit.Plan(t, m, target, "run = \"true\"\nok_exit = [3]"))
	require.ErrorContains(t, err, "exit 0 is not among the statuses that mean success")
}

func TestReadOnlyCommandGivesItsOutputAndIsNoChange(t *testing.T) {
	target, l := local(t)
	m := get(t, "command")
	args := "run = \"echo one; echo two\"\nread_only = true"
	require.Empty(t, testkit.Plan(t, m, target, args))
	out := m.Outputs().Encode(testkit.Read(t, m, target, args))
	require.Equal(t, "one\ntwo", out.GetAttr("stdout").AsString())
	for _, c := range l.Calls() {
		require.False(t, c.Mutates)
	}
	_, err := m.Read(t.Context(), target, testkit.Args(t, m, "run = \"exit 4\"\nread_only = true"))
	require.ErrorContains(t, err, "exit 4")
}

func TestDetachedCommandIsTheSameJobEveryTime(t *testing.T) {
	target, _ := local(t)
	m := get(t, "command")
	for _, args := range []string{"run = \"true\"\ndetach = true", "run = \"true\"\ndetach = true", "run = \"true \"\ndetach = true"} {
		require.NoError(t, testkit.Apply(t.Context(), target, testkit.Plan(t, m, target, args)))
	}
	jobs := target.Jobs()
	require.Equal(t, jobs[0].Name, jobs[1].Name)
	require.NotEqual(t, jobs[0].Name, jobs[2].Name)
	require.Positive(t, jobs[0].Timeout)
}

func TestScriptIsSentRunAndRemoved(t *testing.T) {
	target, l := local(t)
	dir := t.TempDir()
	tmp := t.TempDir()
	args := fmt.Sprintf(`
		content = "printf '[%%s]' \"$@\" ${secret.pw} >out; stat -c %%a \"$0\" >>out; cat >>out"
		args    = ["a b", "", "it's", "-n", "$HOME"]
		dir     = %q
		env     = { TMPDIR = %q }
		creates = "%s/out"`, dir, tmp, dir)
	changes := testkit.Converge(t, get(t, "script"), target, args)
	require.Equal(t, []string{"run a secret script"}, testkit.Summaries(changes))
	text, err := os.ReadFile(filepath.Join(dir, "out"))
	require.NoError(t, err)
	require.Equal(t, "[a b][][it's][-n][$HOME][s3cret-pw]600\n", string(text))
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left)
	for _, c := range l.Calls() {
		require.NotContains(t, fmt.Sprint(c.Argv, c.Script, c.Env), "s3cret")
	}
}

func TestScriptFromAFileWithAnInterpreter(t *testing.T) {
	target, _ := local(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "count.awk"), []byte("BEGIN { print n, ARGV[1] > OUT }\n"), 0o600))
	out := filepath.Join(dir, "out")
	changes := testkit.Converge(t, get(t, "script"), target, fmt.Sprintf(`
		source      = %q
		interpreter = ["awk", "-v", "n=7", "-v", "OUT=%s", "-f"]
		args        = ["x y"]`, filepath.Join(dir, "count.awk"), out))
	require.Equal(t, []string{"run the script count.awk"}, testkit.Summaries(changes))
	text, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "7 x y\n", string(text))

	_, err = testkit.TryPlan(t, get(t, "script"), target, `source = "/nonexistent/x"`)
	require.ErrorContains(t, err, "no such file")
	err = testkit.Apply(t.Context(), target, testkit.Plan(t, get(t, "script"), target, `content = "exit 9"`))
	require.ErrorContains(t, err, "exit 9")
}

func TestAssertRefusesWithItsMessage(t *testing.T) {
	target, _ := local(t)
	m := get(t, "assert")
	require.Empty(t, testkit.Plan(t, m, target, `that = [true, 1 < 2]`))
	_, err := testkit.TryPlan(t, m, target, "that = [true, false, 2 < 1]\nmessage = \"three nodes are needed\"")
	requireRefusal(t, err, "conditions 2, 3 of 3: false")
	requireRefusal(t, err, "three nodes are needed")
}

func TestPauseWaitsOrAsks(t *testing.T) {
	target, _ := local(t)
	m := get(t, "pause")
	require.Equal(t, module.PerCluster, m.Spec().Scope)
	changes := testkit.Converge(t, m, target, `duration = "90s"`)
	require.Equal(t, []string{"wait for 1m30s"}, testkit.Summaries(changes))
	require.Equal(t, 90.0, target.Elapsed().Seconds())

	ask := testkit.Plan(t, m, target, `prompt = "Go on?"`)
	require.ErrorContains(t, testkit.Apply(t.Context(), target, ask), "--auto-approve")
	var asked string
	target.Answer = func(q string) error { asked = q; return nil }
	require.NoError(t, testkit.Apply(t.Context(), target, ask))
	require.Equal(t, "Go on?", asked)
}
