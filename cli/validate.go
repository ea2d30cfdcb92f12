package cli

import (
	"context"
	"fmt"

	"github.com/pxrun/pxrun/internal/report"
	"github.com/spf13/cobra"
)

func newValidateCommand(a *app) *cobra.Command {
	var o siteOptions
	cmd := &cobra.Command{
		Use: "validate [PATH...]", Short: "Check the files of a site without connecting", GroupID: groupFiles,
		Long: long(`Reads all files and reports everything that can be found wrong without a connection: syntax, names, types, references, arguments
of modules, addresses. Secrets are not read. A PATH is a file or a folder; without one, those of -i are read, else the current
folder.`, exitOK),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.paths = args
			return runValidate(cmd.Context(), a, o)
		},
	}
	o.flags(cmd.Flags())
	return cmd
}

func runValidate(ctx context.Context, a *app, o siteOptions) error {
	ctx, stop := interruptible(ctx, a.Streams)
	defer stop()
	doc, err := a.load(ctx, o, false)
	if err != nil {
		return err
	}
	names := append([]string{}, doc.RunbookNames()...)
	if a.global.json {
		return report.WriteObject(a.Out, struct {
			Type     string   `json:"type"`
			Files    []string `json:"files"`
			Runbooks []string `json:"runbooks"`
		}{"valid", doc.Names, names})
	}
	if a.global.quiet {
		return nil
	}
	text := fmt.Sprintf("%s with %s", report.Count(len(doc.Names), "file"), report.Count(len(doc.Site.Hosts), "host"))
	if len(names) > 0 {
		text += " and " + report.Count(len(names), "runbook") + " (" + list(names) + ")"
	}
	_, err = fmt.Fprintf(a.Out, "Valid: %s.\n", text)
	return err
}
