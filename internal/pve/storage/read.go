package storage

import (
	"context"
	"crypto/sha1" //nolint:gosec // Proxmox's digests are SHA-1
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/transport"
)

const (
	readSeconds  = 10
	probeTimeout = 40 * time.Second
)

// Site is what concerns storages, replication and backups in the files of /etc/pve, which are the same on all quorate nodes.
type Site struct {
	From     string // the node that was read
	Now      time.Time
	Storages []config.Section
	// Digest is Proxmox's digest of storage.cfg as it was read, for --digest (reference §1.8); "" without the file.
	Digest  string
	Jobs    []Job
	Backups []config.Section // jobs.cfg
	Rows    map[string]map[string]Row
	Guests  []pve.Guest
	Drives  []Reference
	// Changed is when storage.cfg was last written.
	Changed time.Time
	// Pools are the members of resource pools by name.
	Pools map[string][]int
	// Unread says why something could not be read: what rests on it is not known.
	Unread map[string]string
}

func file(name, path string) frame.Read {
	return frame.Read{Name: name, Seconds: readSeconds, Command: "cat " + path, Pmxcfs: true}
}

var probe = transport.Command{Timeout: probeTimeout, Script: frame.Script(
	frame.Read{Name: "time", Seconds: readSeconds, Command: "date +%s"},
	file("storages", "/etc/pve/storage.cfg"),
	frame.Read{Name: "changed", Seconds: readSeconds, Command: "stat -c %Y /etc/pve/storage.cfg", Pmxcfs: true},
	file("replication", "/etc/pve/replication.cfg"),
	file("jobs", "/etc/pve/jobs.cfg"),
	file("rrd", "/etc/pve/.rrd"),
	file("guests", "/etc/pve/.vmlist"),
	file("users", "/etc/pve/user.cfg"),
	frame.Read{Name: "drives", Seconds: readSeconds, Pmxcfs: true, Command: `sh -c 'grep -HE "^ *(ide|sata|scsi|virtio|efidisk|tpmstate|unused|rootfs|mp|vmstate)[0-9]*:" /etc/pve/nodes/*/qemu-server/*.conf /etc/pve/nodes/*/lxc/*.conf 2>/dev/null; :'`},
)}

// Probe is the command that Read runs: the same text each time.
func Probe() transport.Command { return probe }

// Read reads the site from one node, in one round trip.
func Read(ctx context.Context, node string, conn transport.Conn) (*Site, error) {
	r, err := conn.Run(ctx, probe)
	if err != nil {
		return nil, fmt.Errorf("read storages from %s: %w", node, err)
	}
	return Parse(node, r.Stdout)
}

// answers are the reads of a script, with what could not be read.
type answers struct {
	all    map[string]frame.Answer
	unread map[string]string
}

func (a answers) text(name string) []byte {
	found, why := a.all[name].Found()
	if why != "" {
		a.unread[name] = why
	}
	return found
}

// Parse reads the output of Probe.
func Parse(node string, out []byte) (*Site, error) {
	all, err := frame.Parse(out)
	if err != nil {
		return nil, fmt.Errorf("read storages from %s: %w", node, err)
	}
	s := &Site{From: node, Unread: map[string]string{}}
	a := answers{all, s.Unread}
	if seconds, err := strconv.ParseInt(strings.TrimSpace(string(a.text("time"))), 10, 64); err == nil {
		s.Now = time.Unix(seconds, 0)
	}
	if seconds, err := strconv.ParseInt(strings.TrimSpace(string(a.text("changed"))), 10, 64); err == nil {
		s.Changed = time.Unix(seconds, 0)
	}
	cfg := a.text("storages")
	if cfg != nil {
		s.Digest = fmt.Sprintf("%x", sha1.Sum(cfg)) //nolint:gosec // Proxmox's digests are SHA-1
	}
	s.Storages, s.Jobs, s.Rows = ParseStorages(cfg), ParseJobs(a.text("replication")), ParseRows(a.text("rrd"))
	s.Backups, _ = config.ParseSections(a.text("jobs"))
	s.Drives, s.Pools = ParseReferences(a.text("drives")), parsePools(a.text("users"))
	if text := a.text("guests"); len(text) > 0 {
		if s.Guests, err = pve.ParseGuests(text); err != nil {
			s.Unread["guests"] = err.Error()
		}
	}
	return s, nil
}

// Missing says why one of some reads failed, or "".
func (s *Site) Missing(names ...string) string {
	for _, name := range names {
		if why, bad := s.Unread[name]; bad {
			return fmt.Sprintf("the read of %s failed: %s", name, why)
		}
	}
	return ""
}

// Storage returns a storage by its name.
func (s *Site) Storage(id string) (config.Section, bool) { return config.FindSection(s.Storages, id) }

// parsePools reads the resource pools of user.cfg: pool:NAME:COMMENT:GUESTS:STORAGES:
func parsePools(text []byte) map[string][]int {
	out := map[string][]int{}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 || f[0] != "pool" {
			continue
		}
		out[f[1]] = []int{}
		for _, id := range config.SplitList(f[3]) {
			if n, err := strconv.Atoi(id); err == nil {
				out[f[1]] = append(out[f[1]], n)
			}
		}
	}
	return out
}

// Local is what a node alone knows: how its replication jobs went, and since when it knows backup jobs.
type Local struct {
	Syncs map[int]map[string]Sync
	// JobsSince is, by a backup job's name, when it was made or its schedule was last changed.
	JobsSince map[string]time.Time
	Unread    map[string]string
}

var local = transport.Command{Timeout: probeTimeout, Script: frame.Script(
	frame.Read{Name: "syncs", Seconds: readSeconds, Command: "cat /var/lib/pve-manager/pve-replication-state.json"},
	frame.Read{Name: "jobs", Seconds: readSeconds, Command: `sh -c 'for f in /var/lib/pve-manager/jobs/vzdump-*.json; do if [ -e "$f" ]; then echo "#$f"; cat "$f"; echo; fi; done'`},
)}

// LocalProbe is the command that ReadLocal runs: the same text each time.
func LocalProbe() transport.Command { return local }

// ReadLocal reads what a node alone knows, in one round trip.
func ReadLocal(ctx context.Context, node string, conn transport.Conn) (*Local, error) {
	r, err := conn.Run(ctx, local)
	if err != nil {
		return nil, fmt.Errorf("read the jobs' states from %s: %w", node, err)
	}
	return ParseLocal(node, r.Stdout)
}

// ParseLocal reads the output of LocalProbe.
func ParseLocal(node string, out []byte) (*Local, error) {
	all, err := frame.Parse(out)
	if err != nil {
		return nil, fmt.Errorf("read the jobs' states from %s: %w", node, err)
	}
	l := &Local{Unread: map[string]string{}, JobsSince: map[string]time.Time{}}
	a := answers{all, l.Unread}
	if l.Syncs, err = ParseSyncs(a.text("syncs")); err != nil {
		l.Unread["syncs"] = err.Error()
	}
	const prefix = "#/var/lib/pve-manager/jobs/vzdump-"
	for part := range strings.SplitSeq("\n"+string(a.text("jobs")), "\n"+prefix) {
		name, body, ok := strings.Cut(part, ".json\n")
		if !ok {
			continue
		}
		var state struct {
			State   string  `json:"state"`
			Time    float64 `json:"time"`
			Updated float64 `json:"updated"`
		}
		if json.Unmarshal([]byte(body), &state) != nil {
			continue
		}
		since := int64(state.Updated)
		if state.State == "created" {
			since = max(since, int64(state.Time))
		}
		if since > 0 {
			l.JobsSince[name] = time.Unix(since, 0)
		}
	}
	return l, nil
}
