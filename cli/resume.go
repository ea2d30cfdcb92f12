package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/journal"
	"github.com/spf13/cobra"
)

// resumeOptions are the flags of resume.
type resumeOptions struct {
	applyOptions
	run string
}

func newResumeCommand(a *app) *cobra.Command {
	var o resumeOptions
	cmd := &cobra.Command{
		Use: "resume [RUN]", Short: "Go on with a run that was interrupted or failed", GroupID: groupRun,
		Long: long(`Goes on with a run: with RUN (an id or the beginning or end of one), else with the last one that did not end well. One that was
given up before its first task counts only by its id: there is nothing of it to go on with.

What was to be done comes from the journal, how things are from the hosts: what is done already is not planned again. Works after an
interrupt, a failure, a crash and kill -9. The plan is shown and asked about as with apply.

Values of sensitive variables are not in the journal: give them again with --var, --var-file or the environment.`,
			exitOK, exitFailed, exitUnreachable, exitPartly, exitRefused, exitInterrupted),
		Args: checked(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.run = args[0]
			}
			return runResume(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	o.site.flags(f)
	f.BoolVar(&o.autoApprove, "auto-approve", false, "go on without asking")
	f.IntVar(&o.parallelism, "parallelism", 32, "how many hosts are worked on at once")
	return cmd
}

func runResume(ctx context.Context, a *app, o resumeOptions) (err error) {
	if !o.autoApprove && (!a.InTerminal || a.global.json) {
		return invalid("resume changes hosts, and nobody is there to be asked.\nSay --auto-approve")
	}
	ctx, signals, stop := twoStage(ctx, a.Streams)
	defer stop()
	store, err := a.store()
	if err != nil {
		return err
	}
	id, err := chooseRun(store, o.run)
	if err != nil {
		return err
	}
	run, record, err := store.Resume(id)
	if err != nil {
		return recordError(err)
	}
	owned := true // until the bus owns the journal
	defer func() {
		if owned {
			err = errors.Join(err, run.Close())
		}
	}()
	if record.Meta.Command == "release" {
		return invalid("run %s took temporary changes back; what is left of them: pxrun release", id)
	}
	o.recall(record.Meta)
	s, err := a.prepare(ctx, o.runOptions)
	if err != nil {
		return err
	}
	defer func() { err = closing(s, err) }()
	if s.options.network.lab && !a.labRuns(ctx, s.doc) {
		return invalid("run %s was made in a lab that no longer runs; there is nothing left to go on with", id)
	}
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := s.record(run, &record.History, engine.Config{Command: "resume"}, signals); err != nil {
		return err
	}
	owned = false
	if err := s.perform(ctx, run, o.applyOptions); err != nil {
		return err
	}
	if len(record.History.Unknown) > 0 { // else nothing was cut off
		s.clearOwnJobs(ctx, run.ID())
	}
	return nil
}

// recall takes the invocation from the journal. What is given on the command line comes after it and wins.
func (o *resumeOptions) recall(m journal.Meta) {
	o.runbook, o.limit, o.tags, o.skipTags = m.Runbook, m.Limit, m.Tags, m.SkipTags
	o.site.paths = m.Files
	o.site.args = m.Arguments
	o.site.varFiles = append(slices.Clone(m.VarFiles), o.site.varFiles...)
	var vars []string
	for _, name := range slices.Sorted(maps.Keys(m.Vars)) {
		vars = append(vars, name+"="+m.Vars[name])
	}
	o.site.vars = append(vars, o.site.vars...)
	o.network.lab = m.Lab
}

// chooseRun finds the run that a word means; without one, the one that is unfinished.
func chooseRun(store *journal.Store, word string) (string, error) {
	if word != "" {
		id, err := store.Find(word)
		return id, recordError(err)
	}
	runs, err := store.List()
	if err != nil {
		return "", err
	}
	runs = slices.DeleteFunc(runs, func(r journal.Info) bool { return r.Command == "release" }) // release takes up where it ended
	if r, ok := unfinished(runs); ok {
		return r.ID, nil
	}
	return "", nothingToResume(runs)
}

// unfinished finds the run to go on with: the newest that did not end well. A run that failed before it changed
// anything gives way to one before it that was cut off or changed something, unless a run has ended well since. One
// that was given up before its first task has left nothing to go on with.
func unfinished(runs []journal.Info) (journal.Info, bool) {
	var first *journal.Info
	for i, r := range runs {
		cutOff := r.State == journal.Interrupted
		over := r.State == journal.Over && r.Ended != nil
		if over && wentWell(r.Ended.Status) && first != nil {
			break
		}
		if !cutOff && (!over || wentWell(r.Ended.Status) || givenUp(r)) {
			continue
		}
		if cutOff || r.Ended.Changes > 0 {
			return r, true
		}
		if first == nil {
			first = &runs[i]
		}
	}
	if first == nil {
		return journal.Info{}, false
	}
	return *first, true
}

// givenUp tells a run that ended before its first task: refused, not approved, or not to be planned.
func givenUp(r journal.Info) bool {
	return r.State == journal.Over && r.Ended != nil && !wentWell(r.Ended.Status) && !r.Ended.Began && r.Ended.Changes == 0
}

// nothingToResume names the newest runs that were passed over, since one of them may be meant.
func nothingToResume(runs []journal.Info) error {
	const most = 3
	var text strings.Builder
	n, newest := 0, ""
	for _, r := range runs {
		if !givenUp(r) {
			continue
		}
		if n++; n == 1 {
			newest = r.ID
		}
		if n <= most {
			fmt.Fprintf(&text, "\n  %s  %s  %s  %s", r.ID, r.Created.Local().Format(time.DateTime), r.Runbook, r.Status())
		}
	}
	switch {
	case n == 0:
		return invalid("there is no run to go on with; every run has ended well.\nSee: pxrun runs")
	case n > most:
		fmt.Fprintf(&text, "\n  and %d more", n-most)
	}
	return invalid("there is no run to go on with: these were given up before their first task, so nothing of them was done:%s\n"+
		"Apply again, or name one: pxrun resume %s", text.String(), newest)
}

func wentWell(s event.Status) bool { return s == event.OK || s == event.Changed || s == event.Skipped }

// recordError gives errors about runs their exit codes.
func recordError(err error) error {
	var missing *journal.NotFoundError
	var busy *journal.BusyError
	switch {
	case errors.As(err, &missing):
		return &exitError{exitInvalid, err}
	case errors.As(err, &busy):
		return &exitError{exitRefused, fmt.Errorf("%w\nSee: pxrun runs", err)}
	default:
		return err
	}
}
