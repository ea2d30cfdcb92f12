package network

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/internal/pve"
)

// networkView is what the check sees, and judges without any I/O.
type networkView struct {
	wanted  pve.Wanted
	states  []pve.NodeState
	reports []report
}

// question is one measurement of a node: a ping for the whole time, or packets of a size that must not be cut.
type question struct {
	kind      string // ping or mtu
	own, peer netip.Addr
	size      int // bytes of data
	link      int
	to        string
}

// answer is a question with what ping said.
type answer struct {
	question
	ping     pve.Ping
	answered bool // ping could send at all
	said     string
}

// report is what one node measured.
type report struct {
	host          string
	pings, sizes  []answer
	bonds         []pve.Bond
	duplex        map[string]string
	before, after map[string]int // corosync's counters by key
}

// problem is something that the check found.
type problem struct {
	host, saw, want, look, override string
	warn                            bool
}

// headers is what IP and ICMP add to the data of a ping.
func headers(a netip.Addr) int {
	if a.Is6() {
		return 48
	}
	return 28
}

// questions lists what each node measures: every way to every other node on every link.
func (v *networkView) questions(args networkCheckArgs) map[string][]question {
	asked := map[string][]question{}
	for i, from := range v.states {
		for j, to := range v.states {
			if i == j || i >= len(v.wanted.Nodes) || j >= len(v.wanted.Nodes) {
				continue
			}
			mine, theirs := v.wanted.Nodes[i].Links, v.wanted.Nodes[j].Links
			for n := range min(len(mine), len(theirs)) {
				if !args.wants(n) {
					continue
				}
				size := args.MTU
				if iface, ok := pve.InterfaceOf(from.Interfaces, mine[n]); ok && size == 0 {
					size = iface.MTU
				}
				q := question{kind: "ping", own: mine[n], peer: theirs[n], link: n, to: to.Host}
				asked[from.Host] = append(asked[from.Host], q)
				if size > 0 {
					q.kind, q.size = "mtu", size-headers(theirs[n])
					asked[from.Host] = append(asked[from.Host], q)
				}
			}
		}
	}
	return asked
}

// parseReport reads what measureScript printed.
func parseReport(host string, qs []question, out string) report {
	r := report{host: host, duplex: map[string]string{}, before: map[string]int{}, after: map[string]int{}}
	said, bonds := map[string]string{}, map[string]string{}
	for line := range strings.Lines(out) {
		kind, rest, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		switch kind {
		case "before", "after":
			key, value, _ := strings.Cut(rest, " = ")
			key, _, _ = strings.Cut(key, " ")
			if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
				map[string]map[string]int{"before": r.before, "after": r.after}[kind][key] = n
			}
		case "bond":
			name, text, _ := strings.Cut(rest, " ")
			bonds[name] += text + "\n"
		case "card":
			name, duplex, _ := strings.Cut(rest, " ")
			r.duplex[name] = strings.TrimSpace(duplex)
		case "ping", "mtu":
			if f := strings.SplitN(rest, " ", 3); len(f) == 3 {
				said[kind+" "+f[0]+" "+f[1]] = f[2]
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(bonds)) {
		r.bonds = append(r.bonds, pve.ParseBond(name, []byte(bonds[name])))
	}
	for _, q := range qs {
		a := answer{question: q, said: said[q.kind+" "+q.own.String()+" "+q.peer.String()]}
		a.ping, a.answered = pve.ParsePing(a.said)
		if q.kind == "ping" {
			r.pings = append(r.pings, a)
		} else {
			r.sizes = append(r.sizes, a)
		}
	}
	return r
}

// judge says all that is wrong.
func (v *networkView) judge(args networkCheckArgs) []problem {
	var found []problem
	for _, r := range v.reports {
		add := func(p problem) { p.host = r.host; found = append(found, p) }
		silent := map[string]bool{}
		for _, a := range r.pings {
			if p, bad := a.judgeLink(args); bad {
				silent[a.own.String()+a.peer.String()] = a.ping.Received == 0
				add(p)
			}
		}
		for _, a := range r.sizes {
			if a.ping.Received == 0 && !silent[a.own.String()+a.peer.String()] {
				add(problem{
					saw: fmt.Sprintf("packets of %d bytes do not get from %s to %s (%s, link %d) whole", a.size+headers(a.peer), a.own, a.peer, a.to, a.link), want: "that size on the whole way",
					look: fmt.Sprintf("ping -M do -s %d -I %s %s", a.size, a.own, a.peer), override: "set the same MTU on the switch ports and interfaces of this network, or mtu in the task",
				})
			}
		}
		for _, p := range r.counters(v, args) {
			add(p)
		}
		for _, p := range r.judgeBonds(args) {
			add(p)
		}
		for _, name := range slices.Sorted(maps.Keys(r.duplex)) {
			if r.duplex[name] == "half" {
				add(problem{saw: name + " works in half duplex", want: "full duplex", look: "ethtool " + name, override: "let card and switch agree on speed and duplex by themselves"})
			}
		}
	}
	return found
}

func (a answer) judgeLink(args networkCheckArgs) (problem, bool) {
	look := fmt.Sprintf("ping -I %s %s", a.own, a.peer)
	switch lost := a.ping.Lost(); {
	case !a.answered || a.ping.Received == 0:
		return problem{
			saw: fmt.Sprintf("%s on link %d (%s) does not answer from %s: %s", a.to, a.link, a.peer, a.own, cmp.Or(lastWords(a.said), "nothing")), want: "all nodes reach each other on every link", look: look,
			override: "check cables, VLANs and firewalls of this network",
		}, true
	case lost > args.MaxLoss:
		return problem{
			saw: fmt.Sprintf("%d of %d packets to %s on link %d (%s) were lost", a.ping.Sent-a.ping.Received, a.ping.Sent, a.to, a.link, a.peer), want: fmt.Sprintf("at most %g%%: corosync suffers from lost packets", args.MaxLoss), look: look,
			override: "find the bad cable, port or load; or max_loss in the task",
		}, true
	case a.ping.Timed && a.ping.Average >= args.MaxRTT:
		return problem{
			saw: fmt.Sprintf("%s on link %d (%s) is %s away", a.to, a.link, a.peer, a.ping.Average), want: "less than " + args.MaxRTT.String() + " there and back", look: look,
			override: "corosync needs a network with the latency of a LAN; or max_rtt in the task",
		}, true
	case a.ping.Timed && a.ping.Average >= args.WarnRTT:
		return problem{saw: fmt.Sprintf("%s on link %d (%s) is %s away", a.to, a.link, a.peer, a.ping.Average), warn: true}, true
	case a.ping.Timed && a.ping.Max >= 10*args.MaxRTT:
		return problem{saw: fmt.Sprintf("a packet to %s on link %d (%s) took %s, and %s on average", a.to, a.link, a.peer, a.ping.Max, a.ping.Average), warn: true}, true
	}
	return problem{}, false
}

// lastWords shortens what a ping that failed has said.
func lastWords(said string) string {
	words := strings.Fields(said)
	if len(words) > 16 {
		words = words[len(words)-16:]
	}
	return strings.Join(words, " ")
}

// counters compares corosync's own counters before and after.
func (r report) counters(v *networkView, args networkCheckArgs) []problem {
	var found []problem
	for _, key := range slices.Sorted(maps.Keys(r.after)) {
		parts := strings.Split(key, ".") // stats.knet.node2.link0.down_count
		if len(parts) != 5 {
			continue
		}
		node := v.nodeName(strings.TrimPrefix(parts[2], "node"))
		link := strings.TrimPrefix(parts[3], "link")
		if n, err := strconv.Atoi(link); err != nil || !args.wants(n) {
			continue
		}
		before, now := r.before[key], r.after[key]
		look := "corosync-cfgtool -n; corosync-cmapctl -m stats"
		switch {
		case parts[4] == "connected" && now == 0 && node != r.host:
			found = append(found, problem{saw: fmt.Sprintf("corosync is not connected to %s on link %s", node, link), want: "every link connected", look: look, override: "check UDP 5405 to 5412 on this network"})
		case parts[4] == "down_count" && now > before:
			found = append(found, problem{saw: fmt.Sprintf("corosync lost %s on link %s %d times while it was watched", node, link, now-before), want: "a link that stays up", look: look, override: "find the bad cable, port or load"})
		case parts[4] == "tx_total_errors" && now > before:
			found = append(found, problem{saw: fmt.Sprintf("corosync could not send %d packets to %s on link %s while it was watched", now-before, node, link), want: "no errors", look: look, override: "find the bad cable, port or load"})
		}
	}
	return found
}

// nodeName is a node by its id, as the nodes themselves say.
func (v *networkView) nodeName(id string) string {
	number, err := strconv.Atoi(id)
	if err == nil {
		for _, s := range v.states {
			if s.Quorum != nil && s.Quorum.NodeID == number {
				return s.Host
			}
		}
	}
	return "node " + id
}

func (r report) judgeBonds(args networkCheckArgs) []problem {
	var found []problem
	named := map[string]bool{}
	for _, want := range args.Bonds {
		named[want.Name] = true
		i := slices.IndexFunc(r.bonds, func(b pve.Bond) bool { return b.Name == want.Name })
		if i < 0 {
			found = append(found, problem{saw: "there is no bond " + want.Name, want: "a bond with the mode " + want.Mode, look: "ls /proc/net/bonding", override: "configure it in /etc/network/interfaces"})
			continue
		}
		found = append(found, want.judge(r.bonds[i], args.MinSpeed)...)
	}
	for _, b := range r.bonds {
		if named[b.Name] {
			continue
		}
		for _, p := range (bondArgs{Name: b.Name, Mode: b.Mode}).judge(b, args.MinSpeed) {
			p.warn = true // nobody has said how it shall be
			found = append(found, p)
		}
	}
	return found
}

func (want bondArgs) judge(b pve.Bond, minSpeed int) []problem {
	var found []problem
	look := "cat /proc/net/bonding/" + b.Name
	add := func(saw, wanted, override string) {
		found = append(found, problem{saw: b.Name + ": " + saw, want: wanted, look: look, override: override})
	}
	if b.Mode != want.Mode {
		add("the mode is "+b.Mode, want.Mode, "change bond-mode in /etc/network/interfaces")
	}
	var names []string
	aggregators := map[int]bool{}
	for _, m := range b.Members {
		names = append(names, m.Name)
		if !m.Up {
			add(m.Name+" has no link", "every member up: the bond bears the loss of the others only with all of them", "check its cable and switch port")
			continue
		}
		aggregators[m.Aggregator] = true
		if !m.FullDuplex {
			add(m.Name+" works in half duplex", "full duplex", "let card and switch agree on speed and duplex by themselves")
		}
		if m.Speed < minSpeed {
			add(fmt.Sprintf("%s has %d Mbit/s", m.Name, m.Speed), fmt.Sprintf("%d at least", minSpeed), "check its cable and switch port, or min_speed in the task")
		}
	}
	if b.Mode == "802.3ad" && len(aggregators) > 1 {
		add("its members are in different aggregators", "one aggregator: the switch must treat the ports as one LACP group", "configure LACP on the switch")
	}
	slices.Sort(names)
	members := slices.Sorted(slices.Values(want.Members))
	switch {
	case len(members) > 0 && !slices.Equal(members, names):
		add("the members are "+strings.Join(names, ", "), strings.Join(members, ", "), "change bond-slaves in /etc/network/interfaces")
	case len(members) == 0 && len(names) < 2:
		add(fmt.Sprintf("%d members", len(names)), "two at least", "change bond-slaves in /etc/network/interfaces")
	}
	return found
}
