package cluster

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
)

// quorumStatus is what corosync-quorumtool shows of one node.
type quorumStatus struct {
	date         time.Time
	id           int
	ring         ring
	tally        tally
	members      []quorumMember
	deviceSeen   bool // a device is or was registered: there is a column for it
	deviceVotes  int  // that it casts now
	deviceWeight int  // that it may cast
}

type quorumMember struct {
	id, votes   int
	name, addr  string
	local       bool
	deviceFlags voterFlags
}

// quorumStatus reads a node's view of membership and votes. ok is false when corosync does not run.
func (n *Node) quorumStatus() (s quorumStatus, ok bool) {
	date := n.m.Now()
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	c := &n.coro
	if !c.running {
		return s, false
	}
	s = quorumStatus{date: date, id: c.id, ring: c.ring, tally: n.tally(), deviceSeen: n.deviceSeen(), deviceVotes: n.deviceCast()}
	if d, ok := c.conf.Device(); ok {
		s.deviceWeight = d.Votes
	}
	for _, id := range c.members {
		entry, known := c.conf.NodeByID(id)
		if !known {
			entry = n.w.entryOf(n, id)
		}
		s.members = append(s.members, quorumMember{
			id: id, votes: entry.Votes, name: entry.Name, addr: n.w.resolve(ringAddr(entry)), local: id == c.id, deviceFlags: c.flags[id],
		})
	}
	return s, true
}

// entryOf finds how a member that n's config does not name yet describes itself. The caller holds the lock.
func (w *World) entryOf(n *Node, id int) ConfNode {
	for _, other := range w.nodes {
		if other.coro.running && other.coro.id == id && other.coro.key == n.coro.key {
			if entry, ok := other.coro.conf.NodeByID(id); ok {
				return entry
			}
		}
	}
	return ConfNode{ID: id}
}

// display says how ids and names are written.
type display struct{ hex, ip bool }

func (d display) id(n int) string {
	if d.hex {
		return fmt.Sprintf("0x%08x", n)
	}
	return strconv.Itoa(n)
}

func (d display) name(m quorumMember) string {
	if d.ip {
		return m.addr
	}
	return m.name
}

func (s quorumStatus) writeStatus(w io.Writer, d display) {
	quorate, blocked, flags := "Yes", " ", "Quorate "
	if !s.tally.quorate {
		quorate, blocked, flags = "No", "Activity blocked", ""
	}
	if s.deviceSeen {
		flags += "Qdevice "
	}
	fmt.Fprintf(w, "Quorum information\n------------------\n")
	fmt.Fprintf(w, "Date:             %s\n", s.date.UTC().Format(time.ANSIC))
	fmt.Fprintf(w, "Quorum provider:  corosync_votequorum\n")
	fmt.Fprintf(w, "Nodes:            %d\n", len(s.members))
	fmt.Fprintf(w, "Node ID:          %s\n", d.id(s.id))
	fmt.Fprintf(w, "Ring ID:          %s\n", s.ring)
	fmt.Fprintf(w, "Quorate:          %s\n\n", quorate)
	fmt.Fprintf(w, "Votequorum information\n----------------------\n")
	fmt.Fprintf(w, "Expected votes:   %d\n", s.tally.expected)
	fmt.Fprintf(w, "Highest expected: %d\n", s.tally.expected)
	fmt.Fprintf(w, "Total votes:      %d\n", s.tally.total)
	fmt.Fprintf(w, "Quorum:           %d %s\n", s.tally.quorum, blocked)
	fmt.Fprintf(w, "Flags:            %s\n", flags)
	s.writeMembers(w, d)
}

func (s quorumStatus) writeMembers(w io.Writer, d display) {
	fmt.Fprintf(w, "\nMembership information\n----------------------\n")
	fmt.Fprintf(w, "%10s %10s ", "Nodeid", "Votes")
	if s.deviceSeen {
		fmt.Fprintf(w, "%10s ", "Qdevice")
	}
	fmt.Fprintln(w, "Name")
	for _, m := range s.members {
		fmt.Fprintf(w, "%10s %10d ", d.id(m.id), m.votes)
		if s.deviceSeen {
			fmt.Fprintf(w, "%10s ", m.deviceFlags)
		}
		fmt.Fprint(w, d.name(m))
		if m.local {
			fmt.Fprint(w, " (local)")
		}
		fmt.Fprintln(w)
	}
	if !s.deviceSeen {
		return
	}
	fmt.Fprintf(w, "%10s %10d %10s Qdevice", d.id(0), s.deviceVotes, "")
	if s.deviceVotes == 0 {
		fmt.Fprintf(w, " (votes %d)", s.deviceWeight)
	}
	fmt.Fprintln(w)
}

// quorumtool is the program corosync-quorumtool.
func (n *Node) quorumtool(_ context.Context, p *machine.Proc) int {
	var d display
	action, expected := 's', ""
	args := p.Args()
	for i := 0; i < len(args); i++ {
		letters, ok := strings.CutPrefix(args[i], "-")
		if !ok || letters == "" {
			fmt.Fprintln(p.Stderr, "usage: corosync-quorumtool <options>")
			return 1
		}
		for at, letter := range letters {
			switch letter {
			case 'H':
				d.hex = true
			case 'i':
				d.ip = true
			case 's', 'l':
				action = letter
			case 'e':
				action, expected = 'e', letters[at+1:]
				if expected == "" && i+1 < len(args) {
					i++
					expected = args[i]
				}
			case 'V':
				action = 'V'
			case 'h':
				action = 'h'
			default:
				if action != 'e' {
					fmt.Fprintf(p.Stderr, "corosync-quorumtool: invalid option -- '%c'\n", letter)
					return 1
				}
			}
			if action == 'e' {
				break
			}
		}
	}
	return n.runQuorumtool(p, action, d, expected)
}

func (n *Node) runQuorumtool(p *machine.Proc, action rune, d display, expected string) int {
	switch action {
	case 'V':
		p.Println("corosync-quorumtool version: 3.1.9")
		return 0
	case 'h':
		p.Println("usage: corosync-quorumtool <options>")
		return 0
	case 'e':
		votes, err := strconv.Atoi(expected)
		if err != nil || votes < 1 {
			fmt.Fprintln(p.Stderr, "New expected votes value was not valid, try a positive number")
			return 1
		}
		if err := n.setExpected(votes); err != nil {
			fmt.Fprintln(p.Stderr, err)
			return 1
		}
		return 0
	}
	s, ok := n.quorumStatus()
	if !ok {
		fmt.Fprintln(p.Stderr, errNoCorosync)
		return 1
	}
	if action == 'l' {
		s.writeMembers(p.Stdout, d)
		return 0
	}
	s.writeStatus(p.Stdout, d)
	if !s.tally.quorate {
		return 2
	}
	return 0
}

// mustAddr parses an address that the model made itself.
func mustAddr(s string) netip.Addr {
	a, _ := netip.ParseAddr(s)
	return a
}
