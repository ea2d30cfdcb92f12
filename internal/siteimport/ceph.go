package siteimport

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/zclconf/go-cty/cty"
)

// osds writes the disks of a node that hold OSDs, by their names in /dev/disk/by-id.
func (w *writer) osds(node *hclwrite.Body, name string) {
	n := w.CephNodes[name]
	if n == nil {
		return
	}
	var list []cty.Value
	for _, id := range osdsOf(n) {
		disk, ok := n.DiskOf(id, "block")
		names := []string(nil)
		if ok {
			names = n.Names(disk)
		}
		if len(names) == 0 {
			w.note("the disk of osd.%d on %s has no name in /dev/disk/by-id: it is left out of the inventory", id, name)
			continue
		}
		one := map[string]cty.Value{"device": cty.StringVal(names[0])}
		for part, key := range map[string]string{"block.db": "db_device", "block.wal": "wal_device"} {
			if d, ok := n.DiskOf(id, part); ok && d != disk {
				if names := n.Names(d); len(names) > 0 {
					one[key] = cty.StringVal(names[0])
				}
			}
		}
		list = append(list, cty.ObjectVal(one))
	}
	if len(list) > 0 {
		node.SetAttributeValue("osds", cty.TupleVal(list))
	}
}

func osdsOf(n *ceph.Node) []int {
	var ids []int
	for _, v := range n.Volumes {
		if !slices.Contains(ids, v.OSD) {
			ids = append(ids, v.OSD)
		}
	}
	slices.Sort(ids)
	return ids
}

// ceph writes the cluster as one task: networks, daemons, pools and file systems.
func (w *writer) ceph() {
	if w.Ceph == nil {
		return
	}
	conf := w.Ceph.Conf
	b := w.task("ceph_init", "ceph")
	set(b, "network", conf.PublicNetwork)
	if conf.ClusterNetwork != "" && conf.ClusterNetwork != conf.PublicNetwork {
		set(b, "cluster_network", conf.ClusterNetwork)
	}
	for _, n := range w.CephNodes {
		if release := n.Release(); release != "" {
			set(b, "version", release)
			break
		}
	}
	if repository := w.repository(); repository != "" {
		set(b, "repository", repository)
	}
	setList(b, "mons", conf.Daemons("mon"))
	if mgrs := w.with("mgr"); len(mgrs) > 0 {
		setList(b, "mgrs", mgrs)
	}
	if mds := w.with("mds"); len(mds) > 0 {
		setList(b, "mds", mds)
	}
	var internal []string
	for _, fs := range w.Ceph.Filesystems {
		internal = append(internal, fs.Pools()...)
	}
	for _, p := range w.Ceph.Map.Pools {
		if !strings.HasPrefix(p.Name, ".") && !slices.Contains(internal, p.Name) {
			w.pool(b, p)
		}
	}
	for _, fs := range w.Ceph.Filesystems {
		block := b.AppendNewBlock("fs", []string{fs.Name}).Body()
		if s, ok := w.Ceph.Storage(fs.Name); ok && s.Type == "cephfs" {
			setBool(block, "storage", true)
		}
	}
}

func (w *writer) pool(b *hclwrite.Body, p ceph.Pool) {
	if p.Erasure || strings.HasSuffix(p.Name, "-metadata") {
		w.note("pool %s belongs to an erasure coded pair: it is left alone", p.Name)
		return
	}
	block := b.AppendNewBlock("pool", []string{p.Name}).Body()
	setInt(block, "size", p.Size)
	setInt(block, "min_size", p.MinSize)
	set(block, "autoscale", p.Autoscale)
	if p.Autoscale != "on" {
		setInt(block, "pg_num", p.PGs)
	}
	for _, r := range w.Ceph.Rules {
		if r.ID == p.Rule && r.Name != "replicated_rule" {
			set(block, "crush_rule", r.Name)
		}
	}
	if len(p.Applications) == 1 {
		set(block, "application", p.Applications[0])
	}
	if p.TargetRatio > 0 {
		block.SetAttributeValue("target_size_ratio", cty.NumberFloatVal(p.TargetRatio))
	}
	if s, ok := w.Ceph.Storage(p.Name); ok && s.Type == "rbd" {
		setBool(block, "storage", true)
	}
}

// with lists the nodes that have a daemon of a kind.
func (w *writer) with(kind string) []string {
	var names []string
	for _, n := range w.Conf.Nodes {
		node := w.CephNodes[n.Name]
		if node == nil {
			continue
		}
		for _, d := range node.Daemons {
			if d.Kind == kind && !slices.Contains(names, n.Name) {
				names = append(names, n.Name)
			}
		}
	}
	return names
}

// repository is the one that Ceph's packages come from, if all nodes agree.
func (w *writer) repository() string {
	found := ""
	for _, n := range w.CephNodes {
		if n.Repository == "" || found != "" && found != n.Repository {
			return ""
		}
		found = n.Repository
	}
	return found
}
