package pve

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Text writes the configuration as Proxmox does: keys and blocks sorted together, nodes by name, interfaces by number, two
// spaces a level, an empty line after each outer block (reference §3.1). Comments are lost, unknown keys are kept.
func (c *CorosyncConf) Text() string {
	var b strings.Builder
	c.Root.write(&b, 0)
	return b.String()
}

func (s *Section) write(b *strings.Builder, depth int) {
	indent := strings.Repeat("  ", depth)
	names := slices.Collect(maps.Keys(s.Settings))
	for _, sub := range s.Sections {
		names = append(names, sub.Name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if value, ok := s.Settings[name]; ok {
			fmt.Fprintf(b, "%s%s: %s\n", indent, name, value)
		}
		subs := s.all(name)
		switch name {
		case "node":
			slices.SortStableFunc(subs, func(x, y *Section) int { return strings.Compare(confNode(x).Name, confNode(y).Name) })
		case "interface":
			slices.SortStableFunc(subs, func(x, y *Section) int { return x.link() - y.link() })
		}
		for _, sub := range subs {
			fmt.Fprintf(b, "%s%s {\n", indent, name)
			sub.write(b, depth+1)
			fmt.Fprintf(b, "%s}\n", indent)
			if depth == 0 {
				b.WriteString("\n")
			}
		}
	}
}

// link is the number of an interface block.
func (s *Section) link() int {
	if number := s.Get("linknumber"); number != "" {
		return atoi(number)
	}
	return atoi(s.Get("ringnumber"))
}

func (s *Section) clone() *Section {
	c := &Section{Name: s.Name, Settings: maps.Clone(s.Settings)}
	for _, sub := range s.Sections {
		c.Sections = append(c.Sections, sub.clone())
	}
	return c
}

// LinkEdit is how one link of a cluster shall be.
type LinkEdit struct {
	Link int
	// Addrs are its addresses by node. Of a link that is removed there are none.
	Addrs    map[string]string
	Priority int // knet_link_priority, 0 for none
}

// WithLink returns the configuration with one link made so, its version raised by one. Every node must have an address.
func (c *CorosyncConf) WithLink(e LinkEdit) (*CorosyncConf, error) {
	root := c.Root.clone()
	totem := root.Sub("totem")
	if totem == nil || root.Sub("nodelist") == nil {
		return nil, fmt.Errorf("corosync.conf has no totem or no nodelist block")
	}
	key := fmt.Sprintf("ring%d_addr", e.Link)
	for _, s := range root.Sub("nodelist").all("node") {
		name := confNode(s).Name
		addr := e.Addrs[name]
		switch {
		case len(e.Addrs) == 0:
			delete(s.Settings, key)
			continue
		case addr == "":
			return nil, fmt.Errorf("no address of %s on link %d is known", name, e.Link)
		}
		if s.Get("name") == "" && e.Link == 0 {
			s.Settings["name"] = name // it was called by this very address
		}
		s.Settings[key] = addr
	}
	totem.Sections = slices.DeleteFunc(totem.Sections, func(s *Section) bool {
		return len(e.Addrs) == 0 && s.Name == "interface" && s.link() == e.Link
	})
	if len(e.Addrs) > 0 {
		iface := totem.ifaceOf(e.Link)
		delete(iface.Settings, "knet_link_priority")
		if e.Priority != 0 {
			iface.Settings["knet_link_priority"] = strconv.Itoa(e.Priority)
		}
	}
	totem.Settings["config_version"] = strconv.Itoa(c.Version + 1)
	return corosyncView(root)
}

// ifaceOf returns the block of a link, made when it is missing.
func (s *Section) ifaceOf(link int) *Section {
	for _, sub := range s.all("interface") {
		if sub.link() == link {
			return sub
		}
	}
	sub := &Section{Name: "interface", Settings: map[string]string{"linknumber": strconv.Itoa(link)}}
	s.Sections = append(s.Sections, sub)
	return sub
}
