package ceph

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/schema"
)

// networks are what pveceph init writes down for good.
type networks struct {
	Network        netip.Prefix  `hcl:"network" doc:"The network on which clients and monitors talk. It is fixed once the cluster is made." example:"\"10.0.3.0/24\""`
	ClusterNetwork *netip.Prefix `hcl:"cluster_network,optional" doc:"A network of its own for the copies between OSDs (default: the same). It is fixed once the cluster is made."`
	Size           *int          `hcl:"size,optional" min:"1" max:"7" doc:"Copies that new pools keep (default: 3)."`
	MinSize        *int          `hcl:"min_size,optional" min:"1" max:"7" doc:"Copies without which new pools take no writes (default: 2)."`
}

func (n networks) validate() error {
	if n.Size != nil && n.MinSize != nil && *n.MinSize > *n.Size {
		return schema.At("min_size", fmt.Errorf("min_size %d is more than size %d", *n.MinSize, *n.Size))
	}
	return nil
}

// initialise plans pveceph init, which is run exactly once. On a cluster that is there it would overwrite the networks of
// running daemons (reference §8.2), so differences are refused and never applied.
func (w *world) initialise(n networks, mons []string) []module.Change {
	const gate = "make the Ceph cluster"
	if why, bad := w.Unread["conf"]; bad {
		w.refuse(w.From, gate, "/etc/pve/ceph.conf could not be read: "+why, "a node whose /etc/pve answers", "timeout 5 cat /etc/pve/ceph.conf", "")
		return nil
	}
	if w.Conf.Inited() {
		w.sameNetworks(n)
		w.sameDefaults(n)
		return w.finishInit()
	}
	if w.will.inited || len(mons) == 0 {
		if len(mons) == 0 {
			w.refuse("", gate, "none of the nodes for monitors is in this run", "a node on which the cluster is made", "", "run without --limit")
		}
		return nil
	}
	if !w.noRemains(gate) {
		return nil
	}
	host := mons[0]
	if !w.need(host, gate) || !w.installed(host, gate) || !w.linked(host, gate) || !w.writable(host, gate) {
		return nil
	}
	argv := []string{"pveceph", "init", "--network", n.Network.Masked().String()}
	after := map[string]any{"network": n.Network.Masked().String()}
	if n.ClusterNetwork != nil {
		argv = append(argv, "--cluster-network", n.ClusterNetwork.Masked().String())
		after["cluster_network"] = n.ClusterNetwork.Masked().String()
	}
	for _, o := range []struct {
		name  string
		value *int
	}{{"size", n.Size}, {"min_size", n.MinSize}} {
		if o.value != nil {
			argv = append(argv, "--"+o.name, strconv.Itoa(*o.value))
			after[o.name] = *o.value
		}
	}
	return w.plan([]module.Change{{
		ID: host + "/" + kindInit, Host: host, Action: module.Create, Summary: fmt.Sprintf("make the Ceph cluster on network %s", n.Network.Masked()), After: after,
		Apply: func(ctx context.Context, t module.Target) error { return makeCluster(ctx, t, host, argv) },
	}})
}

// noRemains refuses while there are signs of a cluster that was made before: its ceph.conf was lost, and a new one would get
// another fsid, so that none of its monitors and OSDs would ever find together again. A node that cannot be read may have some.
func (w *world) noRemains(gate string) bool {
	var saw []string
	where := ""
	for _, host := range w.nodes {
		n := w.local[host]
		why := ""
		if n.Err != nil {
			why = n.Err.Error()
		} else if text, bad := n.Unread["daemons"]; bad {
			why = text
		}
		if why != "" {
			w.refuse(host, gate, "there is no Ceph cluster in /etc/pve/ceph.conf, and whether the node has remains of one could not be read: "+why,
				"every node read, and none with monitors or OSDs", "ls -d /var/lib/ceph/mon/* /var/lib/ceph/osd/*", "bring the node back, or take it out of the inventory")
			return false
		}
		for _, name := range slices.Sorted(keys(n.Daemons)) {
			if d := n.Daemons[name]; d.Kind == "mon" || d.Kind == "osd" {
				saw = append(saw, fmt.Sprintf("/var/lib/ceph/%s/ceph-%s on %s", d.Kind, d.ID, host))
				if where == "" || d.Kind == "mon" && !strings.HasPrefix(where, "mon") {
					where = d.Kind + " " + d.ID + " " + host
				}
			}
		}
	}
	if w.Keyring {
		saw = append(saw, "/etc/pve/priv/ceph.client.admin.keyring")
	}
	if len(saw) == 0 {
		return true
	}
	const most = 6
	if more := len(saw) - most; more > 0 {
		saw = append(saw[:most:most], fmt.Sprintf("%d more", more))
	}
	look, restore := remainsHelp(where)
	w.refuse("", gate, "/etc/pve/ceph.conf names no cluster, and there are remains of one: "+strings.Join(saw, ", "), "/etc/pve/ceph.conf of that cluster, or no remains", look,
		restore+"; only if all that the old cluster held is given up: move these folders and the key away on every node, then apply again")
	return false
}

// remainsHelp says how to look at what is left of a cluster, and how its ceph.conf is written again from it: a monitor's map
// has the cluster's id and the monitors' addresses, an OSD at least the id.
func remainsHelp(where string) (look, restore string) {
	const conf = "write /etc/pve/ceph.conf again ([global] with fsid, mon_host, public_network and the auth_… lines, a section for each monitor)"
	kind, rest, _ := strings.Cut(where, " ")
	id, host, _ := strings.Cut(rest, " ")
	switch kind {
	case "mon":
		return fmt.Sprintf("ls /var/lib/ceph/mon /var/lib/ceph/osd; on %s, while its monitor is stopped: ceph-mon -i %s --extract-monmap /tmp/monmap && monmaptool --print /tmp/monmap", host, id),
			conf + " from what monmaptool prints, or take it from a backup of /etc/pve"
	case "osd":
		return fmt.Sprintf("ls /var/lib/ceph/mon /var/lib/ceph/osd; on %s: cat /var/lib/ceph/osd/ceph-%s/ceph_fsid", host, id), conf + " with the id of the cluster from there, or take it from a backup of /etc/pve"
	}
	return "ls -l /etc/pve/priv/ceph.client.admin.keyring; ls /var/lib/ceph/mon /var/lib/ceph/osd", conf + " from a backup of /etc/pve"
}

// makeCluster runs pveceph init unless somebody else was faster.
func makeCluster(ctx context.Context, t module.Target, host string, argv []string) error {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return err
	}
	before, err := ceph.ReadCluster(ctx, host, conn)
	if err != nil {
		return err
	}
	if before.Conf.Inited() && len(argv) > 2 {
		return &module.Refusal{Host: host, Gate: "make the Ceph cluster", Saw: "a cluster " + before.Conf.FSID + " has appeared", Want: "none", Look: "cat /etc/pve/ceph.conf", Override: "plan again"}
	}
	if err := run(ctx, t, host, argv...); err != nil {
		return fmt.Errorf("%s: pveceph init: %s", host, said(err))
	}
	after, err := ceph.ReadCluster(ctx, host, conn)
	switch {
	case err != nil:
		return err
	case !after.Conf.Inited() || !after.Keyring:
		return fmt.Errorf("%s: pveceph init succeeded, and /etc/pve/ceph.conf or the administrator's key is not there (look: ls /etc/pve/ceph.conf /etc/pve/priv/ceph.client.admin.keyring)", host)
	}
	return nil
}

// finishInit ends an init that was cut off before it had written the administrator's key. Without options it leaves the
// networks as they are.
func (w *world) finishInit() []module.Change {
	if w.Keyring {
		return nil
	}
	const gate = "finish making the Ceph cluster"
	if mons := w.Conf.Daemons("mon"); len(mons) > 0 {
		w.refuse("", gate, "/etc/pve/priv/ceph.client.admin.keyring is missing, and there are monitors: "+strings.Join(mons, ", "), "the administrator's key",
			"ls -l /etc/pve/priv", "take the key from a monitor: ceph -n mon. -k /var/lib/ceph/mon/ceph-<id>/keyring auth get client.admin")
		return nil
	}
	host := w.From
	if !w.installed(host, gate) || !w.writable(host, gate) {
		return nil
	}
	return []module.Change{{
		ID: host + "/" + kindInit, Host: host, Action: module.Update, Summary: "finish making the Ceph cluster: write the administrator's key",
		Before: map[string]any{"state": "/etc/pve/ceph.conf is there, the key is not: pveceph init was cut off"},
		Apply: func(ctx context.Context, t module.Target) error {
			return makeCluster(ctx, t, host, []string{"pveceph", "init"})
		},
	}}
}

func (w *world) sameNetworks(n networks) {
	const look = "grep _network /etc/pve/ceph.conf"
	differ := func(what string, want netip.Prefix, have string) {
		if slices.Contains(prefixes(have), want.Masked()) {
			return
		}
		if have == "" {
			have = "none"
		}
		w.refuse("", "make the Ceph cluster", fmt.Sprintf("its %s is %s, and the runbook says %s", what, have, want.Masked()), "the network that the cluster was made with", look,
			"mend the runbook: networks of a living cluster are never changed by this program, since init would overwrite them under running daemons")
	}
	differ("public network", n.Network, w.Conf.PublicNetwork)
	if n.ClusterNetwork != nil {
		have := w.Conf.ClusterNetwork
		if have == "" {
			have = w.Conf.PublicNetwork
		}
		differ("cluster network", *n.ClusterNetwork, have)
	}
}

func (w *world) sameDefaults(n networks) {
	for _, d := range []struct {
		what string
		want *int
		have int
	}{{"size", n.Size, w.Conf.Size}, {"min_size", n.MinSize, w.Conf.MinSize}} {
		if d.want != nil && d.have != 0 && *d.want != d.have {
			w.warn("", "%s of new pools is %d in /etc/pve/ceph.conf, wanted %d; it is not changed, pools name their own", d.what, d.have, *d.want)
		}
	}
}

// prefixes reads a list of networks as ceph.conf has them.
func prefixes(text string) []netip.Prefix {
	var out []netip.Prefix
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		if p, err := netip.ParsePrefix(part); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// public and cluster are the networks of the cluster, that which is going to be made included.
func (w *world) public(n *networks) []netip.Prefix {
	if w.Conf.Inited() || n == nil {
		return prefixes(confOf(w).PublicNetwork)
	}
	return []netip.Prefix{n.Network.Masked()}
}

func (w *world) private(n *networks) []netip.Prefix {
	if w.Conf.Inited() || n == nil {
		return prefixes(confOf(w).ClusterNetwork)
	}
	if n.ClusterNetwork == nil {
		return nil
	}
	return []netip.Prefix{n.ClusterNetwork.Masked()}
}

func confOf(w *world) *ceph.Conf {
	if w.Conf == nil {
		return &ceph.Conf{}
	}
	return w.Conf
}

// reaches refuses when a node has no address in any of some networks. Without a known network there is nothing to check.
func (w *world) reaches(host, gate, what string, networks []netip.Prefix) bool {
	if len(networks) == 0 {
		return true
	}
	for _, p := range networks {
		if len(w.addressIn(host, p)) > 0 {
			return true
		}
	}
	names := make([]string, len(networks))
	for i, p := range networks {
		names[i] = p.String()
	}
	w.refuse(host, gate, "no interface has an address in Ceph's "+what+" "+strings.Join(names, ", "), "an address in it", "ip addr", "give the node one, or mend the network")
	return false
}
