package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"al.essio.dev/pkg/shellescape"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/lab"
	"github.com/spf13/cobra"
)

func newLabFaultCommand(a *app, site *siteOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use: "fault", Short: "Break the lab",
		Long: long(`Makes things go wrong in a running lab, now or when something happens. "pxrun lab fault list" tells what can be broken.`, exitOK),
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFaultAddCommand(a, site), newFaultListCommand(a, site), newFaultClearCommand(a, site))
	return cmd
}

func newFaultAddCommand(a *app, site *siteOptions) *cobra.Command {
	var f lab.Fault
	cmd := &cobra.Command{
		Use: "add KIND [HOST]", Short: "Plan a fault, or make it happen now",
		Long: long(`Makes a fault happen at once, or, with --match, --phase or --after, when that comes. HOST is the machine; some kinds need none.

  pxrun lab fault add -i site.hcl power-off pve3
  pxrun lab fault add -i site.hcl lie pve2 --match 'pvecm add' --value 'Unable to join'
  pxrun lab fault add -i site.hcl cut-ssh pve2 --match 'pvecm add'`, exitOK),
		Args: checked(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.Kind = args[0]
			if len(args) == 2 {
				f.Target = args[1]
			}
			return runFaultAdd(cmd.Context(), a, *site, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Value, "value", "", "how much, or what: see the list of kinds")
	flags.StringVar(&f.Match, "match", "", "happen when a program starts whose command line matches this regular `EXPRESSION`")
	flags.StringVar(&f.Phase, "phase", "", "happen at this point inside a long program, such as join:added")
	flags.IntVar(&f.Nth, "nth", 0, "happen at the n-th matching call")
	flags.BoolVar(&f.Every, "every", false, "happen at each matching call")
	flags.DurationVar(&f.After, "after", 0, "happen so much model time later")
	return cmd
}

func runFaultAdd(ctx context.Context, a *app, site siteOptions, f lab.Fault) error {
	if err := a.checkFault(f); err != nil {
		return err
	}
	_, access, err := a.openLab(ctx, site, nil)
	if err != nil {
		return err
	}
	answer, err := access.Ask(ctx, lab.Request{Op: "fault-add", Fault: f})
	if err != nil {
		return &exitError{exitInvalid, err}
	}
	if a.global.quiet {
		return nil
	}
	_, err = fmt.Fprintf(a.Out, "fault %d\n", answer.ID)
	return err
}

// checkFault explains what is easily mistaken; the lab checks the rest.
func (a *app) checkFault(f lab.Fault) error {
	var kinds []string
	for _, k := range lab.FaultKinds() {
		kinds = append(kinds, k.Name)
	}
	switch {
	case !slices.Contains(kinds, f.Kind):
		return invalid("there is no fault %q.%s\nSee: pxrun lab fault list", f.Kind, diag.DidYouMean(f.Kind, kinds))
	case f.Kind == "partition" && f.Value == "":
		groups := f.Target
		if !strings.Contains(groups, "|") {
			groups = "pve1,pve2|pve3"
		}
		files := ""
		for _, p := range a.global.inventory {
			files += " -i " + shellescape.Quote(p)
		}
		return invalid("partition takes groups of hosts with | between them as its value\nWrite: pxrun lab fault add%s partition --value %s", files, shellescape.Quote(groups))
	}
	return nil
}

func newFaultListCommand(a *app, site *siteOptions) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List planned faults and the kinds there are",
		Long: long("Lists the faults of the running lab, if one runs, and the kinds of faults there are.", exitOK),
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runFaultList(cmd.Context(), a, *site) },
	}
}

func runFaultList(ctx context.Context, a *app, site siteOptions) error {
	var faults []lab.Fault
	if len(site.files(a)) > 0 && len(a.global.inventory) > 0 {
		_, access, err := a.openLab(ctx, site, nil)
		if err != nil {
			return err
		}
		answer, err := access.Ask(ctx, lab.Request{Op: "fault-list"})
		if err != nil {
			return err
		}
		faults = answer.Faults
	}
	if a.global.json {
		for _, f := range faults {
			if err := report.WriteObject(a.Out, struct {
				Type string `json:"type"`
				lab.Fault
			}{"fault", f}); err != nil {
				return err
			}
		}
		return nil
	}
	for _, f := range faults {
		if _, err := fmt.Fprintf(a.Out, "fault %s\n", f); err != nil {
			return err
		}
	}
	var rows [][]string
	for _, k := range lab.FaultKinds() {
		rows = append(rows, []string{k.Name, k.Summary, k.Value})
	}
	return report.Table(a.Out, []string{"kind", "what happens", "value"}, rows, a.look())
}

func newFaultClearCommand(a *app, site *siteOptions) *cobra.Command {
	return &cobra.Command{
		Use: "clear [ID]", Short: "Take faults away",
		Long: long("Takes a fault away and undoes what of it can be undone; without ID all of them.", exitOK),
		Args: checked(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := 0
			if len(args) == 1 {
				var err error
				if id, err = strconv.Atoi(args[0]); err != nil || id < 1 {
					return invalid("%q is not the number of a fault", args[0])
				}
			}
			_, access, err := a.openLab(cmd.Context(), *site, nil)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			if _, err := access.Ask(ctx, lab.Request{Op: "fault-clear", Fault: lab.Fault{ID: id}}); err != nil {
				return &exitError{exitInvalid, err}
			}
			return nil
		},
	}
}
