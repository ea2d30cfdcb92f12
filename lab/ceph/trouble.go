package ceph

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// What can go wrong with Ceph, for the lab's faults.

// Phases are the points of pveceph's workers at which a fault can cut in, and of the ceph command once it is connected.
func Phases() []string {
	return []string{"ceph:install", "ceph:mon", "ceph:mon-start", "ceph:mgr", "ceph:mds", "ceph:osd-wiped", "ceph:osd-new", "ceph:osd-mkfs", "ceph:osd-destroy", "ceph:pool", "ceph:fs", "ceph:command"}
}

// SetDeaf lets no client on a node get through to a monitor, or lets it again.
func (m *Model) SetDeaf(node string, on bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[node]
	if n == nil {
		return fmt.Errorf("%s is no Proxmox node", node)
	}
	n.deaf = on
	return nil
}

// findOSD finds an OSD that a node has, in any cluster. The lock is held.
func (m *Model) findOSD(id string) (*Cluster, *osd, error) {
	number, err := strconv.Atoi(id)
	if err != nil {
		return nil, nil, fmt.Errorf("%q is no OSD's number", id)
	}
	for _, c := range m.clusters {
		if o := c.osds[number]; o != nil && o.node != nil {
			return c, o, nil
		}
	}
	return nil, nil, fmt.Errorf("there is no osd.%d", number)
}

// KillOSD ends an OSD as a crash does. With stays its disk is broken: it does not start again; else systemd starts it after
// ten seconds. A crash report is left.
func (m *Model) KillOSD(id string, stays bool) error {
	m.mu.Lock()
	c, o, err := m.findOSD(id)
	if err != nil {
		m.mu.Unlock()
		return err
	}
	c.settle()
	o.on, o.clean = false, false
	if stays {
		o.broken = fmt.Sprintf("bdev(/var/lib/ceph/osd/ceph-%s/block) _aio_thread got r=-5 ((5) Input/output error)", id)
	}
	at := o.node.m.Now()
	c.crashes = append(c.crashes, crash{id: at.UTC().Format("2006-01-02T15:04:05.000000Z") + "_" + o.uuid, entity: "osd." + id, host: o.node.name, at: at})
	c.observe(m.now())
	node, unit := o.node, o.unit()
	m.mu.Unlock()
	node.m.FailUnit(unit)
	if !stays {
		const restarts = 10 * time.Second
		m.world.Clock().AfterFunc(restarts, func() { _ = node.m.StartUnit(context.Background(), unit) }) // the unit shows what became of it
	}
	return nil
}

// RepairOSD lets a broken OSD start again and starts it.
func (m *Model) RepairOSD(ctx context.Context, id string) error {
	m.mu.Lock()
	_, o, err := m.findOSD(id)
	if err != nil {
		m.mu.Unlock()
		return err
	}
	o.broken = ""
	node, unit := o.node, o.unit()
	m.mu.Unlock()
	return node.m.StartUnit(ctx, unit)
}

// DisksChanged ends the OSDs of a node whose disk is no longer there.
func (m *Model) DisksChanged(node string) {
	m.mu.Lock()
	n := m.nodes[node]
	m.mu.Unlock()
	if n == nil {
		return
	}
	have := map[string]bool{}
	for _, v := range n.disks.Volumes() {
		if v.Tags["ceph.type"] == "block" {
			have[v.Tags["ceph.osd_fsid"]] = true
		}
	}
	var dead []string
	m.mu.Lock()
	for _, c := range n.activeClusters() {
		c.settle()
		for _, o := range c.sortedOSDs() {
			if o.node == n && o.on && !have[o.uuid] {
				o.on, o.clean = false, false
				dead = append(dead, o.unit())
			}
		}
		c.observe(m.now())
	}
	m.mu.Unlock()
	for _, unit := range dead {
		n.m.FailUnit(unit)
	}
}

// SetStuck lets a placement group of a pool never get clean, or again. It reports whether there is such a pool.
func (m *Model) SetStuck(name string, on bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.clusters {
		if p := c.pool(name); p != nil {
			p.stuck = on
			return nil
		}
	}
	return fmt.Errorf("there is no pool %q", name)
}

// SetFlag sets or takes a flag of a whole cluster; with a host only of its OSDs.
func (m *Model) SetFlag(flag, host string, on bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.clusters) == 0 {
		return errors.New("there is no Ceph cluster")
	}
	for _, c := range m.clusters {
		c.settle()
		if host == "" {
			change(c.flags, flag, on)
		} else {
			if c.nodeFlags[host] == nil {
				c.nodeFlags[host] = map[string]bool{}
			}
			change(c.nodeFlags[host], flag, on)
		}
		c.flagsChanged()
	}
	return nil
}

// monOf is the monitor that runs on a node.
func (m *Model) monOf(node string) (*Node, *Cluster, *mon, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[node]
	for _, c := range m.clusters {
		for _, one := range c.mons {
			if one.node == n && n != nil {
				return n, c, one, nil
			}
		}
	}
	return nil, nil, nil, fmt.Errorf("%s has no monitor", node)
}

// LoseMon takes a monitor's store away: it ends and does not start again.
func (m *Model) LoseMon(node string) error {
	n, c, one, err := m.monOf(node)
	if err != nil {
		return err
	}
	if err := n.m.FS.RemoveAll(monDir(one.id)); err != nil {
		return err
	}
	m.mu.Lock()
	c.settle()
	one.on, one.clean = false, false
	c.observe(m.now())
	m.mu.Unlock()
	n.m.FailUnit(one.unit())
	return nil
}

// RenameMon gives the monitor of a node another name than the node's, as an administrator may have.
func (m *Model) RenameMon(ctx context.Context, node, name string) error {
	n, c, one, err := m.monOf(node)
	if err != nil {
		return err
	}
	old := one.id
	n.stop(ctx, &one.daemon)
	v := n.m.FS.View
	if err := v.Rename(monDir(old), monDir(name)); err != nil {
		return err
	}
	k := readConf(v, confPath)
	k["mon."+name] = k["mon."+old]
	delete(k, "mon."+old)
	if err := write(v, confPath, k.String()); err != nil {
		return err
	}
	m.mu.Lock()
	one.id = name
	c.monEpoch++
	m.mu.Unlock()
	n.addUnit(c, &one.daemon, monDir(name))
	return n.start(ctx, &one.daemon)
}

// RenameHost gives the CRUSH bucket of a host another name.
func (m *Model) RenameHost(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.clusters {
		if b := c.crush.find(from); b != nil && b.kind == "host" {
			b.name = to
			return nil
		}
	}
	return fmt.Errorf("no Ceph cluster has a host %q", from)
}
