package ceph

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/stretchr/testify/require"
)

// word stands for the permission that the plan prints; a disk for which it prints none gets one of other days.
const word = `wipe = "WORD"`

var printed = regexp.MustCompile(`wipe = "([a-z0-9]+-[0-9a-f]{8})"`)

// permitted plans once without the permission and writes what was printed into the arguments.
func permitted(tb testing.TB, s *site, args string) string {
	tb.Helper()
	if !strings.Contains(args, word) {
		return args
	}
	found := "ext4-00000000"
	if _, err := testkit.TryPlan(tb, cephOSD(), s.target(), strings.ReplaceAll(args, word, "")); err != nil {
		if m := printed.FindStringSubmatch(err.Error()); m != nil {
			found = m[1]
		}
	}
	return strings.ReplaceAll(args, "WORD", found)
}

// one names a disk of pve1 in the task.
func one(device string, more ...string) string {
	return fmt.Sprintf("disk {\n  node = \"pve1\"\n  device = %q\n  %s\n}\n", device, strings.Join(more, "\n  "))
}

func TestDisks(t *testing.T) {
	sdc, db := byIDOf("pve1", "sdc"), byIDOf("pve1", "nvme0n1")
	dbLine := fmt.Sprintf("db_device = %q", db)
	tests := []struct {
		name  string
		args  string
		given func(*site, *fake)
		plan  string // the one change
		risk  module.Risk
		saw   []string // of the refusal
	}{
		{name: "empty", args: one(sdc), plan: "make an OSD of ata-ACME_pve1-sdc on pve1"},
		{name: "with a database", args: one(sdc, dbLine), plan: "make an OSD of ata-ACME_pve1-sdc on pve1"},
		{name: "beside other databases", args: one(sdc, dbLine), given: func(_ *site, n *fake) { n.disks["nvme0n1"] = "db:0" }, plan: "make an OSD of ata-ACME_pve1-sdc on pve1"},
		{name: "already an OSD", args: one(byIDOf("pve1", "sdb"))},
		{name: "already an OSD, and wipe", args: one(byIDOf("pve1", "sdb"), word)},
		{name: "a file system", args: one(sdc), given: func(_ *site, n *fake) { n.disks["sdc"] = "ext4" }, saw: []string{"/dev/sdc (960.2 GB, ACME, serial pve1-sdc): ext4 on sdc", "if nothing on it is needed: wipe = \"ext4-"}},
		{name: "a file system, and wipe", args: one(sdc, word), given: func(_ *site, n *fake) { n.disks["sdc"] = "ext4" }, plan: "WIPE ata-ACME_pve1-sdc on pve1 and make an OSD of it", risk: module.RiskDestructive},
		{name: "partitions", args: one(sdc), given: func(_ *site, n *fake) { n.disks["sdc"] = "part" }, saw: []string{"partition sdc1"}},
		{name: "mounted, and wipe", args: one(sdc, word), given: func(_ *site, n *fake) { n.disks["sdc"] = "mounted" }, saw: []string{"sdc in use as /mnt/data", "take it out of use first"}},
		{name: "an OSD of a cluster that is no more", args: one(sdc), given: func(_ *site, n *fake) { n.disks["sdc"] = "osd:7" }, saw: []string{"osd.7, which the cluster does not know"}},
		{name: "an OSD of a cluster that is no more, and wipe", args: one(sdc, word), given: func(_ *site, n *fake) { n.disks["sdc"] = "osd:7" }, plan: "WIPE ata-ACME_pve1-sdc on pve1 and make an OSD of it", risk: module.RiskDestructive},
		{name: "pulled out", args: one(sdc), given: func(_ *site, n *fake) { delete(n.disks, "sdc") }, saw: []string{"the node has no " + sdc, "if the disk was replaced"}},
		{name: "an OSD's disk pulled out and replaced", args: one(byIDOf("pve1", "sdb")), given: func(s *site, n *fake) {
			s.osds[0].up, s.osds[0].device = false, "sdb=ACME_pve1-sdb"
			n.disks["sdb"], n.serials["sdb"] = "", "NEW"
		}, saw: []string{"osd.0 was on it and is down", "/dev/disk/by-id/ata-ACME_NEW (960.2 GB, ACME, serial NEW)"}},
		{name: "an OSD on another disk than it was", args: one(byIDOf("pve1", "sdb")), given: func(s *site, _ *fake) { s.osds[0].device = "sdb=ACME_OLD" }, saw: []string{"osd.0 last ran on the disk ACME_OLD, and lies on one with serial pve1-sdb now"}},
		{name: "a disk of another node, and wipe", args: one(sdc, word), given: func(_ *site, n *fake) { n.disks["sdc"] = "osd:1" }, saw: []string{"the disk says osd.1, and osd.1 last ran on pve2 (it is up)"}},
		{name: "cut off", args: one(sdc), given: func(s *site, n *fake) {
			n.disks["sdc"] = "osd:9"
			s.osds = append(s.osds, fakeOSD{id: 9})
		}, saw: []string{"osd.9 is on it, down, and part of no host", "ceph osd purge 9"}},
		{name: "cut off, and wipe", args: one(sdc, word), given: func(s *site, n *fake) {
			n.disks["sdc"] = "osd:9"
			s.osds = append(s.osds, fakeOSD{id: 9})
		}, plan: "WIPE ata-ACME_pve1-sdc on pve1 and make an OSD of it", risk: module.RiskDestructive},
		{name: "databases of OSDs, and wipe", args: one(sdc, word), given: func(_ *site, n *fake) { n.disks["sdc"] = "db:0" }, saw: []string{"it holds the block.db of osd.0", "a disk that no OSD of this cluster needs"}},
		{name: "databases of OSDs that are no more, and wipe", args: one(sdc, word), given: func(_ *site, n *fake) { n.disks["sdc"] = "db:7" }, plan: "WIPE ata-ACME_pve1-sdc on pve1 and make an OSD of it", risk: module.RiskDestructive},
		{name: "a permission of other days", args: one(sdc, `wipe = "ext4-00000000"`), given: func(_ *site, n *fake) { n.disks["sdc"] = "ext4" }, saw: []string{"ext4 on sdc", `wipe = "ext4-00000000" was written for something else than what lies there now`, `if nothing on it is needed: wipe = "ext4-`}},
		{name: "a permission for an empty disk", args: one(sdc, `wipe = "ext4-00000000"`), plan: "make an OSD of ata-ACME_pve1-sdc on pve1"},
		{name: "a database on a disk that is in use", args: one(sdc, dbLine), given: func(_ *site, n *fake) { n.disks["nvme0n1"] = "ext4" }, saw: []string{"for the OSD's database: ext4 on nvme0n1", "never wiped"}},
		{name: "a database on an OSD's disk", args: one(sdc, fmt.Sprintf("db_device = %q", byIDOf("pve1", "sdb"))), saw: []string{"osd-block"}},
		{name: "a database on a disk that is gone", args: one(sdc, dbLine), given: func(_ *site, n *fake) { delete(n.disks, "nvme0n1") }, saw: []string{"the node has no " + db}},
		{name: "a database on a disk that is to be an OSD", args: one(sdc, dbLine) + one(db), saw: []string{"for the OSD's database, is to be an OSD itself"}},
		{name: "an unknown node", args: strings.Replace(one(sdc), "pve1\"", "pve9\"", 1), saw: []string{"pve9 is not a node of cluster"}},
		{name: "no Ceph", args: one(sdc), given: func(_ *site, n *fake) { n.ceph = "" }, saw: []string{"Ceph is not installed"}},
		{name: "an installation that was cut off", args: one(sdc), given: func(_ *site, n *fake) { n.flag = true }, saw: []string{"/run/pve-ceph-install-flag is there"}},
		{name: "outside of the network", args: one(sdc), given: func(_ *site, n *fake) { n.addresses = n.addresses[:1] }, saw: []string{"no interface has an address in Ceph's public network"}},
		{name: "outside of the cluster network", args: one(sdc), given: func(s *site, _ *fake) { s.private = "10.0.4.0/24" }, saw: []string{"no interface has an address in Ceph's cluster network 10.0.4.0/24"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := made(t)
			if tt.given != nil {
				tt.given(s, s.nodes["pve1"])
			}
			args := permitted(t, s, tt.args)
			if len(tt.saw) > 0 {
				text := refused(t, cephOSD(), s.target(), args)
				for _, want := range tt.saw {
					require.Contains(t, text, want)
				}
				return
			}
			changes := testkit.Plan(t, cephOSD(), s.target(), args)
			if tt.plan == "" {
				require.Empty(t, changes)
				return
			}
			require.Equal(t, []string{tt.plan}, testkit.Summaries(changes))
			require.Equal(t, tt.risk, changes[0].Risk)
			if tt.risk == module.RiskDestructive {
				require.NotEmpty(t, changes[0].Before.(map[string]any)["destroyed"])
			}
		})
	}
}

func TestDisksAreNamedTheLastingWay(t *testing.T) {
	for _, device := range []string{"/dev/sdb", "/dev/disk/by-path/pci-1", "sdb", "/dev/disk/by-id/", "/dev/disk/by-id/../sdb"} {
		_, problems := testkit.TryArgs(t, cephOSD(), one(device))
		require.Contains(t, strings.Join(problems, "\n"), "is not a path in /dev/disk/by-id/", device)
	}
	s := made(t)
	tgt := s.target()
	osdsOf(tgt, "pve1", osd("/dev/sdc"))
	require.Contains(t, refused(t, cephOSD(), tgt, ""), "at this moment it is "+byIDOf("pve1", "sdc"))
}

func TestADiskOfTwoNamesIsOneDisk(t *testing.T) {
	s := made(t)
	s.nodes["pve1"].also = "/dev/disk/by-id/wwn-0x5 /dev/sdc"
	text := refused(t, cephOSD(), s.target(), one(byIDOf("pve1", "sdc"))+one("/dev/disk/by-id/wwn-0x5"))
	require.Contains(t, text, "it is the same disk as "+byIDOf("pve1", "sdc")+": /dev/sdc")
}

func TestArguments(t *testing.T) {
	tests := []struct {
		module module.Module
		args   string
		want   string
	}{
		{cephOSD(), `ensure = "absent"`, "name the OSDs that shall go"},
		{cephOSD(), `ids = [1]`, `ids and cleanup are for ensure = "absent"`},
		{cephOSD(), one(byIDOf("a", "b")) + one(byIDOf("a", "b")), "is named twice for pve1"},
		{cephOSD(), one(byIDOf("a", "b"), fmt.Sprintf("db_device = %q", byIDOf("a", "b"))), "leave it out"},
		{cephOSD(), one(byIDOf("a", "b"), fmt.Sprintf("db_device = %q", byIDOf("a", "c")), fmt.Sprintf("wal_device = %q", byIDOf("a", "c"))), "leave wal_device out"},
		{cephOSD(), "disk {\n  node = [\"pve1\", \"pve2\"]\n  device = \"" + byIDOf("a", "b") + "\"\n}", "a disk is in one node"},
		{cephOSD(), one(byIDOf("a", "b"), "wipe = true"), "wipe wanted a string, got a bool"},
		{cephOSD(), one(byIDOf("a", "b"), `wipe = "all"`), "the plan prints the word for what lies on the disk"},
		{cephOSD(), "ensure = \"absent\"\nids = [1]\nstart_stopped = true", "for OSDs that shall be there"},
		{cephInstall(), `version = "hammer"`, `"hammer" is no release of Ceph`},
		{cephInit(), "network = \"10.0.3.0/24\"\nsize = 2\nmin_size = 3", "min_size 3 is more than size 2"},
		{cephInit(), "network = \"10.0.3.0/24\"\npool \"-x\" {}", "is no name for a pool"},
		{cephInit(), "network = \"10.0.3.0/24\"\npool \"a\" {\n  target_size = \"much\"\n}", `"much" is no size`},
		{cephPool(), "device_class = \"ssd\"", "give it a name"},
		{cephPool(), "lower = [\"pg_num\"]", `"pg_num" is none of size, min_size`},
		{cephPool(), "destroy = \"vm\"", `it is for ensure = "absent"`},
		{cephFlag(), "flag = \"pause\"\nnode = \"pve1\"", "pause is for the whole cluster"},
		{cephFlag(), "ensure = \"absent\"\ntemporary = true", "only a flag that is set can be temporary"},
		{cephMDS(), `nodes = ["1node"]`, "begins with a digit"},
	}
	for _, tt := range tests {
		_, problems := testkit.TryArgs(t, tt.module, tt.args)
		require.Contains(t, strings.Join(problems, "\n"), tt.want, tt.args)
	}
}
