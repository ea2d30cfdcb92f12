//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// cutSessions kills the server's processes of all open connections; what they have started goes on.
func (h *host) cutSessions() { h.sh("pkill -KILL -f '^sshd: root@'") }

// waits for a file on the host.
func (h *host) awaitFile(path string) {
	h.t.Helper()
	require.Eventually(h.t, func() bool { _, err := os.Stat(h.path(path)); return err == nil }, 30*time.Second, 10*time.Millisecond, "no %s on %s", path, h.name)
}

func TestNoisyLoginsAreReadPast(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{
		name: "noisy", sshd: "Banner /etc/banner\nPrintMotd yes\n",
		files: map[string]string{
			"/etc/banner":    strings.Repeat("Authorised use only! ünïcødé\n", 50),
			"/root/.bashrc":  "yes 'welcome to bash' | head -n 3000\necho 'and an error' >&2\nprintf '\\001pxrun-0123456789abcdef 0\\n'\nexport LC_ALL=xx_YY\nalias cat=false\ncd /tmp\n",
			"/root/.profile": "echo profile\n",
		},
	})
	a := newAdmin(t, h)
	a.site([]*host{h}, `
runbook "r" {
  hosts = host.noisy
  task "command" "look" {
    run       = "pwd; cat /etc/hostname; echo $LC_ALL"
    read_only = true
  }
  task "file" "note" {
    path    = "/etc/note"
    content = task.look.results[self.name].stdout
  }
}
`)
	a.apply()
	require.Contains(t, h.read("/etc/note"), "\nnoisy\nC")
	require.NotContains(t, h.read("/etc/note"), "welcome")
}

func TestLoginShells(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "app", setup: `
for user in csh:/bin/tcsh no:/usr/sbin/nologin; do
	useradd -m -s "${user#*:}" "${user%:*}"
	install -d -o "${user%:*}" -m 700 "/home/${user%:*}/.ssh"
	install -o "${user%:*}" -m 600 /root/.ssh/authorized_keys "/home/${user%:*}/.ssh/"
done
echo 'csh ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/e2e
echo 'echo hello from csh' >/home/csh/.cshrc
`})
	a := newAdmin(t, h)
	runbook := `
runbook "r" {
  hosts = host.app
  task "file" "note" {
    path    = "/etc/it's a !note"
    content = "a!b\n'c' \"d\" $e\n"
  }
  task "script" "more" {
    content = "set -eu\necho \"$1\" >/etc/more"
    args    = ["!! it's ~ *"]
    creates = "/etc/more"
  }
}
`
	a.write("site.hcl", h.block(`user = "csh"`, `become {}`)+runbook)
	a.apply()
	require.Equal(t, "a!b\n'c' \"d\" $e\n", h.read("/etc/it's a !note"))
	require.Equal(t, "!! it's ~ *\n", h.read("/etc/more"))
	a.write("site.hcl", h.block(`user = "no"`)+runbook)
	a.pxrun("plan", "site.hcl").exits(4).says("app", "This account is currently not available")
}

func TestFewSessions(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "app", sshd: "MaxSessions 2\n"})
	single := newHost(t, hostSpec{name: "single", sshd: "MaxSessions 1\n"})
	a := newAdmin(t, h, single)
	var tasks strings.Builder
	for i := range 8 {
		fmt.Fprintf(&tasks, "    task \"command\" \"c%d\" {\n      run = \"sleep 0.2; echo %d >/run/c%d\"\n      creates = \"/run/c%d\"\n    }\n", i, i, i, i)
	}
	a.site([]*host{h, single}, "runbook \"r\" {\n  hosts = [host.app, host.single]\n  parallel {\n"+tasks.String()+"  }\n}\n")
	a.apply()
	require.Equal(t, "8\n", h.sh("ls /run/c? | wc -l"))
	require.Equal(t, "8\n", single.sh("ls /run/c? | wc -l"))
}

func TestServerThatTakesNoMoreLogins(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "busy", sshd: "MaxStartups 1:100:1\nLoginGraceTime 60\n"})
	a := newAdmin(t, h)
	a.site([]*host{h}, "")
	// Somebody else is about to log in.
	h.sh(`systemd-run --quiet --unit other /bin/bash -c 'exec 3<>/dev/tcp/127.0.0.1/22; read -r line <&3; touch /run/connected; sleep 60'`)
	h.awaitFile("/run/connected")
	a.exec("busy", "hostname").exits(4).says("busy")
	h.sh("systemctl stop other")
	require.Eventually(t, func() bool { return a.exec("busy", "hostname").exit == 0 }, 20*time.Second, 100*time.Millisecond)
}

func TestUnreachableHosts(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "fine", "refusing", "dropping", "stopped", "gone")
	a := newAdmin(t, hosts...)
	hosts[1].sh("systemctl stop ssh")
	hosts[2].sh("nft add table inet f; nft 'add chain inet f i { type filter hook input priority 0; }'; nft add rule inet f i tcp dport 22 drop")
	hosts[3].sh("kill -STOP $(cat /run/sshd.pid)") // the kernel takes the connection, nobody speaks
	hosts[4].sh("ip link set eth0 down")
	a.site(hosts, `
ssh { connect_timeout = "2s" }
runbook "r" {
  hosts = [host.fine, host.refusing, host.dropping, host.stopped, host.gone]
  task "file" "note" {
    path    = "/etc/note"
    content = "x"
  }
}
`)
	r := a.exec("all", "hostname").exits(5).says("fine", "refusing", "connection refused", "dropping", "stopped", "gone")
	require.Less(t, r.took, 15*time.Second)
	r = a.pxrun("apply", "site.hcl", "--auto-approve", "--json").exits(4)
	require.Less(t, r.took, 30*time.Second)
	_, exit := hosts[0].try("test -e /etc/note")
	require.NotZero(t, exit, "a run began although hosts are away")
	hosts[1].sh("systemctl start ssh")
	hosts[2].sh("nft delete table inet f")
	hosts[3].sh("kill -CONT $(cat /run/sshd.pid)")
	hosts[4].sh("ip link set eth0 up")
	a.apply()
}

func TestLostConnectionWhileReading(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "app"})
	a := newAdmin(t, h)
	a.site([]*host{h}, `
runbook "r" {
  hosts = host.app
  task "command" "look" {
    run       = "echo $$ >>/run/looks; until test -e /run/go; do sleep 0.05; done; echo seen"
    read_only = true
  }
}
`)
	p := a.start("plan", "site.hcl", "--detailed-exitcode")
	h.awaitFile("/run/looks")
	h.cutSessions()
	h.write("/run/go", "")
	p.end().exits(0)
	require.Equal(t, 2, strings.Count(h.read("/run/looks"), "\n"), "a read that was cut off is made again, once")
}

func TestLostConnectionWhileChanging(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "cut", "fine")
	a := newAdmin(t, hosts...)
	a.site(hosts, `
runbook "r" {
  hosts = [host.cut, host.fine]
  task "command" "work" {
    run     = "echo $$ >>/run/work; until test -e /run/go; do sleep 0.05; done; touch /run/done"
    creates = "/run/done"
    retry {
      attempts = 3
      delay    = "100ms"
    }
  }
  task "file" "after" {
    path    = "/etc/after"
    content = "x"
  }
}
`)
	p := a.start("apply", "site.hcl", "--auto-approve")
	hosts[0].awaitFile("/run/work")
	hosts[1].awaitFile("/run/work")
	hosts[0].cutSessions()
	hosts[1].write("/run/go", "")
	p.end().exits(5).says("cut", "its outcome is not known")
	require.Equal(t, 1, strings.Count(hosts[0].read("/run/work"), "\n"), "a change that was cut off was made again")
	_, exit := hosts[1].try("test -e /etc/after")
	require.NotZero(t, exit, "the run went on")
	hosts[0].write("/run/go", "") // it went on by itself, as commands do
	hosts[0].awaitFile("/run/done")
	a.pxrun("resume", "--auto-approve").exits(0)
	require.Equal(t, 1, strings.Count(hosts[0].read("/run/work"), "\n"))
	require.Equal(t, "x", hosts[0].read("/etc/after"))
	a.unchanged()
}

func TestHostThatHangsInTheMiddle(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "app"})
	a := newAdmin(t, h)
	a.site([]*host{h}, `
runbook "r" {
  hosts = host.app
  task "command" "work" {
    run     = "touch /run/work; sleep 60; touch /run/done"
    creates = "/run/done"
    timeout = "3s"
  }
}
`)
	p := a.start("apply", "site.hcl", "--auto-approve")
	h.awaitFile("/run/work")
	h.sh("pkill -STOP -f '^sshd: root@'")
	began := time.Now()
	p.end().exits(1).says("app")
	require.Less(t, time.Since(began), 20*time.Second) // the time of the command, of what tries to end it, and of giving up the connection
}

func TestTwoRunsAtOnceAndAnInterrupt(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "app"})
	a, b := newAdmin(t, h), newAdmin(t, h)
	runbook := `
runbook "r" {
  hosts = host.app
  task "command" "work" {
    run     = "touch /run/work; until test -e /run/go; do sleep 0.05; done; touch /run/done"
    creates = "/run/done"
  }
  task "file" "after" {
    path    = "/etc/after"
    content = "x"
  }
}
`
	a.site([]*host{h}, runbook)
	b.site([]*host{h}, runbook)
	first := a.start("apply", "site.hcl", "--auto-approve")
	h.awaitFile("/run/work")
	b.pxrun("apply", "site.hcl", "--auto-approve").exits(6).says("app")

	// An interrupt lets the step end, and stops before the next one.
	require.NoError(t, first.Process.Signal(syscall.SIGINT))
	first.await("Interrupted")
	h.write("/run/go", "")
	first.end().exits(130)
	h.awaitFile("/run/done")
	_, exit := h.try("test -e /etc/after")
	require.NotZero(t, exit, "the run went on after the interrupt")
	b.apply()
}
