package cli

import (
	"context"
	"io"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/spf13/cobra"
)

// planOptions are the flags of plan.
type planOptions struct {
	runOptions
	out      string
	detailed bool
}

func newPlanCommand(a *app) *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use: "plan [RUNBOOK] [PATH...]", Short: "Show what a runbook would change", GroupID: groupRun,
		Long: long(`Connects to the hosts, reads, and shows what would be changed. Nothing is written: the connections refuse to. A PATH is a file or
a folder of the site; without one, those of -i are read, else the current folder. RUNBOOK names a runbook when the files hold more
than one.

  pxrun plan site.hcl
  pxrun plan site.hcl --out site.plan && pxrun apply site.plan
  pxrun plan rolling -i site.hcl --limit 'pve1,pve2'`, exitOK, exitFailed, exitChanges, exitUnreachable, exitRefused, exitInterrupted),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.arguments(a, args); err != nil {
				return err
			}
			return runPlan(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	o.flags(f)
	f.StringVarP(&o.out, "out", "o", "", "save the plan to this `FILE`, for apply")
	f.BoolVar(&o.detailed, "detailed-exitcode", false, "exit 2 when there is something to do")
	return cmd
}

func runPlan(ctx context.Context, a *app, o planOptions) (err error) {
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
	sink, terminal := a.sink(nil)
	s.terminal = terminal
	bus := event.NewBus(event.BusConfig{Now: a.Now, Redact: a.secrets.Redact, Sinks: []event.Sink{sink}})
	if err := s.start(engine.Config{Command: "plan"}, bus, signals); err != nil {
		return err
	}
	plan, err := s.plan(ctx)
	if err != nil {
		return err
	}
	if err := s.showPlan(plan); err != nil {
		return err
	}
	if o.out != "" {
		if err := s.savePlan(plan, o.out); err != nil {
			return err
		}
	}
	return exitWith(plan.ExitCode(o.detailed))
}

// closing ends a session and keeps the first error.
func closing(s *session, err error) error {
	if failed := s.Close(); err == nil && failed != nil {
		return failed
	}
	return err
}

// plan makes the plan and tells problems of the runbook's expressions.
func (s *session) plan(ctx context.Context) (*engine.Plan, error) {
	s.signals.engine(true)
	plan, problems := s.engine.Plan(ctx, s.book)
	s.signals.engine(false)
	cut := func(p *hcl.Diagnostic) bool { return p.Summary == "Interrupted" }
	if ctx.Err() != nil || plan == nil && slices.ContainsFunc(problems, cut) {
		return nil, exitWith(exitInterrupted) // the report has said so
	}
	if err := s.aside(func() error { return s.app.tell(problems) }); err != nil {
		return nil, err
	}
	return plan, nil
}

// showPlan writes the plan for people. Programs have read it in the events.
func (s *session) showPlan(plan *engine.Plan) error {
	a := s.app
	if a.global.json || a.global.quiet && plan.Blocked() == nil || s.recorded && plan.Empty() {
		return nil // the summary of a run that has nothing to do says so
	}
	return s.aside(func() error {
		redacting := a.secrets.Writer(a.Out)
		if err := report.Plan(redacting, plan, a.look()); err != nil {
			return err
		}
		return redacting.Close()
	})
}

var _ io.Closer = (*session)(nil)
