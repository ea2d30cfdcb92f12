package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
)

// linkState is one link from a node to a peer, as knet sees it.
type linkState struct {
	number    int
	from, to  string
	connected bool
	mtu       int
	rtt       time.Duration
	downs     int
}

// peerState is a peer in a node's list with its links.
type peerState struct {
	id    int
	name  string
	local bool
	links []linkState
}

func (p peerState) reachable() bool {
	return slices.ContainsFunc(p.links, func(l linkState) bool { return l.connected })
}

// knetOverhead is what knet and its encryption take off a packet: 1500 leaves 1397.
const knetOverhead = 103

// peers lists all nodes of a node's config with their links. ok is false when corosync does not run.
func (n *Node) peers() (id int, out []peerState, ok bool) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	c := &n.coro
	if !c.running {
		return 0, nil, false
	}
	own, _ := c.conf.NodeByID(c.id)
	entries := slices.Clone(c.conf.Nodes())
	slices.SortFunc(entries, func(a, b ConfNode) int { return a.ID - b.ID })
	for _, entry := range entries {
		p := peerState{id: entry.ID, name: entry.Name, local: entry.ID == c.id}
		for _, link := range slices.Sorted(maps.Keys(entry.Rings)) {
			l := linkState{number: link, from: own.Rings[link], to: entry.Rings[link], downs: c.downs[entry.ID]}
			if p.local {
				l.connected, l.mtu = true, 65535
			} else {
				n.probe(&l, own, entry)
			}
			p.links = append(p.links, l)
		}
		out = append(out, p)
	}
	return c.id, out, true
}

// probe measures a link. The caller holds the lock.
func (n *Node) probe(l *linkState, own, peer ConfNode) {
	from, to := mustAddr(n.w.resolve(l.from)), mustAddr(n.w.resolve(l.to))
	if !from.IsValid() || !to.IsValid() {
		return
	}
	path := n.w.knet(from, to)
	other := n.w.nodes[peer.Name]
	l.rtt = path.RTT
	if other == nil || !other.coro.running || other.coro.key != n.coro.key {
		return
	}
	if _, known := other.coro.conf.NodeByID(n.coro.id); !known {
		return
	}
	if l.connected = n.w.linkUp(own, peer, l.number); l.connected {
		mtu := path.MTU
		if mtu == 0 {
			mtu = 1500
		}
		l.mtu = mtu - knetOverhead
	}
}

// cfgtool is the program corosync-cfgtool.
func (n *Node) cfgtool(_ context.Context, p *machine.Proc) int {
	args := p.Args()
	if len(args) == 0 {
		fmt.Fprintln(p.Stderr, "corosync-cfgtool [[-i <interface ip>] [-b] -s] [-R] [-L] [-k nodeid] [-a nodeid] [-h] [-H]")
		return 1
	}
	if !n.View().CorosyncRunning {
		fmt.Fprintln(p.Stderr, "Could not initialize corosync configuration API error CS_ERR_LIBRARY")
		return 1
	}
	switch args[0] {
	case "-s":
		n.cfgtoolStatus(p)
	case "-n":
		n.cfgtoolNodes(p)
	case "-R":
		return n.cfgtoolReload(p)
	case "-k":
		if len(args) < 2 {
			fmt.Fprintln(p.Stderr, "corosync-cfgtool: option requires an argument -- 'k'")
			return 1
		}
		return n.cfgtoolKill(p, args[1])
	default:
		fmt.Fprintf(p.Stderr, "corosync-cfgtool: invalid option -- '%s'\n", strings.TrimLeft(args[0], "-"))
		return 1
	}
	return 0
}

func (n *Node) cfgtoolStatus(p *machine.Proc) {
	id, peers, _ := n.peers()
	p.Printf("Local node ID %d, transport knet\n", id)
	for link := range maxLinks {
		var rows strings.Builder
		addr := ""
		for _, peer := range peers {
			for _, l := range peer.links {
				if l.number != link {
					continue
				}
				addr = l.from
				state := "disconnected"
				switch {
				case peer.local:
					state = "localhost"
				case l.connected:
					state = "connected"
				}
				fmt.Fprintf(&rows, "\t\tnodeid: %10d:\t%s\n", peer.id, state)
			}
		}
		if addr != "" {
			p.Printf("LINK ID %d udp\n\taddr\t= %s\n\tstatus:\n%s", link, addr, rows.String())
		}
	}
}

func (n *Node) cfgtoolNodes(p *machine.Proc) {
	id, peers, _ := n.peers()
	p.Printf("Local node ID %d, transport knet\n", id)
	for _, peer := range peers {
		if peer.local {
			continue
		}
		reachable := ""
		if peer.reachable() {
			reachable = " reachable"
		}
		p.Printf("nodeid: %d%s\n", peer.id, reachable)
		for _, l := range peer.links {
			connected := ""
			if l.connected {
				connected = " connected"
			}
			p.Printf("   LINK: %d udp (%s->%s) enabled%s mtu: %d\n", l.number, l.from, l.to, connected, l.mtu)
		}
		p.Println("")
	}
}

// cfgtoolReload makes corosync on all members read their local files.
func (n *Node) cfgtoolReload(p *machine.Proc) int {
	p.Println("Reloading corosync.conf...")
	for _, member := range n.memberNodes() {
		text, err := member.m.FS.ReadFile(localConfPath)
		if err == nil {
			err = member.reloadCorosync(string(text))
		}
		if err != nil && member == n {
			fmt.Fprintln(p.Stderr, "ERROR from reload: CS_ERR_INVALID_PARAM (see syslog)")
			return 1
		}
	}
	p.Println("Done")
	return 0
}

// memberNodes are the nodes of the current membership.
func (n *Node) memberNodes() []*Node {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	var out []*Node
	for _, id := range n.coro.members {
		if m := n.w.member(n, id); m != nil {
			out = append(out, m)
		}
	}
	return out
}

func (n *Node) cfgtoolKill(p *machine.Proc, arg string) int {
	id := 0
	if _, err := fmt.Sscan(arg, &id); err != nil || id < 1 {
		fmt.Fprintln(p.Stderr, "The nodeid was not valid, try a positive number")
		return 1
	}
	p.Printf("Killing node %d\n", id)
	victim, err := n.killNode(id)
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		return 1
	}
	victim.m.SetUnitState("corosync.service", "failed", "failed", "exit-code")
	return 0
}
