package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// Info is a disk or partition as Proxmox lists it.
type Info struct {
	Name   string // "sdb"
	Path   string // "/dev/sdb"
	Parent string
	Size   int64
	// Used is "" of a free disk, else LVM, ZFS, partitions, mounted, or the type of a file system.
	Used   string
	GPT    bool
	Spec   Spec
	Class  string // ssd, hdd or nvme
	Mount  string
	OSDs   []int
	Group  string // the volume group on it
	FSType string
}

// List lists the disks, and their partitions if asked for.
func (d *Disks) List(partitions bool) []Info {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Info
	for _, one := range d.disks {
		if one.gone {
			continue
		}
		info := func(b *block, parent string) Info {
			return Info{
				Name: b.name, Path: "/dev/" + b.name, Parent: parent, Size: b.size, Used: d.used(b, one), GPT: one.table == "gpt", Spec: one.spec, Class: one.spec.class(),
				Mount: b.mount, OSDs: d.osds(b), Group: b.group, FSType: b.fs,
			}
		}
		out = append(out, info(&one.block, ""))
		for _, p := range one.parts {
			if partitions {
				out = append(out, info(p, "/dev/"+one.name))
			}
		}
	}
	return out
}

// Find returns one disk or partition by the kernel's name.
func (d *Disks) Find(name string) (Info, bool) {
	list := d.List(true)
	at := slices.IndexFunc(list, func(i Info) bool { return i.Name == name })
	if at < 0 {
		return Info{}, false
	}
	return list[at], true
}

// osds are the ids of the OSDs whose data lies on a device. The lock is held.
func (d *Disks) osds(b *block) []int {
	g := d.vgs[b.group]
	if g == nil {
		return nil
	}
	var out []int
	for _, v := range g.volumes {
		id, err := strconv.Atoi(v.tags["ceph.osd_id"])
		if err == nil && v.tags["ceph.type"] == "block" {
			out = append(out, id)
		}
	}
	return out
}

// Wipe takes everything off a device, unless it is in use.
func (d *Disks) Wipe(name string) error {
	d.mu.Lock()
	b, on := d.find(name)
	if b == nil {
		d.mu.Unlock()
		return fmt.Errorf("disk/partition '/dev/%s' not found", name)
	}
	switch d.busy(b, on) {
	case "mounted":
		d.mu.Unlock()
		return fmt.Errorf("disk/partition '/dev/%s' is mounted", name)
	case "holder":
		d.mu.Unlock()
		return fmt.Errorf("disk/partition '/dev/%s' has a holder", name)
	}
	d.wipe(b)
	d.mu.Unlock()
	d.link()
	return nil
}

// Clear takes everything off a device, in use or not.
func (d *Disks) Clear(name string) {
	d.mu.Lock()
	if b, _ := d.find(name); b != nil {
		d.wipe(b)
	}
	d.mu.Unlock()
	d.link()
}

// Put lays something on a free disk: one of Contents.
func (d *Disks) Put(name, content string) error {
	d.mu.Lock()
	one := d.byName(name)
	if one == nil || d.used(&one.block, one) != "" {
		d.mu.Unlock()
		return errors.New("no free disk at /dev/" + name)
	}
	one.spec.Content = content
	err := one.spec.Validate()
	if err == nil {
		d.fill(one)
	}
	d.mu.Unlock()
	d.link()
	return err
}

// SetHolder lets something keep a device busy; "" gives it back. It reports whether there is such a device.
func (d *Disks) SetHolder(name, who string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, _ := d.find(name)
	if b != nil {
		b.holder = who
	}
	return b != nil
}

// Swap pulls a disk out and puts another one into its slot: the same kernel name, another serial number and so another name
// in /dev/disk/by-id, with what the spec says on it. It returns how the old one comes back.
func (d *Disks) Swap(name string, other Spec) (undo func(), err error) {
	if err := other.Validate(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	old := d.byName(name)
	if old == nil || name == "sda" {
		d.mu.Unlock()
		return nil, errors.New("no disk to swap at /dev/" + name)
	}
	other.Device = name
	if other.Size == 0 {
		other.Size = old.size
	}
	old.gone = true
	groups := map[string]*group{} // they go with the disk
	for _, b := range append(slices.Clone(old.parts), &old.block) {
		if g := d.vgs[b.group]; g != nil {
			groups[b.group] = g
			delete(d.vgs, b.group)
		}
	}
	fresh := &device{block: block{name: name}, spec: other.withDefaults(1000 + len(d.disks))}
	fresh.size = fresh.spec.Size
	d.disks = append(d.disks, fresh)
	d.fill(fresh)
	d.mu.Unlock()
	d.link()
	return func() {
		d.mu.Lock()
		d.wipe(&fresh.block)
		d.disks = slices.DeleteFunc(d.disks, func(x *device) bool { return x == fresh })
		old.gone = false
		for name, g := range groups {
			d.vgs[name] = g
		}
		d.mu.Unlock()
		d.link()
	}, nil
}

// AddPaths puts the paths of disks into pvesh.
func (d *Disks) AddPaths(api *pvetool.API, tasks *pvetool.Tasks, node string) {
	boolean := pvetool.Option{Kind: pvetool.Bool}
	api.Handle(pvetool.Route{
		Verb: "get", Path: "/nodes/" + node + "/disks/list", Options: map[string]pvetool.Option{"include-partitions": boolean, "skipsmart": boolean, "type": {}},
		Do: func(_ context.Context, r pvetool.Request) (any, error) {
			out := []pvetool.Object{}
			for _, i := range d.List(r.Options.Is("include-partitions")) {
				kind := r.Options.Values["type"]
				if kind == "unused" && i.Used != "" || kind == "journal_disks" && i.Used != "" && i.Used != "LVM" && i.Used != "partitions" {
					continue
				}
				out = append(out, i.object(r.Options.Is("skipsmart")))
			}
			return out, nil
		},
	})
	api.Handle(pvetool.Route{
		Verb: "set", Path: "/nodes/" + node + "/disks/wipedisk", Options: map[string]pvetool.Option{"disk": {}}, Required: []string{"disk"},
		Do: func(ctx context.Context, r pvetool.Request) (any, error) {
			name := d.Resolve(r.Proc.View(), r.Options.Values["disk"])
			if name == "" {
				return nil, fmt.Errorf("not a valid block device: %s", r.Options.Values["disk"])
			}
			upid, code := tasks.Run(ctx, r.Proc, &pvetool.Task{Kind: "wipedisk", ID: name}, func(_ context.Context, out io.Writer) error {
				if err := d.Wipe(name); err != nil {
					return err
				}
				fmt.Fprintf(out, "wiping block device /dev/%s\n200+0 records in\n200+0 records out\n", name)
				return nil
			})
			if code != 0 {
				return nil, pvetool.ErrKilled
			}
			return upid, nil
		},
	})
}

// object is a disk in the form of the API.
func (i Info) object(skipSmart bool) pvetool.Object {
	o := pvetool.Object{
		"devpath": i.Path, "gpt": map[bool]int{true: 1, false: 0}[i.GPT], "model": i.Spec.Model, "serial": i.Spec.Serial, "vendor": i.Spec.Vendor, "size": i.Size, "type": i.Class,
		"rpm": map[bool]int{true: 7200, false: 0}[i.Spec.Rotational], "by_id_link": "/dev/disk/by-id/" + i.Spec.ID, "osdid": -1, "osdid-list": nil,
		"health": "UNKNOWN", "wearout": "N/A", "wwn": (&device{spec: i.Spec, block: block{name: i.Name}}).wwn(),
	}
	if i.Parent != "" {
		o["parent"], o["type"] = i.Parent, "partition"
		delete(o, "by_id_link")
	}
	if !skipSmart {
		o["health"] = "PASSED"
		if !i.Spec.Rotational {
			o["wearout"] = 98
		}
	}
	if i.Used != "" {
		o["used"] = i.Used
	}
	if i.Mount != "" {
		o["mounted"] = 1
	}
	if len(i.OSDs) > 0 {
		var ids []string
		for _, id := range i.OSDs {
			ids = append(ids, strconv.Itoa(id))
		}
		o["osdid"], o["osdid-list"] = i.OSDs[0], ids
	}
	return o
}

// Path is the device of a name in /dev/disk/by-id, or of a kernel name: "/dev/sdb".
func (d *Disks) Path(name string) (string, bool) {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "/dev/"), "disk/by-id/")
	for _, i := range d.List(true) {
		if i.Name == name || i.Parent == "" && i.Spec.ID == name {
			return i.Path, true
		}
	}
	return "", false
}
