package cli_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// example is a site of the folder examples that makes a whole cluster of fresh machines.
type example struct {
	folder  string
	runbook string   // "" when there is only one
	release string   // of Proxmox VE; "" is the lab's own
	idle    []string // modules that have nothing to do on fresh nodes
	changes int      // at least so many
}

// exampleSites are the complete ones.
var exampleSites = []example{
	{folder: "four-nodes-pve8", release: "8.4.14", idle: []string{"preflight"}, changes: 14},
	{folder: "five-nodes-two-sites", idle: []string{"preflight"}, changes: 44},
}

// exampleSpeed is how much faster than real nodes those of the examples are.
const exampleSpeed = "80"

// site is an example with a lab of its own.
type site struct {
	process
	example
	path string
}

// start brings up a lab of fresh machines.
func (e example) start(t *testing.T) *site {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "examples", e.folder))
	require.NoError(t, err)
	s := &site{process{t, filepath.Join(t.TempDir(), "state")}, e, path}
	up := []string{"lab", "up", path, "--detach", "-q", "--speed", exampleSpeed}
	if e.release != "" {
		up = append(up, "--pve", e.release)
	}
	t.Cleanup(func() { s.down() })
	s.must(up...)
	return s
}

// down ends the lab, also after the test's context has ended.
func (s *site) down() {
	endLabs(s.state)
}

// args are the arguments of a command on the site's runbook.
func (s *site) args(command string, more ...string) []string {
	out := []string{command}
	if s.runbook != "" {
		out = append(out, s.runbook)
	}
	return append(append(out, "-i", s.path, "--lab"), more...)
}

// TestExampleSites applies every complete example to fresh machines; and again and again, each time until the next change
// has been started, or is done, when the run is killed. In the end there must be what a run makes that nobody kills.
func TestExampleSites(t *testing.T) {
	for _, e := range exampleSites {
		t.Run(e.folder, func(t *testing.T) {
			t.Parallel()
			var wanted string
			undisturbed := t.Run("undisturbed", func(t *testing.T) {
				s := e.start(t)
				s.forecast()
				require.Contains(t, s.must(s.args("apply", "--auto-approve")...), "Done.")
				s.settled()
				s.healthy()
				wanted = s.snapshot()
			})
			if !undisturbed {
				return
			}
			for name, moment := range map[string]string{"killed_when_started": "change_started", "killed_when_done": "change_done"} {
				t.Run(name, func(t *testing.T) {
					s := e.start(t)
					kills := s.killAtEach(moment)
					require.GreaterOrEqual(t, kills, e.changes/2, "kills") // changes that are made at once may die together
					s.settled()
					s.healthy()
					s.sameAs(wanted)
					t.Logf("%d kills", kills)
				})
			}
		})
	}
}

// forecast plans the whole site from nothing: every task tells what it is going to do.
func (s *site) forecast() {
	s.t.Helper()
	out, code := s.run(s.args("plan", "--json", "--detailed-exitcode")...)
	require.Equal(s.t, 2, code, "%s", out)
	modules, planned, changes := map[string]string{}, 0, 0
	tasks := 0
	for _, e := range events(s.t, strings.NewReader(out)) {
		switch e.Type {
		case "run_started":
			tasks = e.Tasks
		case "step_started":
			modules[e.Step] = e.Module
		case "step_planned":
			require.Empty(s.t, e.Deferred+e.Skipped, "%s", e.Step)
			changes += len(e.Changes)
		case "step_done":
			planned++
			wanted := "changed"
			if slices.Contains(s.idle, modules[e.Step]) {
				wanted = "ok"
			}
			require.Equal(s.t, wanted, e.Status, "%s\n%s", e.Step, out)
		}
	}
	require.NotZero(s.t, tasks)
	require.Equal(s.t, tasks, planned, "every task is planned")
	require.GreaterOrEqual(s.t, changes, s.changes)
}

// settled proves that a plan and a run find nothing to do.
func (s *site) settled() {
	s.t.Helper()
	out, code := s.run(s.args("plan", "--detailed-exitcode")...)
	require.Zero(s.t, code, "%s", out)
	require.Contains(s.t, s.must(s.args("apply", "--auto-approve")...), "No changes.")
}

// healthy waits until status has nothing to complain of: a storage is reported some seconds after it was made.
func (s *site) healthy() {
	s.t.Helper()
	s.await("a healthy cluster", func() (string, bool) {
		out, code := s.run("status", "-i", s.path, "--lab")
		return out, code == 0 && strings.Contains(out, "Nothing to mend.")
	})
}

// eventLine is what these tests look at in an event.
type eventLine struct {
	Type, Step, Host, Module, Status, Deferred, Skipped, ID string

	Planning bool
	Tasks    int
	Change   struct{ ID, Host string }
	Changes  []struct{ ID, Host string }
}

func (e eventLine) key() string {
	id := e.ID
	if e.Type == "change_started" {
		id = e.Change.ID
	}
	return e.Step + " " + id
}

func events(t *testing.T, from io.Reader) []eventLine {
	t.Helper()
	var out []eventLine
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var e eventLine
			require.NoError(t, json.Unmarshal(line, &e), "%s", line)
			out = append(out, e)
		}
		if err != nil {
			return out
		}
	}
}

// killAtEach applies the site until it is done. A run is killed as soon as an event of this type comes that no earlier
// run has been killed for.
func (s *site) killAtEach(moment string) (kills int) {
	s.t.Helper()
	for seen := map[string]bool{}; ; kills++ {
		require.Less(s.t, kills, 200, "it never ends")
		if !s.killAtNext(moment, seen) {
			return kills
		}
	}
}

// killAtNext begins or goes on, and reports whether that run was killed; one that was not has ended well.
func (s *site) killAtNext(moment string, seen map[string]bool) (killed bool) {
	s.t.Helper()
	args := s.args("apply", "--auto-approve", "--json")
	if len(seen) > 0 {
		args = []string{"resume", "--auto-approve", "--json"} // takes the hosts over at once
	}
	cmd := s.command(args...)
	pipe, err := cmd.StdoutPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, cmd.Start())
	var text strings.Builder
	at := ""
	for lines := bufio.NewReader(pipe); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		text.Write(line)
		var e eventLine
		require.NoError(s.t, json.Unmarshal(line, &e), "%s", line)
		if e.Type == moment && !killed && !seen[e.key()] {
			seen[e.key()], killed, at = true, true, e.key()
			require.NoError(s.t, cmd.Process.Kill())
		}
	}
	_ = cmd.Wait() // the status says it
	code := status(cmd)
	if killed && code == 128+int(syscall.SIGKILL) {
		return true
	}
	require.Zero(s.t, code, "the run after %d kills, the last of them at %s\n%s", len(seen), at, told(text.String()))
	return false
}

// told is what a stream of events tells people when a run went wrong: without the commands and outputs.
func told(text string) string {
	var out []string
	for line := range strings.Lines(text) {
		if !strings.Contains(line, `"type":"command_ran"`) && !strings.Contains(line, `"type":"host_connected"`) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}
