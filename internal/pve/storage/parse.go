package storage

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/internal/pve/config"
)

// ParseStorages reads storage.cfg. A storage "local" is there even if the file does not have it (reference §9).
func ParseStorages(text []byte) []config.Section {
	sections, _ := config.ParseSections(text)
	for i := range sections {
		sections[i].Type = strings.ToLower(sections[i].Type)
	}
	if _, there := config.FindSection(sections, "local"); !there {
		local := config.Section{Type: "dir", ID: "local", Values: map[string]string{
			"path": "/var/lib/vz", "content": "backup,images,iso,rootdir,snippets,vztmpl", "prune-backups": "keep-all=1",
		}}
		sections = append([]config.Section{local}, sections...)
	}
	return sections
}

// Content is what a storage holds, sorted.
func Content(s config.Section) []string {
	if content := s.List("content"); len(content) > 0 {
		return content
	}
	k := kinds[s.Type]
	return k.Normal
}

// Shared reports whether all nodes see the same on a storage.
func Shared(s config.Section) bool { return kinds[s.Type].Shared || s.Is("shared") }

// NodesOf are the nodes on which a storage may be used, of those there are.
func NodesOf(s config.Section, all []string) []string {
	only := s.List("nodes")
	if len(only) == 0 || s.ID == "local" {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(n string) bool { return !slices.Contains(only, n) })
}

var idForm = regexp.MustCompile(`(?i)^[a-z][a-z0-9._-]*[a-z0-9]$`)

// CheckID says what is wrong with the name of a storage (reference §1.1).
func CheckID(id string) error {
	switch {
	case len(id) < 2:
		return fmt.Errorf("storage name %q is shorter than 2 characters", id)
	case !idForm.MatchString(id):
		return fmt.Errorf("storage name %q: a letter first, then letters, digits, dots, - and _, a letter or digit last", id)
	}
	return nil
}

// Reference is a place in a guest's config that names a volume of a storage.
type Reference struct {
	Guest     int
	Node, Key string
	Volume    string // "local-zfs:vm-100-disk-0"
	// Replicate is false for a disk that replication is told to leave out.
	Replicate bool
	// Spare is a disk that no longer belongs to the guest's hardware.
	Spare bool
}

// Storage is the name of the storage.
func (r Reference) Storage() string {
	id, _, _ := strings.Cut(r.Volume, ":")
	return id
}

func (r Reference) String() string { return fmt.Sprintf("guest %d (%s %s)", r.Guest, r.Key, r.Volume) }

// driveLine is a line of grep over all configs of guests: the file, the option, and the volume.
var driveLine = regexp.MustCompile(`^/etc/pve/nodes/([^/]+)/(qemu-server|lxc)/(\d+)\.conf:\s*([a-z]+\d*)\s*:\s*(?:file=|volume=)?([A-Za-z][A-Za-z0-9._-]*):([^,\s]+)(.*)$`)

// ParseReferences reads the drives of all guests' configs, in snapshots too, as grep prints them.
func ParseReferences(text []byte) []Reference {
	var out []Reference
	for line := range strings.Lines(string(text)) {
		m := driveLine.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil {
			continue
		}
		id, err := strconv.Atoi(m[3])
		if err != nil || id == 0 {
			continue
		}
		r := Reference{Guest: id, Node: m[1], Key: m[4], Volume: m[5] + ":" + m[6], Replicate: true}
		r.Spare = strings.HasPrefix(r.Key, "unused")
		if options := config.ParseProperties(m[7], ""); options["replicate"] != "" && !config.Bool(options["replicate"]) || options["media"] == "cdrom" {
			r.Replicate = false
		}
		out = append(out, r)
	}
	return out
}

// References lists who names a storage, each guest once.
func References(all []Reference, id string) []Reference {
	var out []Reference
	for _, r := range all {
		if r.Storage() == id && !slices.ContainsFunc(out, func(o Reference) bool { return o.Guest == r.Guest }) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Reference) int { return a.Guest - b.Guest })
	return out
}

// Row is what a node's pvestatd told last about a storage.
type Row struct {
	Time        int64 // seconds since 1970
	Total, Used int64 // bytes
}

// ParseRows reads the storages out of /etc/pve/.rrd, by node and name. Rows of a newer Proxmox VE take the place of those
// of an older (reference §2.2).
func ParseRows(text []byte) map[string]map[string]Row {
	out := map[string]map[string]Row{}
	for line := range strings.Lines(strings.Trim(string(text), "\x00")) {
		key, rest, ok := strings.Cut(strings.TrimRight(line, "\n\x00"), ":")
		prefix, place, ok2 := strings.Cut(key, "/")
		node, id, ok3 := strings.Cut(place, "/")
		if !ok || !ok2 || !ok3 || prefix != "pve2-storage" && !strings.HasPrefix(prefix, "pve-storage-") {
			continue
		}
		fields := strings.Split(rest, ":")
		if len(fields) < 3 {
			continue
		}
		var row Row
		row.Time, _ = strconv.ParseInt(fields[0], 10, 64) // U is not known
		row.Total, _ = strconv.ParseInt(fields[1], 10, 64)
		row.Used, _ = strconv.ParseInt(fields[2], 10, 64)
		if out[node] == nil {
			out[node] = map[string]Row{}
		}
		if old, there := out[node][id]; !there || row.Time >= old.Time {
			out[node][id] = row
		}
	}
	return out
}

// State is a line of `pvesm status`.
type State struct {
	ID, Type string
	// Status is active, inactive or disabled.
	Status      string
	Total, Used int64 // KiB
}

// ParseStatus reads the table that `pvesm status` prints.
func ParseStatus(text []byte) []State {
	var out []State
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 5 || f[2] != "active" && f[2] != "inactive" && f[2] != "disabled" {
			continue
		}
		s := State{ID: f[0], Type: f[1], Status: f[2]}
		var err error
		if s.Total, err = strconv.ParseInt(f[3], 10, 64); err != nil {
			continue
		}
		if s.Used, err = strconv.ParseInt(f[4], 10, 64); err != nil {
			continue
		}
		out = append(out, s)
	}
	return out
}
