package cluster

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// database is the content of pmxcfs: what config.db holds. Nodes that are in sync share one; a node that leaves keeps
// a copy. It is guarded by the world's lock.
type database struct {
	root *inode
	// version counts changes: of two databases that meet, the newer one wins.
	version uint64
	// counters hold the per-file change counters of .version.
	counters map[string]int
	guestSeq int
	log      []logEntry

	// parsed is the corosync.conf that parsedFrom holds at parsedAt.
	parsed     *Conf
	parsedFrom *inode
	parsedAt   uint64
	// listed are all guests as of listedAt of guestSeq, which is never 0.
	listed   []guest
	said     []string // how a view names them
	listedAt int
}

// inode is a file or folder of a database.
type inode struct {
	children map[string]*inode // nil for a file
	data     []byte
	mtime    time.Time
	writer   string // the node that wrote it last
	version  uint64

	// When it was written, on the lab's clock and without any machine's skew: see aged.
	written     time.Duration
	writtenWall time.Time

	// Of a lock folder (below priv/lock):
	renewed time.Duration // on the lab's clock
	soiled  bool          // something was made inside: its owner may no longer renew it
}

func (i *inode) isDir() bool { return i.children != nil }

type logEntry struct {
	time                time.Time
	node, user, message string
}

func newDatabase() *database {
	return &database{root: &inode{children: map[string]*inode{}}, counters: map[string]int{}, guestSeq: 1}
}

func (d *database) clone() *database {
	c := *d
	c.parsed, c.parsedFrom = nil, nil
	c.root = d.root.clone()
	c.counters = maps.Clone(d.counters)
	c.log = slices.Clone(d.log)
	return &c
}

func (i *inode) clone() *inode {
	c := *i
	c.data = slices.Clone(i.data)
	if i.children != nil {
		c.children = make(map[string]*inode, len(i.children))
		for name, child := range i.children {
			c.children[name] = child.clone()
		}
	}
	return &c
}

// lookup finds an inode by its path, "/" being the root.
func (d *database) lookup(p string) *inode {
	at := d.root
	for part := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		if part == "" {
			continue
		}
		if at = at.children[part]; at == nil {
			return nil
		}
	}
	return at
}

// read returns a file's content, or nil.
func (d *database) read(p string) []byte {
	if i := d.lookup(p); i != nil {
		return i.data
	}
	return nil
}

// put writes a file and makes the folders above it. It is for contents that a model makes, not for programs.
func (d *database) put(p, writer string, data []byte, now time.Time) {
	dir := d.mkdirAll(path.Dir(p), writer, now)
	d.version++
	dir.children[path.Base(p)] = &inode{data: data, mtime: now, writer: writer, version: d.version}
	d.touched(p)
}

func (d *database) mkdirAll(p, writer string, now time.Time) *inode {
	at := d.root
	for part := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		if part == "" || part == "." {
			continue
		}
		next := at.children[part]
		if next == nil {
			d.version++
			next = &inode{children: map[string]*inode{}, mtime: now, writer: writer, version: d.version}
			at.children[part] = next
		}
		at = next
	}
	return at
}

// touched notes a change of a path in the counters.
func (d *database) touched(p string) {
	p = strings.TrimPrefix(p, "/")
	if slices.Contains(countedFiles, p) {
		d.counters[p]++
	}
	if _, ok := guestOf(p); ok {
		d.guestSeq++
	}
}

// conf is the cluster's corosync.conf, or nil on a standalone node. It must not be changed.
func (d *database) conf() *Conf {
	i := d.root.children["corosync.conf"]
	if i == nil {
		return nil
	}
	if i != d.parsedFrom || i.version != d.parsedAt {
		d.parsedFrom, d.parsedAt, d.parsed = i, i.version, nil
		if conf, err := ParseConf(string(i.data)); err == nil {
			d.parsed = conf
		}
	}
	return d.parsed
}

// guest is a virtual guest as its config file's path tells.
type guest struct {
	id      int
	node    string
	kind    string // qemu or lxc
	version uint64
}

// guestOf reads a guest from the path of its config file.
func guestOf(p string) (guest, bool) {
	parts := strings.Split(strings.Trim(p, "/"), "/")
	if len(parts) != 4 || parts[0] != "nodes" {
		return guest{}, false
	}
	g := guest{node: parts[1]}
	switch parts[2] {
	case "qemu-server":
		g.kind = "qemu"
	case "lxc":
		g.kind = "lxc"
	default:
		return guest{}, false
	}
	number, ok := strings.CutSuffix(parts[3], ".conf")
	id, err := strconv.Atoi(number)
	if !ok || err != nil || id < 100 {
		return guest{}, false
	}
	g.id = id
	return g, true
}

// guests lists all guests by id. The list must not be changed.
func (d *database) guests() []guest {
	if d.listedAt != d.guestSeq {
		d.listed, d.said, d.listedAt = d.listGuests(), nil, d.guestSeq
	}
	return d.listed
}

// guestNames is the list of guests in words, which must not be changed either.
func (d *database) guestNames() []string {
	list := d.guests()
	if d.said == nil {
		for _, g := range list {
			d.said = append(d.said, fmt.Sprintf("%s %d on %s", g.kind, g.id, g.node))
		}
	}
	return d.said
}

func (d *database) listGuests() []guest {
	var out []guest
	nodes := d.lookup("/nodes")
	if nodes == nil {
		return nil
	}
	for node, dir := range nodes.children {
		for _, kind := range []string{"qemu-server", "lxc"} {
			configs := dir.children[kind]
			if configs == nil {
				continue
			}
			for file, i := range configs.children {
				if g, ok := guestOf("/nodes/" + node + "/" + kind + "/" + file); ok {
					g.version = i.version
					out = append(out, g)
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b guest) int { return a.id - b.id })
	return out
}

// holderOf is the node that has a guest's config.
func (d *database) holderOf(id int) (node string, ok bool) {
	nodes := d.root.children["nodes"]
	if nodes == nil {
		return "", false
	}
	file := strconv.Itoa(id) + ".conf"
	for name, dir := range nodes.children {
		for _, kind := range []string{"qemu-server", "lxc"} {
			if configs := dir.children[kind]; configs != nil && configs.children[file] != nil {
				return name, true
			}
		}
	}
	return "", false
}

// names lists the top-level names.
func (d *database) names() []string { return slices.Sorted(maps.Keys(d.root.children)) }

// note adds a line to the cluster log.
func (d *database) note(e logEntry) {
	const keep = 50
	d.log = append(d.log, e)
	if len(d.log) > keep {
		d.log = d.log[len(d.log)-keep:]
	}
}

// countedFiles are the files whose changes .version counts, in the order in which it lists them.
var countedFiles = []string{
	"corosync.conf", "corosync.conf.new", "storage.cfg", "user.cfg", "domains.cfg", "notifications.cfg",
	"priv/notifications.cfg", "priv/shadow.cfg", "priv/acme/plugins.cfg", "priv/tfa.cfg", "priv/token.cfg",
	"datacenter.cfg", "vzdump.cron", "vzdump.conf", "jobs.cfg", "ha/crm_commands", "ha/manager_status",
	"ha/resources.cfg", "ha/rules.cfg", "ha/groups.cfg", "ha/fence.cfg", "status.cfg", "replication.cfg", "ceph.conf",
	"sdn/vnets.cfg", "sdn/zones.cfg", "sdn/controllers.cfg", "sdn/subnets.cfg", "sdn/ipams.cfg", "sdn/mac-cache.json",
	"sdn/pve-ipam-state.json", "sdn/dns.cfg", "sdn/fabrics.cfg", "sdn/.running-config",
	"virtual-guest/cpu-models.conf", "virtual-guest/profiles.cfg", "firewall/cluster.fw", "mapping/directory.cfg",
	"mapping/pci.cfg", "mapping/usb.cfg",
}
