package sshx

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
)

func run(t *testing.T, c transport.Conn, command transport.Command) transport.Result {
	t.Helper()
	r, err := c.Run(t.Context(), command)
	require.NoError(t, err)
	return r
}

func TestCommandsKeepOutputStatusAndWordsExactly(t *testing.T) {
	c := connect(t, newServer(t).serve())
	tests := map[string]struct {
		command        transport.Command
		stdout, stderr string
		exit           int
	}{
		"no final newline":    {transport.Command{Argv: []string{"printf", "a"}}, "a", "", 0},
		"final newline":       {transport.Command{Argv: []string{"printf", `a\n`}}, "a\n", "", 0},
		"only newlines":       {transport.Command{Argv: []string{"printf", `\n\n`}}, "\n\n", "", 0},
		"nothing":             {transport.Command{Argv: []string{"true"}}, "", "", 0},
		"status":              {transport.Command{Argv: []string{"sh", "-c", "exit 7"}}, "", "", 7},
		"signal":              {transport.Command{Script: "sh -c 'kill -9 $$'; s=$?; exec 2>&-; exit $s"}, "", "Killed\n", 137},
		"hostile words":       {transport.Command{Argv: []string{"printf", "%s|", "a b", "$HOME", "`id`", "'", "\"", "\n", "", "*", "~", "-n", "a;b", "ü"}}, "a b|$HOME|`id`|'|\"|\n||*|~|-n|a;b|ü|", "", 0},
		"keyword is a word":   {transport.Command{Argv: []string{"if"}}, "", "sh: 2: if: not found\n", 127},
		"equals is a word":    {transport.Command{Argv: []string{"A=1"}}, "", "sh: 2: A=1: not found\n", 127},
		"both streams":        {transport.Command{Script: "echo out; echo err >&2"}, "out\n", "err\n", 0},
		"script exits":        {transport.Command{Script: "echo a; exit 3; echo b"}, "a\n", "", 3},
		"script arguments":    {transport.Command{Script: `printf '%s.' "$#" "$@"`, Argv: []string{"x y", "'"}}, "2.x y.'.", "", 0},
		"set -e":              {transport.Command{Script: "set -e\nfalse\necho no"}, "", "", 1},
		"trap on exit":        {transport.Command{Script: "trap 'echo bye' EXIT; echo hi"}, "hi\nbye\n", "", 0},
		"standard input":      {transport.Command{Argv: []string{"cat"}, Stdin: []byte("one'\ntwo")}, "one'\ntwo", "", 0},
		"input not read":      {transport.Command{Argv: []string{"true"}, Stdin: bytes.Repeat([]byte("x"), 60000)}, "", "", 0},
		"test holds":          {transport.Command{Script: "test -d /tmp"}, "", "", 0},
		"test fails":          {transport.Command{Argv: []string{"test", "-d", "/no such"}}, "", "", 1},
		"test of a word":      {transport.Command{Argv: []string{"test", "a b = c"}}, "", "", 0},
		"input is not shared": {transport.Command{Argv: []string{"cat"}}, "", "", 0},
		"environment":         {transport.Command{Script: `echo "$A"`, Env: map[string]string{"A": "it's"}}, "it's\n", "", 0},
		"english":             {transport.Command{Script: `echo $LC_ALL`}, "C\n", "", 0},
		"own shell pid":       {transport.Command{Script: `sh -c 'test $PPID = '$$ && echo same`}, "same\n", "", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, own := range []bool{false, true} {
				tt.command.Own = own
				r := run(t, c, tt.command)
				require.Equal(t, tt.stdout, string(r.Stdout), "own=%v", own)
				require.Equal(t, tt.exit, r.Exit)
				if tt.exit != 127 { // dash puts its own line number in front
					require.Equal(t, tt.stderr, string(r.Stderr))
				} else {
					require.Contains(t, string(r.Stderr), "not found")
				}
			}
		})
	}
}

func TestScriptCannotHarmTheSharedShell(t *testing.T) {
	s := newServer(t).serve()
	c := connect(t, s)
	for _, script := range []string{"cd /; X=1; umask 0", "if then", "'", "exit 9", "exec true", "set -e; false", "set -u; $NOPE", "__pxrun() { :; }; true", "kill $$", "exec >&- 2>&-", "trap '' EXIT TERM; true"} {
		_ = run(t, c, transport.Command{Script: script})
	}
	for _, words := range [][]string{{"test", "1", "-eq", "x"}, {"test", "(", "a"}, {"test", "-t", "0"}, {"test", "a=1"}, {"false"}, {"test", "", ";exit"}, {"test"}} {
		_ = run(t, c, transport.Command{Argv: words})
	}
	r := run(t, c, transport.Command{Script: `pwd; echo "$X"; umask`})
	home, err := os.Getwd()
	require.NoError(t, err)
	require.Equal(t, home+"\n\n0022\n", string(r.Stdout))
	require.EqualValues(t, 1, s.sessions.Load(), "all ran in one session")
}

func TestOutputThatLooksLikeAFrameIsOutput(t *testing.T) {
	c := connect(t, newServer(t).serve())
	fake := "\x01pxrun-00000000000000000000000000000000 0\n\x01pxrun-"
	r := run(t, c, transport.Command{Argv: []string{"printf", "%s", fake}})
	require.Equal(t, fake, string(r.Stdout))
}

func TestBatchIsOneSessionAndKeepsOrder(t *testing.T) {
	s := newServer(t).serve()
	c := connect(t, s)
	var commands []transport.Command
	for i := range 200 {
		commands = append(commands, transport.Command{Script: fmt.Sprintf("echo %d; exit %d", i, i%3)})
	}
	results, err := c.Batch(t.Context(), commands)
	require.NoError(t, err)
	for i, r := range results {
		require.Equal(t, fmt.Sprint(i), r.Out())
		require.Equal(t, i%3, r.Exit)
	}
	require.EqualValues(t, 1, s.sessions.Load())
}

func TestBatchLargerThanEveryBufferDoesNotBlock(t *testing.T) {
	c := connect(t, newServer(t).serve())
	var commands []transport.Command
	in := bytes.Repeat([]byte("0123456789abcde\n"), 4000)
	for range 100 {
		commands = append(commands, transport.Command{Script: "tee /dev/stderr", Stdin: in})
	}
	results, err := c.Batch(t.Context(), commands)
	require.NoError(t, err)
	for _, r := range results {
		require.True(t, bytes.Equal(in, r.Stdout) && bytes.Equal(in, r.Stderr))
	}
}

func TestBatchMixesOwnAndBinaryInput(t *testing.T) {
	c := connect(t, newServer(t).serve())
	binary := []byte("a\x00b\xff")
	large := bytes.Repeat([]byte{0, 1, 2, 255}, 300_000)
	results, err := c.Batch(t.Context(), []transport.Command{
		{Argv: []string{"echo", "1"}}, {Argv: []string{"cat"}, Stdin: binary}, {Argv: []string{"echo", "3"}, Own: true},
		{Argv: []string{"wc", "-c"}, Stdin: large}, {Argv: []string{"echo", "5"}},
	})
	require.NoError(t, err)
	require.Equal(t, "1", results[0].Out())
	require.Equal(t, binary, results[1].Stdout)
	require.Equal(t, "3", results[2].Out())
	require.Equal(t, "1200000", results[3].Out())
	require.Equal(t, "5", results[4].Out())
}

func TestLoginShellNoiseIsNotOutput(t *testing.T) {
	s := newServer(t)
	s.login = "echo 'Welcome to pve1'; echo 'stty: not a terminal' >&2; "
	c := connect(t, s.serve())
	for _, own := range []bool{false, true} {
		r := run(t, c, transport.Command{Argv: []string{"echo", "hi"}, Own: own})
		require.Equal(t, "hi\n", string(r.Stdout))
		require.Empty(t, r.Stderr)
	}
}

func TestNologinShellIsExplained(t *testing.T) {
	s := newServer(t)
	s.login = "echo 'This account is currently not available.'; exit 1; "
	c := connect(t, s.serve())
	for _, own := range []bool{false, true} {
		_, err := c.Run(t.Context(), transport.Command{Argv: []string{"true"}, Own: own, Mutates: true})
		require.ErrorContains(t, err, "pve1: shell: the login shell ended at once: This account is currently not available.")
	}
}

func TestLinesArriveWhileTheCommandRuns(t *testing.T) {
	c := connect(t, newServer(t).serve())
	gate := filepath.Join(t.TempDir(), "gate")
	for _, own := range []bool{false, true} {
		_ = os.Remove(gate)
		var lines []string
		r := run(t, c, transport.Command{
			Script: `echo one; echo two >&2; while ! test -e "$1"; do sleep 0.01; done; printf three`, Argv: []string{gate}, Own: own,
			Output: func(stream transport.Stream, line string) {
				lines = append(lines, fmt.Sprint(stream, line))
				if len(lines) == 2 { // the command goes on only after both lines were seen
					require.NoError(t, os.WriteFile(gate, nil, 0o600))
				}
			},
		})
		require.Equal(t, "one\nthree", string(r.Stdout))
		require.ElementsMatch(t, []string{"0one", "1two", "0three"}, lines)
	}
}

func TestGiantOutputKeepsHeadAndTailInBoundedMemory(t *testing.T) {
	c := connect(t, newServer(t).serve())
	for _, own := range []bool{false, true} {
		r := run(t, c, transport.Command{Script: "echo first; head -c 50000000 /dev/zero | tr '\\0' x; echo; echo last", Own: own})
		require.True(t, bytes.HasPrefix(r.Stdout, []byte("first\nxxx")))
		require.True(t, bytes.HasSuffix(r.Stdout, []byte("xxx\nlast\n")))
		require.Len(t, r.Stdout, transport.OutputLimit)
		require.EqualValues(t, 50000000+12, int64(len(r.Stdout))+r.Dropped)
	}
}

func TestTimeoutKillsTheWholeGroupAndTheNextCommandRuns(t *testing.T) {
	for name, noSignal := range map[string]bool{"server signals": false, "server does not signal": true} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.noSignal = noSignal
			c := connect(t, s.serve())
			for _, own := range []bool{false, true} {
				pidFile := filepath.Join(t.TempDir(), "pid")
				_, err := c.Run(t.Context(), transport.Command{
					Script: `sh -c 'echo $$ >"$0"; sleep 600; true' "$1"`, Argv: []string{pidFile}, Timeout: 300 * time.Millisecond, Own: own, Mutates: true,
				})
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.ErrorContains(t, err, "killed after 300ms")
				pid, err := os.ReadFile(pidFile)
				require.NoError(t, err)
				require.Eventually(t, func() bool { return !running(strings.TrimSpace(string(pid))) }, 10*time.Second, time.Millisecond)
				require.Equal(t, "ok", run(t, c, transport.Command{Argv: []string{"echo", "ok"}}).Out())
			}
			require.EqualValues(t, 1, s.connections.Load())
		})
	}
}

// running reports whether a process exists and is more than a zombie that nobody has reaped.
func running(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestCancelKillsAndReturnsTheCause(t *testing.T) {
	c := connect(t, newServer(t).serve())
	ctx, cancel := context.WithCancel(t.Context())
	_, err := c.Run(ctx, transport.Command{Script: "echo started; sleep 600", Output: func(transport.Stream, string) { cancel() }})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "ok", run(t, c, transport.Command{Argv: []string{"echo", "ok"}}).Out())
}

func TestTimeoutInABatchGivesTheResultsBefore(t *testing.T) {
	c := connect(t, newServer(t).serve())
	results, err := c.Batch(t.Context(), []transport.Command{
		{Argv: []string{"echo", "1"}}, {Argv: []string{"sleep", "600"}, Timeout: 100 * time.Millisecond}, {Argv: []string{"echo", "3"}},
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Len(t, results, 1)
}

func TestManyAtOnceStayWithinTheCap(t *testing.T) {
	s := newServer(t)
	s.maxSessions = 4
	c := connect(t, s.serve())
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			r, err := c.Run(t.Context(), transport.Command{Argv: []string{"echo", fmt.Sprint(i)}, Own: i%5 == 0})
			if err != nil || r.Out() != fmt.Sprint(i) {
				t.Errorf("command %d: %q, %v", i, r.Out(), err)
			}
		})
	}
	wg.Wait()
}

func TestServerWithOneSessionIsEnough(t *testing.T) {
	s := newServer(t)
	s.maxSessions = 1
	c := connect(t, s.serve())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r, err := c.Run(t.Context(), transport.Command{Argv: []string{"echo", fmt.Sprint(i)}, Own: i%2 == 0})
			if err != nil || r.Out() != fmt.Sprint(i) {
				t.Errorf("command %d: %q, %v", i, r.Out(), err)
			}
		})
	}
	wg.Wait()
}

func TestBadCommandsAreRefusedBeforeSending(t *testing.T) {
	c := connect(t, newServer(t).serve())
	for name, command := range map[string]transport.Command{
		"empty":         {},
		"NUL in word":   {Argv: []string{"echo", "a\x00"}},
		"NUL in script": {Script: "echo \x00"},
		"bad variable":  {Argv: []string{"env"}, Env: map[string]string{"A;rm": "1"}},
		"long alone":    {Argv: []string{"echo", strings.Repeat("x", 200_000)}, Own: true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Run(t.Context(), command)
			require.Error(t, err)
		})
	}
}
