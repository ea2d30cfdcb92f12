package cluster

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/pxrun/pxrun/lab/machine"
)

// deviceTool is the program corosync-qdevice-tool.
func (n *Node) deviceTool(_ context.Context, p *machine.Proc) int {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if !n.qdev.running || !n.coro.running {
		fmt.Fprintln(p.Stderr, "Can't connect to QDevice socket (is QDevice running?): No such file or directory")
		return 3
	}
	device, _ := n.coro.conf.Device()
	var nodes string
	for i, entry := range n.coro.conf.Nodes() {
		nodes += fmt.Sprintf("    %d\tNode ID = %d\n", i, entry.ID)
	}
	members := ""
	for i, id := range n.coro.members {
		if i > 0 {
			members += ", "
		}
		members += fmt.Sprint(id)
	}
	p.Printf("Qdevice information\n-------------------\nModel:\t\t\tNet\nNode ID:\t\t%d\nConfiguration version:\t%d\nConfigured node list:\n%sMembership node list:\t%s\n\n",
		n.coro.id, n.coro.conf.Version(), nodes, members)
	p.Printf("Qdevice-net information\n----------------------\nCluster name:\t\t%s\nQNetd host:\t\t%s:5403\nAlgorithm:\t\t%s\nTie-breaker:\t\tNode with lowest node ID\nState:\t\t\t%s\n",
		n.coro.conf.ClusterName(), device.Host, algorithmName(device.Algorithm), n.deviceState())
	return 0
}

func algorithmName(a string) string {
	if a == "lms" {
		return "LMS"
	}
	return "Fifty-Fifty split"
}

func (n *Node) deviceState() string {
	if n.qdev.connected {
		return "Connected"
	}
	return "Connect failed"
}

// ArbiterPackage is the Debian package corosync-qnetd for a machine: installed, it makes the machine an arbiter.
func (w *World) ArbiterPackage(m *machine.Machine) machine.Package {
	a := &Arbiter{w: w, m: m}
	m.OnPower(func(up bool) {
		if !up {
			a.setRunning(false)
		}
	})
	return machine.Package{
		Name: "corosync-qnetd", Version: "3.0.3-2", Description: "cluster quorum device network daemon",
		Units: []machine.Unit{{
			Name: "corosync-qnetd.service", Description: "Corosync Qdevice Network daemon", Enabled: true,
			Command: "/usr/bin/corosync-qnetd -f", Ports: []int{qnetdPort},
			// The package makes the database when it is installed, before the daemon starts for the first time.
			OnStart: func(context.Context) error {
				if err := initAuthority(m); err != nil {
					return err
				}
				a.setRunning(true)
				return nil
			},
			OnStop: func(context.Context) error { a.setRunning(false); return nil },
		}},
		Programs: map[string]machine.Program{
			"/usr/bin/corosync-qnetd-certutil": qnetdCertutil,
			"/usr/bin/corosync-qnetd-tool":     a.tool,
		},
	}
}

// DevicePackage is the Debian package corosync-qdevice for the node.
func (n *Node) DevicePackage() machine.Package {
	return machine.Package{
		Name: "corosync-qdevice", Version: "3.0.3-2", Description: "cluster quorum device daemon",
		Units: []machine.Unit{{
			Name: "corosync-qdevice.service", Description: "Corosync Qdevice daemon", Command: "/usr/sbin/corosync-qdevice -f",
			OnStart: func(context.Context) error { n.setQDevice(true); return nil },
			OnStop:  func(context.Context) error { n.setQDevice(false); return nil },
		}},
		Programs: map[string]machine.Program{"/usr/sbin/corosync-qdevice-tool": n.deviceTool, "/usr/sbin/corosync-qdevice-net-certutil": n.certutil},
	}
}

// tool is the program corosync-qnetd-tool.
func (a *Arbiter) tool(_ context.Context, p *machine.Proc) int {
	a.w.mu.Lock()
	defer a.w.mu.Unlock()
	if !a.running {
		fmt.Fprintln(p.Stderr, "Can't connect to QNetd socket (is QNetd running?): No such file or directory")
		return 3
	}
	clients := a.clients()
	if slices.Contains(p.Args(), "-l") {
		a.list(p.Stdout, clients)
		return 0
	}
	clusters := map[string]bool{}
	for _, n := range clients {
		clusters[n.coro.conf.ClusterName()] = true
	}
	p.Printf("QNetd address:\t\t\t*:5403\nTLS:\t\t\t\tSupported (client certificate required)\nConnected clients:\t\t%d\nConnected clusters:\t\t%d\n", len(clients), len(clusters))
	return 0
}

// clients are the nodes whose daemons are connected here. The caller holds the lock.
func (a *Arbiter) clients() []*Node {
	var out []*Node
	for _, n := range a.w.ordered() {
		if !n.qdev.connected || !n.coro.running {
			continue
		}
		if d, ok := n.coro.conf.Device(); ok && a.w.arbiterOf(d.Host) == a {
			out = append(out, n)
		}
	}
	return out
}

func (a *Arbiter) list(w io.Writer, clients []*Node) {
	last := ""
	for i, n := range clients {
		if name := n.coro.conf.ClusterName(); name != last {
			last = name
			fmt.Fprintf(w, "Cluster %q:\n    Algorithm:\t\tFifty-Fifty split (KAP Tie-breaker)\n    Tie-breaker:\tNode with lowest node ID\n", name)
		}
		configured, members := "", ""
		for j, entry := range n.coro.conf.Nodes() {
			if j > 0 {
				configured += ", "
			}
			configured += fmt.Sprint(entry.ID)
		}
		for j, id := range n.coro.members {
			if j > 0 {
				members += ", "
			}
			members += fmt.Sprint(id)
		}
		vote := "No change (ACK)"
		if i == 0 {
			vote = "ACK (ACK)"
		}
		fmt.Fprintf(w, "    Node ID %d:\n        Client address:\t\t::ffff:%s:%d\n        Configuration version:\t%d\n        Configured node list:\t%s\n        Membership node list:\t%s\n        Vote:\t\t\t%s\n",
			n.coro.id, n.ip, 38280+i*2720, n.coro.conf.Version(), configured, members, vote)
	}
}
