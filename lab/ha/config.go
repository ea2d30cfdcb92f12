package ha

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// serviceConf is a resource as the daemons take it: with its defaults and the node that holds the guest's config.
type serviceConf struct {
	SID, Type   string
	Node        string // "" if the guest does not exist
	State       string // started, stopped, disabled or ignored
	MaxRestart  int
	MaxRelocate int
	Failback    bool
	Group       string
	Comment     string
}

// rule is one entry of rules.cfg, or a group that stands for one.
type rule struct {
	ID, Type  string
	Order     int
	Disabled  bool
	Resources []string
	Nodes     map[string]int // with priorities; of node-affinity
	Strict    bool
	Affinity  string // of resource-affinity: positive or negative
	Comment   string
}

// The types of rules.
const (
	nodeAffinity     = "node-affinity"
	resourceAffinity = "resource-affinity"
	positive         = "positive"
	negative         = "negative"
)

// group is one entry of groups.cfg.
type group struct {
	ID         string
	Nodes      map[string]int
	Restricted bool
	NoFailback bool
	Comment    string
}

// list splits a value at commas, semicolons and white space, and drops what occurs twice.
func list(value string) []string {
	fields := strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(",; \t\n\x00", r) })
	seen := map[string]bool{}
	return slices.DeleteFunc(fields, func(one string) bool {
		twice := seen[one]
		seen[one] = true
		return twice
	})
}

// prioritised reads "pve1:2,pve2" and reports what is not like that.
func prioritised(value string) (nodes map[string]int, wrong string) {
	nodes = map[string]int{}
	for _, entry := range list(value) {
		name, priority, has := strings.Cut(entry, ":")
		number := 0
		if has {
			n, err := strconv.Atoi(priority)
			if err != nil || n < 0 {
				return nodes, entry
			}
			number = n
		}
		if !validNodeName(name) {
			return nodes, entry
		}
		nodes[name] = number
	}
	return nodes, ""
}

// formatNodes is the inverse of prioritised, sorted, with priorities other than 0.
func formatNodes(nodes map[string]int) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		if p := nodes[name]; p != 0 {
			name += ":" + strconv.Itoa(p)
		}
		out = append(out, name)
	}
	return strings.Join(out, ",")
}

func validNodeName(name string) bool {
	if name == "" || strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-") {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-'
	})
}

// validID reports whether a group or rule may be called that.
func validID(id string) bool {
	if len(id) < 2 || id[0]|0x20 < 'a' || id[0]|0x20 > 'z' {
		return false
	}
	return !strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	})
}

// parseSID takes "vm:100" apart.
func parseSID(sid string) (kind, id string, ok bool) {
	kind, id, ok = strings.Cut(sid, ":")
	if _, err := strconv.Atoi(id); err != nil || (kind != "vm" && kind != "ct") {
		return "", "", false
	}
	return kind, id, ok
}

// flagOf reads a boolean of a section: a bare key is true.
func flagOf(values map[string]string, key string, otherwise bool) bool {
	value, ok := values[key]
	if !ok {
		return otherwise
	}
	return value == "" || value == "1" || strings.EqualFold(value, "yes") || strings.EqualFold(value, "on") || strings.EqualFold(value, "true")
}

func numberOf(values map[string]string, key string, otherwise int) int {
	n, err := strconv.Atoi(values[key])
	if err != nil || n < 0 {
		return otherwise
	}
	return n
}

// parseResources reads resources.cfg; nodes holds the node of each guest by its number.
func parseResources(text string, nodes map[string]string) map[string]*serviceConf {
	out := map[string]*serviceConf{}
	for _, s := range pvetool.ParseSections(text) {
		sid := strings.ToLower(s.Type) + ":" + s.ID
		kind, id, ok := parseSID(sid)
		if !ok {
			continue
		}
		c := &serviceConf{
			SID: sid, Type: kind, Node: nodes[id], State: s.Values["state"], Group: s.Values["group"], Comment: s.Values["comment"],
			MaxRestart: numberOf(s.Values, "max_restart", 1), MaxRelocate: numberOf(s.Values, "max_relocate", 1),
			Failback: flagOf(s.Values, "failback", true),
		}
		if c.State == "" || c.State == wantEnabled {
			c.State = stateStarted
		}
		out[sid] = c
	}
	return out
}

// parseGroups reads groups.cfg.
func parseGroups(text string) map[string]*group {
	out := map[string]*group{}
	for _, s := range pvetool.ParseSections(text) {
		nodes, wrong := prioritised(s.Values["nodes"])
		if strings.ToLower(s.Type) != "group" || !validID(s.ID) || wrong != "" {
			continue
		}
		out[s.ID] = &group{
			ID: s.ID, Nodes: nodes, Restricted: flagOf(s.Values, "restricted", false), NoFailback: flagOf(s.Values, "nofailback", false),
			Comment: s.Values["comment"],
		}
	}
	return out
}

// parseRules reads rules.cfg, in its order.
func parseRules(text string) []*rule {
	var out []*rule
	for _, s := range pvetool.ParseSections(text) {
		if r := ruleOf(s); r != nil {
			r.Order = len(out) + 1
			out = append(out, r)
		}
	}
	return out
}

// ruleOf reads a section as a rule, nil if it is none.
func ruleOf(s pvetool.Section) *rule {
	r := &rule{
		ID: s.ID, Type: strings.ToLower(s.Type), Disabled: flagOf(s.Values, "disable", false), Resources: slices.Sorted(slices.Values(list(s.Values["resources"]))),
		Strict: flagOf(s.Values, "strict", false), Affinity: s.Values["affinity"], Comment: decodeText(s.Values["comment"]),
	}
	wrong := ""
	if r.Type == nodeAffinity {
		r.Nodes, wrong = prioritised(s.Values["nodes"])
	}
	known := r.Type == nodeAffinity && len(r.Nodes) > 0 || r.Type == resourceAffinity && (r.Affinity == positive || r.Affinity == negative)
	if !validID(s.ID) || wrong != "" || !known || len(r.Resources) == 0 {
		return nil
	}
	return r
}

// section writes a rule.
func (r *rule) section() pvetool.Section {
	s := pvetool.Section{Type: r.Type, ID: r.ID, Values: map[string]string{"resources": strings.Join(r.Resources, ",")}}
	if r.Type == nodeAffinity {
		s.Values["nodes"] = formatNodes(r.Nodes)
		if r.Strict {
			s.Values["strict"] = "1"
		}
	} else {
		s.Values["affinity"] = r.Affinity
	}
	if r.Disabled {
		s.Values["disable"] = ""
	}
	if r.Comment != "" {
		s.Values["comment"] = encodeText(r.Comment)
	}
	return s
}

// encodeText percent-encodes what may not stand in a line.
func encodeText(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c < 0x20 || c == '%' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func decodeText(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// requiredKeys are written first in a section.
var requiredKeys = map[string][]string{
	nodeAffinity: {"nodes", "resources"}, resourceAffinity: {"affinity", "resources"}, "group": {"nodes"},
}

// withGroups adds a rule for every group that a resource is in, as the manager of Proxmox VE 9 does until the groups have
// been migrated, and that of 8 in effect. It returns what the resources' failback is then.
func withGroups(rules []*rule, groups map[string]*group, resources map[string]*serviceConf) (all []*rule, failback map[string]bool) {
	all, failback = slices.Clone(rules), map[string]bool{}
	members := map[string][]string{}
	for _, sid := range slices.Sorted(maps.Keys(resources)) {
		c := resources[sid]
		failback[sid] = c.Failback
		if g := groups[c.Group]; g != nil {
			members[g.ID] = append(members[g.ID], sid)
			failback[sid] = !g.NoFailback
		}
	}
	order := 0
	for _, r := range rules {
		order = max(order, r.Order)
	}
	for _, id := range slices.Sorted(maps.Keys(members)) {
		g := groups[id]
		order++
		all = append(all, &rule{
			ID: "ha-group-" + id, Type: nodeAffinity, Order: order, Resources: members[id], Nodes: g.Nodes, Strict: g.Restricted, Comment: g.Comment,
		})
	}
	return all, failback
}
