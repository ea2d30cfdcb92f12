package pve

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// Members is /etc/pve/.members: the cluster as one node's pmxcfs sees it.
type Members struct {
	NodeName string         `json:"nodename"`
	Version  int            `json:"version"`
	Cluster  *MemberCluster `json:"cluster"` // nil on a standalone node
	Nodes    []Member       `json:"-"`       // in the order of their ids
}

// MemberCluster is the cluster part of .members. Version is corosync's config_version.
type MemberCluster struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
	Nodes   int    `json:"nodes"`
	Quorate flag   `json:"quorate"`
}

// Member is one node in .members. IP may be empty for a while after a join.
type Member struct {
	Name   string
	ID     int
	Online bool
	IP     string
}

// flag reads the booleans of Proxmox: 0, 1, "0", "1", true, false.
type flag bool

func (f *flag) UnmarshalJSON(text []byte) error {
	switch string(text) {
	case "1", `"1"`, "true":
		*f = true
	case "0", `"0"`, "false", "null", `""`:
		*f = false
	default:
		return fmt.Errorf("%s is not a boolean", text)
	}
	return nil
}

// ParseMembers reads .members.
func ParseMembers(text []byte) (*Members, error) {
	var raw struct {
		Members
		NodeList map[string]struct {
			ID     int    `json:"id"`
			Online flag   `json:"online"`
			IP     string `json:"ip"`
		} `json:"nodelist"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf(".members: %w", err)
	}
	m := raw.Members
	for name, n := range raw.NodeList {
		m.Nodes = append(m.Nodes, Member{Name: name, ID: n.ID, Online: bool(n.Online), IP: n.IP})
	}
	slices.SortFunc(m.Nodes, func(a, b Member) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Name, b.Name)) })
	return &m, nil
}

// Member returns the entry of a node.
func (m *Members) Member(name string) (Member, bool) {
	if m == nil {
		return Member{}, false
	}
	i := slices.IndexFunc(m.Nodes, func(n Member) bool { return n.Name == name })
	if i < 0 {
		return Member{}, false
	}
	return m.Nodes[i], true
}

// Online reports whether the node is listed and online.
func (m *Members) Online(name string) bool {
	n, ok := m.Member(name)
	return ok && n.Online
}
