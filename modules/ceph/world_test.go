package ceph

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

const fsid = "6f1c0f3e-0a5c-4e4b-8a53-5b7a6f0f0a01"

// site is a handful of nodes that answer this package's reads from plain values, which a test sets as it likes. What is
// run is noted and goes to act. It knows no timing: package lab does.
type site struct {
	tb    testing.TB
	order []string
	nodes map[string]*fake

	inited       bool
	public       string
	private      string
	keyring      bool
	confMons     []string
	confMDS      []string
	storages     string
	silent       bool // the monitors do not answer
	quorum       []string
	osds         []fakeOSD
	pools        []map[string]any
	rules        []map[string]any
	filesystems  []map[string]any
	profiles     map[string]any
	flags        []string
	nodeFlags    map[string][]string
	active       []string // metadata servers
	standby      int
	pgs          string
	health       string
	used, avail  int64
	checks       map[string]any
	act          func(host, command string) (stdout, stderr string, exit int)
	mu           sync.Mutex
	ran          []string
	clusterReads []string
}

type fake struct {
	name      string
	release   string // of pve-manager
	ceph      string // of ceph-mon, "" for none
	flag      bool
	running   bool // pveceph install
	audit     string
	sub       bool
	repo      string
	link      string
	daemons   map[string]string // "mon.pve1" → "active", "inactive disabled"
	disks     map[string]string // kernel name → content: "", "ext4", "osd:0", "db:0", "mounted", "part"
	serials   map[string]string
	addresses []string
	down      error
	readonly  bool
	stranger  bool   // in no cluster
	hanging   bool   // reads of its pmxcfs reach their limit
	also      string // one more link of by-id
}

type fakeOSD struct {
	id           int
	up, in       bool
	host, class  string
	node, device string
	state        []string // further words of its state
}

// newSite makes fresh nodes of a formed cluster: Ceph's packages are not there. Each has the disks sdb and sdc, "ata-<node>-b"
// and "…-c", and a disk for databases.
func newSite(tb testing.TB, names ...string) *site {
	tb.Helper()
	s := &site{tb: tb, order: names, nodes: map[string]*fake{}, pgs: `{"state_name":"active+clean","count":33}`, health: "HEALTH_OK", used: 1e12, avail: 9e12}
	for i, name := range names {
		s.nodes[name] = &fake{
			name: name, release: "9.1.4", sub: true, daemons: map[string]string{}, disks: map[string]string{"sdb": "", "sdc": "", "nvme0n1": ""}, serials: map[string]string{},
			addresses: []string{fmt.Sprintf("192.0.2.%d/24", 11+i), fmt.Sprintf("10.0.3.%d/24", 1+i)},
		}
		for dev := range s.nodes[name].disks {
			s.nodes[name].serials[dev] = name + "-" + dev
		}
	}
	return s
}

// made is a site with a whole Ceph cluster: three monitors and managers, an OSD on each node's sdb, the pool vm.
func made(tb testing.TB) *site {
	tb.Helper()
	s := newSite(tb, "pve1", "pve2", "pve3")
	s.inited, s.keyring, s.public = true, true, "10.0.3.0/24"
	for i, name := range s.order {
		n := s.nodes[name]
		n.ceph, n.link = "19.2.3-pve2", "/etc/pve/ceph.conf"
		n.daemons["mon."+name], n.daemons["mgr."+name], n.daemons[fmt.Sprintf("osd.%d", i)] = "active", "active", "active"
		n.disks["sdb"] = fmt.Sprintf("osd:%d", i)
		s.confMons, s.quorum = append(s.confMons, name), append(s.quorum, name)
		s.osds = append(s.osds, fakeOSD{id: i, up: true, in: true, host: name, class: "ssd", node: name, device: "sdb=ACME_" + name + "-sdb"})
	}
	s.rules = []map[string]any{rule(0, "replicated_rule", "default")}
	s.pools = []map[string]any{replicated(1, ".mgr", "mgr"), replicated(2, "vm", "rbd")}
	return s
}

func rule(id int, name, take string) map[string]any {
	return map[string]any{"rule_id": id, "rule_name": name, "type": 1, "steps": []any{
		map[string]any{"op": "take", "item_name": take}, map[string]any{"op": "chooseleaf_firstn", "type": "host"}, map[string]any{"op": "emit"},
	}}
}

func replicated(id int, name, application string) map[string]any {
	return map[string]any{
		"pool": id, "pool_name": name, "type": 1, "size": 3, "min_size": 2, "crush_rule": 0, "pg_num": 32, "pg_autoscale_mode": "on",
		"application_metadata": map[string]any{application: map[string]any{}}, "options": map[string]any{},
	}
}

// byIDOf is the lasting name of a node's disk.
func byIDOf(node, device string) string { return "/dev/disk/by-id/ata-ACME_" + node + "-" + device }

// target is the engine's stand-in for a runbook on the cluster "lab".
func (s *site) target() *testkit.Target {
	whole := &inventory.Site{}
	t := &testkit.Target{TB: s.tb, Whole: whole, Conns: map[string]transport.Conn{}, RunID: "run1", Named: "vm"}
	for i, name := range s.order {
		whole.Hosts = append(whole.Hosts, inventory.Host{Name: name, Address: fmt.Sprintf("192.0.2.%d", 11+i), Cluster: "lab", Node: &inventory.Node{
			Votes: 1, Links: []inventory.Link{{Address: netip.AddrFrom4([4]byte{10, 0, 1, byte(1 + i)})}},
		}})
		t.Conns[name] = &fakeConn{s: s, n: s.nodes[name]}
	}
	cluster := &inventory.Cluster{Name: "lab", Nodes: s.order}
	whole.Clusters = []*inventory.Cluster{cluster}
	t.In, t.All, t.Of = cluster, whole.Hosts, whole.Hosts[0]
	return t
}

// osdsOf writes disks of a node into the inventory.
func osdsOf(t *testkit.Target, node string, osds ...inventory.OSD) {
	for i := range t.Whole.Hosts {
		if t.Whole.Hosts[i].Name == node {
			t.Whole.Hosts[i].Node.OSDs = osds
		}
	}
}

type fakeConn struct {
	s *site
	n *fake
}

func (c *fakeConn) Run(_ context.Context, cmd transport.Command) (transport.Result, error) {
	if c.n.down != nil {
		return transport.Result{}, c.n.down
	}
	s, text := c.s, testkit.Text(cmd)
	reply := func(out string) (transport.Result, error) { return transport.Result{Stdout: []byte(out)}, nil }
	switch {
	case strings.Contains(cmd.Script, "\np conf 10 cat /etc/pve/ceph.conf"):
		s.mu.Lock()
		s.clusterReads = append(s.clusterReads, c.n.name)
		s.mu.Unlock()
		return reply(s.cluster(c.n))
	case strings.Contains(cmd.Script, "\nc disks 10 lsblk"):
		return reply(c.n.local())
	case strings.Contains(cmd.Script, "@@%s begin"):
		return reply(s.snapshot(c.n))
	case strings.HasSuffix(text, "-s -f json"):
		if s.silent {
			return transport.Result{Stderr: []byte("[errno 110] RADOS timed out\n"), Exit: 1}, nil
		}
		return reply(s.status())
	}
	s.mu.Lock()
	s.ran = append(s.ran, c.n.name+": "+text)
	s.mu.Unlock()
	if s.act == nil {
		s.tb.Errorf("%s: unexpected command %s", c.n.name, text)
		return transport.Result{Exit: 127}, nil
	}
	out, errText, exit := s.act(c.n.name, text)
	return transport.Result{Stdout: []byte(out), Stderr: []byte(errText), Exit: exit}, nil
}

func (c *fakeConn) Batch(ctx context.Context, cs []transport.Command) ([]transport.Result, error) {
	results := make([]transport.Result, len(cs))
	for i, cmd := range cs {
		r, err := c.Run(ctx, cmd)
		if err != nil {
			return nil, err
		}
		results[i] = r
	}
	return results, nil
}

func (c *fakeConn) Put(context.Context, transport.File) error { return nil }

func (c *fakeConn) Get(context.Context, string, io.Writer) error { return nil }

func (c *fakeConn) Close() error { return nil }

// frames writes the output of a snapshot script.
func frames(parts ...any) string {
	var b strings.Builder
	b.WriteString("@@n begin\n")
	for i := 0; i < len(parts); i += 3 {
		fmt.Fprintf(&b, "@@n %s\n%s\n@@n rc %d\n", parts[i], parts[i+1], parts[i+2])
	}
	return b.String() + "@@n end\n"
}

func (s *site) snapshot(n *fake) string {
	var addrs []string
	for i, a := range n.addresses {
		ip, bits, _ := strings.Cut(a, "/")
		addrs = append(addrs, fmt.Sprintf(`{"ifname":"eth%d","mtu":1500,"operstate":"UP","addr_info":[{"local":%q,"prefixlen":%s}]}`, i, ip, bits))
	}
	mode := "755"
	if n.readonly {
		mode = "555"
	}
	parts := []any{
		"id", "uid 0\nhostname " + n.name + "\n", 0, "addr", "[" + strings.Join(addrs, ",") + "]", 0, "pmxcfs", "nodes/" + n.name + "\n" + mode + "\n", 0,
		"packages", "pve-manager " + n.release + " installed\n", 0,
	}
	if n.release == "" {
		parts = parts[:9]
	}
	if n.stranger {
		return frames(append(parts, "members", fmt.Sprintf(`{"nodename":%q,"version":1}`, n.name), 0, "conf", "cat: No such file or directory", 1, "localconf", "cat: No such file or directory", 1)...)
	}
	var list, nodes []string
	for i, name := range s.order {
		if s.nodes[name].stranger {
			continue
		}
		list = append(list, fmt.Sprintf(`%q:{"id":%d,"online":1,"ip":"192.0.2.%d"}`, name, i+1, 11+i))
		nodes = append(nodes, fmt.Sprintf("  node {\n    name: %s\n    nodeid: %d\n    quorum_votes: 1\n    ring0_addr: 10.0.1.%d\n  }\n", name, i+1, i+1))
	}
	conf := "nodelist {\n" + strings.Join(nodes, "") + "}\ntotem {\n  cluster_name: lab\n  config_version: 3\n}\n"
	if n.hanging {
		return frames(append(parts, "members", "", 124, "conf", "", 124, "localconf", conf, 0)...)
	}
	return frames(append(parts,
		"members", fmt.Sprintf(`{"nodename":%q,"version":1,"cluster":{"name":"lab","version":3,"nodes":%d,"quorate":1},"nodelist":{%s}}`, n.name, len(list), strings.Join(list, ",")), 0,
		"conf", conf, 0, "localconf", conf, 0)...)
}

func (n *fake) local() string {
	packages := ""
	here := ""
	if n.ceph != "" {
		packages = "ceph-mon " + n.ceph + " installed\n"
		here = "/usr/bin/ceph-mon\n"
	}
	if n.flag {
		here += "/run/pve-ceph-install-flag\n"
	}
	if n.sub {
		here += "/etc/subscription\n"
	}
	if n.link != "" {
		here += "link " + n.link + "\n"
	}
	installing := ""
	if n.running {
		installing = "4711\n"
	}
	repo := ""
	if n.repo != "" {
		for _, line := range []string{"Types: deb", "URIs: http://download.proxmox.com/debian/ceph-squid", "Suites: trixie", "Components: " + n.repo} {
			repo += "/etc/apt/sources.list.d/ceph.sources:" + line + "\n"
		}
	}
	var list, units, disks, links, osds []string
	for _, d := range slices.Sorted(mapKeys(n.daemons)) {
		kind, id, _ := strings.Cut(d, ".")
		list = append(list, kind+" "+id)
		active, enabled, _ := strings.Cut(n.daemons[d], " ")
		units = append(units, fmt.Sprintf("Id=ceph-%s@%s.service\nLoadState=loaded\nActiveState=%s\nUnitFileState=%s\n", kind, id, active, enabled))
	}
	for _, dev := range slices.Sorted(mapKeys(n.disks)) {
		text, more := n.disk(dev, n.disks[dev])
		disks, osds = append(disks, text), append(osds, more...)
		links = append(links, "/dev/disk/by-id/ata-ACME_"+n.serials[dev]+" /dev/"+dev)
	}
	return frames("packages", packages, 0, "here", here, 0, "installing", installing, 1, "audit", n.audit, 0, "repository", repo, 0,
		"daemons", strings.Join(list, "\n")+"\n\n"+strings.Join(units, "\n"), 0, "disks", `{"blockdevices":[`+strings.Join(disks, ",")+`]}`, 0,
		"links", strings.Join(append(links, n.also), "\n"), 0, "osds", strings.Join(osds, "\n"), 0, "volumes", "", 0)
}

// disk is a disk as lsblk shows it, and the OSD's links to it.
func (n *fake) disk(dev, content string) (text string, links []string) {
	kind, id, _ := strings.Cut(content, ":")
	fs, mount, below := "null", "null", ""
	switch kind {
	case "ext4":
		fs = `"ext4"`
	case "mounted":
		fs, mount = `"ext4"`, `"/mnt/data"`
	case "part":
		below = fmt.Sprintf(`{"name":"%s1","kname":"%s1","path":"/dev/%s1","type":"part","size":1000000000}`, dev, dev, dev)
	case "osd", "db":
		part, file := "block", "block"
		if kind == "db" {
			part, file = "db", "block.db"
		}
		fs = `"LVM2_member"`
		below = fmt.Sprintf(`{"name":"ceph--v%s-osd--%s--f%s","kname":"dm-%s","path":"/dev/mapper/ceph--v%s-osd--%s--f%s","type":"lvm","size":1,"fstype":"ceph_bluestore"}`, id+dev, part, id, id+dev, id+dev, part, id)
		links = append(links, fmt.Sprintf("%s %s /dev/ceph-v%s/osd-%s-f%s /dev/dm-%s", id, file, id+dev, part, id, id+dev))
	}
	return fmt.Sprintf(`{"name":%q,"kname":%q,"path":"/dev/%s","type":"disk","size":960197124096,"rota":false,"fstype":%s,"pttype":null,"mountpoints":[%s],"serial":%q,"model":"ACME","children":[%s]}`,
		dev, dev, dev, fs, mount, n.serials[dev], below), links
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (s *site) status() string {
	ranks := []any{}
	for i, name := range s.active {
		ranks = append(ranks, map[string]any{"name": name, "rank": i, "status": "up:active"})
	}
	up := 0
	for _, o := range s.osds {
		if o.up {
			up++
		}
	}
	checks, _ := json.Marshal(s.checks)
	if s.checks == nil {
		checks = []byte("{}")
	}
	rank, _ := json.Marshal(ranks)
	quorum, _ := json.Marshal(s.quorum)
	return fmt.Sprintf(`{"fsid":%q,"health":{"status":%q,"checks":%s},"quorum_names":%s,"monmap":{"num_mons":%d},"osdmap":{"num_osds":%d,"num_up_osds":%d,"num_in_osds":%d},"pgmap":{"pgs_by_state":[%s],"num_pgs":33,"bytes_used":%d,"bytes_avail":%d,"bytes_total":%d},"fsmap":{"by_rank":%s,"up:standby":%d},"mgrmap":{"available":true}}`,
		fsid, s.health, checks, quorum, len(s.confMons), len(s.osds), up, up, s.pgs, s.used, s.avail, s.used+s.avail, rank, s.standby)
}

// cluster answers the questions about the whole cluster.
func (s *site) cluster(n *fake) string {
	conf, rc := "", 0
	if !s.inited {
		conf, rc = "cat: /etc/pve/ceph.conf: No such file or directory", 1
	} else {
		conf = "[global]\n\tfsid = " + fsid + "\n\tpublic_network = " + s.public + "\n\tcluster_network = " + s.private + "\n"
		for _, m := range s.confMons {
			conf += "[mon." + m + "]\n\tpublic_addr = 10.0.3.1\n"
		}
		for _, m := range s.confMDS {
			conf += "[mds." + m + "]\n\thost = " + m + "\n"
		}
	}
	keyring := 0
	if !s.keyring {
		keyring = 1
	}
	talk, talkRC := "", 3
	if n.link != "" && len(s.confMons) > 0 {
		talk, talkRC = "\n#status\n", 124
		if !s.silent {
			talk, talkRC = s.conversation(), 0
		}
	}
	return frames("conf", conf, rc, "keyring", map[bool]string{true: "ls: No such file or directory"}[keyring == 1], keyring, "storages", s.storages, 0, "ceph", talk, talkRC)
}

func (s *site) conversation() string {
	osds, metadata := []any{}, []any{}
	nodes, hosts := []any{}, map[string][]int{}
	flag := map[bool]int{true: 1}
	for _, o := range s.osds {
		state := append([]string{"exists"}, o.state...)
		if !o.up && !o.in && o.host == "" {
			state = append(state, "new")
		}
		osds = append(osds, map[string]any{"osd": o.id, "up": flag[o.up], "in": flag[o.in], "state": state})
		metadata = append(metadata, map[string]any{"id": o.id, "hostname": o.node, "device_ids": o.device})
		nodes = append(nodes, map[string]any{"id": o.id, "name": fmt.Sprintf("osd.%d", o.id), "type": "osd", "device_class": o.class, "crush_weight": 1})
		if o.host != "" {
			hosts[o.host] = append(hosts[o.host], o.id)
		}
	}
	for i, host := range slices.Sorted(mapKeys(hosts)) {
		nodes = append(nodes, map[string]any{"id": -2 - i, "name": host, "type": "host", "children": hosts[host]})
	}
	line := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			s.tb.Fatal(err)
		}
		return string(text)
	}
	list := func(l []map[string]any) any {
		if l == nil {
			return []any{}
		}
		return l
	}
	dump := map[string]any{"flags_set": append([]string{"sortbitwise"}, s.flags...), "crush_node_flags": s.nodeFlags, "osds": osds, "pools": list(s.pools), "erasure_code_profiles": s.profiles}
	return "\n#status\n" + s.status() + "\n#dump\n" + line(dump) + "\n#tree\n" + line(map[string]any{"nodes": nodes}) + "\n#metadata\n" + line(metadata) +
		"\n#rules\n" + line(list(s.rules)) + "\n#fs\n" + line(list(s.filesystems)) + "\n#end\n"
}

// refused plans something that must be refused and returns the gates' words.
func refused(tb testing.TB, m module.Module, t *testkit.Target, src string) string {
	tb.Helper()
	changes, err := testkit.TryPlan(tb, m, t, src)
	if err == nil {
		tb.Fatalf("it was planned: %v", testkit.Summaries(changes))
	}
	return err.Error()
}
