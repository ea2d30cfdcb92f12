package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/journal"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/sourcegraph/conc"
	"github.com/spf13/cobra"
)

func newApproveCommand(a *app) *cobra.Command {
	var reject bool
	cmd := &cobra.Command{
		Use: "approve [RUN]", Short: "Let a run go on that waits for an approval", GroupID: groupRun,
		Long: long(`Lets a run go on that waits before a host: a rolling block with pause = "before_node" or "after_first". RUN is an id or the
beginning or end of one; the default is the run that waits. Who approved is written into its journal.

  pxrun approve
  pxrun approve 01K9 --reject`, exitOK, exitInvalid),
		Args: checked(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			word := ""
			if len(args) == 1 {
				word = args[0]
			}
			return runApprove(a, word, !reject)
		},
	}
	cmd.Flags().BoolVar(&reject, "reject", false, "end the run there instead: what was done stays, the rest is not begun")
	return cmd
}

func runApprove(a *app, word string, yes bool) error {
	store, err := a.store()
	if err != nil {
		return err
	}
	id, err := waitingRun(store, word)
	if err != nil {
		return err
	}
	q, err := store.Answer(id, yes, a.controller())
	if none, ok := errors.AsType[*journal.NoQuestionError](err); ok {
		return invalid("%w", none)
	}
	if err != nil {
		return err
	}
	if a.global.json {
		return report.WriteObject(a.Out, struct {
			Type string `json:"type"`
			journal.Question
			Run string `json:"run"`
			Yes bool   `json:"yes"`
		}{"approval", q, id, yes})
	}
	verdict := "goes on"
	if !yes {
		verdict = "ends"
	}
	_, err = fmt.Fprintf(a.Out, "Run %s %s before %s.\n", id, verdict, q.Host)
	return err
}

// waitingRun finds the run that a word means; without one, the only one that waits.
func waitingRun(store *journal.Store, word string) (string, error) {
	if word != "" {
		id, err := store.Find(word)
		return id, recordError(err)
	}
	runs, err := store.List()
	if err != nil {
		return "", err
	}
	var waiting []string
	for _, r := range runs {
		if _, waits := store.Waiting(r.ID); waits {
			waiting = append(waiting, r.ID)
		}
	}
	switch len(waiting) {
	case 0:
		return "", invalid("no run waits for an approval\nSee: pxrun runs")
	case 1:
		return waiting[0], nil
	}
	return "", invalid("%d runs wait; name one: %s", len(waiting), list(waiting))
}

// consent waits until somebody lets the run go on: at its own terminal, or by `pxrun approve`.
func (s *session) consent(run *journal.Run) func(context.Context, engine.PausePoint) (string, error) {
	return func(ctx context.Context, p engine.PausePoint) (string, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		type reply struct {
			answer journal.Answer
			err    error
		}
		replies := make(chan reply, 2)
		var asking conc.WaitGroup
		defer asking.Wait()
		defer cancel()
		asking.Go(func() {
			q := journal.Question{Number: p.Number, PID: os.Getpid(), Block: p.Block, Host: p.Host, Since: s.app.Now()}
			answer, err := run.Ask(ctx, q, engine.SystemClock().Sleep)
			replies <- reply{answer, err}
		})
		if s.app.InTerminal && !s.app.global.json {
			asking.Go(func() {
				err := s.aside(func() error {
					yes, err := s.app.confirm(ctx, fmt.Sprintf("Begin with %s? (or elsewhere: pxrun approve)", p.Host))
					replies <- reply{journal.Answer{Yes: yes, By: s.app.controller()}, err}
					return nil
				})
				if err != nil {
					replies <- reply{err: err}
				}
			})
		}
		got := <-replies
		switch {
		case got.err != nil:
			return "", got.err
		case !got.answer.Yes:
			return "", fmt.Errorf("%s said no", got.answer.By)
		}
		return got.answer.By, nil
	}
}
