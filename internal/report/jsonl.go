package report

import (
	"context"
	"encoding/json"
	"io"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/diag"
)

// jsonSink writes every event as one JSON object a line: see docs/events.md.
type jsonSink struct{ w io.Writer }

// NewJSON makes the sink for --json.
func NewJSON(w io.Writer) event.Sink { return jsonSink{w} }

// Handle writes the event at once.
func (s jsonSink) Handle(_ context.Context, e event.Event) error { return WriteObject(s.w, e) }

// Close does nothing.
func (jsonSink) Close() error { return nil }

// WriteObject writes one JSON object on a line of its own.
func WriteObject(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// Place is a range of a file in the JSON form of a diagnostic. Lines and columns count from 1.
type Place struct {
	File        string `json:"file"`
	StartLine   int    `json:"start_line"`
	StartColumn int    `json:"start_column"`
	EndLine     int    `json:"end_line"`
	EndColumn   int    `json:"end_column"`
}

// DiagnosticObject is one problem as JSON.
type DiagnosticObject struct {
	Type     string `json:"type"` // diagnostic
	Severity string `json:"severity"`
	Summary  string `json:"summary"`
	Detail   string `json:"detail,omitempty"`
	Place    *Place `json:"place,omitempty"`
}

// DiagnosticObjects makes the JSON form of a list of problems.
func DiagnosticObjects(list diag.List) []DiagnosticObject {
	objects := make([]DiagnosticObject, 0, len(list))
	for _, d := range diag.Sort(list) {
		o := DiagnosticObject{Type: "diagnostic", Severity: "error", Summary: d.Summary, Detail: d.Detail}
		if d.Severity == hcl.DiagWarning {
			o.Severity = "warning"
		}
		if d.Subject != nil {
			o.Place = &Place{d.Subject.Filename, d.Subject.Start.Line, d.Subject.Start.Column, d.Subject.End.Line, d.Subject.End.Column}
		}
		objects = append(objects, o)
	}
	return objects
}
