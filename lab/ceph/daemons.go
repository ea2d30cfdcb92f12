package ceph

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// addUnit makes the unit of a daemon, whose start and stop the cluster hears of. The caller does not hold the lock.
func (n *Node) addUnit(c *Cluster, d *daemon, dir string) {
	n.model.mu.Lock()
	d.node = n
	n.model.mu.Unlock()
	kind := map[string]string{"mon": "cluster monitor daemon", "mgr": "cluster manager daemon", "osd": "object storage daemon osd." + d.id, "mds": "metadata server daemon"}[d.kind]
	n.m.AddUnit(machine.Unit{
		Name: d.unit(), Description: "Ceph " + kind, Command: fmt.Sprintf("/usr/bin/ceph-%s -f --cluster ceph --id %s --setuser ceph --setgroup ceph", d.kind, d.id),
		OnStart: func(context.Context) error { return n.daemonStarts(c, d, dir) },
		OnStop:  func(context.Context) error { n.daemonStops(c, d, true); return nil },
	})
}

// daemonStarts is what a daemon's process needs to begin, and what the cluster makes of it.
func (n *Node) daemonStarts(c *Cluster, d *daemon, dir string) error {
	if !exists(n.m.FS.View, "/usr/bin/ceph-"+d.kind) {
		return fmt.Errorf("/usr/bin/ceph-%s: No such file or directory", d.kind)
	}
	if dir != "" && !exists(n.m.FS.View, dir) {
		return fmt.Errorf("monitor data directory at '%s' does not exist: have you run 'mkfs'?", dir)
	}
	if d.kind == "osd" && !n.hasVolume(c, d.id) {
		return errors.New("unable to open OSD superblock on /var/lib/ceph/osd/ceph-" + d.id)
	}
	m := n.model
	version := n.installed("ceph-" + d.kind)
	m.mu.Lock()
	defer m.mu.Unlock()
	if d.broken != "" {
		return errors.New(d.broken)
	}
	c.settle()
	d.on, d.clean, d.version = true, false, version
	c.observe(m.now())
	return nil
}

// daemonStops ends a daemon, in order or not.
func (n *Node) daemonStops(c *Cluster, d *daemon, clean bool) {
	m := n.model
	m.mu.Lock()
	defer m.mu.Unlock()
	c.settle()
	d.on, d.clean = false, clean
	c.settle()
}

// hasVolume reports whether the disk of an OSD is there.
func (n *Node) hasVolume(c *Cluster, id string) bool {
	for _, v := range n.disks.Volumes() {
		if v.Tags["ceph.osd_id"] == id && v.Tags["ceph.type"] == "block" && v.Tags["ceph.cluster_fsid"] == c.fsid {
			return true
		}
	}
	return false
}

// start starts and enables the unit of a daemon.
func (n *Node) start(ctx context.Context, d *daemon) error {
	if err := n.m.StartUnit(ctx, d.unit()); err != nil {
		name := strings.TrimSuffix(d.unit(), ".service")
		return fmt.Errorf("command '/bin/systemctl start %s' failed: exit code 1", name)
	}
	n.m.EnableUnit(d.unit(), true)
	return nil
}

// stop ends and forgets the unit of a daemon.
func (n *Node) stop(ctx context.Context, d *daemon) {
	_ = n.m.StopUnit(ctx, d.unit()) // one that does not exist is stopped
	n.m.EnableUnit(d.unit(), false)
	n.m.RemoveUnit(d.unit())
}

// targets are the units that stand for all daemons of a kind.
var targets = []string{"mon", "mgr", "osd", "mds"}

// targetUnits are ceph.target and those of the kinds.
func (n *Node) targetUnits() []machine.Unit {
	group := func(kind string) machine.Unit {
		name, text := "ceph.target", "ceph target allowing to start/stop all ceph*@.service instances at once"
		if kind != "" {
			name, text = "ceph-"+kind+".target", "ceph target allowing to start/stop all ceph-"+kind+"@.service instances at once"
		}
		each := func(ctx context.Context, do func(context.Context, string) error, wanted bool) error {
			var failed error
			for _, u := range n.m.Units() {
				if isCeph(u.Name, kind) && (!wanted || u.Enabled) {
					failed = errors.Join(failed, do(ctx, u.Name))
				}
			}
			return failed
		}
		return machine.Unit{
			Name: name, Description: text, Enabled: true, Oneshot: true,
			OnStart: func(ctx context.Context) error { _ = each(ctx, n.m.StartUnit, true); return nil }, // their states show who failed
			OnStop:  func(ctx context.Context) error { return each(ctx, n.m.StopUnit, false) },
		}
	}
	out := []machine.Unit{group("")}
	for _, kind := range targets {
		out = append(out, group(kind))
	}
	return out
}

func isCeph(unit, kind string) bool {
	for _, k := range targets {
		if (kind == "" || kind == k) && strings.HasPrefix(unit, "ceph-"+k+"@") {
			return true
		}
	}
	return false
}

// activeClusters are the clusters with a daemon on the node. The model's lock is held.
func (n *Node) activeClusters() []*Cluster {
	var out []*Cluster
	for _, c := range n.model.clusters {
		if slices.ContainsFunc(c.daemons(), func(d *daemon) bool { return d.node == n }) {
			out = append(out, c)
		}
	}
	return out
}
