package ceph

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/vfs"
)

// Where Proxmox keeps what belongs to Ceph.
const (
	confPath     = "/etc/pve/ceph.conf"
	confLink     = "/etc/ceph/ceph.conf"
	adminKeyring = "/etc/pve/priv/ceph.client.admin.keyring"
	monKeyring   = "/etc/pve/priv/ceph.mon.keyring"
	installFlag  = "/run/pve-ceph-install-flag"
	bootstrapOSD = "/var/lib/ceph/bootstrap-osd/ceph.keyring"
	confLockID   = "file-ceph_conf"
)

// conf is a ceph.conf: sections with their keys.
type conf map[string]map[string]string

// parseConf reads a ceph.conf. Keys are written with blanks, dashes or underscores; Proxmox uses the last.
func parseConf(text string) conf {
	out := conf{}
	section := ""
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(stripComment(line))
		if line == "" {
			continue
		}
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			if out[section] == nil {
				out[section] = map[string]string{}
			}
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section == "" {
			continue
		}
		key = strings.NewReplacer(" ", "_", "-", "_").Replace(strings.TrimSpace(key))
		out[section][key] = strings.NewReplacer(`\#`, "#", `\;`, ";").Replace(strings.TrimSpace(value))
	}
	return out
}

// stripComment cuts a line at # or ; unless a backslash is before it.
func stripComment(line string) string {
	for i := range len(line) {
		if (line[i] == '#' || line[i] == ';') && (i == 0 || line[i-1] != '\\') {
			return line[:i]
		}
	}
	return line
}

// sectionOrder is the order in which Proxmox writes the kinds of sections.
var sectionOrder = []string{"global", "client", "mds", "mon", "osd", "mgr"}

// String is the file as Proxmox writes it.
func (c conf) String() string {
	names := slices.SortedFunc(maps.Keys(c), func(a, b string) int {
		kind := func(s string) int {
			k, _, _ := strings.Cut(s, ".")
			if at := slices.Index(sectionOrder, k); at >= 0 {
				return at
			}
			return len(sectionOrder)
		}
		return cmp.Or(cmp.Compare(kind(a), kind(b)), cmp.Compare(a, b))
	})
	var b strings.Builder
	for _, name := range names {
		b.WriteString("[" + name + "]\n")
		for _, key := range slices.Sorted(maps.Keys(c[name])) {
			b.WriteString("\t" + key + " = " + strings.NewReplacer("#", `\#`, ";", `\;`).Replace(c[name][key]) + "\n")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// set writes a key, making its section.
func (c conf) set(section, key, value string) {
	if c[section] == nil {
		c[section] = map[string]string{}
	}
	c[section][key] = value
}

// monHosts are the monitors' addresses.
func (c conf) monHosts() []string {
	return strings.FieldsFunc(c["global"]["mon_host"], func(r rune) bool { return r == ' ' || r == ',' || r == ';' })
}

// readConf reads a ceph.conf through a path; a missing one is empty.
func readConf(v *vfs.View, path string) conf {
	text, err := v.ReadFile(path)
	if err != nil {
		return conf{}
	}
	return parseConf(string(text))
}

func exists(v *vfs.View, path string) bool {
	_, err := v.Stat(path)
	return err == nil
}

// write puts a file beside its place and renames it, as Proxmox does.
func write(v *vfs.View, path, text string) error {
	dir := path[:strings.LastIndexByte(path, '/')]
	if err := v.MkdirAll(dir, 0o755); err != nil {
		return openError(path, err)
	}
	temp := path + ".tmp.2174"
	if err := v.WriteFile(temp, []byte(text), 0o640); err != nil {
		return openError(path, err)
	}
	if err := v.Rename(temp, path); err != nil {
		return openError(path, err)
	}
	return nil
}
