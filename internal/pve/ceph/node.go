package ceph

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
)

// InstallFlag is there while pveceph install runs. Left behind, it makes every pveceph command fail (reference §8.1).
const InstallFlag = "/run/pve-ceph-install-flag"

// Node is what one node says of its own part in Ceph, read in one round trip.
type Node struct {
	Host string
	Err  error // why nothing could be read
	// Unread are reads that failed although the thing is there, with the reason.
	Unread map[string]string

	Packages     map[string]string // ceph and its parts, to their versions
	Binary       bool              // /usr/bin/ceph-mon: ceph-common is on every node and proves nothing
	Flag         bool              // InstallFlag is there
	Installing   bool              // pveceph install runs
	Audit        string            // what dpkg --audit complains of; read only while the flag is there
	Subscription bool
	Repository   string
	// Link is what /etc/ceph/ceph.conf is: "" for nothing, "file", or where it points.
	Link    string
	Daemons map[string]Daemon // "mon.pve1"
	Disks   []Disk
	Links   map[string]string // /dev/disk/by-id/… to the device
	Volumes []Volume
}

// Daemon is a daemon whose folder is on the node.
type Daemon struct {
	Kind, ID string // "mon", "pve1"
	Unit     pve.Unit
}

// Volume is a part of an OSD: where its data, its database or its log lies.
type Volume struct {
	OSD  int
	Part string // block, block.db, block.wal
	// Paths are names of the device: a logical volume and what it resolves to, or disks.
	Paths []string
	FSID  string // of the Ceph cluster; "" if it was not asked for
	Class string
}

const (
	readSeconds = 10
	nodeTimeout = 45 * time.Second
)

// A node's reads. ceph-volume starts an interpreter, so it is asked only where logical volumes and running OSDs do not agree.
var nodeProbe = transport.Command{Timeout: nodeTimeout, Script: frame.Script(
	frame.Read{Name: "packages", Seconds: readSeconds, Command: `dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' ceph ceph-common ceph-mon ceph-mgr ceph-osd ceph-mds ceph-volume`},
	frame.Read{Name: "here", Seconds: readSeconds, Command: `sh -c 'for f in /usr/bin/ceph-mon ` + InstallFlag + ` /etc/subscription; do if [ -e "$f" ]; then echo "$f"; fi; done; if [ -L /etc/ceph/ceph.conf ]; then echo "link $(readlink /etc/ceph/ceph.conf)"; elif [ -e /etc/ceph/ceph.conf ]; then echo "link file"; fi'`},
	frame.Read{Name: "installing", Seconds: readSeconds, Command: `pgrep -f '[p]veceph install'`},
	frame.Read{Name: "audit", Seconds: readSeconds, Command: `sh -c 'if [ -e ` + InstallFlag + ` ]; then dpkg --audit; fi'`},
	frame.Read{Name: "repository", Seconds: readSeconds, Command: `sh -c 'for f in /etc/apt/sources.list.d/ceph.sources /etc/apt/sources.list.d/ceph.list; do if [ -e "$f" ]; then grep -H "" "$f"; fi; done'`},
	frame.Read{Name: "daemons", Seconds: readSeconds, Command: `sh -c 'set --; for k in mon mgr mds osd; do for d in /var/lib/ceph/$k/ceph-*; do if [ -d "$d" ]; then n=${d##*/ceph-}; echo "$k $n"; set -- "$@" "ceph-$k@$n"; fi; done; done; if [ $# -gt 0 ]; then echo; systemctl show -p Id,LoadState,ActiveState,SubState,UnitFileState "$@"; fi'`},
	frame.Read{Name: "disks", Seconds: readSeconds, Command: `lsblk -J -b -o NAME,KNAME,PATH,TYPE,SIZE,ROTA,FSTYPE,PTTYPE,MOUNTPOINTS,SERIAL,MODEL,UUID,PTUUID,PARTUUID`},
	frame.Read{Name: "links", Seconds: readSeconds, Command: `sh -c 'for l in /dev/disk/by-id/*; do if [ -L "$l" ]; then echo "$l $(readlink -f "$l")"; fi; done'`},
	frame.Read{Name: "osds", Seconds: readSeconds, Command: `sh -c 'for d in /var/lib/ceph/osd/ceph-*; do for v in block block.db block.wal; do if [ -L "$d/$v" ]; then echo "${d##*/ceph-} $v $(readlink "$d/$v") $(readlink -f "$d/$v")"; fi; done; done'`},
	frame.Read{Name: "volumes", Seconds: 3 * readSeconds, Command: `sh -c 'v=$(lsblk -rno NAME | grep -e -osd--block-- | sort -u | wc -l); o=0; for b in /var/lib/ceph/osd/ceph-*/block; do if [ -L "$b" ]; then o=$((o+1)); fi; done; if [ "$v" -ne "$o" ] && command -v ceph-volume >/dev/null; then ceph-volume lvm list --format json 2>/dev/null; fi'`},
)}

// ProbeNode is the command that ReadNode runs: the same text each time.
func ProbeNode() transport.Command { return nodeProbe }

// ReadNode reads a node. It returns a Node in every case.
func ReadNode(ctx context.Context, host string, conn transport.Conn) *Node {
	r, err := conn.Run(ctx, nodeProbe)
	if err != nil {
		return &Node{Host: host, Err: fmt.Errorf("read Ceph on %s: %w", host, err)}
	}
	return ParseNode(host, r.Stdout)
}

// ReadNodes reads hosts at once, in their order.
func ReadNodes(ctx context.Context, hosts []string, connect func(ctx context.Context, host string) (transport.Conn, error)) []*Node {
	nodes := make([]*Node, len(hosts))
	p := pool.New().WithMaxGoroutines(64)
	for i, host := range hosts {
		p.Go(func() {
			conn, err := connect(ctx, host)
			if err != nil {
				nodes[i] = &Node{Host: host, Err: err}
				return
			}
			nodes[i] = ReadNode(ctx, host, conn)
		})
	}
	p.Wait()
	return nodes
}

// ParseNode reads the output of ProbeNode.
func ParseNode(host string, out []byte) *Node {
	n := &Node{Host: host, Unread: map[string]string{}, Daemons: map[string]Daemon{}, Links: map[string]string{}}
	answers, err := frame.Parse(out)
	if err != nil {
		n.Err = fmt.Errorf("read Ceph on %s: %w", host, err)
		return n
	}
	text := func(name string, okay ...int) []byte {
		a := answers[name]
		if a.RC != 0 && !slices.Contains(okay, a.RC) {
			n.Unread[name] = "exit " + strconv.Itoa(a.RC) + ": " + strings.TrimSpace(string(a.Text))
			if a.Hung() {
				n.Unread[name] = "no answer within its time limit"
			}
			return nil
		}
		return a.Text
	}
	n.Packages = pve.ParsePackages(text("packages", 1)) // 1: one of them is not known
	n.here(text("here"))
	n.Installing = strings.TrimSpace(string(text("installing", 1))) != ""
	n.Audit = strings.TrimSpace(string(text("audit")))
	n.Repository = RepositoryOf(pve.ParseSourceFiles(text("repository", 1)))
	n.daemons(text("daemons"))
	if t := text("disks"); t != nil {
		if n.Disks, err = ParseDisks(t); err != nil {
			n.Unread["disks"] = err.Error()
		}
	}
	for line := range strings.Lines(string(text("links"))) {
		if name, device, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			n.Links[name] = device
		}
	}
	for line := range strings.Lines(string(text("osds"))) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		if id, err := strconv.Atoi(f[0]); err == nil && id >= 0 {
			n.Volumes = append(n.Volumes, Volume{OSD: id, Part: f[1], Paths: f[2:]})
		}
	}
	if t := strings.TrimSpace(string(text("volumes"))); t != "" {
		more, err := ParseVolumes([]byte(t))
		if err != nil {
			n.Unread["volumes"] = err.Error()
		}
		n.Volumes = append(n.Volumes, more...)
	}
	return n
}

func (n *Node) here(text []byte) {
	for line := range strings.Lines(string(text)) {
		switch line = strings.TrimSpace(line); {
		case line == "/usr/bin/ceph-mon":
			n.Binary = true
		case line == InstallFlag:
			n.Flag = true
		case line == "/etc/subscription":
			n.Subscription = true
		case strings.HasPrefix(line, "link "):
			n.Link = strings.TrimPrefix(line, "link ")
		}
	}
}

func (n *Node) daemons(text []byte) {
	list, units, _ := strings.Cut(string(text), "\n\n")
	states := pve.ParseUnits([]byte(units))
	for line := range strings.Lines(list) {
		if kind, id, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			n.Daemons[kind+"."+id] = Daemon{Kind: kind, ID: id, Unit: states["ceph-"+kind+"@"+id]}
		}
	}
}

// Daemon returns the daemon of a kind and id, if its folder is on the node.
func (n *Node) Daemon(kind, id string) (Daemon, bool) {
	if n == nil {
		return Daemon{}, false
	}
	d, ok := n.Daemons[kind+"."+id]
	return d, ok
}

// Installed reports whether Ceph can be used on the node: its programs are there and no installation is under way.
func (n *Node) Installed() bool { return n != nil && n.Binary && !n.Flag }

// Release is the name of the installed release, "" without one.
func (n *Node) Release() string { return ReleaseOf(n.Packages["ceph-mon"]) }

// Disk returns the whole disk that a path in /dev/disk/by-id stands for.
func (n *Node) Disk(byID string) (*Disk, bool) {
	device, ok := n.Links[byID]
	if !ok {
		return nil, false
	}
	for i := range n.Disks {
		if n.Disks[i].is(device) {
			return &n.Disks[i], true
		}
	}
	return nil, false
}

// Names lists the names in /dev/disk/by-id of a disk, the most telling first: World Wide Names come last.
func (n *Node) Names(d *Disk) []string {
	var names []string
	for name, device := range n.Links {
		if d.is(device) {
			names = append(names, name)
		}
	}
	wwn := func(s string) bool { return strings.Contains(s, "/wwn-") || strings.Contains(s, "/nvme-eui.") }
	slices.SortFunc(names, func(a, b string) int {
		if wwn(a) != wwn(b) {
			if wwn(a) {
				return 1
			}
			return -1
		}
		return strings.Compare(a, b)
	})
	return names
}
