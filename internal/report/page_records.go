package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
)

// record takes in what modules measured and did.
func (m *pageMaker) record(e event.Event) {
	switch b := e.Body.(type) {
	case module.Moved:
		m.p.Moves = append(m.p.Moves, PageMove{e.Time, b})
	case module.Downtime:
		m.downtime(e.Time, b)
	case module.Votes:
		if n := len(m.p.Votes); n > 0 && m.p.Votes[n-1].Votes == b {
			m.p.Votes[n-1].Until = e.Time
			return
		}
		m.p.Votes = append(m.p.Votes, PageVotes{e.Time, e.Time, e.Host, b})
	case module.Reading:
		key := gateKey{e.Host, b}
		if i, known := m.gates[key]; known {
			m.p.Gates[i].Times++
			return
		}
		m.gates[key] = len(m.p.Gates)
		m.p.Gates = append(m.p.Gates, PageReading{e.Time, e.Host, 1, b})
	case module.Version:
		m.version(e.Host, b)
	case module.Phase:
		m.phase(e, b)
	case module.KeptFile:
		m.keptFile(e.Host, b)
	}
}

// pageGuestKey is a guest without its name, which not everybody knows.
func pageGuestKey(guest string) string {
	words := strings.Fields(guest)
	if len(words) >= 2 {
		if _, err := strconv.Atoi(words[1]); err == nil {
			return words[0] + " " + words[1]
		}
	}
	return guest
}

// downtime adds to a guest's account. A guest that is down is told with "at least"; the next account of it says how long it was.
func (m *pageMaker) downtime(at time.Time, d module.Downtime) {
	key := pageGuestKey(d.Guest)
	i, known := m.guests[key]
	if !known {
		i = len(m.p.Guests)
		m.guests[key] = i
		m.p.Guests = append(m.p.Guests, PageGuest{Guest: d.Guest})
	}
	g := &m.p.Guests[i]
	if len(d.Guest) > len(g.Guest) {
		g.Guest = d.Guest
	}
	took := max(d.Took, 0)
	switch {
	case d.Least:
		if !g.Down {
			g.Down, g.Since = true, at.Add(-took)
		}
		return
	case d.How == "live":
		g.Frozen += took
		g.Moves++
	case d.How == "restarted":
		g.Restarted += took
		g.Restarts++
	default:
		g.Stopped += took
		g.Stops++
	}
	g.Down, g.Since = false, time.Time{}
}

// version keeps the first version before and the last after.
func (m *pageMaker) version(host string, v module.Version) {
	key := [2]string{host, v.Package}
	if i, known := m.pkgs[key]; known {
		m.changes[i].After = v.After
		return
	}
	m.pkgs[key] = len(m.changes)
	m.changes = append(m.changes, pageChange{host, v})
}

// foldVersions puts together what changed alike: the kernel first, then by name.
func (m *pageMaker) foldVersions() {
	index := map[module.Version]int{}
	for _, c := range m.changes {
		if c.Before == c.After {
			continue // there and back
		}
		i, known := index[c.Version]
		if !known {
			i = len(m.p.Versions)
			index[c.Version] = i
			m.p.Versions = append(m.p.Versions, PageVersion{Package: c.Package, Before: c.Before, After: c.After})
		}
		m.p.Versions[i].Hosts = append(m.p.Versions[i].Hosts, c.host)
	}
	rank := func(name string) int {
		if name == "kernel" {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(m.p.Versions, func(a, b PageVersion) int {
		return cmp.Or(rank(a.Package)-rank(b.Package), cmp.Compare(a.Package, b.Package))
	})
}

// phase notes a phase, and draws it where no task of that kind stands for the time.
func (m *pageMaker) phase(e event.Event, b module.Phase) {
	m.p.Phases = append(m.p.Phases, PagePhase{e.Host, b.Name, b.Took})
	if e.Step != "" || b.Took <= 0 {
		return // within a task, whose own bar is drawn
	}
	from := e.Time.Add(-b.Took)
	if began := m.attempt().Began; from.Before(began) {
		from = began
	}
	m.p.Spans = append(m.p.Spans, PageSpan{Host: e.Host, Kind: pageKind("", b.Name), Label: b.Name, From: from, To: e.Time})
}

func (m *pageMaker) keptFile(host string, b module.KeptFile) {
	key := [2]string{b.Path, b.New}
	i, known := m.kept[key]
	if !known {
		i = len(m.p.Kept)
		m.kept[key] = i
		m.p.Kept = append(m.p.Kept, PageKept{Path: b.Path, New: b.New})
	}
	if !slices.Contains(m.p.Kept[i].Hosts, host) {
		m.p.Kept[i].Hosts = append(m.p.Kept[i].Hosts, host)
	}
}

// page ends the folding.
func (m *pageMaker) page() *Page {
	p := m.p
	if n := len(p.Attempts); n > 0 && p.Attempts[n-1].Status == "" {
		m.settle(m.last, !p.Running)
	}
	m.foldVersions()
	m.left()
	m.notDone()
	m.planned()
	for i, t := range p.Tasks {
		p.Tasks[i].Module = m.modules[t.Step]
	}
	slices.SortStableFunc(p.Tasks, func(a, b PageTask) int { return m.index[a.Step] - m.index[b.Step] })
	m.inTurn()
	slices.SortStableFunc(p.Spans, func(a, b PageSpan) int {
		return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Label, b.Label))
	})
	p.Attempts, p.Hosts, p.Tasks, p.Cells, p.Spans = some(p.Attempts), some(p.Hosts), some(p.Tasks), some(p.Cells), some(p.Spans)
	p.Verdict = pageClean(p.verdict())
	return p
}

func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// inTurn puts the hosts into the order of their turns; those without one follow.
func (m *pageMaker) inTurn() {
	at := map[string]int{}
	for i, t := range m.p.Turns {
		if _, known := at[t.Host]; !known && t.Actual > 0 {
			at[t.Host] = i - len(m.p.Turns)
		}
	}
	slices.SortStableFunc(m.p.Hosts, func(a, b string) int { return at[a] - at[b] })
}

// left tells the temporary changes that are still in place, and changes whose outcome nobody knows.
func (m *pageMaker) left() {
	h := m.story.History()
	for _, u := range h.Pending {
		l := PageLeft{ID: u.ID, Host: u.Undo.Host, Step: u.Step, Since: u.Since, Summary: u.Undo.Summary, Command: "pxrun release " + cmp.Or(m.p.Run, u.Run)}
		l.Released = slices.Contains(m.of.Released, event.Undone{Run: cmp.Or(u.Run, m.p.Run), Host: l.Host, ID: u.ID})
		m.p.Left = append(m.p.Left, l)
	}
	if m.p.Status != "" || m.p.Running {
		return
	}
	for _, u := range h.Unknown {
		m.p.Unknown = append(m.p.Unknown, PageMessage{At: u.Since, Step: u.Step, Hosts: []string{u.Change.Host}, Text: u.Change.Summary, Times: 1})
	}
}

// notDone tells what was planned and not done, from the summary at the run's end.
func (m *pageMaker) notDone() {
	for i, step := range m.summary.Steps {
		m.task(step.Step, step.Module)
		m.index[step.Step] = cmp.Or(m.index[step.Step], i+1)
		if len(step.Hosts) == 0 && step.Status == event.NotRun {
			m.p.NotDone = append(m.p.NotDone, PageNotDone{Step: step.Step, Reason: step.Reason})
		}
		index := map[string]int{}
		for _, h := range step.Hosts {
			m.summed(step.Step, h)
			for _, what := range notDoneTexts(h) {
				i, known := index[what]
				if !known {
					i = len(m.p.NotDone)
					index[what] = i
					m.p.NotDone = append(m.p.NotDone, PageNotDone{Step: step.Step, What: what, Reason: step.Reason})
				}
				m.p.NotDone[i].Hosts = append(m.p.NotDone[i].Hosts, h.Host)
			}
		}
	}
}

// summed makes a cell of a host that no event told of: a task that was left out or not reached.
func (m *pageMaker) summed(step string, h event.HostSummary) {
	key := [2]string{step, h.Host}
	if _, known := m.cells[key]; known {
		return
	}
	m.host(h.Host)
	m.cells[key] = len(m.p.Cells)
	m.p.Cells = append(m.p.Cells, PageCell{Step: step, Host: h.Host, Status: h.Status})
}

// planned tells each turn its place in the plan, and adds hosts that were planned and never begun.
func (m *pageMaker) planned() {
	for _, c := range m.p.Courses {
		for i, host := range c.Order {
			found := false
			for j := range m.p.Turns {
				t := &m.p.Turns[j]
				if t.Block == c.Block && t.Host == host {
					found = true
					t.Planned = cmp.Or(t.Planned, i+1)
				}
			}
			if !found {
				m.p.Turns = append(m.p.Turns, PageTurn{Block: c.Block, Host: host, Planned: i + 1, Status: event.NotRun})
			}
		}
	}
}

// verdict says in one sentence how the run ended.
func (p *Page) verdict() string {
	done := "nothing was changed"
	if p.Changes > 0 {
		done = Count(p.Changes, "change") + " on " + Count(len(p.changed), "host")
	}
	var text string
	switch {
	case p.Running:
		text = "It is still going on: " + done + " so far"
	case len(p.Attempts) == 0:
		return "Nothing is recorded of this run."
	case p.Status == "":
		text = "It was cut off: " + done + ", and the rest was not done"
	case p.well() || p.Status == event.Skipped:
		text = "It ended well: " + done
		if p.Changes > 0 {
			text += ", checked"
		}
	case p.Status == event.Refused:
		text = "It was refused" + p.culprit() + ": " + done
	case p.Status == event.Cancelled:
		text = "It was stopped" + p.culprit() + ": " + done
	default:
		text = "It failed" + p.culprit() + ": " + done
	}
	return text + p.bottom() + "."
}

// culprit is the task and the hosts that ended the run.
func (p *Page) culprit() string {
	for _, c := range p.Cells {
		switch c.Status {
		case event.Failed, event.Refused, event.Unreachable, event.Cancelled:
			var hosts []string
			for _, other := range p.Cells {
				if other.Step == c.Step && other.Status == c.Status {
					hosts = append(hosts, other.Host)
				}
			}
			return " in " + stepName(c.Step, p.Runbook) + " on " + hostList(hosts, 3)
		}
	}
	return ""
}

// bottom is what counts most beside the changes: the nodes, the guests, what is left.
func (p *Page) bottom() string {
	var parts []string
	if through, of, _ := p.through(); of > 0 {
		parts = append(parts, fmt.Sprintf("%d of %s through", through, Count(of, "node")))
	}
	if n := p.moved(); n > 0 {
		parts = append(parts, Count(n, "guest")+" moved")
	}
	if n := len(p.down()); n > 0 {
		parts = append(parts, Count(n, "guest")+" still down")
	}
	if n := len(p.inPlace()); n > 0 {
		parts = append(parts, Count(n, "temporary change")+" left in place")
	}
	if len(p.Attempts) > 1 {
		parts = append(parts, Count(len(p.Attempts), "attempt"))
	}
	if len(parts) == 0 {
		return ""
	}
	return "; " + strings.Join(parts, ", ")
}

// through counts the nodes that are through their rolling blocks, those that should be, and those that were left alone.
func (p *Page) through() (done, of, idle int) {
	best := map[[2]string]event.Status{}
	for _, t := range p.Turns {
		key := [2]string{t.Block, t.Host}
		if before, known := best[key]; !known || before != event.OK && before != event.Changed {
			best[key] = t.Status
		}
	}
	known := map[string]int{} // hosts that are not idle, by block
	for key, status := range best {
		switch status {
		case event.OK, event.Changed:
			done++
			known[key[0]]++
		case event.Skipped:
			idle++
		default:
			known[key[0]]++
		}
	}
	for _, t := range p.Turns {
		known[t.Block] = max(known[t.Block], min(t.Of, len(p.Hosts))) // some may not have been begun, and are not named then
	}
	for _, n := range known {
		of += n
	}
	return done, of, idle
}

// moved counts the guests that changed their node at least once.
func (p *Page) moved() int {
	guests := map[string]bool{}
	for _, m := range p.Moves {
		if m.Error == "" {
			guests[pageGuestKey(m.Guest)] = true
		}
	}
	return len(guests)
}

// down are the guests that were not seen running again.
func (p *Page) down() []PageGuest {
	return slices.DeleteFunc(slices.Clone(p.Guests), func(g PageGuest) bool { return !g.Down })
}

// inPlace are the temporary changes that nobody has taken back.
func (p *Page) inPlace() []PageLeft {
	return slices.DeleteFunc(slices.Clone(p.Left), func(l PageLeft) bool { return l.Released })
}
