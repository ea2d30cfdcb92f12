package cluster

import (
	"slices"
)

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
