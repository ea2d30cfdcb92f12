package health

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ceph"
)

// cephCauses are the losses to which missing monitors and missing OSDs go back; "" where something else is wrong too.
type cephCauses struct{ monitors, osds string }

// explain compares what Ceph misses with what is on the nodes that are lost. It needs the word of every other node: where one did not say which
// OSDs it has, nothing is explained.
func (r *Report) explain(n Node, all Snapshot, s *ceph.Status) cephCauses {
	if len(r.Lost) == 0 {
		return cephCauses{}
	}
	var c cephCauses
	missing := slices.DeleteFunc(monitors(n), func(name string) bool { return slices.Contains(s.QuorumNames, name) })
	c.monitors = pve.CauseOf(r.Lost, missing...)
	if slices.ContainsFunc(r.Drift.Foreign, func(name string) bool { return pve.CauseOf(r.Lost, name) == "" }) {
		return c // it was not asked
	}
	here := 0
	for _, node := range all.Nodes {
		if pve.CauseOf(r.Lost, node.Hostname) != "" || node.Err != nil && pve.CauseOf(r.Lost, node.Host) != "" {
			continue
		}
		count, known := osds(node)
		if !known {
			return c
		}
		here += count
	}
	// Once Ceph has noticed, all that are up are on nodes that are there. As long as it has not, or if something more is down, nothing is explained.
	if s.OSDs.Up == here && here < s.OSDs.Total {
		c.osds = pve.CauseOf(r.Lost, r.Lost[0].Names[0])
	}
	return c
}

// of is the cause of one of Ceph's health checks, and what it says briefly.
func (c cephCauses) of(check string, s *ceph.Status) (cause, brief string) {
	down := fmt.Sprintf("Ceph: %d of %d OSDs are down", s.OSDs.Total-s.OSDs.Up, s.OSDs.Total)
	switch check {
	case "MON_DOWN":
		return c.monitors, fmt.Sprintf("Ceph: %d of %d monitors are in quorum", len(s.QuorumNames), s.MonMap.NumMons)
	case "OSD_DOWN", "OSD_HOST_DOWN", "OSD_RACK_DOWN", "OSD_DATACENTER_DOWN":
		return c.osds, down
	case "PG_DEGRADED", "PG_AVAILABILITY", "OBJECT_MISPLACED":
		return c.osds, "Ceph: " + s.Health.Checks[check].Summary.Message
	}
	return "", ""
}

// silence is why the monitors do not answer: too many of them are on nodes that the one which was asked does not see.
func (r *Report) silence(n Node) string {
	var away []string
	all := monitors(n)
	for _, name := range all {
		if !n.Members.Online(name) {
			away = append(away, name)
		}
	}
	if len(all) == 0 || 2*(len(all)-len(away)) > len(all) {
		return ""
	}
	if !r.Quorate {
		return pve.CauseQuorum
	}
	return pve.CauseOf(r.Lost, away...)
}

// monitors are the names of the monitors by the configuration. On Proxmox VE a monitor bears the name of its node unless somebody named it.
func monitors(n Node) []string {
	text, err := n.text("h_mons")
	if err != nil {
		return nil
	}
	var names []string
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "[mon."); ok {
			names = append(names, strings.TrimSuffix(name, "]"))
		}
	}
	return names
}

// osds counts the OSDs that a node has. known is false where it did not say.
func osds(n Node) (count int, known bool) {
	a, asked := n.answers["h_osds"]
	if !asked || a.Hung() {
		return 0, false
	}
	for name := range strings.FieldsSeq(string(a.Text)) {
		if strings.HasPrefix(name, "ceph-") && a.RC == 0 {
			count++
		}
	}
	return count, a.RC == 0 || a.RC == 2 // no such folder
}
