package ceph

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed ceph_osd.md
var osdDoc string

const byID = "/dev/disk/by-id/"

// diskBlock is a disk of a task, where the inventory does not name it.
type diskBlock struct {
	Node      inventory.Refs `hcl:"node" doc:"The node that the disk is in." example:"cluster.lab.pve1"`
	Device    string         `hcl:"device" doc:"The disk, by its path in /dev/disk/by-id." example:"\"/dev/disk/by-id/ata-A1\""`
	DBDevice  string         `hcl:"db_device,optional" doc:"A faster disk for the OSD's database, by its path in /dev/disk/by-id. Several OSDs may share it."`
	DBSize    float64        `hcl:"db_size,optional" min:"1" doc:"Size of the database in GiB (default: a tenth of the disk)."`
	WALDevice string         `hcl:"wal_device,optional" doc:"A disk for the write-ahead log, by its path in /dev/disk/by-id."`
	WALSize   float64        `hcl:"wal_size,optional" min:"0.5" doc:"Size of the log in GiB (default: a hundredth of the disk)."`
	Class     string         `hcl:"class,optional" doc:"The device class for CRUSH, such as ssd, nvme or hdd (default: what Ceph takes the disk for)."`
	Encrypted bool           `hcl:"encrypted,optional" doc:"Whether the OSD is encrypted with a key that the monitors keep."`
	Wipe      string         `hcl:"wipe,optional" doc:"The permission to wipe what lies on this disk: the word that the plan prints for it. When anything else lies there, it permits nothing." example:"\"ext4-3f9a1c2e\""`
}

type osdArgs struct {
	Disks   []diskBlock   `hcl:"disk,block" doc:"A disk that shall be an OSD (default: those that the inventory names for the task's hosts)."`
	Ensure  string        `hcl:"ensure,optional" default:"present" oneof:"present absent" doc:"Whether OSDs shall be there, or those of ids taken away."`
	IDs     []int         `hcl:"ids,optional" doc:"With ensure = \"absent\": the ids of the OSDs that shall go. Their data moves to the others first." example:"[3]"`
	Cleanup bool          `hcl:"cleanup,optional" doc:"With ensure = \"absent\": whether the disk is wiped, so that it can be used again."`
	Start   bool          `hcl:"start_stopped,optional" doc:"Whether an OSD that somebody has stopped is started. Without it that is told, and the OSD is left alone."`
	UpWait  time.Duration `hcl:"up_timeout,optional" default:"5m" min:"30s" doc:"How long a new OSD may take until it is up."`
	Drain   time.Duration `hcl:"drain_timeout,optional" default:"12h" min:"1m" doc:"With ensure = \"absent\": how long the data may take to move away from an OSD."`
}

// Validate checks what can be checked without a node.
func (a *osdArgs) Validate() error {
	switch {
	case a.Ensure == "absent" && len(a.IDs) == 0:
		return schema.At("ids", errors.New(`name the OSDs that shall go: ids = [3]`))
	case a.Ensure == "absent" && len(a.Disks) > 0:
		return schema.At("disk", errors.New("OSDs are taken away by their ids, not by their disks"))
	case a.Ensure == "absent" && a.Start:
		return schema.At("start_stopped", errors.New(`it is for OSDs that shall be there`))
	case a.Ensure != "absent" && (len(a.IDs) > 0 || a.Cleanup):
		return schema.At("ids", errors.New(`ids and cleanup are for ensure = "absent"`))
	case slices.ContainsFunc(a.IDs, func(id int) bool { return id < 0 }):
		return schema.At("ids", errors.New("an OSD's id is 0 or more"))
	}
	return checkDisks(a.Disks)
}

func checkDisks(disks []diskBlock) error {
	seen := map[string]bool{}
	var errs []error
	for i, d := range disks {
		at := fmt.Sprintf("disk[%d]", i)
		if len(d.Node) != 1 {
			errs = append(errs, schema.At(at+".node", errors.New("a disk is in one node")))
			continue
		}
		for name, path := range map[string]string{"device": d.Device, "db_device": d.DBDevice, "wal_device": d.WALDevice} {
			if err := checkByID(path); path != "" && err != nil {
				errs = append(errs, schema.At(at+"."+name, err))
			}
		}
		if err := checkWipe(d.Wipe); err != nil {
			errs = append(errs, schema.At(at+".wipe", err))
		}
		if seen[d.Node[0]+d.Device] {
			errs = append(errs, schema.At(at+".device", fmt.Errorf("%s is named twice for %s", d.Device, d.Node[0])))
		}
		seen[d.Node[0]+d.Device] = true
		if d.WALDevice != "" && d.WALDevice == d.DBDevice {
			errs = append(errs, schema.At(at+".wal_device", errors.New("the log lies with the database by itself: leave wal_device out")))
		}
		if d.Device == d.DBDevice || d.Device == d.WALDevice {
			errs = append(errs, schema.At(at+".device", errors.New("an OSD's database or log on its own disk is the default: leave it out")))
		}
	}
	return errors.Join(errs...)
}

// checkByID accepts only names that stay with the disk: /dev/sdb may be another one after the next start.
func checkByID(path string) error {
	if name, ok := strings.CutPrefix(path, byID); !ok || name == "" || strings.ContainsAny(name, "/ \t\n") {
		return fmt.Errorf("%q is not a path in %s, which stays with the disk when others come and go", path, byID)
	}
	return nil
}

// checkWipe accepts words as plans print them. A yes would stand for whatever lies on the disk one day.
func checkWipe(word string) error {
	if word != "" && !inventory.WipeWord(word) {
		return fmt.Errorf("%q is no permission to wipe: leave it out, and the plan prints the word for what lies on the disk, such as %q", word, "ext4-3f9a1c2e")
	}
	return nil
}

func cephOSD() module.Module {
	return module.Define(module.Spec{
		Name: "ceph_osd", Summary: "Make OSDs of disks, or take them away", Doc: osdDoc, Scope: module.PerCluster,
	}, module.Funcs[osdArgs, cephOut]{
		Probes: func(t module.Target, _ osdArgs) []module.Probe { return probes(t) },
		Plan: func(ctx context.Context, t module.Target, args osdArgs) ([]module.Change, error) {
			w, err := look(ctx, t)
			if err != nil {
				return nil, err
			}
			if args.Ensure == "absent" {
				return w.done(t, w.withoutOSDs(args))
			}
			return w.done(t, w.osds(disksOf(t, args.Disks), osdWishes{upWait: args.UpWait, startStopped: args.Start}, nil))
		},
		Read: func(ctx context.Context, t module.Target, _ osdArgs) (cephOut, error) { return outputs(ctx, t) },
	})
}

// disk is one that shall be an OSD.
type disk struct {
	host string
	diskBlock
}

// disksOf are the disks of the task, or else those that the inventory names, of the hosts in this run.
func disksOf(t module.Target, blocks []diskBlock) []disk {
	var out []disk
	hosts := hostsOf(t)
	for _, b := range blocks {
		if host := b.Node[0]; slices.Contains(hosts, host) || !slices.Contains(t.Cluster().Nodes, host) {
			out = append(out, disk{host: host, diskBlock: b})
		}
	}
	if len(blocks) > 0 {
		slices.SortStableFunc(out, func(a, b disk) int {
			return slices.Index(t.Cluster().Nodes, a.host) - slices.Index(t.Cluster().Nodes, b.host)
		})
		return out
	}
	for _, host := range hosts {
		h, _ := t.Site().Host(host)
		if h.Node == nil {
			continue
		}
		for _, o := range h.Node.OSDs {
			out = append(out, disk{host: host, diskBlock: diskBlock{Device: o.Device, DBDevice: o.DBDevice, WALDevice: o.WALDevice, Class: o.Class, Wipe: o.Wipe}})
		}
	}
	return out
}

// osdWishes are what the arguments say about all OSDs of a task.
type osdWishes struct {
	upWait       time.Duration
	startStopped bool
}

// osds plans an OSD on each disk that is not one yet. Those of a node are made one after the other, nodes beside each other.
func (w *world) osds(disks []disk, wishes osdWishes, n *networks) []module.Change {
	const gate = "make OSDs"
	if len(disks) == 0 {
		w.warn("", "no disks are named: neither in the inventory (osds = [...]) nor in the task")
		return nil
	}
	if !w.answers(gate) {
		return nil
	}
	w.strays()
	var creates, mends []module.Change
	data := w.dataDisks(disks)
	for _, d := range disks {
		gate := fmt.Sprintf("make an OSD of %s", d.Device)
		if !w.need(d.host, gate) {
			continue
		}
		if err := checkByID(d.Device); err != nil {
			w.refuse(d.host, gate, err.Error(), "a path in "+byID, "ls -l "+byID, w.suggest(d.host, d.Device))
			continue
		}
		fsid := ""
		if w.Conf.Inited() {
			fsid = w.Conf.FSID
		}
		m := ceph.MatchDisk(w.local[d.host], w.Map, fsid, d.Device)
		if first := data[d.host+deviceOf(m)]; m.Disk != nil && first != d.Device {
			w.refuse(d.host, gate, fmt.Sprintf("it is the same disk as %s: %s", first, m.Disk.Path), "each disk once", "ls -l "+byID, "take one of the names out")
			continue
		}
		switch {
		case m.Found == ceph.HasOSD:
			mends = append(mends, w.mend(d, m.OSD, wishes.startStopped)...)
		case m.Found == ceph.Free, mayWipe(m, d.Wipe):
			if c, ok := w.create(d, m, gate, wishes.upWait, n, data); ok {
				creates = append(creates, c)
			}
		default:
			w.refuseDisk(d, m, gate)
		}
	}
	return append(w.plan(creates), mends...)
}

// mayWipe reports whether a permission is for what lies on the disk now. OSDs and databases of this cluster, and what cannot be
// told, are not to be had by any.
func mayWipe(m ceph.Match, word string) bool {
	return (m.Found == ceph.Carries || m.Found == ceph.Cut) && word == m.Disk.Word() && len(m.Disk.Busy()) == 0
}

// permission is the word to write, after what the runbook has for another state of the disk.
func permission(m ceph.Match, given string) string {
	text := fmt.Sprintf("if nothing on it is needed: wipe = %q on this very disk", m.Disk.Word())
	if given != "" {
		text = fmt.Sprintf("wipe = %q was written for something else than what lies there now: find out what has happened to the disk; ", given) + text
	}
	return text
}

// dataDisks are the names under which disks are to be OSDs, by node and device. A disk can have several names.
func (w *world) dataDisks(disks []disk) map[string]string {
	out := map[string]string{}
	for _, d := range disks {
		n := w.local[d.host]
		if n == nil {
			continue // refused by need
		}
		if on, ok := n.Disk(d.Device); ok && out[d.host+on.Path] == "" {
			out[d.host+on.Path] = d.Device
		}
	}
	return out
}

func deviceOf(m ceph.Match) string {
	if m.Disk == nil {
		return ""
	}
	return m.Disk.Path
}

// suggest names a disk the lasting way.
func (w *world) suggest(host, device string) string {
	n := w.local[host]
	for i := range n.Disks {
		if names := n.Names(&n.Disks[i]); n.Disks[i].Path == device && len(names) > 0 {
			return fmt.Sprintf("at this moment it is %s", names[0])
		}
	}
	return ""
}

// refuseDisk says why a disk is left alone.
func (w *world) refuseDisk(d disk, m ceph.Match, gate string) {
	want, override := "a disk with nothing on it, or with an OSD of this cluster", ""
	switch m.Found {
	case ceph.Carries:
		if busy := m.Disk.Busy(); len(busy) > 0 {
			override = "take it out of use first: " + strings.Join(busy, "; ")
		} else {
			override = permission(m, d.Wipe)
		}
	case ceph.Missing:
		want = "the disk that the runbook names"
		override = "if the disk was replaced: take the old OSD away (ceph_osd with ensure = \"absent\"), and write the new disk's name"
	case ceph.Swapped:
		want = "the disk that the cluster knows"
		override = "find out which disk this is; a disk that replaces another one needs a new OSD"
	case ceph.Cut:
		want = "an OSD that is whole, or a disk with nothing on it"
		override = fmt.Sprintf("systemctl start ceph-osd@%d; if it does not come up: ceph osd purge %d --yes-i-really-mean-it, and %s", m.OSD, m.OSD, permission(m, d.Wipe))
	case ceph.Serves:
		want, override = "a disk that no OSD of this cluster needs", "take these OSDs away first (ceph_osd with ensure = \"absent\"), or name another disk"
	case ceph.Unmatched, ceph.Free, ceph.HasOSD:
	}
	saw := m.Saw
	if m.Disk != nil {
		saw = fmt.Sprintf("%s (%s): %s", m.Disk.Path, m.Disk.Describe(), saw)
	}
	w.refuse(d.host, gate, saw, want, m.Look, override)
}

// strays tells of OSDs that are allocated and belong to no host: what creations that failed leave behind.
func (w *world) strays() {
	if w.Map == nil {
		return
	}
	for _, o := range w.Map.OSDs {
		if o.Host == "" && !o.Up {
			w.warn("", "osd.%d is allocated and belongs to no host: a creation was cut off (look: ceph osd tree; if it is not needed: ceph_osd with ensure = \"absent\" and ids = [%d])", o.ID, o.ID)
		}
	}
}
