package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/transport"
)

// Exit codes. Help texts, docs and the classification below all read this one table.
const (
	exitOK          = engine.ExitDone
	exitFailed      = engine.ExitFailed
	exitChanges     = engine.ExitChanges
	exitInvalid     = engine.ExitInvalid
	exitUnreachable = engine.ExitUnreachable
	exitPartly      = engine.ExitPartly
	exitRefused     = engine.ExitRefused
	exitLeft        = engine.ExitLeft
	exitInterrupted = engine.ExitInterrupted
)

// exitCodes says what each code means.
var exitCodes = []struct {
	code int
	text string
}{
	{exitOK, "done, or nothing to do"},
	{exitFailed, "failed; no change was completed"},
	{exitChanges, "the plan has changes"},
	{exitInvalid, "invalid files or arguments; nothing was contacted"},
	{exitUnreachable, "a host could not be reached; nothing was changed"},
	{exitPartly, "partly done: something was changed before the run stopped"},
	{exitRefused, "refused by a gate: going on would not be safe, or cannot be proved to be"},
	{exitLeft, "it works, and a node is out of service or a temporary change is in place"},
	{exitInterrupted, "interrupted"},
}

// exitMeaning is what a code means, for when nothing better can be said.
func exitMeaning(code int) string {
	for _, known := range exitCodes {
		if known.code == code {
			return known.text
		}
	}
	return fmt.Sprintf("exit %d", code)
}

// exitHelp is the section of a help text that lists the codes of a command.
func exitHelp(codes ...int) string {
	var b strings.Builder
	b.WriteString("Exit status:\n")
	for _, known := range exitCodes {
		for _, code := range codes {
			if code == known.code {
				fmt.Fprintf(&b, "  %-4d %s\n", known.code, known.text)
			}
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// exitError is an error that knows its exit code. With a nil cause everything has been said already.
type exitError struct {
	code  int
	cause error
}

func (e *exitError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.cause.Error()
}

// Unwrap gives the cause.
func (e *exitError) Unwrap() error { return e.cause }

// exitWith ends the command with a code and says nothing more.
func exitWith(code int) error {
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}

// invalid is an error in what the user gave.
func invalid(format string, args ...any) error {
	return &exitError{exitInvalid, fmt.Errorf(format, args...)}
}

// diagnosticsError is a list of problems in files. It is printed with excerpts.
type diagnosticsError struct{ list diag.List }

func (e *diagnosticsError) Error() string { return e.list.Error() }

// exitCode classifies an error.
func exitCode(err error) int {
	var (
		exit        *exitError
		diagnostics *diagnosticsError
		unreachable *transport.UnreachableError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &diagnostics):
		return exitInvalid
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.As(err, &unreachable):
		return exitUnreachable
	default:
		return engine.ExitCode(event.Summary{}, err)
	}
}
