package report

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
)

// pageMaker folds events into a page.
type pageMaker struct {
	p       *Page
	of      PageOf
	story   event.Folding
	cells   map[[2]string]int // step and host to the index of the cell
	modules map[string]string // of steps
	index   map[string]int    // of steps: their place in the runbook
	summary event.Summary
	open    map[[2]string]time.Time   // changes under way: since when, by step and host
	broken  map[[2]string]event.Event // changes that failed in tasks that have not ended
	guests  map[string]int
	gates   map[gateKey]int
	pkgs    map[[2]string]int // host and package to changes
	changes []pageChange
	kept    map[[2]string]int
	seen    map[string]int // messages
	last    time.Time
}

type gateKey struct {
	host string
	r    module.Reading
}

// pageChange is a package on one host, from the first version to the last.
type pageChange struct {
	host string
	module.Version
}

func newPageMaker(of PageOf) *pageMaker {
	return &pageMaker{
		p:  &Page{Type: "report", Run: of.Run, Command: of.Command, Runbook: of.Runbook, Cluster: of.Cluster, By: of.By, Version: of.Version, Lab: of.Lab, Running: of.Running, Damaged: of.Damaged, changed: map[string]bool{}, location: of.Location},
		of: of, cells: map[[2]string]int{}, modules: map[string]string{}, index: map[string]int{}, open: map[[2]string]time.Time{}, guests: map[string]int{},
		gates: map[gateKey]int{}, broken: map[[2]string]event.Event{}, pkgs: map[[2]string]int{}, kept: map[[2]string]int{}, seen: map[string]int{},
	}
}

// attempt is the process that is at it now.
func (m *pageMaker) attempt() *PageAttempt {
	if len(m.p.Attempts) == 0 {
		m.p.Attempts = append(m.p.Attempts, PageAttempt{Command: m.of.Command, Began: m.last})
	}
	return &m.p.Attempts[len(m.p.Attempts)-1]
}

func (m *pageMaker) add(e event.Event) {
	m.story.Add(e)
	if b, ok := e.Body.(event.RunStarted); ok {
		m.begin(e, b)
	}
	m.last = e.Time
	if m.p.Began.IsZero() || e.Time.Before(m.p.Began) {
		m.p.Began = e.Time
	}
	if e.Time.After(m.p.Ended) {
		m.p.Ended = e.Time
	}
	now := m.attempt()
	now.Ended = e.Time
	switch b := e.Body.(type) {
	case event.Interrupted:
		now.Interrupts = max(now.Interrupts, b.Count)
	case event.RunDone:
		now.Status, m.p.Status, m.summary = b.Status, b.Status, b.Summary
		m.settle(e.Time, false)
	case event.HostConnected:
		m.host(e.Host)
		m.failure(e, b.Error)
	case event.Warning:
		m.p.Warnings = m.message(m.p.Warnings, "w", e, b.Text)
	case event.UndoDone:
		if b.Error != "" {
			e.Host = cmp.Or(b.About, e.Host)
			m.failure(e, "could not be taken back: "+cmp.Or(b.Summary, b.ID)+": "+b.Error)
		}
	default:
		m.step(e)
		m.block(e)
		m.record(e)
	}
}

// begin is a new process: what the one before had under way has no end.
func (m *pageMaker) begin(e event.Event, b event.RunStarted) {
	if n := len(m.p.Attempts); n > 0 && m.p.Attempts[n-1].Status == "" {
		m.settle(m.last, true)
	}
	m.p.Status = ""
	m.p.Attempts = append(m.p.Attempts, PageAttempt{Command: b.Command, Began: e.Time})
	m.p.Runbook = cmp.Or(b.Runbook, m.p.Runbook)
	m.p.Cluster = cmp.Or(b.Cluster, m.p.Cluster)
	m.p.Run = cmp.Or(m.p.Run, e.Run)
	for _, h := range b.Hosts {
		m.host(h)
	}
}

// settle ends what is under way, at the end of an attempt.
func (m *pageMaker) settle(at time.Time, cut bool) {
	a := m.attempt()
	a.CutOff = cut
	for k, since := range m.open {
		m.p.Spans = append(m.p.Spans, PageSpan{Host: k[1], Kind: pageKind(m.modules[k[0]], ""), Label: k[0], From: since, To: at, Cut: true})
	}
	clear(m.open)
	for _, e := range m.broken {
		m.failure(e, e.Body.(event.ChangeDone).Error)
	}
	clear(m.broken)
	for i, t := range m.p.Turns {
		if !t.Began.IsZero() && t.Ended.IsZero() {
			m.p.Turns[i].Ended, m.p.Turns[i].Took = at, at.Sub(t.Began)
		}
	}
	for i, w := range m.p.Waits {
		if w.To.IsZero() {
			m.p.Waits[i].To = at
		}
	}
}

func (m *pageMaker) host(name string) {
	if name != "" && !slices.Contains(m.p.Hosts, name) {
		m.p.Hosts = append(m.p.Hosts, name)
	}
}

func (m *pageMaker) task(step, moduleName string) {
	if step == "" {
		return
	}
	if _, known := m.modules[step]; !known {
		m.p.Tasks = append(m.p.Tasks, PageTask{Step: step})
	}
	m.modules[step] = cmp.Or(m.modules[step], moduleName)
}

// step takes in what is told of tasks and changes.
func (m *pageMaker) step(e event.Event) {
	switch b := e.Body.(type) {
	case event.StepStarted:
		m.task(e.Step, b.Module)
		m.index[e.Step] = b.Index
		if !b.Planning {
			m.acts(e.Time)
		}
	case event.ChangeStarted:
		m.acts(e.Time)
		if k := [2]string{e.Step, e.Host}; m.open[k].IsZero() {
			m.open[k] = e.Time
		}
	case event.ChangeDone:
		if b.Error == "" {
			m.p.Changes++
			m.p.changed[e.Host] = true
		} else {
			m.broken[[2]string{e.Step, e.Host}] = e
		}
	case event.HostDone:
		m.hostDone(e, b)
	}
}

// acts notes when an attempt was done with planning.
func (m *pageMaker) acts(at time.Time) {
	if a := m.attempt(); a.Acted.IsZero() {
		a.Acted = at
	}
}

func (m *pageMaker) hostDone(e event.Event, b event.HostDone) {
	m.host(e.Host)
	m.task(e.Step, "")
	key := [2]string{e.Step, e.Host}
	delete(m.open, key)
	delete(m.broken, key) // the host's own error tells of it
	i, known := m.cells[key]
	if !known {
		i = len(m.p.Cells)
		m.cells[key] = i
		m.p.Cells = append(m.p.Cells, PageCell{Step: e.Step, Host: e.Host})
	} else {
		m.p.Cells[i].Before = append(m.p.Cells[i].Before, m.p.Cells[i].Status)
	}
	c := &m.p.Cells[i]
	c.Status, c.Changed, c.Took = b.Status, c.Changed+b.Changed, c.Took+max(b.Duration, 0)
	m.failure(e, b.Error)
	if b.Status == event.Skipped || b.Status == event.NotRun {
		return
	}
	from := e.Time.Add(-max(b.Duration, 0))
	if began := m.attempt().Began; from.Before(began) {
		from = began
	}
	m.p.Spans = append(m.p.Spans, PageSpan{Host: e.Host, Kind: pageKind(m.modules[e.Step], ""), Label: e.Step, From: from, To: e.Time, Status: b.Status})
}

// block takes in what is told of rolling blocks.
func (m *pageMaker) block(e event.Event) {
	switch b := e.Body.(type) {
	case event.BlockPlanned:
		m.course(e, b)
	case event.NodeStarted:
		m.acts(e.Time)
		m.host(e.Host)
		position := 0
		for _, t := range m.p.Turns {
			position = max(position, t.Actual)
		}
		m.p.Turns = append(m.p.Turns, PageTurn{Block: b.Block, Host: e.Host, Actual: position + 1, Of: b.Of, Began: e.Time, Takes: b.Takes})
	case event.NodeDone:
		m.nodeDone(e, b)
	case event.Paused:
		m.p.Waits = append(m.p.Waits, PageWait{Block: b.Block, Reason: b.Reason, From: e.Time})
	case event.Continued:
		for i, w := range m.p.Waits {
			if w.Block == b.Block && w.To.IsZero() {
				m.p.Waits[i].To, m.p.Waits[i].By = e.Time, b.By
			}
		}
	}
}

func (m *pageMaker) nodeDone(e event.Event, b event.NodeDone) {
	m.host(e.Host)
	for i := len(m.p.Turns) - 1; i >= 0; i-- {
		t := &m.p.Turns[i]
		if t.Block == b.Block && t.Host == e.Host && t.Ended.IsZero() && !t.Began.IsZero() {
			t.Ended, t.Took, t.Status, t.Reason = e.Time, b.Duration, b.Status, b.Reason
			return
		}
	}
	if b.Status == event.Skipped && slices.ContainsFunc(m.p.Turns, func(t PageTurn) bool { return t.Block == b.Block && t.Host == e.Host }) {
		return // through already, in an earlier attempt
	}
	m.p.Turns = append(m.p.Turns, PageTurn{Block: b.Block, Host: e.Host, Took: b.Duration, Status: b.Status, Reason: b.Reason})
}

// course keeps the plan of each attempt; later ones of the same attempt are counted.
func (m *pageMaker) course(e event.Event, b event.BlockPlanned) {
	attempt := len(m.p.Attempts)
	for i := range m.p.Courses {
		c := &m.p.Courses[i]
		if c.Block != b.Block || c.attempt != attempt {
			continue
		}
		c.Again++
		if !pageTail(c.last, b.Order) {
			c.Reordered = true
		}
		c.last = b.Order
		return
	}
	m.p.Courses = append(m.p.Courses, PageCourse{At: e.Time, Block: b.Block, Order: b.Order, Showing: b.Showing, last: b.Order, attempt: attempt})
}

// pageTail reports whether the hosts of a later order stand in the same order in the earlier one.
func pageTail(before, after []string) bool {
	at := 0
	for _, h := range after {
		i := slices.Index(before[at:], h)
		if i < 0 {
			return false
		}
		at += i + 1
	}
	return true
}

// failure keeps an error; the same one told of several hosts or layers is one.
func (m *pageMaker) failure(e event.Event, text string) {
	if text != "" {
		m.p.Errors = m.message(m.p.Errors, "e", e, text)
	}
}

func (m *pageMaker) message(list []PageMessage, kind string, e event.Event, text string) []PageMessage {
	text = strings.TrimPrefix(text, e.Host+": ")
	key := kind + "\x00" + e.Step + "\x00" + text
	if i, known := m.seen[key]; known {
		list[i].Times++
		if e.Host != "" && !slices.Contains(list[i].Hosts, e.Host) {
			list[i].Hosts = append(list[i].Hosts, e.Host)
		}
		return list
	}
	m.seen[key] = len(list)
	msg := PageMessage{At: e.Time, Step: e.Step, Text: text, Times: 1}
	if e.Host != "" {
		msg.Hosts = []string{e.Host}
	}
	return append(list, msg)
}

// pageKind is what a task is about, for its colour: from its module, or from the name of a phase.
func pageKind(moduleName, phase string) string {
	switch cmp.Or(phase, moduleName) {
	case "drain", "upgrade", "reboot", "release", "soak":
		return cmp.Or(phase, moduleName)
	case "node_healthy", "verify":
		return "verify"
	case "packages_download", "repository", "download":
		return "fetch"
	case "preflight", "health", "assert", "wait_for", "network_check", "pause":
		return "check"
	default:
		return "work"
	}
}
