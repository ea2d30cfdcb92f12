package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/detach"
	"github.com/pxrun/pxrun/internal/journal"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/inventory"
	"github.com/spf13/cobra"
)

// releaseOptions are the flags of release.
type releaseOptions struct {
	site    siteOptions
	network networkOptions
	words   []string
	all     bool
}

func newReleaseCommand(a *app) *cobra.Command {
	var o releaseOptions
	cmd := &cobra.Command{
		Use: "release [RUN|HOST...]", Short: "List and take back temporary changes that runs left behind", GroupID: groupRun,
		Long: long(`A run that ends before its time may leave temporary changes in place, such as a maintenance mode. Without arguments they are listed.
With runs or hosts, or --all, they are taken back, the newest first; the site's files (-i) say how to connect. What long commands of such runs
have left on the hosts is cleared away too, once they have ended. That nothing is left is what was wanted: the exit status is 0 then as well.

Release is refused while another run is at work on the same cluster. The lease of a run that was killed on this machine is given back, so that
the next run need not wait for its end.

  pxrun release
  pxrun release pve3 -i site.hcl`, exitOK, exitFailed, exitUnreachable, exitPartly, exitRefused, exitInterrupted),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.words = args
			return runRelease(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	o.site.flags(f)
	o.network.flags(f)
	f.BoolVar(&o.all, "all", false, "take back everything that is listed")
	return cmd
}

func runRelease(ctx context.Context, a *app, o releaseOptions) error {
	store, err := a.store()
	if err != nil {
		return err
	}
	pending, err := store.Pending()
	if err != nil {
		return err
	}
	if len(o.words) == 0 && !o.all {
		return a.listPending(pending)
	}
	chosen := choosePending(store, pending, o)
	if err := notUnderWay(store, chosen); err != nil {
		return err
	}
	if len(chosen) == 0 && len(a.global.inventory) == 0 {
		if err := o.known(store, pending, nil); err != nil {
			return err
		}
		return a.nothingLeft(o)
	}
	return a.takeBack(ctx, store, o, pending, chosen)
}

// nothingLeft says that there was nothing to do, which is what was wanted.
func (a *app) nothingLeft(o releaseOptions) error {
	if a.global.json || a.global.quiet {
		return nil
	}
	text := "Nothing is left in place."
	if !o.all {
		text = fmt.Sprintf("Nothing is left in place by %s.", list(o.words))
	}
	_, err := fmt.Fprintln(a.Out, text)
	return err
}

// known refuses words that name neither a run, nor a host of the site, nor something that is left: with a slip of the hand
// nothing would be taken back, and all would seem well.
func (o releaseOptions) known(store *journal.Store, pending []event.Pending, site *inventory.Site) error {
	for _, word := range o.words {
		if _, err := store.Find(word); err == nil || slices.ContainsFunc(pending, func(p event.Pending) bool { return named(p, word) }) {
			continue
		}
		if site == nil {
			return invalid("nothing is left in place by %s, and no run has that id. If it is a host: name the site's files with -i\nSee: pxrun release", word)
		}
		if _, ok := site.Host(word); !ok {
			return invalid("%s is neither a run nor a host of the files\nSee: pxrun release", word)
		}
	}
	return nil
}

// named reports whether a word of the command line means something that is left by its host or its id.
func named(p event.Pending, word string) bool {
	return p.Undo.Host == word || strings.HasPrefix(p.ID, word+"/")
}

func (a *app) listPending(pending []event.Pending) error {
	if a.global.json {
		for _, p := range pending {
			if err := report.WriteObject(a.Out, struct {
				Type string `json:"type"`
				event.Pending
			}{"pending", p}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(pending) == 0 {
		_, err := fmt.Fprintln(a.Out, "Nothing is left in place.")
		return err
	}
	rows := make([][]string, len(pending))
	for i, p := range pending {
		rows[i] = []string{p.Undo.Host, p.Undo.Summary, p.Run, p.Since.Local().Format(time.DateTime)}
	}
	return report.Table(a.Out, []string{"host", "to be done", "left by run", "since"}, rows, a.look())
}

// notUnderWay refuses to take back what a run has set that is still at work.
func notUnderWay(store *journal.Store, chosen []event.Pending) error {
	runs, err := store.List()
	if err != nil {
		return err
	}
	for _, r := range runs {
		if r.State == journal.Running && slices.ContainsFunc(chosen, func(p event.Pending) bool { return p.Run == r.ID }) {
			return &exitError{exitRefused, fmt.Errorf("run %s is still going on, and takes back itself what it has set\nSee: pxrun runs", r.ID)}
		}
	}
	return nil
}

func choosePending(store *journal.Store, pending []event.Pending, o releaseOptions) []event.Pending {
	if o.all {
		return pending
	}
	return slices.DeleteFunc(slices.Clone(pending), func(p event.Pending) bool {
		return !slices.ContainsFunc(o.words, func(word string) bool {
			id, err := store.Find(word)
			return named(p, word) || err == nil && id == p.Run
		})
	})
}

// takeBack undoes temporary changes in a run of its own, so that the journal knows what was taken back.
func (a *app) takeBack(ctx context.Context, store *journal.Store, o releaseOptions, left, chosen []event.Pending) (err error) {
	ctx, stop := interruptible(ctx, a.Streams)
	defer stop()
	o.site.secretsOf = []string{} // none but the inventory's must be there
	doc, err := a.load(ctx, o.site, true)
	if err != nil {
		return err
	}
	if err := o.known(store, left, doc.Site); err != nil {
		return err
	}
	s := &session{app: a, doc: doc, options: runOptions{site: o.site, network: o.network}, book: &engine.Runbook{Name: "release", Site: doc.Site}}
	defer func() { err = closing(s, err) }()
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := a.reclaim(ctx, s.net, store, o.concerned(store, doc.Site, chosen)); err != nil {
		return err
	}
	if len(chosen) == 0 {
		cleared, err := s.releaseJobs(ctx, store, o)
		if err == nil && cleared == 0 {
			return a.nothingLeft(o)
		}
		return err
	}
	run, err := store.Create(journal.Meta{Command: "release", Runbook: "release", Version: buildInfo().Version, Controller: a.controller(), Lab: o.network.lab})
	if err != nil {
		return err
	}
	if err := s.record(run, nil, engine.Config{Command: "release"}, &interrupts{}); err != nil {
		return errors.Join(err, run.Close())
	}
	began := a.Now()
	kept, err := s.engine.Undo(ctx, doc.Site, chosen)
	status := event.Changed
	if err != nil {
		status = event.Failed
	}
	if told := s.bus.Emit(ctx, "", "", event.RunDone{Status: status, Duration: a.Now().Sub(began)}); told != nil {
		return told
	}
	if err != nil && len(kept) < len(chosen) && ctx.Err() == nil {
		return &exitError{exitPartly, err}
	}
	if err == nil {
		_, err = s.releaseJobs(ctx, store, o)
	}
	return err
}

// concerned are the hosts on which a dead run may hold a lease: for a run or everything that is left all of the site, for hosts those of
// their clusters.
func (o releaseOptions) concerned(store *journal.Store, site *inventory.Site, chosen []event.Pending) []string {
	words := slices.Clone(o.words)
	for _, p := range chosen {
		words = append(words, p.Undo.Host)
	}
	every := o.all || slices.ContainsFunc(o.words, func(word string) bool {
		_, err := store.Find(word)
		return err == nil
	})
	clusters := map[string]bool{}
	for _, h := range site.Hosts {
		if h.Cluster != "" && slices.Contains(words, h.Name) {
			clusters[h.Cluster] = true
		}
	}
	var hosts []string
	for _, h := range site.Hosts {
		if every || clusters[h.Cluster] || slices.Contains(words, h.Name) {
			hosts = append(hosts, h.Name)
		}
	}
	return hosts
}

// releaseJobs clears away what ended jobs have left on the named hosts, or those of the named runs on all nodes.
func (s *session) releaseJobs(ctx context.Context, store *journal.Store, o releaseOptions) (int, error) {
	runs, err := store.List()
	if err != nil {
		return 0, err
	}
	var all, named []string
	for _, h := range s.doc.Site.Hosts {
		if h.Node != nil {
			all = append(all, h.Name)
		}
		if slices.Contains(o.words, h.Name) {
			named = append(named, h.Name)
		}
	}
	var ids []string
	for _, word := range o.words {
		if id, err := store.Find(word); err == nil {
			ids = append(ids, id)
		}
	}
	over := abandoned(runs)
	if o.all {
		return s.app.clearJobs(ctx, s.net, all, over)
	}
	cleared, err := s.app.clearJobs(ctx, s.net, named, over)
	if err != nil || len(ids) == 0 {
		return cleared, err
	}
	more, err := s.app.clearJobs(ctx, s.net, all, func(j detach.Left) bool { return slices.Contains(ids, j.Run) && over(j) })
	return cleared + more, err
}
