// Package synthetic makes snapshots of clusters up that are larger than those at hand, for benchmarks and tests.
package synthetic

import (
	"fmt"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/snapshot"
)

// Size is how large a cluster is. Behind are the nodes, the first ones, for which updates wait; the others have them. HA are the
// guests, the first ones, that the HA manager keeps.
type Size struct{ Nodes, Guests, HA, Behind int }

const (
	gib       = int64(1) << 30
	old       = "9.1.8"
	now       = "9.2.2"
	qemuOld   = "10.1.2-4"
	qemuNow   = "10.1.2-6"
	serverOld = "9.1.6"
	serverNow = "9.1.9"
	lists     = 3600 // seconds
)

// Cluster is one on which a rolling upgrade fits: nodes of 256 GiB with two links, guests of 1 GiB on a shared storage. A tenth of
// the guests do not run, a tenth are containers.
func Cluster(size Size) *snapshot.Snapshot {
	s := &snapshot.Snapshot{
		Format: snapshot.Format, Taken: time.Unix(1732292083, 0).UTC(), From: "pve1", Cluster: "large",
		Files: map[string]string{
			"corosync.conf": corosync(size.Nodes),
			"storage.cfg": "dir: local\n\tpath /var/lib/vz\n\tcontent iso,vztmpl,backup\n\n" +
				"nfs: san\n\texport /srv/san\n\tpath /mnt/pve/san\n\tserver 192.0.2.90\n\tcontent images,rootdir\n\n",
		},
	}
	for i := 1; i <= size.Nodes; i++ {
		s.Nodes = append(s.Nodes, node(i, i <= size.Behind))
	}
	var resources strings.Builder
	for i := range size.Guests {
		g := guest(100+i, fmt.Sprintf("pve%d", 1+i%size.Nodes), i >= size.HA && i%10 == 7, i >= size.HA && i%10 == 3)
		s.Guests = append(s.Guests, g)
		if i < size.HA {
			fmt.Fprintf(&resources, "vm: %d\n\tstate started\n\n", g.ID)
		}
	}
	if size.HA > 0 {
		s.Files["ha/resources.cfg"] = resources.String()
	}
	return s
}

// Inventory is the site of the cluster in HCL.
func Inventory(size Size) string {
	var b strings.Builder
	b.WriteString("cluster \"large\" {\n")
	for i := 1; i <= size.Nodes; i++ {
		fmt.Fprintf(&b, "  node \"pve%d\" {\n    address = %q\n    links   = [\"10.0.1.%d\", \"10.0.2.%d\"]\n  }\n", i, address(i), i, i)
	}
	b.WriteString("}\n")
	return b.String()
}

// address is that of a node, of which there may be 230.
func address(i int) string { return fmt.Sprintf("198.51.100.%d", 10+i) }

func node(i int, behind bool) snapshot.Node {
	n := snapshot.Node{
		Name: fmt.Sprintf("pve%d", i), Address: address(i), Online: true, Version: now, Memory: 256 * gib, CPUs: 32, Lists: lists, Subscribed: true,
		Packages: map[string]string{"pve-manager": now, "pve-qemu-kvm": qemuNow, "qemu-server": serverNow},
	}
	if behind {
		n.Version = old
		n.Packages = map[string]string{"pve-manager": old, "pve-qemu-kvm": qemuOld, "qemu-server": serverOld}
		n.Updates = []snapshot.Update{
			{Name: "pve-manager", From: old, To: now}, {Name: "pve-qemu-kvm", From: qemuOld, To: qemuNow}, {Name: "qemu-server", From: serverOld, To: serverNow},
		}
	}
	return n
}

func guest(id int, node string, container, stopped bool) snapshot.Guest {
	if container {
		return snapshot.Guest{ID: id, Kind: "ct", Node: node, Running: !stopped, Config: fmt.Sprintf("cores: 1\nhostname: g%d\nmemory: 1024\nrootfs: san:%d/vm-%d-disk-0.raw,size=8G\n", id, id, id)}
	}
	return snapshot.Guest{ID: id, Kind: "vm", Node: node, Running: !stopped, Config: fmt.Sprintf("cores: 2\nmemory: 1024\nname: g%d\nscsi0: san:%d/vm-%d-disk-0.raw,size=8G\n", id, id, id)}
}

func corosync(nodes int) string {
	var b strings.Builder
	b.WriteString("nodelist {\n")
	for i := 1; i <= nodes; i++ {
		fmt.Fprintf(&b, "  node {\n    name: pve%d\n    nodeid: %d\n    quorum_votes: 1\n    ring0_addr: 10.0.1.%d\n    ring1_addr: 10.0.2.%d\n  }\n", i, i, i, i)
	}
	b.WriteString("}\n\nquorum {\n  provider: corosync_votequorum\n}\n\ntotem {\n  cluster_name: large\n  config_version: 1\n  interface {\n    linknumber: 0\n  }\n  interface {\n    linknumber: 1\n  }\n" +
		"  ip_version: ipv4-6\n  link_mode: passive\n  secauth: on\n  version: 2\n}\n")
	return b.String()
}
