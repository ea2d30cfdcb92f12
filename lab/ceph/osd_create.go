package ceph

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/disk"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// osdPart is a device of an OSD to be.
type osdPart struct {
	kind string // "dev", "db_dev" or "wal_dev"
	path string // as given
	name string // "sdb"
	size int64  // asked for
}

const gib = 1 << 30

// osdCreate is `pveceph osd create`.
func (n *Node) osdCreate(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	v := p.View()
	if err := n.ready(v, "ceph-osd", "ceph-volume"); err != nil {
		return err
	}
	if err := symlinkConf(v); err != nil {
		return err
	}
	parts, err := n.osdParts(p, o)
	if err != nil {
		return err
	}
	c := readConf(v, confPath)
	if network := or2(c["global"]["cluster_network"], c["global"]["public_network"]); network != "" && len(n.addresses(network)) == 0 {
		return fmt.Errorf("No address from ceph cluster network (%s) found on node '%s'. Check your network config.", network, n.name) //nolint:revive,staticcheck // Proxmox's words
	}
	if err := n.checkParts(parts); err != nil {
		return err
	}
	k, err := n.rados5(ctx, v)
	if err != nil {
		return err
	}
	if !exists(v, bootstrapOSD) {
		if err := write(v, bootstrapOSD, fmt.Sprintf("[client.bootstrap-osd]\n\tkey = %s\n", n.newKey())); err != nil {
			return err
		}
	}
	return n.task(ctx, p, "cephcreateosd", parts[0].name, true, func(ctx context.Context, out io.Writer) error {
		select { // one change of the disks at a time
		case n.diskLock <- struct{}{}:
			defer func() { <-n.diskLock }()
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := n.checkParts(parts); err != nil {
			return err
		}
		return n.makeOSDs(ctx, out, k, parts, o)
	})
}

// osdParts reads which devices are meant.
func (n *Node) osdParts(p *machine.Proc, o pvetool.Options) ([]osdPart, error) {
	var parts []osdPart
	for _, kind := range []string{"dev", "db_dev", "wal_dev"} {
		path := o.Values[kind]
		if kind == "dev" {
			path = o.Positional[0]
		}
		if path == "" {
			continue
		}
		if !strings.HasPrefix(path, "/dev/") {
			return nil, &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{kind + ": value does not match the regex pattern"}}
		}
		part := osdPart{kind: kind, path: path, name: n.disks.Resolve(p.View(), path)}
		if part.name == "" {
			return nil, fmt.Errorf("unable to get device info for '%s'", path)
		}
		for _, other := range parts {
			if other.name == part.name {
				return nil, fmt.Errorf("cannot chose '%s' for more than one type.", part.path) //nolint:revive,staticcheck // Proxmox's words
			}
		}
		if size := o.Values[kind+"_size"]; size != "" {
			g, _ := strconv.ParseFloat(size, 64) // checked by the option
			part.size = int64(g * gib)
		}
		parts = append(parts, part)
	}
	if o.Int("osds-per-device") > 0 && len(parts) > 1 {
		return nil, fmt.Errorf("cannot use 'osds-per-device' parameter with '%s'", parts[1].kind)
	}
	return parts, nil
}

// checkParts refuses devices that carry anything.
func (n *Node) checkParts(parts []osdPart) error {
	for _, part := range parts {
		i, ok := n.disks.Find(part.name)
		switch {
		case !ok && part.kind != "dev":
			return fmt.Errorf("unable to get device info for '%s' for type %s", part.path, part.kind)
		case !ok:
			return fmt.Errorf("unable to get device info for '%s'", part.path)
		case i.Used == "":
		case part.kind == "dev":
			return fmt.Errorf("device '%s' is already in use", part.path)
		case i.Used == "partitions" && !i.GPT:
			return fmt.Errorf("device '%s' is not GPT partitioned", part.path)
		case i.Used != "partitions" && i.Used != "LVM":
			return fmt.Errorf("device '%s' is already in use and has no LVM on it", part.path)
		}
	}
	return nil
}

// makeOSDs makes one OSD, or several on one device.
func (n *Node) makeOSDs(ctx context.Context, out io.Writer, k *Cluster, parts []osdPart, o pvetool.Options) error {
	data, _ := n.disks.Find(parts[0].name) // checked
	fmt.Fprintf(out, "create OSD on %s (bluestore)\n", data.Path)
	sides := map[string]disk.Volume{}
	for _, part := range parts[1:] {
		kind := strings.TrimSuffix(part.kind, "_dev")
		size := part.size
		if size == 0 {
			size = data.Size / map[string]int64{"db": 10, "wal": 100}[kind]
		}
		fmt.Fprintf(out, "creating block.%s on '%s'\n", kind, part.path)
		side, err := n.makeSide(part, kind, size)
		if err != nil {
			return err
		}
		for _, line := range []string{"  Rounding up size to full physical extent", fmt.Sprintf("  Logical volume \"%s\" created.", side.Name)} {
			fmt.Fprintln(out, line)
		}
		fmt.Fprintf(out, "using '%s/%s' for block.%s\n", side.Group, side.Name, kind)
		sides[kind] = side
	}
	fmt.Fprintf(out, "wiping block device %s\n200+0 records in\n200+0 records out\n209715200 bytes (210 MB, 200 MiB) copied, 1.2 s, 172 MB/s\n", data.Path)
	if err := n.pve.Phase(ctx, "ceph:osd-wiped", 2*time.Second); err != nil {
		return err
	}
	class := or2(o.Values["crush-device-class"], map[string]string{"nvme": "ssd"}[data.Class])
	count := or(o.Int("osds-per-device"), 1)
	for range count {
		size := int64(0)
		if count > 1 {
			size = data.Size/int64(count) - 8*mib
		}
		if err := n.makeOSD(ctx, out, k, data, or2(class, data.Class), size, sides, o.Is("encrypted")); err != nil {
			return err
		}
	}
	return nil
}

// makeSide makes the place of a DB or WAL: in a new volume group on an empty disk, in Ceph's volume group that is there, or
// in a new partition.
func (n *Node) makeSide(part osdPart, kind string, size int64) (disk.Volume, error) {
	i, _ := n.disks.Find(part.name) // checked
	name := "osd-" + kind + "-" + n.newUUID()
	switch {
	case i.Size < size:
		return disk.Volume{}, fmt.Errorf("'%s' is smaller than requested size '%d' bytes", i.Path, size)
	case i.Used == "partitions":
		device, err := n.disks.CreatePartition(part.name, size, "Ceph "+kind)
		return disk.Volume{Path: "/dev/" + device, Group: "", Name: device, Devices: []string{i.Path}}, err
	case i.Used == "LVM" && !strings.HasPrefix(i.Group, "ceph-"):
		return disk.Volume{}, fmt.Errorf("no ceph vg found on '%s'", i.Path)
	case i.Used == "LVM":
		if free, _ := n.disks.GroupFree(i.Group); free < size {
			return disk.Volume{}, fmt.Errorf("vg '%s' has not enough free space", i.Group)
		}
	}
	return n.disks.CreateVolume(part.name, "ceph-"+n.newUUID(), name, size, nil, "")
}

// makeOSD does what ceph-volume does: an id, a volume, the OSD's files, its unit.
func (n *Node) makeOSD(ctx context.Context, out io.Writer, k *Cluster, data disk.Info, class string, size int64, sides map[string]disk.Volume, encrypted bool) error {
	uuid := n.newUUID()
	fmt.Fprintf(out, "Running command: /usr/bin/ceph --cluster ceph --name client.bootstrap-osd --keyring %s -i - osd new %s\n", bootstrapOSD, uuid)
	var one *osd
	err := n.with(k, func() error {
		if len(k.quorum) == 0 {
			return errors.New("command 'ceph-volume lvm create' failed: exit code 1")
		}
		one = k.newOSD(uuid, class)
		return nil
	})
	if err != nil {
		return err
	}
	return n.fillOSD(ctx, out, k, one, data, class, size, sides, encrypted)
}

// fillOSD makes what belongs to an id that was given: the volume, the files, the unit.
func (n *Node) fillOSD(ctx context.Context, out io.Writer, k *Cluster, one *osd, data disk.Info, class string, size int64, sides map[string]disk.Volume, encrypted bool) error {
	uuid := one.uuid
	if err := n.pve.Phase(ctx, "ceph:osd-new", time.Second); err != nil { // the id is taken, the disk empty
		return err
	}
	group, lv := "ceph-"+n.newUUID(), "osd-block-"+uuid
	volume, err := n.disks.CreateVolume(data.Name, group, lv, size, nil, "ceph_bluestore")
	if err != nil {
		return fmt.Errorf("command 'ceph-volume lvm create --cluster-fsid %s --data %s' failed: exit code 1", k.fsid, data.Path)
	}
	fmt.Fprintf(out, "Running command: vgcreate --force --yes %s %s\n stdout: Volume group \"%s\" successfully created\nRunning command: lvcreate --yes -l 100%%FREE -n %s %s\n stdout: Logical volume \"%s\" created.\n",
		volume.Group, data.Path, volume.Group, lv, volume.Group, lv)
	n.tag(k, one, volume, sides, class, encrypted)
	dir := "/var/lib/ceph/osd/ceph-" + one.id
	for name, text := range map[string]string{"whoami": one.id, "fsid": uuid, "type": "bluestore", "ceph_fsid": k.fsid, "ready": "ready"} {
		if err := write(n.m.FS.View, dir+"/"+name, text+"\n"); err != nil {
			return err
		}
	}
	links := map[string]string{"block": volume.Path}
	for kind, side := range sides {
		links["block."+kind] = side.Path
	}
	if encrypted {
		links["block"] = n.disks.Encrypt(volume.Group + "/" + volume.Name)
		for kind, side := range sides {
			if side.Group != "" { // a partition of its own stays as it is
				links["block."+kind] = n.disks.Encrypt(side.Group + "/" + side.Name)
			}
		}
	}
	for name, target := range links {
		if err := n.m.FS.Symlink(target, dir+"/"+name); err != nil {
			return err
		}
	}
	if err := n.pve.Phase(ctx, "ceph:osd-mkfs", 3*time.Second); err != nil {
		return err
	}
	fmt.Fprintf(out, "Running command: /usr/bin/ceph-osd --cluster ceph --osd-objectstore bluestore --mkfs -i %s --monmap %s/activate.monmap --keyfile - --osd-data %s/ --osd-uuid %s --setuser ceph --setgroup ceph\n--> ceph-volume lvm prepare successful for: %s\n", one.id, dir, dir, uuid, data.Path)
	_ = n.with(k, func() error { // nothing fails
		one.devices = []string{data.Name}
		one.size, one.weight = volume.Size, round5(float64(volume.Size)/(1<<40))
		host := k.crush.host(n.name)
		host.osds = append(host.osds, one.number)
		slices.Sort(host.osds)
		return nil
	})
	n.addUnit(k, &one.daemon, dir)
	fmt.Fprintf(out, "Running command: /usr/bin/systemctl start ceph-osd@%s\n", one.id)
	if err := n.start(ctx, &one.daemon); err != nil {
		return fmt.Errorf("command 'ceph-volume lvm create --cluster-fsid %s --data %s' failed: exit code 1", k.fsid, data.Path)
	}
	fmt.Fprintf(out, "--> ceph-volume lvm activate successful for osd ID: %s\n--> ceph-volume lvm create successful for: %s\n", one.id, data.Path)
	return nil
}

func round5(x float64) float64 { return float64(int64(x*1e5+0.5)) / 1e5 }

// newOSD takes the lowest free id.
func (c *Cluster) newOSD(uuid, class string) *osd {
	id := 0
	for c.osds[id] != nil {
		id++
	}
	return c.addOSD(id, uuid, class)
}

// addOSD takes an id.
func (c *Cluster) addOSD(id int, uuid, class string) *osd {
	o := &osd{daemon: daemon{kind: "osd", id: strconv.Itoa(id)}, number: id, uuid: uuid, class: class, never: true, flags: map[string]bool{}}
	c.osds[id] = o
	c.osdEpoch++
	return o
}

// tag writes into the tags of the volumes which OSD they belong to.
func (n *Node) tag(k *Cluster, one *osd, block disk.Volume, sides map[string]disk.Volume, class string, encrypted bool) {
	tags := map[string]string{
		"ceph.osd_id": one.id, "ceph.osd_fsid": one.uuid, "ceph.cluster_fsid": k.fsid, "ceph.cluster_name": "ceph", "ceph.type": "block", "ceph.block_device": block.Path,
		"ceph.block_uuid": block.UUID, "ceph.cephx_lockbox_secret": "", "ceph.crush_device_class": class, "ceph.encrypted": map[bool]string{true: "1", false: "0"}[encrypted],
		"ceph.osdspec_affinity": "", "ceph.vdo": "0", "ceph.with_tpm": "0",
	}
	for kind, side := range sides {
		tags["ceph."+kind+"_device"], tags["ceph."+kind+"_uuid"] = side.Path, side.UUID
	}
	n.disks.SetTags(block.Group+"/"+block.Name, tags)
	for kind, side := range sides {
		own := maps.Clone(tags)
		own["ceph.type"] = kind
		n.disks.SetTags(side.Group+"/"+side.Name, own)
	}
}

// osdDestroy is `pveceph osd destroy`.
func (n *Node) osdDestroy(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	v := p.View()
	if err := n.ready(v); err != nil {
		return err
	}
	k, err := n.rados5(ctx, v)
	if err != nil {
		return err
	}
	id, err := strconv.Atoi(o.Positional[0])
	if err != nil {
		return &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{fmt.Sprintf("osdid: type check ('integer') failed - got '%s'", o.Positional[0])}}
	}
	var one *osd
	err = n.with(k, func() error {
		one = k.osds[id]
		switch {
		case one == nil:
			return fmt.Errorf("no such OSD '%d'", id)
		case one.node != nil && one.node != n:
			return fmt.Errorf("OSD osd.%d does not belong to node %s!", id, n.name) //nolint:revive,staticcheck // Proxmox's words
		case one.in > 0:
			return errors.New("osd is in use (in == 1)")
		case one.up:
			return errors.New("osd is still running (up == 1)")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return n.task(ctx, p, "cephdestroyosd", "osd."+one.id, true, func(ctx context.Context, out io.Writer) error {
		fmt.Fprintf(out, "destroy OSD osd.%d\n", id)
		n.stop(ctx, &one.daemon)
		fmt.Fprintf(out, "Remove osd.%d from the CRUSH map\nRemove the osd.%d authentication key.\nRemove OSD osd.%d\n", id, id, id)
		if err := n.pve.Phase(ctx, "ceph:osd-destroy", 2*time.Second); err != nil {
			return err
		}
		_ = n.with(k, func() error { k.removeOSD(id); return nil }) // nothing fails
		fmt.Fprintf(out, "Unmount OSD osd.%d from  /var/lib/ceph/osd/ceph-%d\n", id, id)
		if err := v.RemoveAll("/var/lib/ceph/osd/ceph-" + one.id); err != nil {
			return err
		}
		if o.Is("cleanup") {
			n.zapOSD(k.fsid, one.id)
		}
		return nil
	})
}

// removeOSD forgets an OSD.
func (c *Cluster) removeOSD(id int) {
	delete(c.osds, id)
	c.crush.dropOSD(id)
	c.osdChanged(c.model.now())
}

// zapOSD takes the volumes of an OSD off their disks.
func (n *Node) zapOSD(fsid, id string) {
	for _, v := range n.disks.Volumes() {
		if v.Tags["ceph.osd_id"] == id && (fsid == "" || v.Tags["ceph.cluster_fsid"] == fsid) {
			n.disks.RemoveVolume(v.Group+"/"+v.Name, true)
		}
	}
}
