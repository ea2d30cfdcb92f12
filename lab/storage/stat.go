package storage

import (
	"fmt"
	"strings"
	"time"
)

// stat is a round of pvestatd: it activates the node's storages, which mounts what is not mounted, and tells their space to
// the cluster. A storage that hangs holds up the round, so that the rows of all storages of the node grow old.
func (n *Node) stat() {
	v := n.n.Machine().FS.View
	var rows []row
	for _, s := range readConfig(v).entries {
		if _, err := readConfig(v).enabled(s.ID, n.n.Name()); err != nil || s.ID == "local" {
			continue // the model of the cluster tells of local itself
		}
		if path := s.Values["path"]; path != "" && n.stuck(path) {
			if e := n.mountedAt(path); n.reaches(e.Kind, e.on.Name()) {
				return
			}
			continue // the server is asked first, and does not answer
		}
		if serverOf(s) != "" && Kinds[s.Type] != 0 && !n.reaches(s.Type, serverOf(s)) {
			continue
		}
		if err := n.activate(n.w.ctx, v, s); err != nil {
			continue
		}
		if u, err := n.status(v, s); err == nil {
			rows = append(rows, row{s.ID, u.total, u.used})
		}
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.rows, n.seenAt, n.seenTime = rows, n.elapsed(), n.n.Machine().Now()
}

// rrdAge is the age at which pmxcfs drops what it was told.
const rrdAge = 5 * time.Minute

// rrd are the node's lines in .rrd.
func (n *Node) rrd() string {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if n.elapsed()-n.seenAt > rrdAge {
		return ""
	}
	prefix := "pve-storage-9.0"
	if n.old {
		prefix = "pve2-storage"
	}
	var b strings.Builder
	for _, r := range n.rows {
		fmt.Fprintf(&b, "%s/%s/%s:%d:%d:%d\n", prefix, n.name, r.id, n.seenTime.Unix(), r.total, r.used)
	}
	return b.String()
}
