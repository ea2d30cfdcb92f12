package detach_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/detach"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is this machine with a systemd of our own.
type node struct {
	*testkit.Local
	t   *testing.T
	dir string
	// before may alter a command or fail instead of it, after what came of it.
	before func(*transport.Command) error
	after  func(transport.Command) error

	mu    sync.Mutex
	lines []string
}

func newNode(t *testing.T) *node {
	n := &node{Local: testkit.NewLocal(t), t: t, dir: t.TempDir()}
	n.Program(t, "systemd-run", `
unit=
while [ $# -gt 0 ]; do
	case $1 in
	--unit=*) unit=${1#--unit=} ;;
	-p) shift ;;
	--*) ;;
	*) break ;;
	esac
	shift
done
echo "$unit" >>`+n.dir+`/starts
setsid "$@" </dev/null >/dev/null 2>&1 &
echo $! >`+n.dir+`/"$unit"
`)
	n.Program(t, "systemctl", `kill -0 "$(cat `+n.dir+`/"$2" 2>/dev/null)" 2>/dev/null && echo active || { echo inactive; exit 3; }`)
	return n
}

func (n *node) Run(ctx context.Context, c transport.Command) (transport.Result, error) {
	if n.before != nil {
		if err := n.before(&c); err != nil {
			return transport.Result{}, err
		}
	}
	r, err := n.Local.Run(ctx, c)
	if err == nil && n.after != nil {
		err = n.after(c)
	}
	return r, err
}

func (n *node) runner() *detach.Runner { return &detach.Runner{Folder: filepath.Join(n.dir, "run")} }

// job makes a job of a script that can see $T, the node's directory.
func (n *node) job(script string) module.Job {
	return module.Job{Name: "join", Timeout: 20 * time.Second, Command: transport.Command{
		Script: script, Argv: []string{"it's", "$HOME"}, Env: map[string]string{"T": n.dir}, Mutates: true,
		Output: func(s transport.Stream, line string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.lines = append(n.lines, []string{"out ", "err "}[s]+line)
		},
	}}
}

func (n *node) run(ctx context.Context, run string, j module.Job) (transport.Result, error) {
	return n.runner().Run(ctx, n, "pve2", run, j)
}

// started counts how often the job was started.
func (n *node) started() int {
	data, _ := os.ReadFile(filepath.Join(n.dir, "starts"))
	return strings.Count(string(data), "\n")
}

func (n *node) file(name string) string { return filepath.Join(n.dir, name) }

func (n *node) touch(name string) { require.NoError(n.t, os.WriteFile(n.file(name), nil, 0o600)) }

func (n *node) exists(name string) bool {
	_, err := os.Stat(n.file(name))
	return err == nil
}

// left runs a job that is no longer followed after its first line, and lets it end with a status.
func (n *node) left(run, status string) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(n.t.Context())
	defer cancel()
	j := n.job(`echo first; while [ ! -e "$T/go" ]; do sleep 0.02; done; echo x >>"$T/count"; exit "$(cat "$T/status")"`)
	require.NoError(n.t, os.WriteFile(n.file("status"), []byte(status), 0o600))
	tell := j.Command.Output
	j.Command.Output = func(s transport.Stream, line string) { tell(s, line); cancel() }
	_, err := n.run(ctx, run, j)
	require.ErrorIs(n.t, err, context.Canceled)
	require.ErrorContains(n.t, err, "it was left running: look with `systemctl status pxrun-")
}

func (n *node) leftJob() module.Job {
	return n.job(`echo first; while [ ! -e "$T/go" ]; do sleep 0.02; done; echo x >>"$T/count"; exit "$(cat "$T/status")"`)
}

func (n *node) ended() {
	n.t.Helper()
	n.touch("go")
	rc := filepath.Join("run", detach.Unit("pve2", "join"), "rc")
	require.Eventually(n.t, func() bool { return n.exists(rc) }, 10*time.Second, 5*time.Millisecond)
}

func TestAJobRunsToItsEnd(t *testing.T) {
	n := newNode(t)
	j := n.job(`cat; echo "$1 $2 in $PWD"; echo oops >&2; printf end; exit 3`)
	j.Command.Stdin = []byte("s3cret\n")
	r, err := n.run(t.Context(), "01A", j)
	require.NoError(t, err)
	require.Equal(t, 3, r.Exit)
	require.Equal(t, "s3cret\nit's $HOME in /\nend", string(r.Stdout))
	require.Equal(t, "oops\n", string(r.Stderr))
	require.ElementsMatch(t, []string{"out s3cret", "out it's $HOME in /", "out end", "err oops"}, n.lines)
	entries, err := os.ReadDir(n.file("run"))
	require.NoError(t, err)
	require.Empty(t, entries, "nothing is left on the node")
	for _, c := range n.Calls() {
		require.NotContains(t, strings.Join(c.Argv, " "), "s3cret")
	}
}

func TestStandardInputIsGoneOnceItIsRead(t *testing.T) {
	n := newNode(t)
	j := n.job(`ls "$D"; stat -c %a "$D"`)
	j.Command.Env["D"] = filepath.Join(n.file("run"), detach.Unit("pve2", "join"))
	j.Command.Stdin = []byte("s3cret")
	r, err := n.run(t.Context(), "01A", j)
	require.NoError(t, err)
	require.NotContains(t, string(r.Stdout), "stdin")
	require.Contains(t, string(r.Stdout), "\n700\n")
}

// A connection that is lost while the input is on its way looks like the end of the input.
func TestAJobWhoseInputWasCutOffIsNotStarted(t *testing.T) {
	n := newNode(t)
	n.before = func(c *transport.Command) error {
		c.Stdin = c.Stdin[:len(c.Stdin)/2]
		return nil
	}
	j := n.job("sh")
	j.Command.Stdin = []byte("cd /some/where && rm -rf old\n")
	_, err := n.run(t.Context(), "01A", j)
	require.ErrorContains(t, err, "the standard input of the job did not arrive whole")
	require.Zero(t, n.started())
	entries, err := os.ReadDir(n.file("run"))
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestNamesOfVariablesAreNoShellText(t *testing.T) {
	n := newNode(t)
	j := n.job("true")
	j.Command.Env["A=1; touch $T/owned; B"] = "1"
	_, err := n.run(t.Context(), "01A", j)
	require.ErrorContains(t, err, "cannot be set in a shell")
	require.Empty(t, n.Calls())
}

func TestAJobThatIsRunningIsFollowed(t *testing.T) {
	n := newNode(t)
	n.left("01A", "0")
	j := n.leftJob()
	j.Command.Output = func(_ transport.Stream, line string) {
		if strings.Contains(line, `job "join" of run 01A is there already`) {
			n.touch("go")
		}
	}
	r, err := n.run(t.Context(), "01B", j)
	require.NoError(t, err)
	require.Equal(t, "first\n", string(r.Stdout))
	require.Equal(t, 1, n.started())
}

func TestAnotherCommandOfTheSameNameIsNotFollowed(t *testing.T) {
	n := newNode(t)
	n.left("01A", "0")
	_, err := n.run(t.Context(), "01A", n.job("true"))
	require.ErrorContains(t, err, "another command of run 01A is still running under this name")
	n.ended()
}

func TestWhatAnEndedJobIsWorth(t *testing.T) {
	tests := []struct {
		name, run, status string
		starts            int
	}{
		{"success of the same run is the result", "01A", "0", 1},
		{"failure of the same run is of the past", "01A", "7", 2},
		{"success of another run is not today's", "01B", "0", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := newNode(t)
			n.left("01A", tt.status)
			n.ended()
			require.NoError(t, os.WriteFile(n.file("status"), []byte("0"), 0o600))
			r, err := n.run(t.Context(), tt.run, n.leftJob())
			require.NoError(t, err)
			require.Equal(t, 0, r.Exit)
			require.Equal(t, tt.starts, n.started())
		})
	}
}

func TestATimeoutLeavesTheJobRunning(t *testing.T) {
	n := newNode(t)
	j := n.leftJob()
	require.NoError(t, os.WriteFile(n.file("status"), []byte("0"), 0o600))
	j.Timeout = 300 * time.Millisecond
	_, err := n.run(t.Context(), "01A", j)
	var left *detach.LeftError
	require.ErrorAs(t, err, &left)
	require.ErrorContains(t, err, "has not ended within 300ms")
	n.ended()
	require.True(t, n.exists("count"), "it went on")
}

func TestALostConnectionWhileStartingStartsOnce(t *testing.T) {
	n := newNode(t)
	lost := 0
	n.after = func(c transport.Command) error {
		if c.Mutates && lost < 2 {
			lost++
			return &transport.LostError{Host: "pve2", Command: "start", Cause: errors.New("EOF")}
		}
		return nil
	}
	r := n.runner()
	r.Sleep = func(ctx context.Context, d time.Duration) error { return ctx.Err() }
	res, err := r.Run(t.Context(), n, "pve2", "01A", n.job(`echo x >>"$T/count"; exit 5`))
	require.NoError(t, err)
	require.Equal(t, 5, res.Exit)
	require.Equal(t, 1, n.started())
	require.NotContains(t, strings.Join(n.lines, "\n"), "following", "it is our own")
}

func TestLooksThatFailAreMadeAgain(t *testing.T) {
	n := newNode(t)
	looks := 0
	n.before = func(c *transport.Command) error {
		if !c.Mutates {
			if looks++; looks < 4 {
				return &transport.UnreachableError{Host: "pve2", Phase: "connect", Cause: errors.New("no route to host")}
			}
		}
		return nil
	}
	r, err := n.run(t.Context(), "01A", n.job("echo there"))
	require.NoError(t, err)
	require.Equal(t, "there\n", string(r.Stdout))
}

func TestAKilledJobHasNoResult(t *testing.T) {
	n := newNode(t)
	_, err := n.run(t.Context(), "01A", n.job(`kill -9 "$(cat "$T/run/`+detach.Unit("pve2", "join")+`/pid")"; sleep 60 & kill $!`))
	require.ErrorContains(t, err, "ended without leaving an exit status")
}

func TestMissingFilesAreNoSuccess(t *testing.T) {
	n := newNode(t)
	_, err := n.run(t.Context(), "01A", n.job(`rm -rf "$T/run"`))
	require.ErrorContains(t, err, "its files are gone")
}

func TestLongOutputKeepsHeadAndTail(t *testing.T) {
	n := newNode(t)
	r, err := n.run(t.Context(), "01A", n.job(`i=0; while [ $i -lt 3000 ]; do printf '%01023d\n' $i; i=$((i+1)); done`))
	require.NoError(t, err)
	require.Len(t, r.Stdout, transport.OutputLimit)
	require.EqualValues(t, 3000*1024-transport.OutputLimit, r.Dropped)
	require.Len(t, n.lines, 3000)
	require.True(t, strings.HasSuffix(string(r.Stdout), "0002999\n"))
	require.True(t, strings.HasPrefix(string(r.Stdout), strings.Repeat("0", 1023)+"\n"))
}

func TestWithoutSystemd(t *testing.T) {
	n := newNode(t)
	n.before = func(c *transport.Command) error {
		c.Script = "command() { return 1; }\n" + c.Script
		return nil
	}
	r, err := n.run(t.Context(), "01A", n.job("echo plain; exit 4"))
	require.NoError(t, err)
	require.Equal(t, 4, r.Exit)
	require.Equal(t, "plain\n", string(r.Stdout))
	require.Zero(t, n.started())
}

func TestAStartThatFailsSaysWhy(t *testing.T) {
	n := newNode(t)
	n.Program(t, "systemd-run", "echo 'Failed to connect to bus' >&2; exit 1")
	_, err := n.run(t.Context(), "01A", n.job("true"))
	require.ErrorContains(t, err, "Failed to connect to bus")
	require.ErrorContains(t, err, `pve2: start job "join"`)
}

func TestWhatEndedJobsLeaveIsListedAndClearedAway(t *testing.T) {
	n := newNode(t)
	list := func() []detach.Left {
		r, err := n.Local.Run(t.Context(), transport.Command{Script: detach.ListCommand(n.file("run"))})
		require.NoError(t, err)
		return detach.ParseList(string(r.Stdout))
	}
	clear := func(units ...string) []string {
		units, err := n.runner().Clear(t.Context(), n, units...)
		require.NoError(t, err)
		return units
	}
	unit := detach.Unit("pve2", "join")
	require.Empty(t, list(), "there is no folder yet")
	require.Empty(t, clear(unit))
	n.left("01A", "7")
	require.Equal(t, []detach.Left{{Unit: unit, Name: "join", Run: "01A", State: "running", Exit: -1}}, list())
	require.Empty(t, clear(unit), "a job that is at work stays")
	n.ended()
	require.NoError(t, os.Chtimes(n.file("run/"+unit+"/rc"), time.Time{}, time.Now().Add(-time.Hour)))
	done := list()
	require.GreaterOrEqual(t, done[0].Age, time.Hour)
	done[0].Age = 0
	require.Equal(t, []detach.Left{{Unit: unit, Name: "join", Run: "01A", State: "done", Exit: 7}}, done)
	// Only what is named and is a job.
	require.NoError(t, os.WriteFile(n.file("run/ceph-apt.conf"), nil, 0o600))
	require.NoError(t, os.Mkdir(n.file("run/pxrun-other"), 0o700))
	require.Empty(t, clear(detach.Unit("pve3", "join"), "pxrun-other", "../run", "."))
	require.Equal(t, []string{unit}, clear("pxrun-other", unit))
	require.Empty(t, list())
	require.True(t, n.exists("run/ceph-apt.conf") && n.exists("run/pxrun-other"))
}
