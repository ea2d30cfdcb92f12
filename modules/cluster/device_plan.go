package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
)

// deviceView is what planning a QDevice sees, and decides on without any I/O.
type deviceView struct {
	args    qdeviceArgs
	cluster string
	members []pve.NodeState
	conf    *pve.CorosyncConf // the newest
	count   int               // nodes that the cluster will have when the earlier tasks are done
	growing string            // why this is a forecast; "" when the cluster is as it will be

	states  []pve.NodeState // of all nodes of the inventory's cluster
	address string          // the arbiter's
	arbiter *arbiterState   // nil when it need not be asked
	trusted bool            // the owner's root gets in to the arbiter
	renew   bool            // it is configured as wanted, everything runs, and it does not vote

	warnings []string
	refusals module.Refusals
}

// deviceStep is one step of a plan about a QDevice.
type deviceStep struct {
	kind   stepKind
	host   string
	device string
}

// The kinds of steps beside those that node_join shares.
const (
	stepNodePackage    stepKind = "install"
	stepArbiterPackage stepKind = "qnetd-install"
	stepArbiterStart   stepKind = "qnetd"
	stepTrust          stepKind = "qdevice-trust"
	stepClean          stepKind = "qdevice-clean"
	stepDaemon         stepKind = "qdevice-daemon"
	stepDaemonOff      stepKind = "qdevice-daemon-off"
	stepProve          stepKind = "qdevice-votes"
)

func (v *deviceView) refuse(host, gate, saw, want, look, override string) {
	v.refusals = append(v.refusals, &module.Refusal{Host: host, Gate: gate, Saw: saw, Want: want, Look: look, Override: override})
}

// oddNodes refuses a QDevice for an odd number of nodes. There is no way around it: Proxmox VE would choose the algorithm
// lms, with which the cluster bears less than without a device (reference §4.1).
func oddNodes(n int, configured bool) *module.Refusal {
	r := &module.Refusal{
		Gate: "set the QDevice up", Saw: fmt.Sprintf("%d nodes, an odd number", n), Want: "an even number of nodes", Look: "pvecm nodes",
		Override: fmt.Sprintf("none: for odd numbers Proxmox VE would give the arbiter %d votes (algorithm lms), so that when it fails the next failed node stops the cluster; an odd number of nodes needs no QDevice", n-1),
	}
	if configured {
		r.Override += `; ensure = "absent" takes the one off that is configured`
	}
	return r
}

// deviceGates refuses to change a QDevice of a cluster that is not whole: pvecm does so too, after it has begun.
func deviceGates(gate string, members []pve.NodeState, conf *pve.CorosyncConf) module.Refusals {
	var out module.Refusals
	refuse := func(host, saw, want, look, override string) {
		out = append(out, &module.Refusal{Host: host, Gate: gate, Saw: saw, Want: want, Look: look, Override: override})
	}
	for _, name := range conf.Names() {
		if !slices.ContainsFunc(members, func(m pve.NodeState) bool { return m.Hostname == name }) {
			refuse("", name+" is a member and was not read", "every member of the cluster in the inventory", "pvecm nodes", "add "+name+" to the inventory, or remove it from the cluster")
		}
	}
	for _, m := range members {
		if why := unreadOf(m, "pmxcfs", "members", "conf", "localconf", "quorum", "here"); why != "" {
			refuse(m.Host, why, "a member that answers", "timeout 5 ls /etc/pve", "")
			continue
		}
		if !m.Writable {
			refuse(m.Host, "the cluster is not quorate here", "quorum", "pvecm status", "bring absent nodes back; expected votes are never lowered by this program")
		}
		if m.Conf.Version != conf.Version || !m.ConfsEqual {
			refuse(m.Host, fmt.Sprintf("version %d of the configuration, and %d elsewhere, or another in /etc/corosync", m.Conf.Version, conf.Version), "one configuration on all members", "grep config_version /etc/pve/corosync.conf /etc/corosync/corosync.conf", "")
		}
		for _, name := range conf.Names() {
			if !m.Members.Online(name) {
				refuse(m.Host, "does not see "+name+" online", "every node online: pvecm changes a QDevice on all of them", "cat /etc/pve/.members", "bring "+name+" back, or remove it from the cluster")
			}
		}
	}
	return out
}

// wanted decides the steps to a QDevice that is configured, runs and votes.
func (v *deviceView) wanted() []deviceStep {
	if v.count%2 != 0 {
		v.refusals = append(v.refusals, oddNodes(v.count, v.conf != nil && v.conf.Device != nil))
		return nil
	}
	if v.conf == nil || v.conf.Device == nil {
		return v.fresh()
	}
	if v.growing != "" {
		return nil // node_join takes it off and puts it back
	}
	owner := v.members[0].Host
	have, want := *v.conf.Device, v.address
	wrong := ""
	switch {
	case have.Host != want:
		wrong = fmt.Sprintf("the QDevice that is configured is on %s", have.Host)
	case have.Algorithm != "ffsplit" || have.Votes != 1 || have.Model != "net":
		wrong = fmt.Sprintf("the QDevice has the algorithm %s and %s", orNothing(have.Algorithm), votesText(have.Votes))
	case v.renew:
		wrong = "the QDevice does not vote"
	}
	if wrong != "" {
		if !v.args.Replace {
			v.refuse("", "set the QDevice up", wrong, fmt.Sprintf("the arbiter %s, the algorithm ffsplit and one vote", want), "cat /etc/pve/corosync.conf", "replace = true takes it off and sets it up anew")
			return nil
		}
		v.refusals = append(v.refusals, deviceGates("replace the QDevice", v.members, v.conf)...)
		// Without the device no node may be missing while it is off.
		return append([]deviceStep{{kind: stepDeviceOff, host: owner, device: have.Host}}, v.fresh()...)
	}
	var steps []deviceStep
	for _, m := range v.members {
		if m.Packages["corosync-qdevice"] == "" {
			steps = append(steps, deviceStep{kind: stepNodePackage, host: m.Host})
		}
		if u := m.Units["corosync-qdevice"]; !u.Running() || u.Enabled != "enabled" {
			steps = append(steps, deviceStep{kind: stepDaemon, host: m.Host})
		}
	}
	if len(steps) > 0 {
		steps = append(steps, deviceStep{kind: stepProve, host: owner, device: want})
	}
	return append(steps, v.forget()...)
}

// forget removes the note of a device that was taken off for a while, once that is over.
func (v *deviceView) forget() []deviceStep {
	if noteOf(v.members) == "" {
		return nil
	}
	return []deviceStep{{kind: stepForget, host: v.members[0].Host}}
}

func orNothing(s string) string {
	if s == "" {
		return "of no name"
	}
	return s
}

func votesText(n int) string {
	switch n {
	case 0:
		return "votes for all nodes but one"
	case 1:
		return "one vote"
	}
	return fmt.Sprintf("%d votes", n)
}

// fresh decides the steps of setting it up where none is configured: half-done set-ups are cleaned away first.
func (v *deviceView) fresh() []deviceStep {
	var steps []deviceStep
	for _, s := range v.nodes() {
		if s.Packages["corosync-qdevice"] == "" {
			steps = append(steps, deviceStep{kind: stepNodePackage, host: s.Host})
		}
	}
	switch a := v.arbiter; {
	case a == nil:
	case !a.Package:
		steps = append(steps, deviceStep{kind: stepArbiterPackage, host: a.Host})
	case !a.Unit.Running() || a.Unit.Enabled != "enabled":
		steps = append(steps, deviceStep{kind: stepArbiterStart, host: a.Host})
	}
	if v.growing == "" {
		v.refusals = append(v.refusals, deviceGates("set the QDevice up", v.members, v.conf)...)
	}
	owner := v.owner()
	if !v.trusted {
		steps = append(steps, deviceStep{kind: stepTrust, host: owner, device: v.address})
	}
	if v.conf == nil || v.conf.Device == nil { // those of a device that is taken off go with it
		for _, s := range v.nodes() {
			if s.DeviceStore {
				steps = append(steps, deviceStep{kind: stepClean, host: s.Host})
			}
		}
	}
	return append(steps, deviceStep{kind: stepDeviceOn, host: owner, device: v.address})
}

// nodes are those that will be members.
func (v *deviceView) nodes() []pve.NodeState {
	if v.growing != "" {
		return v.states
	}
	return v.members
}

// owner is the node from which the QDevice is set up.
func (v *deviceView) owner() string {
	if len(v.members) > 0 {
		return v.members[0].Host
	}
	return v.states[0].Host
}

// absent decides the steps to no QDevice.
func (v *deviceView) absent() []deviceStep {
	if v.conf == nil {
		return nil
	}
	var steps []deviceStep
	owner := v.members[0].Host
	if v.conf.Device != nil {
		if v.growing == "" {
			v.refusals = append(v.refusals, deviceGates("take the QDevice off", v.members, v.conf)...)
		}
		steps = append(steps, deviceStep{kind: stepDeviceOff, host: owner, device: v.conf.Device.Host})
	} else {
		for _, m := range v.members {
			if u := m.Units["corosync-qdevice"]; u.Running() || u.Enabled == "enabled" {
				steps = append(steps, deviceStep{kind: stepDaemonOff, host: m.Host})
			}
			if m.DeviceStore {
				steps = append(steps, deviceStep{kind: stepClean, host: m.Host})
			}
		}
	}
	return append(steps, v.forget()...)
}

// growth looks at what earlier tasks of the plan will make of the cluster.
func growth(t module.Target, conf *pve.CorosyncConf) (count int, why string) {
	names := conf.Names()
	creates := false
	for _, p := range t.Planned() {
		joins := p.Module == "node_join" && strings.HasSuffix(p.ID, "/"+string(stepJoin))
		create := p.Module == "cluster_create"
		if (joins || create) && !slices.Contains(names, p.Host) {
			names = append(names, p.Host)
		}
		if joins || create {
			creates, why = creates || create, "nodes join in an earlier task"
		}
	}
	if creates {
		why = "the cluster is made by an earlier task"
	}
	return len(names), why
}

// deviceAddress is the address that pvecm is given: it takes no name.
func deviceAddress(t module.Target, args qdeviceArgs) (string, error) {
	text := args.Address
	if text == "" {
		h, ok := t.Site().Host(args.Arbiter[0])
		if !ok {
			return "", fmt.Errorf("%s is no host of this site", args.Arbiter[0])
		}
		text = h.Address
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return "", fmt.Errorf("%s: the inventory reaches it by %q, and pvecm qdevice setup wants an IP address: give address in the task", args.Arbiter[0], text)
	}
	return a.Unmap().String(), nil
}

// readTrust finds out whether the node that sets the device up gets in to the arbiter and to every member.
func (v *deviceView) readTrust(ctx context.Context, t module.Target) error {
	owner := v.owner()
	conn, err := t.Conn(ctx, owner)
	if err != nil {
		return err
	}
	r, err := conn.Run(ctx, loginTo(v.address))
	if err != nil {
		return fmt.Errorf("%s: log in to the arbiter: %w", owner, err)
	}
	v.trusted = r.Exit == 0
	if v.growing != "" || len(deviceGates("", v.members, v.conf)) > 0 {
		return nil // there is nobody to log in to yet, or there are other reasons to refuse
	}
	broken, err := trustAmong(ctx, t, owner, v.members)
	if err != nil {
		return err
	}
	for _, m := range v.members {
		if why, is := broken[m.Hostname]; is {
			v.refuse(owner, "set the QDevice up", fmt.Sprintf("root cannot log in to %s: %s", m.Hostname, why), "root's login by key from node to node, which pvecm uses for every step",
				fmt.Sprintf("ssh -o BatchMode=yes -o HostKeyAlias=%s -o UserKnownHostsFile=/etc/pve/nodes/%s/ssh_known_hosts root@%s true", m.Hostname, m.Hostname, m.Hostname), "pvecm updatecerts on "+m.Hostname+" and on "+owner)
		}
	}
	return nil
}
