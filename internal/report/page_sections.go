package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/event"
)

// pageSection is a chapter of a page, the same in HTML and in Markdown.
type pageSection struct {
	ID, Title string
	Lead      []string
	Tables    []pageTable
	Commands  []string // to be typed
	Notes     []string
}

// pageTable is a table whose first column names the rows. Long ones are folded up behind their title.
type pageTable struct {
	Title   string
	Columns []pageColumn
	Rows    [][]pageField
	Fold    bool
}

type pageColumn struct {
	Name  string
	Right bool
}

// pageField is a cell. Mark is "", ok, warn, bad or dim: it colours what the text says anyway.
type pageField struct {
	Text, Mark string
}

// pageLong is from how many rows on a table is folded up.
const pageLong = 30

func pageText(text string) pageField         { return pageField{Text: text} }
func pageMarked(text, mark string) pageField { return pageField{text, mark} }

func pageColumns(names ...string) []pageColumn {
	columns := make([]pageColumn, len(names))
	for i, name := range names {
		name, right := strings.CutSuffix(name, ">")
		columns[i] = pageColumn{name, right}
	}
	return columns
}

// pageFacts are the numbers at the top.
func (p *Page) pageFacts() [][2]string {
	facts := [][2]string{{"took", pageTook(p.Ended.Sub(p.Began))}}
	add := func(name, text string) { facts = append(facts, [2]string{name, text}) }
	if done, of, idle := p.through(); of+idle > 0 {
		text := fmt.Sprintf("%d of %d", done, of)
		if idle > 0 {
			text += fmt.Sprintf(", %d left alone", idle)
		}
		add("nodes through", text)
	} else {
		add("hosts", fmt.Sprint(len(p.Hosts)))
	}
	add("changes", fmt.Sprint(p.Changes))
	if len(p.Moves) > 0 {
		add("guests moved", fmt.Sprint(p.moved()))
	}
	var frozen, down time.Duration
	for _, g := range p.Guests {
		frozen, down = max(frozen, g.Frozen), max(down, g.Restarted+g.Stopped)
	}
	if frozen > 0 {
		add("longest freeze", Duration(frozen))
	}
	if down > 0 {
		add("longest downtime", Duration(down))
	}
	if n := len(p.down()); n > 0 {
		add("still down", Count(n, "guest"))
	}
	if len(p.Votes) > 0 {
		low := p.lowest()
		add("fewest votes", fmt.Sprintf("%d, needed %d", low.Present, low.Needed))
	}
	if n := len(p.Errors); n > 0 {
		add("errors", fmt.Sprint(n))
	}
	if n := len(p.Warnings); n > 0 {
		add("warnings", fmt.Sprint(n))
	}
	if n := len(p.inPlace()); n > 0 {
		add("left in place", fmt.Sprint(n))
	}
	return facts
}

// pageTook is a time that may be days.
func pageTook(d time.Duration) string {
	if d >= 48*time.Hour {
		return fmt.Sprintf("%dd %dh", int(d.Hours())/24, int(d.Hours())%24)
	}
	return Duration(d)
}

// lowest is the reading with the fewest votes above what is needed.
func (p *Page) lowest() PageVotes {
	low := p.Votes[0]
	for _, v := range p.Votes {
		if v.Present-v.Needed < low.Present-low.Needed {
			low = v
		}
	}
	return low
}

// urgent are the chapters that stand above the picture, sections those below it. Chapters without content are left out.
func (p *Page) urgent() []pageSection {
	if p.well() {
		return pageFilled(p.leftSection(), p.downSection())
	}
	return pageFilled(p.errorsSection(), p.leftSection(), p.downSection())
}

// well reports whether the run ended well, so that errors on the way are history.
func (p *Page) well() bool { return p.Status == event.OK || p.Status == event.Changed }

func (p *Page) sections() []pageSection {
	mishaps := pageSection{}
	if p.well() {
		mishaps = p.errorsSection()
		mishaps.Title = "Errors on the way"
	}
	return pageFilled(
		p.tasksSection(), p.notDoneSection(), p.turnsSection(), p.phasesSection(), p.downtimeSection(), p.movesSection(), p.votesSection(),
		p.overridesSection(), p.gatesSection(), p.versionsSection(), p.keptSection(), mishaps, p.warningsSection(), p.attemptsSection(),
	)
}

func pageFilled(all ...pageSection) []pageSection {
	var filled []pageSection
	for _, s := range all {
		s.Tables = slices.DeleteFunc(s.Tables, func(t pageTable) bool { return len(t.Rows) == 0 })
		for i := range s.Tables {
			s.Tables[i] = s.Tables[i].trimmed()
		}
		if len(s.Tables) > 0 {
			filled = append(filled, s)
		}
	}
	return filled
}

// trimmed is the table without the columns that hold nothing.
func (t pageTable) trimmed() pageTable {
	out := pageTable{Title: t.Title, Fold: t.Fold, Rows: make([][]pageField, len(t.Rows))}
	for i, c := range t.Columns {
		if i > 0 && !slices.ContainsFunc(t.Rows, func(r []pageField) bool { return r[i].Text != "" }) {
			continue
		}
		out.Columns = append(out.Columns, c)
		for j, row := range t.Rows {
			out.Rows[j] = append(out.Rows[j], row[i])
		}
	}
	return out
}

func (p *Page) errorsSection() pageSection {
	s := pageSection{ID: "errors", Title: "Errors", Tables: []pageTable{p.messages(p.Errors, "bad")}}
	if len(p.Unknown) > 0 {
		t := p.messages(p.Unknown, "warn")
		t.Title = "Begun, and it is not known whether it was done"
		s.Tables = append(s.Tables, t)
	}
	switch {
	case p.Running || p.Run == "" || p.well():
	case len(p.Errors)+len(p.Unknown) > 0:
		s.Notes, s.Commands = []string{"Mend the cause and go on where the run ended:"}, []string{"pxrun resume " + p.Run}
	}
	return s
}

// messages lists errors or warnings.
func (p *Page) messages(list []PageMessage, mark string) pageTable {
	t := pageTable{Columns: pageColumns("time", "hosts", "task", "what"), Fold: len(list) > pageLong}
	for _, m := range list {
		text := m.Text
		if m.Times > max(len(m.Hosts), 1) {
			text += fmt.Sprintf(" (%d times)", m.Times)
		}
		t.Rows = append(t.Rows, []pageField{pageText(p.clock(m.At)), pageText(hostList(m.Hosts, 6)), pageText(stepName(m.Step, p.Runbook)), pageMarked(text, mark)})
	}
	return t
}

func (p *Page) warningsSection() pageSection {
	return pageSection{ID: "warnings", Title: "Warnings", Tables: []pageTable{p.messages(p.Warnings, "")}}
}

func (p *Page) leftSection() pageSection {
	s := pageSection{ID: "left", Title: "Left behind"}
	t := pageTable{Columns: pageColumns("host", "the way back", "since", "task", "state")}
	commands := map[string]bool{}
	for _, l := range p.Left {
		state := pageMarked("in place", "warn")
		if l.Released {
			state = pageMarked("taken back by a later run", "dim")
		} else if !commands[l.Command] {
			commands[l.Command] = true
			s.Commands = append(s.Commands, l.Command)
		}
		t.Rows = append(t.Rows, []pageField{pageText(l.Host), pageText(l.Summary), pageText(p.clock(l.Since)), pageText(stepName(l.Step, p.Runbook)), state})
	}
	s.Tables = []pageTable{t}
	if len(s.Commands) > 0 {
		s.Notes = []string{"Take it back with:"}
	}
	return s
}

func (p *Page) downSection() pageSection {
	t := pageTable{Columns: pageColumns("guest", "down since")}
	for _, g := range p.down() {
		t.Rows = append(t.Rows, []pageField{pageText(g.Guest), pageMarked(p.clock(g.Since), "bad")})
	}
	return pageSection{ID: "down", Title: "Guests that are still down", Tables: []pageTable{t}}
}

// tasksSection is the matrix of nodes and tasks.
func (p *Page) tasksSection() pageSection {
	cells := make(map[[2]string]PageCell, len(p.Cells))
	for _, c := range p.Cells {
		cells[[2]string{c.Step, c.Host}] = c
	}
	t := pageTable{Columns: pageColumns("host")}
	for _, task := range p.Tasks {
		t.Columns = append(t.Columns, pageColumn{Name: stepName(task.Step, p.Runbook)})
	}
	for _, host := range p.Hosts {
		row, any := []pageField{pageText(host)}, false
		for _, task := range p.Tasks {
			c, ok := cells[[2]string{task.Step, host}]
			any = any || ok
			row = append(row, c.field(ok))
		}
		if any {
			t.Rows = append(t.Rows, row)
		}
	}
	return pageSection{ID: "tasks", Title: "Tasks", Tables: []pageTable{t}}
}

// field shows how a task went on a host.
func (c PageCell) field(ran bool) pageField {
	if !ran {
		return pageMarked("–", "dim")
	}
	f := pageText(statusWord(c.Status))
	switch c.Status {
	case event.OK, event.Changed:
		f.Mark = "ok"
		if c.Changed > 0 {
			f.Text = Count(c.Changed, "change")
		}
	case event.Failed, event.Unreachable:
		f.Mark = "bad"
	case event.Refused, event.Cancelled, event.Deferred:
		f.Mark = "warn"
	default:
		f.Mark = "dim"
	}
	if c.Changed > 0 && f.Mark != "ok" {
		f.Text += " after " + Count(c.Changed, "change")
	}
	for _, before := range slices.Backward(c.Before) {
		if isBad(before) && before != c.Status {
			f.Text = statusWord(before) + ", then " + f.Text
			break
		}
	}
	if c.Took > 0 {
		f.Text += " · " + Duration(c.Took)
	}
	return f
}

func (p *Page) notDoneSection() pageSection {
	t := pageTable{Columns: pageColumns("task", "hosts", "what", "why"), Fold: len(p.NotDone) > pageLong}
	for _, n := range p.NotDone {
		t.Rows = append(t.Rows, []pageField{pageText(stepName(n.Step, p.Runbook)), pageText(hostList(n.Hosts, 6)), pageText(n.What), pageText(n.Reason)})
	}
	return pageSection{ID: "not-done", Title: "Not done", Tables: []pageTable{t}}
}

func (p *Page) attemptsSection() pageSection {
	t := pageTable{Columns: pageColumns("attempt", "began", "first task", "ended", "took>", "how it ended")}
	began := []time.Time{}
	for i, a := range p.Attempts {
		how := pageText(statusWord(a.Status))
		switch {
		case a.CutOff:
			how = pageMarked("cut off: its process went away", "bad")
		case a.Status == "":
			how = pageText("going on")
		}
		if a.Interrupts > 0 {
			how.Text += ", interrupted"
		}
		t.Rows = append(t.Rows, []pageField{
			pageText(fmt.Sprintf("%d: %s", i+1, a.Command)), pageText(p.clock(a.Began)), pageText(p.clock(a.Acted)), pageText(p.clock(a.Ended)),
			pageText(Duration(a.Ended.Sub(a.Began))), how,
		})
		began = append(began, a.Began)
	}
	for _, w := range p.Waits {
		by := "went on by itself"
		switch {
		case w.To.IsZero():
			by = "waits"
		case w.By != "":
			by = "approved by " + w.By
		}
		i, _ := slices.BinarySearchFunc(began, w.From, func(a, b time.Time) int { return cmp.Or(a.Compare(b), -1) })
		began = slices.Insert(began, i, w.From)
		t.Rows = slices.Insert(t.Rows, i, []pageField{
			pageText("pause"), pageText(p.clock(w.From)), pageText(""), pageText(p.clock(w.To)), pageText(Duration(w.length(p.Ended))), pageText(w.Reason + "; " + by),
		})
	}
	return pageSection{ID: "attempts", Title: "Attempts", Tables: []pageTable{t}}
}

// length is how long a pause took, or takes so far.
func (w PageWait) length(now time.Time) time.Duration {
	if w.To.IsZero() {
		return max(now.Sub(w.From), 0)
	}
	return w.To.Sub(w.From)
}
