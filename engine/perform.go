package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/sourcegraph/conc/pool"
)

// task performs a task, on the hosts of a rolling block if only is given. It reports whether the run may go on.
func (r *run) task(ctx context.Context, n *node, only []string) bool {
	rec := r.records[n.index]
	hosts, items, skip, err := r.prepare(n)
	rec.begin(r.e.cfg.Clock.Now())
	if rec.announce() {
		r.e.tell(ctx, n.task.Path, "", event.StepStarted{Index: n.index + 1, Module: n.spec.Name, Hosts: hosts})
	}
	if only != nil {
		hosts = slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return !slices.Contains(only, h) })
	}
	var ended map[string]*outcome
	switch {
	case err != nil:
		rec.because(err.Error())
		ended = r.everywhere(hosts, &outcome{status: event.Failed, err: err})
		if len(hosts) == 0 {
			r.e.tell(ctx, n.task.Path, "", event.HostDone{Status: event.Failed, Error: err.Error()})
		}
	case skip != "":
		rec.because(skip)
		ended = r.everywhere(hosts, &outcome{status: event.Skipped})
	default:
		ended = r.work(ctx, n, hosts, items)
		r.doubtOthers(n, hosts, ended)
	}
	return r.conclude(ctx, n, ended, err, only != nil)
}

// prepare finds the hosts and items of a task, or why it does not run.
func (r *run) prepare(n *node) (hosts []string, items []*Item, skip string, err error) {
	scope := Scope{Results: r.results.view()}
	hosts, unknown, problems := r.e.hostsOf(r.b, n, scope)
	switch {
	case n.left != "":
		return hosts, nil, n.left, nil
	case problems.HasErrors():
		return nil, nil, "", problems
	case unknown != nil:
		return nil, nil, "", fmt.Errorf("its hosts cannot be known: %s", unknown.Reason)
	}
	items, unknown, problems = n.itemsOf(scope)
	switch {
	case problems.HasErrors():
		return hosts, nil, "", problems
	case unknown != nil:
		return hosts, nil, "", fmt.Errorf("its for_each cannot be known: %s", unknown.Reason)
	case len(hosts) == 0:
		return hosts, nil, "it has no hosts", nil
	case len(items) == 0:
		return hosts, nil, "its for_each is empty", nil
	}
	return hosts, items, "", nil
}

func (r *run) everywhere(hosts []string, o *outcome) map[string]*outcome {
	ended := make(map[string]*outcome, len(hosts))
	for _, h := range hosts {
		one := *o
		one.result = HostResult{Status: o.status, Failed: isFailure(o.status)}
		ended[h] = &one
	}
	return ended
}

// work performs a task on its hosts, at once where the module allows it.
func (r *run) work(ctx context.Context, n *node, hosts []string, items []*Item) map[string]*outcome {
	ended := make(map[string]*outcome, len(hosts))
	var going []string
	for _, h := range hosts {
		if o := r.outBefore(n, h); o != nil {
			ended[h] = o
		} else {
			going = append(going, h)
		}
	}
	if len(hosts) == 0 || len(going) == 0 {
		return ended
	}
	switch {
	case n.whole():
		o := r.host(ctx, n, r.subject(n, hosts), r.b.inventory(going), items)
		for h, part := range o.split(going) {
			ended[h] = part
		}
	case n.once():
		first := r.subject(n, hosts)
		if going[0] != first {
			for _, h := range going {
				ended[h] = r.standIn(n, first)
			}
			return ended
		}
		o := r.perHost(ctx, n, first, items)
		for _, h := range going {
			shared := *o
			if h != first {
				shared.done, shared.notDone = nil, nil
			}
			ended[h] = &shared
		}
	default:
		var mu sync.Mutex
		work := pool.New().WithMaxGoroutines(r.e.cfg.Parallelism)
		for _, h := range going {
			work.Go(func() {
				o := r.perHost(ctx, n, h, items)
				mu.Lock()
				ended[h] = o
				mu.Unlock()
			})
		}
		work.Wait()
	}
	return ended
}

// doubtOthers forgets what was read of the hosts that a task did not work on, if it changed anything: what they share
// with its hosts, such as /etc/pve, has changed with them. A host that was worked on forgot when it was changed itself.
func (r *run) doubtOthers(n *node, hosts []string, ended map[string]*outcome) {
	if len(hosts) == 0 {
		return
	}
	worked := map[string]bool{}
	if n.once() {
		worked[n.actsOn(r.b, r.subject(n, hosts)).Name] = true
	}
	changed := false
	for _, h := range hosts {
		o := ended[h]
		if o == nil || o.status == event.NotRun {
			continue
		}
		changed = changed || len(o.done) > 0 || isFailure(o.status)
		if !n.once() {
			worked[n.actsOn(r.b, h).Name] = true
		}
	}
	if changed {
		r.e.links.forget(func(host string) bool { return !worked[host] })
	}
}

// subject is the host by which the plan of a task that runs once is known.
func (r *run) subject(n *node, hosts []string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if (n.block == nil || n.task.RunOnce) && len(n.hosts) > 0 {
		return n.hosts[0]
	}
	return hosts[0]
}

// standIn is the outcome of a task that runs once on a host that it did not run on.
func (r *run) standIn(n *node, first string) *outcome {
	rec := r.records[n.index]
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if o := rec.outcomes[first]; o != nil && !isFailure(o.status) {
		return &outcome{status: event.Skipped, result: o.result}
	}
	return &outcome{status: event.NotRun, err: fmt.Errorf("%s, which stands for all, did not get there", first), result: HostResult{Status: event.NotRun}}
}

// outBefore is the outcome on a host that does not take part: it failed in an earlier task, or when this one was planned.
func (r *run) outBefore(n *node, host string) *outcome {
	if step, out := r.droppedAt(host); out {
		return &outcome{status: event.NotRun, err: fmt.Errorf("it failed before, in %s", step), result: HostResult{Status: event.NotRun}}
	}
	hp := r.approved[approvedKey{n.task.Path, host, ""}]
	if hp == nil || hp.Error == "" || n.whole() && !hp.Unreachable {
		return nil
	}
	return &outcome{status: hp.status(), err: errors.New(hp.Error), result: HostResult{Status: hp.status(), Failed: true, Error: hp.Error}}
}

func (r *run) perHost(ctx context.Context, n *node, subject string, items []*Item) *outcome {
	h := n.actsOn(r.b, subject) // readBook has seen to it that there is one
	return r.host(ctx, n, subject, []inventory.Host{*h}, items)
}

// host performs all items of a task for one subject.
func (r *run) host(ctx context.Context, n *node, subject string, on []inventory.Host, items []*Item) *outcome {
	o := &outcome{status: event.Skipped}
	release, err := r.e.fork(ctx)
	if err != nil {
		o.end(err)
		return o
	}
	defer release()
	start := r.e.cfg.Clock.Now()
	for _, h := range on {
		if k, err := r.e.links.of(r.b.rb.Site, h.Name); err == nil {
			k.at(n.task.Path)
		}
	}
	for i, item := range items {
		if err := r.item(ctx, n, subject, on, item, o); err != nil {
			for _, never := range items[i+1:] {
				o.notDone = append(o.notDone, r.promised(n, subject, never)...)
			}
			o.end(err)
			break
		}
	}
	o.took = r.e.cfg.Clock.Now().Sub(start)
	return o
}

// conclude tells how a task ended, makes its results known and decides whether the run goes on.
func (r *run) conclude(ctx context.Context, n *node, ended map[string]*outcome, whole error, inBlock bool) bool {
	rec := r.records[n.index]
	results := make(map[string]HostResult, len(ended))
	status := event.Skipped
	var failed []string
	for host, o := range ended {
		rec.put(host, o)
		if o.result.Status == "" {
			o.result.Status = o.status
		}
		results[host] = o.result
		status = worse(status, o.status)
		if o.status != event.NotRun {
			done := event.HostDone{Status: o.status, Changed: len(o.done), Duration: o.took}
			if o.err != nil {
				done.Error = transport.Explain(o.err)
			}
			r.e.tell(ctx, n.task.Path, host, done)
		}
		if isFailure(o.status) {
			failed = append(failed, host)
			r.drop(host, n.task.Path)
		}
	}
	r.results.put(n.task.Name, results)
	if !inBlock {
		r.stepDone(ctx, rec)
	}
	if len(failed) == 0 && whole == nil {
		return true
	}
	if inBlock {
		return false // the block decides
	}
	if n.task.OnFailure == Continue {
		return true
	}
	slices.Sort(failed)
	reason := fmt.Sprintf("the run ended after %s failed", n.task.Path)
	if len(failed) > 0 {
		reason += " on " + strings.Join(failed, ", ")
	}
	r.fail(worse(status, event.Unreachable), reason)
	return false
}

func (r *run) stepDone(ctx context.Context, rec *record) {
	rec.mu.Lock()
	status := event.Skipped
	for _, o := range rec.outcomes {
		status = stepStatus(status, o.status)
	}
	if len(rec.outcomes) == 0 && rec.reason != "" && rec.n.left == "" {
		status = event.Failed
	}
	start := rec.start
	rec.mu.Unlock()
	r.e.tell(ctx, rec.n.task.Path, "", event.StepDone{Status: status, Duration: r.e.cfg.Clock.Now().Sub(start)})
}

// item performs a task for one subject and item, again if it fails and the task allows it.
func (r *run) item(ctx context.Context, n *node, subject string, on []inventory.Host, item *Item, o *outcome) error {
	for try := 1; ; try++ {
		o.notDone = nil
		err := r.attempt(ctx, n, subject, on, item, o)
		if err == nil {
			return nil
		}
		r.e.tellCrash(ctx, n, subject, err)
		if len(o.notDone) == 0 {
			o.notDone = r.promised(n, subject, item)
		}
		if try >= n.task.Retry.Attempts || !retryable(err) || r.stopped() != nil || ctx.Err() != nil {
			return err
		}
		r.e.tell(ctx, n.task.Path, subject, event.Note{Text: fmt.Sprintf(
			"attempt %d of %d failed, the next one follows in %s: %v", try, n.task.Retry.Attempts, n.task.Retry.Delay, err)})
		waiting, stop := r.stopper.waiting(ctx)
		slept := r.e.cfg.Clock.Sleep(waiting, n.task.Retry.Delay)
		stop()
		if slept != nil || r.stopped() != nil {
			return err
		}
		for _, h := range on {
			if k, err := r.e.links.of(r.b.rb.Site, h.Name); err == nil {
				k.forget()
			}
		}
	}
}

// promised are the changes that the plan announced.
func (r *run) promised(n *node, subject string, item *Item) []made {
	key := approvedKey{step: n.task.Path, host: subject}
	if item != nil {
		key.item = item.Key
	}
	hp := r.approved[key]
	if hp == nil {
		return nil
	}
	return promises(hp.Changes)
}

// retryable reports whether trying again can help and cannot hurt.
func retryable(err error) bool {
	if _, lost := errors.AsType[*transport.LostError](err); lost {
		return false
	}
	if _, crashed := errors.AsType[*PanicError](err); crashed {
		return false
	}
	return statusOf(err) == event.Failed || statusOf(err) == event.Unreachable
}
