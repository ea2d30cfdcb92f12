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

// devicePhases are the places inside pvecm qdevice where faults cut in.
var devicePhases = []string{
	"qdevice:qnetd", "qdevice:ca", "qdevice:request", "qdevice:signed", "qdevice:imported", "qdevice:conf", "qdevice:daemon", "qdevice:reload",
	"qdevice-remove:conf", "qdevice-remove:stores",
}

// DevicePhases lists them for faults.
func DevicePhases() []string { return slices.Clone(devicePhases) }

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
	return deviceExit(p, n.deviceSetup(ctx, p, o.Positional[0], o.Is("force")))
}

// deviceExit ends a program as its error says: without a word when it was killed.
func deviceExit(p *machine.Proc, err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrKilled):
		return pvetool.ExitKilled
	}
	return pvetool.Die(p, pvetool.ExitDie, "%v", err)
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

func (n *Node) deviceActivate(ctx context.Context, p *machine.Proc, conf *Conf, nodes []*Node) error {
	p.Printf("INFO: add QDevice to cluster configuration\n")
	if err := n.locked(ctx, p.View(), p.Stderr, "file-corosync_conf", func() error { return writeConf(p.View(), conf) }); err != nil {
		return err
	}
	if err := n.phase(ctx, "qdevice:conf", 0); err != nil {
		return err
	}
	for _, member := range nodes {
		p.Printf("\nINFO: start and enable corosync qdevice daemon on node '%s'...\n", member.name)
		if err := n.onMember(ctx, p, member, io.Discard, p.Stderr, "true"); err != nil {
			return err
		}
		fmt.Fprint(p.Stderr, "Synchronizing state of corosync-qdevice.service with SysV service script with /usr/lib/systemd/systemd-sysv-install.\nExecuting: /usr/lib/systemd/systemd-sysv-install enable corosync-qdevice\n")
		fmt.Fprint(p.Stderr, "Created symlink '/etc/systemd/system/multi-user.target.wants/corosync-qdevice.service' -> '/usr/lib/systemd/system/corosync-qdevice.service'.\n")
		member.m.EnableUnit("corosync-qdevice", true)
		if err := member.m.StartUnit(ctx, "corosync-qdevice"); err != nil {
			return err
		}
		if err := n.phase(ctx, "qdevice:daemon", 0); err != nil {
			return err
		}
	}
	// The local files follow the cluster's within a moment; the reload reads those.
	if err := n.w.clock.Sleep(ctx, time.Second); err != nil {
		return err
	}
	if err := n.phase(ctx, "qdevice:reload", 0); err != nil {
		return err
	}
	if pvetool.Run(ctx, p, p.Stdout, p.Stderr, "corosync-cfgtool", "-R") != 0 {
		return errors.New("command 'corosync-cfgtool -R' failed: exit code 1")
	}
	return nil
}

// pvecmDeviceRemove is `pvecm qdevice remove`.
func (n *Node) pvecmDeviceRemove(ctx context.Context, p *machine.Proc, args []string) int {
	if _, perr := pvetool.Parse(args, nil); perr != nil {
		return pvetool.Usage(p, perr, pvecmUsage["qdevice remove"])
	}
	return deviceExit(p, n.deviceRemove(ctx, p))
}

func (n *Node) deviceRemove(ctx context.Context, p *machine.Proc) error {
	conf, nodes, err := n.clusterMembers(p)
	if err != nil {
		return err
	}
	if _, configured := conf.Device(); !configured {
		return errors.New("No QDevice configured!") //nolint:revive,staticcheck // pvecm's words
	}
	conf.RemoveDevice()
	conf.Bump()
	if err := n.locked(ctx, p.View(), p.Stderr, "file-corosync_conf", func() error { return writeConf(p.View(), conf) }); err != nil {
		return err
	}
	if err := n.phase(ctx, "qdevice-remove:conf", 0); err != nil {
		return err
	}
	for _, member := range nodes {
		if err := n.onMember(ctx, p, member, p.Stdout, p.Stderr, "rm", "-rf", deviceDir); err != nil {
			return err
		}
		fmt.Fprint(p.Stderr, "Synchronizing state of corosync-qdevice.service with SysV service script with /usr/lib/systemd/systemd-sysv-install.\nExecuting: /usr/lib/systemd/systemd-sysv-install disable corosync-qdevice\n")
		fmt.Fprint(p.Stderr, "Removed '/etc/systemd/system/multi-user.target.wants/corosync-qdevice.service'.\n")
		err := member.m.StopUnit(ctx, "corosync-qdevice")
		member.m.EnableUnit("corosync-qdevice", false)
		if err != nil {
			return err
		}
		if err := n.phase(ctx, "qdevice-remove:stores", 0); err != nil {
			return err
		}
	}
	if err := n.w.clock.Sleep(ctx, time.Second); err != nil {
		return err
	}
	if pvetool.Run(ctx, p, p.Stdout, p.Stderr, "corosync-cfgtool", "-R") != 0 {
		return errors.New("command 'corosync-cfgtool -R' failed: exit code 1")
	}
	p.Printf("\nRemoved Qdevice.\n")
	return nil
}
