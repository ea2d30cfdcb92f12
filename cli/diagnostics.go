package cli

import (
	"io"
	"os"
	"strings"

	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/runbooks"
)

// tell shows problems found in files: with excerpts on standard error, or as JSON on standard output. It returns an
// error if one of them is an error.
func (a *app) tell(problems diag.List) error {
	if len(problems) == 0 {
		return nil
	}
	for _, p := range problems {
		p.Summary, p.Detail = a.secrets.Redact(p.Summary), a.secrets.Redact(p.Detail)
	}
	if a.global.json {
		for _, o := range report.DiagnosticObjects(problems) {
			if err := report.WriteObject(a.Out, o); err != nil {
				return err
			}
		}
	} else {
		var text strings.Builder
		if err := report.Diagnostics(&text, problems, a.source, a.lookOn(a.ErrTerminal)); err != nil {
			return err
		}
		if _, err := io.WriteString(a.Err, a.secrets.Redact(text.String())); err != nil {
			return err
		}
	}
	if problems.HasErrors() {
		return &diagnosticsError{problems}
	}
	return nil
}

// source reads a file for the excerpt of a problem, in the form that its place counts in.
func (a *app) source(file string) []byte {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	return runbooks.Normalize(text)
}
