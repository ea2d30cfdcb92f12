package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

const (
	deviceDir  = "/etc/corosync/qdevice"
	deviceCert = deviceDir + "/net/nssdb"
)

func checkIP(value string) string {
	if !isAddr(value) {
		return "value is not a valid IP address"
	}
	return ""
}

// pvecmDeviceSetup is `pvecm qdevice setup`.
func (n *Node) pvecmDeviceSetup(ctx context.Context, p *machine.Proc, args []string) int {
	o, perr := pvetool.Parse(args, map[string]pvetool.Option{"address": {Check: checkIP}, "network": {}, "force": {Kind: pvetool.Bool}})
	if perr == nil && len(o.Positional) != 1 {
		perr = &pvetool.ParamError{Head: "not enough arguments"}
	}
	if perr == nil {
		if problem := checkIP(o.Positional[0]); problem != "" {
			perr = &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"address: " + problem}}
		}
	}
	if perr != nil {
		return pvetool.Usage(p, perr, pvecmUsage["qdevice setup"])
	}
	if err := n.deviceSetup(ctx, p, o.Positional[0], o.Is("force")); err != nil {
		return pvetool.Die(p, pvetool.ExitDie, "%v", err)
	}
	return 0
}

// clusterMembers returns the config and the nodes in it, or why the whole cluster cannot be worked on.
func (n *Node) clusterMembers(p *machine.Proc) (*Conf, []*Node, error) {
	if !n.canWrite() {
		return nil, nil, errNoQuorum
	}
	conf, err := readConf(p.View())
	if err != nil {
		return nil, nil, err
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	var nodes []*Node
	for _, entry := range conf.Nodes() {
		if !n.online(entry) {
			return nil, nil, fmt.Errorf("All nodes must be online! Node %s is offline, aborting.", entry.Name) //nolint:revive,staticcheck // pvecm's words
		}
		if member := n.w.nodes[entry.Name]; member != nil {
			nodes = append(nodes, member)
		}
	}
	if len(nodes) == 0 {
		return nil, nil, errors.New(noCluster)
	}
	return conf, nodes, nil
}

func (n *Node) deviceSetup(ctx context.Context, p *machine.Proc, host string, force bool) error {
	conf, nodes, err := n.clusterMembers(p)
	if err != nil {
		return err
	}
	if _, configured := conf.Device(); configured {
		if force {
			return errors.New("Qdevice already configured, must be removed before setting up new one!") //nolint:revive,staticcheck // pvecm's words
		}
		return errors.New("QDevice already configured!") //nolint:revive,staticcheck // pvecm's words
	}
	algorithm, votes := "ffsplit", 1
	if len(nodes)%2 != 0 {
		if !force {
			return errors.New("Clusters with an odd node count are not officially supported!") //nolint:revive,staticcheck // pvecm's words
		}
		algorithm, votes = "lms", 0
	}
	if exists(p.View(), deviceCert) {
		if !force {
			return errors.New("QDevice certificate store already initialised, set force to delete!") //nolint:revive,staticcheck // pvecm's words
		}
		if err := p.View().RemoveAll(deviceDir); err != nil {
			return err
		}
	}
	if code := pvetool.Run(ctx, p, p.Stderr, p.Stderr, "ssh-copy-id", "-i", "/root/.ssh/id_rsa", "root@"+host); code != 0 {
		return fmt.Errorf("unable to copy ssh ID: exit code %d", code)
	}
	if err := n.deviceCertificates(ctx, p, conf.ClusterName(), host, nodes); err != nil {
		return err
	}
	conf.SetDevice(DeviceConf{Host: host, Algorithm: algorithm, Votes: votes})
	conf.Bump()
	return n.deviceActivate(ctx, p, conf, nodes)
}

func (n *Node) deviceCertificates(ctx context.Context, p *machine.Proc, clusterName, host string, nodes []*Node) error {
	pause := func() error { return n.w.clock.Sleep(ctx, 500*time.Millisecond) }
	p.Printf("\nINFO: initializing qnetd server\n")
	init := []string{"ssh", "-o", "BatchMode=yes", "root@" + host, "corosync-qnetd-certutil", "-i"}
	if code := pvetool.Run(ctx, p, p.Stdout, p.Stderr, init...); code != 0 && code != 1 {
		return fmt.Errorf("command 'ssh -o 'BatchMode=yes' root@%s corosync-qnetd-certutil -i' failed: exit code %d", host, code)
	}
	p.Printf("\nINFO: copying CA cert and initializing on all nodes\n\n")
	for _, member := range nodes {
		if !member.hasPackage("corosync-qdevice") {
			return fmt.Errorf("command 'ssh -o 'BatchMode=yes' -lroot %s corosync-qdevice-net-certutil -i -c /etc/pve/qnetd-cacert.crt' failed: exit code 127", member.ip)
		}
		if exists(member.m.FS.View, deviceCert) {
			p.Printf("node '%s': Certificate database already exists. Delete it to continue\n", member.name)
			continue
		}
		for _, line := range []string{"Creating " + deviceCert, "Creating new key and cert db", "Creating new noise file " + deviceCert + "/noise.txt", "Importing CA"} {
			p.Printf("node '%s': %s\n", member.name, line)
		}
		if err := member.writeSystemFile(deviceCert+"/noise.txt", []byte("noise\n"), 0o600); err != nil {
			return err
		}
	}
	if err := pause(); err != nil {
		return err
	}
	p.Printf("INFO: generating cert request\nCreating new certificate request\nCertificate request stored in %s/qdevice-net-node.crq\n", deviceCert)
	p.Printf("\nINFO: copying exported cert request to qnetd server\n\nINFO: sign and export cluster cert\nSigning cluster certificate\n")
	p.Printf("Certificate stored in /etc/corosync/qnetd/nssdb/cluster-%s.crt\n\nINFO: copy exported CRT\n\nINFO: import certificate\n", clusterName)
	p.Printf("Importing signed cluster certificate\npk12util: PKCS12 EXPORT SUCCESSFUL\nCertificate stored in %s/qdevice-net-node.p12\n", deviceCert)
	fmt.Fprint(p.Stderr, "password file contains no data\npassword file contains no data\n\n\nGenerating key.  This may take a few moments...\n\nNotice: Trust flag u is set automatically if the private key is present.\n")
	p.Printf("\nINFO: copy and import pk12 cert to all nodes\n\n")
	for _, member := range nodes {
		p.Printf("node '%s': Importing cluster certificate and key\nnode '%s': pk12util: PKCS12 IMPORT SUCCESSFUL\n", member.name, member.name)
		if err := member.writeSystemFile(deviceCert+"/qdevice-net-node.p12", []byte(clusterName+"\n"), 0o600); err != nil {
			return err
		}
	}
	return pause()
}

func (n *Node) deviceActivate(ctx context.Context, p *machine.Proc, conf *Conf, nodes []*Node) error {
	p.Printf("INFO: add QDevice to cluster configuration\n")
	if err := n.locked(ctx, p.View(), p.Stderr, "file-corosync_conf", func() error { return writeConf(p.View(), conf) }); err != nil {
		return err
	}
	for _, member := range nodes {
		p.Printf("\nINFO: start and enable corosync qdevice daemon on node '%s'...\n", member.name)
		fmt.Fprint(p.Stderr, "Synchronizing state of corosync-qdevice.service with SysV service script with /usr/lib/systemd/systemd-sysv-install.\nExecuting: /usr/lib/systemd/systemd-sysv-install enable corosync-qdevice\n")
		fmt.Fprint(p.Stderr, "Created symlink '/etc/systemd/system/multi-user.target.wants/corosync-qdevice.service' -> '/usr/lib/systemd/system/corosync-qdevice.service'.\n")
		member.m.EnableUnit("corosync-qdevice", true)
		if err := member.m.StartUnit(ctx, "corosync-qdevice"); err != nil {
			return err
		}
	}
	// The local files follow the cluster's within a moment; the reload reads those.
	if err := n.w.clock.Sleep(ctx, time.Second); err != nil {
		return err
	}
	if pvetool.Run(ctx, p, p.Stdout, p.Stderr, "corosync-cfgtool", "-R") != 0 {
		return errors.New("command 'corosync-cfgtool -R' failed: exit code 1")
	}
	return nil
}

// hasPackage reports whether a Debian package is installed on the node.
func (n *Node) hasPackage(name string) bool {
	_, ok := n.m.Installed(name)
	return ok
}

// pvecmDeviceRemove is `pvecm qdevice remove`.
func (n *Node) pvecmDeviceRemove(ctx context.Context, p *machine.Proc, args []string) int {
	if _, perr := pvetool.Parse(args, nil); perr != nil {
		return pvetool.Usage(p, perr, pvecmUsage["qdevice remove"])
	}
	conf, nodes, err := n.clusterMembers(p)
	if err != nil {
		return pvetool.Die(p, pvetool.ExitDie, "%v", err)
	}
	if _, configured := conf.Device(); !configured {
		return pvetool.Die(p, pvetool.ExitDie, "No QDevice configured!")
	}
	conf.RemoveDevice()
	conf.Bump()
	err = n.locked(ctx, p.View(), p.Stderr, "file-corosync_conf", func() error { return writeConf(p.View(), conf) })
	if err != nil {
		return pvetool.Die(p, pvetool.ExitDie, "%v", err)
	}
	for _, member := range nodes {
		fmt.Fprint(p.Stderr, "Synchronizing state of corosync-qdevice.service with SysV service script with /usr/lib/systemd/systemd-sysv-install.\nExecuting: /usr/lib/systemd/systemd-sysv-install disable corosync-qdevice\n")
		fmt.Fprint(p.Stderr, "Removed '/etc/systemd/system/multi-user.target.wants/corosync-qdevice.service'.\n")
		err := errors.Join(member.m.FS.RemoveAll(deviceDir), member.m.StopUnit(ctx, "corosync-qdevice"))
		member.m.EnableUnit("corosync-qdevice", false)
		if err != nil {
			return pvetool.Die(p, pvetool.ExitDie, "%v", err)
		}
	}
	if n.w.clock.Sleep(ctx, time.Second) != nil {
		return pvetool.ExitDie
	}
	if pvetool.Run(ctx, p, p.Stdout, p.Stderr, "corosync-cfgtool", "-R") != 0 {
		return pvetool.ExitDie
	}
	p.Printf("\nRemoved Qdevice.\n")
	return 0
}

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
			OnStart: func(context.Context) error { a.setRunning(true); return nil },
			OnStop:  func(context.Context) error { a.setRunning(false); return nil },
		}},
		Programs: map[string]machine.Program{
			"/usr/bin/corosync-qnetd-certutil": func(_ context.Context, p *machine.Proc) int {
				fmt.Fprintln(p.Stderr, "Certificate database (/etc/corosync/qnetd/nssdb) already exists. Delete it to initialize new db")
				return 1
			},
			"/usr/bin/corosync-qnetd-tool": a.tool,
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
		Programs: map[string]machine.Program{"/usr/sbin/corosync-qdevice-tool": n.deviceTool},
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
