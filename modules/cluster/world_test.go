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
