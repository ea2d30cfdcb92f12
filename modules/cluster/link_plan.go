package cluster

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
)

// linkKind is what is done to a link.
type linkKind string

const (
	linkAdd      linkKind = "add"
	linkChange   linkKind = "change"
	linkPriority linkKind = "priority"
	linkRemove   linkKind = "remove"
)

// linkWork is one link that is to be different.
type linkWork struct {
	kind          linkKind
	edit          pve.LinkEdit
	before, after map[string]any
}

func (w linkWork) summary() string {
	switch w.kind {
	case linkAdd:
		return fmt.Sprintf("add link %d to corosync", w.edit.Link)
	case linkRemove:
		return fmt.Sprintf("remove link %d from corosync", w.edit.Link)
	case linkPriority:
		return fmt.Sprintf("set the priority of corosync's link %d", w.edit.Link)
	}
	return fmt.Sprintf("change the addresses of corosync's link %d", w.edit.Link)
}

// linkView is what planning the links sees, and decides on without any I/O.
type linkView struct {
	args    corosyncLinkArgs
	cluster string
	wanted  pve.Wanted
	states  []pve.NodeState
	members []pve.NodeState
	conf    *pve.CorosyncConf // the newest; nil without a cluster

	warnings []string
	refusals module.Refusals
}

func (v *linkView) refuse(host, saw, want, look, override string) {
	v.refusals = append(v.refusals, &module.Refusal{Host: host, Gate: "change corosync's links", Saw: saw, Want: want, Look: look, Override: override})
}

// work compares the links of the inventory with those of the cluster. What makes the cluster safer comes first.
func (v *linkView) work() []linkWork {
	wanted := v.wantedLinks()
	if len(v.refusals) > 0 {
		return nil
	}
	var work []linkWork
	have := v.conf.LinkNumbers()
	for n, want := range wanted {
		if !v.args.wants(n) {
			continue
		}
		shown := func(addrs map[string]string, priority int) map[string]any {
			m := map[string]any{"priority": priority}
			for name, a := range addrs {
				m[name] = a
			}
			return m
		}
		old := v.haveLink(n)
		w := linkWork{edit: want, after: shown(want.Addrs, want.Priority)}
		if !slices.Contains(have, n) {
			w.kind = linkAdd
			work = append(work, w)
			continue
		}
		w.before = shown(old.Addrs, old.Priority)
		switch {
		case !sameAddrs(old.Addrs, want.Addrs):
			w.kind = linkChange
		case old.Priority != want.Priority:
			w.kind = linkPriority
		default:
			continue
		}
		work = append(work, w)
	}
	for _, n := range have {
		if _, is := wanted[n]; is || !v.args.wants(n) {
			continue
		}
		if !v.args.Remove {
			v.warnings = append(v.warnings, fmt.Sprintf("link %d is in the cluster and not in the inventory; remove = true removes it", n))
			continue
		}
		work = append(work, linkWork{kind: linkRemove, edit: pve.LinkEdit{Link: n}, before: map[string]any{"addresses": addressesOf(v.conf, n)}})
	}
	rank := map[linkKind]int{linkAdd: 0, linkChange: 1, linkPriority: 2, linkRemove: 3}
	slices.SortStableFunc(work, func(a, b linkWork) int {
		return cmp.Or(rank[a.kind]-rank[b.kind], a.edit.Link-b.edit.Link)
	})
	return work
}

// wantedLinks are the links of the inventory for the nodes that are members, by number.
func (v *linkView) wantedLinks() map[int]pve.LinkEdit {
	links := map[int]pve.LinkEdit{}
	count := -1
	for _, name := range v.conf.Names() {
		want, ok := v.wanted.Node(name)
		if !ok {
			v.refuse("", name+" is a member that the inventory does not have", "every member in the inventory: a link needs an address on each", "pvecm nodes", "add "+name+" to the inventory")
			return nil
		}
		if count >= 0 && len(want.Links) != count {
			v.refuse(name, fmt.Sprintf("%d links in the inventory, and %d on %s", len(want.Links), count, v.conf.Names()[0]), "as many on every node", "", "mend links in the inventory")
			return nil
		}
		count = len(want.Links)
		for i, a := range want.Links {
			l, known := links[i]
			if !known {
				l = pve.LinkEdit{Link: i, Addrs: map[string]string{}, Priority: want.Priorities[i]}
			}
			if l.Priority != want.Priorities[i] {
				v.refuse(name, fmt.Sprintf("priority %d of link %d, and %d on another node", want.Priorities[i], i, l.Priority), "one priority for each link of the cluster", "", "mend links in the inventory")
				return nil
			}
			l.Addrs[name] = a.String()
			links[i] = l
		}
	}
	if count == 0 {
		v.refuse("", "the inventory has no links", "an address for each link", "", "write links in the inventory")
	}
	return links
}

// haveLink is a link as the cluster has it.
func (v *linkView) haveLink(n int) pve.LinkEdit {
	l := pve.LinkEdit{Link: n, Addrs: map[string]string{}, Priority: v.conf.LinkPriorities[n]}
	for _, node := range v.conf.Nodes {
		l.Addrs[node.Name] = node.Links[n]
	}
	return l
}

// sameAddr compares two addresses, whatever their spelling. Names are the same only when they are written alike.
func sameAddr(a, b string) bool {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	return a == b || errX == nil && errY == nil && x.Unmap() == y.Unmap() || errX == nil && errY != nil
}

func sameAddrs(have, want map[string]string) bool {
	for name, a := range want {
		h, err := netip.ParseAddr(have[name])
		if err != nil || h.Unmap().String() != a {
			return false
		}
	}
	return true
}

// gate refuses to touch a link unless the cluster is whole, of one mind, and held together by its other links: one link is
// changed at a time, and while it changes the others carry all (reference §3.1, §14).
func (v *linkView) gate(w linkWork) {
	v.refusals = append(v.refusals, deviceGates("change corosync's links", v.members, v.conf)...)
	if len(v.refusals) > 0 {
		return
	}
	if transport := v.conf.Root.Sub("totem").Get("transport"); transport != "" && transport != "knet" {
		v.refuse("", "corosync's transport is "+transport, "knet, whose links can be changed while it runs", "grep transport /etc/pve/corosync.conf", "")
	}
	others := slices.DeleteFunc(v.conf.LinkNumbers(), func(n int) bool { return n == w.edit.Link })
	if len(others) == 0 {
		v.refuse("", fmt.Sprintf("link %d is the only one", w.edit.Link), "another link that carries the cluster meanwhile", "corosync-cfgtool -n", "add a second link first, in a run of its own")
		return
	}
	for _, m := range v.members {
		if why := unreadOf(m, "links", "stats", "addr"); why != "" || m.Quorum == nil {
			v.refuse(m.Host, cmp.Or(why, "corosync does not answer"), "a member that answers", "corosync-cfgtool -n", "")
			continue
		}
		for _, problem := range unconnected(m, v.conf, others) {
			v.refuse(m.Host, problem, "every other link connected to every node", "corosync-cfgtool -n", "mend that link first")
		}
	}
}

// unconnected are the links of a member that are not up, among some, to any other node of a configuration.
func unconnected(m pve.NodeState, conf *pve.CorosyncConf, links []int) []string {
	var problems []string
	for _, peer := range conf.Nodes {
		if peer.Name == m.Hostname {
			continue
		}
		for _, n := range links {
			i := slices.IndexFunc(m.Links, func(l pve.PeerLink) bool { return l.NodeID == peer.ID && l.Link == n })
			if i < 0 || !m.Links[i].Connected {
				problems = append(problems, fmt.Sprintf("link %d to %s is not connected", n, peer.Name))
			}
		}
	}
	return problems
}

// fits refuses addresses that corosync could not use: it takes them all the same, and the link never comes up.
func (v *linkView) fits(w linkWork) {
	for _, m := range v.members {
		text, is := w.edit.Addrs[m.Hostname]
		if !is {
			continue
		}
		a, err := netip.ParseAddr(text)
		if err != nil {
			v.refuse(m.Host, fmt.Sprintf("%q is no address", text), "an IP address", "", "mend links in the inventory")
			continue
		}
		iface, ok := pve.InterfaceOf(m.Interfaces, a)
		switch {
		case !ok:
			v.refuse(m.Host, fmt.Sprintf("no interface has %s of link %d", a, w.edit.Link), "the address on the node", "ip addr", "configure it, or mend links in the inventory")
		case !iface.Up:
			v.refuse(m.Host, fmt.Sprintf("%s with %s of link %d is down", iface.Name, a, w.edit.Link), "an interface that is up", "ip link", "")
		}
		for _, n := range v.conf.Nodes {
			for link, used := range n.Links {
				if other, err := netip.ParseAddr(used); err == nil && other.Unmap() == a && (link != w.edit.Link || n.Name != m.Hostname) {
					v.refuse(m.Host, fmt.Sprintf("%s of link %d is already that of %s on link %d", a, w.edit.Link, n.Name, link), "an address of its own for every link of every node", "cat /etc/pve/corosync.conf", "mend links in the inventory")
				}
			}
		}
	}
}

// linkQuestion is a measurement with the node that makes it.
type linkQuestion struct {
	from string
	question
}

// questions lists what is to be measured before a link is used: every way between two nodes.
func (v *linkView) questions(w linkWork) []linkQuestion {
	var list []linkQuestion
	for _, from := range v.members {
		own, err := netip.ParseAddr(w.edit.Addrs[from.Hostname])
		if err != nil || w.kind == linkPriority {
			continue
		}
		iface, _ := pve.InterfaceOf(from.Interfaces, own)
		for _, to := range v.members {
			peer, err := netip.ParseAddr(w.edit.Addrs[to.Hostname])
			if err != nil || to.Host == from.Host {
				continue
			}
			q := question{kind: "ping", own: own, peer: peer, link: w.edit.Link, peerHost: to.Host}
			list = append(list, linkQuestion{from.Host, q})
			q.kind, q.size = "mtu", iface.MTU-headers(peer)
			list = append(list, linkQuestion{from.Host, q})
		}
	}
	return list
}

// settledLinks says what is missing until all members run a configuration and are connected by each of its links.
func settledLinks(members []pve.NodeState, conf *pve.CorosyncConf) []string {
	var missing []string
	for _, m := range members {
		switch {
		case m.Err != nil:
			missing = append(missing, m.Err.Error())
			continue
		case m.Conf == nil || m.Conf.Version != conf.Version || !m.ConfsEqual:
			missing = append(missing, m.Host+": its configuration is not yet the newest")
			continue
		case m.Members == nil || m.Members.Cluster == nil || m.Members.Cluster.Version != conf.Version:
			missing = append(missing, m.Host+": .members shows another version")
		case !m.Writable || m.Quorum == nil || !m.Quorum.Quorate:
			missing = append(missing, m.Host+": not quorate")
		}
		for _, problem := range unconnected(m, conf, conf.LinkNumbers()) {
			missing = append(missing, m.Host+": "+problem)
		}
		missing = append(missing, oldLinks(m, conf)...)
	}
	return missing
}

// oldLinks are links by which a member's corosync still works as before.
func oldLinks(m pve.NodeState, conf *pve.CorosyncConf) []string {
	var old []string
	own, _ := conf.Node(m.Hostname)
	for _, l := range m.Links {
		i := slices.IndexFunc(conf.Nodes, func(n pve.ConfNode) bool { return n.ID == l.NodeID })
		if i < 0 || l.NodeID == own.ID {
			continue
		}
		switch {
		case conf.Nodes[i].Links[l.Link] == "":
			old = append(old, fmt.Sprintf("%s: corosync still has link %d", m.Host, l.Link))
		case l.Local != "" && (!sameAddr(l.Local, own.Links[l.Link]) || !sameAddr(l.Remote, conf.Nodes[i].Links[l.Link])):
			old = append(old, fmt.Sprintf("%s: corosync still has %s on link %d", m.Host, strings.TrimSpace(l.Local+" to "+l.Remote), l.Link))
		}
	}
	return old
}
