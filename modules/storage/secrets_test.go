package storage

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/stretchr/testify/require"
)

// A real shell hands the secrets over as pipes: what stands in for pvesm finds each where pvesm looks for it, byte for byte.
func TestSecretsReachTheProgramThroughPipes(t *testing.T) {
	bin := t.TempDir()
	fake := "#!/bin/sh\necho \"$@\"\nif [ -p /dev/stdin ]; then echo pipe; fi\nIFS= read -r p; printf '<%s>\\n' \"$p\"\n" +
		"case \" $* \" in *' /dev/fd/3 '*) if [ -p /dev/fd/3 ]; then echo pipe; fi; cat /dev/fd/3;; esac\nexit 7\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, "pvesm"), []byte(fake), 0o700)) //nolint:gosec // it is to be run
	key := "{\n  \"data\": \"a'b\\\\c%s $HOME\"\n}\n\n"
	for name, tt := range map[string]struct {
		secrets map[string]secret.String
		want    string
	}{
		"a password": {map[string]secret.String{"password": secret.New(` p\n'"$x `)}, "set pbs --nodes a --password\npipe\n< p\\n'\"$x >\n"},
		"a file":     {map[string]secret.String{"keyring": secret.New(key)}, "set pbs --nodes a --keyring /dev/fd/3\npipe\n<>\npipe\n" + key},
		"both":       {map[string]secret.String{"password": secret.New("x"), "encryption-key": secret.New(key)}, "set pbs --nodes a --encryption-key /dev/fd/3 --password\npipe\n<x>\npipe\n" + key},
	} {
		t.Run(name, func(t *testing.T) {
			c := command([]string{"set", "pbs"}, map[string]string{"nodes": "a"}, nil, tt.secrets)
			for _, arg := range append(c.Argv, c.Script) {
				require.NotContains(t, arg, key)
			}
			run := exec.CommandContext(context.WithoutCancel(t.Context()), "/bin/sh", append([]string{"-c", c.Script, "sh"}, c.Argv...)...)
			run.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
			run.Stdin = strings.NewReader(string(c.Stdin))
			out, err := run.Output()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			require.Equal(t, 7, exit.ExitCode(), "the program's own status is that of the command")
			require.Equal(t, tt.want, string(out))
		})
	}
}
