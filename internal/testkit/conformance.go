package testkit

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
)

// TestConn is what every connection must do. The connections that open makes must reach this machine's own shell and
// file system (or one that shares the test's temporary directory). Each is closed when its part ends.
func TestConn(t *testing.T, open func(t *testing.T) transport.Conn) {
	t.Helper()
	for _, part := range []struct {
		name string
		test func(t *testing.T, c transport.Conn)
	}{
		{"words arrive as they are", wordsArrive},
		{"exit statuses", exitStatuses},
		{"streams are kept apart and whole", streams},
		{"scripts have a shell of their own", scripts},
		{"standard input", standardInput},
		{"environment", environment},
		{"timeout and cancellation", endings},
		{"lines while it runs", lines},
		{"output without end is cut in the middle", longOutput},
		{"batches", batches},
		{"put and get", putAndGet},
		{"many at once", manyAtOnce},
	} {
		t.Run(part.name, func(t *testing.T) {
			c := open(t)
			defer func() { require.NoError(t, c.Close()) }()
			part.test(t, c)
		})
	}
}

func run(t *testing.T, c transport.Conn, cmd transport.Command) transport.Result {
	t.Helper()
	r, err := c.Run(t.Context(), cmd)
	require.NoError(t, err)
	return r
}

func oddWords() []string {
	return []string{
		"", " ", "a b", "it's", `"quoted"`, "$HOME", "`id`", "$(id)", "a\nb", "\n", "*", "~", "\\", `\n`, "-n", "--", "#", "!x", "a;b", "a&&b", "|", ">x", "ünïcödé", "{a,b}", "=", "%s", "\t",
	}
}

func wordsArrive(t *testing.T, c transport.Conn) {
	words := oddWords()
	want := strings.Join(words, "\x01") + "\x01"
	r := run(t, c, transport.Command{Argv: append([]string{"printf", `%s\001`}, words...)})
	require.Equal(t, want, string(r.Stdout))
	r = run(t, c, transport.Command{Script: `for w in "$@"; do printf '%s\001' "$w"; done`, Argv: words})
	require.Equal(t, want, string(r.Stdout))
	r = run(t, c, transport.Command{Script: `printf '%s' "$#"`})
	require.Equal(t, "0", string(r.Stdout))
}

func exitStatuses(t *testing.T, c transport.Conn) {
	for _, tt := range []struct {
		cmd  transport.Command
		exit int
	}{
		{transport.Command{Argv: []string{"true"}}, 0},
		{transport.Command{Argv: []string{"false"}}, 1},
		{transport.Command{Script: "exit 42"}, 42},
		{transport.Command{Script: "exit 255"}, 255},
		{transport.Command{Argv: []string{"no-such-program-here"}}, 127},
		{transport.Command{Script: "kill -TERM $$"}, 128 + 15},
		{transport.Command{Script: "set -e; false; echo no"}, 1},
		{transport.Command{Script: "true"}, 0},
	} {
		r := run(t, c, tt.cmd)
		require.Equal(t, tt.exit, r.Exit, "%s", tt.cmd)
		require.NotContains(t, string(r.Stdout), "no\n")
	}
	require.NotZero(t, run(t, c, transport.Command{Script: "if then"}).Exit, "a syntax error fails, and only itself")
	require.Equal(t, "still here", run(t, c, transport.Command{Argv: []string{"echo", "still here"}}).Out())
}

func streams(t *testing.T, c transport.Conn) {
	r := run(t, c, transport.Command{Script: `printf out; printf err >&2`})
	require.Equal(t, "out", string(r.Stdout))
	require.Equal(t, "err", string(r.Stderr))
	r = run(t, c, transport.Command{Script: `printf 'a\000b\377\n\n'`})
	require.Equal(t, "a\x00b\xff\n\n", string(r.Stdout))
	require.Empty(t, run(t, c, transport.Command{Argv: []string{"true"}}).Stdout)
}

func scripts(t *testing.T, c transport.Conn) {
	run(t, c, transport.Command{Script: "cd /; LEAK=1; export LEAK; umask 777; set -f; alias echo=false; exec 3>&1"})
	r := run(t, c, transport.Command{Script: `printf '%s,%s' "${LEAK:-none}" "$(umask)"`})
	require.NotContains(t, r.Out(), "0777")
	require.Contains(t, r.Out(), "none,")
	first := run(t, c, transport.Command{Argv: []string{"pwd"}}).Out()
	run(t, c, transport.Command{Script: "cd /usr; exit 3"})
	require.Equal(t, first, run(t, c, transport.Command{Argv: []string{"pwd"}}).Out())
	r = run(t, c, transport.Command{Script: "# only a comment"})
	require.Zero(t, r.Exit)
	r = run(t, c, transport.Command{Script: "cat <<'E'\nit's $HOME\nE"})
	require.Equal(t, "it's $HOME", r.Out())
}

func standardInput(t *testing.T, c transport.Conn) {
	require.Empty(t, run(t, c, transport.Command{Argv: []string{"cat"}}).Stdout, "without input there is /dev/null")
	for _, size := range []int{0, 1, 4096, 1 << 18} {
		text := bytes.Repeat([]byte("a\n\x00\xff"), size/4+1)[:size]
		r := run(t, c, transport.Command{Argv: []string{"cat"}, Stdin: text})
		require.True(t, bytes.Equal(text, r.Stdout), "%d bytes come back", size)
	}
	r := run(t, c, transport.Command{Script: `read a; read b; printf '%s-%s' "$b" "$a"`, Stdin: []byte("1\n2\n")})
	require.Equal(t, "2-1", r.Out())
	r = run(t, c, transport.Command{Argv: []string{"true"}, Stdin: bytes.Repeat([]byte("x"), 1<<18)})
	require.Zero(t, r.Exit, "input that nobody reads is no failure")
}

func environment(t *testing.T, c transport.Conn) {
	r := run(t, c, transport.Command{Script: `printf '%s|%s' "$LC_ALL" "$PXRUN_TEST"`, Env: map[string]string{"PXRUN_TEST": "it's $HOME\nx"}})
	require.Equal(t, "C|it's $HOME\nx", r.Out())
	require.Equal(t, "C|", run(t, c, transport.Command{Script: `printf '%s|%s' "$LC_ALL" "$PXRUN_TEST"`}).Out(), "it does not leak")
	r = run(t, c, transport.Command{Argv: []string{"printenv", "PXRUN_TEST"}, Env: map[string]string{"PXRUN_TEST": "y"}})
	require.Equal(t, "y", r.Out())
}

func endings(t *testing.T, c transport.Conn) {
	started := time.Now()
	_, err := c.Run(t.Context(), transport.Command{Argv: []string{"sleep", "30"}, Timeout: 100 * time.Millisecond, Own: true})
	require.Error(t, err)
	require.Less(t, time.Since(started), 10*time.Second)

	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	_, err = c.Run(ctx, transport.Command{
		Script: "echo started; sleep 30", Own: true,
		Output: func(transport.Stream, string) { once.Do(cancel) },
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, time.Since(started), 10*time.Second)
	_, err = c.Run(ctx, transport.Command{Argv: []string{"true"}})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "fine", run(t, c, transport.Command{Argv: []string{"echo", "fine"}}).Out(), "the connection is still good")
}

func lines(t *testing.T, c transport.Conn) {
	var got []string
	r := run(t, c, transport.Command{
		Script: "echo one; echo two; printf three; echo wrong >&2",
		Output: func(s transport.Stream, line string) { got = append(got, fmt.Sprintf("%d:%s", s, line)) },
	})
	require.ElementsMatch(t, []string{"0:one", "0:two", "0:three", "1:wrong"}, got)
	require.Equal(t, "one\ntwo\nthree", string(r.Stdout))
}

func longOutput(t *testing.T, c transport.Conn) {
	const size = 3 << 20
	r := run(t, c, transport.Command{Script: `printf 'HEAD\n'; head -c "$1" /dev/zero | tr '\0' x; printf '\nTAIL\n'`, Argv: []string{fmt.Sprint(size)}, Own: true})
	require.LessOrEqual(t, len(r.Stdout), transport.OutputLimit+4096)
	require.True(t, bytes.HasPrefix(r.Stdout, []byte("HEAD\n")))
	require.True(t, bytes.HasSuffix(r.Stdout, []byte("\nTAIL\n")))
	require.EqualValues(t, size+11, int64(len(r.Stdout))+r.Dropped)
}

func batches(t *testing.T, c transport.Conn) {
	none, err := c.Batch(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, none)
	results, err := c.Batch(t.Context(), []transport.Command{
		{Argv: []string{"printf", "no newline"}},
		{Script: "exit 7"},
		{Argv: []string{"cat"}, Stdin: []byte("in\n")},
		{Script: "cat; echo err >&2"},
		{Script: "cd /; X=1; exit 0"},
		{Script: `printf '%s' "${X:-none}"`},
		{Argv: []string{"no-such-program-here"}},
		{Script: "printf '\\n\\n'"},
		{Script: "set -e; false; true"},
		{Argv: []string{"printenv", "PXRUN_TEST"}, Env: map[string]string{"PXRUN_TEST": "y"}},
		{Script: "if then"},
		{Argv: []string{"echo", "last"}},
	})
	require.NoError(t, err)
	var got []string
	for _, r := range results {
		got = append(got, fmt.Sprintf("%d:%s", r.Exit, r.Stdout))
	}
	require.Len(t, got, 12)
	require.Regexp(t, "^[1-9][0-9]*:$", got[10])
	got[10] = "syntax error"
	require.Equal(t, []string{"0:no newline", "7:", "0:in\n", "0:", "0:", "0:none", "127:", "0:\n\n", "1:", "0:y\n", "syntax error", "0:last\n"}, got)
	require.Equal(t, "err\n", string(results[3].Stderr))
}

func putAndGet(t *testing.T, c transport.Conn) {
	dir := t.TempDir()
	path := filepath.Join(dir, "it's a file")
	put := func(text string, mode fs.FileMode) {
		t.Helper()
		require.NoError(t, c.Put(t.Context(), transport.File{Path: path, Mode: mode, Content: strings.NewReader(text), Size: int64(len(text))}))
	}
	put("first\n", 0o600)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	large := strings.Repeat("line\x00\n", 100_000)
	put(large, 0)
	info, err = os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode(), "mode 0 keeps the file's own")
	var got bytes.Buffer
	require.NoError(t, c.Get(t.Context(), path, &got))
	require.True(t, large == got.String())
	put("", 0o644)
	info, err = os.Stat(path)
	require.NoError(t, err)
	require.Zero(t, info.Size())
	require.Equal(t, fs.FileMode(0o644), info.Mode())

	require.Error(t, c.Put(t.Context(), transport.File{Path: filepath.Join(dir, "absent", "x"), Content: strings.NewReader("x"), Size: 1}))
	require.Error(t, c.Get(t.Context(), filepath.Join(dir, "absent"), &got))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file is left")
}

func manyAtOnce(t *testing.T, c transport.Conn) {
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			want := fmt.Sprintf("number %d", i)
			r, err := c.Run(t.Context(), transport.Command{Script: `read x; echo "$x"`, Stdin: []byte(want + "\n")})
			if err != nil || r.Out() != want {
				t.Errorf("%d: got %q, %v", i, r.Out(), err)
			}
		})
	}
	group.Wait()
}
