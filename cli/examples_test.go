package cli_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"path"
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
	idle    []string // tasks that have nothing to do on fresh nodes
	later   []string // tasks that are planned when what they ask for is known
	changes int      // at least so many
	spared  []string // chains of kills that its size makes too slow, and whose modules the other sites have
}

// exampleSites are the complete ones.
var exampleSites = []example{
	{folder: "two-nodes-qdevice", runbook: "form", idle: []string{"ready", "clocks"}, later: []string{"arbiter"}, changes: 10},
	{folder: "four-nodes-pve8", release: "8.4.14", idle: []string{"ready"}, changes: 16},
	{folder: "three-nodes-ceph", idle: []string{"ready"}, changes: 25},
	{folder: "five-nodes-two-sites", idle: []string{"ready"}, spared: []string{"killed_when_started"}, changes: 44},
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
func (e example) start(t *testing.T, binary string) *site {
	t.Helper()
	folder, err := filepath.Abs(filepath.Join("..", "examples", e.folder))
	require.NoError(t, err)
	s := &site{process{t, filepath.Join(t.TempDir(), "state"), binary}, e, folder}
	up := []string{"lab", "up", folder, "--detach", "-q", "--speed", exampleSpeed}
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
// has been started, or its first command that writes has run, or it is done, when the run is killed. In the end there must
// be what a run makes that nobody kills.
func TestExampleSites(t *testing.T) {
	binary := swift()
	for _, e := range exampleSites {
		t.Run(e.folder, func(t *testing.T) {
			t.Parallel()
			var wanted string
			undisturbed := t.Run("undisturbed", func(t *testing.T) {
				s := e.start(t, binary)
				s.forecast()
				require.Contains(t, s.must(s.args("apply", "--auto-approve")...), "Done.")
				s.settled()
				s.healthy()
				wanted = s.snapshot()
			})
			if !undisturbed {
				return
			}
			if testing.Short() {
				return
			}
			for name, moment := range map[string]string{"killed_when_started": "change_started", "killed_midway": "command_ran", "killed_when_done": "change_done"} {
				if slices.Contains(e.spared, name) {
					continue
				}
				t.Run(name, func(t *testing.T) {
					s := e.start(t, binary)
					kills := s.killAtEach(moment)
					require.GreaterOrEqual(t, kills, e.changes/2, "kills") // changes that are made at once may die together
					s.settled()
					// What killed runs had begun and nobody has followed to its end lies on the nodes until somebody clears it away.
					s.must("release", "--all", "-i", s.path, "--lab")
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
	tasks, planned, changes := 0, 0, 0
	for _, e := range events(s.t, strings.NewReader(out)) {
		switch e.Type {
		case "run_started":
			tasks = e.Tasks
		case "step_planned":
			require.Empty(s.t, e.Skipped, "%s", e.Step)
			changes += len(e.Changes)
		case "step_done":
			planned++
			wanted := "changed"
			switch task := path.Base(e.Step); {
			case slices.Contains(s.idle, task):
				wanted = "ok"
			case slices.Contains(s.later, task):
				wanted = "deferred"
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
	Type, Step, Status, Skipped, ID string

	Mutates bool
	Tasks   int
	Change  struct{ ID, Host string }
	Changes []struct{ ID, Host string }
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

// killAtEach applies the site until it is done. A run is killed as soon as an event of this type comes of a change that no
// earlier run has been killed for.
func (s *site) killAtEach(moment string) (kills int) {
	s.t.Helper()
	refused := 0
	for seen := map[string]bool{}; ; {
		require.Less(s.t, kills, 200, "it never ends")
		switch s.killAtNext(moment, seen, refused < patience) {
		case runEnded:
			return kills
		case runKilled:
			kills, refused = kills+1, 0
		case runRefused:
			refused++
		}
	}
}

// patience is how often a run may be refused before the next one must get through: a join that was cut off goes on by itself
// for some seconds, in which its node is a member that is not there yet, and nothing may be done to the cluster.
const patience = 60

// refusedByGate is the exit status of a run that a gate refused.
const refusedByGate = 6

// ending is how a run ended.
type ending int

const (
	runEnded ending = iota
	runKilled
	runRefused
)

// killAtNext begins or goes on, and tells whether that run was killed, refused by a gate if that may be, or has ended well.
func (s *site) killAtNext(moment string, seen map[string]bool, mayBeRefused bool) ending {
	s.t.Helper()
	killed := false
	args := s.args("apply", "--auto-approve", "--json")
	if len(seen) > 0 {
		args = []string{"resume", "--auto-approve", "--json"} // takes the hosts over at once
	}
	cmd := s.command(args...)
	pipe, err := cmd.StdoutPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, cmd.Start())
	var text strings.Builder
	at, started := "", map[string]string{} // the change that a step was last seen to begin
	for lines := bufio.NewReader(pipe); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		text.Write(line)
		var e eventLine
		require.NoError(s.t, json.Unmarshal(line, &e), "%s", line)
		if e.Type == "change_started" {
			started[e.Step] = e.Change.ID
		}
		change := e.Step + " " + cmp.Or(e.ID, started[e.Step])
		if e.Type == moment && !killed && !seen[change] && (e.Mutates && started[e.Step] != "" || e.Type != "command_ran") {
			seen[change], killed, at = true, true, change
			require.NoError(s.t, cmd.Process.Kill())
		}
	}
	_ = cmd.Wait() // the status says it
	code := status(cmd)
	switch {
	case killed && code == 128+int(syscall.SIGKILL):
		return runKilled
	case !killed && code == refusedByGate && mayBeRefused && len(seen) > 0:
		return runRefused
	}
	require.Zero(s.t, code, "the run after %d kills, the last of them at %s\n%s", len(seen), at, told(text.String()))
	return runEnded
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
