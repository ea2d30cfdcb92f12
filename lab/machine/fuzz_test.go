package machine_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/machine"
)

// FuzzShell feeds arbitrary scripts to sh: it must neither panic nor outlive its context, whatever it is told.
func FuzzShell(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/scripts.txtar")
	require.NoError(f, err)
	for _, file := range archive.Files {
		f.Add(string(file.Data))
	}
	for _, script := range []string{
		":(){ :|:& };:", "x=a; while :; do x=$x$x; done", "f() { echo $(f); }; f", "cat /dev/zero | sort", "printf %999999999s x", "yes >f", "while :; do :; done",
		"trap 'kill $$' TERM; kill $$", "exec 0<&-; read x", "echo ${x:${y:=", "((", "$((1/0))", "cat <<E", "eval 'eval \"exit 3\"'", "set -- $(seq 9999); echo ${99}", "exec 200>x; echo >&200",
	} {
		f.Add(script)
	}
	c := clock.New(1000)
	m := machine.New(machine.Options{Name: "fuzz", Clock: c, Disk: 4 << 20})
	f.Cleanup(func() {
		c.Close()
		m.Close()
	})
	f.Fuzz(func(t *testing.T, script string) {
		if len(script) > 2000 || strings.Contains(script, "reboot") || strings.Contains(script, "poweroff") || strings.Contains(script, "halt") || strings.Contains(script, "shutdown") {
			t.Skip("too long, or would switch the machine off under the next input")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		done := make(chan string, 1)
		go func() {
			var errs strings.Builder
			m.Exec(ctx, machine.Proc{Argv: []string{"sh"}, Dir: "/tmp", Stdin: strings.NewReader(script), Stdout: io.Discard, Stderr: &limited{&errs}})
			done <- errs.String()
		}()
		select {
		case errs := <-done:
			require.NotContains(t, errs, "internal error of the simulated program")
		case <-time.After(20 * time.Second):
			t.Fatal("the shell outlived its context")
		}
		for _, p := range m.Processes() {
			m.Kill(p.PID, machine.SIGKILL)
		}
	})
}

// limited keeps the beginning of what is written.
type limited struct{ to *strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if l.to.Len() < 1<<20 {
		l.to.Write(p)
	}
	return len(p), nil
}
