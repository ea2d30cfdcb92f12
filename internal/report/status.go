package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/health"
)

// Status shows how a cluster is: one line that says it all, a table of the nodes, and what should be done.
func Status(w io.Writer, r health.Report, l Look) error {
	lines := l.statusHead(r)
	lines = append(lines, "")
	lines = append(lines, l.nodes(r)...)
	lines = append(lines, l.quorum(r.Quorum)...)
	lines = append(lines, l.findings(r.Findings)...)
	return writeLines(w, lines)
}

func (l Look) statusHead(r health.Report) []string {
	name := l.paint(strong, "Cluster "+r.Cluster)
	if !r.Formed {
		return []string{name + ": " + l.paint(caution, "does not exist yet")}
	}
	state := l.paint(good, "quorate")
	if !r.Quorate {
		state = l.paint(bad, "NOT quorate")
	}
	online := 0
	for _, n := range r.Nodes {
		if n.Online {
			online++
		}
	}
	head := fmt.Sprintf("%s: %s, %d of %s online, configuration %d", name, state, online, Count(len(r.Nodes), "node"), r.Version)
	votes := fmt.Sprintf("Votes: %d of %d, %d needed", r.Votes.Total, r.Votes.Expected, r.Votes.Quorum)
	switch {
	case r.Votes.Bearable > 0:
		votes += "; " + Count(r.Votes.Bearable, "more node") + " may fail"
	case r.Votes.Bearable == 0:
		votes += "; " + l.paint(caution, "no node may fail")
	}
	lines := []string{head, votes}
	if r.Votes.Device != "" {
		casting := l.paint(good, "casts its vote")
		if !r.Votes.DeviceOnline {
			casting = l.paint(caution, "casts no vote")
		}
		lines = append(lines, fmt.Sprintf("QDevice: %s, %s", r.Votes.Device, casting))
	}
	return append(lines, l.subsystems(r)...)
}

// subsystems has a line for each of HA, Ceph and the guests, if there is any.
func (l Look) subsystems(r health.Report) []string {
	var lines []string
	if h := r.HA; h != nil && h.Resources > 0 {
		line := fmt.Sprintf("HA: %s, master %s%s", Count(h.Resources, "guest"), h.Master, states(h))
		if r.Stale != "" {
			line = fmt.Sprintf("HA: %s, as %s remembers it", l.paint(caution, "not known"), r.Stale)
			if h.Age > 0 {
				line += fmt.Sprintf(" from %s ago", h.Age.Round(time.Second))
			}
			line += fmt.Sprintf(": %s, master %s%s", Count(h.Resources, "guest"), h.Master, states(h))
		}
		lines = append(lines, line)
	}
	if c := r.Ceph; c != nil {
		role := map[string]role{"HEALTH_OK": good, "HEALTH_WARN": caution}[c.Health]
		if c.Health != "HEALTH_OK" && c.Health != "HEALTH_WARN" {
			role = bad
		}
		line := "Ceph: " + l.paint(role, c.Health)
		if c.Mons > 0 {
			line += fmt.Sprintf(", %d of %s in quorum, %d of %s up", c.InQuorum, Count(c.Mons, "monitor"), c.Up, Count(c.OSDs, "OSD"))
		}
		if c.Bytes > 0 {
			line += fmt.Sprintf(", %d %% used", 100*c.Used/c.Bytes)
		}
		lines = append(lines, line)
	}
	if g := r.Guests; g.Total > 0 {
		running := fmt.Sprintf("%d running", g.Running)
		if r.Stale != "" {
			running = l.paint(caution, "not known") + " how many run"
		}
		lines = append(lines, fmt.Sprintf("Guests: %d, %s", g.Total, running))
	}
	return lines
}

// states counts the services of the HA manager by their state.
func states(h *health.HA) string {
	text := ""
	for _, state := range slices.Sorted(maps.Keys(h.States)) {
		text += fmt.Sprintf(", %d %s", h.States[state], state)
	}
	return text
}

// quorum is the table of the votes. It is worth a look only where it says more than the head.
func (l Look) quorum(t health.QuorumTable) []string {
	if len(t.Rows) < 2 {
		return nil
	}
	table := grid{Look: l}
	table.head("quorum", "votes", "needed", "nodes that may fail")
	for _, row := range t.Rows {
		may := cell{fmt.Sprint(row.Bearable), good}
		switch {
		case row.Bearable < 0:
			may = cell{"no quorum", bad}
		case row.Bearable == 0:
			may = cell{"none", caution}
		}
		table.row(cell{row.What, plain}, cell{fmt.Sprintf("%d of %d", row.Total, row.Expected), plain}, number(row.Needed), may)
	}
	return append([]string{""}, table.lines()...)
}

// nodes is the table of the nodes. Columns that would be empty for all are left out.
func (l Look) nodes(r health.Report) []string {
	loads := map[string]health.Load{}
	for _, load := range r.Loads {
		loads[load.Node] = load
	}
	// What is left out where there is little room is told by a finding when it matters.
	table := grid{Look: l, spare: []string{"config", "id", "votes", "PVE", "memory", "load"}}
	table.head("node", "id", "votes", "state", "PVE", "config", "links", "services", "load", "memory", "guests")
	for _, n := range r.Nodes {
		load := loads[n.Name]
		table.row(
			cell{n.Name, strong}, number(n.ID), number(n.Votes), l.phase(n), cell{n.PVE, plain}, number(n.Version),
			l.nodeLinks(n), services(n), cpuLoad(load), memory(load), number(n.Guests),
		)
	}
	return table.lines()
}

func cpuLoad(n health.Load) cell {
	switch {
	case n.CPUs == 0:
		return cell{}
	case n.Load > float64(n.CPUs):
		return cell{fmt.Sprintf("%.1f/%d", n.Load, n.CPUs), caution}
	default:
		return cell{fmt.Sprintf("%.1f/%d", n.Load, n.CPUs), plain}
	}
}

func memory(n health.Load) cell {
	if n.MemoryTotal == 0 {
		return cell{}
	}
	const full = 95
	percent := 100 * (n.MemoryTotal - n.MemoryFree) / n.MemoryTotal
	if percent >= full {
		return cell{fmt.Sprintf("%d %%", percent), caution}
	}
	return cell{fmt.Sprintf("%d %%", percent), plain}
}

func number(n int) cell {
	if n == 0 {
		return cell{}
	}
	return cell{fmt.Sprint(n), plain}
}

func (l Look) phase(n pve.NodeReport) cell {
	switch {
	case n.Error != "":
		return cell{"no answer", bad}
	case n.Phase == pve.PhaseMember && n.Quorate:
		return cell{"member", good}
	case n.Phase == pve.PhaseMember:
		return cell{"member, not quorate", bad}
	case n.Phase == pve.PhaseFresh:
		return cell{"fresh", caution}
	default:
		return cell{string(n.Phase), bad}
	}
}

// nodeLinks sums the links of a node up: how many are up, and the slowest round trip.
func (l Look) nodeLinks(n pve.NodeReport) cell {
	up, slowest := 0, time.Duration(0)
	for _, link := range n.Links {
		if link.Connected {
			up++
		}
		slowest = max(slowest, link.RTT)
	}
	if len(n.Links) == 0 {
		return cell{}
	}
	text := fmt.Sprintf("%d/%d up", up, len(n.Links))
	if slowest > 0 {
		text += fmt.Sprintf(" %.1f ms", float64(slowest.Microseconds())/1000)
	}
	switch {
	case up < len(n.Links) || slowest >= pve.FailRTT:
		return cell{text, bad}
	case slowest >= pve.WarnRTT:
		return cell{text, caution}
	default:
		return cell{text, good}
	}
}

func services(n pve.NodeReport) cell {
	running := 0
	for _, up := range n.Services {
		if up {
			running++
		}
	}
	text := fmt.Sprintf("%d/%d up", running, len(n.Services))
	switch {
	case len(n.Services) == 0:
		return cell{}
	case running == len(n.Services):
		return cell{text, good}
	case n.Phase == pve.PhaseFresh:
		return cell{text, plain} // corosync cannot run before there is a cluster
	default:
		return cell{text, bad}
	}
}

func (l Look) findings(findings []pve.Finding) []string {
	if len(findings) == 0 {
		return []string{"", l.paint(good, "Nothing to mend.")}
	}
	marks := map[pve.Severity]string{
		pve.Critical: l.paint(bad, l.pick("✗", "x")), pve.Warning: l.paint(caution, "!"), pve.Info: l.paint(dim, l.pick("·", "-")),
	}
	lines := []string{""}
	for _, f := range findings {
		text := f.Saw
		if f.Node != "" && !strings.HasPrefix(text, f.Node) {
			text = f.Node + ": " + text
		}
		for i, line := range wrap(Clean(text), l.Width-2) {
			mark := " "
			if i == 0 {
				mark = marks[f.Severity]
			}
			lines = append(lines, mark+" "+line)
		}
		for i, text := range f.Consequences {
			label := "so:     "
			if i > 0 {
				label = "        "
			}
			for j, line := range wrap(Clean(text), l.Width-14) {
				if j > 0 {
					label, line = "        ", "  "+line
				}
				lines = append(lines, "    "+l.paint(dim, label)+line)
			}
		}
		if f.Look != "" {
			lines = append(lines, "    "+l.paint(dim, "look:")+"   "+l.fit(Clean(f.Look), l.Width-12))
		}
		if f.Remedy == "" {
			continue
		}
		for i, line := range wrap(Clean(f.Remedy), l.Width-12) {
			label := l.paint(dim, "remedy:") + " "
			if i > 0 {
				label = "        "
			}
			lines = append(lines, "    "+label+line)
		}
	}
	return lines
}
