package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/transport"
)

// BlockedError is a plan that must not be performed: a host cannot be reached, a gate said no, or a module failed.
// Nothing was touched.
type BlockedError struct {
	Status   event.Status // the worst
	Failures []string
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("the plan has %s and was not performed; nothing was changed:\n  %s", plural(len(e.Failures), "problem"), strings.Join(e.Failures, "\n  "))
}

// StaleError is a plan, or one of its changes, that no longer fits the cluster.
type StaleError struct{ Differences []string }

func (e *StaleError) Error() string {
	return "the plan is stale, plan again: " + strings.Join(e.Differences, "; ")
}

// HoldError is a change that was made and did not hold: the plan made after it still has something to do.
type HoldError struct{ Module, Summary, Why string }

func (e *HoldError) Error() string { return fmt.Sprintf("did not hold: %s: %s", e.Summary, e.Why) }

// RunError is a run that did not do everything. The summary of the run tells what it did.
type RunError struct {
	Status event.Status
	Reason string
}

func (e *RunError) Error() string { return e.Reason }

// ErrInterrupted is why things stop after an interrupt of the user.
var ErrInterrupted = errors.New("interrupted")

// Exit codes of pxrun.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitChanges     = 2
	ExitInvalid     = 3
	ExitUnreachable = 4
	ExitPartly      = 5
	ExitRefused     = 6
	ExitLeft        = 7
	ExitInterrupted = 130
)

// ExitCode is the exit status for the end of a run, from what Apply or Plan.Blocked returned.
func ExitCode(s event.Summary, err error) int {
	status, done := event.Skipped, false
	for _, step := range s.Steps {
		status = worse(status, step.Status)
		for _, h := range step.Hosts {
			status = worse(status, h.Status)
			done = done || len(h.Done) > 0
		}
	}
	code := statusExit(status, err)
	if done && (code == ExitFailed || code == ExitUnreachable || code == ExitRefused) {
		return ExitPartly
	}
	return code
}

func statusExit(status event.Status, err error) int {
	if run, ok := errors.AsType[*RunError](err); ok {
		status = worse(status, run.Status)
		if run.Status == event.Cancelled {
			return ExitInterrupted
		}
	}
	if blocked, ok := errors.AsType[*BlockedError](err); ok {
		status = worse(status, blocked.Status)
	}
	if _, invalid := errors.AsType[diag.List](err); invalid {
		return ExitInvalid
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, ErrInterrupted):
		return ExitInterrupted
	case isRefusal(err):
		return ExitRefused
	case status == event.Unreachable:
		return ExitUnreachable
	case status == event.Refused:
		return ExitRefused
	case status == event.Failed, err != nil:
		return ExitFailed
	default:
		return ExitDone
	}
}

// isRefusal reports whether something that guards the cluster said no.
func isRefusal(err error) bool {
	if _, ok := errors.AsType[*LockedError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*StaleError](err); ok {
		return true
	}
	return refusals(err) != nil
}

// ExitCode is the exit status for a plan: with detailed, a plan that has something to do differs from one that has not.
func (p *Plan) ExitCode(detailed bool) int {
	if err := p.Blocked(); err != nil {
		return ExitCode(event.Summary{}, err)
	}
	if detailed && !p.Empty() {
		return ExitChanges
	}
	return ExitDone
}

// statusOf says how an error ended a task on a host.
func statusOf(err error) event.Status {
	switch {
	case err == nil:
		return event.OK
	case errors.Is(err, ErrInterrupted), errors.Is(err, context.Canceled):
		return event.Cancelled
	case isRefusal(err):
		return event.Refused
	}
	if _, ok := errors.AsType[*transport.UnreachableError](err); ok {
		return event.Unreachable
	}
	return event.Failed
}

// cause replaces a bare "context canceled" by the reason for it.
func cause(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || !(errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return err
	}
	why := context.Cause(ctx)
	if errors.Is(err, why) {
		return err
	}
	return fmt.Errorf("%w (%v)", why, err)
}

// changeError says which change failed.
func changeError(c module.Change, err error) error { return fmt.Errorf("%s: %w", c.Summary, err) }

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
