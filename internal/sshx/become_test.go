package sshx

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

// fakeSudo behaves like sudo with -S, -n and -p: it asks on stderr, reads a line byte by byte and marks what it runs.
const fakeSudo = `#!/bin/sh
n= p=
while :; do case $1 in
-n) n=1; shift;; -S) shift;; -H) shift;; -p) p=$2; shift 2;; --) shift; break;; *) break;;
esac; done
case $SUDO_MODE in
free) ;;
refuse) echo "me is not in the sudoers file." >&2; exit 1;;
*)
	if [ -n "$n" ]; then echo "sudo: a password is required" >&2; exit 1; fi
	for try in 1 2 3; do
		printf %s "$p" >&2
		IFS= read -r w || exit 1
		[ "$w" = sesame ] && break
		echo "Sorry, try again." >&2
		[ $try = 3 ] && exit 1
	done;;
esac
ROOT=yes; export ROOT
exec "$@"
`

func sudoServer(t *testing.T, mode string) *server {
	t.Helper()
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "sudo"), []byte(fakeSudo), 0o755))
	s := newServer(t)
	s.env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "SUDO_MODE=" + mode}
	return s.serve()
}

func TestBecomeRunsEverythingThroughSudo(t *testing.T) {
	for name, tt := range map[string]struct{ mode, password string }{
		"without a password":        {"free", ""},
		"password asked":            {"ask", "sesame"},
		"password known, not asked": {"free", "sesame"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sudoServer(t, tt.mode)
			h := s.host()
			h.SSH.Become = inventory.Become{Method: "sudo", Password: secret.New(tt.password)}
			c := connectTo(t, dialer(t, Config{}, s), h)
			large := bytes.Repeat([]byte("x\x00"), 100_000)
			results, err := c.Batch(t.Context(), []transport.Command{
				{Script: "echo $ROOT; cat", Stdin: []byte("in")},
				{Script: "echo $ROOT", Own: true},
				{Script: "echo $ROOT; wc -c", Stdin: large},
				{Argv: []string{"echo", "sesame"}},
			})
			require.NoError(t, err)
			require.Equal(t, "yes\nin", results[0].Out())
			require.Equal(t, "yes", results[1].Out())
			require.Equal(t, "yes\n200000", results[2].Out())
			require.Equal(t, "sesame", results[3].Out())
			for _, r := range results {
				require.Empty(t, r.Stderr)
			}
			path := filepath.Join(t.TempDir(), "f")
			require.NoError(t, c.Put(t.Context(), transport.File{Path: path, Content: bytes.NewReader(large), Size: int64(len(large))}))
			var back bytes.Buffer
			require.NoError(t, c.Get(t.Context(), path, &back))
			require.True(t, bytes.Equal(large, back.Bytes()))
			for _, e := range s.execs {
				require.NotContains(t, e, "sesame", "no password in an argument")
			}
		})
	}
}

func TestSudoRefusalIsExplained(t *testing.T) {
	for name, tt := range map[string]struct{ mode, password, text, hint string }{
		"password needed":            {"ask", "", "a password is required", "set become"},
		"wrong password":             {"ask", "guess", "try again", "the become password is wrong"},
		"not allowed":                {"refuse", "", "not in the sudoers file", "group sudo"},
		"not allowed, with password": {"refuse", "sesame", "not in the sudoers file", "group sudo"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sudoServer(t, tt.mode)
			h := s.host()
			h.SSH.Become = inventory.Become{Method: "sudo", Password: secret.New(tt.password)}
			c := connectTo(t, dialer(t, Config{}, s), h)
			for _, own := range []bool{false, true} {
				_, err := c.Run(t.Context(), transport.Command{Argv: []string{"id"}, Mutates: true, Own: own})
				var e *transport.UnreachableError
				require.ErrorAs(t, err, &e)
				require.Equal(t, "become", e.Phase)
				require.ErrorContains(t, e, tt.text)
				require.Contains(t, e.Hint, tt.hint)
				require.NotContains(t, e.Error(), "guess")
			}
		})
	}
}

func TestTimeoutUnderSudoKillsAsRoot(t *testing.T) {
	s := sudoServer(t, "ask")
	s.noSignal = true // sshd may not signal what belongs to root
	h := s.host()
	h.SSH.Become = inventory.Become{Method: "sudo", Password: secret.New("sesame")}
	c := connectTo(t, dialer(t, Config{}, s), h)
	run(t, c, transport.Command{Argv: []string{"true"}})
	_, err := c.Run(t.Context(), transport.Command{Argv: []string{"sleep", "600"}, Timeout: 50 * time.Millisecond})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, "ok", run(t, c, transport.Command{Argv: []string{"echo", "ok"}}).Out())
}
