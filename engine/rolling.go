package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/sourcegraph/conc"
)

// rolling takes the hosts of a block through its steps, a window of them at a time.
func (r *run) rolling(ctx context.Context, b *Rolling, only []string) bool {
	order, err := r.over(b, only)
	if err != nil {
		r.fail(event.Failed, fmt.Sprintf("rolling %q: %v", b.Name, err))
		r.explain(b, err.Error())
		return false
	}
	type end struct {
		host string
		ok   bool
	}
	w := newWindow(order, b)
	for _, h := range order {
		if step, out := r.droppedAt(h); out {
			w.down(h, fmt.Sprintf("%s failed before, in %s", h, step))
		}
	}
	ends := make(chan end)
	var hosts conc.WaitGroup
	for {
		if err := r.blocked(); err != nil {
			w.halt(err.Error())
		}
		for host, ok := w.start(); ok; host, ok = w.start() {
			soak := len(w.left()) > 0 && b.Soak > 0
			hosts.Go(func() {
				done := r.steps(ctx, b.Steps, []string{host})
				if _, out := r.droppedAt(host); out {
					done = false
				}
				if done && soak {
					waiting, stop := r.stopper.waiting(ctx)
					_ = r.e.cfg.Clock.Sleep(waiting, b.Soak) // cut short only when the run ends anyway
					stop()
				}
				ends <- end{host, done}
			})
		}
		if w.running == 0 {
			break
		}
		e := <-ends
		w.ended(e.host, e.ok)
	}
	hosts.Wait()
	for _, rec := range r.recordsOf(b) {
		if rec.begun {
			r.stepDone(ctx, rec)
		}
	}
	if w.reason == "" {
		return true
	}
	status := event.Failed
	for _, rec := range r.recordsOf(b) {
		for _, o := range rec.outcomes {
			if isFailure(o.status) {
				status = o.status
			}
		}
	}
	r.explain(b, w.reason)
	r.fail(status, fmt.Sprintf("rolling %q ended early: %s", b.Name, w.reason))
	return false
}

// over gives the hosts of a block in their order, within the selection.
func (r *run) over(b *Rolling, only []string) ([]string, error) {
	hosts, unknown, problems := b.Over(Scope{Results: r.results.view()})
	if problems.HasErrors() {
		return nil, problems
	}
	if unknown != nil {
		return nil, fmt.Errorf("its hosts cannot be known: %s", unknown.Reason)
	}
	var order []string
	for _, h := range hosts {
		selected := len(r.e.cfg.Limit) == 0 || slices.Contains(r.e.cfg.Limit, h)
		if selected && (only == nil || slices.Contains(only, h)) && !slices.Contains(order, h) {
			order = append(order, h)
		}
	}
	return order, nil
}

// recordsOf are the records of a block's tasks.
func (r *run) recordsOf(b *Rolling) []*record {
	var all []*record
	for _, rec := range r.records {
		if rec.n.block == b {
			all = append(all, rec)
		}
	}
	return all
}

func (r *run) explain(b *Rolling, reason string) {
	for _, rec := range r.recordsOf(b) {
		rec.because(reason)
	}
}
