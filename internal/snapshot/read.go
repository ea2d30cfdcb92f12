package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/pve/storage"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
)

// Connect dials a node by its name and the address that the cluster knows it by.
type Connect func(ctx context.Context, name, address string) (transport.Conn, error)

// asked is how many nodes are read at once.
const asked = 16

const fileSeconds = 10

// files are the files of /etc/pve that are read whole, by the names of their reads.
var files = map[string]string{
	"corosync": "corosync.conf", "storage": "storage.cfg", "datacenter": "datacenter.cfg", "replication": "replication.cfg", "jobs": "jobs.cfg", "users": "user.cfg",
	"ceph": "ceph.conf", "resources": "ha/resources.cfg", "groups": "ha/groups.cfg", "rules": "ha/rules.cfg",
	"pci": "mapping/pci.cfg", "usb": "mapping/usb.cfg", "directory": "mapping/directory.cfg",
}

// sharedProbe reads what all nodes have alike. Of user.cfg and of guests' configs only lines that may get into a snapshot leave
// the node.
var sharedProbe = func() transport.Command {
	reads := []frame.Read{
		{Name: "members", Seconds: fileSeconds, Command: "cat /etc/pve/.members", Pmxcfs: true},
		{Name: "manager", Seconds: fileSeconds, Command: "cat /etc/pve/ha/manager_status", Pmxcfs: true},
		{Name: "rrd", Seconds: fileSeconds, Command: "cat /etc/pve/.rrd", Pmxcfs: true},
		{Name: "configs", Seconds: 3 * fileSeconds, Pmxcfs: true, Command: `sh -c 'head -v -n 100000 /etc/pve/nodes/*/qemu-server/*.conf /etc/pve/nodes/*/lxc/*.conf 2>/dev/null | grep -E "` + guestGrep + `"; :'`},
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		command := "cat /etc/pve/" + files[name]
		if name == "users" {
			command = `sh -c 'grep ^pool: /etc/pve/user.cfg; :'`
		}
		reads = append(reads, frame.Read{Name: name, Seconds: fileSeconds, Command: command, Pmxcfs: true})
	}
	return transport.Command{Script: frame.Script(reads...), Timeout: 2 * time.Minute}
}()

// reader gathers a snapshot.
type reader struct {
	*Snapshot
	connect Connect
	states  map[string]pve.NodeState
	rows    map[string]map[string]storage.Row
	running map[string]map[int]guest.Kind
	// statuses are what the cluster last heard of guests, for those of nodes that cannot be asked.
	statuses map[int]string
	ceph     map[string]*ceph.Node
}

// Read reads a cluster: what is shared from the given node, then every node. A node that cannot be read is told in Notes.
func Read(ctx context.Context, host string, conn transport.Conn, connect Connect) (*Snapshot, error) {
	first := pve.ReadNode(ctx, host, conn, pve.Options{})
	switch {
	case first.Err != nil:
		return nil, first.Err
	case !first.IsPVE():
		return nil, fmt.Errorf("%s is no Proxmox VE node (look: pveversion)", host)
	case !first.Mounted:
		return nil, fmt.Errorf("%s has no /etc/pve now (look: systemctl status pve-cluster)", host)
	case !first.Writable:
		return nil, fmt.Errorf("%s is not quorate, so that what it has of the cluster may be old: ask a node of the other part (look: pvecm status)", host)
	}
	r := &reader{
		Snapshot: &Snapshot{Format: Format, From: first.Hostname, Files: map[string]string{}}, connect: connect,
		states: map[string]pve.NodeState{}, running: map[string]map[int]guest.Kind{}, statuses: map[int]string{}, ceph: map[string]*ceph.Node{},
	}
	if first.Conf != nil {
		r.Cluster = first.Conf.ClusterName
	}
	guests, err := r.shared(ctx, conn)
	if err != nil {
		return nil, err
	}
	if err := r.nodes(ctx, first, conn); err != nil {
		return nil, err
	}
	r.guests(guests)
	return r.Snapshot, r.askCeph(ctx, conn)
}

func (r *reader) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// shared reads the files of /etc/pve, and returns the configs of the guests.
func (r *reader) shared(ctx context.Context, conn transport.Conn) ([]byte, error) {
	result, err := conn.Run(ctx, sharedProbe)
	if err != nil {
		return nil, fmt.Errorf("read the cluster from %s: %w", r.From, err)
	}
	answers, err := frame.Parse(result.Stdout)
	if err != nil {
		return nil, fmt.Errorf("read the cluster from %s: %w", r.From, err)
	}
	for name, file := range files {
		text, why := answers[name].Found()
		if why != "" {
			return nil, fmt.Errorf("%s: the read of /etc/pve/%s failed: %s (look: ls -l /etc/pve; systemctl status pve-cluster)", r.From, file, why)
		}
		if kept := keep(file, text); strings.TrimSpace(kept) != "" {
			r.Files[file] = kept
		}
	}
	if text, _ := answers["manager"].Found(); len(text) > 0 {
		if m, err := ha.ParseManager(text); err == nil {
			r.Maintenance = slices.Sorted(slices.Values(m.Maintenance))
		}
	}
	r.rows = storage.ParseRows(answers["rrd"].Text)
	for line := range strings.Lines(string(answers["rrd"].Text)) {
		f := strings.Split(line, ":")
		kind, id, _ := strings.Cut(f[0], "/")
		if n, err := strconv.Atoi(id); err == nil && strings.Contains(kind, "-vm") && len(f) > 3 {
			r.statuses[n] = f[3]
		}
	}
	if a := answers["configs"]; a.RC != 0 {
		return nil, fmt.Errorf("%s: the guests' configs could not be read: %s", r.From, strings.TrimSpace(string(a.Text)))
	}
	return answers["configs"].Text, nil
}

// nodes reads all nodes at once.
func (r *reader) nodes(ctx context.Context, first pve.NodeState, conn transport.Conn) error {
	type place struct{ name, address string }
	var places []place
	conf, err := r.Conf()
	if err != nil {
		return err
	}
	if conf == nil {
		places = []place{{first.Hostname, ""}}
	} else {
		entries := slices.Clone(conf.Nodes)
		slices.SortFunc(entries, func(a, b pve.ConfNode) int { return a.ID - b.ID })
		for _, n := range entries {
			address := n.Links[0]
			if m, ok := first.Members.Member(n.Name); ok && m.IP != "" {
				address = m.IP
			}
			places = append(places, place{n.Name, address})
		}
	}
	r.Nodes = make([]Node, len(places))
	running, disks, why := make([]map[int]guest.Kind, len(places)), make([]*ceph.Node, len(places)), make([][]string, len(places))
	work := pool.New().WithMaxGoroutines(asked)
	for i, p := range places {
		work.Go(func() {
			c, err := conn, error(nil)
			if p.name != first.Hostname {
				c, err = r.connect(ctx, p.name, p.address)
			}
			if err != nil {
				r.Nodes[i], why[i] = Node{Name: p.name, Address: p.address}, []string{fmt.Sprintf("%s cannot be reached: %v", p.name, err)}
				return
			}
			r.Nodes[i], running[i], disks[i], why[i] = readNode(ctx, p.name, p.address, c)
		})
	}
	work.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for i, p := range places {
		r.Notes = append(r.Notes, why[i]...)
		if running[i] != nil {
			r.running[p.name] = running[i]
		}
		if disks[i] != nil {
			r.ceph[p.name] = disks[i]
		}
		for id, row := range r.rows[p.name] {
			if r.Nodes[i].Storages == nil {
				r.Nodes[i].Storages = map[string]Space{}
			}
			r.Nodes[i].Storages[id] = Space{Total: row.Total, Used: row.Used}
		}
	}
	if !slices.ContainsFunc(r.Nodes, func(n Node) bool { return n.Online }) {
		return errors.New("no node could be read: " + strings.Join(r.Notes, "; "))
	}
	return nil
}

// guests takes the configs apart and says who runs.
func (r *reader) guests(text []byte) {
	var body strings.Builder
	var g *Guest
	flush := func() {
		if g != nil {
			g.Config = keepConfig(body.String())
			if on, known := r.running[g.Node]; known {
				_, g.Running = on[g.ID]
			} else {
				g.Running = r.statuses[g.ID] == "running"
			}
			r.Guests = append(r.Guests, *g)
		}
		g = nil
		body.Reset()
	}
	for line := range strings.Lines(string(text)) {
		header, ok := strings.CutPrefix(strings.TrimSpace(line), "==> /etc/pve/nodes/")
		if !ok {
			body.WriteString(line)
			continue
		}
		flush()
		f := strings.Split(strings.TrimSuffix(header, ".conf <=="), "/")
		if len(f) != 3 {
			continue
		}
		id, err := strconv.Atoi(f[2])
		_, member := r.Node(f[0])
		if err != nil || !member { // a folder that a node left behind
			continue
		}
		g = &Guest{ID: id, Kind: map[string]string{"qemu-server": "vm", "lxc": "ct"}[f[1]], Node: f[0]}
	}
	flush()
	slices.SortFunc(r.Guests, func(a, b Guest) int { return a.ID - b.ID })
}

// askCeph reads the Ceph cluster, if there is one.
func (r *reader) askCeph(ctx context.Context, conn transport.Conn) error {
	if r.Files["ceph.conf"] == "" {
		return nil
	}
	c, err := ceph.ReadCluster(ctx, r.From, conn)
	if err != nil {
		return err
	}
	switch {
	case !c.Conf.Inited():
		delete(r.Files, "ceph.conf")
	case !c.Answers:
		return fmt.Errorf("Ceph is set up and does not answer, so that a copy without it would not be the cluster: %s (look: ceph -s)", c.Silence) //nolint:staticcheck // a name
	default:
		r.Ceph = cephOf(c, r.ceph, activeManager(ctx, conn))
		for _, o := range r.Ceph.OSDs {
			if o.Device == "" {
				r.note("on which disk osd.%d lies could not be told", o.ID)
			}
		}
		if len(r.Ceph.Mons) == 0 {
			return errors.New("Ceph has no monitor on a node that could be read") //nolint:staticcheck // a name
		}
	}
	return nil
}

// System reports whether a disk of a node carries its system.
func system(d ceph.Disk) bool {
	if slices.Contains(d.Mounts, "/") || slices.Contains(d.Mounts, "[SWAP]") || slices.Contains(d.Mounts, "/boot/efi") || d.FS == "zfs_member" && strings.HasSuffix(d.Name, "3") {
		return true
	}
	return slices.ContainsFunc(d.Below, system)
}

// disksOf are the whole disks of a node.
func disksOf(n *ceph.Node) []Disk {
	var out []Disk
	for i := range n.Disks {
		d := &n.Disks[i]
		if d.Type != "disk" || d.Size == 0 {
			continue
		}
		out = append(out, Disk{Device: cmp.Or(d.Kernel, d.Name), Names: n.Names(d), Size: d.Size, Model: d.Model, Serial: d.Serial, Spins: d.Spins, System: system(*d)})
	}
	slices.SortFunc(out, func(a, b Disk) int { return strings.Compare(a.Device, b.Device) })
	return out
}
