// Package event is the stream that a run gives off: everything that a person, a CI job, the journal or a web page is
// told comes through here, redacted once, before any sink.
package event

import (
	"context"
	"time"

	"github.com/pxrun/pxrun/engine/module"
)

// Event is one thing that happened. Its JSON form is the stable output of --json: see docs/events.md.
type Event struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	Run  string    `json:"run,omitempty"`
	// Step is the path of the task in the runbook ("site/members"), Host the host it is about.
	Step string `json:"step,omitempty"`
	Host string `json:"host,omitempty"`
	Body Body   `json:"-"`
}

// Body is what happened. Kind is the "type" of the JSON form, into which the fields of the body are merged.
type Body interface{ Kind() string }

// Sink receives events in order. Handle is called by one goroutine at a time. A sink that keeps what a later run must
// find is a Syncer too; sinks for people may merge or drop output lines, never anything else.
type Sink interface {
	Handle(ctx context.Context, e Event) error
	Close() error
}

type (
	// RunStarted opens a run, a plan included.
	RunStarted struct {
		Command string   `json:"command"` // plan, apply, resume, exec
		Runbook string   `json:"runbook"`
		Cluster string   `json:"cluster,omitempty"`
		Tasks   int      `json:"tasks"`
		Hosts   []string `json:"hosts"`
	}
	// HostConnected is a host that was dialled; Error says why it could not be.
	HostConnected struct {
		Address  string        `json:"address"`
		Duration time.Duration `json:"duration_ns"`
		Error    string        `json:"error,omitempty"`
	}
	// StepStarted is a task that begins on its hosts. Index counts from 1 to RunStarted.Tasks.
	StepStarted struct {
		Index    int      `json:"index"`
		Module   string   `json:"module"`
		Hosts    []string `json:"hosts"`
		Planning bool     `json:"planning"`
	}
	// StepPlanned is what a task would change.
	StepPlanned struct {
		Changes  []module.Change `json:"changes"`
		Deferred string          `json:"deferred,omitempty"` // why it can't be planned yet
		Skipped  string          `json:"skipped,omitempty"`  // why it won't run
	}
	// ChangeStarted is the journal's "about to".
	ChangeStarted struct {
		Change module.Change `json:"change"`
	}
	// ChangeDone is the journal's "done". An empty Error is success.
	ChangeDone struct {
		ID       string        `json:"id"`
		Duration time.Duration `json:"duration_ns"`
		Error    string        `json:"error,omitempty"`
	}
	// HostDone is a task that ended on a host: ok, changed, failed, refused, unreachable, skipped or cancelled.
	HostDone struct {
		Status   Status        `json:"status"`
		Changed  int           `json:"changed"`
		Error    string        `json:"error,omitempty"`
		Duration time.Duration `json:"duration_ns"`
	}
	// StepDone is a task that ended everywhere.
	StepDone struct {
		Status   Status        `json:"status"`
		Duration time.Duration `json:"duration_ns"`
	}
	// Output is one line that a remote command printed.
	Output struct {
		Stream string `json:"stream"` // stdout, stderr
		Line   string `json:"line"`
	}
	// Dropped counts output lines of a host that were left out because whoever reads them was too slow.
	Dropped struct {
		Lines int `json:"lines"`
	}
	// CommandRan is one remote command with its cost, for very verbose output and the host's log.
	CommandRan struct {
		Command  string        `json:"command"`
		Exit     int           `json:"exit"`
		Mutates  bool          `json:"mutates"`
		Cached   bool          `json:"cached,omitempty"`
		Duration time.Duration `json:"duration_ns"`
	}
	// Note is a sentence for the user's log; Warning one that he should read.
	Note struct {
		Text string `json:"text"`
		// Result marks what the task was run for: it is shown like the changes, not only to who asks for more.
		Result bool `json:"result,omitempty"`
	}
	// Warning is something that the user should know and that does not stop the run.
	Warning struct {
		Text string `json:"text"`
	}
	// UndoRegistered is a temporary change about to be made, with the way back.
	UndoRegistered struct {
		ID   string      `json:"id"`
		Undo module.Undo `json:"undo"`
	}
	// UndoDone is a temporary change taken back, or the failure to do so.
	UndoDone struct {
		ID string `json:"id"`
		// Summary is what was to be done, About the host that it is about: the event's host is the one through which it is done.
		Summary string `json:"summary,omitempty"`
		About   string `json:"about,omitempty"`
		// Of is the run that registered it, if it was another one.
		Of    string `json:"of,omitempty"`
		Error string `json:"error,omitempty"`
	}
	// BlockPlanned is the course of a rolling block: while planning, and whenever it was proved anew.
	BlockPlanned struct {
		Block   string         `json:"block"`
		Order   []string       `json:"order"`
		Showing module.Showing `json:"showing"`
	}
	// NodeStarted is a host whose turn in a rolling block has come. Index counts from 1 to Of.
	NodeStarted struct {
		Block string        `json:"block"`
		Index int           `json:"index"`
		Of    int           `json:"of"`
		Takes time.Duration `json:"takes_ns,omitempty"` // about, if that is known
	}
	// NodeDone is a host that is through a rolling block, or out of it.
	NodeDone struct {
		Block    string        `json:"block"`
		Status   Status        `json:"status"`
		Reason   string        `json:"reason,omitempty"`
		Duration time.Duration `json:"duration_ns"`
	}
	// Paused is a rolling block that waits: for an approval, or for its window.
	Paused struct {
		Block  string    `json:"block"`
		Reason string    `json:"reason"`
		Answer string    `json:"answer,omitempty"` // the command that lets it go on
		Until  time.Time `json:"until,omitzero"`   // when it goes on by itself, or gives up
	}
	// Continued is a rolling block that goes on. By is who let it.
	Continued struct {
		Block string `json:"block"`
		By    string `json:"by,omitempty"`
	}
	// Interrupted is the first (1) or second (2) interrupt.
	Interrupted struct {
		Count int `json:"count"`
	}
	// RunDone closes a run.
	RunDone struct {
		Status   Status        `json:"status"`
		Summary  Summary       `json:"summary"`
		Duration time.Duration `json:"duration_ns"`
	}
)

// Kind names the event's JSON type.
func (RunStarted) Kind() string     { return "run_started" }
func (HostConnected) Kind() string  { return "host_connected" }
func (StepStarted) Kind() string    { return "step_started" }
func (StepPlanned) Kind() string    { return "step_planned" }
func (ChangeStarted) Kind() string  { return "change_started" }
func (ChangeDone) Kind() string     { return "change_done" }
func (HostDone) Kind() string       { return "host_done" }
func (StepDone) Kind() string       { return "step_done" }
func (Output) Kind() string         { return "output" }
func (Dropped) Kind() string        { return "dropped" }
func (CommandRan) Kind() string     { return "command_ran" }
func (Note) Kind() string           { return "note" }
func (Warning) Kind() string        { return "warning" }
func (UndoRegistered) Kind() string { return "undo_registered" }
func (UndoDone) Kind() string       { return "undo_done" }
func (BlockPlanned) Kind() string   { return "block_planned" }
func (NodeStarted) Kind() string    { return "node_started" }
func (NodeDone) Kind() string       { return "node_done" }
func (Paused) Kind() string         { return "paused" }
func (Continued) Kind() string      { return "continued" }
func (Interrupted) Kind() string    { return "interrupted" }
func (RunDone) Kind() string        { return "run_done" }

// Status is how something ended.
type Status string

// The statuses. Cancelled is not failed, and never exits 0.
const (
	OK          Status = "ok"
	Changed     Status = "changed"
	Failed      Status = "failed"
	Refused     Status = "refused"
	Unreachable Status = "unreachable"
	Skipped     Status = "skipped"
	Deferred    Status = "deferred"
	Cancelled   Status = "cancelled"
	NotRun      Status = "not_run"
)

// Summary says exactly what was and was not done.
type Summary struct {
	// Steps are the tasks in the runbook's order.
	Steps []StepSummary `json:"steps"`
	// Left are temporary changes that are still in place.
	Left []module.Undo `json:"left,omitempty"`
}

// StepSummary is one task.
type StepSummary struct {
	Step   string        `json:"step"`
	Module string        `json:"module"`
	Status Status        `json:"status"`
	Reason string        `json:"reason,omitempty"`
	Hosts  []HostSummary `json:"hosts"`
}

// HostSummary is one task on one host.
type HostSummary struct {
	Host    string   `json:"host"`
	Status  Status   `json:"status"`
	Done    []string `json:"done,omitempty"`     // summaries of the changes made
	NotDone []string `json:"not_done,omitempty"` // summaries of those that were planned and not made
	Error   string   `json:"error,omitempty"`
}
