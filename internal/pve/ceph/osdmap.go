package ceph

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// OSD is an object storage daemon as the cluster knows it.
type OSD struct {
	ID int
	Up bool
	In bool
	// State are the words of the map: "exists", "up", "new", "noout" …
	State []string
	// Host is the bucket of the CRUSH map that it hangs in; "" if it hangs nowhere, which is what a creation that was cut off
	// leaves behind.
	Host   string
	Class  string  // device class
	Weight float64 // CRUSH weight: TiB, unless somebody changed it
	// Above are the names of the buckets above it by their kinds: "host" → "pve1", "datacenter" → "a", "root" → "default".
	Above map[string]string
	// NodeName is the node that it ran on when it last started, DeviceIDs its disks then ("sdb" → "<model>_<serial>").
	NodeName  string
	DeviceIDs map[string]string
}

// NeverIn reports whether the OSD was allocated and has never been in: only then it is certain that it holds no data.
func (o OSD) NeverIn() bool { return slices.Contains(o.State, "new") && !o.In }

// OSDMap is what ceph osd dump says.
type OSDMap struct {
	OSDs  []OSD // in the order of their ids
	Flags []string
	// NodeFlags are flags of single CRUSH hosts.
	NodeFlags map[string][]string
	Buckets   []Bucket
	Pools     []Pool
	Profiles  map[string]Profile
}

// Bucket is a node of the CRUSH map above the OSDs.
type Bucket struct {
	Name, Kind string
	// Parent is the name of the one that it hangs below, "" for none.
	Parent string
}

// Kinds are those of the buckets of a CRUSH map as Ceph makes it, from the nearest to the OSDs up.
var Kinds = []string{"host", "chassis", "rack", "row", "pdu", "pod", "room", "datacenter", "zone", "region", "root"}

// Profile is an erasure code profile: "k", "m", "crush-device-class" …
type Profile map[string]string

// defaultFlags are in every map and mean nothing to people.
var defaultFlags = []string{"sortbitwise", "recovery_deletes", "purged_snapdirs", "pglog_hardlimit"}

type rawPool struct {
	Name        string                    `json:"pool_name"`
	ID          int                       `json:"pool"`
	Type        int                       `json:"type"`
	Size        int                       `json:"size"`
	MinSize     int                       `json:"min_size"`
	Rule        int                       `json:"crush_rule"`
	PGs         int                       `json:"pg_num"`
	PGsTarget   int                       `json:"pg_num_target"`
	Autoscale   string                    `json:"pg_autoscale_mode"`
	Profile     string                    `json:"erasure_code_profile"`
	Application map[string]map[string]any `json:"application_metadata"`
	Options     map[string]any            `json:"options"`
}

// ParseDump reads the output of ceph osd dump -f json.
func ParseDump(text []byte) (*OSDMap, error) {
	var raw struct {
		Flags     string              `json:"flags"`
		FlagsSet  []string            `json:"flags_set"`
		NodeFlags map[string][]string `json:"crush_node_flags"`
		OSDs      []struct {
			ID    int      `json:"osd"`
			Up    int      `json:"up"`
			In    int      `json:"in"`
			State []string `json:"state"`
		} `json:"osds"`
		Pools    []rawPool          `json:"pools"`
		Profiles map[string]Profile `json:"erasure_code_profiles"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("ceph osd dump: %w", err)
	}
	m := &OSDMap{NodeFlags: raw.NodeFlags, Profiles: raw.Profiles, Flags: raw.FlagsSet}
	if raw.FlagsSet == nil {
		m.Flags = strings.FieldsFunc(raw.Flags, func(r rune) bool { return r == ',' })
	}
	slices.Sort(m.Flags)
	for _, o := range raw.OSDs {
		m.OSDs = append(m.OSDs, OSD{ID: o.ID, Up: o.Up == 1, In: o.In == 1, State: o.State})
	}
	slices.SortFunc(m.OSDs, func(a, b OSD) int { return a.ID - b.ID })
	for _, p := range raw.Pools {
		m.Pools = append(m.Pools, p.pool())
	}
	return m, nil
}

// OSD returns the one with an id.
func (m *OSDMap) OSD(id int) (OSD, bool) {
	if m == nil {
		return OSD{}, false
	}
	i := slices.IndexFunc(m.OSDs, func(o OSD) bool { return o.ID == id })
	if i < 0 {
		return OSD{}, false
	}
	return m.OSDs[i], true
}

// Has reports whether a flag of the whole cluster is set.
func (m *OSDMap) Has(flag string) bool { return m != nil && slices.Contains(m.Flags, flag) }

// HasOn reports whether a flag of a CRUSH host is set.
func (m *OSDMap) HasOn(host, flag string) bool {
	return m != nil && slices.Contains(m.NodeFlags[host], flag)
}

// SetFlags are the flags of the whole cluster that somebody has set.
func (m *OSDMap) SetFlags() []string {
	var out []string
	for _, f := range m.Flags {
		if !slices.Contains(defaultFlags, f) {
			out = append(out, f)
		}
	}
	return out
}

// Locate adds where the OSDs are: their place in the CRUSH map, by the output of ceph osd tree -f json, and the nodes on which they
// last started, by that of ceph osd metadata -f json.
func (m *OSDMap) Locate(tree, metadata []byte) error {
	if err := m.addTree(tree); err != nil {
		return err
	}
	return m.addMetadata(metadata)
}

// addTree reads the output of ceph osd tree -f json: which host an OSD hangs in, its class and weight.
func (m *OSDMap) addTree(text []byte) error {
	var raw struct {
		Nodes []struct {
			ID       int     `json:"id"`
			Name     string  `json:"name"`
			Type     string  `json:"type"`
			Children []int   `json:"children"`
			Class    string  `json:"device_class"`
			Weight   float64 `json:"crush_weight"`
		} `json:"nodes"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return fmt.Errorf("ceph osd tree: %w", err)
	}
	parents, kinds, names := map[int]int{}, map[int]string{}, map[int]string{}
	for _, n := range raw.Nodes {
		kinds[n.ID], names[n.ID] = n.Type, n.Name
		for _, id := range n.Children {
			parents[id] = n.ID
		}
	}
	for _, n := range raw.Nodes {
		if n.Type != "osd" {
			b := Bucket{Name: n.Name, Kind: n.Type}
			if parent, ok := parents[n.ID]; ok {
				b.Parent = names[parent]
			}
			m.Buckets = append(m.Buckets, b)
			continue
		}
		i := slices.IndexFunc(m.OSDs, func(o OSD) bool { return o.ID == n.ID })
		if i < 0 {
			continue
		}
		above := map[string]string{}
		id, ok := parents[n.ID]
		for range raw.Nodes { // a tree is no deeper than it has nodes
			if !ok {
				break
			}
			above[kinds[id]] = names[id]
			id, ok = parents[id]
		}
		m.OSDs[i].Host, m.OSDs[i].Class, m.OSDs[i].Weight, m.OSDs[i].Above = above["host"], n.Class, n.Weight, above
	}
	return nil
}

// Bucket returns the one of a name.
func (m *OSDMap) Bucket(name string) (Bucket, bool) {
	if m == nil {
		return Bucket{}, false
	}
	i := slices.IndexFunc(m.Buckets, func(b Bucket) bool { return b.Name == name })
	if i < 0 {
		return Bucket{}, false
	}
	return m.Buckets[i], true
}

// Under finds the bucket of a kind that another one hangs below, near or far; "" if there is none.
func (m *OSDMap) Under(name, kind string) string {
	if m == nil {
		return ""
	}
	for range m.Buckets {
		b, ok := m.Bucket(name)
		if !ok {
			return ""
		}
		if b.Kind == kind {
			return b.Name
		}
		name = b.Parent
	}
	return ""
}

// Places counts the copies that a rule finds places for, among the OSDs that are in and for which keep is true.
func (m *OSDMap) Places(r Rule, keep func(OSD) bool) int {
	hosts := map[string]map[string]bool{}
	for _, o := range m.OSDs {
		if !o.In || o.Host == "" || r.Class != "" && o.Class != r.Class || !keep(o) {
			continue
		}
		domain := o.Above[r.Domain]
		switch r.Domain {
		case "host":
			domain = o.Host
		case "osd":
			domain = fmt.Sprint(o.ID)
		}
		if domain == "" {
			continue // it hangs beside the domains: the rule does not find it
		}
		if hosts[domain] == nil {
			hosts[domain] = map[string]bool{}
		}
		hosts[domain][o.Host] = true
	}
	n := 0
	for _, h := range hosts {
		n += min(max(1, r.Per), len(h))
	}
	return n
}

// addMetadata reads the output of ceph osd metadata -f json. OSDs that never started have none.
func (m *OSDMap) addMetadata(text []byte) error {
	var raw []struct {
		ID        int    `json:"id"`
		Host      string `json:"hostname"`
		DeviceIDs string `json:"device_ids"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return fmt.Errorf("ceph osd metadata: %w", err)
	}
	for _, r := range raw {
		i := slices.IndexFunc(m.OSDs, func(o OSD) bool { return o.ID == r.ID })
		if i < 0 {
			continue
		}
		m.OSDs[i].NodeName, m.OSDs[i].DeviceIDs = r.Host, map[string]string{}
		for part := range strings.SplitSeq(r.DeviceIDs, ",") {
			if dev, id, ok := strings.Cut(strings.TrimSpace(part), "="); ok {
				m.OSDs[i].DeviceIDs[dev] = id
			}
		}
	}
	return nil
}

// Hosts counts the OSDs that are in, by CRUSH host. class "" counts all of them.
func (m *OSDMap) Hosts(class string) map[string]int {
	out := map[string]int{}
	if m == nil {
		return out
	}
	for _, o := range m.OSDs {
		if o.In && o.Host != "" && (class == "" || o.Class == class) {
			out[o.Host]++
		}
	}
	return out
}
