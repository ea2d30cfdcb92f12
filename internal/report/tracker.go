package report

import (
	"slices"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
)

// Level is how much a person wants to read.
type Level int

// The levels. Trace adds every remote command with its time.
const (
	Quiet Level = iota - 1
	Normal
	Verbose
	Trace
)

// Options are what every sink for people needs.
type Options struct {
	Look
	Level Level
	Now   func() time.Time
	// Columns tells the width of a terminal that may be resized; may be nil.
	Columns func() int
	// Logs names the place of a run's log files, for the summary of a run that failed; may be nil.
	Logs func(run string) string
}

// tracker is what is known of a run from its events so far. It is a fold: no clock, no writer.
type tracker struct {
	run       string
	start     event.RunStarted
	began     time.Time
	steps     map[string]*stepState
	active    []*stepState
	finished  int  // steps
	broken    int  // changes that were begun and failed
	planning  bool // tasks are being planned, before the first one acts
	acted     bool // the first task that acts has been announced
	restored  int  // temporary changes that were taken back
	connected int
	times     map[string]time.Duration // of each host, all steps together
	hosts     []string                 // in the order in which they were first heard of
	turns     []*turnState             // hosts of rolling blocks under way
	through   event.NodeStarted        // how far the last block is
}

// stepState is one task under way.
type stepState struct {
	path, module string
	planning     bool
	hosts        []string
	began        time.Time
	at           map[string]*hostState
	made         []module.Change // changes made on any host
	problems     []Problem
	outcome      map[event.Status]int
	reason       string // of a skipped or deferred step
	running      map[string]module.Change
}

// hostState is one task on one host.
type hostState struct {
	doing string
	since time.Time
	done  bool
}

func newTracker() *tracker {
	return &tracker{steps: map[string]*stepState{}, times: map[string]time.Duration{}}
}

// see takes an event in. It returns the step that the event is about, if any.
func (t *tracker) see(e event.Event) *stepState {
	t.run = e.Run
	if e.Host != "" && !slices.Contains(t.hosts, e.Host) {
		t.hosts = append(t.hosts, e.Host)
	}
	s := t.steps[e.Step]
	t.turn(e, s)
	switch b := e.Body.(type) {
	case event.RunStarted:
		*t = *newTracker()
		t.run, t.start, t.began = e.Run, b, e.Time
		t.hosts = slices.Clone(b.Hosts)
	case event.HostConnected:
		if b.Error == "" {
			t.connected++
		}
	case event.UndoDone:
		if b.Error == "" {
			t.restored++
		}
	case event.StepStarted:
		s = t.begin(e, b)
	case event.StepPlanned:
		if s != nil && (b.Skipped != "" || b.Deferred != "") {
			s.reason = b.Skipped + b.Deferred
		}
	case event.ChangeStarted:
		if s != nil {
			s.running[b.Change.ID] = b.Change
			s.host(e.Host).doing, s.host(e.Host).since = b.Change.Summary, e.Time
		}
	case event.ChangeDone:
		if b.Error != "" {
			t.broken++
		}
		if s != nil {
			s.changeDone(e, b)
		}
	case event.HostDone:
		t.times[e.Host] += b.Duration
		if s != nil {
			s.hostDone(e, b)
		}
	case event.StepDone:
		t.finished++
		t.active = slices.DeleteFunc(t.active, func(a *stepState) bool { return a == s })
	}
	return s
}

func (t *tracker) begin(e event.Event, b event.StepStarted) *stepState {
	s := &stepState{
		path: e.Step, module: b.Module, planning: b.Planning, hosts: b.Hosts, began: e.Time,
		at: map[string]*hostState{}, outcome: map[event.Status]int{}, running: map[string]module.Change{},
	}
	if t.planning && !b.Planning {
		t.finished, t.times = 0, map[string]time.Duration{} // from now on it is the work that counts
	}
	t.planning = b.Planning
	t.steps[e.Step] = s
	t.active = append(t.active, s)
	return s
}

func (s *stepState) host(name string) *hostState {
	h, ok := s.at[name]
	if !ok {
		h = &hostState{since: s.began}
		s.at[name] = h
	}
	return h
}

func (s *stepState) changeDone(e event.Event, b event.ChangeDone) {
	c, ok := s.running[b.ID]
	if !ok {
		return
	}
	delete(s.running, b.ID)
	if c.Host == "" {
		c.Host = e.Host
	}
	if b.Error == "" {
		s.made = append(s.made, c)
	}
	s.host(e.Host).doing = ""
}

func (s *stepState) hostDone(e event.Event, b event.HostDone) {
	h := s.host(e.Host)
	h.done, h.doing = true, ""
	s.outcome[b.Status]++
	if b.Error != "" && b.Status != event.Cancelled {
		s.problems = append(s.problems, Problem{e.Host, b.Error})
	}
}

// outcomes says how a step ended, in the order in which people care.
func (s *stepState) outcomes() []event.Status {
	order := []event.Status{
		event.Failed, event.Refused, event.Unreachable, event.Cancelled, event.Changed, event.OK, event.Deferred, event.Skipped, event.NotRun,
	}
	return slices.DeleteFunc(order, func(status event.Status) bool { return s.outcome[status] == 0 })
}

// turnState is a host whose turn it is in a rolling block.
type turnState struct {
	host  string
	began time.Time
	takes time.Duration
	at    string // the step in which it is
}

// turn follows the hosts of rolling blocks.
func (t *tracker) turn(e event.Event, s *stepState) {
	drop := func() {
		t.turns = slices.DeleteFunc(t.turns, func(h *turnState) bool { return h.host == e.Host })
	}
	switch b := e.Body.(type) {
	case event.NodeStarted:
		drop()
		t.turns, t.through = append(t.turns, &turnState{host: e.Host, began: e.Time, takes: b.Takes}), b
		return
	case event.NodeDone:
		drop()
		return
	}
	if s == nil || s.planning {
		return
	}
	for _, h := range t.turns {
		if h.host == e.Host {
			h.at = e.Step
		}
	}
}
