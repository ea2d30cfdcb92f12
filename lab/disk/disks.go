package disk

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/vfs"
)

// Disks are the block devices of one machine. It is safe for concurrent use.
type Disks struct {
	m   *machine.Machine
	dev *vfs.Mem

	mu    sync.Mutex
	disks []*device
	vgs   map[string]*group
	seq   int
}

// block is anything with a size that something can lie on: a disk, a partition or a logical volume.
type block struct {
	name    string // "sdb", "sdb1"; of a volume "vg/lv"
	size    int64
	fs      string // signature: ext4, LVM2_member, zfs_member, ceph_bluestore …
	uuid    string
	label   string
	mount   string
	holder  string // who else keeps it busy
	group   string // of a physical volume
	kind    string // type of a partition, "" of anything else
	partnum int
	partID  string // of a partition: PARTUUID
}

// device is a disk.
type device struct {
	block
	spec  Spec
	table string // "gpt", "dos" or ""
	// tableID is the PTUUID of the partition table.
	tableID string
	parts   []*block
	gone    bool // pulled out of its slot
}

// group is a volume group of LVM.
type group struct {
	name, uuid string
	pvs        []*block
	volumes    []*volume
}

// volume is a logical volume.
type volume struct {
	block
	lv, vg string
	tags   map[string]string
	pv     *block
	dm     int // of the device mapper
	// opened is what dm-crypt makes of a volume that is encrypted: a mapping of a name of its own.
	opened *volume
	mapped string // of a mapping: its name
}

// New gives a machine its disks: one with the system, and those of the specs, in order.
func New(m *machine.Machine, specs []Spec) (*Disks, error) {
	dev, ok := m.FS.Mounted("/dev").(*vfs.Mem)
	if !ok {
		return nil, errors.New("the machine has no /dev")
	}
	d := &Disks{m: m, dev: dev, vgs: map[string]*group{}}
	taken := map[string]bool{"sda": true}
	for _, s := range specs {
		taken[s.Device] = true
	}
	d.addSystem()
	for _, s := range specs {
		if err := s.Validate(); err != nil {
			return nil, err
		}
		if s.Device == "" {
			s.Device = freeName(s.nvme(), taken)
		}
		if d.byName(s.Device) != nil {
			return nil, fmt.Errorf("disk %s: the machine has a /dev/%s already", s.label(), s.Device)
		}
		taken[s.Device] = true
		one := &device{block: block{name: s.Device}, spec: s.withDefaults(len(d.disks))}
		one.size = one.spec.Size
		d.disks = append(d.disks, one)
		d.fill(one)
	}
	d.link()
	d.register()
	return d, nil
}

func freeName(nvme bool, taken map[string]bool) string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("nvme%dn1", i)
		if !nvme {
			name = "sd" + letters(i)
		}
		if !taken[name] {
			return name
		}
	}
}

// letters are a, b … z, aa, ab …
func letters(i int) string {
	if i < 26 {
		return string(rune('a' + i))
	}
	return letters(i/26-1) + letters(i%26)
}

// addSystem puts the disk that the installer made.
func (d *Disks) addSystem() {
	spec := Spec{Device: "sda", Size: rootSize, Model: "LAB-SSD", Serial: "SYSTEM"}.withDefaults(0)
	root := &device{block: block{name: "sda", size: rootSize}, spec: spec}
	d.label(root)
	d.disks = append(d.disks, root)
	d.addPart(root, mib, "", "BIOS boot")
	d.addPart(root, gib, "vfat", "EFI System").mount = "/boot/efi"
	d.addPart(root, root.size-gib-3*mib, "", "Linux LVM")
	_ = d.createGroup("pve", root.parts[2]) // it is new
	for _, one := range []struct {
		name, fs, mount string
		size            int64
	}{{"swap", "swap", "[SWAP]", 8 * gib}, {"root", "ext4", "/", 58 * gib}, {"data", "", "", 20 * gib}} {
		if v, err := d.createVolume("pve", one.name, one.size, nil); err == nil {
			v.fs, v.mount = one.fs, one.mount
		}
	}
}

// fill puts on a disk what its spec says.
func (d *Disks) fill(one *device) {
	switch one.spec.Content {
	case "partitions":
		d.label(one)
		d.addPart(one, one.size-2*mib, "ext4", "Linux filesystem").label = "data"
	case "lvm":
		_ = d.createGroup(d.freeGroup("data"), &one.block) // the name is free, the disk empty
	case "zfs":
		d.label(one)
		d.addPart(one, one.size-9*mib, "zfs_member", "Solaris /usr & Apple ZFS").label = "tank"
		d.addPart(one, 8*mib, "", "Solaris reserved 1")
	case "ext4", "xfs":
		one.fs, one.uuid = one.spec.Content, d.newUUID()
	case "mounted":
		one.fs, one.uuid, one.mount = "ext4", d.newUUID(), "/mnt/data"
	case "raid":
		one.fs, one.uuid = "linux_raid_member", d.newUUID()
	case "osd":
		vg := "ceph-" + d.newUUID()
		_ = d.createGroup(vg, &one.block)
		id, fsid := d.newUUID(), d.newUUID()
		_, free := d.vgs[vg].size()
		v, _ := d.createVolume(vg, "osd-block-"+id, free, map[string]string{
			"ceph.osd_id": "0", "ceph.osd_fsid": id, "ceph.cluster_fsid": fsid, "ceph.type": "block", "ceph.cluster_name": "ceph",
			"ceph.block_device": "/dev/" + vg + "/osd-block-" + id, "ceph.encrypted": "0", "ceph.vdo": "0", "ceph.crush_device_class": "",
		})
		v.fs = "ceph_bluestore"
	}
}

func (d *Disks) freeGroup(name string) string {
	for i := 1; ; i++ {
		if d.vgs[name] == nil {
			return name
		}
		name = fmt.Sprintf("%s%d", strings.TrimRight(name, "0123456789"), i)
	}
}

// label writes an empty GPT. The lock is held, or the machine is not yet shared.
func (d *Disks) label(on *device) { on.table, on.tableID = "gpt", d.newUUID() }

func (d *Disks) addPart(on *device, size int64, filesystem, kind string) *block {
	number := len(on.parts) + 1
	name := fmt.Sprintf("%s%d", on.name, number)
	if strings.HasPrefix(on.name, "nvme") {
		name = fmt.Sprintf("%sp%d", on.name, number)
	}
	p := &block{name: name, size: size, fs: filesystem, kind: kind, partnum: number, partID: d.newUUID()}
	if filesystem != "" {
		p.uuid = d.newUUID()
	}
	on.parts = append(on.parts, p)
	return p
}

// newUUID is repeatable per machine. The lock is held, or the machine is not yet shared.
func (d *Disks) newUUID() string {
	var b [16]byte
	d.m.Random(b[:])
	return fmt.Sprintf("%x-%x-4%03x-a%03x-%x", b[:4], b[4:6], uint16(b[6])<<8&0xfff|uint16(b[7]), uint16(b[8])<<8&0xfff|uint16(b[9]), b[10:])
}

func (d *Disks) byName(name string) *device {
	at := slices.IndexFunc(d.disks, func(x *device) bool { return x.name == name && !x.gone })
	if at < 0 {
		return nil
	}
	return d.disks[at]
}

// find returns a disk, partition or volume by the kernel's name or "vg/lv". The lock is held.
func (d *Disks) find(name string) (*block, *device) {
	for _, one := range d.disks {
		if one.gone {
			continue
		}
		if one.name == name {
			return &one.block, one
		}
		for _, p := range one.parts {
			if p.name == name {
				return p, one
			}
		}
	}
	for _, g := range d.vgs {
		for _, v := range g.volumes {
			if name == v.name || name == v.kernel() {
				return &v.block, nil
			}
			if o := v.opened; o != nil && (name == o.name || name == o.kernel()) {
				return &o.block, nil
			}
		}
	}
	return nil, nil
}

// kernel is the kernel's name of a volume.
func (v *volume) kernel() string { return fmt.Sprintf("dm-%d", v.dm) }

// freeMapper is the lowest number of the device mapper that no volume has. The lock is held.
func (d *Disks) freeMapper() int {
	taken := map[int]bool{}
	for _, g := range d.vgs {
		for _, v := range g.volumes {
			taken[v.dm] = true
			if v.opened != nil {
				taken[v.opened.dm] = true
			}
		}
	}
	n := 0
	for taken[n] {
		n++
	}
	return n
}

// mapper is the device mapper's name: dashes within names are doubled.
func (v *volume) mapper() string {
	if v.mapped != "" {
		return v.mapped
	}
	return strings.ReplaceAll(v.vg, "-", "--") + "-" + strings.ReplaceAll(v.lv, "-", "--")
}

// Resolve gives the kernel's name ("sdb", "vg/lv") of a path in /dev, links followed; "" if it is no block device.
func (d *Disks) Resolve(view *vfs.View, path string) string {
	real, err := view.Realpath(path, false)
	if err != nil {
		return ""
	}
	name := strings.TrimPrefix(real, "/dev/")
	d.mu.Lock()
	defer d.mu.Unlock()
	if b, _ := d.find(name); b != nil && name != real {
		return b.name
	}
	return ""
}

// used is what Proxmox calls the use of a disk, "" of a free one. The lock is held.
func (d *Disks) used(b *block, on *device) string {
	switch {
	case b.fs == "LVM2_member":
		return "LVM"
	case b.fs == "zfs_member":
		return "ZFS"
	case b.fs != "" && b.mount != "":
		return b.fs + " (mounted)"
	case b.fs != "":
		return b.fs
	case b.mount != "":
		return "mounted"
	case b.holder != "":
		return "Device Mapper"
	case b.kind == "BIOS boot":
		return "BIOS boot"
	case on == nil || b != &on.block || on.table == "":
		return ""
	}
	for _, want := range []string{"LVM", "ZFS", "mounted"} {
		for _, p := range on.parts {
			if strings.Contains(d.used(p, nil), want) {
				return want
			}
		}
	}
	if len(on.parts) == 0 {
		return ""
	}
	return "partitions"
}

// busy says who keeps a device from being wiped: "mounted", "holder" or "". The lock is held.
func (d *Disks) busy(b *block, on *device) string {
	all := []*block{b}
	if on != nil && b == &on.block {
		all = append(all, on.parts...)
	}
	for _, one := range all {
		if one.mount != "" {
			return "mounted"
		}
		if one.holder != "" || one.group != "" && len(d.vgs[one.group].volumes) > 0 {
			return "holder"
		}
	}
	return ""
}

// wipe takes everything off a device. A volume group on it is gone. The lock is held.
func (d *Disks) wipe(b *block) {
	on := d.byName(b.name)
	all := []*block{b}
	if on != nil {
		all = append(all, on.parts...)
		on.parts, on.table, on.tableID = nil, "", ""
	}
	for _, one := range all {
		if one.group != "" {
			delete(d.vgs, one.group)
		}
		one.fs, one.uuid, one.label, one.group, one.holder, one.mount = "", "", "", "", "", ""
	}
}

// link makes /dev as the kernel and udev do: devices, links by id, and what /sys says.
func (d *Disks) link() {
	d.mu.Lock()
	type entry struct{ name, target string }
	var nodes []string
	var links []entry
	type fact struct{ path, text string }
	var facts []fact
	for _, one := range d.disks {
		if one.gone {
			continue
		}
		nodes = append(nodes, one.name)
		links = append(links, entry{"disk/by-id/" + one.spec.ID, "../../" + one.name}, entry{"disk/by-id/wwn-" + one.wwn(), "../../" + one.name})
		for _, name := range one.spec.Links {
			links = append(links, entry{"disk/" + name, "../../" + one.name})
		}
		for _, p := range one.parts {
			nodes = append(nodes, p.name)
			links = append(links, entry{fmt.Sprintf("disk/by-id/%s-part%d", one.spec.ID, p.partnum), "../../" + p.name})
		}
		rota := map[bool]string{true: "1", false: "0"}[one.spec.Rotational]
		sys := "/sys/block/" + one.name
		facts = append(facts, fact{sys + "/size", fmt.Sprint(one.size / 512)}, fact{sys + "/queue/rotational", rota},
			fact{sys + "/device/model", one.spec.Model}, fact{sys + "/device/vendor", one.spec.Vendor}, fact{sys + "/device/serial", one.spec.Serial})
	}
	for _, name := range slices.Sorted(maps.Keys(d.vgs)) {
		for _, v := range d.vgs[name].volumes {
			nodes = append(nodes, v.kernel())
			links = append(links, entry{v.name, "../" + v.kernel()}, entry{"mapper/" + v.mapper(), "../" + v.kernel()})
			if o := v.opened; o != nil {
				nodes = append(nodes, o.kernel())
				links = append(links, entry{"mapper/" + o.mapper(), "../" + o.kernel()})
			}
		}
	}
	d.mu.Unlock()
	d.unlink()
	for _, name := range nodes {
		_ = d.dev.BlockDevice("/"+name, 0o660, func(int) (vfs.File, error) { return &handle{d: d, name: name}, nil }) // no path through a file
	}
	for _, l := range links {
		_ = d.m.FS.MkdirAll("/dev/"+l.name[:strings.LastIndexByte(l.name, '/')], 0o755)
		_ = d.dev.Symlink(l.target, "/"+l.name)
	}
	for _, f := range facts {
		_ = d.m.Disk().Seed(f.path, 0o444, []byte(f.text+"\n"))
	}
}

// unlink takes away what link made.
func (d *Disks) unlink() {
	list, err := d.dev.ReadDir("/")
	if err != nil {
		return
	}
	for _, entry := range list {
		block := entry.Mode&fs.ModeDevice != 0 && entry.Mode&fs.ModeCharDevice == 0
		if block || entry.Mode.IsDir() && entry.Name != "shm" && entry.Name != "pts" {
			_ = d.m.FS.RemoveAll("/dev/" + entry.Name)
		}
	}
	_ = d.m.FS.RemoveAll("/sys/block")
}

func (one *device) wwn() string {
	sum := uint64(14695981039346656037)
	for _, c := range []byte(cmp.Or(one.spec.Serial, one.name)) {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	return fmt.Sprintf("0x5%015x", sum&0xfffffffffffffff)
}

// handle is an open block device: it reads as zeroes, and what is written to it wipes it.
type handle struct {
	d     *Disks
	name  string
	wiped bool
}

func (h *handle) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func (h *handle) Write(p []byte) (int, error) {
	if !h.wiped {
		h.wiped = true
		h.d.mu.Lock()
		if b, _ := h.d.find(h.name); b != nil {
			h.d.wipe(b)
		}
		h.d.mu.Unlock()
	}
	return len(p), nil
}

func (h *handle) Close() error { return nil }

func (h *handle) Stat() (vfs.Info, error) {
	return vfs.Info{Name: h.name, Mode: fs.ModeDevice | 0o660}, nil
}
