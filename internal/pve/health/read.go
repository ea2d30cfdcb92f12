// Package health judges a cluster: membership and votes, the nodes, high availability, Ceph, storages, guests. It reads each
// node in one round trip, decides on values, and gives findings with the command to look and the remedy (reference §12.3).
package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/detach"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
)

const (
	readSeconds = 10
	// cephSeconds bounds the question to the monitors: without a quorum of them the client hangs for minutes.
	cephSeconds  = 15
	probeTimeout = 60 * time.Second
)

func read(name, command string) frame.Read {
	return frame.Read{Name: name, Seconds: readSeconds, Command: command, Pmxcfs: strings.Contains(command, "/etc/pve/")}
}

// nodeReads are what a node alone can tell, beyond its state.
var nodeReads = []frame.Read{
	read("h_load", `cat /proc/uptime /proc/loadavg`),
	read("h_df", `df -PB1 / /boot /var/lib/vz`),
	read("h_failed", `systemctl list-units --failed --no-legend --plain`),
	read("h_kernels", `sh -c 'for p in next-boot-pin proxmox-boot-pin; do if [ -s /etc/kernel/$p ]; then echo "pin $(cat /etc/kernel/$p)"; break; fi; done; ls /boot/vmlinuz-*-pve | sort -V | tail -n 1'`),
	read("h_replication", `cat /var/lib/pve-manager/pve-replication-state.json`),
	read("h_cert", `openssl x509 -enddate -noout -in /etc/pve/local/pve-ssl.pem`),
	read("h_tasks", `tail -n 30 /var/log/pve/tasks/index`),
	read("h_watchdog", `sh -c 'cat /sys/class/watchdog/watchdog0/identity; ls /run/watchdog-mux.active'`),
	read("h_osds", `ls /var/lib/ceph/osd`),
	read("h_jobs", detach.ListCommand("")),
	read("h_service", `sh -c 'if [ -e "$1" ]; then cat "$1"; fi' sh `+OutOfService),
}

// sharedReads are what every quorate node has alike. They are asked of two nodes, so that one may be away.
var sharedReads = []frame.Read{
	read("h_rrd", `cat /etc/pve/.rrd`),
	read("h_storage", `cat /etc/pve/storage.cfg`),
	read("h_locks", `sh -c 'cd /etc/pve/nodes && grep -Hs "^lock:" */qemu-server/*.conf */lxc/*.conf'`),
	read("h_mons", `grep "^\[mon\." /etc/pve/ceph.conf`),
	{Name: "h_ceph", Seconds: cephSeconds, Command: `sh -c 'if [ -e /etc/pve/ceph.conf ]; then exec ceph --connect-timeout 10 -s -f json; fi'`},
}

var (
	nodeProbe   = transport.Command{Timeout: probeTimeout, Script: frame.Script(slices.Concat(ownReads(), nodeReads)...)}
	sharedProbe = transport.Command{Timeout: probeTimeout, Script: frame.Script(slices.Concat(pve.NodeReads(), nodeReads, ha.Reads(), sharedReads)...)}
)

// ownGuests is the list of guests of a node that is in no cluster. A member's is the same on every node, and long.
const ownGuests = `sh -c 'if [ -e /etc/pve/corosync.conf ]; then echo "{}"; else exec cat /etc/pve/.vmlist; fi'`

// ownReads are the reads of a node's state, without the guests of the cluster.
func ownReads() []frame.Read {
	reads := pve.NodeReads()
	for i := range reads {
		if reads[i].Name == "guests" {
			reads[i] = read("guests", ownGuests)
		}
	}
	return reads
}

// witnesses are how many nodes are asked for what all have alike.
const witnesses = 2

// Probe is what Read runs on the i-th node of a cluster.
func Probe(i int) transport.Command {
	if i < witnesses {
		return sharedProbe
	}
	return nodeProbe
}

// Node is what one node says.
type Node struct {
	pve.NodeState
	answers map[string]frame.Answer
}

// Snapshot is what the nodes of a cluster said at one time.
type Snapshot struct {
	Nodes []Node
	// shared is the node whose word on what all have alike is taken; -1 if there is none.
	shared int
}

// Read reads nodes at once, each in one round trip. If none of the first two could tell what all have alike, or both have lost the quorum that
// others have, the others are asked one after the other.
func Read(ctx context.Context, hosts []string, connect func(ctx context.Context, host string) (transport.Conn, error)) Snapshot {
	s := Snapshot{Nodes: make([]Node, len(hosts)), shared: -1}
	p := pool.New().WithMaxGoroutines(64)
	for i, host := range hosts {
		p.Go(func() { s.Nodes[i] = readNode(ctx, host, Probe(i), connect) })
	}
	p.Wait()
	s.choose()
	for i := witnesses; i < len(hosts) && !s.decided() && ctx.Err() == nil; i++ {
		if s.Nodes[i].Err == nil && s.Nodes[i].Writable {
			s.Nodes[i] = readNode(ctx, hosts[i], sharedProbe, connect)
			s.choose()
		}
	}
	s.shareGuests()
	return s
}

// decided reports whether a quorate node has told what all have alike.
func (s *Snapshot) decided() bool { return s.shared >= 0 && s.Nodes[s.shared].Writable }

// shareGuests gives the members of the cluster the list of its guests, which only some of them were asked for. What a quorate node says counts
// more than what one without quorum remembers.
func (s *Snapshot) shareGuests() {
	if s.shared < 0 || s.Nodes[s.shared].Conf == nil {
		return
	}
	source := s.Nodes[s.shared].NodeState
	for i, n := range s.Nodes {
		if n.Conf != nil && n.Conf.ClusterName == source.Conf.ClusterName && (source.Writable || len(n.NodeState.Guests) == 0) {
			s.Nodes[i].NodeState.Guests = source.Guests
		}
	}
}

func readNode(ctx context.Context, host string, command transport.Command, connect func(ctx context.Context, host string) (transport.Conn, error)) Node {
	failed := func(err error) Node { return Node{NodeState: pve.NodeState{Host: host, Err: err}} }
	conn, err := connect(ctx, host)
	if err != nil {
		return failed(err)
	}
	r, err := conn.Run(ctx, command)
	if err != nil {
		return failed(fmt.Errorf("read the state of %s: %w", host, err))
	}
	return ParseNode(host, r.Stdout)
}

// ParseNode reads the output of a probe.
func ParseNode(host string, out []byte) Node {
	answers, err := frame.Parse(out)
	if err != nil {
		return Node{NodeState: pve.NodeState{Host: host, Err: fmt.Errorf("read the state of %s: %w", host, err)}}
	}
	return Node{NodeState: pve.NodeOf(host, answers), answers: answers}
}

// choose takes the word of the first node that is quorate and was asked; a node without quorum may tell old things, and is
// taken when there is no other.
func (s *Snapshot) choose() {
	s.shared = -1
	for i, n := range s.Nodes {
		if _, asked := n.answers["h_storage"]; !asked || n.Err != nil {
			continue
		}
		if n.Writable {
			s.shared = i
			return
		}
		if s.shared < 0 && n.Mounted {
			s.shared = i
		}
	}
}

// States are the nodes' own states.
func (s Snapshot) States() []pve.NodeState {
	out := make([]pve.NodeState, len(s.Nodes))
	for i, n := range s.Nodes {
		out[i] = n.NodeState
	}
	return out
}

// errAbsent is the answer to a read of what is not there.
var errAbsent = errors.New("not there")

// text is the answer to a read. A read of something that is not there gives errAbsent.
func (n Node) text(name string, okay ...int) (string, error) {
	a, asked := n.answers[name]
	switch {
	case !asked:
		return "", errAbsent
	case a.RC == 0 || slices.Contains(okay, a.RC):
		return string(a.Text), nil
	case a.Hung():
		return "", errors.New("no answer within its time limit")
	case strings.Contains(string(a.Text), "No such file or directory"), a.RC == 127:
		return "", errAbsent
	}
	return "", errors.New(strings.TrimSpace(string(a.Text)))
}
