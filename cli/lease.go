package cli

import (
	"context"
	"fmt"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/journal"
	"github.com/pxrun/pxrun/internal/pve/lease"
)

// gone reports whether the process of a run that holds a lease is known to be over: it was one of this machine, and nobody holds its journal.
func (a *app) gone(o engine.Owner) bool {
	store, err := a.store()
	return err == nil && o.Controller == a.controller() && store.Dead(o.Run, o.Controller)
}

// reclaim gives back the leases of runs of this machine that ended without doing so, and tells of each.
func (a *app) reclaim(ctx context.Context, net *network, store *journal.Store, hosts []string) error {
	over := func(o engine.Owner) (func(), bool) {
		if !a.gone(o) {
			return nil, false
		}
		end, err := store.Bar(o.Run) // until it is given back: who resumes the run meanwhile would lose it
		return end, err == nil
	}
	dead, err := lease.New(lease.Config{}).Reclaim(ctx, hosts, net.conn, over)
	for _, o := range dead {
		if !a.global.json && !a.global.quiet {
			_, _ = fmt.Fprintf(a.Out, "gave back the lease of run %s (%s), which ended without doing so\n", o.Run, o.Runbook)
		}
	}
	return err
}
