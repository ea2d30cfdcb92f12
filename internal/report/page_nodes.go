package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/event"
)

// turnsSection is the course as it was planned beside what happened.
func (p *Page) turnsSection() pageSection {
	s := pageSection{ID: "nodes", Title: "Nodes, planned and real"}
	t := pageTable{Columns: pageColumns("node", "planned>", "went>", "began", "planned time>", "took>", "how it ended")}
	blocks := map[string]bool{}
	for _, turn := range p.Turns {
		blocks[turn.Block] = true
	}
	for _, turn := range p.Turns {
		how, name := turn.outcome(), turn.Host
		if len(blocks) > 1 {
			name += " (" + turn.Block + ")"
		}
		t.Rows = append(t.Rows, []pageField{
			pageText(name), pageText(pagePosition(turn.Planned)), pageText(pagePosition(turn.Actual)), pageText(p.clock(turn.Began)),
			pageText(pageKnown(turn.Takes)), pageText(pageKnown(turn.Took)), how,
		})
	}
	s.Tables = []pageTable{t}
	if through, of, _ := p.through(); of > 0 {
		s.Lead = []string{fmt.Sprintf("%d of %s through.%s", through, Count(of, "node"), p.sums())}
	}
	for _, c := range p.Courses {
		if c.Reordered {
			s.Notes = append(s.Notes, fmt.Sprintf("The order of %s changed on the way: it is proved anew before each node.", c.Block))
		}
	}
	return s
}

// sums compares what the nodes were planned to take with what they took.
func (p *Page) sums() string {
	var planned, took time.Duration
	n := 0
	for _, t := range p.Turns {
		if t.Takes > 0 && (t.Status == event.OK || t.Status == event.Changed) {
			planned, took, n = planned+t.Takes, took+t.Took, n+1
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" Those with a planned time were to take about %s altogether, and took %s.", Duration(planned), Duration(took))
}

func (t PageTurn) outcome() pageField {
	text := statusWord(t.Status)
	if t.Reason != "" {
		text += ": " + t.Reason
	}
	switch t.Status {
	case event.OK, event.Changed:
		return pageMarked("through", "ok")
	case event.Skipped:
		return pageMarked("left alone: "+t.Reason, "dim")
	case event.NotRun:
		return pageMarked("not begun", "warn")
	case "":
		if t.Ended.IsZero() {
			return pageMarked("under way", "")
		}
		return pageMarked("cut off", "warn")
	case event.Failed, event.Unreachable:
		return pageMarked(text, "bad")
	default:
		return pageMarked(text, "warn")
	}
}

func pagePosition(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func pageKnown(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return Duration(d)
}

// phasesSection is how long each phase took on each node, by the nodes' own measure.
func (p *Page) phasesSection() pageSection {
	var names []string
	took := map[[2]string]time.Duration{}
	for _, ph := range p.Phases {
		if !slices.Contains(names, ph.Name) {
			names = append(names, ph.Name)
		}
		took[[2]string{ph.Host, ph.Name}] += ph.Took
	}
	t := pageTable{Columns: pageColumns("node"), Fold: len(p.Hosts) > pageLong}
	for _, name := range names {
		t.Columns = append(t.Columns, pageColumn{name, true})
	}
	for _, host := range p.Hosts {
		row, any := []pageField{pageText(host)}, false
		for _, name := range names {
			d := took[[2]string{host, name}]
			any = any || d > 0
			row = append(row, pageText(pageKnown(d)))
		}
		if any {
			t.Rows = append(t.Rows, row)
		}
	}
	return pageSection{ID: "phases", Title: "Phases", Tables: []pageTable{t}}
}

func (p *Page) downtimeSection() pageSection {
	s := pageSection{ID: "downtime", Title: "Downtime of guests"}
	t := pageTable{Columns: pageColumns("guest", "frozen while it moved live>", "restarted>", "stopped>", "now"), Fold: len(p.Guests) > pageLong}
	live, broken := 0, 0
	for _, g := range p.Guests {
		now := pageMarked("runs", "ok")
		if g.Down {
			now = pageMarked(fmt.Sprintf("down since %s, at least %s", p.clock(g.Since), pageSeconds(p.Ended.Sub(g.Since))), "bad")
		}
		if g.Restarts+g.Stops > 0 || g.Down {
			broken++
		} else {
			live++
		}
		t.Rows = append(t.Rows, []pageField{
			pageText(g.Guest), pageText(pageFrozen(g)), pageText(pageTimes(g.Restarted, g.Restarts)), pageText(pageTimes(g.Stopped, g.Stops)), now,
		})
	}
	s.Tables = []pageTable{t}
	switch {
	case len(p.Guests) > 0 && broken == 0:
		s.Lead = []string{fmt.Sprintf("%s moved live; none was restarted or stopped.", Count(live, "guest"))}
	case len(p.Guests) > 0:
		s.Lead = []string{fmt.Sprintf("%s kept running, %s restarted or stopped.", Count(live, "guest"), Count(broken, "guest"))}
	}
	return s
}

func pageFrozen(g PageGuest) string {
	if g.Moves == 0 {
		return ""
	}
	text := fmt.Sprintf("%d ms", g.Frozen.Milliseconds())
	if g.Moves > 1 {
		text += fmt.Sprintf(" in %d moves", g.Moves)
	}
	return text
}

func pageTimes(d time.Duration, times int) string {
	if times == 0 {
		return ""
	}
	text := pageSeconds(d)
	if times > 1 {
		text += fmt.Sprintf(", %d times", times)
	}
	return text
}

func pageSeconds(d time.Duration) string {
	return fmt.Sprintf("%d s", int(max(d, 0).Round(time.Second).Seconds()))
}

func (p *Page) movesSection() pageSection {
	s := pageSection{ID: "moves", Title: "Moves of guests"}
	t := pageTable{Columns: pageColumns("guest", "from", "to", "way", "why", "took>", "at", "error"), Fold: len(p.Moves) > pageLong}
	ways, failed := map[string]int{}, 0
	var names []string
	for _, m := range p.Moves {
		if m.Error != "" {
			failed++
		} else {
			if ways[m.Way] == 0 {
				names = append(names, m.Way)
			}
			ways[m.Way]++
		}
		t.Rows = append(t.Rows, []pageField{
			pageText(m.Guest), pageText(m.From), pageText(m.To), pageText(m.Way), pageText(m.Why), pageText(pageKnown(m.Took)), pageText(p.clock(m.At)), pageMarked(m.Error, "bad"),
		})
	}
	s.Tables = []pageTable{t}
	if len(p.Moves) == 0 {
		return s
	}
	var parts []string
	for _, way := range names {
		parts = append(parts, fmt.Sprintf("%d %s", ways[way], way))
	}
	lead := fmt.Sprintf("%s: %s.", Count(len(p.Moves)-failed, "move"), strings.Join(parts, ", "))
	if len(parts) == 0 {
		lead = "No guest arrived."
	}
	if failed > 0 {
		lead += fmt.Sprintf(" %s failed.", Count(failed, "move"))
	}
	s.Lead = []string{lead}
	return s
}

func (p *Page) votesSection() pageSection {
	s := pageSection{ID: "votes", Title: "Votes"}
	t := pageTable{Columns: pageColumns("from", "to", "present>", "needed>", "expected>", "of the QDevice>", "seen by"), Fold: len(p.Votes) > pageLong}
	for _, v := range p.Votes {
		mark := ""
		if v.Present < v.Needed {
			mark = "bad"
		}
		t.Rows = append(t.Rows, []pageField{
			pageText(p.clock(v.At)), pageText(p.clock(v.Until)), pageMarked(strconv.Itoa(v.Present), mark), pageText(strconv.Itoa(v.Needed)),
			pageText(strconv.Itoa(v.Expected)), pageText(pagePosition(v.Device)), pageText(v.Host),
		})
	}
	s.Tables = []pageTable{t}
	if len(p.Votes) > 0 {
		low := p.lowest()
		s.Lead = []string{fmt.Sprintf("At the lowest, at %s, %d of %d votes were present; %d were needed.", p.clock(low.At), low.Present, low.Expected, low.Needed)}
	}
	return s
}

func (p *Page) overridesSection() pageSection {
	t := pageTable{Columns: pageColumns("host", "gate", "saw", "wanted", "overridden by", "set by", "at")}
	for _, r := range p.Gates {
		if r.Override != "" {
			t.Rows = append(t.Rows, []pageField{
				pageText(r.Host), pageText(r.Gate), pageMarked(r.Saw, "warn"), pageText(r.Want), pageText(r.Override), pageText(r.Who), pageText(p.clock(r.At)),
			})
		}
	}
	return pageSection{ID: "overrides", Title: "Gates that were overridden", Tables: []pageTable{t}}
}

func (p *Page) gatesSection() pageSection {
	s := pageSection{ID: "gates", Title: "Gates"}
	t := pageTable{Columns: pageColumns("host", "gate", "saw", "wanted", "answer", "first at", "times>"), Fold: len(p.Gates) > pageLong}
	closed := 0
	for _, r := range p.Gates {
		answer := pageMarked("open", "ok")
		switch {
		case !r.OK && r.Override != "":
			answer = pageMarked("closed, overridden", "warn")
		case !r.OK:
			answer = pageMarked("closed", "bad")
		}
		if !r.OK {
			closed++
		}
		t.Rows = append(t.Rows, []pageField{
			pageText(r.Host), pageText(r.Gate), pageText(r.Saw), pageText(r.Want), answer, pageText(p.clock(r.At)), pageText(strconv.Itoa(r.Times)),
		})
	}
	slices.SortStableFunc(t.Rows, func(a, b []pageField) int { return pageRank(a[4].Mark) - pageRank(b[4].Mark) })
	s.Tables = []pageTable{t}
	if len(p.Gates) > 0 {
		s.Lead = []string{fmt.Sprintf("%s, %d of them closed. Those that were closed come first.", Count(len(p.Gates), "answer"), closed)}
	}
	return s
}

func pageRank(mark string) int { return slices.Index([]string{"bad", "warn", "ok"}, mark) }

func (p *Page) versionsSection() pageSection {
	t := pageTable{Columns: pageColumns("package", "before", "after", "nodes"), Fold: len(p.Versions) > pageLong}
	packages := map[string]bool{}
	for _, v := range p.Versions {
		packages[v.Package] = true
		before, after := v.Before, v.After
		if before == "" {
			before = "not installed"
		}
		if after == "" {
			after = "removed"
		}
		t.Rows = append(t.Rows, []pageField{pageText(v.Package), pageText(before), pageText(after), pageText(p.all(v.Hosts))})
	}
	s := pageSection{ID: "versions", Title: "Versions", Tables: []pageTable{t}}
	if len(packages) > 0 {
		s.Lead = []string{Count(len(packages), "package") + " changed. What changed alike on several nodes is one line."}
	}
	return s
}

// all names hosts, in one word if they are all.
func (p *Page) all(hosts []string) string {
	if len(hosts) > 1 && len(hosts) == len(p.Hosts) {
		return fmt.Sprintf("all %d", len(hosts))
	}
	return hostList(hosts, 12)
}

func (p *Page) keptSection() pageSection {
	s := pageSection{ID: "kept", Title: "Configuration files that were kept"}
	t := pageTable{Columns: pageColumns("file", "the package's version", "nodes")}
	for _, k := range p.Kept {
		t.Rows = append(t.Rows, []pageField{pageText(k.Path), pageText(k.New), pageText(p.all(k.Hosts))})
	}
	s.Tables = []pageTable{t}
	if len(t.Rows) > 0 {
		s.Lead = []string{"A package wanted to replace them; they stay as they were, and its version lies beside them."}
	}
	return s
}

// planned are the courses as they were proved before each attempt.
func (p *Page) planned() []pageSection {
	var all []pageSection
	for i, c := range p.Courses {
		if len(c.Showing.Tables)+len(c.Showing.Lead)+len(c.Showing.Notes) == 0 {
			continue
		}
		s := pageSection{ID: fmt.Sprintf("plan-%d", i+1), Title: fmt.Sprintf("The plan of %s", p.clock(c.At)), Notes: c.Showing.Notes}
		if c.Showing.Title != "" {
			s.Lead = append(s.Lead, c.Showing.Title)
		}
		s.Lead = append(s.Lead, c.Showing.Lead...)
		for _, table := range c.Showing.Tables {
			t := pageTable{Title: table.Title, Fold: true}
			for _, col := range table.Columns {
				t.Columns = append(t.Columns, pageColumn{col.Name, col.Right})
			}
			for j, row := range table.Rows {
				fields := make([]pageField, len(t.Columns))
				for k := range fields {
					if k < len(row) {
						fields[k] = pageMarked(row[k], map[string]string{"warn": "warn", "block": "bad"}[table.Marks[j]])
					}
				}
				t.Rows = append(t.Rows, fields)
			}
			if len(t.Columns) > 0 {
				s.Tables = append(s.Tables, t.trimmed())
			}
		}
		if c.Again > 0 {
			s.Notes = append(slices.Clone(s.Notes), fmt.Sprintf("It was proved anew %s.", pageTimesWord(c.Again)))
		}
		all = append(all, s)
	}
	return all
}

func pageTimesWord(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
