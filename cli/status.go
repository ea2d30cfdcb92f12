package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/health"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/spf13/cobra"
)

// statusOptions are the flags of status.
type statusOptions struct {
	site    siteOptions
	network networkOptions
	cluster string

	watch, prometheus bool
	every             time.Duration
}

func newStatusCommand(a *app) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use: "status [PATH...]", Short: "Show the health of a cluster", GroupID: groupLook,
		Long: long(`Reads every node of a cluster once, in one round trip each, and shows membership, votes and how many failures they bear, links,
services, high availability, Ceph, storages and guests; what runs have left behind; and what should be mended, with the command to look and
the remedy. It changes nothing. With --json it writes one object with the whole report, with --prometheus metrics in the text format, with --watch
it goes on looking until it is interrupted.

The exit status is 1 when something is critical (✗): it does not work. It is 7 when nothing is, and a node is out of service, maintenance is in effect, or
runs have temporary changes in place, be they at work or over. Other warnings do not change it.`, exitOK, exitFailed, exitUnreachable, exitLeft, exitInterrupted),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.site.paths = args
			if o.watch && (o.prometheus || a.global.json) {
				return invalid("--watch is for people: leave --json and --prometheus out")
			}
			if o.prometheus && a.global.json {
				return invalid("--json and --prometheus exclude each other")
			}
			return runStatus(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	o.site.flags(f)
	o.network.flags(f)
	f.BoolVarP(&o.watch, "watch", "w", false, "look again and again until interrupted")
	f.DurationVar(&o.every, "every", 5*time.Second, "the pause between two looks of --watch, at least 1s")
	f.BoolVar(&o.prometheus, "prometheus", false, "write metrics in the Prometheus text format")
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
	s := &statusReader{a: a, conn: net.conn, nodes: cluster.Nodes, wanted: pve.WantedCluster(cluster, doc.Site)}
	if o.watch {
		return a.watchStatus(ctx, s, o)
	}
	r, left, err := s.read(ctx)
	if err != nil {
		return err
	}
	if o.prometheus {
		err = a.showMetrics(r)
	} else {
		err = a.showStatus(r, left)
	}
	if err != nil {
		return err
	}
	return exitWith(statusCode(r, left))
}

// statusReader reads the state of a cluster, again and again over the same connections.
type statusReader struct {
	a      *app
	conn   func(ctx context.Context, host string) (transport.Conn, error)
	nodes  []string
	wanted pve.Wanted
}

func (s *statusReader) read(ctx context.Context) (health.Report, []event.Pending, error) {
	snapshot := health.Read(ctx, s.nodes, s.conn)
	if ctx.Err() != nil {
		return health.Report{}, nil, context.Cause(ctx)
	}
	left, err := s.a.leftOn(s.nodes)
	return health.Judge(snapshot, s.wanted).Folded(), left, err
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

func (a *app) showStatus(r health.Report, left []event.Pending) error {
	out := a.secrets.Writer(a.Out)
	if a.global.json {
		err := report.WriteObject(out, struct {
			Type string `json:"type"`
			health.Report
			Left []event.Pending `json:"left,omitempty"`
		}{"status", r, left})
		return errors.Join(err, out.Close())
	}
	err := a.writeStatus(out, r, left)
	return errors.Join(err, out.Close())
}

// showMetrics writes the report for Prometheus.
func (a *app) showMetrics(r health.Report) error {
	out := a.secrets.Writer(a.Out)
	return errors.Join(report.Metrics(out, r), out.Close())
}

func (a *app) writeStatus(out io.Writer, r health.Report, left []event.Pending) error {
	err := report.Status(out, r, a.look())
	for i, p := range left {
		if i == 0 {
			_, _ = fmt.Fprintln(out, "\nLeft in place by runs that ended before their time; pxrun release takes it back:")
		}
		_, _ = fmt.Fprintf(out, "  %s  %s (run %s)\n", p.Undo.Host, p.Undo.Summary, p.Run)
	}
	return err
}

// statusCode is the exit status for a report, and for what runs have in place.
func statusCode(r health.Report, left []event.Pending) int {
	answered := slices.ContainsFunc(r.Nodes, func(n pve.NodeReport) bool { return n.Error == "" })
	out := slices.ContainsFunc(r.Findings, func(f pve.Finding) bool { return f.Check == "service" || f.Check == "maintenance" })
	critical := slices.ContainsFunc(r.Findings, func(f pve.Finding) bool { return f.Severity == pve.Critical })
	switch {
	case !answered:
		return exitUnreachable
	case critical:
		return exitFailed
	case out || len(left) > 0:
		return exitLeft
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
