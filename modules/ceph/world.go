package ceph

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/inventory"
)

var errNoCluster = errors.New(`the runbook names no cluster: write "cluster = cluster.<name>" in it`)

// world is what the modules of this family decide on: the nodes, their part in Ceph, and the Ceph cluster as its monitors
// see it. What earlier tasks, or earlier steps of the same plan, are going to make is in will.
type world struct {
	name   string // of the Proxmox cluster
	nodes  []string
	states map[string]pve.NodeState
	local  map[string]*ceph.Node
	*ceph.Cluster
	members []pve.NodeState
	// coming is why the plan is a forecast: earlier tasks of it are going to make what it rests on.
	coming string
	will   future

	warnings []warning
	refusals module.Refusals
	errs     []error
}

type warning struct{ host, text string }

// probes lists the reads that look makes.
func probes(t module.Target) []module.Probe {
	if t.Cluster() == nil {
		return nil
	}
	var list []module.Probe
	for i, name := range t.Cluster().Nodes {
		list = append(list, module.Probe{Host: name, Command: pve.ProbeNode(pve.Options{})}, module.Probe{Host: name, Command: ceph.ProbeNode()})
		if i == 0 {
			list = append(list, module.Probe{Host: name, Command: ceph.ProbeCluster()})
		}
	}
	return list
}

// look reads the world: every node in one round trip, and the state of the Ceph cluster from one. Nodes that do not answer
// are told about; whoever needs one of them asks by need.
func look(ctx context.Context, t module.Target) (*world, error) {
	if t.Cluster() == nil {
		return nil, errNoCluster
	}
	w := &world{
		name: t.Cluster().Name, nodes: t.Cluster().Nodes, states: map[string]pve.NodeState{}, local: map[string]*ceph.Node{},
		Cluster: &ceph.Cluster{}, will: planned(t.Planned()),
	}
	states := pve.ReadCluster(ctx, w.nodes, pve.Options{}, t.Conn)
	for _, s := range states {
		w.states[s.Host] = s
	}
	for _, n := range ceph.ReadNodes(ctx, w.nodes, t.Conn) {
		w.local[n.Host] = n
	}
	w.members = pve.MembersOf(states, w.name)
	if err := w.readCluster(ctx, t); err != nil {
		return nil, err
	}
	w.forecast(t.Planned())
	return w, nil
}

// readCluster asks the first node, and where that one cannot say, nodes that have a monitor.
func (w *world) readCluster(ctx context.Context, t module.Target) error {
	asked := 0
	var failed []error
	for i, host := range w.nodes {
		n := w.local[host]
		if n.Err != nil || i > 0 && (w.Answers || !w.worthAsking(host)) || asked == 3 {
			continue
		}
		asked++
		conn, err := t.Conn(ctx, host)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		c, err := ceph.ReadCluster(ctx, host, conn)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		// What a node without a monitor says is kept until another one knows more.
		if c.Answers || c.Conf != nil || w.From == "" {
			w.Cluster = c
		}
	}
	if w.From == "" && len(failed) > 0 {
		return errors.Join(failed...)
	}
	if w.From == "" {
		var errs []error
		for _, host := range w.nodes {
			errs = append(errs, w.local[host].Err)
		}
		return errors.Join(errs...)
	}
	return nil
}

// worthAsking reports whether a node can know more than those asked before.
func (w *world) worthAsking(host string) bool {
	if w.From == "" {
		return true
	}
	if w.Conf == nil {
		return w.isMember(host) && !w.isMember(w.From)
	}
	for _, d := range w.local[host].Daemons {
		if d.Kind == "mon" && d.Unit.Running() {
			return true
		}
	}
	return false
}

func (w *world) isMember(host string) bool {
	return slices.ContainsFunc(w.members, func(m pve.NodeState) bool { return m.Host == host })
}

// forecasters are the modules whose changes make what the plans of this family rest on.
var forecasters = []string{"cluster_create", "node_join", "node_remove", "repository", "package"}

func (w *world) forecast(earlier []module.Planned) {
	for _, p := range earlier {
		if slices.Contains(forecasters, p.Module) || strings.HasPrefix(p.Module, "ceph_") {
			w.coming = "an earlier task comes first: " + p.Summary
			return
		}
	}
}

func (w *world) refuse(host, gate, saw, want, look, override string) {
	w.refusals = append(w.refusals, &module.Refusal{Host: host, Gate: gate, Saw: saw, Want: want, Look: look, Override: override})
}

func (w *world) warn(host, format string, args ...any) {
	w.warnings = append(w.warnings, warning{host, fmt.Sprintf(format, args...)})
}

// need reports whether a node can be worked with; else the plan fails and says why.
func (w *world) need(host, gate string) bool {
	n, known := w.local[host]
	switch {
	case !known:
		w.errs = append(w.errs, fmt.Errorf("%s is not a node of cluster %q in the inventory", host, w.name))
	case n.Err != nil:
		w.fail(n.Err)
	case w.states[host].Err != nil:
		w.fail(w.states[host].Err)
	case !w.isMember(host) && !w.will.members[host] && w.states[host].Unread["conf"] != "":
		w.refuse(host, gate, fmt.Sprintf("the read of /etc/pve/corosync.conf on it failed: %s", w.states[host].Unread["conf"]), "a member of the cluster", "timeout 5 cat /etc/pve/corosync.conf", "find out why the node does not answer, then try again")
	case !w.isMember(host) && !w.will.members[host]:
		w.refuse(host, gate, fmt.Sprintf("it is no member of cluster %q", w.name), "a member of the cluster", "pvecm status", "put cluster_create and node_join before this task")
	default:
		return true
	}
	return false
}

func (w *world) fail(err error) {
	if !slices.ContainsFunc(w.errs, func(e error) bool { return e.Error() == err.Error() }) {
		w.errs = append(w.errs, err)
	}
}

// writable refuses when the node's /etc/pve cannot be written: every change of Ceph's configuration would fail there. While
// earlier tasks are going to form the cluster there is nothing to be said yet: a node whose join was cut off has no quorum.
func (w *world) writable(host, gate string) bool {
	if len(w.will.members) > 0 || w.states[host].Writable {
		return true
	}
	w.refuse(host, gate, "/etc/pve cannot be written: the cluster is not quorate here", "quorum", "pvecm status", "bring absent nodes back")
	return false
}

// answers refuses when there are monitors and they cannot be asked. What cannot be read counts as a closed gate.
func (w *world) answers(gate string) bool {
	if w.Answers || !w.Conf.Inited() && w.will.inited || len(w.Conf.Daemons("mon")) == 0 && w.will.anyMon() {
		return true
	}
	if why, bad := w.Unread["conf"]; bad {
		w.refuse(w.From, gate, "/etc/pve/ceph.conf could not be read: "+why, "a node whose /etc/pve answers", "timeout 5 cat /etc/pve/ceph.conf", "")
		return false
	}
	if !w.Conf.Inited() {
		w.refuse("", gate, "this cluster has no Ceph: /etc/pve/ceph.conf names none", "a Ceph cluster", "cat /etc/pve/ceph.conf", "put ceph_init before this task")
		return false
	}
	if len(w.Conf.Daemons("mon")) == 0 {
		w.refuse("", gate, "there is no monitor yet", "a monitor that answers", "cat /etc/pve/ceph.conf", "put ceph_mon before this task")
		return false
	}
	var stopped []string
	for _, host := range w.nodes {
		for _, d := range w.local[host].Daemons {
			if d.Kind == "mon" && !d.Unit.Running() {
				stopped = append(stopped, fmt.Sprintf("ceph-mon@%s on %s is not running", d.ID, host))
			}
		}
		if w.local[host].Err != nil {
			stopped = append(stopped, host+" cannot be reached")
		}
	}
	saw := w.Silence
	if len(stopped) > 0 {
		saw += "; " + strings.Join(stopped, ", ")
	}
	w.refuse(w.From, gate, saw, "a quorum of monitors that answers within 10 s", "timeout 15 ceph --connect-timeout 10 -s",
		"start the monitors (a ceph_mon task does), or bring their nodes back")
	return false
}

// actor is the node on which commands for the whole cluster are run: the first with a monitor in the quorum.
func (w *world) actor() string {
	for _, host := range w.nodes {
		if id, ok := w.monOn(host); ok && w.Status.InQuorum(id) && w.states[host].Writable {
			return host
		}
	}
	for _, host := range w.nodes {
		if w.will.mons[host] {
			return host
		}
	}
	return w.nodes[0]
}

// actorBesides is actor, and not one node if that can be helped: what is done for a node that is going to be away must be
// undone from another one.
func (w *world) actorBesides(avoid string) string {
	for _, host := range w.nodes {
		if id, ok := w.monOn(host); ok && host != avoid && w.Status.InQuorum(id) && w.states[host].Writable {
			return host
		}
	}
	return w.actor()
}

// monOn is the id of the monitor whose folder is on a node. It is the node's name unless somebody chose another.
func (w *world) monOn(host string) (string, bool) {
	n := w.local[host]
	if _, ok := n.Daemon("mon", host); ok || n == nil {
		return host, ok
	}
	for _, d := range n.Daemons {
		if d.Kind == "mon" && (w.Conf.Has("mon", d.ID) || w.Status.InQuorum(d.ID)) {
			return d.ID, true
		}
	}
	return "", false
}

// installed reports whether Ceph is on a node, or will be when the plan gets there.
func (w *world) installed(host, gate string) bool {
	n := w.local[host]
	if n.Installed() || w.will.installed[host] {
		return true
	}
	saw := "Ceph is not installed"
	if n.Flag {
		saw = ceph.InstallFlag + " is there: an installation runs or was cut off"
	}
	w.refuse(host, gate, saw, "an installed Ceph", "ls /usr/bin/ceph-mon "+ceph.InstallFlag, "put ceph_install before this task")
	return false
}

// linked refuses when /etc/ceph/ceph.conf is not the cluster's.
func (w *world) linked(host, gate string) bool {
	switch link := w.local[host].Link; link {
	case "", "/etc/pve/ceph.conf":
		return true
	case "file":
		w.refuse(host, gate, "/etc/ceph/ceph.conf is a file of its own", "a link to /etc/pve/ceph.conf, or nothing", "ls -l /etc/ceph/ceph.conf", "move it away, if no other Ceph cluster is used from here")
	default:
		w.refuse(host, gate, "/etc/ceph/ceph.conf points to "+link, "a link to /etc/pve/ceph.conf", "ls -l /etc/ceph/ceph.conf", "")
	}
	return false
}

// addressIn lists the node's addresses in a network.
func (w *world) addressIn(host string, network netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, i := range w.states[host].Interfaces {
		for _, p := range i.Addrs {
			if network.Contains(p.Addr()) {
				out = append(out, p.Addr())
			}
		}
	}
	return out
}

// done hands over the plan: warnings first, then what keeps it from being made.
func (w *world) done(t module.Target, changes []module.Change) ([]module.Change, error) {
	for _, x := range w.warnings {
		t.Warn(x.host, x.text)
	}
	if len(w.errs) > 0 {
		return nil, errors.Join(w.errs...)
	}
	if len(w.refusals) > 0 {
		return nil, w.refusals
	}
	if w.coming != "" {
		for i := range changes {
			changes[i].Predicted = w.coming
		}
	}
	return changes, nil
}

// hostsOf are the hosts of the task that are nodes of the cluster, in the inventory's order.
func hostsOf(t module.Target) []string {
	var names []string
	for _, name := range t.Cluster().Nodes {
		if slices.ContainsFunc(t.Hosts(), func(h inventory.Host) bool { return h.Name == name }) {
			names = append(names, name)
		}
	}
	return names
}

// inRun are those of the nodes that are in this run; all of the task's if none are named.
func inRun(t module.Target, refs inventory.Refs) []string {
	hosts := hostsOf(t)
	if len(refs) == 0 {
		return hosts
	}
	var names []string
	for _, name := range refs {
		foreign := !slices.Contains(t.Cluster().Nodes, name)
		if (foreign || slices.Contains(hosts, name)) && !slices.Contains(names, name) {
			names = append(names, name) // one that is no node is refused where it is needed
		}
	}
	return names
}
