package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/inventory"
	"github.com/sourcegraph/conc"
	"github.com/sourcegraph/conc/pool"
)

const (
	// soon is how close to its end the lease of a run at work does not come: whoever holds it is most likely gone.
	soon = time.Minute
	// leasePatience bounds the wait for a lease: one lasts two minutes from when it was last renewed.
	leasePatience = 150 * time.Second
	// leasePause is waited between two looks: it may be given back before its end.
	leasePause = 2 * time.Second
)

// hold takes the lease and keeps it, beside the work, until release is called. A patient one waits for a lease that is about to end.
func (r *run) hold(ctx, work context.Context, patient bool) (release func(), err error) {
	r.e.links.forget(everyHost) // what was read before the lease may have been changed by whoever held it
	var lease Lease
	if patient {
		waiting, stop := r.stopper.untilStopped(work)
		lease, err = r.e.await(waiting, func() (Lease, error) { return r.lock(work) })
		stop()
	} else {
		lease, err = r.lock(work)
	}
	if err != nil || lease == nil {
		return func() {}, err
	}
	r.mu.Lock()
	r.lease = lease
	r.mu.Unlock()
	return r.e.keep(ctx, lease, func(lost error) { r.stop(lost) }), nil
}

// confirm refuses a change on a host when the lease cannot be proved to be held: somebody else may be at work.
func (r *run) confirm(ctx context.Context, host string) error {
	r.mu.Lock()
	lease := r.lease
	r.mu.Unlock()
	if lease == nil {
		return nil
	}
	err := lease.Confirm(ctx, host)
	if gone, ok := errors.AsType[*LostLeaseError](err); ok {
		r.stop(gone)
		return gone
	}
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("that no other run is at work could not be proved, so it was not begun: %w", err)
	}
	return cause(ctx, err)
}

// yield gives back the lease that a killed process of this run may have left, for nobody else will before it runs out.
func (r *run) yield(ctx, work context.Context) error {
	if r.e.cfg.Past == nil {
		return nil
	}
	release, err := r.hold(ctx, work, false)
	if _, others := errors.AsType[*LockedError](err); others {
		return nil // then it is not this run's any more
	}
	if err == nil {
		release()
	}
	return err
}

func (r *run) lock(ctx context.Context) (Lease, error) {
	if r.e.cfg.Locker == nil {
		return nil, nil
	}
	// Hosts that could not be reached are not worked on: a plan with such hosts is only performed without them.
	hosts := slices.DeleteFunc(r.b.inventory(r.b.leased()), func(h inventory.Host) bool { return r.e.links.failed(h.Name) })
	var ahead atomic.Pointer[func(string) ([]command, int)]
	ahead.Store(new(func(host string) ([]command, int) { return r.upcoming(0, host, nil) }))
	defer ahead.Store(nil)
	return r.e.cfg.Locker.Acquire(ctx, r.e.owner(r.b.rb.Name), r.b.rb.Cluster, hosts, r.e.connect(r.b.rb.Site, &ahead))
}

// owner is who takes a lease.
func (e *Engine) owner(runbook string) Owner {
	owner := e.cfg.Owner
	if owner.Run == "" {
		owner.Run = e.cfg.RunID
	}
	if owner.Runbook == "" {
		owner.Runbook = runbook
	}
	return owner
}

// keep renews a lease until release is called, which gives it back.
func (e *Engine) keep(ctx context.Context, lease Lease, lost func(error)) (release func()) {
	keeping, endKeep := context.WithCancel(ctx)
	var beside conc.WaitGroup
	beside.Go(func() {
		if err := lease.Keep(keeping); err != nil && keeping.Err() == nil {
			e.tell(ctx, "", "", event.Warning{Text: err.Error()})
			lost(err)
		}
	})
	return func() {
		endKeep()
		beside.Wait() // a renewal under way would bring the lease back
		within, done := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
		defer done()
		if err := lease.Release(within); err != nil {
			e.tell(ctx, "", "", event.Warning{Text: "the lease could not be given back and will run out: " + err.Error()})
		}
	}
}

// await takes a lease, and waits for one that is about to end: that of a process that is known to be gone, or of one that has not
// renewed it when it should have. ctx ends the wait; take has its own.
func (e *Engine) await(ctx context.Context, take func() (Lease, error)) (Lease, error) {
	began, told := e.cfg.Clock.Now(), ""
	for {
		lease, err := take()
		other, locked := errors.AsType[*LockedError](err)
		if !locked {
			return lease, err
		}
		now := e.cfg.Clock.Now()
		left := other.Expires.Sub(now)
		gone := e.cfg.Gone != nil && e.cfg.Gone(other.Owner)
		if other.Expires.IsZero() || !gone && left > soon || now.Sub(began)+max(left, 0) > leasePatience {
			return lease, err
		}
		if told != other.Owner.Run {
			told = other.Owner.Run
			e.tell(ctx, "", "", event.Warning{Text: waitsFor(other, gone)})
		}
		if e.cfg.Clock.Sleep(ctx, min(max(left, 0)+time.Second/10, leasePause)) != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// waitsFor says for what a run waits, and how that can be cut short.
func waitsFor(other *LockedError, gone bool) string {
	why := "and it was not renewed of late"
	if gone {
		why = "and its process is gone"
	}
	return fmt.Sprintf("%s is locked by run %s of %s (%s) until %s, %s: waiting for that\nTo go on with that run instead: pxrun resume %s. To free the hosts now: pxrun release %s",
		other.Host, other.Owner.Run, other.Owner.Controller, other.Owner.Runbook, other.Expires.Format(time.TimeOnly), why, other.Owner.Run, other.Owner.Run)
}

// Hold takes the lease on hosts, together with the other nodes of their clusters, and keeps it until release is called. The context
// that it returns ends when the lease is lost. Hosts that cannot be reached are left out: nobody can work on them.
func (e *Engine) Hold(ctx context.Context, site *inventory.Site, hosts []string) (held context.Context, release func(), err error) {
	if e.cfg.Locker == nil {
		return ctx, func() {}, nil
	}
	held, cancel := context.WithCancelCause(ctx)
	var leases []func()
	release = func() {
		for _, r := range slices.Backward(leases) {
			r()
		}
		cancel(nil)
	}
	var ahead atomic.Pointer[func(string) ([]command, int)]
	for _, g := range e.reachable(ctx, site, groups(site, hosts)) {
		if len(g.hosts) == 0 {
			continue
		}
		lease, err := e.await(ctx, func() (Lease, error) {
			return e.cfg.Locker.Acquire(ctx, e.owner(e.cfg.Command), g.cluster, g.hosts, e.connect(site, &ahead))
		})
		if err != nil {
			release()
			return ctx, nil, err
		}
		leases = append(leases, e.keep(ctx, lease, func(lost error) { cancel(lost) }))
	}
	return held, release, nil
}

// leaseGroup is a cluster, or a host without one.
type leaseGroup struct {
	cluster *inventory.Cluster
	hosts   []inventory.Host
}

// groups sorts hosts by their clusters, whose other nodes join them. The order is the same for everybody who does.
func groups(site *inventory.Site, hosts []string) []leaseGroup {
	byName := map[string]leaseGroup{}
	for _, name := range hosts {
		host, ok := site.Host(name)
		if !ok {
			continue
		}
		cluster, in := site.Cluster(host.Cluster)
		if !in {
			byName["host/"+name] = leaseGroup{hosts: []inventory.Host{host}}
			continue
		}
		g := leaseGroup{cluster: cluster}
		for _, node := range cluster.Nodes {
			if h, ok := site.Host(node); ok {
				g.hosts = append(g.hosts, h)
			}
		}
		byName["cluster/"+cluster.Name] = g
	}
	all := make([]leaseGroup, 0, len(byName))
	for _, name := range slices.SortedFunc(maps.Keys(byName), strings.Compare) {
		all = append(all, byName[name])
	}
	return all
}

// reachable dials all hosts of groups at once and leaves out those that do not answer.
func (e *Engine) reachable(ctx context.Context, site *inventory.Site, all []leaseGroup) []leaseGroup {
	dials := pool.New().WithMaxGoroutines(e.cfg.Dials)
	for _, g := range all {
		for _, h := range g.hosts {
			dials.Go(func() { _, _ = e.links.get(ctx, site, h.Name) })
		}
	}
	dials.Wait()
	for i := range all {
		all[i].hosts = slices.DeleteFunc(all[i].hosts, func(h inventory.Host) bool { return e.links.failed(h.Name) })
	}
	return all
}
