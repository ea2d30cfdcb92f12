package report

import (
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
)

// PageOf is what is known of a run beside its events.
type PageOf struct {
	Run, Command, Runbook, Cluster string
	// By is who began it, Version the version of pxrun that did.
	By, Version string
	Lab         bool
	// Running says that a process is at it now.
	Running bool
	// Damaged counts lines of the journal that could not be read.
	Damaged int
	// Released are temporary changes of this run that others have taken back since.
	Released []event.Undone
	// Location is where times are shown in; nil means UTC.
	Location *time.Location
}

// Page is the report of one run: everything that its events tell, in the order in which people ask. Its JSON form is what
// `pxrun report --json` writes. A run that was resumed is one page with several attempts.
type Page struct {
	Type     string        `json:"type"` // report
	Run      string        `json:"run"`
	Command  string        `json:"command,omitempty"`
	Runbook  string        `json:"runbook,omitempty"`
	Cluster  string        `json:"cluster,omitempty"`
	By       string        `json:"by,omitempty"`
	Version  string        `json:"version,omitempty"`
	Lab      bool          `json:"lab,omitempty"`
	Status   event.Status  `json:"status,omitempty"` // "" if it did not end
	Running  bool          `json:"running,omitempty"`
	Verdict  string        `json:"verdict"` // how it ended, in one sentence
	Began    time.Time     `json:"began,omitzero"`
	Ended    time.Time     `json:"ended,omitzero"` // or the time of the last event
	Changes  int           `json:"changes"`
	Damaged  int           `json:"damaged_lines,omitempty"`
	Attempts []PageAttempt `json:"attempts"`
	Hosts    []string      `json:"hosts"`
	Tasks    []PageTask    `json:"tasks"`
	Cells    []PageCell    `json:"results"`
	NotDone  []PageNotDone `json:"not_done,omitempty"`
	Errors   []PageMessage `json:"errors,omitempty"`
	Warnings []PageMessage `json:"warnings,omitempty"`
	Left     []PageLeft    `json:"left,omitempty"`
	Unknown  []PageMessage `json:"outcome_unknown,omitempty"`
	Turns    []PageTurn    `json:"turns,omitempty"`
	Courses  []PageCourse  `json:"courses,omitempty"`
	Waits    []PageWait    `json:"waits,omitempty"`
	Spans    []PageSpan    `json:"spans"`
	Phases   []PagePhase   `json:"phases,omitempty"`
	Moves    []PageMove    `json:"moves,omitempty"`
	Guests   []PageGuest   `json:"downtime,omitempty"`
	Votes    []PageVotes   `json:"votes,omitempty"`
	Gates    []PageReading `json:"gates,omitempty"`
	Versions []PageVersion `json:"versions,omitempty"`
	Kept     []PageKept    `json:"kept_files,omitempty"`

	changed  map[string]bool // hosts on which something was changed
	location *time.Location
}

type (
	// PageAttempt is one process that was at the run.
	PageAttempt struct {
		Command string    `json:"command"`
		Began   time.Time `json:"began"`
		// Acted is when the first task began; the time before went into connecting, planning and asking. Zero if none did.
		Acted  time.Time    `json:"acted,omitzero"`
		Ended  time.Time    `json:"ended"` // or its last sign of life
		Status event.Status `json:"status,omitempty"`
		CutOff bool         `json:"cut_off,omitempty"`
		// Interrupts is how often somebody asked it to stop.
		Interrupts int `json:"interrupts,omitempty"`
	}
	// PageTask is a task of the runbook.
	PageTask struct {
		Step   string `json:"step"`
		Module string `json:"module,omitempty"`
	}
	// PageCell is one task on one host, over all attempts.
	PageCell struct {
		Step    string         `json:"step"`
		Host    string         `json:"host"`
		Status  event.Status   `json:"status"`
		Before  []event.Status `json:"before,omitempty"` // how earlier attempts ended
		Changed int            `json:"changed"`
		Took    time.Duration  `json:"took_ns"`
	}
	// PageNotDone is something that was planned and not done.
	PageNotDone struct {
		Step   string   `json:"step"`
		What   string   `json:"what"`
		Hosts  []string `json:"hosts,omitempty"`
		Reason string   `json:"reason,omitempty"`
	}
	// PageMessage is an error or a warning, and where and how often it was told.
	PageMessage struct {
		At    time.Time `json:"at"`
		Step  string    `json:"step,omitempty"`
		Hosts []string  `json:"hosts,omitempty"`
		Text  string    `json:"text"`
		Times int       `json:"times"`
	}
	// PageLeft is a temporary change that the run did not take back.
	PageLeft struct {
		ID      string    `json:"id"`
		Host    string    `json:"host"`
		Step    string    `json:"step,omitempty"`
		Since   time.Time `json:"since"`
		Summary string    `json:"summary"`
		// Command takes it back.
		Command string `json:"command"`
		// Released says that another run has taken it back since.
		Released bool `json:"released,omitempty"`
	}
	// PageTurn is a host's turn in a rolling block: as it was planned, and as it went.
	PageTurn struct {
		Block   string        `json:"block"`
		Host    string        `json:"host"`
		Planned int           `json:"planned_position,omitempty"` // counts from 1
		Actual  int           `json:"position,omitempty"`
		Of      int           `json:"of,omitempty"` // hosts that its block was to go over in that attempt
		Began   time.Time     `json:"began,omitzero"`
		Ended   time.Time     `json:"ended,omitzero"`
		Takes   time.Duration `json:"planned_ns,omitempty"`
		Took    time.Duration `json:"took_ns,omitempty"`
		Status  event.Status  `json:"status,omitempty"` // "" if it did not end
		Reason  string        `json:"reason,omitempty"`
	}
	// PageCourse is the course of a rolling block as it was planned at the beginning of an attempt.
	PageCourse struct {
		At      time.Time      `json:"at"`
		Block   string         `json:"block"`
		Order   []string       `json:"order"`
		Showing module.Showing `json:"showing"`
		// Again is how often it was proved anew in that attempt, Reordered whether its order changed on the way.
		Again     int  `json:"again"`
		Reordered bool `json:"reordered,omitempty"`
		last      []string
		attempt   int
	}
	// PageWait is a pause of a rolling block. To is zero while it lasts.
	PageWait struct {
		Block  string    `json:"block"`
		Reason string    `json:"reason"`
		From   time.Time `json:"from"`
		To     time.Time `json:"to,omitzero"`
		By     string    `json:"by,omitempty"` // who let it go on
	}
	// PageSpan is a stretch of time in which a task was at a host. Cut says that its end is only the last sign of life.
	PageSpan struct {
		Host   string       `json:"host"`
		Kind   string       `json:"kind"`
		Label  string       `json:"label"`
		From   time.Time    `json:"from"`
		To     time.Time    `json:"to"`
		Status event.Status `json:"status,omitempty"`
		Cut    bool         `json:"cut,omitempty"`
	}
	// PagePhase is how long a phase took on a host, as its task measured it.
	PagePhase struct {
		Host string        `json:"host"`
		Name string        `json:"name"`
		Took time.Duration `json:"took_ns"`
	}
	// PageMove is a guest that moved, or did not.
	PageMove struct {
		At time.Time `json:"at"`
		module.Moved
	}
	// PageGuest is what a guest's users felt.
	PageGuest struct {
		Guest     string        `json:"guest"`
		Frozen    time.Duration `json:"frozen_ns,omitempty"` // while it moved live, altogether
		Moves     int           `json:"live_moves,omitempty"`
		Restarted time.Duration `json:"restarted_ns,omitempty"`
		Stopped   time.Duration `json:"stopped_ns,omitempty"`
		Restarts  int           `json:"restarts,omitempty"`
		Stops     int           `json:"stops,omitempty"`
		// Down says that it was not seen running again; Since when it is down.
		Down  bool      `json:"down,omitempty"`
		Since time.Time `json:"since,omitzero"`
	}
	// PageVotes is what the quorum was from At to Until, as far as somebody looked.
	PageVotes struct {
		At    time.Time `json:"at"`
		Until time.Time `json:"until"`
		Host  string    `json:"host,omitempty"`
		module.Votes
	}
	// PageReading is what a gate saw; the same thing seen several times is one.
	PageReading struct {
		At    time.Time `json:"at"`
		Host  string    `json:"host,omitempty"`
		Times int       `json:"times"`
		module.Reading
	}
	// PageVersion is a package that changed in the same way on some hosts.
	PageVersion struct {
		Package string   `json:"package"`
		Before  string   `json:"before,omitempty"`
		After   string   `json:"after,omitempty"`
		Hosts   []string `json:"hosts"`
	}
	// PageKept is a configuration file that was kept.
	PageKept struct {
		Path  string   `json:"path"`
		New   string   `json:"new"`
		Hosts []string `json:"hosts"`
	}
)

// NewPage makes the report of a run from its events, in their order. Any list of events gives a page: a journal may be torn.
func NewPage(of PageOf, events []event.Event) *Page {
	m := newPageMaker(of)
	for _, e := range events {
		m.add(e)
	}
	return m.page()
}

// where is where times are shown in.
func (p *Page) where() *time.Location {
	if p.location == nil {
		return time.UTC
	}
	return p.location
}

// clock is a time of day; with its day if the run spans several.
func (p *Page) clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	t = t.In(p.where())
	first, last := p.Began.In(p.where()), p.Ended.In(p.where())
	if first.YearDay() != last.YearDay() || first.Year() != last.Year() {
		return t.Format("Jan 2 15:04:05")
	}
	return t.Format("15:04:05")
}
