//go:build e2e

package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Limits of waiting for what a host does.
const (
	waitLimit = 30 * time.Second
	poll      = 10 * time.Millisecond
)

const webUnit = `[Unit]
Description=A service of a test
[Service]
ExecStart=/bin/sh -c 'echo start >>/run/web; exec sleep infinity'
ExecReload=/bin/sh -c 'echo reload >>/run/web'
[Install]
WantedBy=e2e.target
`

func TestServices(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "app", files: map[string]string{
		"/etc/systemd/system/web.service":    webUnit,
		"/etc/systemd/system/broken.service": "[Service]\nExecStart=/bin/false\n",
	}})
	a := newAdmin(t, h)
	service := func(lines string) {
		a.site([]*host{h}, "runbook \"r\" {\n  hosts = host.app\n  task \"service\" \"web\" {\n"+lines+"\n  }\n}\n")
	}
	state := func() string {
		out, _ := h.try("systemctl is-active web; systemctl is-enabled web")
		return strings.Join(strings.Fields(out), " ")
	}
	service("name = \"web\"\n state = \"started\"\n enabled = true")
	a.pxrun("plan", "site.hcl", "--detailed-exitcode").exits(2)
	require.Equal(t, "inactive disabled", state())
	a.apply()
	require.Equal(t, "active enabled", state())

	h.sh("systemctl kill --signal=KILL --wait web 2>/dev/null || systemctl kill --signal=KILL web")
	require.Eventually(t, func() bool { return strings.HasPrefix(state(), "failed") }, waitLimit, poll)
	a.apply()
	require.Equal(t, "start\nstart\n", h.read("/run/web"))

	service("name = \"web\"\n state = \"reloaded\"")
	a.pxrun("apply", "site.hcl", "--auto-approve").exits(0)
	require.Equal(t, "start\nstart\nreload\n", h.read("/run/web"))

	// A unit file that changed is read before the restart.
	h.write("/etc/systemd/system/web.service", strings.Replace(webUnit, "echo start", "echo changed", 1))
	service("name = \"web.service\"\n state = \"restarted\"")
	a.pxrun("apply", "site.hcl", "--auto-approve").exits(0)
	require.Equal(t, "start\nstart\nreload\nchanged\n", h.read("/run/web"))

	service("name = \"web\"\n state = \"stopped\"\n enabled = false")
	a.apply()
	require.Equal(t, "inactive disabled", state())

	service("name = \"broken\"\n state = \"started\"") // its start succeeds, and then it is gone
	a.pxrun("apply", "site.hcl", "--auto-approve").exits(1).says("broken.service failed after start")
	service("name = \"nowhere\"\n state = \"started\"")
	a.pxrun("apply", "site.hcl", "--auto-approve").exits(1).says("nowhere.service")
	h.sh("rm /etc/systemd/system/web.service; systemctl mask web")
	service("name = \"web\"\n state = \"started\"")
	a.pxrun("apply", "site.hcl", "--auto-approve").exits(1).says("masked")
	service("name = \"ssh\"\n state = \"stopped\"")
	a.pxrun("apply", "site.hcl", "--auto-approve").exits(6).says("ssh")
	require.Equal(t, "active\n", h.sh("systemctl is-active ssh"))
}

func TestPackageItsFileAndItsService(t *testing.T) {
	t.Parallel()
	h, a := debian(t)
	h.publish("Package: e2e-web\nVersion: 1.0\n--\ncat >/lib/systemd/system/e2e-web.service <<'EOF'\n" + webUnit + "EOF\nsystemctl daemon-reload")
	a.site([]*host{h}, `
runbook "r" {
  hosts = host.app
  task "package" "web" { names = ["e2e-web"] }
  task "file" "config" {
    path    = "/etc/e2e-web.conf"
    content = "listen = ${self.address}\n"
  }
  task "service" "running" {
    name    = "e2e-web"
    state   = "started"
    enabled = true
  }
  task "service" "again" {
    name  = "e2e-web"
    state = "reloaded"
    when  = task.config.changed && !task.running.changed
  }
  task "wait_for" "up" {
    service = "e2e-web"
    path    = "/run/web"
  }
}
`)
	a.pxrun("plan", "site.hcl").exits(0).says("e2e-web", "may bring it")
	a.apply()
	require.Equal(t, "start\n", h.read("/run/web"))
	h.write("/etc/e2e-web.conf", "drift\n")
	a.apply()
	require.Equal(t, "start\nreload\n", h.read("/run/web"))
}

// detached is a command that waits for /run/go in a unit of its own.
const detached = `
runbook "r" {
  hosts = host.app
  task "command" "work" {
    run     = "echo $$ >>/run/work; echo begun; until test -e /run/go; do sleep 0.05; done; echo finished; touch /run/done"
    creates = "/run/done"
    detach  = true
  }
  task "file" "after" {
    path    = "/etc/after"
    content = "x"
  }
}
`

func TestDetachedCommandSurvivesALostConnection(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "app"})
	a := newAdmin(t, h)
	a.site([]*host{h}, detached)
	p := a.start("apply", "site.hcl", "--auto-approve", "-v")
	h.awaitFile("/run/work")
	require.Contains(t, h.sh("systemctl list-units --plain --no-legend 'pxrun-*'"), "running")
	h.cutSessions()
	h.sh("systemctl restart ssh")
	h.write("/run/go", "")
	p.end().exits(0).says("finished")
	require.Equal(t, 1, strings.Count(h.read("/run/work"), "\n"))
	require.Equal(t, "x", h.read("/etc/after"))
	require.Empty(t, h.sh("ls -A /run/pxrun; systemctl list-units --plain --no-legend 'pxrun-*'"), "the job left something behind")
	a.unchanged()
}

func TestDetachedCommandIsFoundAgainAfterKill(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "app"})
	a := newAdmin(t, h)
	a.site([]*host{h}, detached)
	first := a.start("apply", "site.hcl", "--auto-approve")
	h.awaitFile("/run/work")
	require.NoError(t, first.Process.Signal(syscall.SIGKILL))
	<-first.ended
	second := a.start("resume", "--auto-approve")
	require.Eventually(t, func() bool { return strings.Count(h.read("/var/log/sshd.log"), "Accepted publickey") > 1 }, waitLimit, poll)
	h.write("/run/go", "")
	second.end().exits(0)
	require.Equal(t, 1, strings.Count(h.read("/run/work"), "\n"), "the job was started twice")
	require.Equal(t, "x", h.read("/etc/after"))
	a.unchanged()
	a.pxrun("resume", "--auto-approve").says("no run") // nothing is left to resume
}

func TestPackageInstallationIsFoundAgainAfterKill(t *testing.T) {
	t.Parallel()
	h, a := debian(t)
	h.publish("Package: e2e-slow\nVersion: 1.0\n--\necho $$ >>/run/work; until test -e /run/go; do sleep 0.05; done; touch /run/done")
	a.site([]*host{h}, packages("present", "e2e-slow"))
	first := a.start("apply", "site.hcl", "--auto-approve")
	h.awaitFile("/run/work")
	require.NoError(t, first.Process.Signal(syscall.SIGKILL))
	<-first.ended
	_, gone := h.try("pgrep dpkg")
	require.Zero(t, gone, "dpkg was cut off")
	second := a.start("resume", "--auto-approve")
	require.Eventually(t, func() bool { return strings.Count(h.read("/var/log/sshd.log"), "Accepted publickey") > 1 }, waitLimit, poll)
	h.write("/run/go", "")
	second.end().exits(0)
	require.Equal(t, 1, strings.Count(h.read("/run/work"), "\n"), "the package was configured twice")
	require.Contains(t, h.sh("dpkg -l e2e-slow"), "ii  e2e-slow")
	a.unchanged()
}
