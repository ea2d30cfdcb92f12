package health

import (
	"slices"
	"time"

	"github.com/pxrun/pxrun/internal/detach"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ha"
)

// Report is the state of a cluster for people and for monitoring.
type Report struct {
	pve.Report
	// Quorum says how many failures the votes bear as they are, and what a QDevice would add.
	Quorum QuorumTable `json:"quorum"`
	Loads  []Load      `json:"loads,omitempty"`
	HA     *HA         `json:"ha,omitempty"`
	Ceph   *Ceph       `json:"ceph,omitempty"`
	Guests Guests      `json:"guests"`
	// Storages are those of storage.cfg.
	Storages []Storage `json:"storages,omitempty"`
	// Stale is the node whose memory HA, storages and guests are told from, because no node that answered is quorate; "" while one is. What it
	// remembers is from before quorum was lost, or of its own part of the cluster.
	Stale string `json:"stale,omitempty"`
	// Jobs are long commands of pxrun whose files lie on nodes, by node.
	Jobs map[string][]detach.Left `json:"jobs,omitempty"`
}

// Folded is the report with what follows from something shown under its cause.
func (r Report) Folded() Report {
	r.Findings = pve.Fold(r.Findings)
	return r
}

// QuorumTable is the arithmetic of votes for now and for what could be.
type QuorumTable struct {
	Rows []QuorumRow `json:"rows"`
}

// QuorumRow is one arrangement of votes.
type QuorumRow struct {
	What     string `json:"what"` // "now", "with all nodes online", "with a QDevice"
	Total    int    `json:"votes"`
	Expected int    `json:"expected"`
	Needed   int    `json:"needed"`
	Bearable int    `json:"bearable_failures"` // -1: no quorum
}

// Load is how busy a node is.
type Load struct {
	Node        string        `json:"node"`
	Uptime      time.Duration `json:"uptime_ns"`
	Load        float64       `json:"load1"`
	CPUs        int           `json:"cpus"`
	MemoryTotal int64         `json:"memory_total_bytes"`
	MemoryFree  int64         `json:"memory_available_bytes"`
	RootTotal   int64         `json:"root_total_bytes"`
	RootUsed    int64         `json:"root_used_bytes"`
	// PendingKernel is the kernel that the next boot takes, if it is another than the running one.
	PendingKernel string `json:"pending_kernel,omitempty"`
	Watchdog      string `json:"watchdog,omitempty"` // what drives it: "Software Watchdog"
}

// HA is what the HA manager does.
type HA struct {
	Master      string         `json:"master,omitempty"`
	Resources   int            `json:"resources"`
	States      map[string]int `json:"states"` // services by their state
	Maintenance []string       `json:"maintenance,omitempty"`
	Disarmed    string         `json:"disarmed,omitempty"`
	// Age is how long ago the HA manager wrote it.
	Age time.Duration `json:"age_ns,omitempty"`
}

// Guests counts guests of the cluster.
type Guests struct {
	Total   int `json:"total"`
	Running int `json:"running"`
	Locked  int `json:"locked"`
}

// Storage is one entry of storage.cfg, as the nodes use it.
type Storage struct {
	ID       string   `json:"id"`
	Type     string   `json:"type"`
	Disabled bool     `json:"disabled,omitempty"`
	Missing  []string `json:"missing,omitempty"` // nodes that have said nothing of it for five minutes
	Total    int64    `json:"total_bytes,omitempty"`
	Used     int64    `json:"used_bytes,omitempty"`
}

// Judge makes the report of a snapshot.
func Judge(s Snapshot, w pve.Wanted) Report {
	r := Report{Report: pve.Status(s.States(), w)}
	members := pve.MembersOf(s.States(), w.Cluster)
	if conf := pve.NewestConf(members); conf != nil {
		r.Quorum = quorumTable(conf, r.Votes)
	}
	for _, n := range s.Nodes {
		if n.Err == nil {
			r.node(n)
		}
	}
	if s.shared >= 0 {
		source := s.Nodes[s.shared]
		r.stale(source)
		state := ha.Of(source.Hostname, source.answers)
		rrd := readRRD(source)
		r.highAvailability(state, members)
		r.guests(source, state, rrd)
		r.ceph(source, s)
		r.storages(source, rrd, members)
		r.memory(rrd, s)
		r.statistics(source, rrd, members)
	} else if r.Formed {
		r.add(pve.Finding{
			Severity: pve.Critical, Check: "pmxcfs", Saw: "no node that answers has /etc/pve: high availability, storages and guests could not be judged",
			Look: "systemctl status pve-cluster", Remedy: "bring pve-cluster back on a node",
		})
	}
	r.order()
	return r
}

// stale says so when what all nodes have alike comes from one that is not quorate.
func (r *Report) stale(source Node) {
	if !r.Formed || source.Writable {
		return
	}
	r.Stale = source.Host
	follows := pve.CauseOf(r.Lost, source.Hostname)
	if !r.Quorate {
		follows = pve.CauseQuorum
	}
	r.add(pve.Finding{
		Severity: pve.Warning, Node: source.Host, Check: "stale", Follows: follows,
		Saw:  "what is shown of HA, storages and guests is what " + source.Host + " remembers from before quorum was lost",
		Look: "pvecm status", Remedy: "bring quorum back and look again",
	})
}

func (r *Report) add(f pve.Finding) { r.Findings = append(r.Findings, f) }

// order puts the worst findings first, those of a severity as they were found.
func (r *Report) order() {
	rank := map[pve.Severity]int{pve.Critical: 0, pve.Warning: 1, pve.Info: 2}
	slices.SortStableFunc(r.Findings, func(a, b pve.Finding) int { return rank[a.Severity] - rank[b.Severity] })
}

// quorumTable does the arithmetic for now, for all nodes online, and for a QDevice where there is none and one may be had.
func quorumTable(conf *pve.CorosyncConf, votes pve.VoteReport) QuorumTable {
	all := pve.BallotOf(conf, func(string) bool { return true }, true)
	t := QuorumTable{Rows: []QuorumRow{{What: "now", Total: votes.Total, Expected: votes.Expected, Needed: votes.Quorum, Bearable: votes.Bearable}}}
	if votes.Total != all.Total() {
		t.Rows = append(t.Rows, rowOf("with all online", all))
	}
	if conf.Device == nil && len(conf.Nodes)%2 == 0 {
		with := all
		with.Device, with.DeviceOnline = 1, true
		t.Rows = append(t.Rows, rowOf("with a QDevice", with))
	}
	return t
}

func rowOf(what string, b pve.Ballot) QuorumRow {
	return QuorumRow{What: what, Total: b.Total(), Expected: b.Expected(), Needed: b.Quorum(), Bearable: b.Bearable()}
}
