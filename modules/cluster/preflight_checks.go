package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/pve"
)

// check makes every check that needs no more than the nodes' states.
func (v siteView) check(args preflightArgs) []problem {
	var found []problem
	if n := len(v.states); n > args.MaxNodes {
		found = append(found, problem{
			check: checkCount, saw: fmt.Sprintf("the cluster would have %d nodes", n), want: fmt.Sprintf("at most %d", args.MaxNodes),
			cure: "raise max_nodes, after reading what large clusters need of the network",
		})
	}
	for i, s := range v.states {
		found = append(found, v.node(s, v.hosts[i].Address)...)
	}
	found = append(found, v.releases()...)
	found = append(found, v.unique()...)
	found = append(found, v.links(args)...)
	if args.For == "running" {
		return append(found, v.running()...)
	}
	return append(found, v.membership()...)
}

// node checks a node by itself.
func (v siteView) node(s pve.NodeState, address string) []problem {
	var found []problem
	add := func(p problem) { p.host = s.Host; found = append(found, p) }
	if s.UID != 0 {
		add(problem{check: checkRoot, saw: fmt.Sprintf("commands run with user id %d", s.UID), want: "root", look: "id", cure: `set ssh.user = "root", or become = "sudo"`})
		return found // much of the rest cannot be read
	}
	for _, name := range []string{"addr", "pmxcfs", "members", "guests", "conf", "localconf", "certs", "here", "quorum", "packages", "joining"} {
		if why, unread := s.Unread[name]; unread {
			add(problem{check: checkRead, saw: fmt.Sprintf("the read of %q failed: %s", name, why), want: "an answer: what cannot be read may hide anything", look: "systemctl status pve-cluster; timeout 5 ls /etc/pve"})
		}
	}
	if !s.IsPVE() {
		add(problem{check: checkRelease, saw: "Proxmox VE is not installed", want: "the packages proxmox-ve and pve-manager", look: "dpkg-query -W pve-manager proxmox-ve"})
		return found
	}
	if s.Packages["proxmox-ve"] == "" {
		add(problem{check: checkRelease, saw: "the package proxmox-ve is not installed", want: "it, since upgrades rest on it", look: "dpkg-query -W proxmox-ve", warn: true})
	}
	if major := pve.Major(s.Version()); !slices.Contains(pve.KnownMajors, major) {
		add(problem{check: checkRelease, saw: "Proxmox VE " + s.Version(), want: fmt.Sprintf("one of the releases %v", pve.KnownMajors), look: "pveversion"})
	}
	if s.Hostname != s.Host {
		add(problem{
			check: checkHostname, saw: fmt.Sprintf("the node calls itself %q", s.Hostname), want: fmt.Sprintf("%q, as the inventory does: it becomes the name in the cluster", s.Host), look: "hostname",
			cure: "rename one of the two; a node in a cluster cannot be renamed",
		})
	}
	if err := pve.CheckNodeName(s.Hostname); err != nil {
		add(problem{check: checkHostname, saw: err.Error(), want: "a name that Proxmox VE takes", look: "hostname"})
	}
	v.resolve(s, address, add)
	if t := s.Tracking; t != nil && !t.Synced {
		add(problem{check: checkTime, saw: "chrony is not synchronised", look: "chronyc sources", warn: true})
	}
	return found
}

// resolve checks what the node's own name stands for: pmxcfs takes the address from there.
func (v siteView) resolve(s pve.NodeState, address string, add func(problem)) {
	look := "getent ahosts " + s.Hostname
	cure := fmt.Sprintf("put its own address and %s into /etc/hosts", s.Hostname)
	loopback := slices.ContainsFunc(s.HostnameAddrs, netip.Addr.IsLoopback)
	own, ok := s.HostnameAddr()
	switch {
	case loopback:
		add(problem{check: checkHostname, saw: fmt.Sprintf("%s stands for the loopback address", s.Hostname), want: "an address that other nodes can reach", look: look, cure: cure})
	case !ok:
		add(problem{check: checkHostname, saw: s.Hostname + " stands for no address", want: "an address of the node", look: look, cure: cure})
	case !s.HasAddress(own):
		add(problem{check: checkHostname, saw: fmt.Sprintf("%s stands for %s, which no interface has", s.Hostname, own), want: "an address of the node", look: look + "; ip addr", cure: cure})
	default:
		if a, err := netip.ParseAddr(address); err == nil && a.Unmap() != own {
			add(problem{check: checkHostname, saw: fmt.Sprintf("%s stands for %s there, and the inventory reaches it by %s", s.Hostname, own, a), look: look, warn: true})
		}
	}
}

func (v siteView) releases() []problem {
	byMajor, versions := map[int][]string{}, map[string]bool{}
	for _, s := range v.states {
		if s.IsPVE() {
			major := pve.Major(s.Version())
			byMajor[major] = append(byMajor[major], s.Host)
			versions[s.Version()] = true
		}
	}
	if len(byMajor) > 1 {
		return []problem{{
			check: checkRelease, saw: "the nodes have different major releases: " + groups(byMajor), want: "one major release on all", look: "pveversion",
			cure: "upgrade the older nodes first",
		}}
	}
	if len(versions) > 1 {
		return []problem{{check: checkRelease, saw: fmt.Sprintf("the nodes have %d different versions of pve-manager", len(versions)), look: "pveversion", warn: true}}
	}
	return nil
}

func groups(byMajor map[int][]string) string {
	var parts []string
	for major, hosts := range byMajor {
		parts = append(parts, fmt.Sprintf("%d on %s", major, strings.Join(hosts, ", ")))
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

// unique checks that what must be a node's own is: cloned machines share ids and host keys.
func (v siteView) unique() []problem {
	var found []problem
	twice := func(what, look, cure string, of func(pve.NodeState) string) {
		first := map[string]string{}
		for _, s := range v.states {
			value := of(s)
			if value == "" {
				continue
			}
			if other, taken := first[value]; taken {
				found = append(found, problem{
					check: checkUnique, host: s.Host, saw: fmt.Sprintf("the same %s as on %s", what, other), want: "one of its own on every node", look: look, cure: cure,
				})
				continue
			}
			first[value] = s.Host
		}
	}
	twice("hostname", "hostname", "rename one of them", func(s pve.NodeState) string { return s.Hostname })
	twice("machine id", "cat /etc/machine-id", "rm /etc/machine-id && systemd-machine-id-setup on the clone, then reboot it", func(s pve.NodeState) string { return s.MachineID })
	twice("SSH host key", "cat /etc/ssh/ssh_host_*_key.pub", "rm /etc/ssh/ssh_host_* && dpkg-reconfigure openssh-server on the clone", func(s pve.NodeState) string {
		if len(s.HostKeys) == 0 {
			return ""
		}
		return keyBlob(s.HostKeys[0])
	})
	twice("address", "ip addr", "change one of them", func(s pve.NodeState) string {
		if a, ok := s.HostnameAddr(); ok {
			return a.String()
		}
		return ""
	})
	return found
}

// links checks the corosync links: there, on an interface that is up, as many everywhere, none twice, one MTU a link.
func (v siteView) links(args preflightArgs) []problem {
	var found []problem
	owner := map[netip.Addr]string{}
	mtu := map[int]pve.Interface{}
	mtuOf := map[int]string{}
	for i, s := range v.states {
		want := v.wanted.Nodes[i]
		add := func(p problem) { p.host = s.Host; found = append(found, p) }
		if n := len(want.Links); n < args.MinLinks && n > 0 || n == 0 && args.MinLinks > 1 {
			add(problem{check: checkLinks, saw: fmt.Sprintf("%d corosync links", n), want: fmt.Sprintf("at least %d", args.MinLinks), cure: "add addresses to links in the inventory"})
		}
		if n, first := len(want.Links), len(v.wanted.Nodes[0].Links); n != first {
			add(problem{check: checkLinks, saw: fmt.Sprintf("%d corosync links, and %d on %s", n, first, v.wanted.Nodes[0].Name), want: "as many on every node"})
		}
		for n, a := range want.Links {
			if other, taken := owner[a]; taken {
				add(problem{check: checkLinks, saw: fmt.Sprintf("link %d has the address %s of %s", n, a, other), want: "an address of its own for every link"})
			}
			owner[a] = s.Host
			iface, ok := pve.InterfaceOf(s.Interfaces, a)
			switch {
			case !ok:
				add(problem{check: checkLinks, saw: fmt.Sprintf("no interface has %s of link %d", a, n), want: "the address on an interface", look: "ip addr", cure: "configure it, or mend links in the inventory"})
				continue
			case !iface.Up:
				add(problem{check: checkLinks, saw: fmt.Sprintf("%s with %s of link %d is down", iface.Name, a, n), want: "an interface that is up", look: "ip link"})
			}
			if first, known := mtu[n]; known && first.MTU != iface.MTU {
				add(problem{
					check: checkMTU, saw: fmt.Sprintf("%s of link %d has MTU %d, and %s has %d", iface.Name, n, iface.MTU, mtuOf[n], first.MTU), want: "one MTU on all nodes of a link", look: "ip link",
				})
			} else if !known {
				mtu[n], mtuOf[n] = iface, s.Host
			}
		}
	}
	if len(v.wanted.Nodes) > 1 && len(v.wanted.Nodes[0].Links) == 1 {
		found = append(found, problem{check: checkLinks, saw: "corosync has one link only: when it fails, the cluster stops", cure: "a second link on a network of its own keeps it up", warn: true})
	}
	return found
}

// membership checks what a cluster that forms or grows needs of each node's past.
func (v siteView) membership() []problem {
	members := pve.MembersOf(v.states, v.cluster)
	var found, offline []problem
	pending := map[string]bool{}
	for i, s := range v.states {
		j := pve.ClassifyJoin(v.cluster, s, members)
		add := func(p problem) { p.host = s.Host; found = append(found, p) }
		switch j.Phase {
		case pve.PhaseMember:
			continue
		case pve.PhaseUnknown:
			continue // the check of the node says why
		case pve.PhaseFresh:
			if !s.Mounted || !s.Writable {
				add(problem{check: checkPmxcfs, saw: "/etc/pve is not mounted or cannot be written", want: "a running pve-cluster service", look: "systemctl status pve-cluster"})
			}
			// The first node makes the cluster and keeps its guests; a node that joins loses their configuration.
			if n := len(s.Guests); n > 0 && (len(members) > 0 || i > 0) {
				add(problem{check: checkGuests, saw: guestsText(s.Guests), want: "no guests on a node that joins: its /etc/pve is replaced", look: "qm list; pct list", cure: "back them up, remove them, and restore them after the join"})
			}
		case pve.PhaseOffline:
			offline = append(offline, problem{check: checkCluster, host: s.Host, saw: j.Saw, want: "every member online and quorate", look: j.Look, cure: j.Remedy})
		case pve.PhaseOther:
			add(problem{check: checkCluster, saw: j.Saw, want: fmt.Sprintf("no cluster, or %q", v.cluster), look: j.Look, cure: j.Remedy})
		default:
			if j.Resumable {
				pending[s.Hostname] = true
			}
			p := problem{check: checkHalf, saw: j.Saw, want: "a node that is in no cluster or a whole member", look: j.Look, cure: j.Remedy, warn: j.Resumable}
			if j.Resumable {
				p.cure = "node_join finishes it"
				if j.Phase == pve.PhaseCreated {
					p.cure = "cluster_create finishes it"
				}
			}
			add(p)
		}
	}
	if len(pending) == 0 {
		// A join that was cut off may have cost the members their quorum; finishing it mends them.
		found = append(found, offline...)
	}
	return append(found, v.whole(members, pending)...)
}

// whole checks the cluster that exists: complete, quorate, of one mind. Nodes whose join node_join will finish excuse
// that they are away.
func (v siteView) whole(members []pve.NodeState, pending map[string]bool) []problem {
	if len(members) == 0 {
		return nil
	}
	var found []problem
	conf := pve.NewestConf(members)
	resuming := len(pending) > 0
	for _, m := range members {
		add := func(p problem) { p.host = m.Host; p.check = checkCluster; found = append(found, p) }
		if !m.Writable && !resuming {
			add(problem{saw: "the cluster is not quorate here", want: "quorum before anything joins", look: "pvecm status"})
		}
		if m.Conf.Version != conf.Version {
			add(problem{saw: fmt.Sprintf("version %d of the cluster's configuration, and %d elsewhere", m.Conf.Version, conf.Version), want: "one version everywhere", look: "grep config_version /etc/pve/corosync.conf"})
		}
		for _, name := range conf.Names() {
			if !m.Members.Online(name) && !pending[name] {
				add(problem{saw: "does not see " + name + " online", want: "every member online before anything joins", look: "cat /etc/pve/.members"})
			}
		}
	}
	drift := pve.CompareMembership(v.wanted, conf)
	for _, name := range drift.Foreign {
		found = append(found, problem{check: checkCluster, host: name, saw: "a member that the inventory does not have", warn: true})
	}
	for _, d := range drift.Differences {
		found = append(found, problem{check: checkCluster, host: d.Node, saw: d.String(), cure: "the cluster keeps what it has", warn: true})
	}
	return found
}

// running checks that the cluster is there and every node is in it.
func (v siteView) running() []problem {
	members := pve.MembersOf(v.states, v.cluster)
	var found []problem
	for _, s := range v.states {
		if j := pve.ClassifyJoin(v.cluster, s, members); j.Phase != pve.PhaseMember {
			found = append(found, problem{check: checkCluster, host: s.Host, saw: j.Saw, want: fmt.Sprintf("a member of %q, online and quorate", v.cluster), look: j.Look, cure: j.Remedy})
		}
	}
	return append(found, v.whole(members, nil)...)
}

func guestsText(guests []pve.Guest) string {
	ids := make([]string, 0, 5)
	for _, g := range guests {
		if len(ids) == 5 {
			ids = append(ids, "…")
			break
		}
		ids = append(ids, g.ID)
	}
	if len(guests) == 1 {
		return "guest " + ids[0]
	}
	return fmt.Sprintf("%d guests: %s", len(guests), strings.Join(ids, ", "))
}
