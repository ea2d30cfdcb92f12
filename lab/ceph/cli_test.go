package ceph_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab"
)

// step is one command with what it must print and return. out and errs are regular expressions, "" is nothing.
type step struct {
	host, script string
	out, errs    string
	code         int
}

func (t *labTest) steps(list []step) {
	t.Helper()
	for _, s := range list {
		out, errs, code := t.sh(s.host, s.script)
		require.Equal(t, s.code, code, "%s: %s%s", s.script, out, errs)
		for _, one := range []struct{ want, got string }{{s.out, out}, {s.errs, errs}} {
			if one.want == "" {
				require.Empty(t, one.got, s.script)
			} else {
				require.Regexp(t, regexp.MustCompile("(?s)^"+one.want+"$"), one.got, s.script)
			}
		}
	}
}

// json runs a command of ceph and decodes what it prints.
func (t *labTest) json(host, command string) map[string]any {
	t.Helper()
	out := t.ok(host, "ceph --connect-timeout 10 "+command+" -f json")
	require.True(t, strings.HasPrefix(out, "\n"), "an empty line is first")
	value := map[string]any{}
	require.NoError(t, json.Unmarshal([]byte(out), &value), out)
	return value
}

func (t *labTest) after(d time.Duration) {
	t.Helper()
	require.NoError(t, t.l.Clock().Sleep(t.Context(), d))
}

func (t *labTest) fault(f lab.Fault) int {
	t.Helper()
	id, err := t.l.AddFault(f)
	require.NoError(t, err)
	return id
}

func TestBeforeAnythingIsInstalled(t *testing.T) {
	inLab(t, site(1, "9.1.8"), func(t *labTest) {
		const missing = "binary not installed: /usr/bin/ceph-mon\n"
		t.steps([]step{
			{"pve1", "pveceph status", "", missing, 2},
			{"pve1", "pveceph init --network 10.0.3.0/24", "", missing, 2},
			{"pve1", "pveceph mon create", "", missing, 2},
			{"pve1", "pvesh get /cluster/ceph/status --output-format json", "", missing, 2},
			{"pve1", "pvesh get /nodes/pve1/ceph/status --output-format json", "", missing, 2},
			{"pve1", "pvesh get /cluster/ceph/flags", "", missing, 2},
			{"pve1", "ceph -s", "", `Error initializing cluster client: ObjectNotFound\('RADOS object not found \(error calling conf_read_file\)'\)\n`, 1},
			{"pve1", "ceph --version", `ceph version 19\.2\.3 \([0-9a-f]{40}\) squid \(stable\)\n`, "", 0},
			{"pve1", "pveceph nosuch", "", "ERROR: unknown command 'pveceph nosuch'\n.*", 255},
			{"pve1", "pveceph install --version bobtail", "", "400 Parameter verification failed.\nversion: value 'bobtail' does not have a value in the enumeration 'squid, tentacle'\npveceph install .*", 255},
		})
	})
}

func TestInstallAsksUnlessItIsTold(t *testing.T) {
	inLab(t, site(1, "9.1.8"), func(t *labTest) {
		t.steps([]step{
			{"pve1", "pveceph install --version squid --repository no-subscription", `.*start installation\n.*Do you want to continue\? \[Y/n\] Abort\.\n`, `\nHINT: .*apt failed during ceph installation \(256\)\n`, 255},
			{"pve1", "test -e /run/pve-ceph-install-flag", "", "", 1},
			{"pve1", "cat /etc/apt/sources.list.d/ceph.sources", "Types: deb\nURIs: http://download.proxmox.com/debian/ceph-squid\nSuites: trixie\nComponents: no-subscription\nSigned-By: .*\n", "", 0},
			{"pve1", "test -x /usr/bin/ceph-mon", "", "", 1},
			{"pve1", "pveceph install --version squid </dev/null", "update available package list\nstart installation\n.*", ".*401  Unauthorized.*E: Unable to locate package ceph\napt failed during ceph installation \\(25600\\)\n", 255},
			{"pve1", "echo 'APT::Get::Assume-Yes \"true\"; DPkg::Lock::Timeout \"300\";' >/run/apt.conf; APT_CONFIG=/run/apt.conf pveceph install --version squid --repository no-subscription", ".*\ninstalled Ceph 19.2 Squid successfully!\n\nreloading API to load new Ceph RADOS library...\n", "\nHINT: .*", 0},
			{"pve1", "ceph-mon --version; dpkg-query -W -f '${Package} ${Version}\\n' ceph ceph-mon ceph-osd ceph-common", "ceph version 19.2.3 .*squid.*ceph 19.2.3-pve2\nceph-common 19.2.3-pve2\nceph-mon 19.2.3-pve2\nceph-osd 19.2.3-pve2\n", "", 0},
			{"pve1", "printf 'Types: deb\\nURIs: https://enterprise.proxmox.com/debian/ceph-tentacle\\nSuites: trixie\\nComponents: enterprise\\nEnabled: false\\n\\nTypes: deb\\nURIs: http://download.proxmox.com/debian/ceph-squid\\nSuites: trixie\\nComponents: no-subscription\\n' >/etc/apt/sources.list.d/ceph.sources; pveceph install --version squid --repository manual", ".*ceph is already the newest version.*successfully!.*", ".*401  Unauthorized.*", 0},
			{"pve1", "yes | pveceph install --version tentacle --repository no-subscription >/dev/null 2>&1; ceph-osd --version", "ceph version 20.2.*tentacle.*", "", 0},
			{"pve1", "touch /run/pve-ceph-install-flag; pveceph init", "", "binary not installed: /usr/bin/ceph-mon\n", 2},
		})
	})
}

func TestInstallOnPVE8(t *testing.T) {
	inLab(t, site(1, "8.4.1"), func(t *labTest) {
		t.steps([]step{
			{"pve1", "ceph --version", "ceph version 17.2.*quincy.*", "", 0},
			{"pve1", "yes | pveceph install --version reef --repository no-subscription >/dev/null 2>&1; cat /etc/apt/sources.list.d/ceph.list; ceph-mon --version", "deb http://download.proxmox.com/debian/ceph-reef bookworm no-subscription\nceph version 18.2.*reef.*", "", 0},
		})
	})
}

func TestInstallThatIsKilledLeavesItsFlag(t *testing.T) {
	inLab(t, site(1, "9.1.8"), func(t *labTest) {
		t.sh("pve1", "yes | timeout -s KILL 12 pveceph install --version squid --repository no-subscription")
		t.steps([]step{
			{"pve1", "ls /run/pve-ceph-install-flag", "/run/pve-ceph-install-flag\n", "", 0},
			{"pve1", "pveceph status", "", "binary not installed: /usr/bin/ceph-mon\n", 2},
		})
		t.l.Machine("pve1").PowerOff()
		t.l.Machine("pve1").PowerOn()
		t.eventually("pve1 is back", func() bool { return t.l.Machine("pve1").Up() })
		t.steps([]step{{"pve1", "test -e /run/pve-ceph-install-flag", "", "", 1}}) // /run is empty after a boot
	})
}

func TestInit(t *testing.T) {
	inLab(t, site(1, "9.1.8"), func(t *labTest) {
		t.ok("pve1", "yes | pveceph install --version squid --repository no-subscription")
		const get = "grep -E 'fsid|network|size' /etc/pve/ceph.conf | grep -v fsid"
		t.steps([]step{
			{"pve1", "pveceph mon create", "", "pveceph configuration not initialized - missing '/etc/pve/ceph.conf'\n", 2},
			{"pve1", "pveceph init --cluster-network 10.0.4.0/24", "", "400 Parameter verification failed.\ncluster-network: missing property - 'network' requires this property\n", 255},
			{"pve1", "pveceph init --network nonsense", "", "400 Parameter verification failed.\nnetwork: invalid format.*", 255},
			{"pve1", "pveceph init --network 10.0.3.0/24 --cluster-network 10.0.1.0/24 --size 2 --min_size 1", "", "", 0},
			{"pve1", get, "\tcluster_network = 10.0.1.0/24\n\tosd_pool_default_min_size = 1\n\tosd_pool_default_size = 2\n\tpublic_network = 10.0.3.0/24\n", "", 0},
			{"pve1", "cp /etc/pve/ceph.conf /tmp/before; pveceph init; diff /tmp/before /etc/pve/ceph.conf", "", "", 0},
			{"pve1", "pveceph init --network 10.0.9.0/24", "", "", 0},
			{"pve1", get, "\tcluster_network = 10.0.9.0/24\n\tosd_pool_default_min_size = 1\n\tosd_pool_default_size = 2\n\tpublic_network = 10.0.9.0/24\n", "", 0},
			{"pve1", "readlink /etc/ceph/ceph.conf; ls /etc/pve/priv/ceph.client.admin.keyring", "/etc/pve/ceph.conf\n/etc/pve/priv/ceph.client.admin.keyring\n", "", 0},
			{"pve1", "ceph -s", "", "unable to get monitor info from DNS SRV with service name: ceph-mon\n.*", 1},
			{"pve1", "pveceph mon create", "", "No active IP found for the requested ceph public network '10.0.9.0/24' on node 'pve1'\n", 255},
			{"pve1", "rm /etc/ceph/ceph.conf; echo x >/etc/ceph/ceph.conf; pveceph init", "", "file '/etc/ceph/ceph.conf' already exists and is not a symlink to /etc/pve/ceph.conf\n", 255},
		})
	})
}

func TestMonitorsAndTheirQuorum(t *testing.T) {
	inLab(t, site(3, "9.1.8"), func(t *labTest) {
		t.ceph(3)
		t.steps([]step{
			{"pve1", "pveceph mon create", "", "monitor 'pve1' already exists\n", 255},
			{"pve1", "pveceph mon create --monid second --mon-address 10.0.3.1", "", "monitor address '10.0.3.1' already in use\n", 255},
			{"pve1", "pveceph mon create --monid second --mon-address 10.0.3.99", "", "Specified monitor IP '10.0.3.99' not configured or up on pve1!\n", 255},
			{"pve1", "pveceph mgr create", "", "ceph manager directory '/var/lib/ceph/mgr/ceph-pve1' already exists\n", 255},
			{"pve1", "pveceph mon destroy nosuch", "", "no such monitor id 'nosuch'\n", 255},
			{"pve1", "ceph mon ok-to-stop pve1", "", "quorum should be preserved \\(pve2,pve3\\) after stopping \\[pve1\\]\n", 0},
			{"pve1", "ceph mon ok-to-stop nosuch", "", "quorum should be preserved \\(pve1,pve2,pve3\\) after stopping \\[nosuch\\]\n", 0},
			{"pve1", "ceph mon ok-to-stop pve1 pve2", "", "Error EBUSY: not enough monitors would be available \\(pve3\\) after stopping mons \\[pve1,pve2\\]\n", 16},
			{"pve1", "systemctl is-active ceph-mon@pve1 ceph-mgr@pve1 ceph-osd@0; systemctl is-enabled ceph-mon@pve1", "active\nactive\nactive\nenabled\n", "", 0},
		})
		status := t.json("pve2", "quorum_status")
		require.Equal(t, []any{"pve1", "pve2", "pve3"}, status["quorum_names"])
		require.Equal(t, "pve1", status["quorum_leader_name"])

		t.l.Machine("pve1").PowerOff()
		t.after(3 * time.Second)
		require.Equal(t, []any{"pve1", "pve2", "pve3"}, t.json("pve2", "quorum_status")["quorum_names"], "not missed yet")
		t.after(6 * time.Second)
		status = t.json("pve2", "-s")
		require.Equal(t, []any{"pve2", "pve3"}, status["quorum_names"])
		require.Contains(t, fmt.Sprint(status["health"]), "1/3 mons down, quorum pve2,pve3")
		require.NotContains(t, fmt.Sprint(status["health"]), "OSD_DOWN")
		t.after(20 * time.Second)
		health := fmt.Sprint(t.json("pve2", "health detail"))
		require.Contains(t, health, "OSD_HOST_DOWN")
		require.Contains(t, health, "mon.pve1 (rank 0) addr [v2:10.0.3.1:3300/0,v1:10.0.3.1:6789/0] is down (out of quorum)")
		t.steps([]step{{"pve2", "ceph osd stat", "6 osds: 4 up .*, 6 in .*", "", 0}})
		t.after(650 * time.Second)
		t.steps([]step{{"pve2", "ceph osd stat", "6 osds: 4 up .*, 4 in .*", "", 0}})

		t.l.Machine("pve2").PowerOff()
		t.after(10 * time.Second)
		began := t.l.Clock().Elapsed()
		t.steps([]step{
			{"pve3", "ceph --connect-timeout 10 -s", "", "\\[errno 110\\] RADOS timed out \\(error connecting to the cluster\\)\n", 1},
			{"pve3", "timeout 15 ceph -s", "", "", 124},
			{"pve3", "pveceph mgr create --id x", "", "got timeout\n", 255},
		})
		require.InDelta(t, 31*float64(time.Second), float64(t.l.Clock().Elapsed()-began), float64(3*time.Second))
		t.steps([]step{{"pve3", "ceph -s", "", "\\[errno 110\\] .*", 1}})

		t.l.Machine("pve1").PowerOn()
		t.l.Machine("pve2").PowerOn()
		t.eventually("all is well again", func() bool {
			out, _, _ := t.sh("pve3", "ceph --connect-timeout 10 -s")
			return strings.Contains(out, "quorum pve1,pve2,pve3") && strings.Contains(out, "6 up") && strings.Contains(out, "6 in") && strings.Contains(out, "1 active+clean")
		})
	})
}

func TestRebootInOrderIsSeenAtOnce(t *testing.T) {
	inLab(t, site(3, "9.1.8"), func(t *labTest) {
		t.ceph(3)
		t.ok("pve1", "ceph osd set-group noout pve2")
		t.l.Machine("pve2").Reboot()
		t.after(10 * time.Second)
		t.steps([]step{{"pve1", "ceph osd stat", "6 osds: 4 up .*", "", 0}})
		t.eventually("pve2 is back", func() bool { return strings.Contains(t.ok("pve1", "ceph osd stat"), "6 up") })
		require.Contains(t, fmt.Sprint(t.json("pve1", "health detail")), "host pve2 has flags noout")
		t.ok("pve1", "ceph osd unset-group noout pve2")
		t.eventually("clean", func() bool { return strings.Contains(t.ok("pve1", "ceph health"), "HEALTH_OK") })
	})
}

func TestManagersTakeOver(t *testing.T) {
	inLab(t, site(3, "9.1.8"), func(t *labTest) {
		t.ceph(3)
		t.ok("pve1", "systemctl stop ceph-mgr@pve1")
		t.after(3 * time.Second)
		require.Equal(t, "pve2", t.json("pve1", "mgr stat")["active_name"])
		t.ok("pve2", "systemctl stop ceph-mgr@pve2")
		t.ok("pve3", "systemctl stop ceph-mgr@pve3")
		t.after(3 * time.Second)
		require.Contains(t, fmt.Sprint(t.json("pve1", "health")), "no active mgr")
		t.steps([]step{{"pve1", "timeout 30 ceph osd ok-to-stop 0", "", "", 124}})
		t.ok("pve3", "systemctl start ceph-mgr@pve3")
		t.after(3 * time.Second)
		t.steps([]step{{"pve1", "ceph osd ok-to-stop 1 0", `\{"num_not_ok_pgs":0,"num_ok_pgs":1,"ok_become_degraded":\["1.0"\],"ok_to_stop":true,"osds":\[0,1\]\}\n`, "", 0}})
	})
}

func TestCreatingOSDs(t *testing.T) {
	spec := site(3, "9.1.8")
	spec.Hosts[0].Disks[0].Content = "ext4"
	inLab(t, spec, func(t *labTest) {
		t.form(3)
		t.ok("pve1", "yes | pveceph install --version squid --repository no-subscription; pveceph init --network 10.0.3.0/24")
		t.steps([]step{{"pve1", "pveceph osd create /dev/disk/by-id/ata-B1", "", "rados_connect failed - No such file or directory\n", 2}})
		t.ok("pve1", "pveceph mon create")
		t.after(5 * time.Second)
		const a, b, n = "/dev/disk/by-id/ata-A1", "/dev/disk/by-id/ata-B1", "/dev/disk/by-id/nvme-N1"
		t.steps([]step{
			{"pve1", "pveceph osd create /dev/nosuch", "", "unable to get device info for '/dev/nosuch'\n", 255},
			{"pve1", "pveceph osd create " + a, "", "device '" + a + "' is already in use\n", 255},
			{"pve1", "pveceph osd create /dev/sda", "", "device '/dev/sda' is already in use\n", 255},
			{"pve1", "pveceph osd create " + b + " --db_dev /dev/sdc", "", "cannot chose '/dev/sdc' for more than one type.\n", 255},
			{"pve1", "pveceph osd create " + b + " --db_dev " + a, "", "device '" + a + "' is already in use and has no LVM on it\n", 255},
			{"pve1", "pveceph osd create " + b + " --db_dev /dev/sda", "create OSD on /dev/sdc \\(bluestore\\)\ncreating block.db on '/dev/sda'\n", "no ceph vg found on '/dev/sda'\n", 255},
			{"pve1", "pveceph osd create " + b + " --osds-per-device 2 --db_dev " + n, "", "cannot use 'osds-per-device' parameter with 'db_dev'\n", 255},
			{"pve1", "pveceph osd create " + b + " --db_dev " + n + " --db_dev_size 0.5", "", "400 Parameter verification failed.\ndb_dev_size: value must have a minimum value of 1\n.*", 255},
			{"pve1", "pveceph osd create " + b + " --db_dev " + n + " --db_dev_size 150", "create OSD on /dev/sdc \\(bluestore\\)\n.*--> ceph-volume lvm create successful for: /dev/sdc\n", "", 0},
			{"pve1", "pveceph osd create " + b, "", "device '" + b + "' is already in use\n", 255},
			{"pve1", "pvesh set /nodes/pve1/disks/wipedisk --disk " + b, `"UPID:pve1:.*:wipedisk:sdc:root@pam:"\n`, "disk/partition '/dev/sdc' has a holder\n", 0},
			{"pve1", "pvesh set /nodes/pve1/disks/wipedisk --disk " + a, `wiping block device /dev/sdb\n.*"UPID:pve1:.*"\n`, "", 0},
			{"pve1", "pveceph osd create " + a + " --db_dev " + n + " --db_dev_size 60", "create OSD .*", "vg 'ceph-.*' has not enough free space\n", 255},
			{"pve1", "pveceph osd create " + a + " --crush-device-class fast --encrypted 1", ".*successful for: /dev/sdb\n", "", 0},
			{"pve1", "lsblk -n -o NAME,TYPE,FSTYPE " + a, "sdb +disk +LVM2_member\n└─ceph--.*-osd--block--.* +lvm +crypto_LUKS\n  └─[0-9a-f-]{36} +crypt +ceph_bluestore\n", "", 0},
			{"pve1", "l=/var/lib/ceph/osd/ceph-1/block; readlink $l; readlink -f $l; lsblk -no TYPE $l", "/dev/mapper/[0-9a-f-]{36}\n/dev/dm-\\d+\ncrypt\n", "", 0},
			{"pve1", "readlink -f /var/lib/ceph/osd/ceph-0/block.db", "/dev/dm-\\d+\n", "", 0},
			{"pve1", "ceph osd crush class ls -f json", "\n\\[\"fast\",\"hdd\"\\]\n", "", 0},
		})
		var volumes map[string][]map[string]any
		require.NoError(t, json.Unmarshal([]byte(t.ok("pve1", "ceph-volume lvm list --format json")), &volumes))
		require.Len(t, volumes["0"], 2, "data and database")
		require.Equal(t, []any{"/dev/sdb"}, volumes["1"][0]["devices"])
		require.Equal(t, "1", volumes["1"][0]["tags"].(map[string]any)["ceph.encrypted"])

		t.eventually("both are up", func() bool { return strings.Contains(t.ok("pve1", "ceph osd stat"), "2 up") })
		t.steps([]step{
			{"pve1", "pveceph osd destroy 7", "", "no such OSD '7'\n", 255},
			{"pve2", "yes | pveceph install --version squid --repository no-subscription >/dev/null 2>&1; ln -s /etc/pve/ceph.conf /etc/ceph/ceph.conf; pveceph osd destroy 1", "", "OSD osd.1 does not belong to node pve2!\n", 255},
			{"pve1", "pveceph osd destroy 1", "", "osd is in use \\(in == 1\\)\n", 255},
			{"pve1", "ceph osd out 1", "", "marked out osd.1.\n", 0},
			{"pve1", "ceph osd out 1", "", "osd.1 is already out.\n", 0},
			{"pve1", "pveceph osd destroy 1", "", "osd is still running \\(up == 1\\)\n", 255},
		})
		t.after(time.Minute)
		t.steps([]step{
			{"pve1", "ceph osd safe-to-destroy 1", "", "Error EBUSY: OSD\\(s\\) 1 have \\d+ pgs currently mapped to them.\n", 16}, // no other host could take its copies
			{"pve1", "systemctl stop ceph-osd@1; pveceph osd destroy 1 --cleanup 1", "destroy OSD osd.1\n.*", "", 0},
			{"pve1", "lsblk -n -o FSTYPE " + a, "\n", "", 0},
			{"pve1", "ceph osd ls", "0\n", "", 0},
			{"pve1", "systemctl is-active ceph-osd@1", "inactive\n", "", 4},
		})
	})
}

func TestAnOSDThatWasBegunIsLeftBehind(t *testing.T) {
	inLab(t, site(1, "9.1.8"), func(t *labTest) {
		t.ceph(1)
		t.ok("pve1", "ceph osd out 1; systemctl stop ceph-osd@1; pveceph osd destroy 1 --cleanup 1")
		t.fault(lab.Fault{Kind: "fail", Phase: "ceph:osd-new", Value: "255:command 'ceph-volume lvm create' failed: exit code 1"})
		t.steps([]step{
			{"pve1", "pveceph osd create /dev/disk/by-id/ata-B1", "create OSD .*", "command 'ceph-volume lvm create' failed: exit code 1\n", 255},
			{"pve1", "ceph osd tree -f json | tail -n 1 | sed 's/.*\"stray\"/stray/'", `stray:\[\{.*"id":1,.*"status":"down".*\}\]\}\n`, "", 0},
			{"pve1", "ceph osd purge 1", "", "Error EPERM: Are you SURE\\?.*", 1},
			{"pve1", "ceph osd purge 1 --yes-i-really-mean-it", "", "purged osd.1\n", 0},
		})
	})
}

func TestPools(t *testing.T) {
	inLab(t, site(3, "9.1.8"), func(t *labTest) {
		t.ceph(3)
		t.steps([]step{
			{"pve1", "pveceph pool create vm --add_storages 1 --pg_autoscale_mode on", "pool vm: applying size = 3\npool vm: applying min_size = 2\npool vm: applying application = rbd\npool vm: applying pg_autoscale_mode = on\npool vm: applying pg_num = 128\n", "", 0},
			{"pve1", "pveceph pool create vm --add_storages 1", "", "storage ID 'vm' already defined\n", 255},
			{"pve1", "pveceph pool create vm --size 2", "pool vm: applying size = 2\n.*", "", 0},
			{"pve1", "pveceph pool set vm --size 3", "pool vm: applying size = 3\n", "", 0},
			{"pve1", "pveceph pool set vm --min_size 5", "pool vm: applying min_size = 5\n.*", "Could not set: min_size\n", 0},
			{"pve1", "pveceph pool set vm --crush_rule nosuch", ".*", "Could not set: crush_rule\n", 0},
			{"pve1", "pveceph pool create huge --pg_num 32768", "", "mon_cmd failed - ERANGE: .*mon_max_pg_per_osd value of 250\n", 0},
			{"pve1", "ceph osd pool ls", ".mgr\nvm\n", "", 0},
			{"pve1", "ceph osd safe-to-destroy 0", "", "Error EBUSY: OSD\\(s\\) 0 have \\d+ pgs currently mapped to them.\n", 16},
			{"pve1", "ceph osd out 0; sleep 300; ceph osd safe-to-destroy 0; ceph osd in osd.0", "", "marked out osd.0.\nOSD\\(s\\) 0 are safe to destroy without reducing data durability.\nmarked in osd.0.\n", 0},
			{"pve1", "pveceph pool destroy vm", "", "ceph pool 'vm' still in use by storage 'vm'\n", 255},
			{"pve1", "pveceph pool create ec --erasure-coding k=2,m=1", "(?s).*", "", 0},
			{"pve1", "ceph osd pool ls; ceph osd erasure-code-profile get pve_ec_ec | grep -E '^[km]='", ".mgr\nvm\nec-data\nec-metadata\nk=2\nm=1\n", "", 0},
			{"pve1", "grep -A6 'rbd: ec' /etc/pve/storage.cfg", "rbd: ec\n\tcontent images,rootdir\n\tdata-pool ec-data\n\tkrbd 0\n\tpool ec-metadata\n\n*", "", 0},
			{"pve1", "pveceph pool destroy vm --remove_storages 1; grep -c 'rbd: vm' /etc/pve/storage.cfg", "0\n", "", 1},
			{"pve1", "ceph osd pool rm vm vm --yes-i-really-really-mean-it", "", "pool 'vm' does not exist\n", 0},
		})
		t.fault(lab.Fault{Kind: "fail", Phase: "ceph:pool", Value: "255:mon_cmd failed - got timeout"})
		t.steps([]step{
			{"pve1", "pveceph pool create lost", "", "mon_cmd failed - got timeout\n", 0},
			{"pve1", "ceph osd pool ls", ".mgr\nec-data\nec-metadata\n", "", 0},
			{"pve1", "pvesh create /nodes/pve1/ceph/pool --name api", `pool api: applying size = 3\n.*"UPID:pve1:.*:cephcreatepool:api:root@pam:"\n`, "", 0},
		})
	})
}

func TestCephFS(t *testing.T) {
	inLab(t, site(3, "9.1.8"), func(t *labTest) {
		t.ceph(3)
		t.steps([]step{
			{"pve1", "pveceph fs create", "", "no running Metadata Server \\(MDS\\) found!\n", 255},
			{"pve1", "pveceph mds create --name 1st", "", "ID of the MDS cannot start with a number!\n", 255},
			{"pve1", "pveceph mds create", "creating MDS directory '/var/lib/ceph/mds/ceph-pve1'\n.*", "", 0},
			{"pve1", "pveceph mds create", "", "MDS 'pve1' already referenced in ceph config, abort!\n", 255},
			{"pve2", "pveceph mds create", "creating .*", "", 0},
			{"pve1", "pveceph fs create --pg_num 32 --add-storage 1", "creating data pool 'cephfs_data'...\n.*creating metadata pool 'cephfs_metadata'...\n.*Successfully create CephFS 'cephfs'\nAdding 'cephfs' to storage configuration...\n.*", "", 0},
			{"pve1", "pveceph fs create", "", "ceph pools 'cephfs_data' and/or 'cephfs_metadata' already exist\n", 255},
			{"pve1", "ceph fs ls -f json", `\n\[\{"data_pool_ids":\[\d\],"data_pools":\["cephfs_data"\],"metadata_pool":"cephfs_metadata","metadata_pool_id":\d,"name":"cephfs"\}\]\n`, "", 0},
			{"pve1", "grep -A4 'cephfs: cephfs' /etc/pve/storage.cfg", "cephfs: cephfs\n\tpath /mnt/pve/cephfs\n\tcontent backup,iso,vztmpl\n\tfs-name cephfs\n\n*", "", 0},
			{"pve1", "ceph mds ok-to-stop pve1", "", "should be safe to stop pve1\n", 0},
		})
		t.l.Machine("pve1").PowerOff()
		t.eventually("pve2 has taken over", func() bool {
			return strings.Contains(fmt.Sprint(t.json("pve2", "-s")["fsmap"]), "name:pve2")
		})
		require.Contains(t, fmt.Sprint(t.json("pve2", "health")), "insufficient standby MDS daemons available")
		t.ok("pve2", "systemctl stop ceph-mds@pve2")
		require.Contains(t, fmt.Sprint(t.json("pve2", "health")), "1 filesystem is offline")
	})
}
