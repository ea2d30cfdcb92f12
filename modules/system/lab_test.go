package system_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/stretchr/testify/require"
)

// simulated is a connection to a machine of the lab, without SSH in between.
type simulated struct{ m *machine.Machine }

func (s simulated) Run(ctx context.Context, c transport.Command) (transport.Result, error) {
	argv := c.Argv
	if c.Script != "" {
		argv = append([]string{"sh", "-c", c.Script, "sh"}, c.Argv...)
	}
	env := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}
	maps.Copy(env, c.Env)
	var stdout, stderr bytes.Buffer
	exit := s.m.Exec(ctx, machine.Proc{Argv: argv, Env: env, Dir: "/root", Stdin: bytes.NewReader(c.Stdin), Stdout: &stdout, Stderr: &stderr})
	return transport.Result{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), Exit: exit}, ctx.Err()
}

func (s simulated) Batch(ctx context.Context, cs []transport.Command) ([]transport.Result, error) {
	var results []transport.Result
	for _, c := range cs {
		r, err := s.Run(ctx, c)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

func (s simulated) Put(ctx context.Context, f transport.File) error {
	text, err := io.ReadAll(f.Content)
	if err != nil {
		return err
	}
	mode := ""
	if f.Mode != 0 {
		mode = schema.FormatMode(f.Mode)
	}
	c := transport.Command{Script: `set -e; cat >"$1.tmp"; if [ -n "$2" ]; then chmod "$2" "$1.tmp"; fi; if [ "$3" != : ]; then chown "$3" "$1.tmp"; fi; mv -f "$1.tmp" "$1"`,
		Argv: []string{f.Path, mode, f.Owner + ":" + f.Group}, Stdin: text}
	r, err := s.Run(ctx, c)
	if err != nil {
		return err
	}
	return r.Err(c)
}

func (s simulated) Get(context.Context, string, io.Writer) error {
	return fmt.Errorf("not needed here")
}

func (s simulated) Close() error { return nil }

// TestModulesOnASimulatedDebian shows that what the modules say to a shell is understood by another one than this
// machine's, and that what they write is what the machine then has.
func TestModulesOnASimulatedDebian(t *testing.T) {
	m := machine.New(machine.Options{Name: "pve1", Seed: 1})
	defer m.Close()
	target := testkit.NewTarget(t, "pve1", simulated{m})
	sh := func(script string) string {
		t.Helper()
		r, err := simulated{m}.Run(t.Context(), transport.Command{Script: script})
		require.NoError(t, err)
		return strings.TrimSpace(string(r.Stdout) + string(r.Stderr))
	}
	for _, step := range []struct{ module, args, look, want string }{
		{"file", "path = \"/etc/issue.net\"\ncontent = \"hello\\n\"\nmode = \"0640\"\nowner = \"root\"\ngroup = \"root\"", "cat /etc/issue.net; stat -c '%a %U' /etc/issue.net", "hello\n640 root"},
		{"file", "path = \"/etc/issue.net\"\ncontent = \"other\\n\"\nbackup = true", "cat /etc/issue.net /etc/issue.net.pxrun~", "other\nhello"},
		{"file", "path = \"/srv/a/b\"\nstate = \"directory\"\nparents = true\nmode = \"0750\"", "stat -c %a /srv/a/b", "750"},
		{"file", "path = \"/srv/l\"\nstate = \"link\"\ntarget = \"/srv/a\"", "readlink /srv/l", "/srv/a"},
		{"file", "path = \"/srv/l\"\nstate = \"link\"\ntarget = \"/srv/a/b\"", "readlink /srv/l", "/srv/a/b"},
		{"file", "path = \"/srv/l\"\nstate = \"absent\"", "ls /srv", "a"},
		{"file", "path = \"/srv/secret\"\ncontent = secret.x", "cat /srv/secret; stat -c ' %a' /srv/secret", "s3cret-x 600"},
		{"command", "run = \"echo a >/srv/ran\"\ncreates = \"/srv/ran\"", "cat /srv/ran", "a"},
		{"command", "argv = [\"sh\", \"-c\", \"pwd >ran2; echo \\\"$@\\\" >>ran2\", \"x\", \"it's $HOME\"]\ndir = \"/srv\"\nunless = \"test -e /srv/ran2\"", "cat /srv/ran2", "/srv\nit's $HOME"},
		{"script", "content = \"printf '[%s]' \\\"$@\\\" >/srv/ran3\"\nargs = [\"a b\", \"\", \"-n\"]\ncreates = \"/srv/ran3\"", "cat /srv/ran3; ls /tmp", "[a b][][-n]"},
		{"script", "content = \"echo $- $1 >/srv/ran4\"\ninterpreter = [\"sh\", \"-e\"]\nargs = [\"x\"]\ncreates = \"/srv/ran4\"", "grep -c 'e.* x' /srv/ran4", "1"},
		{"service", "name = \"cron\"\nstate = \"stopped\"\nenabled = false", "systemctl is-active cron; systemctl is-enabled cron", "inactive\ndisabled"},
		{"service", "name = \"cron\"\nstate = \"started\"\nenabled = true", "systemctl is-active cron; systemctl is-enabled cron", "active\nenabled"},
		{"service", "name = \"cron\"\nstate = \"restarted\"", "systemctl is-active cron", "active"},
		{"wait_for", "path = \"/srv\"\nservice = \"cron\"\ncommand = \"test -d /srv\"", "true", ""},
	} {
		t.Run(step.module+" "+step.args, func(t *testing.T) {
			testkit.Converge(t, get(t, step.module), target, step.args)
			require.Equal(t, step.want, sh(step.look))
		})
	}
}
