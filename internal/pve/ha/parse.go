package ha

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
)

// Absent values of resources.cfg stand for these (reference §5.3).
const (
	defaultState    = "started"
	defaultRestarts = 1
)

func sections(text []byte) []config.Section {
	out, _ := config.ParseSections(text)
	return out
}

// ParseResources reads ha/resources.cfg.
func ParseResources(text []byte) []Resource {
	var out []Resource
	for _, s := range sections(text) {
		r := Resource{
			SID: s.Type + ":" + s.ID, State: NormalState(s.Values["state"]), MaxRestart: number(s.Values, "max_restart", defaultRestarts),
			MaxRelocate: number(s.Values, "max_relocate", defaultRestarts), Failback: number(s.Values, "failback", 1) != 0,
			Group: s.Values["group"], Comment: config.DecodeText(s.Values["comment"]),
		}
		out = append(out, r)
	}
	return out
}

// NormalState fills in the default and resolves the alias.
func NormalState(state string) string {
	switch state {
	case "", "enabled":
		return defaultState
	}
	return state
}

func number(values map[string]string, key string, otherwise int) int {
	n, err := strconv.Atoi(values[key])
	if err != nil {
		return otherwise
	}
	return n
}

// ParseNodes reads "pve1:2,pve2".
func ParseNodes(text string) Nodes {
	out := Nodes{}
	for _, part := range list(text) {
		name, priority, _ := strings.Cut(part, ":")
		n, _ := strconv.Atoi(priority)
		out[name] = n
	}
	return out
}

// list is a list as a set.
func list(text string) []string {
	parts := config.SplitList(text)
	slices.Sort(parts)
	return slices.Compact(parts)
}

// ParseGroups reads ha/groups.cfg.
func ParseGroups(text []byte) []Group {
	var out []Group
	for _, s := range sections(text) {
		if s.Type == "group" {
			out = append(out, Group{
				Name: s.ID, Nodes: ParseNodes(s.Values["nodes"]), Restricted: s.Is("restricted"),
				NoFailback: s.Is("nofailback"), Comment: config.DecodeText(s.Values["comment"]),
			})
		}
	}
	return out
}

// ParseRules reads ha/rules.cfg.
func ParseRules(text []byte) []Rule {
	var out []Rule
	for _, s := range sections(text) {
		r := Rule{
			ID: s.ID, Type: s.Type, Resources: list(s.Values["resources"]), Strict: s.Is("strict"),
			Affinity: s.Values["affinity"], Disabled: s.Is("disable"), Comment: config.DecodeText(s.Values["comment"]),
		}
		if s.Type == NodeAffinity {
			r.Nodes = ParseNodes(s.Values["nodes"])
		}
		out = append(out, r)
	}
	return out
}

// ParseManager reads ha/manager_status.
func ParseManager(text []byte) (*Manager, error) {
	var raw struct {
		Master      string            `json:"master_node"`
		Timestamp   int64             `json:"timestamp"`
		NodeStatus  map[string]string `json:"node_status"`
		NodeRequest map[string]struct {
			Maintenance json.RawMessage `json:"maintenance"`
		} `json:"node_request"`
		Services map[string]struct {
			Node            string          `json:"node"`
			State           string          `json:"state"`
			Target          string          `json:"target"`
			MaintenanceNode string          `json:"maintenance_node"`
			Running         json.RawMessage `json:"running"`
		} `json:"service_status"`
		Disarm *struct {
			Mode string `json:"mode"`
		} `json:"disarm"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("ha/manager_status: %w", err)
	}
	m := &Manager{Master: raw.Master, Time: time.Unix(raw.Timestamp, 0), Nodes: raw.NodeStatus, Services: map[string]Service{}}
	for name, want := range raw.NodeRequest {
		if yes(want.Maintenance) {
			m.Maintenance = append(m.Maintenance, name)
		}
	}
	slices.Sort(m.Maintenance)
	for sid, s := range raw.Services {
		m.Services[sid] = Service{Node: s.Node, State: s.State, Target: s.Target, MaintenanceNode: s.MaintenanceNode, Running: yes(s.Running)}
	}
	if raw.Disarm != nil {
		m.Disarmed = raw.Disarm.Mode
	}
	return m, nil
}

// yes reads a boolean of perl: 1, "1", or nothing.
func yes(raw json.RawMessage) bool {
	v := strings.Trim(string(raw), `"`)
	return v != "" && v != "0" && v != "null"
}

// ParseLRM reads a node's lrm_status.
func ParseLRM(text []byte) (LRM, error) {
	var raw struct {
		State     string `json:"state"`
		Mode      string `json:"mode"`
		Timestamp int64  `json:"timestamp"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return LRM{}, fmt.Errorf("lrm_status: %w", err)
	}
	return LRM{State: raw.State, Mode: raw.Mode, Time: time.Unix(raw.Timestamp, 0)}, nil
}

// parseGuests joins .vmlist with what .rrd says of the guests.
func parseGuests(vmlist, rrd []byte) ([]Guest, error) {
	listed, err := pve.ParseGuests(vmlist)
	if err != nil {
		return nil, err
	}
	type load struct {
		name, status string
		template     bool
	}
	loads := map[string]load{}
	for line := range strings.Lines(string(rrd)) {
		key, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		kind, id, _ := strings.Cut(key, "/")
		if !ok || !strings.HasPrefix(kind, "pve-vm-") && kind != "pve2.3-vm" {
			continue
		}
		if f := strings.SplitN(rest, ":", 5); len(f) == 5 {
			loads[id] = load{f[1], f[2], f[3] == "1"}
		}
	}
	kinds := map[string]string{"qemu": "vm", "lxc": "ct"}
	out := make([]Guest, 0, len(listed))
	for _, g := range listed {
		l := loads[g.ID]
		out = append(out, Guest{SID: kinds[g.Type] + ":" + g.ID, Node: g.Node, Name: l.name, Running: l.status, Template: l.template})
	}
	return out, nil
}

// sortedKeys is for stable messages.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
