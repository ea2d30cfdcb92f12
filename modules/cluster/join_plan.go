package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
)

// joining is what planning the joins sees, and decides on without any I/O.
type joining struct {
	args    nodeJoinArgs
	cluster string
	wanted  pve.Wanted
	joiners []string
	states  []pve.NodeState
	created string // the node on which an earlier task is going to make the cluster

	warnings []string
	refusals module.Refusals
}

// joinRun is what a join needs while it acts.
type joinRun struct {
	args    nodeJoinArgs
	cluster string
	wanted  pve.Wanted
}

func (j *joining) plain() *joinRun {
	return &joinRun{args: j.args, cluster: j.cluster, wanted: j.wanted}
}

// unreachable returns why nodes that matter could not be read: joiners, and members by anyone's word.
func (j *joining) unreachable() error {
	var errs []error
	conf := pve.NewestConf(pve.MembersOf(j.states, j.cluster))
	for _, s := range j.states {
		_, listed := conf.Node(s.Host)
		if s.Err != nil && (listed || conf == nil || slices.Contains(j.joiners, s.Host)) {
			errs = append(errs, s.Err)
		}
	}
	return errors.Join(errs...)
}

func (j *joining) refuse(host, gate, saw, want, look, override string) {
	j.refusals = append(j.refusals, &module.Refusal{Host: host, Gate: gate, Saw: saw, Want: want, Look: look, Override: override})
}

func (j *joining) warn(format string, args ...any) {
	j.warnings = append(j.warnings, fmt.Sprintf(format, args...))
}

// decide makes the plan: joins that were cut off first, then new ones in order, the QDevice off before and on after.
func (j *joining) decide() ([]joinStep, module.Refusals) {
	members := pve.MembersOf(j.states, j.cluster)
	conf := pve.NewestConf(members)
	if conf == nil && j.created == "" {
		if others := j.elsewhere(); others != "" {
			j.refuse(others, "join cluster "+j.cluster, others+" is in another cluster", fmt.Sprintf("a cluster %q to join", j.cluster), "cat /etc/pve/corosync.conf", "")
		}
		j.refuse("", "join cluster "+j.cluster, fmt.Sprintf("no node is a member of a cluster %q", j.cluster), "a cluster to join", "pvecm status", "put a cluster_create task before this one")
		return nil, j.refusals
	}
	var unfinished, fresh []joinStep
	var offline []func()
	pending := map[string]bool{}
	for _, name := range j.joiners {
		s, ok := stateOf(j.states, name)
		if !ok || conf == nil && name == j.created {
			continue
		}
		state := pve.ClassifyJoin(j.cluster, s, members)
		switch {
		case state.Phase == pve.PhaseMember:
		case state.Phase == pve.PhaseFresh:
			if j.mayJoin(s, members, conf) {
				fresh = append(fresh, joinStep{kind: stepJoin, host: name, phase: state.Phase, keys: s.AuthorizedKeys})
			}
		case state.Phase == pve.PhaseCreated && name == j.created:
		case state.Resumable && j.args.resumes() && state.Phase != pve.PhaseCreated:
			pending[s.Hostname] = true
			unfinished = append(unfinished, joinStep{kind: stepJoin, host: name, phase: state.Phase, saw: state.Saw})
		default:
			refuse := func() {
				j.refuse(name, "join "+name, state.Saw, "a node that is in no cluster, or a whole member", state.Look, state.Remedy)
			}
			if state.Phase == pve.PhaseOffline {
				offline = append(offline, refuse)
			} else {
				refuse()
			}
		}
	}
	if len(pending) == 0 {
		// A join that was cut off may have cost the members their quorum. Then finishing it mends them.
		for _, refuse := range offline {
			refuse()
		}
	}
	if conf != nil && j.created == "" {
		j.clusterReady(members, conf, pending, len(unfinished)+len(fresh) > 0)
	}
	if len(j.refusals) > 0 {
		return nil, j.refusals
	}
	if j.created != "" {
		why := fmt.Sprintf("cluster %q is made by an earlier task", j.cluster)
		for i := range fresh {
			fresh[i].predicted = why
			fresh[i].keys = nil // whether they are new to the cluster is known when it exists
		}
		return append(unfinished, fresh...), nil
	}
	for i := range fresh {
		fresh[i].keys = missingKeys(fresh[i].keys, j.memberKeys(members))
	}
	steps := j.withDevice(members, conf, append(unfinished, fresh...), len(fresh))
	return steps, j.refusals
}

func (j *joining) elsewhere() string {
	for _, s := range j.states {
		if name := s.ClusterName(); name != "" && name != j.cluster {
			return s.Host
		}
	}
	return ""
}

func (j *joining) memberKeys(members []pve.NodeState) []string {
	for _, m := range members {
		if len(m.AuthorizedKeys) > 0 {
			return m.AuthorizedKeys
		}
	}
	return nil
}

// clusterReady refuses unless the cluster that exists can take a node: whole, quorate, of one mind. Members whose own
// join is about to be finished excuse that they are away and that quorum is lost.
func (j *joining) clusterReady(members []pve.NodeState, conf *pve.CorosyncConf, pending map[string]bool, work bool) {
	if !work {
		return
	}
	gate := "join nodes to " + j.cluster
	for _, m := range members {
		if pending[m.Hostname] {
			continue
		}
		if why := unreadOf(m, "pmxcfs", "members", "conf", "quorum"); why != "" {
			j.refuse(m.Host, gate, why, "a member that answers", "timeout 5 ls /etc/pve", "")
			continue
		}
		if !m.Writable && len(pending) == 0 {
			j.refuse(m.Host, gate, "the cluster is not quorate here", "quorum before anything joins", "pvecm status", "bring absent nodes back; expected votes are never lowered by this program")
		}
		if m.Conf.Version != conf.Version {
			j.refuse(m.Host, gate, fmt.Sprintf("version %d of the configuration, and %d elsewhere", m.Conf.Version, conf.Version), "one version on all members", "grep config_version /etc/pve/corosync.conf", "")
		}
		for _, name := range conf.Names() {
			if !pending[name] && !m.Members.Online(name) {
				j.refuse(m.Host, gate, "does not see "+name+" online", "every member online before anything joins", "cat /etc/pve/.members", "bring "+name+" back, or remove it from the cluster")
			}
		}
	}
}

func unreadOf(s pve.NodeState, names ...string) string {
	for _, name := range names {
		if why, ok := s.Unread[name]; ok {
			return fmt.Sprintf("the read of %q failed: %s", name, why)
		}
	}
	return ""
}

// mayJoin refuses nodes whose join would fail halfway or lose something.
func (j *joining) mayJoin(s pve.NodeState, members []pve.NodeState, conf *pve.CorosyncConf) bool {
	before := len(j.refusals)
	gate := "join " + s.Host
	refuse := func(saw, want, look, override string) { j.refuse(s.Host, gate, saw, want, look, override) }
	if why := unreadOf(s, "guests", "addr", "packages"); why != "" {
		refuse(why, "a node that answers", "timeout 5 ls /etc/pve", "")
		return false
	}
	if s.UID != 0 {
		refuse(fmt.Sprintf("commands run with user id %d", s.UID), "root", "id", `set ssh.user = "root", or become = "sudo"`)
	}
	if !s.IsPVE() {
		refuse("Proxmox VE is not installed", "a Proxmox VE node", "pveversion", "")
	}
	if s.Hostname != s.Host {
		refuse(fmt.Sprintf("the node calls itself %q", s.Hostname), fmt.Sprintf("%q, its name in the inventory", s.Host), "hostname", "rename one of the two")
	}
	if n := len(s.Guests); n > 0 {
		refuse(guestsText(s.Guests), "no guests: the node's /etc/pve with their configuration is replaced", "qm list; pct list", "back them up, remove them, join, restore them; this is never forced")
	}
	if s.Quorum != nil {
		refuse("corosync is running, in no cluster that is known", "a node without corosync running", "systemctl status corosync", "")
	}
	if !s.Mounted || !s.Writable {
		refuse("/etc/pve is not mounted or cannot be written", "a running pve-cluster service", "systemctl status pve-cluster", "")
	}
	for _, m := range members {
		if s.IsPVE() && pve.Major(m.Version()) != pve.Major(s.Version()) && m.IsPVE() {
			refuse(fmt.Sprintf("Proxmox VE %s, and %s on %s", s.Version(), m.Version(), m.Host), "the same major release", "pveversion", "upgrade the older one first")
			break
		}
	}
	j.linksFit(s, conf, refuse)
	return len(j.refusals) == before
}

// linksFit checks the node's links against its interfaces and the cluster's links: all that exist must be given, and no
// other.
func (j *joining) linksFit(s pve.NodeState, conf *pve.CorosyncConf, refuse func(saw, want, look, override string)) {
	want, _ := j.wanted.Node(s.Host)
	have := len(conf.LinkNumbers())
	if conf == nil {
		creator, _ := j.wanted.Node(j.created)
		have = len(creator.Links)
	}
	if len(want.Links) != have && (len(want.Links) > 0 || have > 1) {
		refuse(fmt.Sprintf("%d corosync links in the inventory, and the cluster has %d", len(want.Links), have), "an address for each of the cluster's links", "corosync-cfgtool -s", "mend links in the inventory")
	}
	for i, a := range want.Links {
		if !s.HasAddress(a) {
			refuse(fmt.Sprintf("no interface has %s of link %d", a, i), "the address on the node", "ip addr", "configure it, or mend links in the inventory")
		}
		if conf == nil {
			continue
		}
		for _, n := range conf.Nodes {
			if other, err := netip.ParseAddr(n.Links[i]); err == nil && other.Unmap() == a {
				refuse(fmt.Sprintf("%s already has %s on link %d", n.Name, a, i), "an address of its own", "cat /etc/pve/corosync.conf", "mend links in the inventory")
			}
		}
	}
	if conf == nil || want.ID == 0 {
		return
	}
	for _, n := range conf.Nodes {
		if n.ID == want.ID {
			refuse(fmt.Sprintf("%s already has node id %d", n.Name, want.ID), "a free node id", "pvecm nodes", "choose another id, or leave it out")
		}
	}
}

// withDevice puts taking the QDevice off and setting it up around the joins. Proxmox wants it off while the number of
// nodes changes. A note in pmxcfs says that it is off on purpose, so that a run after a crash puts it back.
func (j *joining) withDevice(members []pve.NodeState, conf *pve.CorosyncConf, joins []joinStep, added int) []joinStep {
	owner := hostsOf(members)[0]
	noted := noteOf(members)
	even := (len(conf.Nodes)+added)%2 == 0
	device := noted
	steps := joins
	if conf.Device != nil {
		device = conf.Device.Host
		if added == 0 {
			if noted != "" {
				steps = append(steps, joinStep{kind: stepForget, host: owner})
			}
			return steps
		}
		j.deviceFits(conf, joins, even)
		steps = append([]joinStep{{kind: stepDeviceOff, host: owner, device: device}}, joins...)
	}
	switch {
	case device == "":
		return steps
	case j.args.QDevice == "leave_off":
		j.warn("the QDevice %s stays off, as the task says", device)
	case !even:
		j.warn("with %d nodes the QDevice %s stays off: Proxmox VE supports one for even numbers only", len(conf.Nodes)+added, device)
	default:
		return append(steps, joinStep{kind: stepDeviceOn, host: owner, device: device})
	}
	return append(steps, joinStep{kind: stepForget, host: owner})
}

// deviceFits refuses to take a QDevice off that could not be set up again.
func (j *joining) deviceFits(conf *pve.CorosyncConf, joins []joinStep, even bool) {
	if j.args.QDevice != "restore" || !even {
		return
	}
	if _, err := netip.ParseAddr(conf.Device.Host); err != nil {
		j.refuse("", "take the QDevice off", fmt.Sprintf("its host is %q", conf.Device.Host), "an IP address, which pvecm qdevice setup wants", "cat /etc/pve/corosync.conf", `qdevice = "leave_off"`)
	}
	for _, step := range joins {
		if s, ok := stateOf(j.states, step.host); ok && s.Packages["corosync-qdevice"] == "" {
			j.refuse(step.host, "take the QDevice off", "the package corosync-qdevice is not installed, so that it could not be set up again", "the package on every node",
				"dpkg-query -W corosync-qdevice", `install it with a package task before this one, or qdevice = "leave_off"`)
		}
	}
}
