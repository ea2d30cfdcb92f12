package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
)

// formedIn is the model time after which a cluster that does not come together is given up.
const formedIn = 5 * time.Minute

// Form makes nodes the cluster that a corosync.conf describes, as if they had been it for long: they share an authkey, a database
// and certificates, and a QDevice votes. What pvecm would have asked for and printed on the way does not happen. The nodes must
// be standalone and up, and those with a QDevice must have its package.
func (w *World) Form(ctx context.Context, text string) error {
	conf, err := ParseConf(text)
	if err != nil {
		return err
	}
	nodes, err := w.standalone(conf)
	if err != nil {
		return err
	}
	if device, ok := conf.Device(); ok {
		if err := w.certifyDevice(conf.ClusterName(), device.Host, nodes); err != nil {
			return err
		}
	}
	key := make([]byte, 256)
	nodes[0].m.Random(key)
	for i, n := range nodes {
		if err := n.enterFormed(ctx, i == 0, text, key); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
	}
	if err := w.awaitFormed(ctx, nodes); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := n.updateCerts(n.m.FS.View, true, func(string) {}); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
		if err := n.units(ctx, n.m.ReloadUnit, "pvedaemon", "pveproxy"); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
	}
	if _, ok := conf.Device(); !ok {
		return nil
	}
	for _, n := range nodes {
		n.m.EnableUnit("corosync-qdevice", true)
		if err := n.m.StartUnit(ctx, "corosync-qdevice"); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
	}
	return nil
}

// standalone are the nodes of a config in the order of their ids.
func (w *World) standalone(conf *Conf) ([]*Node, error) {
	entries := slices.Clone(conf.Nodes())
	slices.SortFunc(entries, func(a, b ConfNode) int { return a.ID - b.ID })
	var out []*Node
	for _, e := range entries {
		n := w.Node(e.Name)
		switch {
		case n == nil:
			return nil, fmt.Errorf("the cluster has a node %q, which is not in the lab", e.Name)
		case n.hasConf():
			return nil, fmt.Errorf("%s is in a cluster already", e.Name)
		}
		out = append(out, n)
	}
	if len(out) == 0 {
		return nil, errors.New("the corosync.conf has no nodes")
	}
	return out, nil
}

// enterFormed leaves on a node what create or a join leaves there. The database of the first becomes that of all.
func (n *Node) enterFormed(ctx context.Context, first bool, text string, key []byte) error {
	v := n.m.FS.View
	if err := n.prepareSSH(ctx, &machine.Proc{Machine: n.m, Argv: []string{"pvecm"}}, v); err != nil {
		return err
	}
	if first {
		if err := replace(v, "/etc/pve/corosync.conf", []byte(text), 0o640); err != nil {
			return err
		}
	}
	if err := errors.Join(put(v, authkeyPath, key, 0o400), put(v, localConfPath, []byte(text), 0o644)); err != nil {
		return err
	}
	if err := n.units(ctx, n.m.StopUnit, "pve-cluster", "corosync"); err != nil {
		return err
	}
	if !first {
		if err := v.Remove(configDB); err != nil {
			return err
		}
	}
	return n.units(ctx, n.m.StartUnit, "pve-cluster", "corosync")
}

// awaitFormed waits until every node sees all others and may write.
func (w *World) awaitFormed(ctx context.Context, nodes []*Node) error {
	end := w.clock.Elapsed() + formedIn
	for {
		var missing []string
		for _, n := range nodes {
			if v := n.View(); len(v.Members) < len(nodes) || !n.SameDatabase(nodes[0]) || !v.Writable {
				missing = append(missing, n.name)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		if w.clock.Elapsed() > end {
			return fmt.Errorf("the cluster does not come together: %s did not get in; its links may not reach the others'", strings.Join(missing, ", "))
		}
		if err := w.clock.Sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
}

// certifyDevice leaves the certificates of a QDevice on its arbiter and on the nodes.
func (w *World) certifyDevice(cluster, host string, nodes []*Node) error {
	arbiter := w.find(host)
	if arbiter == nil {
		return fmt.Errorf("the arbiter %s is not in the lab", host)
	}
	if err := initAuthority(arbiter); err != nil {
		return err
	}
	authority, err := arbiter.FS.ReadFile(qnetdCA)
	if err != nil {
		return err
	}
	if err := replace(arbiter.FS.View, qnetdDir+"/cluster-"+cluster+".crt", authority, 0o600); err != nil {
		return err
	}
	for i, n := range nodes {
		v := n.m.FS.View
		files := map[string]string{
			trustedCA: string(authority), ownCert: string(authority), deviceCert + "/qdevice-net-node.p12": string(authority), deviceCert + "/noise.txt": "noise\n",
		}
		if i == 0 { // where pvecm was called
			files[deviceCert+"/qdevice-net-node.crq"], files[deviceCert+"/cluster-"+cluster+".crt"] = "request\n", string(authority)
		}
		for name, text := range files {
			if err := put(v, name, []byte(text), 0o600); err != nil {
				return fmt.Errorf("%s: %w", n.name, err)
			}
		}
		if _, ok := n.m.Unit("corosync-qdevice.service"); !ok {
			return fmt.Errorf("%s: the package corosync-qdevice is not installed", n.name)
		}
	}
	return nil
}
