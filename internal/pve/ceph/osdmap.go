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
	Pools     []Pool
	Profiles  map[string]Profile
}

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
	hosts := map[int]string{}
	for _, n := range raw.Nodes {
		if n.Type == "host" {
			for _, id := range n.Children {
				hosts[id] = n.Name
			}
		}
	}
	for _, n := range raw.Nodes {
		if i := slices.IndexFunc(m.OSDs, func(o OSD) bool { return o.ID == n.ID }); i >= 0 && n.Type == "osd" {
			m.OSDs[i].Host, m.OSDs[i].Class, m.OSDs[i].Weight = hosts[n.ID], n.Class, n.Weight
		}
	}
	return nil
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
