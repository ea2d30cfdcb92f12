package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/transport"
)

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
