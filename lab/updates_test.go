package lab_test

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/stretchr/testify/require"
)

// upgradable is a node with a subscription that can be upgraded, at a speed at which apt takes no time.
func upgradable(t *testing.T, pve string, change func(*lab.HostSpec)) (*lab.Lab, func(script string) (string, int)) {
	t.Helper()
	h := lab.HostSpec{Name: "pve1", Address: "192.0.2.11", PVE: pve, Subscription: "pve1c-0123456789", Updates: []string{"release"}}
	if change != nil {
		change(&h)
	}
	l, err := lab.New(lab.Spec{Seed: 1, Speed: 500, Hosts: []lab.HostSpec{h}})
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l, func(script string) (string, int) { return runOn(t.Context(), l, script) }
}

func runOn(ctx context.Context, l *lab.Lab, script string) (string, int) {
	var out bytes.Buffer
	code := l.Machine("pve1").Exec(ctx, machine.Proc{Argv: []string{"/bin/sh", "-c", script}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out})
	return out.String(), code
}

const (
	refresh    = "apt-get -q update >/dev/null && "
	upgradeAll = "DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300 dist-upgrade"
)

func TestUpgradeOfEachRelease(t *testing.T) {
	for _, c := range []struct {
		pve, manager, kernel, old, count string
		newer                            int
	}{
		{"9.1.8", "9.2.2", "6.17.4-1-pve", "6.17.2-1-pve", "15 upgraded", 16}, {"8.4.1", "8.4.14", "6.8.12-13-pve", "6.8.12-9-pve", "14 upgraded", 15},
	} {
		t.Run(c.pve, func(t *testing.T) {
			l, sh := upgradable(t, c.pve, nil)
			out, _ := sh("apt-get -s dist-upgrade")
			require.Contains(t, out, "0 upgraded, 0 newly installed", "the lists do not know yet")
			require.Len(t, l.Updates()[0].Packages, c.newer)
			out, code := sh(refresh + "apt-get -s -q dist-upgrade; apt-cache policy pve-manager")
			require.Zero(t, code)
			require.Contains(t, out, c.count+", 1 newly installed, 0 to remove and 0 not upgraded.\n")
			require.Contains(t, out, "Inst pve-manager ["+c.pve+"] ("+c.manager+" ")
			require.Contains(t, out, "Inst proxmox-kernel-"+c.kernel+"-signed (")
			require.Contains(t, out, "  Candidate: "+c.manager+"\n")

			out, code = sh("apt-get -y -q --download-only dist-upgrade && dpkg-query -W pve-manager && apt-get -y -qq --print-uris dist-upgrade && ls /boot")
			require.Zero(t, code, out)
			require.Contains(t, out, "Download complete and in download only mode\npve-manager\t"+c.pve+"\n", "nothing is installed, and nothing is left to fetch")
			require.NotContains(t, out, c.kernel+"\n")

			out, code = sh(upgradeAll)
			require.Zero(t, code, out)
			require.Contains(t, out, "Need to get 0 B/")
			require.Contains(t, out, "update-initramfs: Generating /boot/initrd.img-"+c.kernel+"\n")
			out, _ = sh("dpkg --audit; pveversion; ls /boot; apt-get -s dist-upgrade | tail -n 1; ls /var/run/reboot-required; uname -r")
			require.True(t, strings.HasPrefix(out, "pve-manager/"+c.manager+"/"), out)
			require.Contains(t, out, "vmlinuz-"+c.kernel+"\n")
			require.Contains(t, out, "0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n")
			require.Contains(t, out, "cannot access '/var/run/reboot-required'", "Proxmox's packages do not make it")
			require.True(t, strings.HasSuffix(out, c.old+"\n"), out)
			require.Empty(t, l.Updates()[0].Packages)
		})
	}
}

func TestFaultsOfAnUpgrade(t *testing.T) {
	interactive := "apt-get -y -q dist-upgrade"
	for name, c := range map[string]struct {
		fault  lab.Fault
		script string
		wants  []string
		code   int
	}{
		"a question about a configuration file meets no terminal": {
			lab.Fault{Kind: "conffile"}, interactive + "; echo rc=$?; dpkg --audit; ls /etc/vzdump.conf*",
			[]string{"*** vzdump.conf (Y/I/N/O/D/Z) [default=N] ? ", "dpkg: error processing package pve-manager (--configure):\n end of file on stdin at conffile prompt\n", "rc=100", "have been unpacked but not yet configured", "/etc/vzdump.conf.dpkg-new"}, 0,
		},
		"the changed configuration file is kept": {
			lab.Fault{Kind: "conffile"}, upgradeAll + " && cat /etc/vzdump.conf && ls /etc/vzdump.conf*",
			[]string{"Configuration file '/etc/vzdump.conf'\n ==> Modified", "Keeping old config file as default", "bwlimit: 50000", "/etc/vzdump.conf.dpkg-dist"}, 0,
		},
		"a script fails and dpkg goes on with the others": {
			lab.Fault{Kind: "apt-broken", Value: "pve-firewall"}, upgradeAll + "; echo rc=$?; dpkg --audit; dpkg-query -W -f '${db:Status-Status} ${Version}\\n' pve-manager pve-firewall",
			[]string{"Errors were encountered while processing:\n pve-firewall\nE: Sub-process /usr/bin/dpkg returned an error code (1)\nrc=100", "only half configured", "half-configured 6.0.5\ninstalled 9.2.2\n"}, 0,
		},
		"dpkg was interrupted": {
			lab.Fault{Kind: "dpkg-interrupted"}, upgradeAll + "; dpkg --configure -a && dpkg --audit && " + upgradeAll,
			[]string{"E: dpkg was interrupted, you must manually run 'dpkg --configure -a'", "Setting up pve-manager (9.1.8)", "Setting up pve-manager (9.2.2)"}, 0,
		},
		"a full /boot": {
			lab.Fault{Kind: "boot-full"}, "df -P /boot | tail -n 1; " + upgradeAll + "; echo rc=$?; ls /boot; dpkg --audit",
			[]string{"/dev/sda2", "No space left on device", "E: mkinitramfs failure zstd", "installed proxmox-kernel-6.17.4-1-pve-signed package post-installation script subprocess returned error exit status 1", "rc=100", "vmlinuz-6.17.4-1-pve", " proxmox-kernel-6.17.4-1-pve-signed "}, 0,
		},
		"an update would remove proxmox-ve": {
			lab.Fault{Kind: "apt-removes"}, refresh + "apt-get -s dist-upgrade; " + upgradeAll,
			[]string{"Remv proxmox-ve [9.1.0]", "W: (pve-apt-hook) You are attempting to remove the meta-package 'proxmox-ve'!", "E: Failure running script /usr/share/proxmox-ve/pve-apt-hook"}, 100,
		},
		"a package on hold stays back": {
			lab.Fault{Kind: "apt-hold", Value: "pve-manager"}, "apt-mark showhold; apt-get -s dist-upgrade",
			[]string{"pve-manager\n", "The following packages have been kept back:\n  pve-manager\n", "and 1 not upgraded."}, 0,
		},
		"the next major release": {
			lab.Fault{Kind: "apt-major"}, refresh + "apt-cache policy pve-manager", []string{"Candidate: 10.0.3"}, 0,
		},
		"another program has the lock for a while": {
			lab.Fault{Kind: "dpkg-lock", Value: "30s"}, upgradeAll, []string{"Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process ", "(unattended-upgr)", "Setting up pve-manager"}, 0,
		},
		"another program has the lock for ever": {
			lab.Fault{Kind: "dpkg-lock"}, "apt-get -y -q -o DPkg::Lock::Timeout=20 dist-upgrade", []string{"E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process "}, 100,
		},
		"no subscription": {
			lab.Fault{Kind: "apt-401"}, "apt-get update", []string{"  401  Unauthorized", "E: The repository 'https://enterprise.proxmox.com/debian/pve trixie InRelease' is not signed."}, 100,
		},
		"a repository is away, and apt succeeds": {
			lab.Fault{Kind: "apt-away", Value: "https://enterprise.proxmox.com/debian/pve"}, "apt-get update", []string{"W: Failed to fetch https://enterprise.proxmox.com/debian/pve/dists/trixie/InRelease"}, 0,
		},
		"apt is killed while it unpacks": {
			lab.Fault{Kind: "die", Phase: "apt:unpack:pve-manager"}, upgradeAll + "; dpkg --audit; " + upgradeAll, []string{"have been unpacked but not yet configured", "E: dpkg was interrupted"}, 100,
		},
		"apt is killed while it sets up": {
			lab.Fault{Kind: "die", Phase: "apt:setup:pve-cluster"}, upgradeAll + "; dpkg --audit; dpkg --configure -a && dpkg --audit && pveversion", []string{"only half configured", " pve-cluster ", "pve-manager/9.2.2/"}, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, sh := upgradable(t, "9.1.8", nil)
			if !strings.Contains(c.script, "update") {
				_, code := sh("apt-get update")
				require.Zero(t, code)
			}
			c.fault.Target = "pve1"
			addFault(t, l, c.fault)
			if c.fault.Kind == "dpkg-lock" {
				eventually(t, l, "the lock is held", func() bool { out, _ := sh("ps -e -o pid,comm"); return strings.Contains(out, "unattended-upgr") })
			}
			out, code := sh(c.script)
			require.Equal(t, c.code, code, out)
			for _, want := range c.wants {
				require.Contains(t, out, want)
			}
		})
	}
}

func TestWhatAnUpgradeDoesToARunningNode(t *testing.T) {
	l, sh := upgradable(t, "9.1.8", func(h *lab.HostSpec) { h.Updates = []string{"libc", "qemu", "pve-cluster=9.1.3"} })
	_, code := sh(refresh + "pvecm create lab")
	require.Zero(t, code)
	eventually(t, l, "pve1 is writable", writable(l, "pve1"))
	pids, _ := sh("pidof pmxcfs")
	out, code := sh(upgradeAll)
	require.Zero(t, code, out)
	eventually(t, l, "pve1 is writable again", writable(l, "pve1"))
	after, _ := sh("pidof pmxcfs")
	require.NotEqual(t, pids, after, "pmxcfs was restarted")
	out, _ = sh("for n in corosync pmxcfs pveproxy; do echo $n $(grep -c '(deleted)' /proc/$(pidof $n)/maps); done")
	require.Equal(t, "corosync 0\npmxcfs 0\npveproxy 1\n", out, "those that were restarted use the new library")
	out, _ = sh("apt-get install -y -q needrestart >/dev/null; needrestart -b")
	require.Contains(t, out, "NEEDRESTART-SVC: pveproxy.service\n")
	require.Contains(t, out, "NEEDRESTART-KSTA: 1\n")
	out, _ = sh("grep ^btime /proc/stat")
	require.Regexp(t, `^btime 1[0-9]{9}\n`, out)
}

func TestEachReleaseHasItsOwnDebian(t *testing.T) {
	for pve, want := range map[string]string{"8.4.1": "base-files 12.4+deb12u12\nlibc6 2.36-9+deb12u13\n", "9.1.8": "base-files 13.8+deb13u3\nlibc6 2.41-12+deb13u1\n"} {
		_, sh := upgradable(t, pve, func(h *lab.HostSpec) { h.Updates = []string{"libc"} })
		out, code := sh(refresh + upgradeAll + " >/dev/null && dpkg-query -W -f '${Package} ${Version}\\n' libc6 base-files")
		require.Zero(t, code)
		require.Equal(t, want, out)
	}
}

func TestSuitesOfTheNextReleaseBringIt(t *testing.T) {
	_, sh := upgradable(t, "8.4.1", nil)
	out, _ := sh("sed -i s/bookworm/trixie/ /etc/apt/sources.list.d/pve-enterprise.list && " + refresh + "apt-cache policy pve-manager")
	require.Contains(t, out, "Candidate: 9.1.8")
}

func TestUpdatesThatMakeNoSense(t *testing.T) {
	_, err := lab.New(lab.Spec{Hosts: []lab.HostSpec{{Name: "a", Address: "192.0.2.1", Updates: []string{"everything"}}}})
	require.ErrorContains(t, err, `host "a": update "everything" is none of release, kernel, `)
	l, _ := upgradable(t, "9.1.8", func(h *lab.HostSpec) { h.Versions = map[string]string{"pve-manager": "9.1.5"} })
	require.ErrorContains(t, l.AddUpdates([]string{"pve9"}, "release"), `no host "pve9" in the lab`)
	require.NoError(t, l.AddUpdates([]string{"pve1"}, "pve-manager=9.1.6"))
	require.Contains(t, l.Updates()[0].Packages, "pve-manager=9.1.6")
}

// shape is a line without what differs from node to node: names of packages, versions, numbers, addresses.
func shape(line string) string {
	for _, r := range []struct{ what, by string }{
		{`^  [a-z].*`, "  NAMES"}, {`\(Reading database .*\)`, "(Reading database)"}, {`[a-z0-9.+-]+_[^ ]*\.deb`, "ARCHIVE"}, {`\.\.\./[^ ]*ARCHIVE`, ".../ARCHIVE"}, {`(file:|https?:)[^ ]*( [^ ]+)?`, "SOURCE"},
		{`^(Inst|Conf|Remv) \S+`, "$1 NAME"}, {`^(Unpacking|Setting up) \S+`, "$1 NAME"}, {`SOURCE( amd64)? \S+( all| amd64)? \S+ \[[^]]*\]`, "SOURCE PACKAGE"}, {`\([0-9][^ )]*\)`, "(V)"}, {`\[[0-9][^ ]*\]`, "[V]"}, {`\([0-9]\S* [^)]*\)`, "(V ORIGIN)"},
		{`[0-9.]+ (kB|MB|B)`, "SIZE"}, {`SIZE/SIZE`, "SIZE"}, {`[0-9]+`, "N"},
	} {
		line = regexp.MustCompile(r.what).ReplaceAllString(line, r.by)
	}
	return strings.TrimRight(line, " ")
}

// The lines that a real node printed for a small dist-upgrade, simulated and real, are lines that the lab prints.
func TestUpgradePrintsWhatARealNodePrinted(t *testing.T) {
	record, err := os.ReadFile("testdata/records/upgrade.txt")
	require.NoError(t, err)
	text := string(record)
	_, simulated, _ := strings.Cut(text, "The following packages will be upgraded:\n")
	simulated, _, _ = strings.Cut(simulated, "-----")
	_, rest, _ := strings.Cut(text, "lrm=active\nReading")
	real, _, _ := strings.Cut("Reading"+rest, "-- rc 0")

	_, sh := upgradable(t, "9.1.8", func(h *lab.HostSpec) { h.Updates = []string{"pve-manager=9.1.9", "libpve-common-perl=9.1.10"} })
	mine, code := sh(refresh + "apt-get -s -o Debug::NoLocking=1 dist-upgrade; apt-get -y -q -d dist-upgrade >/dev/null; apt-get -y -q -d clean; " + upgradeAll)
	require.Zero(t, code, mine)
	shapes := map[string]bool{}
	for line := range strings.Lines(mine) {
		shapes[shape(strings.TrimRight(line, "\n"))] = true
	}
	seen := 0
	for line := range strings.Lines(simulated + real) {
		line = strings.TrimRight(line, "\n")
		if s := shape(line); line != "" && !strings.HasPrefix(line, "      ") {
			seen++
			require.True(t, shapes[s], "a real node prints %q (%q), the lab none such:\n%s", line, s, mine)
		}
	}
	require.Greater(t, seen, 20)
}
