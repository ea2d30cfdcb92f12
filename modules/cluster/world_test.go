package cluster

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

// world is a handful of nodes that answer this package's reads, and whose state the tools of Proxmox change. It knows
// no timing: package lab does. It is for states that are hard to get into otherwise.
type world struct {
	tb    testing.TB
	nodes map[string]*fakeNode
	order []string

	mu    sync.Mutex
	lines []string // what was run, as "host: command"
	pings string   // what ping says, instead of a good answer
	left  string   // what is found of removed nodes
	ports map[string]bool
}

type fakeNode struct {
	name      string
	uid       int
	hostname  string
	machineID string
	addrs     []string // "10.0.1.1/24"
	mtu       int
	resolves  []string
	release   string
	guests    []string
	packages  []string
	keys      []string
	hostKey   string
	skew      time.Duration

	mounted, writable bool
	conf, local       *fakeConf
	authkey           bool
	corosync          bool
	alone             bool // corosync sees nobody else
	online            []string
	certs             []string
	joining           bool
	note              string
	down              error
}

type fakeConf struct {
	name    string
	version int
	nodes   []string
	links   map[string][]string
	device  string
}

func newWorld(tb testing.TB, names ...string) *world {
	tb.Helper()
	w := &world{tb: tb, nodes: map[string]*fakeNode{}, order: names, ports: map[string]bool{}}
	for i, name := range names {
		w.nodes[name] = &fakeNode{
			name: name, hostname: name, machineID: fmt.Sprintf("machine-%d", i+1), mtu: 1500, release: "9.1.4",
			addrs:    []string{fmt.Sprintf("192.0.2.%d/24", 11+i), fmt.Sprintf("10.0.1.%d/24", 1+i)},
			resolves: []string{fmt.Sprintf("192.0.2.%d", 11+i)}, packages: []string{"proxmox-ve", "corosync", "corosync-qdevice"},
			keys: []string{"ssh-ed25519 AAAAadmin admin"}, hostKey: "ssh-ed25519 AAAAhost" + name + " root@" + name,
			mounted: true, writable: true, certs: []string{name},
		}
	}
	return w
}

// form puts nodes into a cluster.
func (w *world) form(name string, members ...string) *fakeConf {
	c := &fakeConf{name: name, version: len(members), links: map[string][]string{}}
	for _, m := range members {
		c.nodes = append(c.nodes, m)
		c.links[m] = w.linksOf(m)
	}
	for _, m := range members {
		w.enter(w.nodes[m], c)
	}
	w.settle(c)
	return c
}

func (w *world) linksOf(name string) []string {
	ip, _, _ := strings.Cut(w.nodes[name].addrs[1], "/")
	return []string{ip}
}

func (w *world) enter(n *fakeNode, c *fakeConf) {
	n.conf, n.local, n.authkey, n.corosync, n.mounted = c, c, true, true, true
}

// settle makes every member of a configuration see all others that run corosync.
func (w *world) settle(c *fakeConf) {
	var online, certs []string
	for _, name := range c.nodes {
		if n := w.nodes[name]; n != nil && n.corosync && n.conf == c {
			online = append(online, name)
		}
	}
	certs = slices.Clone(online)
	for _, name := range online {
		n := w.nodes[name]
		n.online, n.writable, n.certs = online, len(online) > len(c.nodes)/2, certs
	}
}

// target is the engine's stand-in for a runbook on the cluster "lab".
func (w *world) target() *testkit.Target {
	site := &inventory.Site{}
	t := &testkit.Target{TB: w.tb, Whole: site, Conns: map[string]transport.Conn{}, RunID: "run1"}
	for i, name := range w.order {
		h := inventory.Host{Name: name, Address: fmt.Sprintf("192.0.2.%d", 11+i), Cluster: "lab", Node: &inventory.Node{
			Votes: 1, Links: []inventory.Link{{Address: netip.AddrFrom4([4]byte{10, 0, 1, byte(1 + i)})}},
		}}
		site.Hosts = append(site.Hosts, h)
		t.Conns[name] = &fakeConn{w: w, n: w.nodes[name]}
	}
	cluster := &inventory.Cluster{Name: "lab", Nodes: w.order}
	site.Clusters = []*inventory.Cluster{cluster}
	t.In, t.All, t.Of = cluster, site.Hosts, site.Hosts[0]
	t.OnDetach = func(host string, j module.Job) (transport.Result, error) {
		return (&fakeConn{w: w, n: w.nodes[host]}).Run(context.Background(), j.Command)
	}
	return t
}

// ran lists the commands that contain a text.
func (w *world) ran(text string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []string
	for _, l := range w.lines {
		if strings.Contains(l, text) {
			found = append(found, l)
		}
	}
	return found
}

type fakeConn struct {
	w *world
	n *fakeNode
}

func (c *fakeConn) Run(_ context.Context, cmd transport.Command) (transport.Result, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.n.down != nil {
		return transport.Result{}, c.n.down
	}
	if cmd.Mutates {
		c.w.lines = append(c.w.lines, c.n.name+": "+testkit.Text(cmd))
	}
	out, errText, exit := c.answer(cmd)
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

func (c *fakeConn) answer(cmd transport.Command) (out, errText string, exit int) {
	n, w, text := c.n, c.w, testkit.Text(cmd)
	switch {
	case cmd.Script == pve.LeftoversScript:
		return w.left, "", 0
	case strings.Contains(cmd.Script, "@@%s begin"):
		return n.snapshot(cmd.Script), "", 0
	case len(cmd.Argv) > 0 && slices.Contains([]string{"ha-manager", "pvesm", "pvesr"}, cmd.Argv[0]):
		return "", "", 0
	case text == "date +%s.%N":
		now := time.Now().Add(n.skew)
		return fmt.Sprintf("%d.%09d\n", now.Unix(), now.Nanosecond()), "", 0
	case cmd.Script == measureScript:
		return w.measure(string(cmd.Stdin)), "", 0
	case cmd.Script == ownKeyScript:
		return "ssh-rsa AAAAroot" + n.name + " root@" + n.name + "\n", "", 0
	case cmd.Script == letInScript:
		if n.conf != nil {
			for _, m := range n.conf.nodes {
				w.nodes[m].letIn(string(cmd.Stdin))
			}
		}
		return "", "", 0
	case cmd.Script == trustScript, cmd.Script == cleanScript:
		return "", "", 0
	case cmd.Script == noteScript:
		w.eachMember(n, func(m *fakeNode) { m.note = string(cmd.Stdin) })
		return "", "", 0
	case text == "rm -f "+"/etc/pve/priv/pxrun-qdevice.json":
		w.eachMember(n, func(m *fakeNode) { m.note = "" })
		return "", "", 0
	case strings.Contains(cmd.Script, "openssl x509"):
		return "sha256 Fingerprint=" + strings.TrimSuffix(strings.Repeat("AB:", 32), ":") + "\n", "", 0
	case cmd.Script == finishScript:
		w.finish(n)
		return "finished\n", "", 0
	case strings.Contains(text, "pvecm updatecerts"):
		w.settle(n.conf)
		return "", "", 0
	case len(cmd.Argv) > 1 && cmd.Argv[0] == "pvecm":
		return w.pvecm(n, cmd.Argv[1:])
	case strings.Contains(text, "systemctl restart corosync pve-cluster"):
		n.corosync = true
		w.enter(n, n.conf)
		w.settle(n.conf)
		return "", "", 0
	case len(cmd.Argv) > 0 && cmd.Argv[0] == "ssh":
		return "", "", 0
	}
	w.tb.Errorf("%s: unexpected command %s", n.name, text)
	return "", "unexpected", 127
}

func (n *fakeNode) letIn(lines string) {
	for line := range strings.Lines(lines) {
		_, key, _ := strings.Cut(strings.TrimSpace(line), " ")
		n.keys = append(n.keys, key)
	}
}

func (w *world) eachMember(n *fakeNode, do func(*fakeNode)) {
	for _, name := range n.conf.nodes {
		do(w.nodes[name])
	}
}

func (w *world) measure(questions string) string {
	var out strings.Builder
	for line := range strings.Lines(questions) {
		f := strings.Fields(line)
		switch f[0] {
		case "ping":
			answer := "5 packets transmitted, 5 received, 0% packet loss, time 204ms rtt min/avg/max/mdev = 0.034/0.145/0.261/0.010 ms"
			if w.pings != "" {
				answer = w.pings
			}
			fmt.Fprintf(&out, "ping %s %s PING x %s\n", f[1], f[2], answer)
		case "mtu":
			answer := "1 packets transmitted, 1 received, 0% packet loss, time 0ms"
			if f[3] != "1472" {
				answer = "ping: local error: message too long, mtu=1500 1 packets transmitted, 0 received, +1 errors, 100% packet loss, time 0ms"
			}
			fmt.Fprintf(&out, "mtu %s %s %s\n", f[1], f[2], answer)
		case "port":
			answer := "open"
			if w.ports[f[1]+":"+f[2]] {
				answer = "closed"
			}
			fmt.Fprintf(&out, "port %s %s %s\n", f[1], f[2], answer)
		}
	}
	return out.String()
}

// pvecm is the tool, without its waits. Like the real one it exits 0 when create or add fail.
func (w *world) pvecm(n *fakeNode, args []string) (out, errText string, exit int) {
	switch args[0] {
	case "create":
		if n.conf != nil {
			return "", "cluster config '/etc/pve/corosync.conf' already exists\n", 255
		}
		c := &fakeConf{name: args[1], version: 1, nodes: []string{n.name}, links: map[string][]string{n.name: w.linksOf(n.name)}}
		w.enter(n, c)
		w.settle(c)
		return "Writing corosync config to /etc/pve/corosync.conf\nRestart corosync and cluster filesystem\n", "", 0
	case "add":
		return w.add(n)
	case "qdevice":
		c := *n.conf
		c.version++
		c.device = ""
		if args[1] == "setup" {
			c.device = args[2]
		}
		for _, m := range c.nodes {
			w.nodes[m].conf, w.nodes[m].local = &c, &c
		}
		return "", "", 0
	}
	w.tb.Errorf("%s: unexpected pvecm %v", n.name, args)
	return "", "", 255
}

func (w *world) add(n *fakeNode) (out, errText string, exit int) {
	var member *fakeNode
	for _, name := range w.order {
		if m := w.nodes[name]; m.conf != nil && m != n {
			member = m
			break
		}
	}
	if member == nil || n.authkey {
		return "detected the following error(s):\n* authentication key '/etc/corosync/authkey' already exists\n", "Check if node may join a cluster failed!\n", 0
	}
	c := *member.conf
	c.version++
	if !slices.Contains(c.nodes, n.name) {
		c.nodes = append(slices.Clone(c.nodes), n.name)
	}
	for _, name := range c.nodes {
		w.nodes[name].conf, w.nodes[name].local = &c, &c
	}
	w.enter(n, &c)
	n.keys = slices.Clone(member.keys)
	w.settle(&c)
	return "copy corosync auth key\nwaiting for quorum...OK\nsuccessfully added node '" + n.name + "' to cluster.\n", "", 0
}

func (w *world) finish(n *fakeNode) {
	for _, name := range w.order {
		if m := w.nodes[name]; m.conf != nil && slices.Contains(m.conf.nodes, n.name) {
			w.enter(n, m.conf)
			m.corosync = true
			w.settle(m.conf)
			return
		}
	}
}

// snapshot answers the reads of a snapshot script.
func (n *fakeNode) snapshot(script string) string {
	var out strings.Builder
	out.WriteString("@@n begin\n")
	section := func(name, text string, rc int) {
		if strings.Contains(script, "\nc "+name+" ") || strings.Contains(script, "\np "+name+" ") {
			fmt.Fprintf(&out, "@@n %s\n%s\n@@n rc %d\n", name, text, rc)
		}
	}
	file := func(name, text string, there bool) {
		if !there {
			section(name, "cat: "+name+": No such file or directory\n", 1)
			return
		}
		section(name, text, 0)
	}
	section("id", fmt.Sprintf("uid %d\nhostname %s\nkernel 6.17.2-1-pve\nmachine_id %s\n", n.uid, n.hostname, n.machineID), 0)
	section("addr", n.ipAddr(), 0)
	section("resolve", strings.Join(n.resolves, " STREAM\n")+" STREAM\n", 0)
	mode := "555"
	if n.writable {
		mode = "755"
	}
	file("pmxcfs", "nodes/"+n.hostname+"\n"+mode+"\n", n.mounted)
	file("members", n.members(), n.mounted)
	file("guests", n.vmlist(), n.mounted)
	file("conf", n.conf.text(), n.mounted && n.conf != nil)
	file("localconf", n.local.text(), n.local != nil)
	var certs strings.Builder
	for _, c := range n.certs {
		fmt.Fprintf(&certs, "/etc/pve/nodes/%s/pve-ssl.pem\n", c)
	}
	section("certs", certs.String(), 0)
	file("qdevice_note", n.note, n.note != "")
	here := "/var/lib/pve-cluster/config.db\n"
	if n.authkey {
		here += "/etc/corosync/authkey\n"
	}
	section("here", here, 0)
	n.quorum(section)
	packages := ""
	if n.release != "" {
		packages = "pve-manager " + n.release + " installed\n"
	}
	for _, p := range n.packages {
		packages += p + " 1.0 installed\n"
	}
	section("packages", packages, 0)
	joining := 1
	if n.joining {
		joining = 0
	}
	section("joining", map[bool]string{true: "4711\n"}[n.joining], joining)
	section("keys", strings.Join(n.keys, "\n")+"\n", 0)
	section("hostkeys", n.hostKey+"\n", 0)
	out.WriteString("@@n end\n")
	return out.String()
}

func (n *fakeNode) ipAddr() string {
	var parts []string
	for i, a := range n.addrs {
		ip, bits, _ := strings.Cut(a, "/")
		parts = append(parts, fmt.Sprintf(`{"ifname":"eth%d","mtu":%d,"operstate":"UP","addr_info":[{"local":%q,"prefixlen":%s}]}`, i, n.mtu, ip, bits))
	}
	return "[" + strings.Join(parts, ",") + "]\n"
}

func (n *fakeNode) members() string {
	if n.conf == nil {
		return fmt.Sprintf(`{"nodename":%q,"version":1}`, n.hostname)
	}
	var list []string
	for i, name := range n.conf.nodes {
		online := 0
		if slices.Contains(n.online, name) {
			online = 1
		}
		list = append(list, fmt.Sprintf(`%q:{"id":%d,"online":%d,"ip":"192.0.2.%d"}`, name, i+1, online, 11+i))
	}
	return fmt.Sprintf(`{"nodename":%q,"version":1,"cluster":{"name":%q,"version":%d,"nodes":%d,"quorate":1},"nodelist":{%s}}`,
		n.hostname, n.conf.name, n.conf.version, len(n.conf.nodes), strings.Join(list, ","))
}

func (n *fakeNode) vmlist() string {
	var list []string
	for _, id := range n.guests {
		list = append(list, fmt.Sprintf(`%q:{"node":%q,"type":"qemu","version":1}`, id, n.hostname))
	}
	return `{"version":1,"ids":{` + strings.Join(list, ",") + `}}`
}

func (n *fakeNode) quorum(section func(name, text string, rc int)) {
	if !n.corosync || n.local == nil {
		section("quorum", "Cannot initialize CMAP service\n", 1)
		return
	}
	seen := len(n.online)
	if n.alone {
		seen = 1
	}
	expected := len(n.local.nodes)
	var rows strings.Builder
	for i := range seen {
		mark, flags := "", ""
		if i == 0 {
			mark = " (local)"
		}
		if n.local.device != "" {
			flags = "A,V,NMW "
		}
		fmt.Fprintf(&rows, "0x%08x 1 %s10.0.1.%d%s\n", i+1, flags, i+1, mark)
	}
	votes := seen
	if n.local.device != "" {
		rows.WriteString("0x00000000 1 Qdevice\n")
		expected, votes = expected+1, votes+1
	}
	quorate, rc := "Yes", 0
	if votes <= expected/2 {
		quorate, rc = "No", 2
	}
	section("quorum", fmt.Sprintf("Nodes: %d\nNode ID: 0x00000001\nQuorate: %s\n\nExpected votes: %d\nHighest expected: %d\nTotal votes: %d\nQuorum: %d\nFlags: Quorate\n\nMembership information\n%s",
		seen, quorate, expected, expected, votes, expected/2+1, rows.String()), rc)
}

func (c *fakeConf) text() string {
	if c == nil {
		return ""
	}
	var b strings.Builder
	b.WriteString("nodelist {\n")
	for i, name := range c.nodes {
		fmt.Fprintf(&b, "  node {\n    name: %s\n    nodeid: %d\n    quorum_votes: 1\n", name, i+1)
		for l, a := range c.links[name] {
			fmt.Fprintf(&b, "    ring%d_addr: %s\n", l, a)
		}
		b.WriteString("  }\n")
	}
	b.WriteString("}\nquorum {\n")
	if c.device != "" {
		fmt.Fprintf(&b, "  device {\n    model: net\n    votes: 1\n    net {\n      algorithm: ffsplit\n      host: %s\n    }\n  }\n", c.device)
	}
	fmt.Fprintf(&b, "  provider: corosync_votequorum\n}\ntotem {\n  cluster_name: %s\n  config_version: %d\n}\n", c.name, c.version)
	return b.String()
}

// watched calls a function before each command.
type watched struct {
	*fakeConn
	before func()
}

func (c watched) Run(ctx context.Context, cmd transport.Command) (transport.Result, error) {
	c.w.mu.Lock()
	c.before()
	c.w.mu.Unlock()
	return c.fakeConn.Run(ctx, cmd)
}
