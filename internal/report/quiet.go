package report

import (
	"context"
	"io"
	"strings"

	"github.com/pxrun/pxrun/engine/event"
)

// quietSink writes nothing but warnings, and the problems and summary of a run that did not end well.
type quietSink struct {
	w io.Writer
	t transcript
}

// NewQuiet makes the sink for -q.
func NewQuiet(w io.Writer, o Options) event.Sink {
	o.Level = Quiet
	return &quietSink{w, transcript{o, newTracker()}}
}

// Handle writes what cannot be left out.
func (q *quietSink) Handle(_ context.Context, e event.Event) error {
	s := q.t.see(e)
	var lines []string
	switch b := e.Body.(type) {
	case event.Warning, event.Interrupted, event.Paused:
		lines = q.t.lines(e, s)
	case event.UndoDone:
		if b.Error != "" {
			lines = q.t.lines(e, s)
		}
	case event.StepDone:
		if s != nil && !s.planning && len(s.problems) > 0 {
			lines = q.t.lines(e, s)
		}
	case event.RunDone:
		if b.Status != event.OK && b.Status != event.Changed {
			lines = q.t.lines(e, s)
		}
	}
	return writeLines(q.w, lines)
}

// Close does nothing.
func (q *quietSink) Close() error { return nil }

func writeLines(w io.Writer, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}
