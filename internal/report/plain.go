package report

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/pxrun/pxrun/engine/event"
)

// longChange is how long a change must have taken for its end to get a line.
const longChange = time.Second

// plainSink writes one line for each thing that happens, with the task and the host in front: for CI logs and files,
// where nothing can be drawn over and grep is the reader.
type plainSink struct {
	w io.Writer
	t transcript
}

// NewPlain makes the sink for output that is no terminal.
func NewPlain(w io.Writer, o Options) event.Sink {
	o.Width = 0
	return &plainSink{w, transcript{o, newTracker()}}
}

// Handle writes an event's lines at once.
func (p *plainSink) Handle(_ context.Context, e event.Event) error {
	s := p.t.see(e)
	return writeLines(p.w, p.lines(e, s))
}

// Close does nothing: every line has been written.
func (p *plainSink) Close() error { return nil }

func (p *plainSink) lines(e event.Event, s *stepState) []string {
	if s != nil && s.planning {
		return p.planning(e)
	}
	at := stepName(e.Step, p.t.start.Runbook)
	if e.Host != "" {
		at += ": " + e.Host
	}
	switch b := e.Body.(type) {
	case event.StepStarted:
		return append(p.t.opening(b), fmt.Sprintf("%s: %s on %s", at, b.Module, hostList(b.Hosts, 5)))
	case event.StepPlanned:
		if b.Skipped != "" {
			return []string{at + ": skipped: " + Clean(b.Skipped)}
		}
		return nil
	case event.ChangeStarted:
		return []string{at + ": " + Clean(b.Change.Summary)}
	case event.ChangeDone:
		if b.Error == "" && (p.t.Level >= Verbose || b.Duration >= longChange) {
			return []string{fmt.Sprintf("%s: done in %s", at, Duration(b.Duration))}
		}
		return nil // the host's end tells the error
	case event.HostDone:
		return p.host(at, b)
	case event.StepDone:
		return []string{fmt.Sprintf("%s: %s (%s)", at, statusWord(b.Status), Duration(b.Duration))}
	case event.Output:
		if p.t.Level >= Verbose {
			return []string{at + " | " + Clean(b.Line)}
		}
		return nil
	default:
		return p.t.lines(e, s)
	}
}

// planning is quiet: the plan is shown when it is complete.
func (p *plainSink) planning(e event.Event) []string {
	switch e.Body.(type) {
	case event.Warning, event.Note, event.CommandRan:
		return p.t.lines(e, nil)
	default:
		return nil
	}
}

func (p *plainSink) host(at string, b event.HostDone) []string {
	if b.Error != "" {
		lines := wrap(Clean(b.Error), 0)
		for i, line := range lines {
			if i == 0 {
				lines[i] = fmt.Sprintf("%s: %s: %s", at, statusWord(b.Status), line)
				continue
			}
			lines[i] = "    " + line
		}
		return lines
	}
	if p.t.Level < Verbose && (b.Status == event.OK || b.Status == event.Changed || b.Status == event.Skipped) {
		return nil // its changes have been told, and the task's end follows
	}
	return []string{fmt.Sprintf("%s: %s (%s)", at, statusWord(b.Status), Duration(b.Duration))}
}
