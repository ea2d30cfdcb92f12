package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/journal"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/spf13/cobra"
)

// reportOptions are the flags of report.
type reportOptions struct {
	run            string
	html, markdown bool
	out            string
}

func newReportCommand(a *app) *cobra.Command {
	var o reportOptions
	cmd := &cobra.Command{
		Use: "report [RUN]", Short: "Make a page that tells of a run", GroupID: groupLook,
		Long: long(`Makes a page of a run from its journal: how it ended, a picture of who did what when, the tasks on each host, where guests went and
for how long they were down, votes, versions before and after, what the gates saw, and what was left behind. RUN is an id or the beginning
or end of one; the default is the last. A run that was resumed is one page.

The form is Markdown unless a flag or the ending of FILE (.html, .md, .json) says otherwise. The HTML page is one file that needs no
network. See docs/reports.md.

  pxrun report --html -o night.html
  pxrun report 01K9 --json`, exitOK, exitFailed),
		Args: checked(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.run = args[0]
			}
			return runReport(a, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.html, "html", false, "write HTML")
	f.BoolVar(&o.markdown, "markdown", false, "write Markdown")
	f.StringVarP(&o.out, "out", "o", "", "write to this `FILE` instead of standard output")
	return cmd
}

// form is html, markdown or json: what a flag says, else what the file's ending does.
func (o reportOptions) form(json bool) (string, error) {
	var asked []string
	for name, set := range map[string]bool{"html": o.html, "markdown": o.markdown, "json": json} {
		if set {
			asked = append(asked, name)
		}
	}
	switch {
	case len(asked) > 1:
		slices.Sort(asked)
		return "", invalid("a report has one form: take one of --%s", strings.Join(asked, ", --"))
	case len(asked) == 1:
		return asked[0], nil
	case o.out == "":
		return "markdown", nil
	}
	switch ending := strings.ToLower(filepath.Ext(o.out)); ending {
	case ".html", ".htm":
		return "html", nil
	case ".md", ".markdown":
		return "markdown", nil
	case ".json":
		return "json", nil
	default:
		return "", invalid("%s does not say which form is wanted: end it in .html, .md or .json, or add --html, --markdown or --json", o.out)
	}
}

func runReport(a *app, o reportOptions) error {
	form, err := o.form(a.global.json)
	if err != nil {
		return err
	}
	page, err := a.page(o.run)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := writePage(&out, page, form); err != nil {
		return err
	}
	if o.out == "" {
		_, err := a.Out.Write(out.Bytes())
		return err
	}
	const mode = 0o644 // it is made to be shown; secrets are masked in the journal already
	if err := renameio.WriteFile(o.out, out.Bytes(), mode); err != nil {
		return err
	}
	if a.global.quiet || a.global.json {
		return nil
	}
	_, err = fmt.Fprintf(a.Out, "Wrote %s (%d KB): %s\n", o.out, (out.Len()+1023)/1024, page.Verdict)
	return err
}

func writePage(w io.Writer, page *report.Page, form string) error {
	switch form {
	case "html":
		return page.HTML(w)
	case "json":
		return report.WriteObject(w, page)
	default:
		return page.Markdown(w)
	}
}

// page reads a run and makes its report.
func (a *app) page(word string) (*report.Page, error) {
	store, err := a.store()
	if err != nil {
		return nil, err
	}
	id, err := store.Find(word)
	if err != nil {
		return nil, recordError(err)
	}
	record, err := store.Load(id)
	if err != nil {
		return nil, recordError(err)
	}
	released, err := releasedSince(store, record)
	if err != nil {
		return nil, err
	}
	return report.NewPage(report.PageOf{
		Run: record.ID, Command: record.Command, Runbook: record.Runbook, Cluster: record.Cluster, By: record.Controller, Version: record.Version, Lab: record.Lab,
		Running: record.State == journal.Running, Damaged: record.Damaged, Released: released, Location: time.Local,
	}, record.Events), nil
}

// releasedSince are the temporary changes that the run left in place and another one has taken back.
func releasedSince(store *journal.Store, r *journal.Record) ([]event.Undone, error) {
	if len(r.History.Pending) == 0 {
		return nil, nil
	}
	still, err := store.Pending()
	if err != nil {
		return nil, errors.Join(errors.New("what is still in place cannot be told"), err)
	}
	var released []event.Undone
	for _, p := range r.History.Pending {
		if !slices.ContainsFunc(still, func(s event.Pending) bool { return s.Run == p.Run && s.ID == p.ID && s.Undo.Host == p.Undo.Host }) {
			released = append(released, event.Undone{Run: p.Run, Host: p.Undo.Host, ID: p.ID})
		}
	}
	return released, nil
}
