package machine_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab/machine"
)

// outcome is what a script did.
type outcome struct {
	stdout, stderr string
	code           int
}

// simulated runs a script with the machine's sh in an empty folder.
func simulated(t *testing.T, m *machine.Machine, script string) outcome {
	t.Helper()
	require.NoError(t, m.FS.RemoveAll("/w"))
	require.NoError(t, m.FS.Mkdir("/w", 0o755))
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	code := m.Exec(ctx, machine.Proc{
		Argv: []string{"sh"}, Dir: "/w", Stdin: strings.NewReader(script), Stdout: &out, Stderr: &errs,
		Env: map[string]string{"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "/root"},
	})
	require.NoError(t, ctx.Err(), "the script did not end")
	return outcome{out.String(), errs.String(), code}
}

// real runs a script with this computer's dash in an empty folder.
func real(t *testing.T, script string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, "dash")
	c.Args[0] = "sh"
	c.Dir, c.Stdin, c.Stdout, c.Stderr = t.TempDir(), strings.NewReader(script), &out, &errs
	c.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=/root"}
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{out.String(), errs.String(), c.ProcessState.ExitCode()}
}

// sections of the archive that only compare standard output and status: their messages come from elsewhere.
var looseErrors = regexp.MustCompile(`^(gnu|loose)-`)

// TestScriptsDoWhatDashDoes runs each script of testdata/scripts.txtar here and there.
func TestScriptsDoWhatDashDoes(t *testing.T) {
	if _, err := exec.LookPath("dash"); err != nil {
		t.Skip("this computer has no dash to compare with")
	}
	archive, err := txtar.ParseFile("testdata/scripts.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, archive.Files)
	m := machine.New(machine.Options{Name: "pve1"})
	defer m.Close()
	os.Unsetenv("ENV")
	for _, file := range archive.Files {
		t.Run(file.Name, func(t *testing.T) {
			script := string(file.Data)
			got, want := simulated(t, m, script), real(t, script)
			require.Equal(t, want.stdout, got.stdout, "standard output; standard error was:\n%s", got.stderr)
			require.Equal(t, want.code, got.code, "exit status")
			if !looseErrors.MatchString(file.Name) {
				require.Equal(t, want.stderr, got.stderr, "standard error")
			}
		})
	}
}
