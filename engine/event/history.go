package event

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
)

// Pending is a temporary change that was registered and is not known to be taken back.
type Pending struct {
	Run   string      `json:"run"`
	Step  string      `json:"step,omitempty"`
	ID    string      `json:"id"`
	Since time.Time   `json:"since"`
	Undo  module.Undo `json:"undo"`
	// Back is a change that was to take it back, and was begun: if its task does not want that any more, it has.
	Back *Taking `json:"back,omitempty"`
}

// Taking is a change that takes temporary changes back, and was begun: it was done, or nobody knows.
type Taking struct {
	Step   string    `json:"step"`
	Host   string    `json:"host"`
	ID     string    `json:"id"` // of the change
	Since  time.Time `json:"since"`
	Undoes []string  `json:"undoes"`
	// Proved says that the task does not want the change any more once it was made; else only Done tells that it was.
	Proved bool `json:"proved,omitempty"`
	Done   bool `json:"done,omitempty"`
}

// Takes reports whether a change takes a temporary one back: one of its own host, or one about its host that is taken back through
// another, whose id begins with the host.
func Takes(c module.Change, p Pending) bool {
	return slices.Contains(c.Undoes, p.ID) && (p.Undo.Host == c.Host || c.Host == "" || strings.HasPrefix(p.ID, c.Host+"/"))
}

// Mark notes in temporary changes of any run which of them were being taken back.
func Mark(pending []Pending, takings []Taking) {
	for i := range pending {
		for _, t := range takings {
			if t.Since.After(pending[i].Since) && Takes(module.Change{Host: t.Host, Undoes: t.Undoes}, pending[i]) {
				pending[i].Back = &t
			}
		}
	}
}

// Unfinished is a change that was about to be made when the process ended: whether it was is not known.
type Unfinished struct {
	Step   string        `json:"step,omitempty"`
	Since  time.Time     `json:"since"`
	Change module.Change `json:"change"`
}

// History is what the events of one run say about it. It tells about the run; about the cluster only the cluster does.
type History struct {
	Run      string
	Started  time.Time
	Last     time.Time // of the newest event
	Runbook  string
	Hosts    []string
	Tasks    int
	Step     string // where the run was last
	Began    bool   // a task was begun, beyond planning it
	Changes  int    // changes made without an error
	Unknown  []Unfinished
	Pending  []Pending
	Undone   []Undone // of other runs
	Takings  []Taking // what was to take temporary changes back, of this run or others
	Ended    bool
	Status   Status
	Summary  Summary
	Duration time.Duration
}

// Undone is a temporary change of another run that this one took back.
type Undone struct{ Run, Host, ID string }

type changeKey struct{ step, host, id string }

type undoKey struct{ host, id string }

// Fold reads the events of one run in their order. A run that was resumed has its attempts one after the other.
func Fold(events []Event) History {
	var f Folding
	for _, e := range events {
		f.Add(e)
	}
	return f.History()
}

// Folding makes a History event by event. The zero value is ready.
type Folding struct {
	h       History
	open    map[changeKey]Unfinished
	pending map[undoKey]Pending
	takings map[changeKey]Taking
}

// Add takes the next event in.
func (f *Folding) Add(e Event) {
	if f.open == nil {
		f.open, f.pending, f.takings = map[changeKey]Unfinished{}, map[undoKey]Pending{}, map[changeKey]Taking{}
	}
	h := &f.h
	h.Run, h.Last = cmp.Or(e.Run, h.Run), e.Time
	h.Step = cmp.Or(e.Step, h.Step)
	switch b := e.Body.(type) {
	case RunStarted:
		if h.Started.IsZero() {
			h.Started = e.Time
		}
		h.Runbook, h.Hosts, h.Tasks = b.Runbook, b.Hosts, b.Tasks
		h.Ended, h.Status = false, ""
		clear(f.open) // what the attempt before left unknown was told when this one began
	case StepStarted:
		h.Began = h.Began || !b.Planning
	case ChangeStarted:
		h.Began = true
		f.open[changeKey{e.Step, e.Host, b.Change.ID}] = Unfinished{Step: e.Step, Since: e.Time, Change: b.Change}
		f.takes(e, b.Change)
	case ChangeDone:
		key := changeKey{e.Step, e.Host, b.ID}
		delete(f.open, key)
		t, takes := f.takings[key]
		switch {
		case b.Error != "":
			delete(f.takings, key)
		case takes:
			t.Done = true
			f.takings[key] = t
			fallthrough
		default:
			h.Changes++
		}
	case UndoRegistered:
		f.pending[undoKey{e.Host, b.ID}] = Pending{Run: e.Run, Step: e.Step, ID: b.ID, Since: e.Time, Undo: b.Undo}
	case UndoDone:
		f.undone(e, b)
	case RunDone:
		h.Ended, h.Status, h.Summary, h.Duration = true, b.Status, b.Summary, b.Duration
	}
}

func (f *Folding) takes(e Event, c module.Change) {
	if len(c.Undoes) > 0 {
		f.takings[changeKey{e.Step, e.Host, c.ID}] = Taking{Step: e.Step, Host: c.Host, ID: c.ID, Since: e.Time, Undoes: c.Undoes, Proved: !c.Imperative}
	}
}

func (f *Folding) undone(e Event, b UndoDone) {
	switch {
	case b.Error != "":
	case b.Of != "" && b.Of != e.Run:
		f.h.Undone = append(f.h.Undone, Undone{b.Of, e.Host, b.ID})
	default:
		delete(f.pending, undoKey{e.Host, b.ID})
	}
}

// History is what the events so far say.
func (f *Folding) History() History {
	h := f.h
	h.Undone = slices.Clone(h.Undone)
	for _, u := range f.open {
		h.Unknown = append(h.Unknown, u)
	}
	for _, p := range f.pending {
		h.Pending = append(h.Pending, p)
	}
	for _, t := range f.takings {
		h.Takings = append(h.Takings, t)
	}
	slices.SortFunc(h.Takings, func(a, b Taking) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Step, b.Step), cmp.Compare(a.Host, b.Host))
	})
	Mark(h.Pending, h.Takings)
	slices.SortFunc(h.Unknown, func(a, b Unfinished) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Change.Host, b.Change.Host), cmp.Compare(a.Change.ID, b.Change.ID))
	})
	slices.SortFunc(h.Pending, func(a, b Pending) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Undo.Host, b.Undo.Host), cmp.Compare(a.ID, b.ID))
	})
	return h
}
