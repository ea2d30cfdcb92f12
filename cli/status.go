package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/spf13/cobra"
)

// statusOptions are the flags of status.
type statusOptions struct {
	site    siteOptions
	network networkOptions
	cluster string
}

func newStatusCommand(a *app) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use: "status [PATH...]", Short: "Show the health of a cluster", GroupID: groupLook,
		Long: long(`Reads every node of a cluster once and shows membership, votes, links, the version of the configuration and services, and
what should be mended, with the command to look and the remedy. It changes nothing. With --json it writes one object with the whole
report. The exit status is 1 when something does not work or stops to at the next failure.`, exitOK, exitFailed, exitUnreachable, exitInterrupted),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.site.paths = args
			return runStatus(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	o.site.flags(f)
	o.network.flags(f)
	f.StringVar(&o.cluster, "cluster", "", "the cluster to look at, if the site has more than one")
	return cmd
}

func runStatus(ctx context.Context, a *app, o statusOptions) (err error) {
	ctx, stop := interruptible(ctx, a.Streams)
	defer stop()
	o.site.secretsOf = []string{} // none but the inventory's must be there
	doc, err := a.load(ctx, o.site, true)
	if err != nil {
		return err
	}
	cluster, err := chooseCluster(doc, o.cluster)
	if err != nil {
		return err
	}
	net, err := a.network(ctx, doc, o.network, a.note)
	if err != nil {
		return err
	}
	defer func() {
		if closed := net.Close(); err == nil {
			err = closed
		}
	}()
	states := pve.ReadCluster(ctx, cluster.Nodes, pve.Options{}, net.conn)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r := pve.Status(states, pve.WantedCluster(cluster, doc.Site))
	left, err := a.leftOn(cluster.Nodes)
	if err != nil {
		return err
	}
	if err := a.showStatus(r, left); err != nil {
		return err
	}
	return exitWith(statusCode(states, r))
}

// leftOn are the temporary changes that runs of this controller have left on hosts.
func (a *app) leftOn(hosts []string) ([]event.Pending, error) {
	store, err := a.store()
	if err != nil {
		return nil, err
	}
	pending, err := store.Pending()
	return slices.DeleteFunc(pending, func(p event.Pending) bool { return !slices.Contains(hosts, p.Undo.Host) }), err
}

func (a *app) showStatus(r pve.Report, left []event.Pending) error {
	out := a.secrets.Writer(a.Out)
	if a.global.json {
		err := report.WriteObject(out, struct {
			Type string `json:"type"`
			pve.Report
			Left []event.Pending `json:"left,omitempty"`
		}{"status", r, left})
		return errors.Join(err, out.Close())
	}
	err := report.Status(out, r, a.look())
	for i, p := range left {
		if i == 0 {
			_, _ = fmt.Fprintln(out, "\nLeft in place by runs that ended before their time; pxrun release takes it back:")
		}
		_, _ = fmt.Fprintf(out, "  %s  %s (run %s)\n", p.Undo.Host, p.Undo.Summary, p.Run)
	}
	return errors.Join(err, out.Close())
}

func statusCode(states []pve.NodeState, r pve.Report) int {
	answered := slices.ContainsFunc(states, func(s pve.NodeState) bool { return s.Err == nil })
	critical := slices.ContainsFunc(r.Findings, func(f pve.Finding) bool { return f.Severity == pve.Critical })
	switch {
	case !answered:
		return exitUnreachable
	case critical:
		return exitFailed
	default:
		return exitOK
	}
}

// chooseCluster returns the named cluster, or the only one.
func chooseCluster(doc *runbooks.Document, name string) (*inventory.Cluster, error) {
	var names []string
	for _, c := range doc.Site.Clusters {
		names = append(names, c.Name)
	}
	switch {
	case len(names) == 0:
		return nil, invalid("the files declare no cluster")
	case name == "" && len(names) > 1:
		return nil, invalid("the files declare %d clusters; name one with --cluster: %s", len(names), list(names))
	case name == "":
		return doc.Site.Clusters[0], nil
	}
	c, ok := doc.Site.Cluster(name)
	if !ok {
		return nil, invalid("the files declare no cluster %q; there is: %s", name, list(names))
	}
	return c, nil
}
