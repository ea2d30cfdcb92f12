package engine

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/sourcegraph/conc/pool"
)

// changes makes changes in their order; those that belong together run at once on their hosts. Between two of them the
// run may be stopped.
func (r *run) changes(ctx context.Context, n *node, c *call, act *target, changes []module.Change, o *outcome) error {
	if n.spec.Scope == module.PerCluster && len(changes) > 0 {
		defer r.e.links.forget(everyHost) // what one host reads may come from another, also when a change has failed
	}
	for from := 0; from < len(changes); {
		to := from + together(changes[from:])
		o.notDone = promises(changes[from:])
		if err := r.goOn(ctx); err != nil {
			return err
		}
		if to == len(changes) {
			r.followUp(n, c, act.hosts, changes)
		}
		done, left, err := r.atOnce(ctx, n, act, changes[from:to])
		o.done = append(o.done, done...)
		if err != nil {
			o.notDone = append(left, promises(changes[to:])...)
			return err
		}
		from = to
	}
	o.notDone = nil
	return nil
}

// goOn is why no further change may be begun.
func (r *run) goOn(ctx context.Context) error {
	if err := r.stopped(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// together counts the changes at the front that may be made at once: those of one group, or else the first alone.
func together(changes []module.Change) int {
	group := changes[0].Group
	if group == "" {
		return 1
	}
	n := slices.IndexFunc(changes, func(c module.Change) bool { return c.Group != group })
	if n < 0 {
		return len(changes)
	}
	return n
}

// atOnce makes changes of one group: those of a host one after the other, hosts beside each other. After a failure no host
// begins another one. left are the changes that were not made, in their order.
func (r *run) atOnce(ctx context.Context, n *node, act *target, changes []module.Change) (done, left []made, err error) {
	if len(changes) == 1 {
		if err := r.change(ctx, n, act, changes[0]); err != nil {
			return nil, promises(changes), err
		}
		return []made{{changes[0].Host, changes[0].Summary}}, nil, nil
	}
	var (
		mu      sync.Mutex
		failed  []error
		isDone  = make([]bool, len(changes))
		byHost  = map[string][]int{}
		ordered []string
	)
	for i, c := range changes {
		if byHost[c.Host] == nil {
			ordered = append(ordered, c.Host)
		}
		byHost[c.Host] = append(byHost[c.Host], i)
	}
	on := func(host string) {
		for nth, i := range byHost[host] {
			mu.Lock()
			stop := len(failed) > 0
			mu.Unlock()
			if stop {
				return
			}
			err := error(nil)
			if nth > 0 {
				err = r.goOn(ctx)
			}
			if err == nil {
				err = r.change(ctx, n, act, changes[i])
			}
			mu.Lock()
			isDone[i] = err == nil
			if err != nil {
				failed = append(failed, err)
			}
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}
	if len(ordered) == 1 {
		on(ordered[0]) // most tasks: no goroutine more for each of their hosts
	} else {
		work := pool.New().WithMaxGoroutines(r.e.cfg.Parallelism)
		for _, host := range ordered {
			work.Go(func() { on(host) })
		}
		work.Wait()
	}
	for i, c := range changes {
		if isDone[i] {
			done = append(done, made{c.Host, c.Summary})
		} else {
			left = append(left, promises(changes[i:i+1])...)
		}
	}
	if len(failed) == 1 {
		return done, left, failed[0]
	}
	return done, left, errors.Join(failed...)
}
