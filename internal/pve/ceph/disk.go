package ceph

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Disk is a block device of a node with what lies on it: a tree of partitions, volumes and mappings.
type Disk struct {
	Name   string // by lsblk: "sdb", "ceph--1f2e…-osd--block--…"
	Kernel string // "sdb", "dm-3"
	Path   string // "/dev/sdb"
	Type   string // disk, part, lvm, crypt, raid1, mpath …
	Size   int64  // bytes
	FS     string // signature: ext4, LVM2_member, zfs_member, ceph_bluestore …
	Table  string // partition table: gpt, dos
	Mounts []string
	Serial string
	Model  string
	Spins  bool
	// UUID is that of the signature, TableUUID that of the partition table, PartUUID that of the partition.
	UUID, TableUUID, PartUUID string
	Below                     []Disk
}

type rawDisk struct {
	Name   string    `json:"name"`
	Kernel string    `json:"kname"`
	Path   string    `json:"path"`
	Type   string    `json:"type"`
	Size   number    `json:"size"`
	Spins  flag      `json:"rota"`
	FS     string    `json:"fstype"`
	Table  string    `json:"pttype"`
	Mounts []*string `json:"mountpoints"`
	Mount  *string   `json:"mountpoint"` // before util-linux 2.37
	Serial string    `json:"serial"`
	Model  string    `json:"model"`
	UUID   string    `json:"uuid"`
	PTUUID string    `json:"ptuuid"`
	PartID string    `json:"partuuid"`
	Below  []rawDisk `json:"children"`
}

// number reads a size that lsblk gives as a number or, in older releases, as text.
type number int64

func (n *number) UnmarshalJSON(text []byte) error {
	var v json.Number
	if err := json.Unmarshal([]byte(strings.Trim(string(text), `"`)), &v); err != nil {
		return err
	}
	i, err := v.Int64()
	*n = number(i)
	return err
}

// flag reads true, false, 1, 0, "1", "0" and null.
type flag bool

func (f *flag) UnmarshalJSON(text []byte) error {
	t := strings.Trim(string(text), `"`)
	*f = t == "true" || t == "1"
	return nil
}

// ParseDisks reads the output of lsblk -J -b.
func ParseDisks(text []byte) ([]Disk, error) {
	var raw struct {
		Devices []rawDisk `json:"blockdevices"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("lsblk: %w", err)
	}
	return disksOf(raw.Devices), nil
}

func disksOf(raw []rawDisk) []Disk {
	var out []Disk
	for _, r := range raw {
		d := Disk{
			Name: r.Name, Kernel: r.Kernel, Path: r.Path, Type: r.Type, Size: int64(r.Size), FS: r.FS, Table: r.Table,
			Serial: strings.TrimSpace(r.Serial), Model: strings.TrimSpace(r.Model), Spins: bool(r.Spins), Below: disksOf(r.Below),
			UUID: r.UUID, TableUUID: r.PTUUID, PartUUID: r.PartID,
		}
		for _, m := range append(r.Mounts, r.Mount) {
			if m != nil && *m != "" && !slices.Contains(d.Mounts, *m) {
				d.Mounts = append(d.Mounts, *m)
			}
		}
		out = append(out, d)
	}
	return out
}

// all is the device and everything on it.
func (d *Disk) all() []*Disk {
	out := []*Disk{d}
	for i := range d.Below {
		out = append(out, d.Below[i].all()...)
	}
	return out
}

// is reports whether a resolved path of the device is this one.
func (d *Disk) is(path string) bool {
	return path != "" && (path == d.Path || path == "/dev/"+d.Kernel || path == "/dev/mapper/"+d.Name && d.Type != "disk")
}

// holds reports whether a path is the device or something on it.
func (d *Disk) holds(path string) bool {
	return slices.ContainsFunc(d.all(), func(b *Disk) bool { return b.is(path) })
}

// Describe says what the disk is: "960 GB, ACME-SSD, serial A1".
func (d *Disk) Describe() string {
	parts := []string{Bytes(d.Size)}
	if d.Model != "" {
		parts = append(parts, d.Model)
	}
	if d.Serial != "" {
		parts = append(parts, "serial "+d.Serial)
	}
	return strings.Join(parts, ", ")
}

// Carries lists what lies on the disk, for people. A partition table without partitions holds nothing and is not listed:
// Proxmox takes such a disk too.
func (d *Disk) Carries() []string {
	var out []string
	for _, b := range d.all() {
		switch {
		case b.Type == "part" && b.FS == "" && len(b.Below) == 0:
			out = append(out, fmt.Sprintf("partition %s (%s)", b.Name, Bytes(b.Size)))
		case b.Type == "lvm":
			out = append(out, "logical volume "+unmapped(b.Name))
		case b.FS != "":
			out = append(out, fmt.Sprintf("%s on %s", b.FS, b.Name)+inBrackets("UUID ", b.UUID))
		case b != d && b.Type != "part":
			out = append(out, b.Type+" "+b.Name)
		}
		for _, m := range b.Mounts {
			out = append(out, fmt.Sprintf("%s in use as %s", b.Name, m))
		}
	}
	return out
}

func inBrackets(word, text string) string {
	if text == "" {
		return ""
	}
	return " (" + word + text + ")"
}

// Word names the disk together with everything that lies on it: "xfs-3f9a1c2e". It is what a permission to wipe is written
// with, so that the permission ends when anything else lies there, or when another disk is in its place. The kernel's names are
// no part of it: they change from one start to the next.
func (d *Disk) Word() string {
	kind := "part"
	h := sha256.New()
	for _, b := range d.all() {
		name := ""
		if b.Type == "lvm" || b.Type == "crypt" {
			name = b.Name
		}
		fmt.Fprintf(h, "%q %d %q %q %q %q %q %q %d\n", b.Type, b.Size, b.FS, b.Table, b.UUID, b.TableUUID, b.PartUUID, name, len(b.Below))
		if kind == "part" && b.FS != "" {
			kind = shortKind(b.FS)
		}
	}
	if d.hasOSDVolume() {
		kind = "osd"
	}
	fmt.Fprintf(h, "%q %q %d\n", d.Serial, d.Model, d.Size)
	return fmt.Sprintf("%s-%x", kind, h.Sum(nil)[:4])
}

// shortKind is a signature in letters and digits: "lvm" of LVM2_member.
func shortKind(signature string) string {
	short := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.TrimSuffix(strings.ToLower(signature), "2_member"))
	if short == "" {
		return "data"
	}
	return short
}

// Busy lists what uses the disk at this moment, so that it cannot be wiped even when that is wanted: mounts, swap, RAID,
// ZFS. Logical volumes and partitions that nothing uses are no obstacle.
func (d *Disk) Busy() []string {
	var out []string
	for _, b := range d.all() {
		for _, m := range b.Mounts {
			out = append(out, fmt.Sprintf("%s is in use as %s", b.Name, m))
		}
		switch {
		case strings.HasPrefix(b.Type, "raid"), b.Type == "mpath", b.FS == "linux_raid_member":
			out = append(out, b.Name+" is part of a RAID or of multipath")
		case b.FS == "zfs_member":
			out = append(out, b.Name+" is part of a ZFS pool")
		}
	}
	return out
}

// hasCephGroup reports whether the disk is a physical volume that holds volumes of Ceph: a DB device that has room for
// more, perhaps.
func (d *Disk) hasCephGroup() bool {
	return slices.ContainsFunc(d.all(), func(b *Disk) bool { return b.Type == "lvm" && strings.HasPrefix(b.Name, "ceph--") })
}

// hasOSDVolume reports whether an OSD's own volume lies on the disk, by its name.
func (d *Disk) hasOSDVolume() bool {
	return slices.ContainsFunc(d.all(), func(b *Disk) bool { return b.Type == "lvm" && strings.Contains(b.Name, "-osd--block--") })
}

// unmapped turns a device mapper name into group/volume.
func unmapped(name string) string {
	const dash = "\x00"
	name = strings.ReplaceAll(name, "--", dash)
	name = strings.Replace(name, "-", "/", 1)
	return strings.ReplaceAll(name, dash, "-")
}

// Bytes is a size for people, in powers of 1000 as disks are sold.
func Bytes(n int64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}} {
		if v := float64(n) / u.size; v >= 1 {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + " " + u.name
		}
	}
	return fmt.Sprintf("%d B", n)
}

// mapperPath turns the path of a logical volume, /dev/<group>/<volume>, into that of its mapping; other paths into "".
func mapperPath(path string) string {
	group, volume, ok := strings.Cut(strings.TrimPrefix(path, "/dev/"), "/")
	if !ok || group == "mapper" || group == "disk" || strings.Contains(volume, "/") {
		return ""
	}
	double := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
	return "/dev/mapper/" + double(group) + "-" + double(volume)
}
