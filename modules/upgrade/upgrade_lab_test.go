package upgrade

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/lab"
	labguest "github.com/pxrun/pxrun/lab/guest"
	"github.com/stretchr/testify/require"
)

const subscription = "pve1c-0123456789"

// upgradeLab is one standalone node with a subscription and a release to be upgraded to.
func upgradeLab(t *testing.T, pve string, change func(*lab.HostSpec)) *labkit.Target {
	t.Helper()
	tgt := labkit.New(t, 1, func(s *lab.Spec) {
		s.Speed = 200
		h := &s.Hosts[0]
		h.PVE, h.Subscription, h.Updates = pve, subscription, []string{"release"}
		if change != nil {
			change(h)
		}
	})
	tgt.In = nil
	return tgt
}

func outputs(t *testing.T, tgt *labkit.Target) upgradeOut {
	t.Helper()
	m := upgradePackages()
	out, err := m.Read(t.Context(), tgt, testkit.Args(t, m, ""))
	require.NoError(t, err)
	return out.(upgradeOut)
}

func TestDownloadThenUpgrade(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pve, manager, kernel, next string }{
		{"9.1.8", "9.2.2", "6.17.2-1-pve", "6.17.4-1-pve"}, {"8.4.1", "8.4.14", "6.8.12-9-pve", "6.8.12-13-pve"},
	} {
		t.Run(c.pve, func(t *testing.T) {
			t.Parallel()
			tgt := upgradeLab(t, c.pve, nil)
			changes, err := tgt.Plan(packagesDownload(), "")
			require.NoError(t, err)
			require.Len(t, changes, 1)
			require.Contains(t, changes[0].Predicted, "the package lists are 25 hours old")
			tgt.Converge(packagesDownload(), "")
			require.Equal(t, "pve-manager\t"+c.pve+"\n", tgt.Must("pve1", "dpkg-query -W pve-manager"), "nothing is installed")
			require.Contains(t, tgt.Must("pve1", "ls /var/cache/apt/archives"), "pve-manager_"+c.manager+"_all.deb")

			changes, err = tgt.Plan(upgradePackages(), "")
			require.NoError(t, err)
			require.Len(t, changes, 1)
			require.Contains(t, changes[0].Summary, "1 new, pve-manager "+c.pve+" to "+c.manager)
			require.Empty(t, changes[0].Predicted)
			after := changes[0].After.(map[string]any)
			require.Equal(t, c.manager, after["pve-manager"])
			require.Contains(t, after["effects"], "/etc/pve is away for some seconds")
			require.Contains(t, after["restart"], "a new kernel takes effect at the next start")

			tgt.Converge(upgradePackages(), "")
			out := outputs(t, tgt)
			require.True(t, out.RebootRequired)
			require.Equal(t, []string{"it runs kernel " + c.kernel + ", and the next start takes " + c.next}, out.RebootReasons)
			require.Equal(t, c.manager, out.Upgraded["pve-manager"])
			require.Zero(t, out.Pending)
			require.Empty(t, out.KeptFiles)
			require.Contains(t, tgt.Records(), module.Version{Package: "pve-manager", Before: c.pve, After: c.manager})
			require.Contains(t, tgt.Records(), module.Version{Package: "proxmox-kernel-" + c.next + "-signed", After: strings.TrimSuffix(c.next, "-pve")})
			require.Contains(t, tgt.Must("pve1", "cat /var/log/pxrun/upgrade-*.log"), "Setting up pve-manager ("+c.manager+") ...")

			require.NoError(t, tgt.Lab.AddUpdates(nil, "pve-docs=9.9.9"))
			tgt.Converge(upgradePackages(), "")
			require.Equal(t, "9.9.9", outputs(t, tgt).Upgraded["pve-docs"])
			require.Equal(t, c.manager, outputs(t, tgt).Upgraded["pve-manager"], "it is what the whole run has done")

			tgt.RunID = "run2"
			require.Empty(t, outputs(t, tgt).Upgraded, "another run has upgraded nothing")
			for _, m := range []module.Module{packagesDownload(), upgradePackages()} {
				again, err := tgt.Plan(m, "")
				require.NoError(t, err)
				require.Empty(t, testkit.Summaries(again))
			}
		})
	}
}

func TestUpgradeAloneFetchesOldLists(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", nil)
	made := tgt.Converge(upgradePackages(), "")
	require.Equal(t, []string{"upgrade packages: whatever the repositories offer by then"}, made)
	require.Equal(t, "9.2.2", outputs(t, tgt).Upgraded["pve-manager"])
}

func TestRefusedUpgrades(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pve, prepare string
		fault        lab.Fault
		args         string
		saw, also    string // in the refusal
	}{
		"no subscription": {
			"9.1.8", "pvesubscription delete", lab.Fault{}, "", "401 Unauthorized from https://enterprise.proxmox.com/debian/", `pve = "no-subscription"`,
		},
		"a repository that cannot be reached although apt succeeds": {
			"9.1.8", "", lab.Fault{Kind: "apt-away", Value: "https://enterprise.proxmox.com/debian/pve"}, "", "Failed to fetch https://enterprise.proxmox.com/debian/pve", "every enabled repository read",
		},
		"a suite of the next release": {
			"8.4.1", "sed -i s/bookworm/trixie/ /etc/apt/sources.list.d/pve-enterprise.list", lab.Fault{}, "", "/etc/apt/sources.list.d/pve-enterprise.list has suite trixie", "pve8to9",
		},
		"no repository of Proxmox VE": {
			"9.1.8", "rm /etc/apt/sources.list.d/pve-enterprise.sources", lab.Fault{}, "", "no repository of Proxmox VE is enabled", "repository",
		},
		"the next major release in the repositories": {
			"9.1.8", "", lab.Fault{Kind: "apt-major"}, "", "the repositories offer pve-manager 10.0.3, and 9.1.8 is installed", "no minor upgrade",
		},
		"the removal of proxmox-ve": {
			"9.1.8", "", lab.Fault{Kind: "apt-removes"}, `allow_removals = ["proxmox-ve"]`, "apt would remove proxmox-ve", "Proxmox VE left whole",
		},
		"the removal of another package": {
			"9.1.8", "", lab.Fault{Kind: "apt-removes", Value: "rsync"}, "", "apt would remove rsync", `allow_removals = ["rsync"]`,
		},
		"a key package on hold": {
			"9.1.8", "", lab.Fault{Kind: "apt-hold", Value: "qemu-server"}, "", "on hold: qemu-server", `hold = ["qemu-server"]`,
		},
		"a full /boot": {
			"9.1.8", "", lab.Fault{Kind: "boot-full"}, "", "20 MiB free at /boot", "200 MiB for a kernel",
		},
		"too little room": {
			"9.1.8", "", lab.Fault{}, "min_free_root = 200000", "free at /", "min_free_root",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tgt := upgradeLab(t, c.pve, nil)
			if c.prepare != "" {
				tgt.Must("pve1", c.prepare)
			}
			if c.fault.Kind != "" {
				c.fault.Target = "pve1"
				tgt.Fault(c.fault)
			}
			before := tgt.Must("pve1", "dpkg-query -W")
			changes, err := tgt.Plan(upgradePackages(), c.args)
			if err == nil {
				err = tgt.Apply(changes)
			}
			var r *module.Refusal
			require.True(t, errors.As(err, &r), "%v", err)
			require.Contains(t, err.Error(), c.saw)
			require.Contains(t, err.Error(), c.also)
			require.Equal(t, before, tgt.Must("pve1", "dpkg-query -W"), "nothing was changed")
			require.Empty(t, tgt.Must("pve1", "dpkg --audit"))
		})
	}
}

func TestWhatIsAllowedByName(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", nil)
	tgt.Fault(lab.Fault{Kind: "apt-removes", Target: "pve1", Value: "rsync"})
	made := tgt.Converge(upgradePackages(), `allow_removals = ["rsync"]`+"\n"+`hold = ["pve-qemu-kvm", "nosuch"]`)
	require.Equal(t, "put on hold: pve-qemu-kvm", made[0])
	require.Equal(t, "10.1.2-4", strings.TrimSpace(tgt.Must("pve1", "dpkg-query -W -f '${Version}' pve-qemu-kvm")))
	require.Contains(t, tgt.Records(), module.Version{Package: "rsync", Before: "3.4.1+ds1-5"})
}

func TestChangedConfigurationFilesAreKeptAndTold(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", nil)
	tgt.Fault(lab.Fault{Kind: "conffile", Target: "pve1"})
	tgt.Converge(upgradePackages(), "")
	require.Contains(t, tgt.Must("pve1", "cat /etc/vzdump.conf"), "bwlimit: 50000\n")
	require.Equal(t, []string{"/etc/vzdump.conf"}, outputs(t, tgt).KeptFiles)
	require.Contains(t, tgt.Records(), module.KeptFile{Path: "/etc/vzdump.conf", New: "/etc/vzdump.conf.dpkg-dist"})
	require.Contains(t, strings.Join(tgt.Warnings(), "\n"), "/etc/vzdump.conf was changed on this node and is kept")
}

func TestInterruptedDpkgIsFinishedFirst(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", nil)
	tgt.Fault(lab.Fault{Kind: "dpkg-interrupted", Target: "pve1"})
	made := tgt.Converge(upgradePackages(), "")
	require.Equal(t, "finish what dpkg has begun with dpkg --configure -a (not finished: pve-manager)", made[0])
	require.Len(t, made, 2)
	require.Equal(t, "9.2.2", outputs(t, tgt).Upgraded["pve-manager"])
}

func TestUpgradesThatFailSayWhatIsLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault  lab.Fault
		args   string
		wants  []string
		mended string // command after which it goes on
	}{
		"a script of a package": {
			lab.Fault{Kind: "apt-broken", Value: "pve-firewall"}, "",
			[]string{"apt-get dist-upgrade: exit 100: Sub-process /usr/bin/dpkg returned an error code (1)", "saw: dpkg: error processing package pve-firewall (--configure): installed pve-firewall package post-installation script subprocess", "left behind: packages that dpkg has not finished with: pve-firewall (half-configured)", "dpkg --audit"}, "true",
		},
		"no room for the initramfs": {
			lab.Fault{Kind: "boot-full", Value: "60"}, "min_free_boot = 10", []string{"No space left on device", "proxmox-kernel-6.17.4-1-pve-signed (half-configured)", "df -h / /boot"}, "true",
		},
		"a lock that is held for ever": {
			lab.Fault{Kind: "dpkg-lock"}, "", []string{"Could not get lock /var/lib/dpkg/lock-frontend", "(unattended-upgr)", "no package is left half installed"}, "true",
		},
		"apt is killed": {
			lab.Fault{Kind: "die", Phase: "apt:setup:pve-manager"}, "", []string{"left behind: packages that dpkg has not finished with", "pve-manager (half-configured)"}, "true",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tgt := upgradeLab(t, "9.1.8", nil)
			tgt.Converge(packagesDownload(), "")
			c.fault.Target = "pve1"
			id, err := tgt.Lab.AddFault(c.fault)
			require.NoError(t, err)
			if c.fault.Kind == "dpkg-lock" {
				tgt.Eventually("pve1", "ps -e -o pid,comm | grep -q unattended-upgr")
			}
			changes, err := tgt.Plan(upgradePackages(), c.args)
			require.NoError(t, err)
			err = tgt.Apply(changes)
			require.Error(t, err)
			for _, want := range c.wants {
				require.Contains(t, err.Error(), want)
			}
			require.NoError(t, tgt.Lab.ClearFault(id))
			tgt.Converge(upgradePackages(), c.args)
			require.Empty(t, tgt.Must("pve1", "dpkg --audit"))
			require.Equal(t, "pve-manager\t9.2.2\n", tgt.Must("pve1", "dpkg-query -W pve-manager"))
		})
	}
}

func TestALockThatIsGivenBackIsWaitedFor(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", nil)
	tgt.Fault(lab.Fault{Kind: "dpkg-lock", Target: "pve1", Value: "120s"})
	tgt.Eventually("pve1", "ps -e -o pid,comm | grep -q unattended-upgr")
	tgt.Converge(upgradePackages(), "")
	require.Contains(t, strings.Join(tgt.Warnings(), "\n"), "another program is at work on packages: unattended-upgr (process ")
}

func TestSlowMirror(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", func(h *lab.HostSpec) { h.Updates = []string{"pve-docs=9.1.4"} })
	tgt.Fault(lab.Fault{Kind: "apt-slow", Target: "pve1", Value: "500"})
	began := tgt.Lab.Clock().Elapsed()
	tgt.Converge(packagesDownload(), "")
	require.Greater(t, tgt.Lab.Clock().Elapsed()-began, 25*time.Second)
}

func TestSeveralNodesAtOnceAreRefused(t *testing.T) {
	t.Parallel()
	tgt := labkit.New(t, 2, func(s *lab.Spec) {
		for i := range s.Hosts {
			s.Hosts[i].Subscription, s.Hosts[i].Updates = subscription, []string{"pve-docs=9.1.4", "libc"}
		}
	})
	tgt.Form()
	_, err := tgt.Plan(upgradePackages(), "")
	require.ErrorContains(t, err, "the task would upgrade pve1, pve2 at once")
	tgt.Rolls = &module.Block{Name: "nodes", Later: []string{"pve2"}}
	changes, err := tgt.Plan(upgradePackages(), "")
	require.NoError(t, err, "a rolling block takes them one by one")

	// In a cluster of two without a third vote, a corosync that restarts takes the quorum with it.
	require.ErrorContains(t, tgt.Apply(changes), `ignore = ["quorum"]`)
	tgt.Converge(upgradePackages(), `ignore = ["quorum"]`)

	tgt.Fault(lab.Fault{Kind: "power-off", Target: "pve1"})
	tgt.Of = tgt.All[1]
	tgt.Eventually("pve2", `grep -q '"online": 0' /etc/pve/.members`)
	changes, err = tgt.Plan(upgradePackages(), `ignore = ["quorum"]`)
	require.NoError(t, err)
	require.ErrorContains(t, tgt.Apply(changes), "no other node down or in maintenance", "without the other node nobody can say")
}

func TestAnUpgradeThatIsAtWorkIsFollowed(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", nil)
	tgt.Converge(packagesDownload(), "")
	tgt.Must("pve1", `mkdir -p /run/pxrun/pxrun-0123456789ab && cd /run/pxrun/pxrun-0123456789ab && echo "h run0 n" >job && echo upgrade >name && : >out && systemd-run --quiet --unit=pxrun-0123456789ab sleep 100000`)
	changes, err := tgt.Plan(upgradePackages(), "")
	require.NoError(t, err)
	require.Equal(t, []string{"wait for the upgrade that run run0 has begun"}, testkit.Summaries(changes))
	require.Equal(t, "it is at work", changes[0].Predicted)
}

func TestLibrariesAndMicrocodeAreReasonsToRestart(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", func(h *lab.HostSpec) { h.Updates = []string{"libc", "microcode"} })
	tgt.Must("pve1", "pvecm create lab")
	tgt.Eventually("pve1", "[ $(stat -c %a /etc/pve/local) = 755 ]")
	tgt.Must("pve1", "apt-get -q update >/dev/null; apt-get install -y -q intel-microcode >/dev/null")
	tgt.Converge(upgradePackages(), "")
	reasons := strings.Join(outputs(t, tgt).RebootReasons, "\n")
	require.Contains(t, reasons, "intel-microcode came after the last start")
	require.Contains(t, reasons, "pmxcfs still uses libraries that were replaced: libc.so.6")
	require.NotContains(t, reasons, "corosync still uses", "it was restarted")
	tgt.Must("pve1", "touch /var/run/reboot-required")
	require.NotContains(t, strings.Join(outputs(t, tgt).RebootReasons, "\n"), "reboot-required")
}

func TestRebootPinsDecide(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", nil)
	tgt.Must("pve1", "proxmox-boot-tool kernel pin 6.17.2-1-pve 2>/dev/null")
	tgt.Converge(upgradePackages(), "")
	out := outputs(t, tgt)
	require.False(t, out.RebootRequired, "%v", out.RebootReasons)
	require.Equal(t, "6.17.2-1-pve", out.NextKernel)
}

func TestUnattendedUpgradesAreWarnedOf(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", nil)
	tgt.Must("pve1", `apt-get install -y -q unattended-upgrades >/dev/null; mkdir -p /etc/apt/apt.conf.d; echo 'APT::Periodic::Unattended-Upgrade "1";' >/etc/apt/apt.conf.d/20auto-upgrades`)
	_, err := tgt.Plan(upgradePackages(), "")
	require.NoError(t, err)
	require.Contains(t, strings.Join(tgt.Warnings(), "\n"), "unattended-upgrades is switched on")
}

func TestPlainHostsAreUpgradedToo(t *testing.T) {
	t.Parallel()
	tgt := labkit.New(t, 1, func(s *lab.Spec) {
		s.Hosts = append(s.Hosts, lab.HostSpec{Name: "arbiter", Address: "192.0.2.50", Updates: []string{"libc"}})
	})
	h, ok := tgt.Whole.Host("arbiter")
	require.True(t, ok)
	tgt.Of, tgt.All = h, nil
	tgt.Converge(packagesDownload(), "")
	tgt.Converge(upgradePackages(), "")
	require.Contains(t, tgt.Must("arbiter", "dpkg-query -W libc6"), "2.41-12+deb13u1")
}

func TestPowerThatIsLostInTheMiddleOfAnUpgrade(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", nil)
	tgt.Converge(packagesDownload(), "")
	tgt.Fault(lab.Fault{Kind: "power-off", Target: "pve1", Phase: "apt:setup:pve-cluster"})
	changes, err := tgt.Plan(upgradePackages(), "")
	require.NoError(t, err)
	require.Error(t, tgt.Apply(changes))
	tgt.Lab.Machine("pve1").PowerOn()
	require.NoError(t, tgt.WaitFor(t.Context(), module.Condition{Name: "pve1 is up", Timeout: 10 * time.Minute, Check: func(context.Context) error {
		if !tgt.Lab.Machine("pve1").Accepting() {
			return errors.New("it is not")
		}
		return nil
	}}))
	made := tgt.Converge(upgradePackages(), "")
	require.Contains(t, made[0], "finish what dpkg has begun with dpkg --configure -a (not finished: ")
	require.Equal(t, "pve-manager\t9.2.2\n", tgt.Must("pve1", "dpkg --audit; dpkg-query -W pve-manager"))
}

func TestALockOfTheListsIsWaitedFor(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", nil)
	id, err := tgt.Lab.AddFault(lab.Fault{Kind: "apt-lists-lock", Target: "pve1"})
	require.NoError(t, err)
	changes, err := tgt.Plan(packagesDownload(), "")
	require.NoError(t, err)
	stop := tgt.Lab.Clock().AfterFunc(70*time.Second, func() { _ = tgt.Lab.ClearFault(id) })
	defer stop()
	require.NoError(t, tgt.Apply(changes))
	require.Contains(t, strings.Join(tgt.Logs(), "\n"), "the package lists are locked by another program, waiting")
}

func TestAFullDiskStopsTheUpgradeBeforeItTouchesPackages(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", nil)
	tgt.Must("pve1", "apt-get -q update")
	changes, err := tgt.Plan(upgradePackages(), "")
	require.NoError(t, err)
	tgt.Fault(lab.Fault{Kind: "disk-full", Target: "pve1"})
	err = tgt.Apply(changes)
	require.ErrorContains(t, err, "No space left on device")
	require.ErrorContains(t, err, "no package is left half installed")
}

func TestAGuestThatCameBackToADrainedNodeStopsItsUpgrade(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", func(h *lab.HostSpec) { h.Guests = []labguest.Spec{{ID: 100, Running: true}, {ID: 101, Running: true}} })
	tgt.Rolls = &module.Block{Name: "nodes"}
	drained := ledger{Run: tgt.RunID, Node: "pve1", Guests: []ledgerGuest{{SID: "vm:101", Fate: fateLeft}}}
	require.NoError(t, writeLedger(t.Context(), tgt, drained))
	changes, err := tgt.Plan(upgradePackages(), "")
	require.NoError(t, err)
	require.ErrorContains(t, tgt.Apply(changes), "vm:100 running on it")
	tgt.Must("pve1", "qm stop 100")
	tgt.Converge(upgradePackages(), "")
}

func TestCephIsUpgradedAndItsDaemonsStayWhatTheyWere(t *testing.T) {
	t.Parallel()
	tgt := upgradeLab(t, "9.1.8", func(h *lab.HostSpec) { h.Updates = nil })
	tgt.Must("pve1", "yes | pveceph install --version squid --repository enterprise >/dev/null && pveceph init --network 192.0.2.0/24 && pveceph mon create >/dev/null")
	tgt.Eventually("pve1", "ceph --connect-timeout 5 -s >/dev/null")
	require.NoError(t, tgt.Lab.AddUpdates(nil, "ceph"))
	tgt.Converge(upgradePackages(), "")
	require.Equal(t, "19.2.4-pve1", outputs(t, tgt).Upgraded["ceph-mon"])
	require.Contains(t, tgt.Must("pve1", "ceph-mon --version"), "ceph version 19.2.4 ")
	require.Contains(t, tgt.Must("pve1", "ceph versions"), "ceph version 19.2.3 ", "it has not been restarted")
	tgt.Must("pve1", "systemctl restart ceph-mon@pve1")
	tgt.Eventually("pve1", "ceph --connect-timeout 5 versions | grep -q 'ceph version 19.2.4 '")
	tgt.Fault(lab.Fault{Kind: "apt-major", Target: "pve1", Value: "ceph"})
	tgt.Must("pve1", "apt-get -q update")
	_, err := tgt.Plan(upgradePackages(), "")
	require.ErrorContains(t, err, "the repositories offer ceph")
	require.ErrorContains(t, err, "Ceph's next release has a procedure of its own")
}
