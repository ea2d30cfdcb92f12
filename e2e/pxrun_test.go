//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// admin is somebody at the controller: a home with SSH's files, a site, and the program.
type admin struct {
	t    *testing.T
	home string
	env  []string
}

// newAdmin makes an admin who has the key that opens hosts and knows these hosts' keys.
func newAdmin(t *testing.T, known ...*host) *admin {
	t.Helper()
	a := &admin{t: t, home: t.TempDir()}
	a.write(".ssh/id_ed25519", land.key.private)
	a.write(".ssh/id_ed25519.pub", land.key.public)
	a.trust(known...)
	return a
}

// newStranger makes an admin without keys.
func newStranger(t *testing.T, known ...*host) *admin {
	t.Helper()
	a := &admin{t: t, home: t.TempDir()}
	a.trust(known...)
	return a
}

// trust writes the keys of hosts into known_hosts.
func (a *admin) trust(hosts ...*host) {
	a.t.Helper()
	lines := ""
	for _, h := range hosts {
		for _, address := range h.on {
			lines += address + " " + h.hostKey.public
		}
	}
	a.write(".ssh/known_hosts", lines)
}

// path is a file of the admin's home.
func (a *admin) path(name string) string { return filepath.Join(a.home, name) }

// write writes a file of the admin's home.
func (a *admin) write(name, content string) {
	a.t.Helper()
	require.NoError(a.t, os.MkdirAll(filepath.Dir(a.path(name)), 0o700))
	require.NoError(a.t, os.WriteFile(a.path(name), []byte(content), 0o600))
}

// read reads a file of the admin's home.
func (a *admin) read(name string) string {
	a.t.Helper()
	data, err := os.ReadFile(a.path(name))
	require.NoError(a.t, err)
	return string(data)
}

// site writes site.hcl: hosts, and then what is given. A host's ssh block is empty unless settings are given under its name.
func (a *admin) site(hosts []*host, rest string) {
	a.t.Helper()
	var b strings.Builder
	for _, h := range hosts {
		fmt.Fprintf(&b, "host %q { address = %q }\n", h.name, h.address)
	}
	a.write("site.hcl", b.String()+rest)
}

// result is how a command ended.
type result struct {
	t              *testing.T
	line           string
	stdout, stderr string
	exit           int
	took           time.Duration
}

// command prepares any program in the controller's namespace, as this admin.
func (a *admin) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", controller, name}, args...)...)
	cmd.Dir = a.home
	cmd.Env = append([]string{"HOME=" + a.home, "PATH=" + os.Getenv("PATH"), "XDG_STATE_HOME=" + a.path("state"), "LANG=C.UTF-8", "USER=root"}, a.env...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// pxrun runs the program to its end, whatever that is.
func (a *admin) pxrun(args ...string) result {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := a.command(ctx, land.binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	if cmd.ProcessState == nil {
		require.NoError(a.t, err)
	}
	require.NoError(a.t, ctx.Err(), "pxrun %s does not end\n%s%s", strings.Join(args, " "), &stdout, &stderr)
	return result{t: a.t, line: "pxrun " + strings.Join(args, " "), stdout: stdout.String(), stderr: stderr.String(), exit: cmd.ProcessState.ExitCode(), took: time.Since(began)}
}

// text is all that was printed.
func (r result) text() string { return r.stdout + r.stderr }

// exits demands an exit status.
func (r result) exits(status int) result {
	r.t.Helper()
	require.Equal(r.t, status, r.exit, "%s\n%s", r.line, r.text())
	return r
}

// says demands words in what was printed, wherever lines were broken.
func (r result) says(words ...string) result {
	r.t.Helper()
	flat := strings.Join(strings.Fields(r.text()), " ")
	for _, w := range words {
		require.Contains(r.t, flat, w, "%s\n%s", r.line, r.text())
	}
	return r
}

// hides demands that words were not printed.
func (r result) hides(words ...string) result {
	r.t.Helper()
	for _, w := range words {
		require.NotContains(r.t, r.text(), w, r.line)
	}
	return r
}

// apply applies site.hcl, which must succeed, and demands that a second run changes nothing.
func (a *admin) apply(args ...string) result {
	a.t.Helper()
	first := a.pxrun(append([]string{"apply", "site.hcl", "--auto-approve"}, args...)...).exits(0)
	a.unchanged(args...)
	return first
}

// unchanged demands that there is nothing to do.
func (a *admin) unchanged(args ...string) {
	a.t.Helper()
	a.pxrun(append([]string{"plan", "site.hcl", "--detailed-exitcode"}, args...)...).exits(0)
	a.pxrun(append([]string{"apply", "site.hcl", "--auto-approve"}, args...)...).exits(0).says("No changes")
}

// exec runs a command on hosts of the site.
func (a *admin) exec(hosts string, command ...string) result {
	a.t.Helper()
	return a.pxrun(append([]string{"exec", "-i", "site.hcl", hosts, "--"}, command...)...)
}

// event is a line of the event stream; fields of types that tests don't ask for are left out.
type event struct {
	Type, Step, Host, Status, Error, Line, Run string
	Change                                     struct{ ID, Summary, Action string }
}

// events reads the event stream that was printed.
func (r result) events() []event {
	r.t.Helper()
	var all []event
	for s := bufio.NewScanner(strings.NewReader(r.stdout)); s.Scan(); {
		var e event
		require.NoError(r.t, json.Unmarshal(s.Bytes(), &e), "%s", s.Text())
		all = append(all, e)
	}
	return all
}

// only keeps the events of one type.
func only(all []event, kind string) []event {
	var some []event
	for _, e := range all {
		if e.Type == kind {
			some = append(some, e)
		}
	}
	return some
}

// grep looks for a word in all files of a folder.
func grep(t *testing.T, dir, word string) (file string, found bool) {
	t.Helper()
	looked := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		looked++
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(word)) {
			file, found = path, true
		}
		return err
	}))
	require.NotZero(t, looked, "%s is empty", dir)
	return file, found
}

// process is a pxrun that is still running.
type process struct {
	*exec.Cmd
	t              *testing.T
	stdout, stderr transcript
	ended          chan struct{}
}

// start starts pxrun. It is gone when the test ends.
func (a *admin) start(args ...string) *process {
	a.t.Helper()
	p := &process{Cmd: a.command(context.Background(), land.binary, args...), t: a.t, ended: make(chan struct{})}
	p.Stdout, p.Stderr = &p.stdout, &p.stderr
	require.NoError(a.t, p.Start())
	go func() {
		defer close(p.ended)
		_ = p.Wait()
	}()
	a.t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.ended
	})
	return p
}

// transcript is what a process prints, to be read while it still prints.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// await waits until the process has printed a text.
func (p *process) await(text string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return strings.Contains(p.stdout.String()+p.stderr.String(), text) }, 30*time.Second, 10*time.Millisecond, "it does not say %q", text)
}

// end waits for the end of the process.
func (p *process) end() result {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(90 * time.Second):
		_ = p.Process.Kill()
		<-p.ended
		require.Fail(p.t, "it does not end", "%s\n%s%s", p.Cmd, &p.stdout, &p.stderr)
	}
	return result{t: p.t, line: p.Cmd.String(), stdout: p.stdout.String(), stderr: p.stderr.String(), exit: p.ProcessState.ExitCode()}
}
