package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/journal"
	"github.com/pxrun/pxrun/internal/pve/lease"
	"github.com/spf13/cobra"
)

// applyOptions are the flags of apply.
type applyOptions struct {
	runOptions
	autoApprove bool
	saved       *engine.Plan // what exactly is to be applied; nil for whatever the plan is now
}

func newApplyCommand(a *app) *cobra.Command {
	var o applyOptions
	cmd := &cobra.Command{
		Use: "apply [RUNBOOK] [PATH...] | PLAN", Short: "Make it so", GroupID: groupRun,
		Long: long(`Plans, shows the plan, asks, and applies it. A second run changes nothing. PATH and RUNBOOK are as for plan. PLAN is a file that
"pxrun plan --out" wrote: it is refused when the cluster, the files or the variables have changed since.

Where nobody can be asked, such as in CI, apply needs --auto-approve or a PLAN. The first interrupt (Ctrl-C) finishes what is under
way, takes back what is safe, and stops; the second stops at once. A run that did not end well goes on with "pxrun resume".

  pxrun apply site.hcl
  pxrun apply site.hcl --lab --auto-approve
  pxrun apply rolling -i site.hcl --limit 'pve1,pve2'`, exitOK, exitFailed, exitUnreachable, exitPartly, exitRefused, exitInterrupted),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				done, err := o.fromPlan(a, args[0], cmd)
				if err != nil {
					return err
				}
				if done {
					return runApply(cmd.Context(), a, o)
				}
			}
			if err := o.arguments(a, args); err != nil {
				return err
			}
			return runApply(cmd.Context(), a, o)
		},
	}
	o.flags(cmd.Flags())
	cmd.Flags().BoolVar(&o.autoApprove, "auto-approve", false, "apply without asking")
	return cmd
}

// fromPlan takes the options from a saved plan. It reports false when the file is none.
func (o *applyOptions) fromPlan(a *app, file string, cmd *cobra.Command) (bool, error) {
	saved, plan, ok, err := a.openSavedPlan(file)
	if !ok || err != nil {
		return ok, err
	}
	for _, flag := range []string{"limit", "tags", "skip-tags"} {
		if cmd.Flags().Changed(flag) {
			return true, invalid("--%s is part of the saved plan and cannot be given with it", flag)
		}
	}
	o.saved, o.autoApprove, o.runbook = plan, true, plan.Runbook
	o.site.paths, o.limit, o.tags, o.skipTags = saved.Paths, saved.Limit, saved.Tags, saved.SkipTags
	o.site.varFiles = append(saved.VarFiles, o.site.varFiles...)
	o.site.vars = append(saved.Vars, o.site.vars...)
	o.network.lab = o.network.lab || saved.Lab
	a.global.inventory = nil
	return true, nil
}

func runApply(ctx context.Context, a *app, o applyOptions) (err error) {
	if !o.autoApprove && (!a.InTerminal || a.global.json) {
		return invalid("apply changes hosts, and nobody is there to be asked.\nSay --auto-approve, or apply a plan that was made with: pxrun plan --out FILE")
	}
	ctx, signals, stop := twoStage(ctx, a.Streams)
	defer stop()
	s, err := a.prepare(ctx, o.runOptions)
	if err != nil {
		return err
	}
	defer func() { err = closing(s, err) }()
	if err := s.connect(ctx); err != nil {
		return err
	}
	store, err := a.store()
	if err != nil {
		return err
	}
	meta, err := s.meta()
	if err != nil {
		return err
	}
	run, err := store.Create(meta)
	if err != nil {
		return err
	}
	if err := s.record(run, nil, engine.Config{Command: "apply"}, signals); err != nil {
		return errors.Join(err, run.Close())
	}
	return s.perform(ctx, run, o)
}

// meta is what resume needs to know of this invocation.
func (s *session) meta() (journal.Meta, error) {
	files, err := absolute(s.options.site.files(s.app))
	if err != nil {
		return journal.Meta{}, err
	}
	varFiles, err := absolute(s.options.site.varFiles)
	if err != nil {
		return journal.Meta{}, err
	}
	folder, err := os.Getwd()
	if err != nil {
		folder = ""
	}
	m := journal.Meta{
		Command: "apply", Files: files, Folder: folder, Runbook: s.book.Name, VarFiles: varFiles, Limit: s.options.limit, Tags: s.options.tags,
		SkipTags: s.options.skipTags, Arguments: s.options.site.args, Version: buildInfo().Version, Controller: s.app.controller(), Lab: s.options.network.lab, Vars: map[string]string{},
	}
	if s.book.Cluster != nil {
		m.Cluster = s.book.Cluster.Name
	}
	for _, v := range s.options.site.vars {
		if name, value, _ := strings.Cut(v, "="); !sensitive(s.doc, strings.TrimSpace(name)) {
			m.Vars[strings.TrimSpace(name)] = value
		}
	}
	return m, nil
}

// leftBefore are the temporary changes that other runs of the same cluster have left in place: a task that takes one back for good
// crosses it off. Runs that share no file with this one may be about other machines of the same names.
func (s *session) leftBefore(run *journal.Run) []event.Pending {
	store, err := s.app.store()
	if err != nil {
		return nil
	}
	pending, err := store.Pending()
	if err != nil || len(pending) == 0 {
		return nil
	}
	runs, err := store.List()
	if err != nil {
		return nil
	}
	mine := run.Meta()
	same := map[string]bool{}
	for _, r := range runs {
		shares := slices.ContainsFunc(r.Files, func(f string) bool { return slices.Contains(mine.Files, f) })
		same[r.ID] = r.ID != mine.ID && shares && r.Cluster == mine.Cluster && r.Lab == mine.Lab
	}
	return slices.DeleteFunc(pending, func(p event.Pending) bool { return !same[p.Run] })
}

// record makes the engine of a run that is written down, that others are kept off, and that can be resumed.
func (s *session) record(run *journal.Run, past *event.History, cfg engine.Config, signals *interrupts) error {
	a := s.app
	sink, terminal := a.sink(func(string) string { return run.Dir() })
	s.terminal, s.recorded = terminal, true
	sinks := []event.Sink{run, sink}
	if told := s.notifier(run); told != nil {
		sinks = append(sinks, told)
	}
	bus := event.NewBus(event.BusConfig{Run: run.ID(), Now: a.Now, Redact: a.secrets.Redact, Sinks: sinks})
	cfg.RunID, cfg.Past, cfg.Keep = run.ID(), past, run.Keep
	cfg.Consent = s.consent(run)
	cfg.Pending = s.leftBefore(run)
	cfg.Locker, cfg.Gone = lease.New(lease.Config{}), a.gone
	cfg.Owner = engine.Owner{Run: run.ID(), Controller: a.controller(), PID: os.Getpid(), Runbook: s.book.Name, Since: a.Now()}
	return s.start(cfg, bus, signals)
}

// perform plans, shows, asks and applies.
func (s *session) perform(ctx context.Context, run *journal.Run, o applyOptions) error {
	plan, err := s.plan(ctx)
	if err != nil {
		s.engine.Abandon(ctx, "it could not be planned")
		return err
	}
	if err := s.showPlan(plan); err != nil {
		return err
	}
	if o.saved != nil {
		if err := o.saved.Same(plan); err != nil {
			s.engine.Abandon(ctx, "the saved plan is stale")
			return &exitError{exitRefused, err}
		}
	}
	if err := s.agree(ctx, plan, o.autoApprove); err != nil {
		s.engine.Abandon(ctx, "the plan was not approved")
		return err
	}
	if err := run.SavePlan(func(w io.Writer) error { return plan.Save(w, s.app.redaction()) }); err != nil {
		s.engine.Abandon(ctx, "the plan could not be recorded")
		return err
	}
	s.signals.engine(true)
	summary, err := s.engine.Apply(ctx, s.book, plan)
	code := engine.ExitCode(summary, err)
	if err != nil && unexplained(err) {
		return &exitError{code, err}
	}
	return exitWith(code)
}

// unexplained reports whether an error says more than the plan and the summary have shown.
func unexplained(err error) bool {
	var blocked *engine.BlockedError
	var run *engine.RunError
	return !errors.As(err, &blocked) && !errors.As(err, &run) && !errors.Is(err, engine.ErrInterrupted)
}

// agree asks whether the plan is to be applied. Nobody is asked about nothing, or about a plan that cannot be.
func (s *session) agree(ctx context.Context, plan *engine.Plan, approved bool) error {
	if approved || plan.Empty() || plan.Blocked() != nil {
		return nil
	}
	return s.aside(func() error {
		yes, err := s.app.confirm(ctx, "\nApply this plan?")
		if err != nil {
			return err
		}
		if !yes {
			_, _ = fmt.Fprintln(s.app.Err, "Not applied; nothing was changed.")
			return exitWith(exitFailed)
		}
		return nil
	})
}

// store is the state folder's collection of runs.
func (a *app) store() (*journal.Store, error) {
	dir, err := a.stateDir()
	if err != nil {
		return nil, err
	}
	return &journal.Store{Dir: dir, Now: a.Now}, nil
}
