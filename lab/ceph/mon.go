package ceph

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

// monRequest is what a new monitor shall be.
type monRequest struct {
	id    string
	addrs []string
}

// monCreate is `pveceph mon create`.
func (n *Node) monCreate(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	v := p.View()
	if err := n.ready(v, "ceph-mon", "ceph-mgr"); err != nil {
		return err
	}
	if err := symlinkConf(v); err != nil {
		return err
	}
	c := readConf(v, confPath)
	k, _ := n.rados5(ctx, v) // there is none for the first monitor
	if ctx.Err() != nil {
		return pvetool.ErrKilled
	}
	first := len(c.sections("mon.")) == 0 && c["global"]["mon_host"] == ""
	if k == nil && !first {
		return errors.New("Could not connect to ceph cluster despite configured monitors") //nolint:revive,staticcheck // Proxmox's words
	}
	r := monRequest{id: or2(o.Values["monid"], n.name)}
	var err error
	if r.addrs, err = n.monAddresses(c, o.Values["mon-address"]); err != nil {
		return err
	}
	if err := n.monAllowed(c, k, r); err != nil {
		return err
	}
	return n.task(ctx, p, "cephcreatemon", "mon."+r.id, true, func(ctx context.Context, out io.Writer) error {
		err := n.locked(ctx, v, out, confLockID, func() error { return n.makeMon(ctx, p, out, k, r, first) })
		if err != nil || !first {
			return err
		}
		return n.makeMgr(ctx, v, out, n.name)
	})
}

// sections are the names of the sections of a kind.
func (c conf) sections(prefix string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if strings.HasPrefix(name, prefix) {
			out = append(out, name)
		}
	}
	return out
}

// monAddresses are those that a monitor will have: the given ones, or the one that the node has in the public network.
func (n *Node) monAddresses(c conf, given string) ([]string, error) {
	if given != "" {
		list := strings.FieldsFunc(given, func(r rune) bool { return r == ',' || r == ';' || r == ' ' })
		for _, text := range list {
			a, err := netip.ParseAddr(text)
			if err != nil || !n.m.Owns(a) {
				return nil, fmt.Errorf("Specified monitor IP '%s' not configured or up on %s!", text, n.name) //nolint:revive,staticcheck // Proxmox's words
			}
		}
		return list, nil
	}
	network := c["global"]["public_network"]
	found := n.addresses(network)
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("No active IP found for the requested ceph public network '%s' on node '%s'", network, n.name) //nolint:revive,staticcheck // Proxmox's words
	case len(found) > 1:
		var list []string
		for _, a := range found {
			list = append(list, a.String())
		}
		return nil, fmt.Errorf("Multiple IPs for ceph public network '%s' detected on %s:\n%s\nuse 'mon-address' to specify one of them.", network, n.name, strings.Join(list, "\n")) //nolint:revive,staticcheck // Proxmox's words
	}
	return []string{found[0].String()}, nil
}

// monAllowed checks that neither the name nor an address is taken.
func (n *Node) monAllowed(c conf, k *Cluster, r monRequest) error {
	known := map[string]string{} // address by monitor
	for _, name := range c.sections("mon.") {
		known[strings.TrimPrefix(name, "mon.")] = c[name]["public_addr"]
	}
	if k != nil {
		_ = n.with(k, func() error { // nothing fails
			for _, m := range k.mons {
				known[m.id] = m.addr.String()
			}
			return nil
		})
	}
	if _, taken := known[r.id]; taken {
		return fmt.Errorf("monitor '%s' already exists", r.id)
	}
	used := slices.Collect(maps.Values(known))
	for _, a := range r.addrs {
		if slices.Contains(used, a) {
			return fmt.Errorf("monitor address '%s' already in use", a)
		}
	}
	return nil
}

func monDir(id string) string { return "/var/lib/ceph/mon/ceph-" + id }

// makeMon makes the monitor; the lock of ceph.conf is held.
func (n *Node) makeMon(ctx context.Context, p *machine.Proc, out io.Writer, k *Cluster, r monRequest, first bool) error {
	v := p.View()
	c := readConf(v, confPath)
	if err := n.monAllowed(c, k, r); err != nil {
		return err
	}
	if err := n.pve.Phase(ctx, "ceph:mon", 1500*time.Millisecond); err != nil {
		return err
	}
	if !exists(v, monKeyring) {
		fmt.Fprintf(out, "creating new monitor keyring\ncreating %s\nimporting contents of %s into %s\n", monKeyring, adminKeyring, monKeyring)
		if err := write(v, monKeyring, fmt.Sprintf("[mon.]\n\tkey = %s\n\tcaps mon = \"allow *\"\n", n.newKey())); err != nil {
			return err
		}
	}
	dir := monDir(r.id)
	if exists(v, dir) {
		return fmt.Errorf("monitor filesystem '%s' already exist", dir)
	}
	fsid := c["global"]["fsid"]
	fmt.Fprintf(out, "monmaptool: monmap file /tmp/monmap\nmonmaptool: set fsid to %s\nmonmaptool: writing epoch 0 to /tmp/monmap (1 monitors)\n", fsid)
	for name, text := range map[string]string{"keyring": "[mon.]\n", "kv_backend": "rocksdb\n", "min_mon_release": "19\n"} {
		if err := write(v, dir+"/"+name, text); err != nil {
			return err
		}
	}
	d := n.admitMon(fsid, c, r)
	c.set("global", "mon_host", c["global"]["mon_host"]+" "+strings.Join(r.addrs, " "))
	c.set("mon."+r.id, "public_addr", r.addrs[0])
	if err := write(v, confPath, c.String()); err != nil {
		return err
	}
	if err := n.pve.Phase(ctx, "ceph:mon-start", 500*time.Millisecond); err != nil {
		return err
	}
	if err := n.start(ctx, &d.daemon); err != nil {
		return err
	}
	if first {
		fmt.Fprintln(out, "created the first monitor, assume it's safe to disable insecure global ID reclaim for new setup")
		pvetool.Run(ctx, p, out, out, "ceph", "config", "set", "mon", "auth_allow_insecure_global_id_reclaim", "false")
	}
	fmt.Fprintf(out, "Created symlink /etc/systemd/system/ceph-mon.target.wants/ceph-mon@%s.service -> /lib/systemd/system/ceph-mon@.service\n", r.id)
	return nil
}

// admitMon makes the monitor known, with its unit.
func (n *Node) admitMon(fsid string, c conf, r monRequest) *mon {
	m := n.model
	m.mu.Lock()
	k := m.clusters[fsid]
	if k == nil {
		k = m.newCluster(fsid, c)
		if size := c["global"]["osd_pool_default_size"]; size != "" {
			_, _ = fmt.Sscan(size, &k.defaultSize) // Proxmox wrote it
		}
	}
	k.settle()
	d := &mon{daemon: daemon{kind: "mon", id: r.id}, addr: netip.MustParseAddr(r.addrs[0])} // checked
	k.mons = append(k.mons, d)
	slices.SortFunc(k.mons, func(a, b *mon) int { return a.addr.Compare(b.addr) })
	k.monEpoch++
	m.mu.Unlock()
	n.addUnit(k, &d.daemon, monDir(r.id))
	return d
}

// monDestroy is `pveceph mon destroy`.
func (n *Node) monDestroy(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	v, id := p.View(), o.Positional[0]
	if err := n.ready(v); err != nil {
		return err
	}
	k, err := n.rados5(ctx, v)
	if err != nil {
		return err
	}
	var d *mon
	err = n.with(k, func() error {
		d = k.mon(id)
		switch {
		case d == nil:
			return fmt.Errorf("no such monitor id '%s'", id)
		case len(k.mons) <= 1:
			return errors.New("can't remove last monitor")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return n.task(ctx, p, "cephdestroymon", "mon."+id, true, func(ctx context.Context, out io.Writer) error {
		return n.locked(ctx, v, out, confLockID, func() error {
			_ = n.with(k, func() error { // nothing fails
				k.mons = slices.DeleteFunc(k.mons, func(x *mon) bool { return x == d })
				k.monEpoch++
				return nil
			})
			n.stop(ctx, &d.daemon)
			if err := v.RemoveAll(monDir(id)); err != nil {
				return err
			}
			c := readConf(v, confPath)
			delete(c, "mon."+id)
			hosts := slices.DeleteFunc(c.monHosts(), func(a string) bool { return a == d.addr.String() })
			c.set("global", "mon_host", strings.Join(hosts, " "))
			return write(v, confPath, c.String())
		})
	})
}

func mgrDir(id string) string { return "/var/lib/ceph/mgr/ceph-" + id }

// mgrCreate is `pveceph mgr create`.
func (n *Node) mgrCreate(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	v := p.View()
	if err := n.ready(v, "ceph-mgr"); err != nil {
		return err
	}
	if err := symlinkConf(v); err != nil {
		return err
	}
	if _, err := n.rados5(ctx, v); err != nil {
		return err
	}
	id := or2(o.Values["id"], n.name)
	return n.task(ctx, p, "cephcreatemgr", "mgr."+id, true, func(ctx context.Context, out io.Writer) error {
		return n.makeMgr(ctx, v, out, id)
	})
}

// makeMgr makes a manager.
func (n *Node) makeMgr(ctx context.Context, v *vfs.View, out io.Writer, id string) error {
	dir := mgrDir(id)
	if exists(v, dir) {
		return fmt.Errorf("ceph manager directory '%s' already exists", dir)
	}
	k, err := n.connect(ctx, v, 60*time.Second)
	if err != nil {
		return errors.New("got timeout")
	}
	fmt.Fprintf(out, "creating manager directory '%s'\ncreating keys for 'mgr.%s'\nsetting owner for directory\nenabling service 'ceph-mgr@%s.service'\n", dir, id, id)
	if err := n.pve.Phase(ctx, "ceph:mgr", time.Second); err != nil {
		return err
	}
	if err := write(v, dir+"/keyring", fmt.Sprintf("[mgr.%s]\n\tkey = %s\n", id, n.newKey())); err != nil {
		return err
	}
	d := &mgr{daemon{kind: "mgr", id: id}}
	_ = n.with(k, func() error { k.mgrs = append(k.mgrs, d); return nil }) // nothing fails
	n.addUnit(k, &d.daemon, "")
	fmt.Fprintf(out, "Created symlink /etc/systemd/system/ceph-mgr.target.wants/ceph-mgr@%s.service -> /lib/systemd/system/ceph-mgr@.service\nstarting service 'ceph-mgr@%s.service'\n", id, id)
	return n.start(ctx, &d.daemon)
}

// mgrDestroy is `pveceph mgr destroy`.
func (n *Node) mgrDestroy(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	v, id := p.View(), o.Positional[0]
	if err := n.ready(v); err != nil {
		return err
	}
	k, err := n.rados5(ctx, v)
	if err != nil {
		return err
	}
	dir := mgrDir(id)
	return n.task(ctx, p, "cephdestroymgr", "mgr."+id, true, func(ctx context.Context, out io.Writer) error {
		if !exists(v, dir) {
			return fmt.Errorf("ceph manager directory '%s' not found", dir)
		}
		fmt.Fprintf(out, "disabling service 'ceph-mgr@%s.service'\nstopping service 'ceph-mgr@%s.service'\nremoving manager directory '%s'\n", id, id, dir)
		n.model.mu.Lock()
		d := k.daemon("mgr", id)
		n.model.mu.Unlock()
		if d != nil {
			n.stop(ctx, d)
			_ = n.with(k, func() error { // nothing fails
				k.mgrs = slices.DeleteFunc(k.mgrs, func(x *mgr) bool { return x.id == id })
				if k.active != nil && k.active.id == id {
					k.active = nil
				}
				return nil
			})
		}
		return v.RemoveAll(dir)
	})
}
