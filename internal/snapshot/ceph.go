package snapshot

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/transport"
)

// Ceph is the Ceph cluster. Its file ceph.conf is among the snapshot's Files.
type Ceph struct {
	// Packages are the versions of Ceph's daemons, by node.
	Packages map[string]string `json:"packages"`
	Mons     []Daemon          `json:"mons"`
	Mgrs     []Daemon          `json:"mgrs,omitempty"`
	MDS      []Daemon          `json:"mds,omitempty"`
	// Active is the manager that is at work.
	Active      string              `json:"active_manager,omitempty"`
	OSDs        []OSD               `json:"osds,omitempty"` // by id
	Buckets     []Bucket            `json:"buckets,omitempty"`
	Rules       []Rule              `json:"rules,omitempty"`
	Profiles    map[string]Profile  `json:"profiles,omitempty"`
	Pools       []Pool              `json:"pools,omitempty"`
	Filesystems []Filesystem        `json:"filesystems,omitempty"`
	Flags       []string            `json:"flags,omitempty"`
	NodeFlags   map[string][]string `json:"node_flags,omitempty"`
	Health      []string            `json:"health,omitempty"`
}

// Daemon is a monitor, a manager or a metadata server on a node.
type Daemon struct {
	ID   string `json:"id"`
	Node string `json:"node"`
}

// OSD is an OSD. Device, DB and WAL are names of disks as Disk has them.
type OSD struct {
	ID     int     `json:"id"`
	Node   string  `json:"node"`
	Host   string  `json:"host"` // the bucket that it hangs in
	Class  string  `json:"class,omitempty"`
	Weight float64 `json:"weight"`
	Device string  `json:"device,omitempty"`
	DB     string  `json:"db,omitempty"`
	WAL    string  `json:"wal,omitempty"`
	Up     bool    `json:"up"`
	In     bool    `json:"in"`
}

// Bucket is a node of the CRUSH map above the OSDs; those above come first.
type Bucket struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"`
	Parent string `json:"parent,omitempty"`
}

// Rule is a CRUSH rule: Domain is what it spreads copies over, Per how many each of them gets (0 for one).
type Rule struct {
	ID      int    `json:"id"`
	Name    string `json:"name"`
	Root    string `json:"root,omitempty"`
	Domain  string `json:"domain,omitempty"`
	Class   string `json:"class,omitempty"`
	Per     int    `json:"per,omitempty"`
	Erasure bool   `json:"erasure,omitempty"`
}

// Profile is an erasure code profile.
type Profile map[string]string

// Pool is a pool; Rule is the name of its rule.
type Pool struct {
	ID          int     `json:"id"`
	Name        string  `json:"name"`
	Size        int     `json:"size"`
	MinSize     int     `json:"min_size"`
	PGs         int     `json:"pgs"`
	Rule        string  `json:"rule,omitempty"`
	Profile     string  `json:"profile,omitempty"`
	Autoscale   string  `json:"autoscale,omitempty"`
	Application string  `json:"application,omitempty"`
	TargetRatio float64 `json:"target_ratio,omitempty"`
}

// Filesystem is a CephFS with its pools.
type Filesystem struct {
	Name     string `json:"name"`
	Metadata string `json:"metadata"`
	Data     string `json:"data"`
}

// cephOf takes what one node says of the cluster, and all of their daemons and disks.
func cephOf(c *ceph.Cluster, nodes map[string]*ceph.Node, active string) *Ceph {
	out := &Ceph{Packages: map[string]string{}, Active: active, Flags: c.Map.SetFlags(), NodeFlags: c.Map.NodeFlags, Profiles: map[string]Profile{}}
	names := make([]string, 0, len(nodes))
	for name, n := range nodes {
		names = append(names, name)
		if v := cmp.Or(n.Packages["ceph-osd"], n.Packages["ceph-mon"]); v != "" {
			out.Packages[name] = v
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, d := range nodes[name].Daemons {
			one := Daemon{ID: d.ID, Node: name}
			switch d.Kind {
			case "mon":
				out.Mons = append(out.Mons, one)
			case "mgr":
				out.Mgrs = append(out.Mgrs, one)
			case "mds":
				out.MDS = append(out.MDS, one)
			}
		}
	}
	for _, list := range [][]Daemon{out.Mons, out.Mgrs, out.MDS} {
		slices.SortFunc(list, func(a, b Daemon) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID)) })
	}
	for _, o := range c.Map.OSDs {
		out.OSDs = append(out.OSDs, osdOf(o, nodes))
	}
	out.Buckets = bucketsOf(c.Map.Buckets)
	rules := map[int]string{}
	for _, r := range c.Rules {
		rules[r.ID] = r.Name
		out.Rules = append(out.Rules, Rule{ID: r.ID, Name: r.Name, Root: r.Root, Domain: r.Domain, Class: r.Class, Per: r.Per, Erasure: r.Erasure})
	}
	for name, p := range c.Map.Profiles {
		out.Profiles[name] = Profile(p)
	}
	for _, p := range c.Map.Pools {
		one := Pool{ID: p.ID, Name: p.Name, Size: p.Size, MinSize: p.MinSize, PGs: p.PGs, Rule: rules[p.Rule], Profile: p.Profile, Autoscale: p.Autoscale, TargetRatio: p.TargetRatio}
		if !p.Erasure {
			one.Profile = ""
		}
		if len(p.Applications) > 0 {
			one.Application = p.Applications[0]
		}
		out.Pools = append(out.Pools, one)
	}
	for _, f := range c.Filesystems {
		one := Filesystem{Name: f.Name, Metadata: f.Metadata}
		if len(f.DataPools) > 0 {
			one.Data = f.DataPools[0]
		}
		out.Filesystems = append(out.Filesystems, one)
	}
	out.Health = c.Status.Complaints()
	return out
}

// osdOf finds the node and the disks of an OSD.
func osdOf(o ceph.OSD, nodes map[string]*ceph.Node) OSD {
	out := OSD{ID: o.ID, Node: cmp.Or(o.NodeName, o.Host), Host: o.Host, Class: o.Class, Weight: o.Weight, Up: o.Up, In: o.In}
	if nodes[out.Node] == nil && nodes[o.Host] != nil {
		out.Node = o.Host
	}
	n := nodes[out.Node]
	if n == nil {
		return out
	}
	data, _ := n.DiskOf(o.ID, "block")
	for part, into := range map[string]*string{"block": &out.Device, "block.db": &out.DB, "block.wal": &out.WAL} {
		d, ok := n.DiskOf(o.ID, part)
		if !ok || part != "block" && d == data {
			continue
		}
		if names := n.Names(d); len(names) > 0 {
			*into = names[0]
		} else {
			*into = d.Path
		}
	}
	return out
}

// bucketsOf puts buckets after those above them.
func bucketsOf(list []ceph.Bucket) []Bucket {
	var out []Bucket
	done := map[string]bool{"": true}
	for range list { // no tree is deeper
		for _, b := range list {
			if done[b.Parent] && !done[b.Name] {
				done[b.Name] = true
				out = append(out, Bucket{Name: b.Name, Kind: b.Kind, Parent: b.Parent})
			}
		}
	}
	return out
}

// activeManager asks which manager is at work; "" if that cannot be told.
func activeManager(ctx context.Context, conn transport.Conn) string {
	r, err := conn.Run(ctx, transport.Command{Argv: []string{"timeout", "-k", "2", "15", "ceph", "--connect-timeout", "10", "mgr", "stat", "-f", "json"}, Timeout: 30 * time.Second})
	if err != nil || r.Exit != 0 {
		return ""
	}
	var stat struct {
		Active string `json:"active_name"`
	}
	_ = json.Unmarshal(r.Stdout, &stat) // what makes no sense tells of no manager
	return stat.Active
}
