package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// pmxcfs is the state of one node's cluster file system. It is guarded by the world's lock.
type pmxcfs struct {
	running bool
	local   bool // started with -l: writable without quorum
	// clusteredSince tells whether the database had a corosync.conf at the start: only then does the running pmxcfs
	// belong to a cluster.
	clusteredSince bool
	attached       bool // hears corosync
	toldQuorum     bool // the journal says that the node has quorum
	db             *database
	mark           string // what config.db holds in place of the database
	started        time.Time
	knowsLocks     time.Duration     // since when, on the lab's clock: locks are timed by each pmxcfs for itself
	session        int               // counts starts, so that a timer of an earlier one does nothing
	clinfo         int               // the version in .members
	ips            map[string]string // node name to address, as the nodes told each other
}

// configDB is where the database rests while pmxcfs does not run.
const configDB = "/var/lib/pve-cluster/config.db"

// writable reports whether /etc/pve takes changes: on a standalone node always, on a member while it hears a corosync
// that is quorate. The caller holds the lock.
func (n *Node) writable() bool {
	if !n.pmx.running {
		return false
	}
	return !n.pmx.clusteredSince || n.pmx.attached && n.coro.running && n.tally().quorate
}

// startPmxcfs mounts /etc/pve. A missing config.db means an empty one, into which a local corosync.conf is imported:
// that is how a joining node gets into the cluster.
func (n *Node) startPmxcfs(_ context.Context, local bool) error {
	mark := n.readMark()
	localConf, _ := n.m.FS.ReadFile(localConfPath)

	n.w.mu.Lock()
	if n.pmx.running {
		n.w.mu.Unlock()
		return nil
	}
	db := n.w.shelves[mark]
	fresh := db == nil
	if fresh {
		db = newDatabase()
		if len(localConf) > 0 && !local {
			db.put("/corosync.conf", n.name, localConf, n.now())
		}
		// A database that is fresh must lose against any that it meets.
		db.version = 1
		mark = n.w.shelve(db)
	}
	delete(n.w.shelves, mark)
	p := &n.pmx
	session := p.session + 1
	*p = pmxcfs{
		running: true, local: local, db: db, started: n.now(), session: session, mark: mark,
		ips: map[string]string{n.name: n.ip.String()}, knowsLocks: n.w.clock.Elapsed(),
	}
	p.clusteredSince = !local && db.lookup("/corosync.conf") != nil
	if p.clusteredSince {
		p.clinfo = 1
	}
	conf := slices.Clone(db.read("/corosync.conf"))
	n.w.clock.AfterFunc(0, func() { n.tryAttach(session) })
	content := mark + strings.Join(db.names(), "\n")
	n.w.mu.Unlock()

	if err := n.writeSystemFile(configDB, []byte(content), 0o600); err != nil {
		_ = n.stopPmxcfs(context.Background()) // it says that nothing is mounted yet
		return err
	}
	if len(conf) > 0 && !local {
		n.writeLocalConf(conf)
	}
	return n.m.FS.Mount("/etc/pve", n.fs())
}

// stopPmxcfs unmounts /etc/pve and puts the database to rest.
func (n *Node) stopPmxcfs(context.Context) error {
	n.w.mu.Lock()
	p := &n.pmx
	if !p.running {
		n.w.mu.Unlock()
		return nil
	}
	p.running, p.attached = false, false
	n.w.shelves[p.mark] = p.db.clone()
	p.db = nil
	n.w.pmxcfsLeft(n)
	n.w.mu.Unlock()
	return n.m.FS.Unmount("/etc/pve")
}

// shelve stores a database under a new mark: what config.db holds in place of it. The caller holds the lock.
func (w *World) shelve(db *database) string {
	w.dbSeq++
	mark := fmt.Sprintf("%s%d\n", markPrefix, w.dbSeq)
	w.shelves[mark] = db
	return mark
}

const markPrefix = "SQLite format 3\x00database "

// readMark returns the mark in config.db, or "".
func (n *Node) readMark() string {
	content, err := n.m.FS.ReadFile(configDB)
	if err != nil || !strings.HasPrefix(string(content), markPrefix) {
		return ""
	}
	line, _, _ := strings.Cut(string(content), "\n")
	return line + "\n"
}

// tryAttach connects pmxcfs to corosync, and tries again in a while if corosync does not run yet.
func (n *Node) tryAttach(session int) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	p := &n.pmx
	if !p.running || p.session != session || p.attached || !p.clusteredSince {
		return
	}
	if !n.coro.running {
		n.w.clock.AfterFunc(n.w.timing.AttachRetry, func() { n.tryAttach(session) })
		return
	}
	p.attached = true
	p.clinfo++
	n.w.synchronise()
}

// detach is what happens to pmxcfs when corosync goes away: it keeps a copy, read-only, and tries to get back. The
// caller holds the lock.
func (n *Node) detach() {
	p := &n.pmx
	if !p.running || !p.attached {
		return
	}
	p.attached = false
	p.clinfo++
	session := p.session
	n.w.clock.AfterFunc(n.w.timing.AttachRetry, func() { n.tryAttach(session) })
	n.w.synchronise()
}

func (w *World) pmxcfsLeft(gone *Node) {
	if gone.coro.running {
		w.synchronise()
	}
}

// synchronise gives all attached nodes of one membership one database, the newest they have, and everybody else one of
// their own. The caller holds the lock.
func (w *World) synchronise() {
	used := map[*database]bool{}
	for _, group := range w.syncGroups() {
		newest := group[0].pmx.db
		ips := map[string]string{}
		for _, n := range group {
			if n.pmx.db.version > newest.version {
				newest = n.pmx.db
			}
			maps.Copy(ips, n.pmx.ips)
		}
		if used[newest] {
			newest = newest.clone()
		}
		used[newest] = true
		changed := false
		for _, n := range group {
			n.logQuorum()
			if len(n.pmx.ips) != len(ips) {
				n.pmx.clinfo++
				n.pmx.ips = maps.Clone(ips)
			}
			if n.pmx.db != newest {
				changed = true
				n.pmx.db, n.pmx.knowsLocks = newest, w.clock.Elapsed()
			}
		}
		if changed {
			w.confChanged(newest)
		}
	}
}

// lockAge is for how long a lock has not been renewed, as far as pmxcfs knows: the node with the lowest id judges that for
// all, and it counts from when it got to know the lock if that was later. The caller holds the lock of the world.
func (n *Node) lockAge(lock *inode) time.Duration {
	judge := n
	for _, other := range n.w.nodes {
		if n.pmx.attached && other.pmx.running && other.pmx.attached && other.pmx.db == n.pmx.db && other.coro.id < judge.coro.id {
			judge = other
		}
	}
	return n.w.clock.Elapsed() - max(lock.renewed, judge.pmx.knowsLocks)
}

// logQuorum writes what pmxcfs writes when it gains or loses the right to change things. The caller holds the lock.
func (n *Node) logQuorum() {
	writable := n.writable()
	if n.pmx.clusteredSince && writable != n.pmx.toldQuorum {
		n.pmx.toldQuorum = writable
		text := "[status] notice: node lost quorum"
		if writable {
			text = "[status] notice: node has quorum"
		}
		n.log("pmxcfs", text)
	}
}

// syncGroups are the attached nodes by membership, and then every other running node alone.
func (w *World) syncGroups() [][]*Node {
	var groups, alone [][]*Node
	seen := map[*Node]bool{}
	nodes := w.ordered()
	for _, n := range nodes {
		switch {
		case !n.pmx.running || seen[n]:
		case !n.pmx.attached:
			alone = append(alone, []*Node{n})
		default:
			group := []*Node{n}
			for _, other := range nodes {
				if other != n && other.pmx.running && other.pmx.attached && sameRing(n, other) {
					seen[other] = true
					group = append(group, other)
				}
			}
			groups = append(groups, group)
		}
	}
	return slices.Concat(groups, alone)
}

func sameRing(a, b *Node) bool {
	return a.coro.key == b.coro.key && a.coro.ring == b.coro.ring && slices.Contains(a.coro.members, b.coro.id)
}

// confChanged makes every node that holds a database write its corosync.conf to the local file and reload corosync,
// each in its time. The caller holds the lock.
func (w *World) confChanged(db *database) {
	if db.lookup("/corosync.conf") == nil {
		return
	}
	for _, n := range w.ordered() {
		if n.pmx.running && n.pmx.db == db && !n.pmx.local {
			w.clock.AfterFunc(w.timing.ConfWrite, n.propagate)
		}
	}
}

// propagate writes the cluster's config to the local file and has corosync reload it.
func (n *Node) propagate() {
	n.w.mu.Lock()
	if !n.pmx.running {
		n.w.mu.Unlock()
		return
	}
	text := slices.Clone(n.pmx.db.read("/corosync.conf"))
	n.w.mu.Unlock()
	if len(text) == 0 || !n.writeLocalConf(text) {
		return
	}
	n.w.clock.AfterFunc(n.w.timing.ConfReload, func() {
		if now, err := n.m.FS.ReadFile(localConfPath); err == nil {
			_ = n.reloadCorosync(string(now))
		}
	})
}

const (
	localConfPath = "/etc/corosync/corosync.conf"
	authkeyPath   = "/etc/corosync/authkey"
)

// writeLocalConf writes /etc/corosync/corosync.conf unless it is newer, and says whether it changed.
func (n *Node) writeLocalConf(text []byte) bool {
	if old, err := n.m.FS.ReadFile(localConfPath); err == nil {
		if string(old) == string(text) {
			return false
		}
		before, err1 := ParseConf(string(old))
		after, err2 := ParseConf(string(text))
		if err1 == nil && err2 == nil && before.Version() > after.Version() {
			n.log("pmxcfs", "[dcdb] crit: local corosync.conf is newer")
			return false
		}
	}
	return n.writeSystemFile(localConfPath, text, 0o644) == nil
}
