package rollingtest_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/ceph"
	"github.com/pxrun/pxrun/lab/disk"
	"github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/lab/storage"
)

// shape is a cluster with its guests, and how it is to be upgraded.
type shape struct {
	nodes   int
	pve     string
	arbiter bool // a QDevice votes
	ceph    bool // on the first three nodes
	rules   bool // HA rules (groups in Proxmox VE 8) for the HA guests
	guests  []placed
	args    []string // of the runbook: NAME=VALUE
	out     int      // how many nodes may be out at once
	current int      // how many nodes, the last ones, have nothing to do
}

// behind is how many nodes, the first ones, are to be upgraded.
func (s shape) behind() int { return s.nodes - s.current }

// placed is a guest on a node.
type placed struct {
	node string
	guest.Spec
	// ha makes it a resource of the HA manager; mayStop says that the policies of the run let it stop for a while, left that they
	// let it go down with its node.
	ha, mayStop, left bool
}

func (p placed) sid() string {
	if p.Type == "lxc" {
		return fmt.Sprintf("ct:%d", p.ID)
	}
	return fmt.Sprintf("vm:%d", p.ID)
}

// What the clusters run, and what is to become of it.
const (
	nine, nineNext   = "9.1.8", "9.2.2"
	eight, eightNext = "8.4.1", "8.4.14"
	subscription     = "pve1c-0123456789"
)

func (s shape) next() string {
	if s.pve == eight {
		return eightNext
	}
	return nineNext
}

func nodeName(i int) string { return fmt.Sprintf("pve%d", i) }

func (s shape) names() []string {
	var names []string
	for i := range s.nodes {
		names = append(names, nodeName(i+1))
	}
	return names
}

// spec is the lab of a shape.
func (s shape) spec(seed uint64) lab.Spec {
	spec := lab.Spec{Seed: seed}
	for i := 1; i <= s.nodes; i++ {
		h := lab.HostSpec{
			Name: nodeName(i), Address: fmt.Sprintf("192.0.2.%d", 10+i), PVE: s.pve, Subscription: subscription, Updates: []string{"release"},
			Links: []string{fmt.Sprintf("10.0.1.%d", i), fmt.Sprintf("10.0.2.%d", i), fmt.Sprintf("10.0.3.%d", i)}, MemoryMiB: 32 << 10,
		}
		if i > s.behind() {
			h.PVE, h.Updates, h.Versions = s.next(), nil, map[string]string{"pve-qemu-kvm": "10.1.2-6", "qemu-server": "9.1.9"}
		}
		if s.arbiter {
			h.Packages = []string{"corosync-qdevice"}
		}
		if s.ceph && i <= 3 {
			h.Disks = []disk.Spec{{ID: fmt.Sprintf("ata-ACME_SSD_%d", i)}}
		}
		spec.Hosts = append(spec.Hosts, h)
	}
	spec.Hosts = append(spec.Hosts, lab.HostSpec{Name: "nas", Address: "192.0.2.90", Exports: []storage.Export{{Kind: "nfs", Name: "/srv/san"}}})
	if s.arbiter {
		spec.Hosts = append(spec.Hosts, lab.HostSpec{Name: "arbiter", Address: "192.0.2.91", Packages: []string{"corosync-qnetd"}})
	}
	return spec
}

// formed is the state in which the cluster begins.
func (s shape) formed() lab.Formed {
	f := lab.Formed{
		Corosync: s.corosync(), Files: map[string]string{"storage.cfg": s.storages()}, HA: map[string]string{},
		Guests: map[string][]guest.Spec{}, Lists: map[string]time.Duration{},
	}
	resources, members := "", []string{}
	for _, g := range s.guests {
		f.Guests[g.node] = append(f.Guests[g.node], g.Spec)
		if g.ha {
			resources += fmt.Sprintf("%s: %d\n\tstate started\n", g.sid()[:2], g.ID)
			if s.rules && s.pve == eight {
				resources += "\tgroup preferred\n"
			}
			resources += "\n"
			members = append(members, g.sid())
		}
	}
	if resources != "" {
		f.HA["resources.cfg"] = resources
	}
	if s.rules && len(members) > 0 {
		var nodes []string
		for _, n := range s.names() {
			nodes = append(nodes, n+":1")
		}
		if s.pve == eight {
			f.HA["groups.cfg"] = fmt.Sprintf("group: preferred\n\tnodes %s\n\n", strings.Join(nodes, ","))
		} else {
			f.HA["rules.cfg"] = fmt.Sprintf("node-affinity: preferred\n\tresources %s\n\tnodes %s\n\n", strings.Join(members, ","), strings.Join(nodes, ","))
		}
	}
	if s.ceph {
		f.Ceph = s.cephCluster()
	}
	return f
}

func (s shape) corosync() string {
	var b strings.Builder
	b.WriteString("logging {\n  debug: off\n  to_syslog: yes\n}\n\nnodelist {\n")
	for i := 1; i <= s.nodes; i++ {
		fmt.Fprintf(&b, "  node {\n    name: %s\n    nodeid: %d\n    quorum_votes: 1\n    ring0_addr: 10.0.1.%d\n    ring1_addr: 10.0.2.%d\n  }\n", nodeName(i), i, i, i)
	}
	b.WriteString("}\n\nquorum {\n")
	if s.arbiter {
		b.WriteString("  device {\n    model: net\n    net {\n      algorithm: ffsplit\n      host: 192.0.2.91\n      tls: on\n    }\n    votes: 1\n  }\n")
	}
	b.WriteString("  provider: corosync_votequorum\n}\n\ntotem {\n  cluster_name: lab\n  config_version: 4\n  interface {\n    linknumber: 0\n  }\n  interface {\n    linknumber: 1\n  }\n" +
		"  ip_version: ipv4-6\n  link_mode: passive\n  secauth: on\n  version: 2\n}\n")
	return b.String()
}

func (s shape) storages() string {
	text := "dir: local\n\tpath /var/lib/vz\n\tcontent iso,vztmpl,backup\n\nlvmthin: local-lvm\n\tthinpool data\n\tvgname pve\n\tcontent rootdir,images\n\n" +
		"nfs: san\n\texport /srv/san\n\tpath /mnt/pve/san\n\tserver 192.0.2.90\n\tcontent images,rootdir\n\n"
	if s.ceph {
		text += "rbd: vm\n\tcontent images,rootdir\n\tkrbd 0\n\tpool vm\n\n"
	}
	return text
}

func (s shape) cephCluster() *ceph.Formed {
	f := &ceph.Formed{Packages: map[string]string{}, ActiveManager: "pve1"}
	f.Conf = "[global]\n\tauth_client_required = cephx\n\tauth_cluster_required = cephx\n\tauth_service_required = cephx\n\tcluster_network = 10.0.3.0/24\n" +
		"\tfsid = 6c5f1f43-5c3d-4f0e-9a53-0f6f3a1d9b21\n\tmon_allow_pool_delete = true\n\tmon_host = 10.0.3.1 10.0.3.2 10.0.3.3\n\tms_bind_ipv4 = true\n\tms_bind_ipv6 = false\n" +
		"\tosd_pool_default_min_size = 2\n\tosd_pool_default_size = 3\n\tpublic_network = 10.0.3.0/24\n\n[client]\n\tkeyring = /etc/pve/priv/$cluster.$name.keyring\n"
	version := "19.2.3-pve2"
	if s.pve == eight {
		version = "19.2.1-pve3"
	}
	for i := 1; i <= 3; i++ {
		n := nodeName(i)
		f.Conf += fmt.Sprintf("\n[mon.%s]\n\tpublic_addr = 10.0.3.%d\n", n, i)
		f.Packages[n] = version
		f.Mons = append(f.Mons, ceph.FormedDaemon{ID: n, Node: n})
		f.Mgrs = append(f.Mgrs, ceph.FormedDaemon{ID: n, Node: n})
		f.OSDs = append(f.OSDs, ceph.FormedOSD{ID: i - 1, Node: n, Host: n, Class: "ssd", Device: fmt.Sprintf("/dev/disk/by-id/ata-ACME_SSD_%d", i), Up: true, In: true})
	}
	f.Pools = []ceph.FormedPool{
		{ID: 1, Name: ".mgr", Size: 3, MinSize: 2, PGs: 1, Rule: "replicated_rule", Applicant: "mgr"},
		{ID: 2, Name: "vm", Size: 3, MinSize: 2, PGs: 32, Rule: "replicated_rule", Applicant: "rbd"},
	}
	return f
}

// site is the inventory of a lab.
func (s shape) site(l *lab.Lab, key string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster \"lab\" {\n  ssh {\n    user          = \"root\"\n    identity_file = %q\n  }\n", key)
	for _, h := range l.Spec().Hosts {
		if !slices.Contains(s.names(), h.Name) {
			continue
		}
		hostKey, err := l.Machine(h.Name).FS.ReadFile("/etc/ssh/ssh_host_ed25519_key.pub")
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "  node %q {\n    address  = %q\n    host_key = %q\n    links    = [%q, %q]\n  }\n", h.Name, h.Address, strings.TrimSpace(string(hostKey)), h.Links[0], h.Links[1])
	}
	b.WriteString("}\n")
	return b.String(), nil
}
