package pve

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Section is one block of a corosync.conf: its settings and the blocks inside it, in the order of the file.
type Section struct {
	Name     string
	Settings map[string]string
	Sections []*Section
}

// Get returns a setting, "" if it is not there.
func (s *Section) Get(key string) string {
	if s == nil {
		return ""
	}
	return s.Settings[key]
}

// Sub returns the first inner block of a name, nil if there is none. It works on a nil block.
func (s *Section) Sub(name string) *Section {
	if s == nil {
		return nil
	}
	for _, sub := range s.Sections {
		if sub.Name == name {
			return sub
		}
	}
	return nil
}

func (s *Section) all(name string) []*Section {
	if s == nil {
		return nil
	}
	var found []*Section
	for _, sub := range s.Sections {
		if sub.Name == name {
			found = append(found, sub)
		}
	}
	return found
}

// CorosyncConf is a corosync.conf as Proxmox reads it (reference §3.1).
type CorosyncConf struct {
	ClusterName      string
	Version          int // totem.config_version
	TokenCoefficient int // 0: not set, corosync's own default holds
	Nodes            []ConfNode
	// LinkPriorities are the knet_link_priority values by link number; a link without one is not in the map.
	LinkPriorities map[int]int
	Device         *ConfDevice // nil: no QDevice is configured
	Root           *Section    // everything, also what this package has no name for
}

// ConfNode is one entry of the nodelist.
type ConfNode struct {
	Name  string
	ID    int
	Votes int // 0 when the file has none: such a node does not vote
	// Links are the ringN_addr values by link number.
	Links map[int]string
}

// LinkNumbers lists the numbers of the node's links in ascending order.
func (n ConfNode) LinkNumbers() []int { return slices.Sorted(maps.Keys(n.Links)) }

// ConfDevice is quorum.device, the QDevice.
type ConfDevice struct {
	Model     string
	Host      string
	Algorithm string // ffsplit or lms
	Votes     int    // 0 with lms: the device then has one vote less than there are nodes
}

// maxCorosyncDepth bounds nested blocks: real files have three levels, and the parser must not be led astray.
const maxCorosyncDepth = 16

// ParseCorosyncConf reads a corosync.conf. The grammar is the one of Proxmox's own reader: "#" begins a comment,
// "name {" opens a block, "}" closes it, everything else is "key: value".
func ParseCorosyncConf(text []byte) (*CorosyncConf, error) {
	root := &Section{Settings: map[string]string{}}
	open := []*Section{root}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		line = strings.Join(strings.Fields(line), " ")
		here := open[len(open)-1]
		switch {
		case line == "":
		case line == "}":
			if len(open) == 1 {
				return nil, fmt.Errorf("corosync.conf line %d: } without a block", n)
			}
			open = open[:len(open)-1]
		case strings.HasSuffix(line, "{"):
			name := strings.TrimSpace(strings.TrimSuffix(line, "{"))
			if name == "" || strings.ContainsAny(name, " {}:") {
				return nil, fmt.Errorf("corosync.conf line %d: %q does not open a block", n, line)
			}
			if len(open) > maxCorosyncDepth {
				return nil, fmt.Errorf("corosync.conf line %d: blocks are nested too deep", n)
			}
			sub := &Section{Name: name, Settings: map[string]string{}}
			here.Sections = append(here.Sections, sub)
			open = append(open, sub)
		default:
			key, value, ok := strings.Cut(line, ":")
			if !ok || strings.TrimSpace(key) == "" {
				return nil, fmt.Errorf("corosync.conf line %d: %q is neither a setting nor a block", n, line)
			}
			here.Settings[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("corosync.conf: %w", err)
	}
	if len(open) > 1 {
		return nil, fmt.Errorf("corosync.conf: block %q is not closed", open[len(open)-1].Name)
	}
	return corosyncView(root)
}

func corosyncView(root *Section) (*CorosyncConf, error) {
	totem := root.Sub("totem")
	c := &CorosyncConf{
		ClusterName:      totem.Get("cluster_name"),
		TokenCoefficient: atoi(totem.Get("token_coefficient")),
		LinkPriorities:   map[int]int{},
		Root:             root,
	}
	if v := totem.Get("config_version"); v != "" {
		version, err := strconv.Atoi(v)
		if err != nil {
			return nil, fmt.Errorf("corosync.conf: config_version %q is not a number", v)
		}
		c.Version = version
	}
	for _, iface := range totem.all("interface") {
		number := iface.Get("linknumber")
		if number == "" {
			number = iface.Get("ringnumber")
		}
		if priority := iface.Get("knet_link_priority"); priority != "" {
			c.LinkPriorities[atoi(number)] = atoi(priority)
		}
	}
	for _, node := range root.Sub("nodelist").all("node") {
		c.Nodes = append(c.Nodes, confNode(node))
	}
	if device := root.Sub("quorum").Sub("device"); device != nil && device.Get("model") != "" {
		net := device.Sub("net")
		c.Device = &ConfDevice{
			Model: device.Get("model"), Votes: atoi(device.Get("votes")),
			Host: net.Get("host"), Algorithm: net.Get("algorithm"),
		}
	}
	return c, nil
}

func confNode(s *Section) ConfNode {
	n := ConfNode{Name: s.Get("name"), ID: atoi(s.Get("nodeid")), Votes: atoi(s.Get("quorum_votes")), Links: map[int]string{}}
	if n.Name == "" {
		n.Name = s.Get("ring0_addr")
	}
	for key, value := range s.Settings {
		number, isLink := strings.CutPrefix(key, "ring")
		number, suffixed := strings.CutSuffix(number, "_addr")
		if link, err := strconv.Atoi(number); err == nil && isLink && suffixed && link >= 0 {
			n.Links[link] = value
		}
	}
	return n
}

// Node returns the nodelist entry of a name.
func (c *CorosyncConf) Node(name string) (ConfNode, bool) {
	if c == nil {
		return ConfNode{}, false
	}
	i := slices.IndexFunc(c.Nodes, func(n ConfNode) bool { return n.Name == name })
	if i < 0 {
		return ConfNode{}, false
	}
	return c.Nodes[i], true
}

// Names lists the nodes of the nodelist in ascending order of their names.
func (c *CorosyncConf) Names() []string {
	if c == nil {
		return nil
	}
	names := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		names[i] = n.Name
	}
	slices.Sort(names)
	return names
}

// LinkNumbers lists the links that any node has, in ascending order.
func (c *CorosyncConf) LinkNumbers() []int {
	numbers := map[int]bool{}
	if c != nil {
		for _, n := range c.Nodes {
			for link := range n.Links {
				numbers[link] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(numbers))
}

// atoi reads a number leniently: what is none counts as 0.
func atoi(s string) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		return 0
	}
	return n
}
