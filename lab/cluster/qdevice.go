package cluster

import (
	"net/netip"
	"slices"

	"github.com/pxrun/pxrun/lab/machine"
)

// qdevice is the state of one node's corosync-qdevice daemon. It is guarded by the world's lock.
type qdevice struct {
	running   bool
	connected bool   // to the arbiter
	authority string // by which its certificates were made, as they were when it started
}

// Arbiter is a machine that runs corosync-qnetd.
type Arbiter struct {
	w         *World
	m         *machine.Machine
	running   bool   // guarded by World.mu, as is
	authority string // its own
}

// arbiterOf finds the arbiter that owns an address. The caller holds the lock.
func (w *World) arbiterOf(host string) *Arbiter {
	m := w.find(host)
	if m == nil {
		return nil
	}
	return w.arbiters[m.Name()]
}

// reaches reports whether a node's daemon gets through to its arbiter. The caller holds the lock.
func (n *Node) reaches(host string) bool {
	a := n.w.arbiterOf(host)
	to, err := netip.ParseAddr(host)
	return a != nil && a.running && a.m.Up() && err == nil && n.w.path(n.ip, to).Reachable && n.qdev.authority != "" && n.qdev.authority == a.authority
}

// setQDevice starts or stops the node's daemon in the model.
func (n *Node) setQDevice(running bool) {
	authority := n.certified()
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.qdev.running, n.qdev.authority = running, authority
	if !running {
		n.qdev.connected = false
		n.w.revote()
		return
	}
	n.w.lookForArbiters()
}

// setRunning starts or stops qnetd in the model: the nodes' daemons notice after a while.
func (a *Arbiter) setRunning(running bool) {
	authority, _ := a.m.FS.ReadFile(qnetdCA) // without one nobody gets in
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	a.authority = string(authority)
	if running {
		a.w.arbiters[a.m.Name()] = a
	}
	if a.running == running {
		return
	}
	a.running = running
	a.w.clock.AfterFunc(a.w.timing.DeviceConnect, a.w.settleDevices)
}

// lookForArbiters has the daemons see after a while whom they reach. The caller holds the lock.
func (w *World) lookForArbiters() {
	for _, n := range w.nodes {
		if n.qdev.running {
			w.clock.AfterFunc(w.timing.DeviceConnect, w.settleDevices)
			return
		}
	}
}

// settleDevices lets all daemons find or lose their arbiter.
func (w *World) settleDevices() {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := false
	for _, n := range w.ordered() {
		connected := false
		if n.qdev.running && n.coro.running {
			d, ok := n.coro.conf.Device()
			connected = ok && n.reaches(d.Host)
		}
		changed = changed || connected != n.qdev.connected
		n.qdev.connected = connected
	}
	if changed {
		w.revote()
	}
}

// revote counts again after votes of devices have changed. The caller holds the lock.
func (w *World) revote() {
	w.castDeviceVotes()
	w.synchronise()
}

// castDeviceVotes lets each arbiter choose the partition that gets its vote, and tells the members. The caller holds
// the lock.
func (w *World) castDeviceVotes() {
	type question struct {
		groups [][]*Node
		parts  []splitCandidate
	}
	asked := map[string]*question{}
	for _, group := range w.rings() {
		first := group[0].coro
		device, ok := first.conf.Device()
		if !ok {
			tellFlags(group, false)
			continue
		}
		key := first.conf.ClusterName() + " " + device.Host
		q := asked[key]
		if q == nil {
			q = &question{}
			asked[key] = q
		}
		part := splitCandidate{}
		for _, n := range group {
			if n.qdev.running && n.qdev.connected && n.reaches(device.Host) {
				part.nodes = append(part.nodes, n.coro.id)
				part.active = part.active || slices.Contains(w.devices[key].nodes, n.coro.id)
			}
		}
		q.groups, q.parts = append(q.groups, group), append(q.parts, part)
	}
	for key, q := range asked {
		winner := ffsplit(q.parts)
		for i, group := range q.groups {
			tellFlags(group, i == winner)
			if i == winner {
				w.devices[key] = deviceVote{nodes: q.parts[i].nodes}
			}
		}
	}
}

// tellFlags spreads what each member of a ring says about its device.
func tellFlags(group []*Node, cast bool) {
	for _, n := range group {
		own := n.coro.flags[n.coro.id]
		_, configured := n.coro.conf.Device()
		own.alive = n.qdev.running && configured
		own.registered = own.registered || own.alive
		own.vote = cast && own.alive && n.qdev.connected
		for _, other := range group {
			other.coro.flags[n.coro.id] = own
		}
	}
}

// rings groups the running corosyncs by the membership that they believe in. The caller holds the lock.
func (w *World) rings() [][]*Node {
	var out [][]*Node
	seen := map[*Node]bool{}
	for _, n := range w.ordered() {
		if !n.coro.running || seen[n] {
			continue
		}
		group := []*Node{n}
		for _, other := range w.ordered() {
			if other != n && other.coro.running && sameRing(n, other) {
				seen[other] = true
				group = append(group, other)
			}
		}
		out = append(out, group)
	}
	return out
}

// deviceCast is how many votes the device gives a node's partition. The caller holds the lock.
func (n *Node) deviceCast() int {
	device, ok := n.coro.conf.Device()
	if !ok || !n.coro.flags[n.coro.id].vote {
		return 0
	}
	return device.Votes
}

// deviceSeen reports whether any member has a device registered: the status then has a column for it.
func (n *Node) deviceSeen() bool {
	for _, id := range n.coro.members {
		if n.coro.flags[id].registered {
			return true
		}
	}
	return false
}
