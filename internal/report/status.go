package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/pxrun/pxrun/internal/pve"
)

// Status shows how a cluster is: one line that says it all, a table of the nodes, and what should be done.
func Status(w io.Writer, r pve.Report, l Look) error {
	lines := l.statusHead(r)
	lines = append(lines, "")
	lines = append(lines, l.nodes(r)...)
	lines = append(lines, l.findings(r.Findings)...)
	return writeLines(w, lines)
}

func (l Look) statusHead(r pve.Report) []string {
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
	return lines
}

// nodes is the table of the nodes. Columns that would be empty for all are left out.
func (l Look) nodes(r pve.Report) []string {
	table := grid{Look: l}
	table.head("node", "id", "votes", "state", "PVE", "config", "links", "services", "guests")
	for _, n := range r.Nodes {
		table.row(
			cell{n.Name, strong}, number(n.ID), number(n.Votes), l.phase(n), cell{n.PVE, plain}, number(n.Version),
			l.nodeLinks(n), services(n), number(n.Guests),
		)
	}
	return table.lines()
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

// cell is one field of a grid.
type cell struct {
	text string
	role role
}

// grid is a table that leaves out columns without content.
type grid struct {
	Look
	titles []string
	rows   [][]cell
}

func (g *grid) head(titles ...string) { g.titles = titles }

func (g *grid) row(cells ...cell) { g.rows = append(g.rows, cells) }

func (g *grid) lines() []string {
	width := make([]int, len(g.titles))
	for i, title := range g.titles {
		if slices.ContainsFunc(g.rows, func(r []cell) bool { return r[i].text != "" }) {
			width[i] = lipgloss.Width(title)
			for _, r := range g.rows {
				width[i] = max(width[i], lipgloss.Width(r[i].text))
			}
		}
	}
	line := func(paint func(i int) string) string {
		var b strings.Builder
		for i, w := range width {
			if w > 0 {
				b.WriteString("  " + pad(paint(i), w))
			}
		}
		return strings.TrimRight(b.String(), " ")
	}
	lines := []string{line(func(i int) string { return g.paint(dim, g.titles[i]) })}
	for _, r := range g.rows {
		lines = append(lines, line(func(i int) string {
			if r[i].text == "" {
				return g.paint(dim, g.pick("–", "-"))
			}
			return g.paint(r[i].role, r[i].text)
		}))
	}
	return lines
}

// Table shows rows under titles; columns without content are left out.
func Table(w io.Writer, titles []string, rows [][]string, l Look) error {
	g := grid{Look: l, titles: titles}
	for _, row := range rows {
		cells := make([]cell, len(titles))
		for i, text := range row {
			cells[i] = cell{Clean(text), plain}
		}
		g.row(cells...)
	}
	return writeLines(w, g.lines())
}
