package ceph

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// ParseVolumes reads the output of ceph-volume lvm list --format json: for each OSD the volumes that it is made of.
func ParseVolumes(text []byte) ([]Volume, error) {
	var raw map[string][]struct {
		Devices []string          `json:"devices"`
		Path    string            `json:"lv_path"`
		Type    string            `json:"type"`
		Tags    map[string]string `json:"tags"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("ceph-volume lvm list: %w", err)
	}
	var out []Volume
	for name, parts := range raw {
		id, err := strconv.Atoi(name)
		if err != nil || id < 0 {
			continue
		}
		for _, p := range parts {
			part := map[string]string{"block": "block", "db": "block.db", "wal": "block.wal"}[p.Type]
			if part == "" {
				continue
			}
			v := Volume{OSD: id, Part: part, FSID: p.Tags["ceph.cluster_fsid"], Class: p.Tags["ceph.crush_device_class"]}
			if p.Path != "" {
				v.Paths = append(v.Paths, p.Path)
			}
			v.Paths = append(v.Paths, p.Devices...)
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b Volume) int {
		if a.OSD != b.OSD {
			return a.OSD - b.OSD
		}
		return len(a.Part) - len(b.Part)
	})
	return out, nil
}

// OSDsOn lists the ids of the OSDs that have a part on a disk, and for each the parts, in order.
func (n *Node) OSDsOn(d *Disk) map[int][]string {
	out := map[int][]string{}
	for _, v := range n.Volumes {
		on := slices.ContainsFunc(v.Paths, func(p string) bool { return d.holds(p) || d.holds(mapperPath(p)) })
		if on && !slices.Contains(out[v.OSD], v.Part) {
			out[v.OSD] = append(out[v.OSD], v.Part)
		}
	}
	return out
}

// DiskOf returns the disk on which a part of an OSD lies.
func (n *Node) DiskOf(osd int, part string) (*Disk, bool) {
	for i := range n.Disks {
		if slices.Contains(n.OSDsOn(&n.Disks[i])[osd], part) {
			return &n.Disks[i], true
		}
	}
	return nil, false
}
