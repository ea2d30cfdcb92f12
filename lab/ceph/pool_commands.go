package ceph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// poolSet is `pveceph pool set`, which exits 0 whatever its worker makes.
func (n *Node) poolSet(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	v, name := p.View(), o.Positional[0]
	if err := n.ready(v); err != nil {
		return err
	}
	k, err := n.rados5(ctx, v)
	if err != nil {
		return err
	}
	return n.task(ctx, p, "cephsetpool", name, false, func(ctx context.Context, out io.Writer) error {
		return n.applySettings(ctx, out, k, name, poolSettings(maps.Clone(o.Values)))
	})
}

// poolDestroy is `pveceph pool destroy`.
func (n *Node) poolDestroy(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	v, name := p.View(), o.Positional[0]
	if err := n.ready(v); err != nil {
		return err
	}
	users := n.storagesOf(p, "rbd", "pool", name)
	if len(users) > 0 && !o.Is("force") && !o.Is("remove_storages") {
		return fmt.Errorf("ceph pool '%s' still in use by storage '%s'", name, users[0])
	}
	k, err := n.rados5(ctx, v)
	if err != nil {
		return err
	}
	return n.task(ctx, p, "cephdestroypool", name, false, func(ctx context.Context, out io.Writer) error {
		err := n.with(k, func() error {
			one := k.pool(name)
			switch {
			case one == nil:
				return fmt.Errorf("mon_cmd failed - ENOENT: pool '%s' does not exist", name)
			case one.noDelete:
				return errors.New("mon_cmd failed - EPERM: pool deletion is disabled; you must unset nodelete flag for the pool first")
			case slices.ContainsFunc(k.fs, func(f *filesystem) bool { return f.data == one.id || f.metadata == one.id }):
				return fmt.Errorf("mon_cmd failed - EBUSY: pool '%s' is in use by CephFS", name)
			}
			if o.Is("remove_ecprofile") && one.profile != "" {
				delete(k.profiles, one.profile)
			}
			k.dropPools(func(x *pool) bool { return x == one })
			return nil
		})
		if err == nil && o.Is("remove_storages") {
			err = n.removeStorages(ctx, p, out, "rbd", "pool", name)
		}
		return err
	})
}

// poolObject is a pool in the form of Proxmox's API.
func (c *Cluster) poolObject(p *pool) pvetool.Object {
	kind := "replicated"
	if p.profile != "" {
		kind = "erasure"
	}
	apps := pvetool.Object{}
	if p.app != "" {
		apps[p.app] = pvetool.Object{}
	}
	used, percent := c.usage(p)
	o := pvetool.Object{
		"pool": p.id, "pool_name": p.name, "size": p.size, "min_size": p.minSize, "pg_num": len(p.pgs), "pg_autoscale_mode": p.autoscale, "crush_rule": p.rule.id, "crush_rule_name": p.rule.name,
		"application_metadata": apps, "type": kind, "bytes_used": used, "percent_used": percent, "pg_num_final": len(p.pgs),
	}
	if p.pgNumMin > 0 {
		o["pg_num_min"] = p.pgNumMin
	}
	if p.target > 0 {
		o["target_size"] = p.target
	}
	if p.targetRatio > 0 {
		o["target_size_ratio"] = p.targetRatio
	}
	return o
}

// usage is what a pool takes of the disks.
func (c *Cluster) usage(p *pool) (bytes int64, percent float64) {
	bytes = p.stored() * int64(p.size) / int64(p.k)
	if _, total := c.space(); total > 0 {
		percent = float64(bytes) / float64(total)
	}
	return bytes, percent
}

// stored is what lies in a pool, without copies.
func (p *pool) stored() int64 { return int64(len(p.pgs)) * objectsPerPG * objectSize }

// space is what the OSDs that are in have, used and total.
func (c *Cluster) space() (used, total int64) {
	const perOSD = 30 * mib
	for _, o := range c.osds {
		if o.in > 0 {
			total += o.size
			used += perOSD
		}
	}
	for _, p := range c.pools {
		used += p.stored() * int64(p.size) / int64(p.k)
	}
	return min(used, total), total
}

// poolList is `pveceph pool ls`.
func (n *Node) poolList(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	if err := n.ready(p.View()); err != nil {
		return err
	}
	k, err := n.rados5(ctx, p.View())
	if err != nil {
		return err
	}
	var list []pvetool.Object
	_ = n.with(k, func() error { // nothing fails
		list = []pvetool.Object{}
		for _, one := range k.pools {
			list = append(list, k.poolObject(one))
		}
		return nil
	})
	if strings.HasPrefix(o.Values["output-format"], "json") {
		return printJSON(p, list)
	}
	p.Printf("%-20s %6s %9s %8s %20s %20s %12s\n", "Name", "Size", "Min Size", "PG Num", "PG Autoscale Mode", "Crush Rule Name", "Used")
	for _, one := range list {
		p.Printf("%-20s %6d %9d %8d %20s %20s %12d\n", one["pool_name"], one["size"], one["min_size"], one["pg_num"], one["pg_autoscale_mode"], one["crush_rule_name"], one["bytes_used"])
	}
	return nil
}

func printJSON(p *machine.Proc, value any) error {
	text, err := json.Marshal(value)
	if err == nil {
		p.Println(string(text))
	}
	return err
}

// poolGet is `pveceph pool get`.
func (n *Node) poolGet(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	if err := n.ready(p.View()); err != nil {
		return err
	}
	k, err := n.rados5(ctx, p.View())
	if err != nil {
		return err
	}
	var one pvetool.Object
	err = n.with(k, func() error {
		if k.pool(o.Positional[0]) == nil {
			return fmt.Errorf("mon_cmd failed - ENOENT: unrecognized pool '%s'", o.Positional[0])
		}
		one = k.poolDetail(k.pool(o.Positional[0]))
		return nil
	})
	if err != nil {
		return err
	}
	if strings.HasPrefix(o.Values["output-format"], "json") {
		return printJSON(p, one)
	}
	for _, key := range slices.Sorted(maps.Keys(one)) {
		p.Printf("%-24s %v\n", key, one[key])
	}
	return nil
}

// poolDetail is the status of a pool in the form of Proxmox's API.
func (c *Cluster) poolDetail(p *pool) pvetool.Object {
	o := pvetool.Object{
		"id": p.id, "name": p.name, "size": p.size, "min_size": p.minSize, "pg_num": len(p.pgs), "pgp_num": len(p.pgs), "crush_rule": p.rule.name, "pg_autoscale_mode": p.autoscale,
		"fast_read": 0, "hashpspool": 1, "nodeep-scrub": 0, "nodelete": 0, "nopgchange": 0, "noscrub": 0, "nosizechange": 0, "use_gmt_hitset": 1, "write_fadvise_dontneed": 0,
	}
	if p.app != "" {
		o["application"] = p.app
		o["application_list"] = []string{p.app}
	}
	return o
}

const (
	storageCfg    = "/etc/pve/storage.cfg"
	storageLockID = "file-storage_cfg"
)

var storageRequired = map[string][]string{"dir": {"path"}, "cephfs": {"path"}, "nfs": {"path", "server", "export"}, "lvm": {"vgname"}, "lvmthin": {"thinpool", "vgname"}, "zfspool": {"pool"}}

func (n *Node) storages(p *machine.Proc) []pvetool.Section {
	text, err := p.View().ReadFile(storageCfg)
	if err != nil {
		return nil
	}
	return pvetool.ParseSections(string(text))
}

func (n *Node) storageFree(p *machine.Proc, id string) error {
	if len(id) < 2 {
		return fmt.Errorf("storage ID '%s' cannot be shorter than 2 characters", id)
	}
	if slices.ContainsFunc(n.storages(p), func(s pvetool.Section) bool { return s.ID == id }) {
		return fmt.Errorf("storage ID '%s' already defined", id)
	}
	return nil
}

// storagesOf are the storages of a type whose key has a value.
func (n *Node) storagesOf(p *machine.Proc, kind, key, value string) []string {
	var out []string
	for _, s := range n.storages(p) {
		if have := or2(s.Values[key], map[string]string{"pool": "rbd", "fs-name": "cephfs"}[key]); s.Type == kind && have == value && s.Values["monhost"] == "" {
			out = append(out, s.ID)
		}
	}
	return out
}

// addStorage registers a storage and gives it its key.
func (n *Node) addStorage(ctx context.Context, p *machine.Proc, out io.Writer, kind, id string, values map[string]string) error {
	v := p.View()
	text, err := v.ReadFile(adminKeyring)
	if err != nil {
		return err
	}
	path := "/etc/pve/priv/ceph/" + id + ".keyring"
	if kind == "cephfs" {
		path = "/etc/pve/priv/ceph/" + id + ".secret"
		_, key, _ := strings.Cut(string(text), "key = ")
		key, _, _ = strings.Cut(key, "\n")
		text = []byte(key + "\n")
	}
	if err := write(v, path, string(text)); err != nil {
		return err
	}
	return n.locked(ctx, v, out, storageLockID, func() error {
		list := n.storages(p)
		if slices.ContainsFunc(list, func(s pvetool.Section) bool { return s.ID == id }) {
			return fmt.Errorf("create storage failed: storage ID '%s' already defined", id)
		}
		list = append(list, pvetool.Section{Type: kind, ID: id, Values: values})
		return write(v, storageCfg, pvetool.FormatSections(list, storageRequired))
	})
}

// removeStorages takes the storages of a pool or file system out of the config.
func (n *Node) removeStorages(ctx context.Context, p *machine.Proc, out io.Writer, kind, key, value string) error {
	v := p.View()
	return n.locked(ctx, v, out, storageLockID, func() error {
		gone := n.storagesOf(p, kind, key, value)
		list := slices.DeleteFunc(n.storages(p), func(s pvetool.Section) bool { return slices.Contains(gone, s.ID) })
		for _, id := range gone {
			for _, suffix := range []string{".keyring", ".secret"} {
				if path := "/etc/pve/priv/ceph/" + id + suffix; exists(v, path) {
					if err := v.Remove(path); err != nil {
						return err
					}
				}
			}
		}
		return write(v, storageCfg, pvetool.FormatSections(list, storageRequired))
	})
}
