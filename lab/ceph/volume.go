package ceph

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// volumeProgram is ceph-volume: lvm list and lvm zap.
func (n *Node) volumeProgram(_ context.Context, p *machine.Proc) int {
	args := slices.DeleteFunc(slices.Clone(p.Args()), func(a string) bool { return strings.HasPrefix(a, "--cluster") })
	if len(args) > 1 && args[0] == "lvm" {
		switch args[1] {
		case "list":
			return n.volumeList(p, args[2:])
		case "zap":
			return n.volumeZap(p, args[2:])
		}
	}
	fmt.Fprintln(p.Stderr, "usage: ceph-volume [-h] [--cluster CLUSTER] {lvm,simple,raw,inventory,activate}")
	return 1
}

// listed is one volume of `ceph-volume lvm list`.
type listed struct {
	Devices []string          `json:"devices"`
	Name    string            `json:"lv_name"`
	Path    string            `json:"lv_path"`
	Size    string            `json:"lv_size"`
	Tags    string            `json:"lv_tags"`
	UUID    string            `json:"lv_uuid"`
	Full    string            `json:"name"`
	Where   string            `json:"path"`
	Parsed  map[string]string `json:"tags"`
	Type    string            `json:"type"`
	Group   string            `json:"vg_name"`
}

func (n *Node) volumeList(p *machine.Proc, args []string) int {
	asJSON, only := false, ""
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--format" && i+1 < len(args):
			i++
			asJSON = args[i] == "json"
		case strings.HasPrefix(args[i], "--format="):
			asJSON = args[i] == "--format=json"
		default:
			only = args[i]
		}
	}
	if only != "" && !isNumber(only) {
		only = "/dev/" + strings.TrimPrefix(n.disks.Resolve(p.View(), only), "/dev/")
	}
	out := map[string][]listed{}
	for _, v := range n.disks.Volumes() {
		id := v.Tags["ceph.osd_id"]
		if id == "" || only != "" && only != id && !slices.Contains(v.Devices, only) && v.Path != only {
			continue
		}
		var tags []string
		for _, key := range slices.Sorted(maps.Keys(v.Tags)) {
			tags = append(tags, key+"="+v.Tags[key])
		}
		out[id] = append(out[id], listed{
			Devices: v.Devices, Name: v.Name, Path: v.Path, Size: strconv.FormatInt(v.Size, 10), Tags: strings.Join(tags, ","), UUID: v.UUID, Full: v.Name, Where: v.Path,
			Parsed: v.Tags, Type: v.Tags["ceph.type"], Group: v.Group,
		})
	}
	if asJSON {
		text, err := json.MarshalIndent(out, "", "    ")
		if err != nil {
			return p.Fail(1, "%v", err)
		}
		p.Println(string(text))
		return 0
	}
	if len(out) == 0 {
		p.Println("No valid Ceph lvm devices found")
		return 1
	}
	for _, id := range slices.SortedFunc(maps.Keys(out), func(a, b string) int { x, _ := strconv.Atoi(a); y, _ := strconv.Atoi(b); return x - y }) {
		p.Printf("\n\n====== osd.%s =======\n", id)
		for _, v := range out[id] {
			p.Printf("\n  [%s]       %s\n\n", v.Type, v.Path)
			for _, key := range slices.Sorted(maps.Keys(v.Parsed)) {
				p.Printf("      %-25s %s\n", strings.ReplaceAll(strings.TrimPrefix(key, "ceph."), "_", " "), v.Parsed[key])
			}
			p.Printf("      %-25s %s\n", "devices", strings.Join(v.Devices, ","))
		}
	}
	return 0
}

func isNumber(text string) bool {
	_, err := strconv.Atoi(text)
	return err == nil
}

func (n *Node) volumeZap(p *machine.Proc, args []string) int {
	destroy, osdID, osdFSID := false, "", ""
	var devices []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--destroy":
			destroy = true
		case args[i] == "--osd-id" && i+1 < len(args):
			i++
			osdID = args[i]
		case args[i] == "--osd-fsid" && i+1 < len(args):
			i++
			osdFSID = args[i]
		default:
			devices = append(devices, args[i])
		}
	}
	targets, code := n.zapTargets(p, devices, osdID, osdFSID)
	if code != 0 {
		return code
	}
	for _, t := range targets {
		fmt.Fprintf(p.Stderr, "--> Zapping: %s\n", t.path)
		for _, id := range t.osds {
			if n.runs(id) {
				fmt.Fprintf(p.Stderr, "-->  RuntimeError: Unable to zap device that is being used by a running OSD: %s\n", t.path)
				return 1
			}
		}
		switch {
		case t.volume != "":
			n.disks.RemoveVolume(t.volume, destroy)
		case destroy || len(t.osds) == 0 && !t.lvm:
			n.disks.Clear(t.device)
		default:
			fmt.Fprintf(p.Stderr, "stderr: wipefs: error: %s: probing initialization failed: Device or resource busy\n--> failed to wipefs device, will try again to workaround probable race condition\n-->  RuntimeError: could not complete wipefs on device: %s\n", t.path, t.path)
			return 1
		}
		fmt.Fprintf(p.Stderr, "--> Zapping successful for: <Raw Device: %s>\n", t.path)
	}
	return 0
}

// zapTarget is a device or a volume to be zapped.
type zapTarget struct {
	path, device, volume string
	osds                 []string
	lvm                  bool
}

func (n *Node) zapTargets(p *machine.Proc, devices []string, osdID, osdFSID string) (out []zapTarget, code int) {
	volumes := n.disks.Volumes()
	for _, path := range devices {
		name := n.disks.Resolve(p.View(), path)
		if name == "" {
			fmt.Fprintf(p.Stderr, "usage: ceph-volume lvm zap [-h] [--destroy] [DEVICES ...]\nceph-volume lvm zap: error: Unable to proceed with non-existing device: %s\n", path)
			return nil, 2
		}
		t := zapTarget{path: path, device: name}
		for _, v := range volumes {
			here := v.Group+"/"+v.Name == name
			if here {
				t.volume = name
			}
			if here || slices.Contains(v.Devices, "/dev/"+name) {
				t.lvm = true
				if id := v.Tags["ceph.osd_id"]; id != "" {
					t.osds = append(t.osds, id)
				}
			}
		}
		if i, ok := n.disks.Find(name); ok && i.Mount != "" {
			fmt.Fprintf(p.Stderr, "--> Unmounting %s\n", path)
		}
		out = append(out, t)
	}
	if len(devices) > 0 {
		return out, 0
	}
	for _, v := range volumes {
		if osdID != "" && v.Tags["ceph.osd_id"] == osdID || osdFSID != "" && v.Tags["ceph.osd_fsid"] == osdFSID {
			out = append(out, zapTarget{path: v.Path, volume: v.Group + "/" + v.Name, osds: []string{v.Tags["ceph.osd_id"]}})
		}
	}
	if len(out) == 0 {
		fmt.Fprintf(p.Stderr, "-->  RuntimeError: Unable to find any LV for zapping OSD: %s\n", or2(osdID, osdFSID))
		return nil, 1
	}
	return out, 0
}

// runs reports whether an OSD of the node runs.
func (n *Node) runs(id string) bool {
	n.model.mu.Lock()
	defer n.model.mu.Unlock()
	for _, c := range n.activeClusters() {
		if d := c.daemon("osd", id); d != nil && d.node == n && d.on {
			return true
		}
	}
	return false
}
