package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
)

// removal is what planning to remove a node sees, and decides on without any I/O.
type removal struct {
	args    nodeRemoveArgs
	cluster string
	members []pve.NodeState   // those that stay
	conf    *pve.CorosyncConf // the newest
	listed  bool              // the node is in it
	addrs   []string          // the node's addresses, where they are known
	// answered are those of its addresses that answer.
	answered []string
	left     []pve.Leftover
}

// viewRemoval takes from the states of the others what concerns a node.
func viewRemoval(args nodeRemoveArgs, cluster string, states []pve.NodeState) *removal {
	v := &removal{args: args, cluster: cluster}
	v.members = slices.DeleteFunc(pve.MembersOf(states, cluster), func(m pve.NodeState) bool { return m.Hostname == args.Node })
	v.conf = pve.NewestConf(v.members)
	entry, listed := v.conf.Node(args.Node)
	v.listed = listed
	add := func(addr string) {
		if addr != "" && !slices.Contains(v.addrs, addr) {
			v.addrs = append(v.addrs, addr)
		}
	}
	for _, n := range entry.LinkNumbers() {
		add(entry.Links[n])
	}
	for _, m := range v.members {
		if member, ok := m.Members.Member(args.Node); ok {
			add(member.IP)
		}
	}
	return v
}

// unreachable returns why nodes could not be read that the others see online: they may hide anything.
func (v *removal) unreachable(states []pve.NodeState) error {
	var errs []error
	for _, s := range states {
		if s.Err != nil && (v.conf == nil || v.online(s.Host)) {
			errs = append(errs, s.Err)
		}
	}
	return errors.Join(errs...)
}

// others are the names of the nodes that stay.
func (v *removal) others() []string {
	return slices.DeleteFunc(v.conf.Names(), func(name string) bool { return name == v.args.Node })
}

func (v *removal) online(name string) bool {
	return slices.ContainsFunc(v.members, func(m pve.NodeState) bool { return m.Members.Online(name) })
}

// actor is the member by which the node is removed.
func (v *removal) actor() (pve.NodeState, bool) {
	i := slices.IndexFunc(v.members, func(m pve.NodeState) bool { return m.Mounted && m.Writable && m.Quorum != nil && m.Quorum.Quorate })
	if i < 0 {
		return pve.NodeState{}, false
	}
	return v.members[i], true
}

// ballot counts the votes of a cluster of these nodes.
func (v *removal) ballot(names []string) pve.Ballot {
	casting := slices.ContainsFunc(v.members, func(m pve.NodeState) bool {
		return m.Quorum != nil && m.Quorum.Device != nil && m.Quorum.Device.Votes > 0
	})
	b := pve.BallotOf(v.conf, v.online, casting)
	b.Nodes = slices.DeleteFunc(b.Nodes, func(n pve.Voter) bool { return !slices.Contains(names, n.Name) })
	return b
}

// gate refuses unless the node is off, holds nothing, and the others can do without it (reference §3.9, §14).
func (v *removal) gate() module.Refusals {
	var out module.Refusals
	node := v.args.Node
	refuse := func(host, saw, want, look, override string) {
		out = append(out, &module.Refusal{Host: host, Gate: "remove " + node, Saw: saw, Want: want, Look: look, Override: override})
	}
	if _, ok := v.actor(); !ok {
		refuse("", "no member that answers is quorate", "quorum without "+node, "pvecm status", "bring absent nodes back; expected votes are never lowered by this program")
		return out
	}
	var seen []string
	for _, m := range v.members {
		if why := unreadOf(m, "pmxcfs", "members", "guests", "conf", "quorum"); why != "" {
			refuse(m.Host, why, "a member that answers", "timeout 5 ls /etc/pve", "")
			continue
		}
		if m.Members.Online(node) {
			seen = append(seen, m.Host)
		}
		if m.Conf.Version != v.conf.Version || !m.ConfsEqual {
			refuse(m.Host, fmt.Sprintf("version %d of the configuration, and %d elsewhere, or another in /etc/corosync", m.Conf.Version, v.conf.Version), "one configuration on all members that are online", "grep config_version /etc/pve/corosync.conf /etc/corosync/corosync.conf", "")
		}
	}
	switch {
	case len(seen) > 0:
		refuse(node, node+" is online, seen by "+strings.Join(seen, ", "), "a node that is off for good: drained, its Ceph daemons and replication jobs removed, then powered off", "cat /etc/pve/.members",
			"none: removing a node that runs takes its corosync down and may cost the cluster its quorum")
	case len(v.answered) > 0:
		refuse(node, strings.Join(v.answered, ", ")+" answers a ping", "a node that is powered off: one that only lost its cluster may still run guests", "ping "+v.answered[0], "power it off")
	}
	if guests := v.guests(); len(guests) > 0 {
		refuse(node, guestsText(guests)+" on it", "no guests: their configuration goes with the node", "grep -l . /etc/pve/nodes/"+node+"/*/*.conf",
			"start the node once more and migrate them, or, when it is lost and its disks are elsewhere, move each configuration by hand")
	}
	for _, name := range v.others() {
		if v.conf.Device != nil && !v.online(name) {
			refuse("", name+" is offline too, and a QDevice is configured", "every other node online: pvecm changes a QDevice on all of them", "pvecm nodes", "bring "+name+" back first")
		}
	}
	if rest := v.ballot(v.others()); !rest.Quorate() {
		refuse("", fmt.Sprintf("without %s %d of %d votes would be there and %d be needed", node, rest.Total(), rest.Expected(), rest.Quorum()), "quorum after the removal", "pvecm status", "bring absent nodes back first")
	}
	return out
}

func (v *removal) guests() []pve.Guest {
	for _, m := range v.members {
		var guests []pve.Guest
		for _, g := range m.Guests {
			if g.Node == v.args.Node {
				guests = append(guests, g)
			}
		}
		if len(guests) > 0 {
			return guests
		}
	}
	return nil
}

// deviceSteps take a QDevice off after the node and put it back where the number of nodes allows it. It cannot be taken
// off before: pvecm does that only while every node is online, and this one is off.
func (v *removal) deviceSteps(actor string) []deviceStep {
	noted, even := noteOf(v.members), len(v.others())%2 == 0
	device := noted
	var steps []deviceStep
	if d := v.conf.Device; d != nil {
		if !v.listed && noted == "" {
			return nil // not this removal's matter
		}
		device = d.Host
		steps = append(steps, deviceStep{kind: stepDeviceOff, host: actor, device: device})
	}
	switch {
	case device == "":
		return nil
	case even:
		return append(steps, deviceStep{kind: stepDeviceOn, host: actor, device: device})
	}
	return append(steps, deviceStep{kind: stepForget, host: actor})
}
