package health

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/ha"
)

// guests counts guests and reports those that hold a lock.
func (r *Report) guests(n Node, s *ha.State, loads rrd) {
	r.Guests.Total = len(s.Guests)
	for _, g := range s.Guests {
		if g.Running == "running" {
			r.Guests.Running++
		}
	}
	text, err := n.text("h_locks", 1)
	if err != nil {
		return
	}
	var locked []string
	for line := range strings.Lines(text) {
		path, lock, ok := strings.Cut(strings.TrimSpace(line), ":lock:")
		if !ok {
			continue
		}
		id := strings.TrimSuffix(path[strings.LastIndexByte(path, '/')+1:], ".conf")
		locked = append(locked, fmt.Sprintf("%s (%s)", id, strings.TrimSpace(lock)))
	}
	slices.Sort(locked)
	if r.Guests.Locked = len(locked); len(locked) > 0 {
		r.add(pve.Finding{
			Severity: pve.Info, Check: "guests", Saw: "locked: " + few(locked), Look: "grep ^lock: /etc/pve/nodes/*/*/*.conf",
			Remedy: "a task works on them; qm unlock only when it is known to be dead",
		})
	}
}

// storages compares what should be there with what the nodes have told of it.
func (r *Report) storages(n Node, loads rrd, members []pve.NodeState) {
	text, err := n.text("h_storage")
	if err != nil || !loads.known {
		return
	}
	sections, _ := config.ParseSections([]byte(text))
	for _, s := range sections {
		storage := Storage{ID: s.ID, Type: s.Type, Disabled: s.Is("disable")}
		allowed := s.List("nodes")
		for _, m := range members {
			told, fresh := loads.storages[s.ID][m.Hostname]
			if storage.Disabled || !n.Members.Online(m.Hostname) || len(allowed) > 0 && !slices.Contains(allowed, m.Hostname) {
				continue
			}
			if !fresh {
				storage.Missing = append(storage.Missing, m.Hostname)
				continue
			}
			if told.total > storage.Total {
				storage.Total, storage.Used = told.total, told.used
			}
		}
		r.Storages = append(r.Storages, storage)
		follows := ""
		if ours := s.Type == "rbd" || s.Type == "cephfs"; ours && s.Values["monhost"] == "" {
			follows = causeCeph // if Ceph serves, there is no such cause
		}
		r.storage(storage, follows)
	}
}

func (r *Report) storage(s Storage, follows string) {
	if len(s.Missing) > 0 {
		r.add(pve.Finding{
			Severity: pve.Warning, Check: "storage", Follows: follows, Saw: fmt.Sprintf("%s (%s) is not reported active by %s", s.ID, s.Type, few(s.Missing)),
			Look: "pvesm status --storage " + s.ID, Remedy: "check the server and the way to it, or disable the storage",
		})
	}
	if s.Total == 0 {
		return
	}
	f := pve.Finding{Check: "storage", Saw: fmt.Sprintf("%s is %d %% full", s.ID, 100*s.Used/s.Total), Look: "pvesm status --storage " + s.ID, Remedy: "remove what is not needed, or make it larger"}
	switch percent := 100 * s.Used / s.Total; {
	case percent >= fullCritical:
		f.Severity = pve.Critical
	case percent >= fullWarning:
		f.Severity = pve.Warning
	default:
		return
	}
	r.add(f)
}

// statistics: a node that tells nothing has no pvestatd.
func (r *Report) statistics(n Node, loads rrd, members []pve.NodeState) {
	if !loads.known {
		return
	}
	for _, m := range members {
		if m.Writable && !loads.nodes[m.Hostname] {
			r.add(pve.Finding{
				Severity: pve.Warning, Node: m.Host, Check: "statistics", Saw: "it has told nothing of its load for five minutes", Look: "systemctl status pvestatd", Remedy: "systemctl restart pvestatd; a storage that hangs stops it",
			})
		}
	}
}

// memory: would the guests of any one node fit on the others?
func (r *Report) memory(loads rrd, s Snapshot) {
	var total int64
	free, needs := map[string]int64{}, map[string]int64{}
	placed := map[string]string{}
	for _, n := range s.Nodes {
		if n.Err != nil || !n.Writable {
			continue
		}
		free[n.Hostname] = n.MemoryAvailable
		total += n.MemoryAvailable
		for _, g := range n.NodeState.Guests {
			placed[g.ID] = g.Node
		}
	}
	if len(free) < 2 {
		return
	}
	for id, node := range placed {
		if g := loads.guests[id]; g.status == "running" {
			needs[node] += g.memory
		}
	}
	for _, n := range s.Nodes {
		elsewhere := total - free[n.Hostname]
		if _, here := free[n.Hostname]; here && needs[n.Hostname] > elsewhere {
			r.add(pve.Finding{
				Severity: pve.Warning, Node: n.Host, Check: "memory", Saw: fmt.Sprintf("its running guests may use %s, and %s is free on all other nodes together", size(needs[n.Hostname]), size(elsewhere)),
				Look: "pvesh get /cluster/resources --type node", Remedy: "without more memory elsewhere the node cannot be emptied, and a failure is not borne",
			})
		}
	}
}
