package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// NodeOptions describe a Proxmox host that is put on a machine.
type NodeOptions struct {
	Machine *machine.Machine
	Release Release
	// Address is what the host's name resolves to.
	Address netip.Addr
	Domain  string
	CPUs    int
	Memory  int64 // bytes
	// AuthorizedKeys may log in as root, beside the node's own key.
	AuthorizedKeys []string
}

// Install makes a machine a standalone Proxmox host: programs, units, files, and /etc/pve mounted.
func (w *World) Install(ctx context.Context, o NodeOptions) (*Node, error) {
	n := &Node{
		w: w, m: o.Machine, name: o.Machine.Name(), ip: o.Address, release: o.Release, domain: o.Domain, cpus: o.CPUs, memory: o.Memory,
		tasks: pvetool.NewTasks(o.Machine),
	}
	w.mu.Lock()
	if w.nodes[n.name] != nil {
		w.mu.Unlock()
		return nil, fmt.Errorf("two nodes are called %q", n.name)
	}
	w.add(n)
	w.mu.Unlock()

	n.register()
	n.addPaths()
	n.addUnits()
	n.m.OnPower(func(up bool) {
		if !up {
			n.powerLost()
		}
	})
	return n, n.firstBoot(ctx, o)
}

// The TCP ports of Proxmox's services.
const (
	apiPort   = 8006
	spicePort = 3128
	qnetdPort = 5403
)

func (n *Node) register() {
	for path, program := range map[string]machine.Program{
		"/usr/bin/pvecm": n.pvecm, "/usr/bin/pvesh": n.pvesh, "/usr/bin/pveversion": n.pveversion, "/usr/bin/pmxcfs": n.pmxcfsProgram,
		"/usr/sbin/corosync-quorumtool": n.quorumtool, "/usr/sbin/corosync-cfgtool": n.cfgtool,
		"/usr/sbin/corosync-cmapctl": n.cmapctl, "/usr/sbin/corosync-keygen": n.keygen,
	} {
		n.m.Register(path, program)
	}
}

// addUnits adds the units in the order in which they start at boot.
func (n *Node) addUnits() {
	for _, u := range []machine.Unit{
		{
			Name: "pve-cluster.service", Description: "The Proxmox VE cluster filesystem", Enabled: true, Command: "/usr/bin/pmxcfs",
			OnStart: n.onClusterStart, OnStop: n.stopPmxcfs,
		},
		{
			Name: "corosync.service", Description: "Corosync Cluster Engine", Enabled: true, Command: "/usr/sbin/corosync -f",
			Condition: func() bool { return exists(n.m.FS.View, localConfPath) },
			OnStart:   n.onCorosyncStart, OnStop: func(context.Context) error { n.stopCorosync(); return nil },
		},
		{Name: "watchdog-mux.service", Description: "Proxmox VE watchdog multiplexer", Static: true, Enabled: true, Command: "/usr/sbin/watchdog-mux"},
		{Name: "pve-firewall.service", Description: "Proxmox VE firewall", Enabled: true},
		{Name: "pvestatd.service", Description: "PVE Status Daemon", Enabled: true},
		{Name: "pvedaemon.service", Description: "PVE API Daemon", Enabled: true, OnReload: func(context.Context) error { return nil }},
		{Name: "pveproxy.service", Description: "PVE API Proxy Server", Enabled: true, Ports: []int{apiPort}, OnReload: func(context.Context) error { return nil }},
		{Name: "spiceproxy.service", Description: "PVE SPICE Proxy Server", Enabled: true, Ports: []int{spicePort}},
		{Name: "pve-ha-crm.service", Description: "PVE Cluster HA Resource Manager Daemon", Enabled: true},
		{Name: "pve-ha-lrm.service", Description: "PVE Local HA Resource Manager Daemon", Enabled: true},
		{Name: "pvescheduler.service", Description: "Proxmox VE scheduler", Enabled: true},
		{Name: "pve-guests.service", Description: "PVE guests", Enabled: true, Oneshot: true},
	} {
		n.m.AddUnit(u)
	}
}

func (n *Node) onClusterStart(ctx context.Context) error {
	if !n.ownAddress().IsValid() {
		text := fmt.Sprintf("Unable to resolve node name '%s' to a non-loopback IP address - missing entry in '/etc/hosts' or DNS?", n.name)
		n.log("pmxcfs", "[main] crit: "+text)
		return errors.New(text)
	}
	return n.startPmxcfs(ctx, false)
}

// corosyncStart passes between the start of the unit and the first answer of corosync.
const corosyncStart = 400 * time.Millisecond

func (n *Node) onCorosyncStart(context.Context) error {
	conf, err := n.m.FS.ReadFile(localConfPath)
	if err != nil {
		return err
	}
	key, err := n.m.FS.ReadFile(authkeyPath)
	if err != nil {
		n.log("corosync", "[MAIN  ] Could not open "+authkeyPath+": No such file or directory")
		return err
	}
	parsed, err := ParseConf(string(conf))
	if err != nil {
		return err
	}
	if n.idIn(parsed) == 0 {
		return errNotInList
	}
	n.w.mu.Lock()
	n.coroSession++
	session := n.coroSession
	n.w.mu.Unlock()
	n.w.clock.AfterFunc(corosyncStart, func() {
		if err := n.startCorosync(session, parsed, string(key)); err != nil {
			n.log("corosync", err.Error())
		}
	})
	return nil
}

// powerLost ends everything at once: nobody says goodbye.
func (n *Node) powerLost() {
	n.haltCorosync(false)
	n.setQDevice(false)
	_ = n.stopPmxcfs(context.Background()) // not mounted is as good
}

// firstBoot gives the node the state of a fresh installation.
func (n *Node) firstBoot(ctx context.Context, o NodeOptions) error {
	for _, dir := range []string{"/etc/pve", "/etc/corosync/uidgid.d", "/var/lib/pve-cluster", "/var/lib/corosync", "/var/log/pve/tasks", "/var/lib/vz"} {
		if err := n.m.FS.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	var failed error
	for _, u := range n.m.Units() {
		if u.Enabled && u.Active != "active" {
			failed = errors.Join(failed, n.m.StartUnit(ctx, u.Name))
		}
	}
	if failed != nil {
		return failed
	}
	if err := n.baseConfig(o); err != nil {
		return err
	}
	if err := n.ensureRootKey(); err != nil {
		return err
	}
	return n.updateCerts(n.m.FS.View, false, func(string) {})
}

// baseConfig writes what the installer leaves in /etc/pve.
func (n *Node) baseConfig(o NodeOptions) error {
	files := map[string]string{
		"/etc/pve/datacenter.cfg": "keyboard: en-us\n",
		"/etc/pve/storage.cfg":    "dir: local\n\tpath /var/lib/vz\n\tcontent iso,vztmpl,backup\n\nlvmthin: local-lvm\n\tthinpool data\n\tvgname pve\n\tcontent rootdir,images\n",
		"/etc/pve/user.cfg":       "user:root@pam:1:0:::admin@example.com:::\n",
		"/etc/pve/vzdump.cron":    "# cluster wide vzdump cron schedule\n# Automatically generated file - do not edit\n\nPATH=\"/usr/sbin:/usr/bin:/sbin:/bin\"\n\n",
	}
	for name, content := range files {
		if err := n.writeSystemFile(name, []byte(content), 0o640); err != nil {
			return err
		}
	}
	for _, dir := range []string{"firewall", "ha", "mapping", "priv/acme", "sdn", "virtual-guest"} {
		if err := n.m.FS.MkdirAll("/etc/pve/"+dir, 0o755); err != nil {
			return err
		}
	}
	if len(o.AuthorizedKeys) > 0 {
		keys := strings.Join(o.AuthorizedKeys, "\n") + "\n"
		if err := n.writeSystemFile(clusterKeys, []byte(keys), 0o600); err != nil {
			return err
		}
	}
	return nil
}
