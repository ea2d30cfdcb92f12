//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// publish makes packages with dpkg-deb and a repository of them with apt-ftparchive, in /srv/apt of a host. A package is
// its control fields and, after a line "--", shell for its postinst.
func (h *host) publish(packages ...string) {
	h.t.Helper()
	h.sh("rm -rf /srv/apt; mkdir -p /srv/apt")
	for i, p := range packages {
		control, postinst, _ := strings.Cut(p, "\n--\n")
		h.sh(fmt.Sprintf("mkdir -p /tmp/build%d/DEBIAN /tmp/build%d/usr/share/e2e", i, i))
		h.write(fmt.Sprintf("/tmp/build%d/DEBIAN/control", i), strings.TrimSpace(control)+"\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: made for a test\n")
		h.write(fmt.Sprintf("/tmp/build%d/DEBIAN/postinst", i), "#!/bin/sh\nset -e\n"+postinst+"\n")
		h.sh(fmt.Sprintf("chmod 755 /tmp/build%d/DEBIAN/postinst; dpkg-deb -Znone -b /tmp/build%d /srv/apt >/dev/null; rm -r /tmp/build%d", i, i, i))
	}
	h.sh("cd /srv/apt && apt-ftparchive packages . >Packages && apt-ftparchive release . >Release")
}

// debian starts a host that knows no packages but its own repository.
func debian(t *testing.T) (*host, *admin) {
	t.Helper()
	h := newHost(t, hostSpec{name: "app", files: map[string]string{"/etc/apt/sources.list": "deb [trusted=yes] file:/srv/apt ./\n"},
		setup: "rm -rf /etc/apt/sources.list.d /var/lib/apt/lists; mkdir -p /var/lib/apt/lists/partial; touch -d '1 day ago' /var/lib/apt/lists /etc/apt/sources.list"})
	return h, newAdmin(t, h)
}

func packages(state string, names ...string) string {
	return fmt.Sprintf(`
runbook "r" {
  hosts = host.app
  task "package" "tools" {
    names = [%q]
    state = %q
  }
}
`, strings.Join(names, `", "`), state)
}

func TestPackages(t *testing.T) {
	t.Parallel()
	h, a := debian(t)
	h.publish("Package: e2e-tool\nVersion: 1.0\nDepends: e2e-lib\n--\necho configured >>/run/tool", "Package: e2e-lib\nVersion: 1.0")
	installed := func() string {
		out, _ := h.try(`dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\n' 'e2e-*' 2>/dev/null`)
		return out
	}

	a.site([]*host{h}, packages("present", "e2e-tool"))
	a.pxrun("plan", "site.hcl", "--detailed-exitcode").exits(2)
	require.Empty(t, installed(), "planning has installed")
	a.apply()
	require.Equal(t, "ii  e2e-lib 1.0\nii  e2e-tool 1.0\n", installed())

	// A newer version matters to latest alone.
	h.publish("Package: e2e-tool\nVersion: 1.1\nDepends: e2e-lib\n--\necho configured >>/run/tool", "Package: e2e-lib\nVersion: 1.0")
	h.sh("apt-get update -qq")
	a.unchanged()
	a.site([]*host{h}, packages("latest", "e2e-tool"))
	a.pxrun("plan", "site.hcl").exits(0).says("1.0", "1.1")
	a.apply()
	require.Equal(t, "ii  e2e-lib 1.0\nii  e2e-tool 1.1\n", installed())
	require.Equal(t, "configured\nconfigured\n", h.read("/run/tool"))

	a.site([]*host{h}, packages("absent", "e2e-lib"))
	a.pxrun("plan", "site.hcl").exits(0).says("e2e-tool") // what goes with it is shown
	a.apply()
	require.NotContains(t, installed(), "ii ")
}

func TestPackagesThatCannotBeHad(t *testing.T) {
	t.Parallel()
	h, a := debian(t)
	h.publish("Package: e2e-good\nVersion: 1", "Package: e2e-bad\nVersion: 1\n--\necho 'no luck today' >&2; exit 3", "Package: e2e-lost\nVersion: 1\nDepends: e2e-nowhere")

	a.site([]*host{h}, packages("present", "e2e-unknown"))
	a.pxrun("apply", "site.hcl", "--auto-approve").says("app", "e2e-unknown")
	a.site([]*host{h}, packages("present", "e2e-lost"))
	r := a.pxrun("apply", "site.hcl", "--auto-approve").says("e2e-nowhere")
	require.Contains(t, []int{1, 5}, r.exit, r.text())

	a.site([]*host{h}, packages("present", "e2e-bad"))
	a.pxrun("apply", "site.hcl", "--auto-approve").says("app", "e2e-bad", "exit 100")
	h.sh("dpkg --purge --force-all e2e-bad")

	// A repository that is away.
	h.sh("mv /srv/apt /srv/away")
	h.sh("find /var/lib/apt/lists -type f -delete; touch -d '2 hours ago' /var/lib/apt/lists")
	a.site([]*host{h}, packages("present", "e2e-good"))
	r = a.pxrun("apply", "site.hcl", "--auto-approve").says("app")
	require.Contains(t, []int{1, 5}, r.exit, r.text())
	h.sh("mv /srv/away /srv/apt")
	a.apply()
}

func TestPackagesWaitForTheLockOfDpkg(t *testing.T) {
	t.Parallel()
	h, a := debian(t)
	h.publish("Package: e2e-tool\nVersion: 1.0")
	// Another package manager is at work: it holds both locks until it is told to go on.
	h.write("/tmp/other.pl", `use Fcntl;
open(my $front, ">>", "/var/lib/dpkg/lock-frontend"); open(my $inner, ">>", "/var/lib/dpkg/lock");
for my $file ($front, $inner) { my $whole = pack("ssx4qqi", F_WRLCK, 0, 0, 0, 0); fcntl($file, F_SETLK, $whole) or die }
open(my $ready, ">", "/run/locked"); close $ready;
while (! -e "/run/go") { select(undef, undef, undef, 0.05) }
`)
	h.sh("systemd-run --quiet --unit other perl /tmp/other.pl")
	h.awaitFile("/run/locked")
	a.site([]*host{h}, packages("present", "e2e-tool"))
	p := a.start("apply", "site.hcl", "--auto-approve")
	require.Eventually(t, func() bool { // apt says that it waits
		out, _ := h.try("grep -rls 'Waiting for cache lock' /run/pxrun || pgrep -f 'apt-get.*install'")
		return out != ""
	}, waitLimit, poll)
	select {
	case <-p.ended:
		require.Fail(t, "it did not wait")
	default:
	}
	h.write("/run/go", "")
	p.end().exits(0)
	require.Contains(t, h.sh("dpkg -l e2e-tool"), "ii  e2e-tool")
}
