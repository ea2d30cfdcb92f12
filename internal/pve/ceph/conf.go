package ceph

import (
	"slices"
	"strconv"
	"strings"
)

// Conf is /etc/pve/ceph.conf.
type Conf struct {
	FSID string
	// PublicNetwork and ClusterNetwork are as written: one network, mostly, in CIDR form.
	PublicNetwork, ClusterNetwork string
	MonHosts                      []string
	// Size and MinSize are those of new pools; 0 if the file names none.
	Size, MinSize int

	sections map[string]map[string]string
}

// ParseConf reads the file. Keys may be written with blanks, dashes or underscores. What is no setting is passed over.
func ParseConf(text []byte) *Conf {
	c := &Conf{sections: map[string]map[string]string{}}
	section := "global"
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(cutComment(line))
		if name, ok := strings.CutPrefix(line, "["); ok {
			if name, ok = strings.CutSuffix(name, "]"); ok {
				section = strings.TrimSpace(name)
				c.section(section)
			}
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || strings.TrimSpace(key) == "" {
			continue
		}
		key = strings.NewReplacer(" ", "_", "-", "_").Replace(strings.TrimSpace(key))
		c.section(section)[key] = strings.TrimSpace(value)
	}
	global := c.sections["global"]
	c.FSID, c.PublicNetwork, c.ClusterNetwork = global["fsid"], global["public_network"], global["cluster_network"]
	c.MonHosts = strings.FieldsFunc(global["mon_host"], func(r rune) bool { return r == ' ' || r == ',' || r == ';' || r == '\t' })
	c.Size, _ = strconv.Atoi(global["osd_pool_default_size"])
	c.MinSize, _ = strconv.Atoi(global["osd_pool_default_min_size"])
	return c
}

// cutComment takes a comment off a line. A character of it that is meant is escaped by a backslash.
func cutComment(line string) string {
	for i := range len(line) {
		if (line[i] == '#' || line[i] == ';') && (i == 0 || line[i-1] != '\\') {
			return line[:i]
		}
	}
	return line
}

func (c *Conf) section(name string) map[string]string {
	if c.sections[name] == nil {
		c.sections[name] = map[string]string{}
	}
	return c.sections[name]
}

// Inited reports whether pveceph init has been run: the cluster has an id.
func (c *Conf) Inited() bool { return c != nil && c.FSID != "" }

// Daemons are the ids of a kind of daemon that have a section of their own: the monitors' names for "mon".
func (c *Conf) Daemons(kind string) []string {
	if c == nil {
		return nil
	}
	var ids []string
	for name := range c.sections {
		if id, ok := strings.CutPrefix(name, kind+"."); ok && id != "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Has reports whether a daemon has a section.
func (c *Conf) Has(kind, id string) bool { return slices.Contains(c.Daemons(kind), id) }
