package ceph_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/stretchr/testify/require"
)

// testNode is a node with some disks; the zero value has only that of the system.
type testNode struct {
	disks   []string // lsblk's objects
	links   []string // "ata-A1 /dev/sdb"
	osds    []string // "0 block /dev/ceph-v/osd-block-f /dev/dm-1"
	volumes string
}

const system = `{"name":"sda","kname":"sda","path":"/dev/sda","type":"disk","size":107374182400,"rota":false,"fstype":null,"pttype":"gpt","mountpoints":[null],"serial":"SYSTEM","model":"ACME","children":[
 {"name":"sda3","kname":"sda3","path":"/dev/sda3","type":"part","size":1,"rota":false,"fstype":"LVM2_member","pttype":"gpt","mountpoints":[null],"serial":null,"model":null,"children":[
  {"name":"pve-root","kname":"dm-0","path":"/dev/mapper/pve-root","type":"lvm","size":1,"fstype":"ext4","mountpoints":["/"]}]}]}`

func blank(name, serial string) string {
	return fmt.Sprintf(`{"name":%q,"kname":%q,"path":"/dev/%s","type":"disk","size":960197124096,"rota":"0","fstype":null,"pttype":null,"mountpoints":[null],"serial":%q,"model":"ACME SSD"}`, name, name, name, serial)
}

func with(disk, children string) string {
	return strings.TrimSuffix(disk, "}") + `,"children":[` + children + `]}`
}

func volume(name, kname string) string {
	return fmt.Sprintf(`{"name":%q,"kname":%q,"path":"/dev/mapper/%s","type":"lvm","size":960193626112,"fstype":"ceph_bluestore","mountpoints":[null]}`, name, kname, name)
}

func nodeText(n testNode) string {
	list := `{"blockdevices":[` + strings.Join(append([]string{system}, n.disks...), ",") + `]}`
	var links strings.Builder
	for _, l := range append([]string{"ata-SYSTEM /dev/sda", "ata-SYSTEM-part3 /dev/sda3"}, n.links...) {
		links.WriteString("/dev/disk/by-id/" + l + "\n")
	}
	frames := [][2]string{
		{"packages", "ceph-mon 19.2.3-pve2 installed\nceph-common 19.2.3-pve2 installed\n"}, {"here", "/usr/bin/ceph-mon\nlink /etc/pve/ceph.conf\n"},
		{"installing", ""}, {"audit", ""}, {"repository", ""}, {"daemons", "mon pve1\nosd 0\n\nId=ceph-mon@pve1.service\nLoadState=loaded\nActiveState=active\n\nId=ceph-osd@0.service\nActiveState=inactive\n"},
		{"disks", list}, {"links", links.String()}, {"osds", strings.Join(n.osds, "\n")}, {"volumes", n.volumes},
	}
	var b strings.Builder
	b.WriteString("@@n begin\n")
	for _, f := range frames {
		fmt.Fprintf(&b, "@@n %s\n%s\n@@n rc 0\n", f[0], f[1])
	}
	return b.String() + "@@n end\n"
}

func (n testNode) node() *ceph.Node { return ceph.ParseNode("pve1", []byte(nodeText(n))) }

func TestNode(t *testing.T) {
	n := testNode{disks: []string{blank("sdb", "A1")}, links: []string{"ata-ACME_SSD_A1 /dev/sdb", "wwn-0x5 /dev/sdb"}}.node()
	require.NoError(t, n.Err)
	require.Empty(t, n.Unread)
	require.True(t, n.Installed())
	require.Equal(t, "squid", n.Release())
	require.Equal(t, "/etc/pve/ceph.conf", n.Link)
	mon, ok := n.Daemon("mon", "pve1")
	require.True(t, ok)
	require.True(t, mon.Unit.Running())
	osd, _ := n.Daemon("osd", "0")
	require.False(t, osd.Unit.Running())
	d, ok := n.Disk("/dev/disk/by-id/wwn-0x5")
	require.True(t, ok)
	require.Equal(t, "960.2 GB, ACME SSD, serial A1", d.Describe())
	require.Equal(t, []string{"/dev/disk/by-id/ata-ACME_SSD_A1", "/dev/disk/by-id/wwn-0x5"}, n.Names(d))
	_, ok = n.Disk("/dev/disk/by-id/ata-SYSTEM-part3")
	require.False(t, ok, "a partition is no disk")
	require.Error(t, ceph.ParseNode("pve1", []byte("bash: command not found")).Err)
}

const fsid = "6f1c"

// mapOf is a map with osd.0 on pve1's disk A1 and osd.9 that belongs nowhere.
func mapOf() *ceph.OSDMap {
	return &ceph.OSDMap{OSDs: []ceph.OSD{
		{ID: 0, Up: true, In: true, Host: "pve1", NodeName: "pve1", DeviceIDs: map[string]string{"sdb": "ACME_SSD_A1"}},
		{ID: 4, Up: true, In: true, Host: "pve2", NodeName: "pve2", DeviceIDs: map[string]string{"sdb": "ACME_SSD_B1"}},
		{ID: 9, State: []string{"exists", "new"}},
		{ID: 10, In: true, State: []string{"exists"}},
	}}
}

func TestMatchDisk(t *testing.T) {
	a1 := []string{"ata-ACME_SSD_A1 /dev/sdb"}
	osdOn := func(id string) testNode {
		return testNode{
			disks: []string{with(strings.Replace(blank("sdb", "A1"), `"fstype":null`, `"fstype":"LVM2_member"`, 1), volume("ceph--v-osd--block--f", "dm-1"))}, links: a1,
			osds: []string{id + " block /dev/ceph-v/osd-block-f /dev/dm-1"},
		}
	}
	swapped := osdOn("0")
	swapped.disks[0] = strings.Replace(swapped.disks[0], `"serial":"A1"`, `"serial":"Z9"`, 1)
	unmounted := osdOn("0")
	unmounted.osds, unmounted.volumes = nil, `{"0":[{"devices":["/dev/sdb"],"lv_path":"/dev/ceph-v/osd-block-f","type":"block","tags":{"ceph.cluster_fsid":"6f1c"}}]}`
	foreign := osdOn("0")
	foreign.osds, foreign.volumes = nil, `{"0":[{"devices":["/dev/sdb"],"lv_path":"/dev/ceph-v/osd-block-f","type":"block","tags":{"ceph.cluster_fsid":"other"}}]}`
	unknown := osdOn("0")
	unknown.osds = nil
	tests := []struct {
		name  string
		node  testNode
		found ceph.Found
		saw   string
	}{
		{"empty", testNode{disks: []string{blank("sdb", "A1")}, links: a1}, ceph.Free, ""},
		{"empty table", testNode{disks: []string{strings.Replace(blank("sdb", "A1"), `"pttype":null`, `"pttype":"gpt"`, 1)}, links: a1}, ceph.Free, ""},
		{"file system", testNode{disks: []string{strings.Replace(blank("sdb", "A1"), `"fstype":null`, `"fstype":"xfs"`, 1)}, links: a1}, ceph.Carries, "xfs on sdb"},
		{"partition", testNode{disks: []string{with(blank("sdb", "A1"), `{"name":"sdb1","kname":"sdb1","path":"/dev/sdb1","type":"part","size":1000000}`)}, links: a1}, ceph.Carries, "partition sdb1 (1 MB)"},
		{"lvm", testNode{disks: []string{with(blank("sdb", "A1"), volume("data-my--disk", "dm-5"))}, links: a1}, ceph.Carries, "logical volume data/my-disk"},
		{"our OSD", osdOn("0"), ceph.HasOSD, ""},
		{"our OSD by its volume alone", unmounted, ceph.HasOSD, ""},
		{"an OSD of another cluster", foreign, ceph.Carries, "osd.0 of another Ceph cluster (other)"},
		{"an OSD's volume that nobody knows", unknown, ceph.Carries, "logical volume ceph-v/osd-block-f"},
		{"an OSD that was removed", osdOn("7"), ceph.Carries, "osd.7, which the cluster does not know"},
		{"an OSD of another node", osdOn("4"), ceph.Swapped, "osd.4 last ran on pve2 (it is up)"},
		{"another disk", swapped, ceph.Swapped, "osd.0 last ran on the disk ACME_SSD_A1, and lies on one with serial Z9 now"},
		{"cut off", osdOn("9"), ceph.Cut, "osd.9 is on it, down, and part of no host"},
		{"taken out of the CRUSH map with its data", osdOn("10"), ceph.Unmatched, "has held data before"},
		{"gone", testNode{disks: []string{blank("sdb", "NEW")}, links: []string{"ata-ACME_SSD_NEW /dev/sdb"}}, ceph.Missing, "the node has no /dev/disk/by-id/ata-ACME_SSD_A1; osd.0 was on it and is up; disks with nothing on them: /dev/disk/by-id/ata-ACME_SSD_NEW (960.2 GB, ACME SSD, serial NEW)"},
		{"partition's name", testNode{links: []string{"ata-ACME_SSD_A1 /dev/sda3"}}, ceph.Missing, "which is no whole disk"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := ceph.MatchDisk(tt.node.node(), mapOf(), fsid, "/dev/disk/by-id/ata-ACME_SSD_A1")
			require.Equal(t, tt.found, m.Found, m.Saw)
			require.Contains(t, m.Saw, tt.saw)
		})
	}
}

func TestMatchDiskTellsWhichOSDWasOnALostDisk(t *testing.T) {
	m := mapOf()
	m.OSDs[0].Up, m.OSDs[0].DeviceIDs = false, map[string]string{"sdb": "ACME_SSD_SER1234"}
	got := ceph.MatchDisk(testNode{}.node(), m, fsid, "/dev/disk/by-id/ata-ACME_SSD_SER1234")
	require.Equal(t, ceph.Missing, got.Found)
	require.Contains(t, got.Saw, "osd.0 was on it and is down")
}

func TestMatchDiskWithoutAClusterKeepsItsHandsOff(t *testing.T) {
	n := testNode{disks: []string{with(blank("sdb", "A1"), volume("ceph--v-osd--block--f", "dm-1"))}, links: []string{"ata-A /dev/sdb"}, osds: []string{"0 block /dev/ceph-v/osd-block-f /dev/dm-1"}}.node()
	require.Equal(t, ceph.Carries, ceph.MatchDisk(n, nil, "", "/dev/disk/by-id/ata-A").Found, "no cluster: it is another's")
	require.Equal(t, ceph.Unmatched, ceph.MatchDisk(n, nil, fsid, "/dev/disk/by-id/ata-A").Found, "a cluster that cannot be asked")
	n.Unread["disks"] = "no answer"
	require.Equal(t, ceph.Unmatched, ceph.MatchDisk(n, mapOf(), fsid, "/dev/disk/by-id/ata-A").Found)
}

func TestMatchPart(t *testing.T) {
	db := with(strings.Replace(blank("nvme0n1", "N1"), `"fstype":null`, `"fstype":"LVM2_member"`, 1), volume("ceph--d-osd--db--1", "dm-3"))
	for name, tt := range map[string]struct{ disk, why string }{
		"empty":          {blank("nvme0n1", "N1"), ""},
		"with databases": {db, ""},
		"an OSD's":       {with(blank("nvme0n1", "N1"), volume("ceph--d-osd--block--1", "dm-3")), "osd-block-1"},
		"someone's":      {strings.Replace(blank("nvme0n1", "N1"), `"fstype":null`, `"fstype":"ext4"`, 1), "ext4 on nvme0n1"},
	} {
		_, why := ceph.MatchPart(testNode{disks: []string{tt.disk}, links: []string{"nvme-N1 /dev/nvme0n1"}}.node(), "/dev/disk/by-id/nvme-N1")
		if tt.why == "" {
			require.Empty(t, why, name)
		} else {
			require.Contains(t, why, tt.why, name)
		}
	}
	_, why := ceph.MatchPart(testNode{}.node(), "/dev/disk/by-id/nvme-N1")
	require.Contains(t, why, "the node has no")
}

func TestBusy(t *testing.T) {
	n := testNode{disks: []string{
		with(blank("sdb", "A"), `{"name":"md0","kname":"md0","path":"/dev/md0","type":"raid1"}`), strings.Replace(blank("sdc", "B"), `"fstype":null`, `"fstype":"zfs_member"`, 1),
		strings.Replace(blank("sdd", "C"), `"mountpoints":[null]`, `"mountpoints":["/mnt/data"]`, 1), with(blank("sde", "D"), volume("data-x", "dm-9")), blank("sdf", "E"),
	}}.node()
	var busy []bool
	for i := range n.Disks {
		busy = append(busy, len(n.Disks[i].Busy()) > 0)
	}
	require.Equal(t, []bool{true, true, true, true, false, false}, busy, "system, RAID, ZFS, mounted; not: volumes that nothing uses, empty")
}
