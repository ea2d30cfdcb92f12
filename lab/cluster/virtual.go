package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// virtualFiles are generated at each read.
var virtualFiles = []string{"/.clusterlog", "/.debug", "/.members", "/.rrd", "/.version", "/.vmlist"}

// virtual returns the content of a generated file. The caller holds the lock.
func (n *Node) virtual(p string) (string, bool) {
	switch p {
	case "/.members":
		return n.membersFile(), true
	case "/.vmlist":
		return n.guestsFile(), true
	case "/.version":
		return n.versionFile(), true
	case "/.clusterlog":
		return n.clusterLogFile(), true
	case "/.rrd":
		return n.rrdFile(), true
	case "/.debug":
		return "0\n", true
	}
	return "", false
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// online reports whether pmxcfs sees another node's corosync. The caller holds the lock.
func (n *Node) online(entry ConfNode) bool {
	if entry.Name == n.name {
		return true
	}
	return n.pmx.attached && slices.Contains(n.coro.members, entry.ID)
}

func (n *Node) membersFile() string {
	var b strings.Builder
	fmt.Fprintf(&b, "{\n\"nodename\": \"%s\",\n\"version\": %d", n.name, n.pmx.clinfo)
	conf := n.clusterConf()
	if conf == nil || !n.pmx.clusteredSince {
		b.WriteString("\n}\n")
		return b.String()
	}
	nodes := conf.Nodes()
	fmt.Fprintf(&b, ",\n\"cluster\": { \"name\": \"%s\", \"version\": %d, \"nodes\": %d, \"quorate\": %d },\n\"nodelist\": {\n",
		conf.ClusterName(), conf.Version(), len(nodes), flag(n.writable()))
	for i, entry := range nodes {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, "  \"%s\": { \"id\": %d, \"online\": %d", entry.Name, entry.ID, flag(n.online(entry)))
		if ip := n.pmx.ips[entry.Name]; ip != "" {
			fmt.Fprintf(&b, ", \"ip\": \"%s\"", ip)
		}
		b.WriteString("}")
	}
	b.WriteString("\n  }\n}\n")
	return b.String()
}

func (n *Node) guestsFile() string {
	var b strings.Builder
	fmt.Fprintf(&b, "{\n\"version\": %d", n.pmx.db.guestSeq)
	if guests := n.pmx.db.guests(); len(guests) > 0 {
		b.WriteString(",\n\"ids\": {\n")
		for i, g := range guests {
			if i > 0 {
				b.WriteString(",\n")
			}
			fmt.Fprintf(&b, "\"%d\": { \"node\": \"%s\", \"type\": \"%s\", \"version\": %d }", g.id, g.node, g.kind, g.version)
		}
		b.WriteString("}\n")
	} else {
		b.WriteString("\n")
	}
	b.WriteString("\n}\n")
	return b.String()
}

func (n *Node) versionFile() string {
	var b strings.Builder
	db := n.pmx.db
	fmt.Fprintf(&b, "{\n\"starttime\": %d,\n\"clinfo\": %d,\n\"vmlist\": %d,\n", n.pmx.started.Unix(), n.pmx.clinfo, db.guestSeq)
	for _, name := range countedFiles {
		fmt.Fprintf(&b, "\"%s\": %d,\n", name, 1+db.counters[name])
	}
	b.WriteString("\"kvstore\": {\n")
	names := []string{n.name}
	if conf := n.clusterConf(); conf != nil && n.pmx.clusteredSince {
		names = nil
		for _, entry := range conf.Nodes() {
			names = append(names, entry.Name)
		}
	}
	for i, name := range names {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, "\"%s\": {\n\"kv/static-info\": 0,\n\"tasklist\": %d,\n\"kv/network\": 0,\n\"kv/version-info\": 0}\n", name, len(db.log))
	}
	b.WriteString("}\n}\n")
	return b.String()
}

func (n *Node) clusterLogFile() string {
	var b strings.Builder
	b.WriteString("{\n\"data\": [\n")
	log := n.pmx.db.log
	for i := len(log) - 1; i >= 0; i-- {
		e := log[i]
		fmt.Fprintf(&b, "{\"uid\": %d, \"time\": %d, \"pri\": 6, \"tag\": \"pvedaemon\", \"pid\": 1711, \"node\": \"%s\", \"user\": \"%s\", \"msg\": \"%s\"}",
			i+1, e.time.Unix(), e.node, e.user, e.message)
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n")
	}
	b.WriteString("]\n}\n")
	return b.String()
}

// rrdFile shows the load of the nodes in reach: pvestatd of each tells it to the others.
func (n *Node) rrdFile() string {
	var b strings.Builder
	visible := map[string]bool{n.name: true}
	if conf := n.clusterConf(); conf != nil && n.pmx.clusteredSince {
		for _, entry := range conf.Nodes() {
			visible[entry.Name] = n.online(entry)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(visible)) {
		other := n.w.nodes[name]
		if other == nil || !visible[name] || !other.m.Up() {
			continue
		}
		b.WriteString(other.rrdLines())
		for _, more := range other.rrd {
			b.WriteString(more())
		}
	}
	return b.String()
}

const diskTotal, diskUsed = 270553174016, 27515682816

func (n *Node) rrdLines() string {
	memory := n.memory
	used := memory / 4
	now := n.now().Unix()
	uptime := int(n.m.Uptime().Seconds())
	if n.release.Major() < 9 {
		return fmt.Sprintf("pve2-node/%s:%d::%d:0.12:%d:0.0125:0.0002:%d:%d:0:0:%d:%d:1234:5678\npve2-storage/%s/local:%d:%d:%d\n",
			n.name, uptime, now, n.cpus, memory, used, diskTotal, diskUsed, n.name, now, diskTotal, diskUsed)
	}
	return fmt.Sprintf("pve-node-9.0/%s:%d::%d:0.12:%d:0.0125:0.0002:%d:%d:0:0:%d:%d:1234:5678:%d:0:0.36:0.00:0.00:0.00:0.00\npve-storage-9.0/%s/local:%d:%d:%d\n",
		n.name, uptime, now, n.cpus, memory, used, diskTotal, diskUsed, memory-used, n.name, now, diskTotal, diskUsed)
}
