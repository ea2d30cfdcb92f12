package sshx

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

// dropping runs a command that cuts the connection from inside on its first run, and counts its runs.
func dropping(t *testing.T, s *server, own, mutates bool) (transport.Result, error, string) {
	t.Helper()
	c := connect(t, s)
	runs := filepath.Join(t.TempDir(), "runs")
	cut := false
	r, err := c.Run(t.Context(), transport.Command{
		Script: `echo run >>"$1"; echo started; read x </dev/zero & wait; echo done`, Argv: []string{runs}, Own: own, Mutates: mutates, Timeout: 20 * time.Second,
		Output: func(_ transport.Stream, line string) {
			if line == "started" && !cut {
				cut = true
				s.drop()
			}
		},
	})
	text, readErr := os.ReadFile(runs)
	require.NoError(t, readErr)
	return r, err, string(text)
}

func TestLostReadIsRepeatedOnceOnANewConnection(t *testing.T) {
	s := newServer(t).serve()
	c := connect(t, s)
	marker := filepath.Join(t.TempDir(), "second")
	r, err := c.Run(t.Context(), transport.Command{
		Script: `if test -e "$1"; then echo again; else : >"$1"; echo started; sleep 600; fi`, Argv: []string{marker},
		Output: func(_ transport.Stream, line string) {
			if line == "started" {
				s.drop()
			}
		},
	})
	require.NoError(t, err)
	require.Equal(t, "again", r.Out())
	require.EqualValues(t, 2, s.connections.Load())
}

func TestLostChangeIsNeverRepeated(t *testing.T) {
	for _, own := range []bool{false, true} {
		s := newServer(t).serve()
		_, err, runs := dropping(t, s, own, true)
		var lost *transport.LostError
		require.ErrorAs(t, err, &lost)
		require.Equal(t, "pve1", lost.Host)
		require.Equal(t, "run\n", runs)
	}
}

func TestReadThatLosesEveryConnectionIsGivenUp(t *testing.T) {
	s := newServer(t).serve()
	c := connect(t, s)
	var tries atomic.Int64
	_, err := c.Run(t.Context(), transport.Command{Script: "echo started; sleep 600", Output: func(transport.Stream, string) {
		tries.Add(1)
		s.drop()
	}})
	require.ErrorAs(t, err, new(*transport.LostError))
	require.EqualValues(t, 2, tries.Load())
}

func TestShellThatDiesUnderAChangeIsLost(t *testing.T) {
	s := newServer(t).serve()
	c := connect(t, s)
	_, err := c.Run(t.Context(), transport.Command{Argv: []string{"sh", "-c", "kill -9 $PPID"}, Mutates: true})
	require.ErrorAs(t, err, new(*transport.LostError))
	require.Equal(t, "fine", run(t, c, transport.Command{Argv: []string{"echo", "fine"}}).Out())
	require.EqualValues(t, 1, s.connections.Load())
}

func TestLostBatchKeepsWhatEndedAndNamesTheChangeInDoubt(t *testing.T) {
	s := newServer(t).serve()
	c := connect(t, s)
	results, err := c.Batch(t.Context(), []transport.Command{
		{Argv: []string{"echo", "1"}},
		{Argv: []string{"echo", "2"}, Mutates: true},
		{Script: "echo started; sleep 600", Output: func(transport.Stream, string) { s.drop() }},
		{Argv: []string{"touch", "/nonexistent/x"}, Mutates: true},
	})
	var lost *transport.LostError
	require.ErrorAs(t, err, &lost)
	require.Equal(t, "touch /nonexistent/x", lost.Command)
	require.Len(t, results, 2)
}

func TestConnectionThatDiedIdleIsMadeAnewEvenForChanges(t *testing.T) {
	s := newServer(t).serve()
	c := connect(t, s)
	run(t, c, transport.Command{Argv: []string{"true"}})
	dead := c.link.dead
	s.drop()
	<-dead
	require.Equal(t, "ok", run(t, c, transport.Command{Argv: []string{"echo", "ok"}, Mutates: true}).Out())
}

func TestSilentConnectionIsCutByKeepalive(t *testing.T) {
	s := newServer(t)
	s.mute = make(chan struct{})
	s.serve()
	t.Cleanup(func() { close(s.mute) })
	d := dialer(t, Config{Keepalive: 20 * time.Millisecond, KeepaliveCount: 3}, s)
	c := connectTo(t, d, s.host())
	l := c.link
	<-l.dead
	require.ErrorContains(t, l.whyDead(""), "no sign of life for 60ms")
}

func TestLostPutIsNotRepeatedAndLeavesNoHalfFile(t *testing.T) {
	s := newServer(t).serve()
	c := connect(t, s)
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	content := &droppingReader{size: 10 << 20, after: 5 << 20, drop: s.drop}
	err := c.Put(t.Context(), transport.File{Path: path, Content: content, Size: content.size})
	var lost *transport.LostError
	require.ErrorAs(t, err, &lost)
	require.Equal(t, "put "+path, lost.Command)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "old", string(text))
}

// droppingReader cuts the connection in the middle of its content.
type droppingReader struct {
	size, after, read int64
	drop              func()
}

func (r *droppingReader) Read(p []byte) (int, error) {
	if r.read >= r.after && r.drop != nil {
		r.drop()
		r.drop = nil
	}
	n := min(int64(len(p)), r.size-r.read)
	r.read += n
	return int(n), nil
}

func TestContentThatFailsLeavesTheOldFile(t *testing.T) {
	c := connect(t, newServer(t).serve())
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	for name, f := range map[string]transport.File{
		"reader breaks":       {Content: &breaking{left: 1 << 20}, Size: 2 << 20},
		"without size":        {Content: &breaking{left: 1 << 20}},
		"too short":           {Content: strings.NewReader(strings.Repeat("x", 100_000)), Size: 200_000},
		"too long":            {Content: strings.NewReader(strings.Repeat("x", 300_000)), Size: 200_000},
		"small and too short": {Content: strings.NewReader("abc"), Size: 4},
		"no such user":        {Content: strings.NewReader("abc"), Owner: "no-such-user"},
	} {
		t.Run(name, func(t *testing.T) {
			f.Path = path
			require.Error(t, c.Put(t.Context(), f))
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, "old", string(text))
		})
	}
	require.Eventually(t, func() bool {
		entries, err := os.ReadDir(dir)
		return err == nil && len(entries) == 1
	}, 20*time.Second, 10*time.Millisecond, "temporary files are removed, by the far end, in its own time")
}

type breaking struct{ left int }

func (b *breaking) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the source broke")
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

func TestPutKeepsOrSetsModeAndRefusesFolders(t *testing.T) {
	c := connect(t, newServer(t).serve())
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	put := func(f transport.File, text string) error {
		f.Path, f.Content = path, strings.NewReader(text)
		return c.Put(t.Context(), f)
	}
	mode := func() string {
		return run(t, c, transport.Command{Argv: []string{"stat", "-c", "%a", path}}).Out()
	}
	require.NoError(t, put(transport.File{}, "new"))
	require.Equal(t, "644", mode(), "the umask's mode")
	require.NoError(t, put(transport.File{Mode: 0o4750}, "x"))
	require.Equal(t, "750", mode())
	require.NoError(t, put(transport.File{Mode: 0o750 | os.ModeSetuid}, "x"))
	require.Equal(t, "4750", mode())
	require.NoError(t, put(transport.File{Size: 1_000_000}, strings.Repeat("0123456789", 100_000)))
	require.Equal(t, "4750", mode(), "an existing file keeps its own")
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700))
	require.ErrorContains(t, put(transport.File{}, "x"), "is a directory")
	for _, bad := range []string{"relative", "/tmp/", ""} {
		require.ErrorContains(t, c.Put(t.Context(), transport.File{Path: bad, Content: strings.NewReader("")}), "absolute")
	}
}

func TestFullDiskIsReportedAndLeavesNothing(t *testing.T) {
	c := connect(t, newServer(t).serve())
	err := c.Put(t.Context(), transport.File{Path: "/dev/full/x", Content: strings.NewReader("x")})
	require.Error(t, err)
	// A file size limit stands in for a full disk: cat fails in the middle of writing.
	dir := t.TempDir()
	s := newServer(t)
	s.login = "ulimit -f 200; "
	c = connect(t, s.serve())
	err = c.Put(t.Context(), transport.File{Path: filepath.Join(dir, "x"), Content: strings.NewReader(strings.Repeat("x", 1<<20)), Size: 1 << 20})
	require.ErrorAs(t, err, new(*transport.ExitError))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestRefusedLoginIsNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r refusals
		began := time.Now()
		waited := func() time.Duration { return time.Since(began).Round(time.Second) }
		require.NoError(t, r.wait(t.Context(), "a"))
		require.False(t, r.refused("a", false), "a login that never worked is not tried again")
		require.NoError(t, r.wait(t.Context(), "b"))
		require.Zero(t, waited(), "other hosts are not held back")
		require.NoError(t, r.wait(t.Context(), "a"))
		require.Equal(t, 10*time.Second, waited())
		for _, total := range []time.Duration{30, 70, 110, 150} {
			r.refused("a", false)
			require.NoError(t, r.wait(t.Context(), "a"))
			require.Equal(t, total*time.Second, waited(), "the pause grows up to 40 s")
		}
		r.welcome("a")
		require.NoError(t, r.wait(t.Context(), "a"))
		require.True(t, r.refused("a", false), "a login that has worked before is tried again")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, r.wait(ctx, "a"), context.DeadlineExceeded)
	})
}

// OpenSSH adds 5 s for each refused login to what has not passed of those before, and locks out from 15 s on.
func TestLoginThatHasWorkedIsTriedAgainSoonAndStaysBelowWhatLocksOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r refusals
		r.welcome("a")
		began := time.Now()
		var times []int
		var penalty, last time.Duration
		for range moreTries + 4 {
			require.NoError(t, r.wait(t.Context(), "a"))
			now := time.Since(began)
			times = append(times, int(now.Round(time.Second).Seconds()))
			penalty = max(0, penalty-(now-last)) + 5*time.Second
			last = now
			require.Less(t, penalty, 10*time.Second)
			r.refused("a", false)
		}
		require.Equal(t, []int{0, 3, 7, 13, 23, 43, 83}, times)

		r.welcome("a")
		began = time.Now()
		require.True(t, r.refused("a", true))
		require.NoError(t, r.wait(t.Context(), "a"))
		require.Equal(t, 10*time.Second, time.Since(began).Round(time.Second), "who is locked out already waits longer")
	})
}

func TestKnownHostThatRefusesForAWhileIsTriedOnceMore(t *testing.T) {
	key, path := newKey(t)
	s := newServer(t)
	s.allow = []ssh.PublicKey{key.PublicKey()}
	s.serve()
	var dials atomic.Int64
	d := dialer(t, Config{ExtraIdentities: []string{path}, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}, s)
	d.refusals.welcome("root@" + s.addr)
	_, wrong := newKey(t)
	d.cfg.ExtraIdentities = []string{wrong}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := d.Dial(ctx, s.host())
	require.ErrorIs(t, err, context.DeadlineExceeded, "it waits before the second try")
	require.EqualValues(t, 1, dials.Load())
}
