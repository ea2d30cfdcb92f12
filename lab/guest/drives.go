package guest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// properties reads "a,k=v,k2=v2": what comes without a key is under "".
func properties(text string) map[string]string {
	out := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			key, value = "", part
		}
		out[key] = value
	}
	return out
}

// drive is a disk, a cdrom drive or a mount point of a config.
type drive struct {
	key    string // scsi0, rootfs, mp0, unused0
	file   string // volume id, device, folder, or none
	opts   map[string]string
	cdrom  bool
	cloud  bool // the drive of cloud-init
	unused bool
}

var (
	diskKey  = regexp.MustCompile(`^(ide|sata|scsi|virtio)\d+$|^(efidisk|tpmstate)0$`)
	mountKey = regexp.MustCompile(`^rootfs$|^mp\d+$`)
	spareKey = regexp.MustCompile(`^unused\d+$`)
	// volumeName takes the owner's id out of a volume's name, with the image that a clone is based on.
	volumeName = regexp.MustCompile(`^(?:\d+/)?(?:(base-\d+-[^/]+)/)?(?:\d+/)?((?:vm|base|subvol|basevol)-(\d+)-[^/]+)$`)
)

// drivesOf lists what a section of a config stores data on, by key.
func (k *kind) drivesOf(values map[string]string) []drive {
	keys := diskKey
	if k == ct {
		keys = mountKey
	}
	var out []drive
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if !keys.MatchString(key) && !spareKey.MatchString(key) {
			continue
		}
		opts := properties(values[key])
		d := drive{key: key, file: opts[""], opts: opts, unused: spareKey.MatchString(key)}
		for _, name := range []string{"file", "volume"} {
			if d.file == "" {
				d.file = opts[name]
			}
		}
		d.cdrom = opts["media"] == "cdrom"
		d.cloud = strings.Contains(d.file, "-cloudinit")
		out = append(out, d)
	}
	return out
}

// volume reports the storage and the name of the volume that a drive is on; ok is false for a device, a folder or none.
func (d drive) volume() (storage, name string, ok bool) {
	if strings.HasPrefix(d.file, "/") {
		return "", "", false
	}
	return strings.Cut(d.file, ":")
}

// size is the drive's size in bytes as the config has it.
func (d drive) size() int64 { return parseSize(d.opts["size"]) }

// parseSize reads 32G, 512M, 4194304K, 1073741824.
func parseSize(text string) int64 {
	if text == "" {
		return 0
	}
	shift := map[byte]int{'K': 10, 'M': 20, 'G': 30, 'T': 40}[text[len(text)-1]]
	if shift != 0 {
		text = text[:len(text)-1]
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0
	}
	return int64(n * float64(int64(1)<<shift))
}

// formatSize writes a size as configs have it.
func formatSize(n int64) string {
	for _, unit := range []struct {
		shift int
		name  string
	}{{40, "T"}, {30, "G"}, {20, "M"}, {10, "K"}} {
		if n > 0 && n%(1<<unit.shift) == 0 {
			return fmt.Sprintf("%d%s", n>>unit.shift, unit.name)
		}
	}
	return strconv.FormatInt(n, 10)
}

// with is the drive's value in a config with another volume.
func (d drive) with(file string) string {
	parts := []string{file}
	for _, key := range slices.Sorted(maps.Keys(d.opts)) {
		if key != "" && key != "file" && key != "volume" {
			parts = append(parts, key+"="+d.opts[key])
		}
	}
	return strings.Join(parts, ",")
}

// storage is an entry of storage.cfg.
type storage struct {
	id, kind string
	content  []string
	nodes    []string // nil is all
	disabled bool
	shared   bool
}

// sharedKinds are reached by all nodes without saying so.
var sharedKinds = []string{"nfs", "cifs", "rbd", "cephfs", "iscsi", "iscsidirect", "glusterfs", "pbs", "zfs"}

// migratable are the kinds of local storages whose volumes can be copied to another node.
var migratable = []string{"dir", "btrfs", "zfspool", "lvmthin", "lvm"}

// parseStorages reads storage.cfg.
func parseStorages(text string) map[string]*storage {
	out := map[string]*storage{}
	for _, s := range pvetool.ParseSections(text) {
		one := &storage{id: s.ID, kind: s.Type, shared: s.Values["shared"] == "1" || slices.Contains(sharedKinds, s.Type)}
		disable, ok := s.Values["disable"]
		one.disabled = ok && disable != "0"
		split := func(text string) []string {
			return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == ';' })
		}
		if nodes, ok := s.Values["nodes"]; ok {
			one.nodes = split(nodes)
		}
		one.content = []string{"images", "rootdir"}
		if content, ok := s.Values["content"]; ok {
			one.content = split(content)
		}
		out[s.ID] = one
	}
	if out["local"] == nil {
		out["local"] = &storage{id: "local", kind: "dir", content: []string{"iso", "vztmpl", "backup"}}
	}
	return out
}

// on reports whether a storage may be used on a node.
func (s *storage) on(node string) bool {
	return !s.disabled && (s.nodes == nil || slices.Contains(s.nodes, node))
}

// check is Proxmox's check of a storage on a node: its refusal, or nil.
func checkStorage(all map[string]*storage, id, node string) error {
	s := all[id]
	switch {
	case s == nil:
		return fmt.Errorf("storage '%s' does not exist", id)
	case s.disabled:
		return fmt.Errorf("storage '%s' is disabled", id)
	case !s.on(node):
		return fmt.Errorf("storage '%s' is not available on node '%s'", id, node)
	}
	return nil
}

// files reports whether the storage keeps volumes as files.
func (s *storage) files() bool {
	return slices.Contains([]string{"dir", "nfs", "cifs", "cephfs", "glusterfs", "btrfs"}, s.kind)
}

// newVolume makes the id of a new volume of a guest; taken are the names that are in use, with their storage.
func (s *storage) newVolume(k *kind, id int, format string, taken map[string]bool) string {
	for n := 0; ; n++ {
		prefix := "vm"
		if k == ct && (s.kind == "zfspool" || s.kind == "btrfs") {
			prefix = "subvol"
		}
		name := fmt.Sprintf("%s-%d-disk-%d", prefix, id, n)
		if taken[s.id+":"+name] {
			continue
		}
		if !s.files() {
			return s.id + ":" + name
		}
		if format == "" {
			format = "raw"
		}
		return fmt.Sprintf("%s:%d/%s.%s", s.id, id, name, format)
	}
}

// baseName is a volume's name without its folder and format.
func baseName(name string) string {
	name = name[strings.LastIndexByte(name, '/')+1:]
	name, _, _ = strings.Cut(name, ".")
	return name
}

// formatOf is the format of a volume.
func formatOf(name string) string {
	if _, format, ok := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], "."); ok {
		return format
	}
	return "raw"
}
