package ceph

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// How long things take, in model time (reference §13.4).
const (
	monJoins     = 3 * time.Second
	monLeaves    = time.Second
	monIsMissed  = 7 * time.Second
	mgrFailover  = 30 * time.Second
	mgrStarts    = 2 * time.Second
	osdStarts    = 6 * time.Second
	osdIsMissed  = 22 * time.Second
	osdDownToOut = 600 * time.Second
	mdsTakesOver = 15 * time.Second
	mdsStarts    = 2 * time.Second
	autoscales   = 60 * time.Second
	forever      = time.Duration(1<<63 - 1)
)

// observe compares what runs and is reached with what the cluster knows, and notes when it will notice. The model's lock is
// held.
func (c *Cluster) observe(now time.Duration) {
	for _, d := range c.daemons() {
		if d.on && d.node != nil && d.crashed() {
			d.on, d.clean = false, false
		}
	}
	c.observeQuorum(now)
	reach := map[*Node]bool{}
	for _, o := range c.osds {
		if o.node == nil {
			continue
		}
		ok, known := reach[o.node]
		if !known {
			ok = c.hearsQuorum(o.node)
			reach[o.node] = ok
		}
		want := o.on && ok && !(c.flags["noup"] && !o.up)
		switch {
		case want == o.up || !want && c.flags["nodown"]:
			o.change = 0
		case o.change != 0:
		case want:
			o.change = now + osdStarts
		case !o.on && o.clean:
			o.change = now + 1
		default:
			o.change = now + osdIsMissed
		}
	}
	c.observeManagers(now)
}

// crashed reports whether a daemon's unit is not active although nobody stopped it. A unit that is being started does not
// count.
func (d *daemon) crashed() bool {
	if !d.node.m.Up() {
		return true
	}
	state, ok := d.node.m.Unit(d.unit())
	return !ok || state.Active == "failed" || state.Active == "inactive"
}

// hearsQuorum reports whether a node reaches a monitor of the quorum from its address in the public network.
func (c *Cluster) hearsQuorum(n *Node) bool {
	for _, m := range c.quorum {
		if m.on && c.model.reaches(n.publicAddress(c), m.addr) {
			return true
		}
	}
	return len(c.quorum) == 0 // nobody is there to miss it
}

func (c *Cluster) observeQuorum(now time.Duration) {
	want := c.largestQuorum()
	if slices.Equal(want, c.quorum) {
		c.nextQuorum = nil
		return
	}
	if c.nextQuorum != nil && slices.Equal(c.nextQuorum.mons, want) {
		return
	}
	wait := monJoins
	for _, m := range c.quorum {
		if slices.Contains(want, m) {
			continue
		}
		wait = monLeaves
		if m.on || !m.clean {
			wait = monIsMissed
			break
		}
	}
	c.nextQuorum = &quorumChange{mons: want, at: now + wait}
}

// largestQuorum is the greatest set of running monitors that reach each other, if it is a majority.
func (c *Cluster) largestQuorum() []*mon {
	var best []*mon
	for _, m := range c.mons {
		if !m.on {
			continue
		}
		var island []*mon
		for _, other := range c.mons {
			if other.on && c.model.reaches(m.addr, other.addr) {
				island = append(island, other)
			}
		}
		if len(island) > len(best) {
			best = island
		}
	}
	if len(best)*2 <= len(c.mons) {
		return nil
	}
	return best
}

func (c *Cluster) observeManagers(now time.Duration) {
	standby := slices.ContainsFunc(c.mgrs, func(m *mgr) bool { return m.on && m != c.active })
	switch {
	case c.active != nil && c.active.on:
		c.failover = 0
	case c.failover != 0:
	case c.active != nil && !c.active.clean:
		c.failover = now + mgrFailover
	case c.active != nil || standby:
		c.failover = now + mgrStarts
	}
	for _, f := range c.fs {
		holder := c.holder(f)
		for _, d := range c.mds {
			switch {
			case holder != nil && holder.on:
				d.takeover = 0
			case d.on && d.fs == nil && d.takeover == 0:
				d.takeover = now + mdsStarts
				if holder != nil && !holder.clean {
					d.takeover = now + mdsTakesOver
				}
			}
		}
	}
}

// holder is the metadata server that holds a file system's rank.
func (c *Cluster) holder(f *filesystem) *mds {
	for _, d := range c.mds {
		if d.fs == f {
			return d
		}
	}
	return nil
}

// advance lets everything happen that was due by now, in its order. The model's lock is held.
func (c *Cluster) advance(now time.Duration) {
	c.counted = nil
	for {
		at, apply := c.nextEvent()
		if apply == nil || at > now {
			break
		}
		c.finishCopies(at)
		apply(at)
		c.observe(at)
	}
	c.finishCopies(now)
}

// settle is observe and advance: what a command does before it looks.
func (c *Cluster) settle() {
	now := c.model.now()
	c.advance(now)
	c.observe(now)
	c.advance(now)
}

// nextEvent is what happens next and when; nil if nothing does. Without a quorum only a new quorum can come.
func (c *Cluster) nextEvent() (at time.Duration, apply func(time.Duration)) {
	at = forever
	earlier := func(t time.Duration, f func(time.Duration)) {
		if t > 0 && t < at {
			at, apply = t, f
		}
	}
	if c.nextQuorum != nil {
		earlier(c.nextQuorum.at, c.changeQuorum)
	}
	if len(c.quorum) == 0 {
		return at, apply
	}
	earlier(c.failover, c.failOver)
	for _, o := range c.osds {
		earlier(o.change, c.changeOSDs)
		if out := c.outAt(o); out != forever {
			earlier(max(out, c.quorumSince+1), c.markOut)
		}
	}
	for _, d := range c.mds {
		earlier(d.takeover, c.takeOver)
	}
	for _, p := range c.pools {
		earlier(p.scaleAt, c.autoscale)
	}
	return at, apply
}

func (c *Cluster) changeQuorum(at time.Duration) {
	c.quorum, c.nextQuorum = c.nextQuorum.mons, nil
	c.quorumSince = at
	c.electionEpoch += 2
	for _, o := range c.osds { // those who could not be heard are waited for anew
		if o.change != 0 && o.change < at {
			o.change = at + time.Second
		}
	}
	if c.osdEpoch == 0 {
		c.osdEpoch = 1
	}
}

// changeOSDs marks OSDs up or down whose time has come.
func (c *Cluster) changeOSDs(at time.Duration) {
	for _, o := range c.osds {
		if o.change == 0 || o.change > at {
			continue
		}
		o.change, o.up = 0, !o.up
		if !o.up {
			o.downAt = at
			continue
		}
		o.upAt, o.bootIDs = at, o.deviceIDs()
		if o.never || o.autoOut {
			o.in, o.never, o.autoOut = 1, false, false
		}
	}
	c.osdChanged(at)
	if c.pool(".mgr") == nil && c.active != nil && slices.ContainsFunc(slices.Collect(maps.Values(c.osds)), func(o *osd) bool { return o.up }) {
		if p, err := c.createPool(".mgr", 1, "", ""); err == nil { // the manager keeps its own things there
			p.app, p.created = "mgr", at
			p.pgs[0].changed = at
		}
	}
}

// outAt is when a down OSD will be marked out.
func (c *Cluster) outAt(o *osd) time.Duration {
	if o.up || o.in == 0 || o.never || o.node == nil || c.noFlag("noout", o) {
		return forever
	}
	return o.downAt + osdDownToOut
}

// noFlag reports whether a flag holds for an OSD: on all, on its host, or on itself.
func (c *Cluster) noFlag(flag string, o *osd) bool {
	return c.flags[flag] || o.flags[flag] || o.node != nil && c.nodeFlags[o.node.name][flag]
}

func (c *Cluster) markOut(at time.Duration) {
	for _, o := range c.osds {
		if out := c.outAt(o); out != forever && max(out, c.quorumSince+1) <= at {
			o.in, o.autoOut = 0, true
		}
	}
	c.osdChanged(at)
}

// osdChanged is a new OSD map: the placement is worked out anew.
func (c *Cluster) osdChanged(at time.Duration) {
	c.counted = nil
	c.osdEpoch++
	c.remap(at)
}

func (c *Cluster) failOver(time.Duration) {
	c.failover, c.active = 0, nil
	for _, m := range c.mgrs {
		if m.on {
			c.active = m
			c.mgrEpoch++
			return
		}
	}
}

func (c *Cluster) takeOver(at time.Duration) {
	for _, d := range c.mds {
		if d.takeover == 0 || d.takeover > at {
			continue
		}
		d.takeover = 0
		for _, f := range c.fs {
			holder := c.holder(f)
			if d.fs != nil || !d.on || holder != nil && holder.on {
				continue
			}
			if holder != nil {
				holder.fs, holder.rank = nil, -1
			}
			d.fs, d.rank, d.since = f, 0, at
			c.fsEpoch++
		}
	}
}

// publicAddress is the node's address in the cluster's public network.
func (n *Node) publicAddress(c *Cluster) (a netip.Addr) {
	if a = n.address(c.publicNet); a.IsValid() {
		return a
	}
	return n.pve.Address()
}

// setFlags are the flags in Ceph's order.
func (c *Cluster) setFlags() []string {
	order := []string{"nearfull", "full", "pauserd", "pausewr", "noup", "nodown", "noout", "noin", "nobackfill", "norebalance", "norecover", "noscrub", "nodeep-scrub", "notieragent", "nosnaptrim", "sortbitwise", "recovery_deletes", "purged_snapdirs", "pglog_hardlimit"}
	return slices.DeleteFunc(order, func(f string) bool { return !c.flags[f] })
}

// joinFlags are flags of a node or OSD, sorted and joined.
func joinFlags(flags map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(flags)), ",")
}
