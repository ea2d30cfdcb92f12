package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/journal"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/spf13/cobra"
)

func newRunsCommand(a *app) *cobra.Command {
	var most int
	cmd := &cobra.Command{
		Use: "runs", Short: "List runs, or tell one again", GroupID: groupLook,
		Long: long(`Lists the runs that the state folder records, the newest first. "pxrun runs show RUN" tells one again.`, exitOK),
		Args: checked(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return runRunsList(a, most) },
	}
	list := &cobra.Command{
		Use: "list", Short: "List runs",
		Long: long("Lists the runs that the state folder records, the newest first.", exitOK),
		Args: checked(cobra.NoArgs),
		RunE: cmd.RunE,
	}
	show := &cobra.Command{
		Use: "show [RUN]", Short: "Tell a run again",
		Long: long(`Tells a run again from its journal: what was changed, what failed, what was left. RUN is an id or the beginning or end of one; the
default is the last. With --json it writes the run's events. What commands printed is in the run's folder, one log for each host.`, exitOK),
		Args: checked(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			word := "last"
			if len(args) == 1 {
				word = args[0]
			}
			return runRunsShow(cmd.Context(), a, word)
		},
	}
	cmd.PersistentFlags().IntVar(&most, "limit", 20, "how many runs are listed; 0 for all")
	cmd.AddCommand(list, show)
	return cmd
}

// runObject is a run in the JSON form of the list.
type runObject struct {
	Type string `json:"type"`
	journal.Info
	Status string `json:"status"`
}

func runRunsList(a *app, most int) error {
	store, err := a.store()
	if err != nil {
		return err
	}
	runs, err := store.List()
	if err != nil {
		return err
	}
	if most > 0 && len(runs) > most {
		runs = runs[:most]
	}
	if a.global.json {
		for _, r := range runs {
			if err := report.WriteObject(a.Out, runObject{"run", r, r.Status()}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(runs) == 0 {
		_, err := fmt.Fprintln(a.Out, "There are no runs yet.")
		return err
	}
	rows := make([][]string, len(runs))
	for i, r := range runs {
		changes, took := "", ""
		if r.Ended != nil {
			changes, took = fmt.Sprint(r.Ended.Changes), report.Duration(r.Ended.Duration)
		}
		rows[i] = []string{r.ID, r.Created.Local().Format(time.DateTime), r.Runbook, r.Cluster, r.Status(), changes, took}
	}
	return report.Table(a.Out, []string{"run", "begun", "runbook", "cluster", "status", "changes", "time"}, rows, a.look())
}

func runRunsShow(ctx context.Context, a *app, word string) error {
	store, err := a.store()
	if err != nil {
		return err
	}
	id, err := store.Find(word)
	if err != nil {
		return recordError(err)
	}
	record, err := store.Load(id)
	if err != nil {
		return err
	}
	var sink event.Sink
	if a.global.json {
		sink = report.NewJSON(a.Out)
	} else {
		sink = report.NewPlain(a.Out, report.Options{Look: a.look(), Level: a.level(), Now: a.Now})
	}
	for _, e := range record.Events {
		if err := sink.Handle(ctx, e); err != nil {
			return err
		}
	}
	if err := sink.Close(); err != nil || a.global.json {
		return err
	}
	return a.aboutRun(record)
}

// aboutRun adds what the events do not tell: that the run's process went away, and damage of the journal.
func (a *app) aboutRun(r *journal.Record) error {
	text := ""
	switch r.State {
	case journal.Running:
		text = "The run is still going on.\n"
	case journal.Interrupted:
		text = fmt.Sprintf("The run was cut off.\n%s", unknownOutcomes(r.History))
		text += "Go on with: pxrun resume " + r.ID + "\n"
	}
	if r.Damaged > 0 {
		text += fmt.Sprintf("%s of the journal could not be read.\n", report.Count(r.Damaged, "line"))
	}
	_, err := fmt.Fprint(a.Out, text)
	return err
}

func unknownOutcomes(h event.History) string {
	text := ""
	for _, u := range h.Unknown {
		text += fmt.Sprintf("  outcome not known: %s: %s\n", u.Change.Host, u.Change.Summary)
	}
	return text
}
