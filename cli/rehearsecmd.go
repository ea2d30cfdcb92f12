package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/internal/snapshot"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/spf13/cobra"
)

// rehearseOptions are the flags of rehearse.
type rehearseOptions struct {
	source sourceOptions
	run    runOptions
	file   string
	faults []string
	seed   uint64
	speed  float64
	// updates are what the repositories have besides what the snapshot knows of.
	updates []string
	report  string
}

// Defaults of rehearsals.
const (
	rehearsedRunbook = "rolling_upgrade"
	// The nodes of a simulation share this machine's processors. Where many are asked at once, each gets its turn later, and a read with a
	// limit of ten seconds, of theirs, must not run into it: the more there are, the slower their time goes.
	rehearsalSpeed = 60
	rehearsalNodes = 3 // for which that is not too fast
	// rehearsals is the folder, in that for state, in which their runs are kept, so that status, runs and resume see nothing of them.
	rehearsals = "rehearsals"
)

func newRehearseCommand(a *app) *cobra.Command {
	var o rehearseOptions
	cmd := &cobra.Command{
		Use: "rehearse [RUNBOOK] [USER@HOST | PATH...]", Short: "Run a runbook on a simulated copy of a cluster", GroupID: groupRun,
		Long: long(`Reads a cluster (the one of the site in -i, that of the node USER@HOST, or a file that "pxrun snapshot" wrote), builds a lab from it and runs
the runbook there as "pxrun apply --auto-approve" would, with the faults that you choose. Nothing is changed on the cluster. RUNBOOK is
rolling_upgrade unless it is named: a built-in one, or one of the site.

A fault is KIND:HOST[:VALUE], when it happens in further parts: "pxrun lab fault list" tells the kinds, docs/rehearse.md the parts. Runs of
rehearsals are kept apart from those of your clusters. What a simulation cannot show is told at the beginning.

  pxrun rehearse -i site.hcl
  pxrun rehearse rolling_upgrade --snapshot tonight.json --fault power-off:pve2:after=10m
  pxrun rehearse root@192.0.2.11 --arg policy=shutdown --report tonight.html`, exitOK, exitFailed, exitInvalid, exitUnreachable, exitPartly, exitRefused, exitInterrupted),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.arguments(args); err != nil {
				return err
			}
			return runRehearse(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	o.source.flags(f)
	f.StringVar(&o.file, "snapshot", "", "the cluster is the one in this `FILE`, which pxrun snapshot wrote")
	f.StringArrayVar(&o.run.site.args, "arg", nil, "tell the runbook something: `NAME=VALUE`, an argument that it declares; may be given more than once")
	f.StringArrayVar(&o.faults, "fault", nil, "let something go wrong: `KIND:HOST[:VALUE][:WHEN]`; may be given more than once")
	f.Uint64Var(&o.seed, "seed", 1, "the same seed makes the same ids and decides alike about faults that have a chance")
	f.Float64Var(&o.speed, "speed", 0, "how many times faster than real time the rehearsal goes (default 60, with more than three nodes 180 divided by their number)")
	f.StringSliceVar(&o.updates, "updates", nil, "`WHAT` the repositories have besides: release, kernel and so on, see lab updates add")
	f.StringVar(&o.report, "report", "", "write the report of the run to this `FILE`: .html, .md or .json")
	return cmd
}

// arguments sorts a runbook, a host and paths apart.
func (o *rehearseOptions) arguments(args []string) error {
	var places []string
	for _, arg := range args {
		if strings.Contains(arg, "@") || exists(arg) || looksLikePath(arg) || o.run.runbook != "" {
			places = append(places, arg)
			continue
		}
		o.run.runbook = arg
	}
	if o.run.runbook == "" {
		o.run.runbook = rehearsedRunbook
	}
	if o.speed < 0 {
		return invalid("--speed is %g: more than 0 is needed", o.speed)
	}
	if o.file != "" && strings.Contains(strings.Join(places, " "), "@") {
		return invalid("--snapshot and USER@HOST both name a cluster: take one")
	}
	return o.source.arguments(places)
}

// speedFor is the speed that was asked for, or one that suits a number of nodes.
func (o *rehearseOptions) speedFor(nodes int) float64 {
	if o.speed > 0 {
		return o.speed
	}
	return rehearsalSpeed * min(1, rehearsalNodes/float64(nodes))
}

func runRehearse(ctx context.Context, a *app, o rehearseOptions) (err error) {
	ctx, signals, stop := twoStage(ctx, a.Streams)
	defer stop()
	form := reportOptions{out: o.report}
	if o.report != "" {
		if _, err := form.form(false); err != nil {
			return err
		}
	}
	faults, err := a.parseFaults(o.faults)
	if err != nil {
		return err
	}
	state, err := a.stateDir()
	if err != nil {
		return err
	}
	s, doc, from, err := a.rehearsed(ctx, &o)
	if err != nil {
		return err
	}
	a.global.stateDir = filepath.Join(state, rehearsals)
	dir, err := os.MkdirTemp("", "pxrun-rehearsal-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	o.run.site.vars, o.run.site.varFiles, o.run.site.paths = o.source.site.vars, o.source.site.varFiles, o.source.site.paths
	if doc == nil {
		if o.run.site.paths, err = inventoryOf(s, dir); err != nil {
			return err
		}
		a.global.inventory = nil
	}
	if doc, err = a.load(ctx, o.run.site, true); err != nil {
		return err
	}
	if err := sameNodes(s, doc); err != nil {
		return err
	}
	c, err := copyOf(s, doc.Site, o.speedFor(len(s.Nodes)), o.seed)
	if err != nil {
		return err
	}
	c.update(o.updates)
	if err := a.announce(s, from, c.notes, len(faults)); err != nil {
		return err
	}
	made, err := c.build(ctx)
	if err != nil {
		return err
	}
	defer made.Close()
	for _, f := range faults {
		if _, err := made.AddFault(f); err != nil {
			return &exitError{exitInvalid, err}
		}
	}
	access, err := made.Access(filepath.Join(dir, "lab"))
	if err != nil {
		return err
	}
	// The run goes by the lab's time: what it waits for passes as fast, and durations are those that the nodes would take.
	began, zero := a.Now(), made.Clock().Elapsed()
	a.Now = func() time.Time { return began.Add(made.Clock().Elapsed() - zero) }
	o.run.network = networkOptions{
		lab: true, rehearsal: newLabAccess(doc.Site, access.IdentityFile, access.KnownHosts, made.Dial), clock: engine.Clock{Now: a.Now, Sleep: made.Clock().Sleep},
	}
	o.run.parallelism = 32
	id, failed := a.rehearse(ctx, o.run, signals)
	return errors.Join(failed, a.closeRehearsal(id, o.report))
}

// rehearsed reads the cluster, and the site if there is one.
func (a *app) rehearsed(ctx context.Context, o *rehearseOptions) (s *snapshot.Snapshot, doc *runbooks.Document, from string, err error) {
	if len(o.source.site.paths)+len(a.global.inventory) > 0 || o.file == "" && o.source.host == "" {
		if doc, err = a.load(ctx, o.source.site, true); err != nil {
			return nil, nil, "", err
		}
	}
	if o.file == "" {
		s, from, err = a.observe(ctx, o.source, doc)
		return s, doc, from, err
	}
	s, err = openSnapshot(o.file)
	if err != nil {
		return nil, nil, "", err
	}
	return s, doc, o.file, nil
}

// inventoryOf writes the inventory of a cluster that no site describes.
func inventoryOf(s *snapshot.Snapshot, dir string) ([]string, error) {
	conf, err := s.Conf()
	if err != nil {
		return nil, err
	}
	name := s.Cluster
	if name == "" {
		name = "cluster"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %q {\n", name)
	for _, n := range s.Nodes {
		var links []string
		votes := 1
		if conf != nil {
			entry, _ := conf.Node(n.Name)
			for _, link := range entry.LinkNumbers() {
				links = append(links, fmt.Sprintf("%q", entry.Links[link]))
			}
			votes = entry.Votes
		}
		fmt.Fprintf(&b, "  node %q {\n    address = %q\n    links   = [%s]\n    votes   = %d\n  }\n", n.Name, n.Address, strings.Join(links, ", "), votes)
	}
	b.WriteString("}\n")
	file := filepath.Join(dir, "site.hcl")
	return []string{file}, os.WriteFile(file, []byte(b.String()), 0o600)
}

// rehearse is apply without a question. The id is "" if there was no run.
func (a *app) rehearse(ctx context.Context, o runOptions, signals *interrupts) (id string, err error) {
	s, err := a.prepare(ctx, o)
	if err != nil {
		return "", err
	}
	defer func() { err = closing(s, err) }()
	if err := s.connect(ctx); err != nil {
		return "", err
	}
	store, err := a.store()
	if err != nil {
		return "", err
	}
	meta, err := s.meta()
	if err != nil {
		return "", err
	}
	meta.Command = "rehearse"
	run, err := store.Create(meta)
	if err != nil {
		return "", err
	}
	if err := s.record(run, nil, engine.Config{Command: "rehearse"}, signals); err != nil {
		return "", errors.Join(err, run.Close())
	}
	return run.ID(), s.perform(ctx, run, applyOptions{runOptions: o, autoApprove: true})
}

// limits are what no simulation shows; it is said before every rehearsal.
var limits = []string{
	"how long your disks, network and packages really take: durations are the model's, made from sizes",
	"faults of the new software itself: the packages of the simulation have versions and scripts, no programs",
	"what guests do: that one runs is all that is known of it",
	"hardware: firmware, drivers, a disk that fails under load",
	"whatever changes on the cluster after the snapshot",
}

// announce says what is about to happen.
func (a *app) announce(s *snapshot.Snapshot, from string, notes []string, faults int) error {
	if a.global.json {
		return report.WriteObject(a.Out, struct {
			Type   string   `json:"type"`
			From   string   `json:"from"`
			Taken  string   `json:"taken"`
			Notes  []string `json:"notes,omitempty"`
			Limits []string `json:"limits"`
		}{"rehearsal", from, s.Taken.Format("2006-01-02T15:04:05Z07:00"), notes, limits})
	}
	if a.global.quiet {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Rehearsal on a simulation of cluster %q, built from what %s said on %s: %s.\nYour cluster is not touched.", s.Cluster, from, s.Taken.Local().Format("2006-01-02 15:04:05"), contents(s))
	if faults > 0 {
		fmt.Fprintf(&b, " %s will go wrong.", count(faults, "thing"))
	}
	b.WriteString("\n\nA simulation cannot show\n")
	for _, text := range limits {
		b.WriteString("  - " + text + "\n")
	}
	if len(notes) > 0 {
		b.WriteString("\nOf this cluster it does not have\n")
		for _, text := range notes {
			b.WriteString("  - " + report.Clean(text) + "\n")
		}
	}
	_, err := fmt.Fprintln(a.Out, b.String())
	return err
}

// closeRehearsal writes the report and says where the run is kept.
func (a *app) closeRehearsal(id, file string) error {
	if id == "" {
		return nil
	}
	if !a.global.json && !a.global.quiet {
		if _, err := fmt.Fprintf(a.Out, "\nThis was a rehearsal. Its run is kept apart: pxrun --state-dir %s runs show %s\n", a.global.stateDir, id); err != nil {
			return err
		}
	}
	if file == "" {
		return nil
	}
	form, err := reportOptions{out: file}.form(false)
	if err != nil {
		return err
	}
	page, err := a.page(id)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := writePage(&out, page, form); err != nil {
		return err
	}
	const mode = 0o644 // it is made to be shown; secrets are masked in the journal already
	return renameio.WriteFile(file, out.Bytes(), mode)
}
