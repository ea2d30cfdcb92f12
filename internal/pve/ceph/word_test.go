package ceph

import (
	"testing"

	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

// A permission to wipe is for one disk with what lies on it: anything else has another word.
func TestTheWordOfADisk(t *testing.T) {
	fresh := func() *Disk {
		return &Disk{
			Name: "sdc", Kernel: "sdc", Path: "/dev/sdc", Type: "disk", Size: 1 << 40, Table: "gpt", TableUUID: "t", Serial: "S1", Model: "ACME",
			Below: []Disk{{Name: "sdc1", Kernel: "sdc1", Path: "/dev/sdc1", Type: "part", Size: 1 << 30, FS: "ext4", UUID: "u", PartUUID: "p"}},
		}
	}
	word := fresh().Word()
	require.True(t, inventory.WipeWord(word), word)
	require.Regexp(t, `^ext4-`, word)
	moved := fresh()
	moved.Name, moved.Kernel, moved.Path, moved.Below[0].Name, moved.Below[0].Kernel, moved.Below[0].Path = "sdd", "sdd", "/dev/sdd", "sdd1", "sdd1", "/dev/sdd1"
	require.Equal(t, word, moved.Word(), "the kernel's names change from start to start")
	for name, change := range map[string]func(*Disk){
		"another disk":               func(d *Disk) { d.Serial = "S2" },
		"another model":              func(d *Disk) { d.Model = "OTHER" },
		"another size":               func(d *Disk) { d.Size++ },
		"another table":              func(d *Disk) { d.TableUUID = "t2" },
		"another file system":        func(d *Disk) { d.Below[0].FS = "xfs" },
		"a file system made anew":    func(d *Disk) { d.Below[0].UUID = "u2" },
		"a partition made anew":      func(d *Disk) { d.Below[0].PartUUID = "p2" },
		"a partition of its own":     func(d *Disk) { d.Below = append(d.Below, Disk{Name: "sdc2", Type: "part", Size: 1}) },
		"no partition":               func(d *Disk) { d.Below = nil },
		"a volume":                   func(d *Disk) { d.Below[0].Below = []Disk{{Name: "vg-a", Type: "lvm", Size: 1}} },
		"a signature on all of it":   func(d *Disk) { d.FS = "LVM2_member" },
		"the partition is elsewhere": func(d *Disk) { d.Below[0].Size++ },
	} {
		other := fresh()
		change(other)
		require.NotEqual(t, word, other.Word(), name)
	}
	osd := &Disk{Type: "disk", FS: "LVM2_member", Below: []Disk{{Name: "ceph--1-osd--block--2", Type: "lvm"}}}
	require.Regexp(t, `^osd-`, osd.Word())
	osd.Below[0].Name = "ceph--1-osd--block--3"
	require.NotEqual(t, (&Disk{Type: "disk", FS: "LVM2_member", Below: []Disk{{Name: "ceph--1-osd--block--2", Type: "lvm"}}}).Word(), osd.Word())
	require.Regexp(t, `^part-`, (&Disk{Type: "disk", Table: "dos"}).Word())
	require.Regexp(t, `^lvm-`, (&Disk{Type: "disk", FS: "LVM2_member"}).Word())
	require.True(t, inventory.WipeWord((&Disk{Type: "disk", FS: "VMFS_volume_member"}).Word()))
	require.True(t, inventory.WipeWord((&Disk{Type: "disk", FS: "??"}).Word()))
}
