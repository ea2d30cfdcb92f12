//go:build e2e

package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// publishTool makes a version of a package with a configuration file, in the repository of publish.
func (h *host) publishTool(version, postinst string) {
	h.t.Helper()
	h.sh("rm -rf /srv/apt /tmp/tool; mkdir -p /srv/apt /tmp/tool/DEBIAN /tmp/tool/etc")
	h.write("/tmp/tool/DEBIAN/control", "Package: e2e-tool\nVersion: "+version+"\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: made for a test\n")
	h.write("/tmp/tool/DEBIAN/conffiles", "/etc/e2e.conf\n")
	h.write("/tmp/tool/etc/e2e.conf", "# settings of "+version+"\n")
	h.write("/tmp/tool/DEBIAN/postinst", "#!/bin/sh\nset -e\n"+postinst+"\n")
	h.sh("chmod 755 /tmp/tool/DEBIAN/postinst; dpkg-deb -Znone -b /tmp/tool /srv/apt >/dev/null; cd /srv/apt && apt-ftparchive packages . >Packages && apt-ftparchive release . >Release")
}

const upgradeRunbook = `
runbook "r" {
  hosts = host.app
  task "packages_download" "fetch" { min_free_root = 0 }
  task "upgrade" "all" {
    min_free_root = 0 # the hosts of these tests are small
    min_free_boot = 0
  }
}
`

func TestUpgradeOfAHost(t *testing.T) {
	t.Parallel()
	h, a := debian(t)
	version := func() string { return h.sh(`dpkg-query -W -f '${db:Status-Abbrev} ${Version}\n' e2e-tool`) }
	h.publishTool("1.0", "true")
	h.sh("apt-get -qq update; apt-get -qq -y install e2e-tool >/dev/null; echo 'limit = 5' >>/etc/e2e.conf")

	// The configuration file that was changed is kept, and the new one lies beside it.
	h.publishTool("2.0", "true")
	h.sh("touch -d '1 day ago' /var/lib/apt/lists")
	a.site([]*host{h}, upgradeRunbook)
	a.pxrun("plan", "site.hcl", "--detailed-exitcode").exits(2).says("the package lists are 24 hours old")
	require.Equal(t, "ii  1.0\n", version(), "planning has installed")
	a.apply()
	require.Equal(t, "ii  2.0\n", version())
	require.Equal(t, "# settings of 1.0\nlimit = 5\n", h.read("/etc/e2e.conf"))
	require.Equal(t, "# settings of 2.0\n", h.read("/etc/e2e.conf.dpkg-dist"))
	require.Contains(t, h.sh("cat /var/log/pxrun/upgrade-*.log"), "Setting up e2e-tool (2.0) ...")
	a.unchanged()

	// A script that fails leaves the package half configured; the next run begins with that.
	h.publishTool("3.0", "test -e /run/mended || { echo 'no luck today' >&2; exit 3; }")
	h.sh("touch -d '1 day ago' /var/lib/apt/lists")
	r := a.pxrun("apply", "site.hcl", "--auto-approve").says("left behind: packages that dpkg has not finished with: e2e-tool (half-configured)")
	require.Contains(t, []int{1, 5}, r.exit, r.text())
	require.Equal(t, "iF  3.0\n", version())
	h.sh("touch /run/mended")
	a.pxrun("plan", "site.hcl").exits(0).says("finish what dpkg has begun with dpkg --configure -a (not finished: e2e-tool)")
	a.apply()
	require.Equal(t, "ii  3.0\n", version())
	a.unchanged()

	// What would be removed is named, or nothing is installed. The lists have been fetched by then.
	h.sh(fmt.Sprintf("mkdir -p /tmp/rival/DEBIAN; printf %q >/tmp/rival/DEBIAN/control; dpkg-deb -Znone -b /tmp/rival /srv/apt >/dev/null; cd /srv/apt && apt-ftparchive packages . >Packages && apt-ftparchive release . >Release",
		`Package: e2e-tool\nVersion: 4.0\nArchitecture: all\nConflicts: e2e-old\nMaintainer: Nobody <nobody@example.org>\nDescription: made for a test\n`))
	h.sh("mkdir -p /tmp/old/DEBIAN; printf 'Package: e2e-old\\nVersion: 1\\nArchitecture: all\\nMaintainer: Nobody <nobody@example.org>\\nDescription: made for a test\\n' >/tmp/old/DEBIAN/control; dpkg-deb -Znone -b /tmp/old /tmp/old.deb >/dev/null; dpkg -i /tmp/old.deb >/dev/null; touch -d '1 day ago' /var/lib/apt/lists")
	a.pxrun("apply", "site.hcl", "--auto-approve").exits(5).says("apt would remove e2e-old", `allow_removals = ["e2e-old"]`)
	require.Equal(t, "ii  3.0\n", version())
}
