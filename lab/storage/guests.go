package storage

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/vfs"
)

// guestConfig is what this package reads of a guest's config.
type guestConfig struct {
	id   int
	kind string // qemu or lxc
	node string
	name string
	// disks are its volumes.
	disks []disk
}

type disk struct {
	key, storage, name string
	size               int64
	replicate          bool
}

var (
	diskKey = regexp.MustCompile(`^(?:(?:ide|sata|scsi|virtio|mp)\d+|efidisk0|tpmstate0|rootfs)$`)
	suffix  = map[string]int64{"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
)

// guests reads the configs of all guests of the cluster, by id.
func guests(v *vfs.View) []guestConfig {
	nodes, err := v.ReadDir("/etc/pve/nodes")
	if err != nil {
		return nil
	}
	var out []guestConfig
	for _, node := range nodes {
		for folder, kind := range map[string]string{"qemu-server": "qemu", "lxc": "lxc"} {
			dir := "/etc/pve/nodes/" + node.Name + "/" + folder
			files, err := v.ReadDir(dir)
			if err != nil {
				continue
			}
			for _, f := range files {
				id, err := strconv.Atoi(strings.TrimSuffix(f.Name, ".conf"))
				if err != nil || !strings.HasSuffix(f.Name, ".conf") {
					continue
				}
				text, err := v.ReadFile(dir + "/" + f.Name)
				if err != nil {
					continue
				}
				out = append(out, parseGuest(string(text), guestConfig{id: id, kind: kind, node: node.Name}))
			}
		}
	}
	slices.SortFunc(out, func(a, b guestConfig) int { return a.id - b.id })
	return out
}

// parseGuest reads the disks of a guest, as far as its first section goes.
func parseGuest(text string, g guestConfig) guestConfig {
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "[") {
			break
		}
		key, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case !ok:
		case key == "name" || key == "hostname":
			g.name = value
		case diskKey.MatchString(key) && !strings.Contains(value, "media=cdrom"):
			if d, ok := parseDisk(key, value); ok {
				g.disks = append(g.disks, d)
			}
		}
	}
	return g
}

func parseDisk(key, value string) (disk, bool) {
	volid, rest, _ := strings.Cut(value, ",")
	volid = strings.TrimPrefix(strings.TrimPrefix(volid, "file="), "volume=")
	storage, name, ok := strings.Cut(volid, ":")
	if !ok || strings.HasPrefix(volid, "/") {
		return disk{}, false
	}
	d := disk{key: key, storage: storage, name: name, replicate: true}
	for option := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(option, "=")
		switch {
		case k == "replicate" && v == "0":
			d.replicate = false
		case k == "size" && v != "":
			unit := suffix[v[len(v)-1:]]
			if unit == 0 {
				unit = 1
			}
			n, _ := strconv.ParseInt(strings.TrimRight(v, "KMGT"), 10, 64)
			d.size = n * unit
		}
	}
	return d, true
}

// guest returns one of the cluster's guests.
func guest(v *vfs.View, id int) (guestConfig, bool) {
	all := guests(v)
	i := slices.IndexFunc(all, func(g guestConfig) bool { return g.id == id })
	if i < 0 {
		return guestConfig{}, false
	}
	return all[i], true
}

// replicatable lists the volumes of a guest that replication copies. A volume that it should copy and cannot is an error.
func (g guestConfig) replicatable(c config) ([]disk, error) {
	var out []disk
	for _, d := range g.disks {
		if !d.replicate {
			continue
		}
		s, ok := c.find(d.storage)
		switch {
		case !ok:
			return nil, fmt.Errorf("storage '%s' does not exist", d.storage)
		case s.Type != "zfspool":
			return nil, fmt.Errorf("missing replicate feature on volume '%s:%s'", d.storage, d.name)
		}
		out = append(out, d)
	}
	return out, nil
}

// pool lists the members of a resource pool, which stand in user.cfg.
func pool(v *vfs.View, name string) []int {
	text, _ := v.ReadFile("/etc/pve/user.cfg") // a node without one has no pools
	var out []int
	for line := range strings.SplitSeq(string(text), "\n") {
		fields := strings.Split(line, ":")
		if len(fields) < 4 || fields[0] != "pool" || fields[1] != name {
			continue
		}
		for _, id := range list(fields[3]) {
			if n, err := strconv.Atoi(id); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

// checkNode is the check of a node's name in a path of pvesh.
func (n *Node) checkNode(name string) error {
	if name != n.n.Name() && name != "localhost" {
		return fmt.Errorf("proxy handler failed: node '%s' is not the local one", name)
	}
	return nil
}
