package guest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/internal/pve/config"
)

var (
	machineDrive   = regexp.MustCompile(`^(?:ide|sata|scsi|virtio|unused)\d+$|^(?:efidisk|tpmstate)0$`)
	containerDrive = regexp.MustCompile(`^rootfs$|^(?:mp|unused)\d+$`)
	netKey         = regexp.MustCompile(`^net\d+$`)
	deviceKey      = regexp.MustCompile(`^(usb|hostpci|serial|parallel|virtiofs)\d+$`)
)

// Parse reads a guest's config. Pending changes are left out: they concern neither the guest as it runs nor its moves
// (record 24). A template of a description, a comment or an unknown line is skipped.
func Parse(kind Kind, id int, node, text string) Guest {
	g := Guest{ID: id, Kind: kind, Node: node}
	current, snapshots := sectionsOf(text)
	g.plain(current)
	g.hardware(current)
	g.volumes(current, snapshots)
	return g
}

// sectionsOf takes a config apart: what holds now, and the snapshots by name.
func sectionsOf(text string) (current map[string]string, snapshots map[string]map[string]string) {
	current, snapshots = map[string]string{}, map[string]map[string]string{}
	into := current
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "["); ok && strings.HasSuffix(name, "]") {
			name = strings.TrimSuffix(name, "]")
			into = map[string]string{}
			if name != "PENDING" && !strings.Contains(name, ":") {
				snapshots[name] = into
			}
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok || key == "" || key[0] == '#' {
			continue
		}
		into[key] = strings.TrimSpace(value)
	}
	return current, snapshots
}

// plain reads the options that are not devices.
func (g *Guest) plain(values map[string]string) {
	g.Name = values["name"]
	if g.Kind == CT {
		g.Name = values["hostname"]
	}
	g.Tags = config.SplitList(values["tags"])
	g.Lock = values["lock"]
	g.Template, g.OnBoot = config.Bool(values["template"]), config.Bool(values["onboot"])
	const standard = 512 // MiB, of both kinds
	memory := strings.TrimPrefix(values["memory"], "current=")
	g.Memory = int64(number(memory, standard)) << 20
	g.Cores = number(values["cores"], 1)
	if g.Kind == VM {
		g.Cores *= number(values["sockets"], 1)
		cpu := config.ParseProperties(values["cpu"], "cputype")
		g.CPU = cpu["cputype"]
		g.UUID = strings.ToLower(config.ParseProperties(values["smbios1"], "")["uuid"])
		g.Clipboard = config.ParseProperties(values["vga"], "type")["clipboard"] == "vnc"
	}
}

func number(text string, otherwise int) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return otherwise
	}
	return n
}

// hardware reads network cards and devices of the node.
func (g *Guest) hardware(values map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		value := values[key]
		if netKey.MatchString(key) {
			if bridge := config.ParseProperties(value, "model")["bridge"]; bridge != "" && !slices.Contains(g.Bridges, bridge) {
				g.Bridges = append(g.Bridges, bridge)
			}
			continue
		}
		if g.Kind == CT {
			if strings.HasPrefix(key, "dev") && len(key) > 3 {
				g.Devices = append(g.Devices, key)
			}
			continue
		}
		family := strings.TrimRight(key, "0123456789")
		options := config.ParseProperties(value, "host")
		switch {
		case family == "virtiofs" && deviceKey.MatchString(key):
			g.Mapped = append(g.Mapped, Device{key, "directory/" + config.ParseProperties(value, "dirid")["dirid"]})
		case options["mapping"] != "" && deviceKey.MatchString(key):
			kind := map[string]string{"hostpci": "pci", "usb": "usb"}[family]
			g.Mapped = append(g.Mapped, Device{key, kind + "/" + options["mapping"]})
		case family == "usb" && options["host"] == "spice", family == "serial" && value == "socket":
		case deviceKey.MatchString(key), key == "ivshmem", key == "amd-sev", key == "intel-tdx":
			g.Devices = append(g.Devices, key)
		}
	}
}

// volumes reads what the guest keeps data on, now and in snapshots.
func (g *Guest) volumes(current map[string]string, snapshots map[string]map[string]string) {
	g.Snapshots = slices.Sorted(maps.Keys(snapshots))
	at := map[string]int{}
	for _, key := range slices.Sorted(maps.Keys(current)) {
		if v, ok := g.volume(key, current[key]); ok {
			if _, twice := at[v.File]; twice {
				continue
			}
			at[v.File] = len(g.Volumes)
			g.Volumes = append(g.Volumes, v)
		}
	}
	for _, name := range g.Snapshots {
		values := snapshots[name]
		if state := values["vmstate"]; state != "" {
			values["unused999"] = state // the memory of a snapshot is a volume too
		}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			v, ok := g.volume(key, values[key])
			if !ok || v.CDROM {
				continue
			}
			if i, there := at[v.File]; there {
				if g.Volumes[i].Snapshot == "" {
					g.Volumes[i].Snapshot = name
				}
				continue
			}
			v.Snapshot, v.Detached, v.Unused = name, true, false
			if key == "unused999" {
				v.Key = "vmstate"
			}
			at[v.File] = len(g.Volumes)
			g.Volumes = append(g.Volumes, v)
		}
	}
}

// volume reads one drive or mount point. A drive without a medium is none.
func (g *Guest) volume(key, value string) (Volume, bool) {
	form, bare := machineDrive, "file"
	if g.Kind == CT {
		form, bare = containerDrive, "volume"
	}
	if !form.MatchString(key) {
		return Volume{}, false
	}
	options := config.ParseProperties(value, bare)
	v := Volume{
		Key: key, File: options[bare], CDROM: options["media"] == "cdrom", Unused: strings.HasPrefix(key, "unused"),
		Declared: config.Bool(options["shared"]), Replicate: options["replicate"] == "" || config.Bool(options["replicate"]), Size: ParseSize(options["size"]),
	}
	if v.File == "" || v.File == "none" {
		return Volume{}, false
	}
	v.CloudInit = strings.HasSuffix(v.Name(), "-cloudinit")
	if !strings.HasPrefix(v.File, "/") {
		v.Storage, _, _ = strings.Cut(v.File, ":")
		if !strings.Contains(v.File, ":") {
			v.Storage = ""
		}
	}
	v.Format = "raw"
	if _, extension, ok := strings.Cut(v.File[strings.LastIndexByte(v.File, '/')+1:], "."); ok {
		v.Format = extension
	}
	return v, true
}

// ParseSize reads a size as configs have it: 32G, 512M, 4194304K or bytes. What cannot be read is 0.
func ParseSize(text string) int64 {
	if text == "" {
		return 0
	}
	shift := map[byte]int{'K': 10, 'M': 20, 'G': 30, 'T': 40}[text[len(text)-1]]
	if shift != 0 {
		text = text[:len(text)-1]
	}
	n, err := strconv.ParseFloat(text, 64)
	const most = float64(1 << 62)
	if err != nil || n < 0 || n*float64(int64(1)<<shift) > most {
		return 0
	}
	return int64(n * float64(int64(1)<<shift))
}

// confHeader is what stands before each config in the output of head.
var confHeader = regexp.MustCompile(`^==> /etc/pve/nodes/([^/]+)/(qemu-server|lxc)/(\d+)\.conf <==$`)

// ParseConfigs reads many configs as `head -v` prints them.
func ParseConfigs(text []byte) []Guest {
	var out []Guest
	var body strings.Builder
	var kind Kind
	var id int
	node := ""
	flush := func() {
		if node != "" {
			out = append(out, Parse(kind, id, node, body.String()))
		}
		body.Reset()
	}
	for line := range strings.Lines(string(text)) {
		m := confHeader.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil {
			body.WriteString(line)
			continue
		}
		flush()
		n, err := strconv.Atoi(m[3])
		if err != nil {
			node = ""
			continue
		}
		node, id, kind = m[1], n, map[string]Kind{"qemu-server": VM, "lxc": CT}[m[2]]
	}
	flush()
	slices.SortStableFunc(out, func(a, b Guest) int { return a.ID - b.ID })
	return out
}

// FormatBytes is a size for people: 32 GiB.
func FormatBytes(n int64) string {
	value, unit := float64(n), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, next
	}
	if value == float64(int64(value)) {
		return fmt.Sprintf("%d %s", int64(value), unit)
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}

// ParseBytes reads an amount of memory: 512MiB, 4GiB, 1TiB; a number alone is bytes.
func ParseBytes(text string) (int64, error) {
	text = strings.TrimSpace(text)
	shift := 0
	for unit, bits := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40} {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			text, shift = strings.TrimSpace(rest), bits
			break
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > 1<<(62-shift) {
		return 0, fmt.Errorf("%q is no amount of memory: write 512MiB, 4GiB or bytes", text)
	}
	return n << shift, nil
}
