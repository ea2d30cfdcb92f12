package cli_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process runs the command line as a process of its own.
type process struct {
	t      *testing.T
	state  string
	binary string // "" is that of the tests
}

func (p process) command(args ...string) *exec.Cmd {
	binary := p.binary
	if binary == "" {
		self, err := os.Executable()
		require.NoError(p.t, err)
		binary = self
	}
	cmd := exec.CommandContext(p.t.Context(), binary, args...)
	cmd.Args[0] = "pxrun" // by this name TestMain knows what to be
	cmd.Env = append(os.Environ(), "PXRUN_STATE_DIR="+p.state, "LC_ALL=C.UTF-8")
	return cmd
}

func (p process) run(args ...string) (out string, code int) {
	p.t.Helper()
	cmd := p.command(args...)
	var both bytes.Buffer
	cmd.Stdout, cmd.Stderr = &both, &both
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		p.t.Fatal(err)
	}
	return both.String(), status(cmd)
}

func (p process) must(args ...string) string {
	p.t.Helper()
	out, code := p.run(args...)
	require.Zero(p.t, code, "pxrun %s\n%s", strings.Join(args, " "), out)
	return out
}

// stopAt applies a site and sends a signal right after the n-th event that matters. It reports false when the run was
// over before, and how the process ended.
func (p process) stopAt(n int, signal syscall.Signal, site string) (stopped bool, code int) {
	p.t.Helper()
	cmd := p.command("apply", site, "--lab", "--auto-approve", "--json")
	out, err := cmd.StdoutPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, cmd.Start())
	events := bufio.NewReader(out)
	seen := 0
	for {
		line, err := events.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(p.t, err)
		var event struct {
			Type     string `json:"type"`
			Planning bool   `json:"planning"`
		}
		require.NoError(p.t, json.Unmarshal(line, &event), "%s", line)
		switch event.Type {
		case "change_started", "change_done", "step_started", "host_done":
			if event.Planning {
				continue
			}
			if seen++; seen == n+1 {
				stopped = true
				require.NoError(p.t, cmd.Process.Signal(signal))
			}
		}
	}
	_ = cmd.Wait() // the status says it
	return stopped, status(cmd)
}

// status is the exit status as a shell gives it: 128 and the signal for a process that was ended by one. An interrupt
// that comes after the last moment at which pxrun listens ends it like that too.
func status(cmd *exec.Cmd) int {
	if w, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

// crashSite is small, so that it can be stopped at every event.
const crashSite = `
host "a" { address = "198.51.100.81" }
host "b" { address = "198.51.100.82" }
runbook "crash" {
  hosts = [host.a, host.b]
  task "file" "one" {
    path    = "/etc/one"
    content = "one\n"
  }
  rolling "hosts" {
    over = [host.a, host.b]
    task "file" "two" {
      path    = "/etc/two"
      content = "two\n"
    }
  }
}
`

// TestStoppedAtEveryEvent interrupts and kills a run at each of its events. Whatever the moment, resume completes it and
// the next run finds nothing to do.
func TestStoppedAtEveryEvent(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"interrupted": syscall.SIGINT, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			site := filepath.Join(folder, "site.hcl")
			require.NoError(t, os.WriteFile(site, []byte(crashSite), 0o600))
			p := process{t: t, state: filepath.Join(folder, "state")}
			p.must("lab", "up", site, "--detach", "-q")
			defer p.run("lab", "down", site)
			for n := 0; ; n++ {
				require.Less(t, n, 100, "the run never ends")
				p.must("exec", "-q", "-i", site, "all", "--lab", "--", "rm -f /etc/one /etc/two")
				stopped, code := p.stopAt(n, signal, site)
				if !stopped {
					require.Zero(t, code)
					require.Greater(t, n, 8, "the run had too few events")
					return
				}
				if code != 0 { // the signal may come when all is done
					if signal == syscall.SIGINT {
						require.Equal(t, 130, code, "after event %d", n)
					}
					p.must("resume", "--auto-approve")
				}
				require.Contains(t, p.must("apply", site, "--lab", "--auto-approve"), "No changes.", "after event %d", n)
				require.Contains(t, p.must("exec", "-i", site, "all", "--lab", "--", "cat /etc/one /etc/two; ls -A /etc | grep -c pxrun || true"), "a, b\n  one\n  two\n  0\n", "after event %d", n)
			}
		})
	}
}

// TestSecondInterruptStopsAtOnce interrupts twice while a command sleeps for hours.
func TestSecondInterruptStopsAtOnce(t *testing.T) {
	folder := t.TempDir()
	site := filepath.Join(folder, "site.hcl")
	require.NoError(t, os.WriteFile(site, []byte(`
host "a" { address = "198.51.100.81" }
runbook "long" {
  hosts = host.a
  task "command" "sleep" { run = "sleep 36000" }
}
`), 0o600))
	p := process{t: t, state: filepath.Join(folder, "state")}
	cmd := p.command("apply", site, "--lab", "--lab-speed", "1", "--auto-approve", "--json")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	began := time.Now()
	interrupts := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch text := lines.Text(); {
		case strings.Contains(text, `"type":"change_started"`), strings.Contains(text, `"type":"interrupted","count":1`):
			interrupts++
			require.NoError(t, cmd.Process.Signal(os.Interrupt), fmt.Sprint(interrupts))
		}
	}
	_ = cmd.Wait()
	require.Equal(t, 130, status(cmd))
	require.Equal(t, 2, interrupts)
	require.Less(t, time.Since(began), 30*time.Second)
}
