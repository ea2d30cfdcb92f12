package cli

import (
	"fmt"
	"strings"

	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/runbooks/stock"
	"github.com/spf13/cobra"
)

func newRunbooksCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "runbooks", Short: "List the built-in runbooks, or show one", GroupID: groupLook,
		Long: long(`Lists the runbooks that pxrun brings along. They are written in the same language as your own, with nothing hidden: "pxrun runbooks
show NAME" prints one. Run it by its name, or use it in a task of a runbook of yours.

  pxrun apply rolling_upgrade -i site.hcl`, exitOK),
		Args: checked(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return runRunbooksList(a) },
	}
	list := &cobra.Command{
		Use: "list", Short: "List the built-in runbooks",
		Long: long("Lists the built-in runbooks with one sentence each.", exitOK),
		Args: checked(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return runRunbooksList(a) },
	}
	show := &cobra.Command{
		Use: "show NAME", Short: "Print a built-in runbook",
		Long: long("Prints a built-in runbook as it is run: copy it into your site to change it.", exitOK),
		Args: checked(cobra.ExactArgs(1)),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return stock.Names(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error { return runRunbooksShow(a, args[0]) },
	}
	cmd.AddCommand(list, show)
	return cmd
}

// stockObject is a built-in runbook in the JSON form.
type stockObject struct {
	Type        string `json:"type"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Source      string `json:"source,omitempty"`
}

func runRunbooksList(a *app) error {
	width := 0
	for _, name := range stock.Names() {
		width = max(width, len(name))
	}
	for _, name := range stock.Names() {
		o := stockObject{Type: "runbook", Name: name, Description: stock.Description(name)}
		var err error
		if a.global.json {
			err = report.WriteObject(a.Out, o)
		} else {
			_, err = fmt.Fprintf(a.Out, "%-*s  %s\n", width, name, o.Description)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func runRunbooksShow(a *app, name string) error {
	text, ok := stock.Source(name)
	if !ok {
		return invalid("%q is not a built-in runbook.%s\nSee: pxrun runbooks", name, diag.DidYouMean(name, stock.Names()))
	}
	if a.global.json {
		return report.WriteObject(a.Out, stockObject{"runbook", name, stock.Description(name), string(text)})
	}
	_, err := fmt.Fprintln(a.Out, strings.TrimSpace(string(text)))
	return err
}
