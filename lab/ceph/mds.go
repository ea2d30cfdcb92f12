package ceph

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

func mdsDir(id string) string { return "/var/lib/ceph/mds/ceph-" + id }

// mdsCreate is `pveceph mds create`.
func (n *Node) mdsCreate(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	v := p.View()
	if err := n.ready(v, "ceph-mds"); err != nil {
		return err
	}
	if err := symlinkConf(v); err != nil {
		return err
	}
	id := or2(o.Values["name"], n.name)
	if id[0] >= '0' && id[0] <= '9' {
		return errors.New("ID of the MDS cannot start with a number!") //nolint:revive,staticcheck // Proxmox's words
	}
	k, err := n.rados5(ctx, v)
	if err != nil {
		return err
	}
	return n.task(ctx, p, "cephcreatemds", "mds."+id, true, func(ctx context.Context, out io.Writer) error {
		return n.locked(ctx, v, out, confLockID, func() error {
			c := readConf(v, confPath)
			if c["mds."+id] != nil {
				return fmt.Errorf("MDS '%s' already referenced in ceph config, abort!", id) //nolint:revive,staticcheck // Proxmox's words
			}
			c.set("mds", "keyring", "/var/lib/ceph/mds/ceph-$id/keyring")
			c.set("mds."+id, "host", n.name)
			c.set("mds."+id, "mds_standby_for_name", "pve")
			if o.Is("hotstandby") {
				c.set("mds."+id, "mds_standby_replay", "true")
			}
			if err := write(v, confPath, c.String()); err != nil {
				return err
			}
			fmt.Fprintf(out, "creating MDS directory '%s'\ncreating keys for 'mds.%s'\nsetting ceph as owner for service directory\nenabling service 'ceph-mds@%s.service'\n", mdsDir(id), id, id)
			if err := n.pve.Phase(ctx, "ceph:mds", time.Second); err != nil {
				return err
			}
			if err := write(v, mdsDir(id)+"/keyring", fmt.Sprintf("[mds.%s]\n\tkey = %s\n", id, n.newKey())); err != nil {
				return err
			}
			d := &mds{daemon: daemon{kind: "mds", id: id}, rank: -1}
			_ = n.with(k, func() error { // nothing fails
				d.gid = 4100 + 13*len(k.mds)
				k.mds = append(k.mds, d)
				k.fsEpoch++
				return nil
			})
			n.addUnit(k, &d.daemon, mdsDir(id))
			fmt.Fprintf(out, "Created symlink /etc/systemd/system/ceph-mds.target.wants/ceph-mds@%s.service -> /lib/systemd/system/ceph-mds@.service\nstarting service 'ceph-mds@%s.service'\n", id, id)
			return n.start(ctx, &d.daemon)
		})
	})
}

// mdsDestroy is `pveceph mds destroy`.
func (n *Node) mdsDestroy(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	v, id := p.View(), o.Positional[0]
	if err := n.ready(v); err != nil {
		return err
	}
	k, err := n.rados5(ctx, v)
	if err != nil {
		return err
	}
	return n.task(ctx, p, "cephdestroymds", "mds."+id, true, func(ctx context.Context, out io.Writer) error {
		fmt.Fprintf(out, "disabling service 'ceph-mds@%s.service'\nstopping service 'ceph-mds@%s.service'\nremoving mds directory '%s'\nremoving ceph auth for 'mds.%s'\n", id, id, mdsDir(id), id)
		n.model.mu.Lock()
		d := k.daemon("mds", id)
		n.model.mu.Unlock()
		if d != nil {
			n.stop(ctx, d)
			_ = n.with(k, func() error { // nothing fails
				k.mds = slices.DeleteFunc(k.mds, func(x *mds) bool { return x.id == id })
				return nil
			})
		}
		if err := v.RemoveAll(mdsDir(id)); err != nil {
			return err
		}
		return n.locked(ctx, v, out, confLockID, func() error {
			c := readConf(v, confPath)
			delete(c, "mds."+id)
			if len(c.sections("mds.")) == 0 {
				delete(c, "mds")
			}
			return write(v, confPath, c.String())
		})
	})
}

// standbys are the metadata servers that run without a rank.
func (c *Cluster) standbys() []*mds {
	return slices.DeleteFunc(slices.Clone(c.mds), func(d *mds) bool { return !d.on || d.fs != nil })
}

// fsCreate is `pveceph fs create`, which exits 0 whatever its worker makes.
func (n *Node) fsCreate(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	v := p.View()
	if err := n.ready(v); err != nil {
		return err
	}
	k, err := n.rados5(ctx, v)
	if err != nil {
		return err
	}
	name, pgs := or2(o.Values["name"], "cephfs"), or(o.Int("pg_num"), 128)
	data, metadata := name+"_data", name+"_metadata"
	err = n.with(k, func() error {
		running := slices.ContainsFunc(k.mds, func(d *mds) bool { return d.on })
		switch {
		case k.pool(data) != nil || k.pool(metadata) != nil:
			return fmt.Errorf("ceph pools '%s' and/or '%s' already exist", data, metadata)
		case slices.ContainsFunc(k.fs, func(f *filesystem) bool { return f.name == name }):
			return fmt.Errorf("ceph fs '%s' already exists", name)
		case !running:
			return errors.New("no running Metadata Server (MDS) found!") //nolint:revive,staticcheck // Proxmox's words
		case len(k.standbys()) == 0:
			return errors.New("no standby Metadata Server (MDS) found!") //nolint:revive,staticcheck // Proxmox's words
		}
		return nil
	})
	if err != nil {
		return err
	}
	return n.task(ctx, p, "cephfscreate", name, false, func(ctx context.Context, out io.Writer) error {
		for _, one := range []struct {
			what, pool string
			pgs        int
		}{{"data", data, pgs}, {"metadata", metadata, max(8, (pgs+3)/4)}} {
			fmt.Fprintf(out, "creating %s pool '%s'...\n", one.what, one.pool)
			settings := poolSettings{"pg_num": fmt.Sprint(one.pgs), "application": "cephfs", "size": fmt.Sprint(3), "min_size": "2", "pg_autoscale_mode": "warn"}
			if err := n.makePool(ctx, out, k, one.pool, settings); err != nil {
				return err
			}
		}
		fmt.Fprintf(out, "configuring new CephFS '%s'\n", name)
		if err := n.pve.Phase(ctx, "ceph:fs", time.Second); err != nil {
			return err
		}
		err := n.with(k, func() error {
			k.fsEpoch++
			k.fs = append(k.fs, &filesystem{id: len(k.fs) + 1, name: name, data: k.pool(data).id, metadata: k.pool(metadata).id, created: n.model.now()})
			return nil
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "Successfully create CephFS '%s'\n", name)
		if !o.Is("add-storage") {
			return nil
		}
		fmt.Fprintf(out, "Adding '%s' to storage configuration...\nWaiting for an MDS to become active\n", name)
		return n.addFSStorage(ctx, p, out, k, name)
	})
}

// addFSStorage waits for an active metadata server and registers the storage.
func (n *Node) addFSStorage(ctx context.Context, p *machine.Proc, out io.Writer, k *Cluster, name string) error {
	active := func() (yes bool) {
		_ = n.with(k, func() error { // nothing fails
			yes = slices.ContainsFunc(k.mds, func(d *mds) bool { return d.fs != nil && d.on })
			return nil
		})
		return yes
	}
	for i := 0; !active(); i++ {
		const patience = 10
		if i == patience {
			return errors.New("Need MDS to add storage, but none got active!") //nolint:revive,staticcheck // Proxmox's words
		}
		if err := n.m.Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	return n.addStorage(ctx, p, out, "cephfs", name, map[string]string{"path": "/mnt/pve/" + name, "content": "backup,iso,vztmpl", "fs-name": name})
}

// fsDestroy is `pveceph fs destroy`.
func (n *Node) fsDestroy(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	v, name := p.View(), o.Positional[0]
	if err := n.ready(v); err != nil {
		return err
	}
	k, err := n.rados5(ctx, v)
	if err != nil {
		return err
	}
	find := func() *filesystem {
		for _, f := range k.fs {
			if f.name == name {
				return f
			}
		}
		return nil
	}
	err = n.with(k, func() error {
		if find() == nil {
			return fmt.Errorf("no cephfs named '%s'", name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return n.task(ctx, p, "cephdestroyfs", name, false, func(ctx context.Context, out io.Writer) error {
		if o.Is("remove-storages") {
			if err := n.removeStorages(ctx, p, out, "cephfs", "fs-name", name); err != nil {
				return err
			}
		}
		return n.with(k, func() error {
			f := find()
			if d := k.holder(f); d != nil && d.on {
				return fmt.Errorf("mon_cmd failed - EINVAL: MDS daemon '%s' is still active, fs must not be in use", d.id)
			}
			k.fs = slices.DeleteFunc(k.fs, func(x *filesystem) bool { return x == f })
			k.fsEpoch++
			for _, d := range k.mds {
				if d.fs == f {
					d.fs, d.rank = nil, -1
				}
			}
			if o.Is("remove-pools") {
				for _, id := range []int{f.data, f.metadata} {
					if one := k.poolByID(id); one != nil {
						fmt.Fprintf(out, "removing pool '%s'\n", one.name)
					}
				}
				k.dropPools(func(p *pool) bool { return p.id == f.data || p.id == f.metadata })
			}
			return nil
		})
	})
}

// purge is `pveceph purge`.
func (n *Node) purge(ctx context.Context, p *machine.Proc, _ pvetool.Options) error {
	v := p.View()
	k, _ := n.rados5(ctx, v) // what cannot be reached can be purged
	var left []string
	if k != nil {
		_ = n.with(k, func() error { // nothing fails
			if len(k.pools) > 0 {
				left = append(left, "- remove pools, this will !!DESTROY DATA!!")
			}
			if len(k.osds) > 0 {
				left = append(left, "- stop and destroy OSDs")
			}
			if len(k.mds) > 0 {
				left = append(left, "- remove MDS daemons")
			}
			if len(k.mons) > 1 {
				left = append(left, "- remove other MONs, pve node is not empty")
			}
			return nil
		})
	}
	if len(left) > 0 {
		return fmt.Errorf("Unable to purge Ceph!\n\nTo continue:\n%s", strings.Join(left, "\n")) //nolint:revive,staticcheck // Proxmox's words
	}
	n.model.mu.Lock()
	var mine []*daemon
	for _, c := range n.activeClusters() {
		for _, d := range c.daemons() {
			if d.node == n {
				mine = append(mine, d)
			}
		}
		if len(c.mons) <= 1 {
			delete(n.model.clusters, c.fsid)
		}
	}
	n.model.mu.Unlock()
	for _, d := range mine {
		n.stop(ctx, d)
	}
	for _, path := range []string{"/var/lib/ceph/mon", "/var/lib/ceph/mgr", "/var/lib/ceph/mds", confLink, confPath, adminKeyring, monKeyring, bootstrapOSD} {
		if err := v.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}
