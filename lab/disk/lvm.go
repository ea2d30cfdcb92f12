package disk

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// extent is the unit of sizes in LVM.
const extent = 4 * mib

// createGroup makes a volume group on an empty device. The lock is held.
func (d *Disks) createGroup(name string, pv *block) error {
	switch {
	case d.vgs[name] != nil:
		return fmt.Errorf("A volume group called %s already exists.", name) //nolint:revive,staticcheck // LVM's words
	case pv.group != "":
		return fmt.Errorf("Physical volume '/dev/%s' is already in volume group '%s'", pv.name, pv.group) //nolint:revive,staticcheck // LVM's words
	}
	pv.fs, pv.group = "LVM2_member", name
	if pv.uuid == "" {
		pv.uuid = d.newUUID()
	}
	d.vgs[name] = &group{name: name, uuid: d.newUUID(), pvs: []*block{pv}}
	return nil
}

func (g *group) size() (total, free int64) {
	for _, pv := range g.pvs {
		total += pv.size/extent*extent - extent
	}
	free = total
	for _, v := range g.volumes {
		free -= v.size
	}
	return total, free
}

// createVolume makes a logical volume. The lock is held.
func (d *Disks) createVolume(vg, lv string, size int64, tags map[string]string) (*volume, error) {
	g := d.vgs[vg]
	if g == nil {
		return nil, fmt.Errorf("Volume group \"%s\" not found", vg) //nolint:revive,staticcheck // LVM's words
	}
	if slices.ContainsFunc(g.volumes, func(v *volume) bool { return v.lv == lv }) {
		return nil, fmt.Errorf("Logical Volume \"%s\" already exists in volume group \"%s\"", lv, vg) //nolint:revive,staticcheck // LVM's words
	}
	size = (size + extent - 1) / extent * extent
	if _, free := g.size(); size > free {
		return nil, fmt.Errorf("Volume group \"%s\" has insufficient free space (%d extents): %d required.", vg, free/extent, size/extent) //nolint:revive,staticcheck // LVM's words
	}
	v := &volume{block: block{name: vg + "/" + lv, size: size, uuid: d.newUUID()}, lv: lv, vg: vg, tags: maps.Clone(tags), pv: g.pvs[0], dm: d.freeMapper()}
	if v.tags == nil {
		v.tags = map[string]string{}
	}
	g.volumes = append(g.volumes, v)
	slices.SortFunc(g.volumes, func(a, b *volume) int {
		if a.lv < b.lv {
			return -1
		}
		return 1
	})
	return v, nil
}

// volume returns a logical volume by "vg/lv". The lock is held.
func (d *Disks) volume(name string) *volume {
	for _, g := range d.vgs {
		for _, v := range g.volumes {
			if v.name == name {
				return v
			}
		}
	}
	return nil
}

// removeVolume takes a logical volume away, and with last its empty volume group and the mark on its disk. The lock is
// held.
func (d *Disks) removeVolume(v *volume, last bool) {
	g := d.vgs[v.vg]
	g.volumes = slices.DeleteFunc(g.volumes, func(x *volume) bool { return x == v })
	if last && len(g.volumes) == 0 {
		for _, pv := range g.pvs {
			d.wipe(pv)
		}
		delete(d.vgs, g.name)
	}
}

// Volume is a logical volume as Ceph looks at it.
type Volume struct {
	Group, Name string
	Path        string // "/dev/vg/lv"
	UUID        string
	Size        int64
	Tags        map[string]string
	Devices     []string // "/dev/sdb"
}

// Volumes lists the logical volumes by group and name.
func (d *Disks) Volumes() []Volume {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Volume
	for _, name := range slices.Sorted(maps.Keys(d.vgs)) {
		for _, v := range d.vgs[name].volumes {
			one := Volume{Group: v.vg, Name: v.lv, Path: "/dev/" + v.name, UUID: v.uuid, Size: v.size, Tags: maps.Clone(v.tags)}
			for _, pv := range d.vgs[name].pvs {
				one.Devices = append(one.Devices, "/dev/"+pv.name)
			}
			out = append(out, one)
		}
	}
	return out
}

// CreateVolume makes a logical volume on a device: in a new volume group if the device is empty, else in the one that is
// on it. Size 0 takes all that is free.
func (d *Disks) CreateVolume(deviceName, group, name string, size int64, tags map[string]string, signature string) (Volume, error) {
	d.mu.Lock()
	b, _ := d.find(deviceName)
	if b == nil {
		d.mu.Unlock()
		return Volume{}, fmt.Errorf("Device /dev/%s not found.", deviceName) //nolint:revive,staticcheck // LVM's words
	}
	err := error(nil)
	if b.group == "" {
		err = d.createGroup(group, b)
	} else {
		group = b.group
	}
	var v *volume
	if err == nil {
		if size == 0 {
			_, size = d.vgs[group].size()
		}
		v, err = d.createVolume(group, name, size, tags)
	}
	if err != nil {
		d.mu.Unlock()
		return Volume{}, err
	}
	v.fs = signature
	out := Volume{Group: group, Name: name, Path: "/dev/" + v.name, UUID: v.uuid, Size: v.size, Tags: maps.Clone(v.tags), Devices: []string{"/dev/" + b.name}}
	d.mu.Unlock()
	d.link()
	return out, nil
}

// CreatePartition makes a partition at the end of a disk with a GPT and returns its kernel name.
func (d *Disks) CreatePartition(name string, size int64, kind string) (string, error) {
	d.mu.Lock()
	on := d.byName(name)
	if on == nil || on.table != "gpt" {
		d.mu.Unlock()
		return "", errors.New("no GPT disk " + name)
	}
	free := on.size - 2*mib
	for _, p := range on.parts {
		free -= p.size
	}
	if size > free {
		d.mu.Unlock()
		return "", errors.New("Could not create partition from the end of the disk")
	}
	p := d.addPart(on, size, "", kind)
	d.mu.Unlock()
	d.link()
	return p.name, nil
}

// Encrypt makes a logical volume ("vg/lv") a LUKS container and opens it: what lay on the volume lies on the mapping then, whose
// path it returns.
func (d *Disks) Encrypt(name string) string {
	d.mu.Lock()
	v := d.volume(name)
	if v == nil {
		d.mu.Unlock()
		return ""
	}
	// ceph-volume names the mapping after the volume.
	v.opened = &volume{block: block{name: v.uuid, size: v.size - luksHeader, fs: v.fs, uuid: d.newUUID()}, mapped: v.uuid, dm: d.freeMapper()}
	v.fs = "crypto_LUKS"
	path := "/dev/mapper/" + v.opened.mapped
	d.mu.Unlock()
	d.link()
	return path
}

// luksHeader is what LUKS 2 takes of a device.
const luksHeader = 16 * mib

// SetTags replaces the tags of a logical volume ("vg/lv").
func (d *Disks) SetTags(name string, tags map[string]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if v := d.volume(name); v != nil {
		v.tags = maps.Clone(tags)
	}
}

// RemoveVolume takes a logical volume ("vg/lv") away; with destroy also its volume group, if it is empty then, and the mark
// of LVM on the disk. It reports whether there was one.
func (d *Disks) RemoveVolume(name string, destroy bool) bool {
	d.mu.Lock()
	v := d.volume(name)
	if v != nil {
		d.removeVolume(v, destroy)
	}
	d.mu.Unlock()
	d.link()
	return v != nil
}

// GroupFree is what a volume group has left, in bytes, and whether there is one.
func (d *Disks) GroupFree(name string) (int64, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.vgs[name]
	if g == nil {
		return 0, false
	}
	_, free := g.size()
	return free, true
}
