package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Conf is a corosync.conf: nested sections of keys. Unknown keys are kept, comments and order are not, as Proxmox
// does it.
type Conf struct {
	root *section
	// nodes and byID are made of the node list when they are first asked for, and forgotten when it changes. A Conf is
	// therefore not safe for concurrent use; the model's are guarded by its lock.
	nodes []ConfNode
	byID  map[int]int
}

type section struct {
	keys map[string]string
	subs map[string][]*section
}

func newSection() *section {
	return &section{keys: map[string]string{}, subs: map[string][]*section{}}
}

// sub returns the first section of a name, made when it is missing.
func (s *section) sub(name string) *section {
	if len(s.subs[name]) == 0 {
		s.subs[name] = []*section{newSection()}
	}
	return s.subs[name][0]
}

func (s *section) clone() *section {
	c := &section{keys: maps.Clone(s.keys), subs: map[string][]*section{}}
	for name, list := range s.subs {
		for _, sub := range list {
			c.subs[name] = append(c.subs[name], sub.clone())
		}
	}
	return c
}

// ParseConf reads a corosync.conf the way Proxmox and corosync do: "name {", "}" and "key: value" lines, '#' comments.
func ParseConf(text string) (*Conf, error) {
	stack := []*section{newSection()}
	for i, line := range strings.Split(text, "\n") {
		if at := strings.IndexByte(line, '#'); at >= 0 {
			line = line[:at]
		}
		line = strings.Join(strings.Fields(line), " ")
		top := stack[len(stack)-1]
		key, value, isKey := strings.Cut(line, ":")
		switch {
		case line == "":
		case line == "}":
			if len(stack) == 1 {
				return nil, fmt.Errorf("line %d: unexpected closing brace", i+1)
			}
			stack = stack[:len(stack)-1]
		case strings.HasSuffix(line, "{"):
			name := strings.TrimSpace(strings.TrimSuffix(line, "{"))
			s := newSection()
			top.subs[name] = append(top.subs[name], s)
			stack = append(stack, s)
		case isKey:
			top.keys[strings.TrimSpace(key)] = strings.TrimSpace(value)
		default:
			return nil, fmt.Errorf("line %d: parse error in config: line is not opening or closing a section and has no key-value", i+1)
		}
	}
	if len(stack) != 1 {
		return nil, fmt.Errorf("missing closing brace")
	}
	return &Conf{root: stack[0]}, nil
}

// String writes the file as Proxmox does: everything sorted, a blank line after each top-level section.
func (c *Conf) String() string {
	var b strings.Builder
	c.root.write(&b, 0)
	return b.String()
}

func (s *section) write(b *strings.Builder, depth int) {
	indent := strings.Repeat("  ", depth)
	names := slices.Concat(slices.Collect(maps.Keys(s.keys)), slices.Collect(maps.Keys(s.subs)))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if value, ok := s.keys[name]; ok {
			fmt.Fprintf(b, "%s%s: %s\n", indent, name, value)
		}
		for _, sub := range sortedSubs(name, s.subs[name]) {
			fmt.Fprintf(b, "%s%s {\n", indent, name)
			sub.write(b, depth+1)
			fmt.Fprintf(b, "%s}\n", indent)
			if depth == 0 {
				b.WriteByte('\n')
			}
		}
	}
}

func sortedSubs(name string, list []*section) []*section {
	sorted := slices.Clone(list)
	switch name {
	case "node":
		slices.SortStableFunc(sorted, func(a, b *section) int { return cmp.Compare(a.keys["name"], b.keys["name"]) })
	case "interface":
		slices.SortStableFunc(sorted, func(a, b *section) int {
			return cmp.Compare(a.int("linknumber"), b.int("linknumber"))
		})
	}
	return sorted
}

func (s *section) int(key string) int {
	n, _ := strconv.Atoi(s.keys[key])
	return n
}

// Clone returns a copy that may be changed.
func (c *Conf) Clone() *Conf { return &Conf{root: c.root.clone()} }

// ClusterName is totem.cluster_name.
func (c *Conf) ClusterName() string { return c.root.sub("totem").keys["cluster_name"] }

// Version is totem.config_version.
func (c *Conf) Version() int { return c.root.sub("totem").int("config_version") }

// Bump raises the config version by one.
func (c *Conf) Bump() {
	c.root.sub("totem").keys["config_version"] = strconv.Itoa(c.Version() + 1)
}

// ConfNode is one entry of the node list.
type ConfNode struct {
	Name  string
	ID    int
	Votes int
	Rings map[int]string // by link number
}

// Nodes is the node list in the order of the names. It must not be changed.
func (c *Conf) Nodes() []ConfNode {
	if c.byID != nil {
		return c.nodes
	}
	c.nodes, c.byID = nil, map[int]int{}
	for _, s := range c.nodeSections() {
		n := ConfNode{Name: s.keys["name"], ID: s.int("nodeid"), Votes: s.int("quorum_votes"), Rings: map[int]string{}}
		if n.Name == "" {
			n.Name = s.keys["ring0_addr"]
		}
		for link := range maxLinks {
			if addr, ok := s.keys[ringKey(link)]; ok {
				n.Rings[link] = addr
			}
		}
		if _, taken := c.byID[n.ID]; !taken {
			c.byID[n.ID] = len(c.nodes)
		}
		c.nodes = append(c.nodes, n)
	}
	return c.nodes
}

const maxLinks = 8

func ringKey(link int) string { return fmt.Sprintf("ring%d_addr", link) }

func (c *Conf) nodeSections() []*section {
	return sortedSubs("node", c.root.sub("nodelist").subs["node"])
}

// Node finds an entry by name.
func (c *Conf) Node(name string) (ConfNode, bool) {
	for _, n := range c.Nodes() {
		if n.Name == name {
			return n, true
		}
	}
	return ConfNode{}, false
}

// NodeByID finds an entry by its id.
func (c *Conf) NodeByID(id int) (ConfNode, bool) {
	nodes := c.Nodes()
	if at, ok := c.byID[id]; ok {
		return nodes[at], true
	}
	return ConfNode{}, false
}

// SetNode adds or replaces an entry. Votes of 0 are left out of the file.
func (c *Conf) SetNode(n ConfNode) {
	c.RemoveNode(n.Name)
	s := newSection()
	s.keys["name"] = n.Name
	s.keys["nodeid"] = strconv.Itoa(n.ID)
	if n.Votes > 0 {
		s.keys["quorum_votes"] = strconv.Itoa(n.Votes)
	}
	for link, addr := range n.Rings {
		s.keys[ringKey(link)] = addr
	}
	list := c.root.sub("nodelist")
	list.subs["node"] = append(list.subs["node"], s)
	c.byID = nil
}

// RemoveNode drops an entry and says whether it was there.
func (c *Conf) RemoveNode(name string) bool {
	list := c.root.sub("nodelist")
	c.byID = nil
	before := len(list.subs["node"])
	list.subs["node"] = slices.DeleteFunc(list.subs["node"], func(s *section) bool { return s.keys["name"] == name })
	return len(list.subs["node"]) != before
}

// FreeID is the lowest node id that is not taken.
func (c *Conf) FreeID() int {
	for id := 1; ; id++ {
		if _, taken := c.NodeByID(id); !taken {
			return id
		}
	}
}

// Links are the link numbers that the totem section knows, sorted.
func (c *Conf) Links() []int {
	var links []int
	for _, s := range c.root.sub("totem").subs["interface"] {
		links = append(links, s.int("linknumber"))
	}
	slices.Sort(links)
	return links
}

// DeviceConf is the quorum device of a corosync.conf.
type DeviceConf struct {
	Host, Algorithm string
	// Votes of the device; lms names none and gives it one less than the nodes have.
	Votes int
}

// Device returns the quorum device, if there is one.
func (c *Conf) Device() (DeviceConf, bool) {
	devices := c.root.sub("quorum").subs["device"]
	if len(devices) == 0 {
		return DeviceConf{}, false
	}
	d := devices[0]
	out := DeviceConf{Host: d.sub("net").keys["host"], Algorithm: d.sub("net").keys["algorithm"], Votes: d.int("votes")}
	if _, named := d.keys["votes"]; !named {
		out.Votes = max(0, c.NodeVotes()-1)
	}
	return out, true
}

// SetDevice adds a QDevice of model net. Votes of 0 are left out, as for lms.
func (c *Conf) SetDevice(d DeviceConf) {
	s := newSection()
	s.keys["model"] = "net"
	net := s.sub("net")
	net.keys["algorithm"], net.keys["host"], net.keys["tls"] = d.Algorithm, d.Host, "on"
	if d.Votes > 0 {
		s.keys["votes"] = strconv.Itoa(d.Votes)
	}
	c.root.sub("quorum").subs["device"] = []*section{s}
}

// RemoveDevice drops the quorum device.
func (c *Conf) RemoveDevice() { delete(c.root.sub("quorum").subs, "device") }

// NodeVotes is the sum of all nodes' votes.
func (c *Conf) NodeVotes() int {
	sum := 0
	for _, n := range c.Nodes() {
		sum += n.Votes
	}
	return sum
}

// Expected is the number of votes when everybody is there, the device included.
func (c *Conf) Expected() int {
	d, _ := c.Device()
	return c.NodeVotes() + d.Votes
}

// Token is corosync's token timeout in milliseconds: 3000, and a coefficient more for each node beyond two.
func (c *Conf) Token() int {
	totem := c.root.sub("totem")
	coefficient := 650
	if _, ok := totem.keys["token_coefficient"]; ok {
		coefficient = totem.int("token_coefficient")
	}
	token := 3000
	if _, ok := totem.keys["token"]; ok {
		token = totem.int("token")
	}
	return token + max(0, len(c.Nodes())-2)*coefficient
}

// CreateOptions are what `pvecm create` was told.
type CreateOptions struct {
	Name       string
	Node       ConfNode
	Priorities map[int]int
	// TokenCoefficient is written when it is not negative. Proxmox VE 8 does not write it.
	TokenCoefficient int
}

// NewConf is the corosync.conf of a fresh cluster of one node.
func NewConf(o CreateOptions) *Conf {
	c := &Conf{root: newSection()}
	logging := c.root.sub("logging")
	logging.keys["debug"], logging.keys["to_syslog"] = "off", "yes"
	c.root.sub("quorum").keys["provider"] = "corosync_votequorum"
	totem := c.root.sub("totem")
	maps.Copy(totem.keys, map[string]string{
		"cluster_name": o.Name, "config_version": "1", "ip_version": "ipv4-6", "link_mode": "passive",
		"secauth": "on", "version": "2",
	})
	if o.TokenCoefficient >= 0 {
		totem.keys["token_coefficient"] = strconv.Itoa(o.TokenCoefficient)
	}
	for _, link := range slices.Sorted(maps.Keys(o.Node.Rings)) {
		s := newSection()
		s.keys["linknumber"] = strconv.Itoa(link)
		if p := o.Priorities[link]; p != 0 {
			s.keys["knet_link_priority"] = strconv.Itoa(p)
		}
		totem.subs["interface"] = append(totem.subs["interface"], s)
	}
	c.SetNode(o.Node)
	return c
}

// Verify finds what Proxmox refuses in a config before a node is added.
func (c *Conf) Verify() []string {
	nodes := c.Nodes()
	if len(nodes) == 0 {
		return []string{"no nodes found"}
	}
	if len(c.root.sub("totem").keys) == 0 {
		return []string{"no totem found"}
	}
	var problems []string
	links := c.Links()
	for _, n := range nodes {
		for _, link := range slices.Sorted(maps.Keys(n.Rings)) {
			if !slices.Contains(links, link) {
				problems = append(problems, fmt.Sprintf("node '%s' has 'ring%d_addr', but there is no interface number %d configured", n.Name, link, link))
			}
		}
		for _, link := range links {
			if _, ok := n.Rings[link]; !ok {
				problems = append(problems, fmt.Sprintf("node '%s' is missing address forinterface number %d", n.Name, link))
			}
		}
	}
	return problems
}
