package ceph

import (
	"errors"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

func osd(device string) inventory.OSD { return inventory.OSD{Device: device} }

// answers is what commands do, by a part of their text; others succeed silently.
func (s *site) on(part string, do func() (stdout, stderr string, exit int)) {
	before := s.act
	s.act = func(host, command string) (string, string, int) {
		if strings.Contains(command, part) {
			return do()
		}
		if before == nil {
			return "", "", 0
		}
		return before(host, command)
	}
}

func fails(stderr string, exit int) func() (string, string, int) {
	return func() (string, string, int) { return "", stderr, exit }
}

func TestAPoolThatWasNotMadeIsAFailureWhateverTheExitStatus(t *testing.T) {
	s := made(t)
	s.on("pveceph pool create", fails("mon_command failed - pg_num 128 size 3 would mean 900 total pgs\n", 0))
	tgt := s.target()
	changes := testkit.Plan(t, cephPool(), tgt, `name = "new"`)
	err := testkit.Apply(t.Context(), tgt, changes)
	require.ErrorContains(t, err, "there is no pool new afterwards: mon_command failed - pg_num 128")
}

func TestASettingThatWasNotMadeIsAFailureWhateverTheExitStatus(t *testing.T) {
	s := made(t)
	s.on("pveceph pool set", fails("Could not set: size\n", 0))
	tgt := s.target()
	err := testkit.Apply(t.Context(), tgt, testkit.Plan(t, cephPool(), tgt, `size = 4`))
	require.ErrorContains(t, err, `pveceph pool set vm said "Could not set: size"`)
	require.ErrorContains(t, err, "size is 3")
}

func TestAPoolIsWaitedForUntilItIsClean(t *testing.T) {
	s := made(t)
	s.on("pveceph pool create", func() (string, string, int) {
		s.pools = append(s.pools, replicated(9, "new", "rbd"))
		s.pgs = `{"state_name":"creating+peering","count":33}`
		return "", "", 0
	})
	tgt := s.target()
	err := testkit.Apply(t.Context(), tgt, testkit.Plan(t, cephPool(), tgt, "name = \"new\"\nhealth_timeout = \"30s\""))
	require.ErrorContains(t, err, "33 creating+peering")
	require.ErrorContains(t, err, "all placement groups are active and clean")
}

// What was being copied before is not waited for.
func TestAPoolOfAClusterThatIsCopying(t *testing.T) {
	s := made(t)
	s.pgs = `{"state_name":"active+remapped+backfilling","count":33}`
	s.on("pveceph pool create", func() (string, string, int) { s.pools = append(s.pools, replicated(9, "new", "rbd")); return "", "", 0 })
	testkit.Converge(t, cephPool(), s.target(), `name = "new"`)
}

func TestFlagsOfANodeAreSetFromAnother(t *testing.T) {
	s := made(t)
	changes := testkit.Plan(t, cephFlag(), s.target(), "node = \"pve1\"\ntemporary = true")
	require.Equal(t, "pve2", changes[0].Host, "pve1 is going to be away")
	require.Equal(t, "pve2", changes[0].Undo.Host)
}

func TestAnInstallationNeverAsks(t *testing.T) {
	s := newSite(t, "pve1")
	n := s.nodes["pve1"]
	s.on("pveceph install", func() (string, string, int) {
		n.ceph = "19.2.3-pve2"
		return "installed Ceph 19.2 Squid successfully!\n", "", 0
	})
	tgt := s.target()
	testkit.Converge(t, cephInstall(), tgt, `repository = "no-subscription"`)
	command := s.ran[0]
	require.Contains(t, command, "--version squid --repository no-subscription")
	require.Contains(t, command, `APT::Get::Assume-Yes "true"`)
	require.Contains(t, command, "yes | pveceph install")
	require.Equal(t, "ceph-install", tgt.Jobs()[0].Name)
	require.Equal(t, "noninteractive", tgt.Jobs()[0].Command.Env["DEBIAN_FRONTEND"])
}

func TestInstallationsThatFail(t *testing.T) {
	for said, want := range map[string]string{
		"Err:5 https://enterprise.proxmox.com/debian/ceph-squid trixie InRelease\n  401  Unauthorized [IP: 192.0.2.1 443]\nE: Unable to locate package ceph\napt failed during ceph installation (25600)\n": `wants a subscription; set repository = "no-subscription"`,
		"Do you want to continue? [Y/n] Abort.\napt failed during ceph installation (256)\n":                                                                                                                "apt asked whether to continue and got no answer",
		"E: Unable to locate package ceph\napt failed during ceph installation (25600)\n":                                                                                                                   "Unable to locate package ceph; apt failed during ceph installation (25600)",
		"": "it said nothing, and Ceph is not installed",
	} {
		s := newSite(t, "pve1")
		s.on("pveceph install", func() (string, string, int) { return said, "", 255 })
		tgt := s.target()
		err := testkit.Apply(t.Context(), tgt, testkit.Plan(t, cephInstall(), tgt, ""))
		require.ErrorContains(t, err, want)
	}
}

func TestAnInstallationThatSaysItSucceededIsNotBelieved(t *testing.T) {
	s := newSite(t, "pve1")
	s.on("pveceph install", func() (string, string, int) { return "start installation\n", "", 0 })
	tgt := s.target()
	require.ErrorContains(t, testkit.Apply(t.Context(), tgt, testkit.Plan(t, cephInstall(), tgt, "")), "pveceph install (exit 0): start installation")
}

func TestAnInstallationThatWasCutOffIsFinished(t *testing.T) {
	s := newSite(t, "pve1")
	n := s.nodes["pve1"]
	n.ceph, n.flag = "19.2.3-pve2", true
	s.on("rm -f /run/pve-ceph-install-flag", func() (string, string, int) { n.flag = false; return "", "", 0 })
	tgt := s.target()
	changes := testkit.Converge(t, cephInstall(), tgt, "")
	require.Equal(t, []string{"finish the installation of Ceph squid on pve1"}, testkit.Summaries(changes))
	require.Contains(t, s.ran[0], "rm -f")
	require.Contains(t, s.ran[1], "pveceph install")
}

func TestAnInstallationThatRunsIsWaitedFor(t *testing.T) {
	s := newSite(t, "pve1")
	n := s.nodes["pve1"]
	n.running, n.flag = true, true
	tgt := s.target()
	changes := testkit.Plan(t, cephInstall(), tgt, "install_timeout = \"1m\"")
	require.ErrorContains(t, testkit.Apply(t.Context(), tgt, changes), "pveceph install is still running")
	require.Empty(t, s.ran, "a second one is not started")
}

// Another program makes the same monitor at the same moment: what counts is that it is in the quorum.
func TestAMonitorThatSomebodyElseMakesIsFine(t *testing.T) {
	s := made(t)
	delete(s.nodes["pve3"].daemons, "mon.pve3")
	s.confMons, s.quorum = s.confMons[:2], s.quorum[:2]
	s.on("pveceph mon create", func() (string, string, int) {
		s.nodes["pve3"].daemons["mon.pve3"] = "active"
		s.confMons, s.quorum = append(s.confMons, "pve3"), append(s.quorum, "pve3")
		return "", "monitor 'pve3' already exists\n", 255
	})
	testkit.Converge(t, cephMon(), s.target(), "")
}

func TestAMonitorWaitsForTheLock(t *testing.T) {
	s := made(t)
	delete(s.nodes["pve3"].daemons, "mon.pve3")
	s.confMons, s.quorum = s.confMons[:2], s.quorum[:2]
	tries := 0
	s.on("pveceph mon create", func() (string, string, int) {
		if tries++; tries < 4 {
			return "", "cfs-lock 'file-ceph_conf' error: got lock request timeout\n", 255
		}
		s.nodes["pve3"].daemons["mon.pve3"] = "active"
		s.confMons, s.quorum = append(s.confMons, "pve3"), append(s.quorum, "pve3")
		return "", "", 0
	})
	tgt := s.target()
	testkit.Converge(t, cephMon(), tgt, "")
	require.Equal(t, 4, tries)
}

func TestAMonitorThatDoesNotCome(t *testing.T) {
	s := made(t)
	delete(s.nodes["pve3"].daemons, "mon.pve3")
	s.confMons, s.quorum = s.confMons[:2], s.quorum[:2]
	s.on("pveceph mon create", fails("Could not connect to ceph cluster despite configured monitors\n", 255))
	tgt := s.target()
	require.ErrorContains(t, testkit.Apply(t.Context(), tgt, testkit.Plan(t, cephMon(), tgt, "")), "Could not connect to ceph cluster despite configured monitors")
}

func TestMonitorsAreStartedWhenNobodyAnswers(t *testing.T) {
	s := made(t)
	s.silent = true
	for _, name := range s.order {
		s.nodes[name].daemons["mon."+name] = "inactive"
	}
	started := 0
	s.on("systemctl start ceph-mon@", func() (string, string, int) {
		name := s.order[started]
		started++
		s.nodes[name].daemons["mon."+name] = "active"
		s.silent = started < 2
		return "", "", 0
	})
	changes := testkit.Converge(t, cephMon(), s.target(), "")
	require.Len(t, changes, 3)
}

func TestADiskThatChangedSinceThePlanIsLeftAlone(t *testing.T) {
	s := made(t)
	tgt := s.target()
	changes := testkit.Plan(t, cephOSD(), tgt, one(byIDOf("pve1", "sdc")))
	s.nodes["pve1"].disks["sdc"] = "ext4"
	err := testkit.Apply(t.Context(), tgt, changes)
	refusal, ok := errors.AsType[*module.Refusal](err)
	require.True(t, ok, "%v", err)
	require.Contains(t, refusal.Saw, "ext4 on sdc")
	require.Empty(t, s.ran)
}

func TestWhatIsWipedIsWhatThePlanShowed(t *testing.T) {
	s := made(t)
	s.nodes["pve1"].disks["sdc"] = "ext4"
	tgt := s.target()
	changes := testkit.Plan(t, cephOSD(), tgt, permitted(t, s, one(byIDOf("pve1", "sdc"), word)))
	s.nodes["pve1"].disks["sdc"] = "part"
	require.Error(t, testkit.Apply(t.Context(), tgt, changes))
	require.Empty(t, s.ran)
}

func TestAnOSDThatIsMade(t *testing.T) {
	s := made(t)
	n := s.nodes["pve1"]
	s.on("pveceph osd create", func() (string, string, int) {
		n.disks["sdc"], n.daemons["osd.5"] = "osd:5", "active"
		s.osds = append(s.osds, fakeOSD{id: 5, up: true, in: true, host: "pve1", class: "nvme", node: "pve1", device: "sdc=ACME_pve1-sdc"})
		return "create OSD on /dev/sdc (bluestore)\n", "", 0
	})
	testkit.Converge(t, cephOSD(), s.target(), one(byIDOf("pve1", "sdc"), "class = \"nvme\"", "db_size = 40", "db_device = \""+byIDOf("pve1", "nvme0n1")+"\""))
	require.Len(t, s.ran, 1)
	require.True(t, strings.HasSuffix(s.ran[0], byIDOf("pve1", "sdc")+" pve1-sdc 960197124096 no "+byIDOf("pve1", "nvme0n1")+"  --db_dev_size 40 --crush-device-class nvme"), s.ran[0])
}

func TestAnOSDThatIsNotMadeTellsWhatItLeft(t *testing.T) {
	s := made(t)
	n := s.nodes["pve1"]
	s.on("pveceph osd create", func() (string, string, int) {
		n.disks["sdc"] = "osd:9"
		s.osds = append(s.osds, fakeOSD{id: 9})
		return "create OSD on /dev/sdc (bluestore)\n", "command 'ceph-volume lvm create' failed: exit code 1\n", 255
	})
	tgt := s.target()
	err := testkit.Apply(t.Context(), tgt, testkit.Plan(t, cephOSD(), tgt, one(byIDOf("pve1", "sdc"))))
	require.ErrorContains(t, err, "command 'ceph-volume lvm create' failed: exit code 1")
	require.ErrorContains(t, err, "clean up with: ceph osd purge 9 --yes-i-really-mean-it; ceph-volume lvm zap --destroy /dev/sdc")
}

func TestAnOSDIsTakenAwayStepByStep(t *testing.T) {
	s := made(t)
	// A second OSD on pve1, so that three places stay.
	s.nodes["pve1"].disks["sdc"], s.nodes["pve1"].daemons["osd.3"] = "osd:3", "active"
	s.osds = append(s.osds, fakeOSD{id: 3, up: true, in: true, host: "pve1", class: "ssd", node: "pve1", device: "sdc=ACME_pve1-sdc"})
	asked := 0
	s.on("ceph --connect-timeout 10 osd out 3", func() (string, string, int) { s.osds[3].in = false; return "", "marked out osd.3. \n", 0 })
	s.on("osd safe-to-destroy 3", func() (string, string, int) {
		if asked++; asked < 3 {
			return "", "Error EBUSY: OSD(s) 3 have 12 pgs currently mapped to them.\n", 16
		}
		return "OSD(s) 3 are safe to destroy without reducing data durability.\n", "", 0
	})
	s.on("systemctl stop ceph-osd@3", func() (string, string, int) { s.osds[3].up = false; return "", "", 0 })
	s.on("pveceph osd destroy 3", func() (string, string, int) { s.osds = s.osds[:3]; return "", "", 0 })
	tgt := s.target()
	changes := testkit.Converge(t, cephOSD(), tgt, "ensure = \"absent\"\nids = [3]\ncleanup = true")
	require.Equal(t, module.RiskDestructive, changes[0].Risk)
	require.Len(t, s.ran, 6)
	require.Contains(t, s.ran[0], "osd out 3")
	require.Contains(t, s.ran[4], "systemctl stop ceph-osd@3")
	require.Contains(t, s.ran[5], "pveceph osd destroy 3 --cleanup 1")
}

func TestAnOSDThatIsNotSafeStays(t *testing.T) {
	s := made(t)
	s.nodes["pve1"].disks["sdc"], s.nodes["pve1"].daemons["osd.3"] = "osd:3", "active"
	s.osds = append(s.osds, fakeOSD{id: 3, up: true, in: true, host: "pve1", class: "ssd", node: "pve1"})
	s.on("osd safe-to-destroy", fails("Error EAGAIN: OSD(s) 3 have no reported stats\n", 11))
	tgt := s.target()
	err := testkit.Apply(t.Context(), tgt, testkit.Plan(t, cephOSD(), tgt, "ensure = \"absent\"\nids = [3]\ndrain_timeout = \"1m\""))
	require.ErrorContains(t, err, "Error EAGAIN")
	require.ErrorContains(t, err, "ceph osd in 3")
	for _, r := range s.ran {
		require.NotContains(t, r, "stop")
		require.NotContains(t, r, "destroy 3 --")
	}
}

func TestAnIDWithoutAHostIsPurgedWhenTheRunbookNamesIt(t *testing.T) {
	s := made(t)
	s.osds = append(s.osds, fakeOSD{id: 9})
	s.on("osd purge 9 --yes-i-really-mean-it", func() (string, string, int) { s.osds = s.osds[:3]; return "", "", 0 })
	changes := testkit.Converge(t, cephOSD(), s.target(), "ensure = \"absent\"\nids = [9]")
	require.Equal(t, []string{"purge osd.9, which belongs to no host"}, testkit.Summaries(changes))
}

func TestAnIDWithoutAHostThatHeldDataIsNotPurged(t *testing.T) {
	s := made(t)
	s.osds = append(s.osds, fakeOSD{id: 9, in: true})
	s.on("osd safe-to-destroy", fails("Error EAGAIN: OSD(s) 9 have no reported stats\n", 11))
	tgt := s.target()
	err := testkit.Apply(t.Context(), tgt, testkit.Plan(t, cephOSD(), tgt, "ensure = \"absent\"\nids = [9]"))
	require.ErrorContains(t, err, "it was in before: Error EAGAIN")
	for _, r := range s.ran {
		require.NotContains(t, r, "purge")
	}
}

// pveceph gives the settings of a creation to a pool that is there already.
func TestAPoolThatAppearsMeanwhileIsNotChanged(t *testing.T) {
	s := made(t)
	tgt := s.target()
	changes := testkit.Plan(t, cephPool(), tgt, "name = \"new\"\nsize = 2\nmin_size = 1")
	s.pools = append(s.pools, replicated(9, "new", "rbd"))
	err := testkit.Apply(t.Context(), tgt, changes)
	require.ErrorContains(t, err, "there is a pool new by now, and it is not as wanted")
	for _, r := range s.ran {
		require.NotContains(t, r, "pool create")
	}
}

func TestFlags(t *testing.T) {
	s := made(t)
	s.nodeFlags = map[string][]string{}
	s.on("osd set-group noout pve2", func() (string, string, int) { s.nodeFlags["pve2"] = []string{"noout"}; return "", "", 0 })
	s.on("osd unset-group noout pve2", func() (string, string, int) { s.nodeFlags = nil; return "", "", 0 })
	s.on("osd set norebalance", func() (string, string, int) { s.flags = []string{"norebalance"}; return "", "", 0 })
	tgt := s.target()
	changes := testkit.Converge(t, cephFlag(), tgt, "node = \"pve2\"\ntemporary = true")
	require.Equal(t, []string{"timeout", "-k", "2", "30", "ceph", "--connect-timeout", "10", "osd", "unset-group", "noout", "pve2"}, changes[0].Undo.Command.Argv)
	back := testkit.Converge(t, cephFlag(), tgt, "node = \"pve2\"\nensure = \"absent\"")
	require.Equal(t, []string{changes[0].ID}, back[0].Undoes)
	require.Nil(t, testkit.Converge(t, cephFlag(), tgt, "flag = \"norebalance\"")[0].Undo)
	require.Empty(t, testkit.Plan(t, cephFlag(), tgt, "flag = \"norebalance\"\ntemporary = true"), "one that was set before is not taken over")
}

func TestErasureCodedPools(t *testing.T) {
	s := made(t)
	s.on("pveceph pool create ec", func() (string, string, int) {
		data := replicated(8, "ec-data", "rbd")
		data["type"], data["erasure_code_profile"] = 3, "pve_ec_ec"
		s.profiles = map[string]any{"pve_ec_ec": map[string]any{"k": "2", "m": "1"}}
		s.pools = append(s.pools, data, replicated(7, "ec-metadata", "rbd"))
		return "", "", 0
	})
	s.on("pvesm add rbd ec", func() (string, string, int) {
		s.storages = "rbd: ec\n\tpool ec-metadata\n\tdata-pool ec-data\n"
		return "", "", 0
	})
	const args = "name = \"ec\"\nstorage = true\nerasure_coding {\n  k = 2\n  m = 1\n}"
	testkit.Converge(t, cephPool(), s.target(), args)
	require.Contains(t, s.ran[0], "--erasure-coding k=2,m=1 --add_storages 0")
	require.Contains(t, s.ran[1], "--pool ec-metadata --content images,rootdir --krbd 0 --data-pool ec-data")
	require.Contains(t, refused(t, cephPool(), s.target(), strings.Replace(args, "k = 2", "k = 4", 1)), "its code is k=2, m=1, and the runbook says k=4, m=1")
	require.Equal(t, []string{"change pool ec-metadata"}, testkit.Summaries(testkit.Plan(t, cephPool(), s.target(), args+"\nsize = 4")))
	require.Equal(t, []string{"change pool ec-data"}, testkit.Summaries(testkit.Plan(t, cephPool(), s.target(), args+"\ntarget_size_ratio = 0.2")))
}

func TestARuleIsMadeForAClass(t *testing.T) {
	s := made(t)
	for i := range s.osds {
		s.osds[i].class = "nvme"
	}
	s.on("osd crush rule create-replicated fast default host nvme", func() (string, string, int) {
		s.rules = append(s.rules, rule(1, "fast", "default~nvme"))
		return "", "", 0
	})
	s.on("pveceph pool set vm --crush_rule fast", func() (string, string, int) { s.pools[1]["crush_rule"] = 1; return "", "", 0 })
	changes := testkit.Converge(t, cephPool(), s.target(), "crush_rule = \"fast\"\ndevice_class = \"nvme\"")
	require.Equal(t, []string{"make CRUSH rule fast", "change pool vm"}, testkit.Summaries(changes))
	require.Equal(t, module.RiskDisruptive, changes[1].Risk, "another rule moves the pool's data")
}

func TestAPoolIsDestroyedByItsName(t *testing.T) {
	s := made(t)
	s.on("pveceph pool destroy vm", func() (string, string, int) { s.pools = s.pools[:1]; return "", "", 0 })
	changes := testkit.Converge(t, cephPool(), s.target(), "ensure = \"absent\"\ndestroy = \"vm\"")
	require.Equal(t, module.RiskDestructive, changes[0].Risk)
	s = made(t)
	s.on("pveceph pool destroy vm", fails("mon_command failed - nope\n", 0))
	tgt := s.target()
	require.ErrorContains(t, testkit.Apply(t.Context(), tgt, testkit.Plan(t, cephPool(), tgt, "ensure = \"absent\"\ndestroy = \"vm\"")), "it is still there: mon_command failed - nope")
}

func TestMonitorsAreTakenAway(t *testing.T) {
	s := made(t)
	s.order = append(s.order, "pve4")
	s.nodes["pve4"] = newSite(t, "pve1", "pve2", "pve3", "pve4").nodes["pve4"]
	s.nodes["pve4"].ceph, s.nodes["pve4"].link, s.nodes["pve4"].daemons["mon.pve4"] = "19.2.3-pve2", "/etc/pve/ceph.conf", "active"
	s.confMons, s.quorum = append(s.confMons, "pve4"), append(s.quorum, "pve4")
	s.on("pveceph mon destroy pve4", func() (string, string, int) {
		s.confMons, s.quorum = s.confMons[:3], s.quorum[:3]
		delete(s.nodes["pve4"].daemons, "mon.pve4")
		return "", "", 0
	})
	testkit.Converge(t, cephMon(), s.target(), "ensure = \"absent\"\nnodes = [\"pve4\"]")
	require.Contains(t, s.ran[0], "mon ok-to-stop pve4")

	s.on("mon ok-to-stop", fails("Error EBUSY: not enough monitors would be available\n", 16))
	s.nodes["pve4"].daemons["mon.pve4"] = "active"
	s.confMons, s.quorum = append(s.confMons, "pve4"), append(s.quorum, "pve4")
	tgt := s.target()
	changes := testkit.Plan(t, cephMon(), tgt, "ensure = \"absent\"\nnodes = [\"pve4\"]")
	require.ErrorContains(t, testkit.Apply(t.Context(), tgt, changes), "not enough monitors would be available")
}

func TestACephFS(t *testing.T) {
	s := made(t)
	s.standby = 2
	for i, part := range []string{"cephfs_data", "cephfs_metadata"} {
		s.on("pveceph pool set "+part+" --pg_autoscale_mode on", func() (string, string, int) { s.pools[2+i]["pg_autoscale_mode"] = "on"; return "", "", 0 })
	}
	s.on("pveceph fs create", func() (string, string, int) {
		for i, part := range []string{"cephfs_data", "cephfs_metadata"} {
			s.pools = append(s.pools, replicated(5+i, part, "cephfs"))
			s.pools[2+i]["pg_autoscale_mode"] = "warn"
		}
		s.filesystems = []map[string]any{{"name": "cephfs", "metadata_pool": "cephfs_metadata", "data_pools": []string{"cephfs_data"}}}
		s.active, s.standby = []string{"pve1"}, 1
		return "", "", 0
	})
	s.on("pvesm add cephfs cephfs", func() (string, string, int) { s.storages = "cephfs: cephfs\n\tfs-name cephfs\n"; return "", "", 0 })
	testkit.Converge(t, cephFS(), s.target(), "name = \"cephfs\"\nstorage = true")
	require.Contains(t, s.ran[0], "--name cephfs --pg_num 32 --add-storage 0")
	require.Equal(t, "on", s.pools[3]["pg_autoscale_mode"])
	s.pools[2]["pg_autoscale_mode"] = "off"
	require.Empty(t, testkit.Plan(t, cephFS(), s.target(), `name = "cephfs"`), "what is not named is left")
	require.Equal(t, []string{"change pool cephfs_data"}, testkit.Summaries(testkit.Plan(t, cephFS(), s.target(), "name = \"cephfs\"\nautoscale = \"on\"")))

	s = made(t)
	s.standby = 2
	s.on("pveceph fs create", fails("no standby Metadata Server (MDS) found!\n", 0))
	tgt := s.target()
	require.ErrorContains(t, testkit.Apply(t.Context(), tgt, testkit.Plan(t, cephFS(), tgt, `name = "cephfs"`)), "there is no CephFS cephfs afterwards: no standby Metadata Server (MDS) found!")
}
