package disk_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pxrun/pxrun/lab/disk"
	"github.com/pxrun/pxrun/lab/machine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newDisks(t *testing.T, specs ...disk.Spec) (*machine.Machine, *disk.Disks) {
	t.Helper()
	m := machine.New(machine.Options{Name: "pve1", Seed: 1})
	t.Cleanup(m.Close)
	d, err := disk.New(m, specs)
	require.NoError(t, err)
	return m, d
}

// step is a script with what it must print (a regular expression) and return.
type step struct {
	script, out, errs string
	code              int
}

func check(t *testing.T, m *machine.Machine, steps []step) {
	t.Helper()
	for _, s := range steps {
		var out, errs bytes.Buffer
		code := m.Exec(t.Context(), machine.Proc{Argv: []string{"/bin/sh", "-c", s.script}, Stdout: &out, Stderr: &errs})
		require.Equal(t, s.code, code, "%s: %s%s", s.script, out.String(), errs.String())
		require.Regexp(t, regexp.MustCompile("(?s)^"+s.out+"$"), out.String(), s.script)
		require.Regexp(t, regexp.MustCompile("(?s)^"+s.errs+"$"), errs.String(), s.script)
	}
}

func TestDevicesAndTheirNames(t *testing.T) {
	m, _ := newDisks(t, disk.Spec{ID: "ata-ACME_SSD_X1"}, disk.Spec{ID: "nvme-N1", Size: 1 << 40}, disk.Spec{Device: "sdz", Rotational: true}, disk.Spec{Links: []string{"by-path/pci-0000:00:1f.2-ata-1"}})
	check(t, m, []step{
		{"readlink -f /dev/disk/by-id/ata-ACME_SSD_X1 /dev/disk/by-id/nvme-N1 /dev/disk/by-path/pci-0000:00:1f.2-ata-1", "/dev/sdb\n/dev/nvme0n1\n/dev/sdc\n", "", 0},
		{"[ -b /dev/sdb ] && [ ! -c /dev/sdb ] && [ -b /dev/disk/by-id/nvme-N1 ] && [ -b /dev/sdz ]", "", "", 0},
		{"lsblk -dn -o NAME,SERIAL,MODEL,ROTA,TRAN /dev/sdb /dev/nvme0n1 /dev/sdz", "sdb +X1 +ACME_SSD +0 +sata\nnvme0n1 +N1 +LAB-SSD +0 +nvme\nsdz +LAB00003 LAB-HDD +1 +sata\n", "", 0},
		{"lsblk -bdn -o SIZE /dev/nvme0n1", "1099511627776\n", "", 0},
		{"lsblk /dev/nosuch", "NAME .*", "lsblk: /dev/nosuch: not a block device\n", 32},
		{"lsblk -o COLOUR", "", "lsblk: unknown column: COLOUR\n", 1},
		{"cat /sys/block/sdz/queue/rotational /sys/block/sdb/queue/rotational", "1\n0\n", "", 0},
		{"smartctl -H /dev/sdb", ".*test result: PASSED\n", "", 0},
	})
}

func TestTreeInJSON(t *testing.T) {
	m, _ := newDisks(t, disk.Spec{ID: "ata-A1", Content: "osd"}, disk.Spec{ID: "ata-B1"})
	var out bytes.Buffer
	require.Zero(t, m.Exec(t.Context(), machine.Proc{Argv: []string{"lsblk", "-J", "-b", "-o", "NAME,KNAME,PATH,TYPE,SIZE,ROTA,FSTYPE,PTTYPE,MOUNTPOINTS,SERIAL,MODEL"}, Stdout: &out}))
	var tree struct {
		Devices []struct {
			Name, Kname, Type string
			Size              int64
			Rota              bool
			Fstype, Pttype    *string
			Mountpoints       []*string
			Children          []struct {
				Name, Kname, Type string
				Fstype            *string
				Mountpoints       []*string
				Children          []struct {
					Name        string
					Mountpoints []*string
				}
			}
		} `json:"blockdevices"`
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &tree), out.String())
	require.Len(t, tree.Devices, 3)
	root, osd, free := tree.Devices[0], tree.Devices[1], tree.Devices[2]
	require.Equal(t, "gpt", *root.Pttype)
	require.Len(t, root.Children, 3)
	require.Equal(t, "/", *root.Children[2].Children[1].Mountpoints[0])
	require.Equal(t, "LVM2_member", *osd.Fstype)
	require.Regexp(t, "^ceph--[0-9a-f]{8}--.*-osd--block--", osd.Children[0].Name)
	require.Equal(t, "ceph_bluestore", *osd.Children[0].Fstype)
	require.Regexp(t, `^dm-\d$`, osd.Children[0].Kname)
	require.Equal(t, int64(960197124096), free.Size)
	require.Nil(t, free.Fstype)
	require.Nil(t, free.Mountpoints[0])
	require.Empty(t, free.Children)
}

func TestWhatLiesOnDisks(t *testing.T) {
	for content, want := range map[string]struct{ used, wipe string }{
		"":           {"", ""},
		"partitions": {"partitions", ""},
		"lvm":        {"LVM", ""},
		"zfs":        {"ZFS", ""},
		"ext4":       {"ext4", ""},
		"xfs":        {"xfs", ""},
		"raid":       {"linux_raid_member", ""},
		"mounted":    {"ext4 (mounted)", "disk/partition '/dev/sdb' is mounted"},
		"osd":        {"LVM", "disk/partition '/dev/sdb' has a holder"},
	} {
		t.Run(content, func(t *testing.T) {
			_, d := newDisks(t, disk.Spec{ID: "ata-A1", Content: content})
			i, ok := d.Find("sdb")
			require.True(t, ok)
			require.Equal(t, want.used, i.Used)
			err := d.Wipe("sdb")
			if want.wipe != "" {
				require.EqualError(t, err, want.wipe)
				return
			}
			require.NoError(t, err)
			i, _ = d.Find("sdb")
			require.Empty(t, i.Used)
			require.Len(t, d.List(true), 5, "its partitions are gone")
		})
	}
}

func TestSignaturesAndLVM(t *testing.T) {
	m, _ := newDisks(t, disk.Spec{ID: "ata-A1", Content: "xfs"}, disk.Spec{ID: "ata-B1", Content: "partitions"})
	check(t, m, []step{
		{"blkid -o value -s TYPE /dev/sdb; blkid /dev/sdc1", "xfs\n/dev/sdc1: LABEL=\"data\" UUID=\".*\" TYPE=\"ext4\" PARTLABEL=.*\n", "", 0},
		{"wipefs /dev/disk/by-id/ata-A1", "DEVICE OFFSET TYPE UUID LABEL\nsdb 0x200 xfs .*\n", "", 0},
		{"wipefs -an /dev/sdb; blkid -o value -s TYPE /dev/sdb", ".*erased.*xfs\n", "", 0},
		{"wipefs -a /dev/sdb; blkid /dev/sdb", ".*erased.*", "", 2},
		{"dd if=/dev/zero of=/dev/sdc bs=512 count=1 2>/dev/null; lsblk -n -o NAME /dev/sdc", "sdc\n", "", 0},
		{"pvcreate /dev/sdb; vgcreate data /dev/sdb; lvcreate -n one -L 10g data; [ -b /dev/data/one ] && lvs --noheadings -o lv_name,vg_name,lv_size --units b --nosuffix data", ".*created.*  one data +10737418240\n", "", 0},
		{"vgs --reportformat json -o vg_name,vg_free --units g --nosuffix data", ".*\"report\": \\[.*\"vg\": \\[.*\\{\"vg_name\":\"data\", \"vg_free\":\"884.25\"\\}.*", "", 0},
		{"pvs --noheadings -o pv_name,vg_name", "  /dev/sda3 pve\n  /dev/sdb  data\n", "", 0},
		{"pvcreate /dev/sdb", "", "  Can't initialize physical volume \"/dev/sdb\" of volume group \"data\" without -ff\n", 5},
		{"lvcreate -n two -L 2t data", "", "  Volume group \"data\" has insufficient free space .*", 5},
		{"vgs nosuch", " .*", "  Volume group \"nosuch\" not found\n", 5},
		{"vgremove data; pvremove /dev/sdb; lsblk -n -o NAME,FSTYPE /dev/sdb", ".*wiped.\nsdb *\n", "", 0},
	})
}

func TestADiskIsSwappedAndComesBack(t *testing.T) {
	m, d := newDisks(t, disk.Spec{ID: "ata-A1", Content: "osd"})
	back, err := d.Swap("sdb", disk.Spec{ID: "ata-Z9"})
	require.NoError(t, err)
	check(t, m, []step{
		{"ls /dev/disk/by-id/ata-A1", "", ".*No such file.*", 2},
		{"readlink -f /dev/disk/by-id/ata-Z9; lsblk -n -o NAME,SERIAL,FSTYPE /dev/sdb", "/dev/sdb\nsdb +Z9 *\n", "", 0},
	})
	require.Len(t, d.Volumes(), 3, "only those of the system")
	back()
	check(t, m, []step{{"lsblk -dn -o SERIAL,FSTYPE /dev/disk/by-id/ata-A1", "A1 +LVM2_member\n", "", 0}})
	require.Len(t, d.Volumes(), 4)
	_, err = d.Swap("sda", disk.Spec{ID: "ata-Z9"})
	require.Error(t, err, "the disk with the system stays")
}

func TestSpecsThatMakeNoSense(t *testing.T) {
	for _, s := range []disk.Spec{{ID: "a/b"}, {Content: "gold"}, {Size: -1}} {
		require.Error(t, s.Validate())
	}
	m := machine.New(machine.Options{Name: "pve1"})
	t.Cleanup(m.Close)
	_, err := disk.New(m, []disk.Spec{{Device: "sdb"}, {Device: "sdb"}})
	require.ErrorContains(t, err, "the machine has a /dev/sdb already")
}
