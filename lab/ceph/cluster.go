package ceph

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Cluster is one Ceph cluster.
type Cluster struct {
	model *Model
	fsid  string

	mons          []*mon // by address: the order of the ranks
	monEpoch      int
	quorum        []*mon // in the order of the ranks; empty without
	quorumSince   time.Duration
	nextQuorum    *quorumChange
	electionEpoch int

	mgrs     []*mgr
	active   *mgr
	failover time.Duration // when a standby takes over; 0 is never
	mgrEpoch int

	osds      map[int]*osd
	osdEpoch  int
	flags     map[string]bool
	nodeFlags map[string]map[string]bool // of CRUSH nodes, by name
	crush     *crushMap
	profiles  map[string]map[string]string
	pools     []*pool
	poolSeq   int

	mds     []*mds
	fs      []*filesystem
	fsEpoch int

	config  []setting
	crashes []crash
	muted   map[string]bool
	// defaultSize is osd_pool_default_size as the monitors read it at their start.
	defaultSize int
	publicNet   string
	tail        time.Duration     // when the last of the copying that is queued will be done
	release     string            // the required OSD release
	keys        map[string]string // of daemons and clients, by entity
	counted     *tally            // what was counted since the last change
}

// daemon is what all daemons have in common.
type daemon struct {
	kind, id string
	node     *Node
	// on: the process runs. clean: it ended in order and said so.
	on, clean bool
	version   string // of the program that runs
	broken    string // why it does not start
}

func (d *daemon) name() string { return d.kind + "." + d.id }

func (d *daemon) unit() string { return "ceph-" + d.kind + "@" + d.id + ".service" }

// mon is a monitor.
type mon struct {
	daemon
	addr netip.Addr
}

// quorumChange is a quorum that is about to be.
type quorumChange struct {
	mons []*mon
	at   time.Duration
}

// mgr is a manager.
type mgr struct{ daemon }

// osd is an OSD. Its host is nil when only its id exists.
type osd struct {
	daemon
	number int
	uuid   string
	up     bool
	in     float64 // reweight: 0 is out
	class  string
	weight float64 // in CRUSH
	size   int64
	flags  map[string]bool
	// change is when up will turn into what on says; 0 when it does not.
	change  time.Duration
	downAt  time.Duration
	upAt    time.Duration
	autoOut bool // marked out because it was down for long
	never   bool // has never been up
	devices []string
	bootIDs string // its disks when it was last marked up
}

// mds is a metadata server.
type mds struct {
	daemon
	rank     int // of its file system, -1 in standby
	fs       *filesystem
	since    time.Duration
	gid      int
	takeover time.Duration
}

// filesystem is a CephFS.
type filesystem struct {
	id             int
	name           string
	metadata, data int // pool ids
	created        time.Duration
}

// setting is one entry of the configuration database.
type setting struct{ section, name, value string }

// crash is a report of a daemon that died.
type crash struct {
	id, entity, host string
	at               time.Time
	archived         bool
}

// newCluster makes the cluster of a fsid, without a daemon.
func (m *Model) newCluster(fsid string, c conf) *Cluster {
	k := &Cluster{
		model: m, fsid: fsid, osds: map[int]*osd{}, flags: map[string]bool{"sortbitwise": true, "recovery_deletes": true, "purged_snapdirs": true, "pglog_hardlimit": true},
		nodeFlags: map[string]map[string]bool{}, crush: newCrushMap(), profiles: map[string]map[string]string{}, muted: map[string]bool{},
		keys: map[string]string{}, defaultSize: 3, publicNet: c["global"]["public_network"],
	}
	k.profiles["default"] = map[string]string{"k": "2", "m": "2", "plugin": "jerasure", "technique": "reed_sol_van"}
	m.clusters[fsid] = k
	return k
}

// daemons lists all.
func (c *Cluster) daemons() []*daemon {
	var out []*daemon
	for _, d := range c.mons {
		out = append(out, &d.daemon)
	}
	for _, d := range c.mgrs {
		out = append(out, &d.daemon)
	}
	for _, d := range c.sortedOSDs() {
		out = append(out, &d.daemon)
	}
	for _, d := range c.mds {
		out = append(out, &d.daemon)
	}
	return out
}

func (c *Cluster) daemon(kind, id string) *daemon {
	for _, d := range c.daemons() {
		if d.kind == kind && d.id == id {
			return d
		}
	}
	return nil
}

func (c *Cluster) sortedOSDs() []*osd {
	out := make([]*osd, 0, len(c.osds))
	for _, id := range slices.Sorted(maps.Keys(c.osds)) {
		out = append(out, c.osds[id])
	}
	return out
}

func (c *Cluster) mon(name string) *mon {
	for _, m := range c.mons {
		if m.id == name {
			return m
		}
	}
	return nil
}

func (c *Cluster) pool(name string) *pool {
	for _, p := range c.pools {
		if p.name == name {
			return p
		}
	}
	return nil
}

func (c *Cluster) poolByID(id int) *pool {
	for _, p := range c.pools {
		if p.id == id {
			return p
		}
	}
	return nil
}

// rank is a monitor's place in the map.
func (c *Cluster) rank(m *mon) int { return slices.Index(c.mons, m) }

// inQuorum are the names of the monitors in the quorum.
func (c *Cluster) inQuorum() []string {
	out := []string{}
	for _, m := range c.quorum {
		out = append(out, m.id)
	}
	return out
}

// newUUID is repeatable per machine.
func (n *Node) newUUID() string {
	var b [16]byte
	n.m.Random(b[:])
	return fmt.Sprintf("%x-%x-4%03x-a%03x-%x", b[:4], b[4:6], uint16(b[6])<<8&0xfff|uint16(b[7]), uint16(b[8])<<8&0xfff|uint16(b[9]), b[10:])
}
