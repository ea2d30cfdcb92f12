package engine

import (
	"context"
	"errors"
	"slices"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/sourcegraph/conc"
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

// atOnce makes changes of one group beside each other, as far as their slots allow: those of a host one after the other where
// they say nothing else. After a failure none is begun any more. left are the changes that were not made, in their order.
func (r *run) atOnce(ctx context.Context, n *node, act *target, changes []module.Change) (done, left []made, err error) {
	if len(changes) == 1 {
		if err := r.change(ctx, n, act, changes[0]); err != nil {
			return nil, promises(changes), err
		}
		return []made{{changes[0].Host, changes[0].Summary}}, nil, nil
	}
	var failed []error
	w := newSlotPlan(changes)
	isDone := make([]bool, len(changes))
	end := func(i int, err error) {
		w.leave(i)
		isDone[i] = err == nil
		if err != nil {
			failed = append(failed, err)
		}
	}
	// begin is the next change that may be made now, and -1 if there is none.
	first := true
	begin := func() int {
		i := -1
		if len(failed) == 0 {
			i = w.enter()
		}
		if i < 0 || first {
			return i
		}
		if err := r.goOn(ctx); err != nil {
			end(i, err)
			return -1
		}
		return i
	}
	if w.single() { // most tasks: no goroutine more
		for i := begin(); i >= 0; i = begin() {
			first = false
			end(i, r.change(ctx, n, act, changes[i]))
		}
	} else {
		type result struct {
			i   int
			err error
		}
		ended := make(chan result, len(changes))
		var work conc.WaitGroup
		for under := 0; ; {
			for under < r.e.cfg.Parallelism {
				i := begin()
				if i < 0 {
					break
				}
				under++
				work.Go(func() { ended <- result{i, r.change(ctx, n, act, changes[i])} })
			}
			if under == 0 {
				break
			}
			one := <-ended
			under--
			first = false
			end(one.i, one.err)
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
