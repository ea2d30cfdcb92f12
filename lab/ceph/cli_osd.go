package ceph

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

func osdCommands() map[string]handler {
	return map[string]handler{
		"osd stat": (*call).osdStat, "osd tree": (*call).osdTree, "osd df": (*call).osdDF, "osd df tree": (*call).osdDF, "osd dump": (*call).osdDump, "osd ls": (*call).osdList,
		"osd ls-tree": (*call).osdLsTree, "osd metadata": (*call).osdMetadata, "osd find": (*call).osdFind, "osd ok-to-stop": (*call).okToStop, "osd safe-to-destroy": (*call).safeToDestroy,
		"osd in": (*call).osdIn, "osd out": (*call).osdOut, "osd down": (*call).osdDown, "osd rm": (*call).osdRemove, "osd purge": (*call).osdRemove, "osd destroy": (*call).osdRemove,
		"osd reweight": (*call).osdReweight, "osd new": (*call).osdNew, "osd require-osd-release": func(k *call) error { k.c.release = k.arg(0); return nil }, "osd perf": (*call).osdPerf,
		"osd numa-status": func(k *call) error { return k.print(object{"osds": []object{}}, nil) }, "osd versions": (*call).versions,
	}
}

func (k *call) osdStat() error {
	up, in, since := k.c.countOSDs()
	t := k.c.tally()
	return k.print(object{"epoch": k.c.osdEpoch, "num_osds": len(k.c.osds), "num_up_osds": up, "osd_up_since": k.epoch(since), "num_in_osds": in, "osd_in_since": k.epoch(since), "num_remapped_pgs": t.remapped}, func() string {
		return fmt.Sprintf("%d osds: %d up (since %s), %d in (since %s); epoch: e%d", len(k.c.osds), up, age(k.c.model.now()-since), in, age(k.c.model.now()-since), k.c.osdEpoch)
	})
}

// treeNodes is the hierarchy as `osd tree` lists it, depth first.
func (c *Cluster) treeNodes(more func(o *osd, node object)) (nodes, stray []object) {
	nodes, stray = []object{}, []object{}
	osdNode := func(o *osd, depth int) object {
		status := "down"
		if o.up {
			status = "up"
		}
		node := object{
			"id": o.number, "name": "osd." + o.id, "type": "osd", "type_id": 0, "device_class": o.class, "crush_weight": o.weight, "depth": depth, "pool_weights": object{}, "exists": 1, "status": status,
			"reweight": o.in, "primary_affinity": 1,
		}
		if more != nil {
			more(o, node)
		}
		return node
	}
	var walk func(b *bucket, depth int)
	walk = func(b *bucket, depth int) {
		children := []int{}
		for _, child := range slices.Backward(b.children) {
			children = append(children, child.id)
		}
		for _, id := range slices.Backward(b.osds) {
			children = append(children, id)
		}
		node := object{"id": b.id, "name": b.name, "type": b.kind, "type_id": slices.Index(bucketKinds, b.kind), "children": children}
		if b.parent != nil {
			node["pool_weights"] = object{}
		}
		nodes = append(nodes, node)
		for _, child := range b.children {
			walk(child, depth+1)
		}
		for _, id := range b.osds {
			if o := c.osds[id]; o != nil {
				nodes = append(nodes, osdNode(o, depth+1))
			}
		}
	}
	for _, b := range c.crush.buckets {
		if b.parent == nil {
			walk(b, 0)
		}
	}
	for _, o := range c.sortedOSDs() {
		if c.crush.hostOf(o.number) == nil {
			stray = append(stray, osdNode(o, 0))
		}
	}
	return nodes, stray
}

func (k *call) osdTree() error {
	nodes, stray := k.c.treeNodes(nil)
	keep := map[string]bool{}
	for _, state := range k.args {
		if !slices.Contains([]string{"up", "down", "in", "out", "destroyed"}, state) {
			return errInvalid
		}
		keep[state] = true
	}
	if len(keep) > 0 {
		nodes = slices.DeleteFunc(nodes, func(n object) bool {
			id, _ := n["id"].(int)
			o := k.c.osds[id]
			return n["type"] == "osd" && (o == nil || keep["up"] && !o.up || keep["down"] && o.up || keep["in"] && o.in == 0 || keep["out"] && o.in > 0)
		})
	}
	return k.print(object{"nodes": nodes, "stray": stray}, func() string {
		b := strings.Builder{}
		b.WriteString("ID  CLASS  WEIGHT   TYPE NAME      STATUS  REWEIGHT  PRI-AFF\n")
		depth := map[int]int{}
		for _, n := range append(nodes, stray...) {
			id, _ := n["id"].(int)
			if n["type"] != "osd" {
				if of := k.c.bucketByID(id); of != nil && of.parent != nil {
					depth[id] = depth[of.parent.id] + 1
				}
				fmt.Fprintf(&b, "%2d         %7.5f  %s%s %s\n", id, k.c.weightOf(n["name"].(string)), strings.Repeat("    ", depth[id]), n["type"], n["name"])
				continue
			}
			d, _ := n["depth"].(int)
			fmt.Fprintf(&b, "%2d  %5s  %7.5f  %s%s  %12s  %8.5f  1.00000\n", id, n["device_class"], n["crush_weight"], strings.Repeat("    ", d), n["name"], n["status"], n["reweight"])
		}
		return b.String()
	})
}

func (c *Cluster) bucketByID(id int) *bucket {
	for _, b := range c.crush.buckets {
		if b.id == id {
			return b
		}
	}
	return nil
}

// weightOf is the weight of all OSDs below a bucket.
func (c *Cluster) weightOf(name string) float64 {
	total := 0.0
	if b := c.crush.find(name); b != nil {
		for _, id := range b.all() {
			if o := c.osds[id]; o != nil {
				total += o.weight
			}
		}
	}
	return total
}

func (k *call) osdDF() error {
	c := k.c
	pgs := map[int]int{}
	c.eachPG(func(_ *pool, _ int, v pgView) {
		for _, o := range v.acting {
			pgs[o]++
		}
	})
	rows := func(o *osd, n object) {
		used := int64(30*mib) + int64(pgs[o.number])*objectsPerPG*objectSize
		n["kb"], n["kb_used"], n["kb_avail"] = o.size/1024, used/1024, (o.size-used)/1024
		n["utilization"], n["var"], n["pgs"] = 100*float64(used)/float64(max(1, o.size)), 1.0, pgs[o.number]
	}
	nodes, stray := c.treeNodes(rows)
	tree := k.arg(0) == "tree" || k.command == "osd df tree"
	if !tree {
		nodes = slices.DeleteFunc(nodes, func(n object) bool { return n["type"] != "osd" })
	}
	used, total := c.space()
	summary := object{"total_kb": total / 1024, "total_kb_used": used / 1024, "total_kb_avail": (total - used) / 1024, "average_utilization": 100 * float64(used) / float64(max(1, total)), "min_var": 1, "max_var": 1, "dev": 0}
	return k.print(object{"nodes": nodes, "stray": stray, "summary": summary}, func() string {
		b := strings.Builder{}
		b.WriteString("ID  CLASS  WEIGHT   REWEIGHT  SIZE     RAW USE  AVAIL    %USE  VAR   PGS  STATUS\n")
		for _, n := range nodes {
			if n["type"] == "osd" {
				fmt.Fprintf(&b, "%2d  %5s  %7.5f  %8.5f  %d KiB  %d KiB  %d KiB  %.2f  1.00  %3d  %s\n", n["id"], n["device_class"], n["crush_weight"], n["reweight"], n["kb"], n["kb_used"], n["kb_avail"], n["utilization"], n["pgs"], n["status"])
			}
		}
		return b.String()
	})
}

// stateOf are the words in an OSD's state.
func (o *osd) stateOf() []string {
	out := []string{"exists"}
	if o.up {
		out = append(out, "up")
	}
	if o.autoOut {
		out = append(out, "autoout")
	}
	if o.never {
		out = append(out, "new")
	}
	for _, f := range strings.Split(joinFlags(o.flags), ",") {
		if f != "" {
			out = append(out, f)
		}
	}
	return out
}

func (k *call) osdDump() error {
	c := k.c
	osds, pools, nodeFlags, profiles := []object{}, []object{}, object{}, object{}
	for _, o := range c.sortedOSDs() {
		addr := "-"
		if o.node != nil {
			addr = o.node.publicAddress(c).String()
		}
		osds = append(osds, object{
			"osd": o.number, "uuid": o.uuid, "up": flag01(o.up), "in": flag01(o.in > 0), "weight": o.in, "primary_affinity": 1, "last_clean_begin": 0, "last_clean_end": 0, "up_from": 5, "up_thru": c.osdEpoch,
			"down_at": 0, "lost_at": 0, "public_addr": addr + ":6802/1", "cluster_addr": addr + ":6804/1", "heartbeat_back_addr": addr + ":6808/1", "heartbeat_front_addr": addr + ":6806/1", "state": o.stateOf(),
		})
	}
	for _, p := range c.pools {
		pools = append(pools, c.poolDump(p, k))
	}
	for name, flags := range c.nodeFlags {
		if len(flags) > 0 {
			nodeFlags[name] = strings.Split(joinFlags(flags), ",")
		}
	}
	for name, profile := range c.profiles {
		profiles[name] = profile
	}
	flags := c.setFlags()
	sorted := slices.Sorted(slices.Values(flags))
	out := object{
		"epoch": c.osdEpoch, "fsid": c.fsid, "created": k.stamp(0), "modified": k.stamp(c.model.now()), "last_up_change": k.stamp(0), "last_in_change": k.stamp(0), "flags": strings.Join(flags, ","), "flags_num": 5799936, "flags_set": sorted,
		"crush_version": 5, "full_ratio": 0.95, "backfillfull_ratio": 0.9, "nearfull_ratio": 0.85, "cluster_snapshot": "", "pool_max": c.poolSeq, "max_osd": c.maxOSD(), "require_min_compat_client": "luminous", "min_compat_client": "jewel",
		"require_osd_release": cmp.Or(c.release, releaseOf(c.quorum[0].version).name), "allow_crimson": false, "pools": pools, "osds": osds, "osd_xinfo": []object{}, "pg_upmap": []object{}, "pg_upmap_items": []object{}, "pg_temp": []object{},
		"primary_temp": []object{}, "blocklist": object{}, "erasure_code_profiles": profiles, "crush_node_flags": nodeFlags, "device_class_flags": object{}, "stretch_mode": object{"stretch_mode_enabled": false},
	}
	return k.print(out, func() string {
		b := strings.Builder{}
		fmt.Fprintf(&b, "epoch %d\nfsid %s\nflags %s\n", c.osdEpoch, c.fsid, strings.Join(flags, ","))
		for _, p := range c.pools {
			fmt.Fprintf(&b, "pool %d '%s' %s size %d min_size %d crush_rule %d object_hash rjenkins pg_num %d pgp_num %d autoscale_mode %s\n", p.id, p.name, map[bool]string{true: "erasure", false: "replicated"}[p.profile != ""], p.size, p.minSize, p.rule.id, len(p.pgs), len(p.pgs), p.autoscale)
		}
		fmt.Fprintf(&b, "max_osd %d\n", c.maxOSD())
		for _, o := range c.sortedOSDs() {
			up, in := "down", "out"
			if o.up {
				up = "up  "
			}
			if o.in > 0 {
				in = "in "
			}
			fmt.Fprintf(&b, "osd.%d %s %s weight %g %s %s\n", o.number, up, in, o.in, strings.Join(o.stateOf(), ","), o.uuid)
		}
		return b.String()
	})
}

func (c *Cluster) maxOSD() int {
	most := 0
	for id := range c.osds {
		most = max(most, id+1)
	}
	return most
}

func (k *call) osdList() error {
	ids := []int{}
	for _, o := range k.c.sortedOSDs() {
		ids = append(ids, o.number)
	}
	return k.printIDs(ids)
}

func (k *call) printIDs(ids []int) error {
	return k.print(ids, func() string {
		var b strings.Builder
		for _, id := range ids {
			fmt.Fprintln(&b, id)
		}
		return b.String()
	})
}

func (k *call) osdLsTree() error {
	b := k.c.crush.find(k.arg(0))
	if b == nil {
		return refuse(syscall.ENOENT, "\"%s\" does not exist", k.arg(0))
	}
	return k.printIDs(append([]int{}, b.all()...))
}

// deviceIDs are an OSD's disks as it finds them when it starts. The monitors keep what it told them then.
func (o *osd) deviceIDs() string {
	if o.node == nil || o.node.disks == nil || len(o.devices) == 0 {
		return ""
	}
	i, _ := o.node.disks.Find(o.devices[0])
	return o.devices[0] + "=" + strings.TrimPrefix(i.Spec.ID, "ata-")
}

func (k *call) metadataOf(o *osd) object {
	out := object{"id": o.number}
	if o.node == nil || o.never {
		return out
	}
	r := releaseOf(o.version)
	i, _ := o.node.disks.Find(first(o.devices))
	out["hostname"], out["ceph_release"], out["ceph_version"], out["ceph_version_short"] = o.node.name, r.name, r.full(), upstream(o.version)
	out["device_ids"], out["devices"], out["osd_objectstore"], out["osd_data"] = o.bootIDs, strings.Join(o.devices, ","), "bluestore", "/var/lib/ceph/osd/ceph-"+o.id
	out["rotational"], out["bluestore_bdev_rotational"] = strconv.Itoa(flag01(i.Spec.Rotational)), strconv.Itoa(flag01(i.Spec.Rotational))
	out["bluestore_bdev_size"], out["kernel_version"] = strconv.FormatInt(o.size, 10), o.node.m.Kernel()
	out["default_device_class"] = o.class
	out["front_addr"], out["back_addr"] = o.node.publicAddress(k.c).String(), o.node.publicAddress(k.c).String()
	return out
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func (k *call) osdMetadata() error {
	if len(k.args) > 0 {
		list, err := k.osdArgs(k.args[:1])
		if err != nil {
			return err
		}
		return k.print(k.metadataOf(list[0]), nil)
	}
	out := []object{}
	for _, o := range k.c.sortedOSDs() {
		out = append(out, k.metadataOf(o))
	}
	return k.print(out, nil)
}

func (k *call) osdFind() error {
	if err := k.need(1); err != nil {
		return err
	}
	list, err := k.osdArgs(k.args[:1])
	if err != nil {
		return err
	}
	o, location, host := list[0], object{}, ""
	for b := k.c.crush.hostOf(o.number); b != nil; b = b.parent {
		location[b.kind] = b.name
	}
	if o.node != nil {
		host = o.node.name
	}
	return k.print(object{"osd": o.number, "osd_fsid": o.uuid, "host": host, "crush_location": location, "addrs": object{"addrvec": []object{}}}, nil)
}
