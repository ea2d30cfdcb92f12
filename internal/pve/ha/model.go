// Package ha reads what a cluster's high availability is told to do and what it does, and reasons about it: resources,
// groups of Proxmox VE 8, rules of Proxmox VE 9, the manager's status (reference §5). It performs no I/O of its own beyond
// the one script that Read runs.
package ha

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Resource is a guest under HA, as resources.cfg has it with the defaults filled in.
type Resource struct {
	SID string // "vm:100"
	// State is the requested state: started, stopped, disabled or ignored. "enabled" is an alias of started.
	State       string
	MaxRestart  int
	MaxRelocate int
	// Failback is of Proxmox VE 9: whether the guest returns to a better node that comes back.
	Failback bool
	Group    string // of Proxmox VE 8
	Comment  string
}

// Nodes are nodes with their priorities: the higher, the more preferred. The default is 0.
type Nodes map[string]int

// Names lists the nodes in alphabetical order.
func (n Nodes) Names() []string { return slices.Sorted(maps.Keys(n)) }

// String is the form that Proxmox stores: "pve1:2,pve2". A priority of 0 is left out.
func (n Nodes) String() string {
	parts := make([]string, 0, len(n))
	for _, name := range n.Names() {
		if n[name] != 0 {
			name += ":" + strconv.Itoa(n[name])
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, ",")
}

// priorities counts the different priorities.
func (n Nodes) priorities() int {
	seen := map[int]bool{}
	for _, p := range n {
		seen[p] = true
	}
	return len(seen)
}

// Group is a group of Proxmox VE 8.
type Group struct {
	Name       string
	Nodes      Nodes
	Restricted bool
	NoFailback bool
	Comment    string
}

// The types of rules, and the kinds of affinity of resources.
const (
	NodeAffinity     = "node-affinity"
	ResourceAffinity = "resource-affinity"
	Positive         = "positive" // together on one node
	Negative         = "negative" // each on a node of its own
)

// Rule is a rule of Proxmox VE 9.
type Rule struct {
	ID, Type  string
	Resources []string // sorted
	Nodes     Nodes    // of a node affinity
	Strict    bool     // of a node affinity: no other nodes, ever
	Affinity  string   // of a resource affinity: positive or negative
	Disabled  bool
	Comment   string
}

// Manager is manager_status: what the CRM has decided, written every ten seconds by its master.
type Manager struct {
	Master   string
	Time     time.Time
	Nodes    map[string]string // online, maintenance, unknown, fence or gone
	Services map[string]Service
	// Maintenance lists nodes for which maintenance is requested.
	Maintenance []string
	// Disarmed is the mode of a disarmed HA stack: freeze or ignore; "" while it is armed.
	Disarmed string
}

// Service is one HA service as the CRM has it.
type Service struct {
	Node, State, Target string
	// Running says that the node's LRM has found it running, not only that it was told to start it.
	Running         bool
	MaintenanceNode string
}

// LRM is a node's lrm_status.
type LRM struct {
	State, Mode string
	Time        time.Time
}

// Guest is what is known of a virtual guest without asking its node.
type Guest struct {
	SID, Node string
	Name      string
	// Running is "running", "stopped" or another state of .rrd, up to ten seconds old; "" when the cluster has heard nothing
	// of the guest for five minutes.
	Running  string
	Template bool
}

// State is the HA side of a cluster as one of its nodes has it.
type State struct {
	From      string    // the node that was read
	Now       time.Time // its clock
	Quorate   bool
	Resources []Resource
	// Groups is not nil when groups.cfg holds any group: on Proxmox VE 9 they are then waiting to become rules.
	Groups  []Group
	Rules   []Rule
	Manager *Manager // nil where HA was never used
	LRMs    map[string]LRM
	Guests  []Guest
	// Pending are commands that no CRM has taken yet.
	Pending []string
	// Unread are files that are there and could not be read, with the reason.
	Unread map[string]string
}

// Resource returns a resource by its id.
func (s *State) Resource(sid string) (Resource, bool) {
	i := slices.IndexFunc(s.Resources, func(r Resource) bool { return r.SID == sid })
	if i < 0 {
		return Resource{}, false
	}
	return s.Resources[i], true
}

// Group returns a group by its name.
func (s *State) Group(name string) (Group, bool) {
	i := slices.IndexFunc(s.Groups, func(g Group) bool { return g.Name == name })
	if i < 0 {
		return Group{}, false
	}
	return s.Groups[i], true
}

// Rule returns a rule by its id.
func (s *State) Rule(id string) (Rule, bool) {
	i := slices.IndexFunc(s.Rules, func(r Rule) bool { return r.ID == id })
	if i < 0 {
		return Rule{}, false
	}
	return s.Rules[i], true
}

// Guest returns a guest by its service id.
func (s *State) Guest(sid string) (Guest, bool) {
	i := slices.IndexFunc(s.Guests, func(g Guest) bool { return g.SID == sid })
	if i < 0 {
		return Guest{}, false
	}
	return s.Guests[i], true
}

// Service returns what the CRM says of a service.
func (s *State) Service(sid string) (Service, bool) {
	if s.Manager == nil {
		return Service{}, false
	}
	v, ok := s.Manager.Services[sid]
	return v, ok
}

// KnownNodes are the nodes that the CRM counts on, by what it last said; otherwise those given. It has none before its
// first round.
func (s *State) KnownNodes(otherwise []string) []string {
	if s.Manager == nil || len(s.Manager.Nodes) == 0 {
		return otherwise
	}
	var out []string
	for name, status := range s.Manager.Nodes {
		if status != "gone" {
			out = append(out, name)
		}
	}
	for _, name := range otherwise {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
