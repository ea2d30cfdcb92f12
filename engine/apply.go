package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/sourcegraph/conc"
	"github.com/sourcegraph/conc/pool"
)

// releaseWithin bounds giving back a lease, and taking back temporary changes, at the end of a run.
const releaseWithin = 30 * time.Second

// Apply performs a plan that this engine made. Every task is planned anew right before it acts; a change that the plan
// did not announce is refused. The error is nil only if everything was done. The summary is complete in any case: it
// tells of every task and host what was and what was not done.
func (e *Engine) Apply(ctx context.Context, rb *Runbook, p *Plan) (event.Summary, error) {
	start := e.cfg.Clock.Now()
	b, problems := e.open(ctx, rb)
	if problems.HasErrors() {
		return event.Summary{}, problems
	}
	r := &run{e: e, b: b, approved: approve(p), stopper: newStopper(), records: make([]*record, len(b.nodes))}
	for i, n := range b.nodes {
		r.records[i] = &record{n: n, outcomes: map[string]*outcome{}}
	}
	r.pending = e.inherited()
	err := p.Blocked()
	if err == nil {
		err = r.perform(ctx, p)
	}
	s := r.summary(p, err)
	status, err := r.verdict(ctx, s, err)
	told := e.end(ctx, event.RunDone{Status: status, Summary: s, Duration: e.cfg.Clock.Now().Sub(start)})
	return s, errors.Join(err, told)
}

// verdict is how the run ended as a whole. A run that was interrupted is never a success.
func (r *run) verdict(ctx context.Context, s event.Summary, err error) (event.Status, error) {
	status := event.OK
	for _, step := range s.Steps {
		status = worse(status, step.Status)
	}
	if blocked, ok := errors.AsType[*BlockedError](err); ok {
		return blocked.Status, err
	}
	if r.interrupts() > 0 || ctx.Err() != nil {
		return event.Cancelled, &RunError{Status: event.Cancelled, Reason: "the run was interrupted"}
	}
	if err != nil {
		return worse(status, statusOf(err)), err
	}
	if severity[status] > severity[event.Deferred] {
		err = &RunError{Status: status, Reason: "the run did not do everything: see the summary"}
	}
	return status, err
}

// run is one Apply.
type run struct {
	e        *Engine
	b        *book
	approved approved
	results  results
	records  []*record
	*stopper

	mu      sync.Mutex
	dropped map[string]string // hosts that are out, and where they failed
	pending []pendingUndo     // temporary changes in place
	failure *RunError         // why no further task is begun
	lease   Lease             // nil where nothing is locked
	moment  int               // orders what is begun on hosts
	blocks  map[*Rolling]module.Block
	worked  map[string]bool // hosts on which the work of a rolling block was begun
	settled map[string]int  // by host: when a change without an undo was last begun, or one failed
}

// perform takes the lease, does the steps, and gives the lease back.
func (r *run) perform(ctx context.Context, p *Plan) error {
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var beside conc.WaitGroup
	watching, endWatch := context.WithCancel(ctx)
	if r.e.cfg.Interrupts != nil {
		beside.Go(func() { r.e.watch(watching, r.stopper, cancel) })
	}
	defer beside.Wait()
	defer endWatch()

	for _, u := range r.past().Unknown {
		r.e.tell(ctx, u.Step, u.Change.Host, event.Warning{Text: fmt.Sprintf(
			"outcome was unknown when the run ended, so it is read again from the host: %s", u.Change.Summary)})
	}
	if p.Empty() {
		r.nothing(ctx, p)
		return r.yield(ctx, work)
	}
	if r.e.early.Load() {
		r.count()
		r.stop(ErrInterrupted) // it came in the last moment of planning
		return ErrInterrupted
	}
	release, err := r.hold(ctx, work, true)
	if err != nil {
		return err
	}
	defer release()
	r.steps(work, r.b.rb.Steps, nil)
	if errors.Is(r.stopped(), ErrInterrupted) && r.interrupts() == 1 {
		r.undoWhatIsSafe(work)
	}
	return r.blocked()
}

// blocked says why no further task may be begun; nil if one may.
func (r *run) blocked() error {
	if err := r.stopped(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure != nil {
		return r.failure
	}
	return nil
}

// fail keeps further tasks from being begun. What is under way goes on to its end.
func (r *run) fail(status event.Status, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil {
		r.failure = &RunError{Status: status, Reason: reason}
	}
}

func (r *run) past() event.History {
	if r.e.cfg.Past == nil {
		return event.History{}
	}
	return *r.e.cfg.Past
}

// forget drops the cached reads of the hosts that it concerns.
func (l *links) forget(concerns func(host string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, k := range l.byHost {
		if concerns(name) {
			k.forget()
		}
	}
}

func everyHost(string) bool { return true }

// nothing records a plan with nothing to do: it was read a moment ago, so nobody is asked again.
func (r *run) nothing(ctx context.Context, p *Plan) {
	for i, t := range p.Tasks {
		rec := r.records[i]
		if changes, ok := allOf(t.Hosts); ok {
			rec.n.mu.Lock()
			hosts := slices.Clone(rec.n.hosts)
			rec.n.mu.Unlock()
			_ = r.crossOffPast(ctx, rec.n, hosts, changes) // the list stays longer than it must be
		}
		rec.begun, rec.reason = t.Skipped == "", t.Skipped
		status := map[string]event.Status{}
		for _, h := range t.Hosts {
			status[h.Host] = worse(h.status(), status[h.Host])
			if rec.n.whole() || rec.n.once() {
				for _, other := range rec.n.hosts {
					status[other] = worse(h.status(), status[other])
				}
			}
		}
		for host, s := range status {
			rec.outcomes[host] = &outcome{status: s}
		}
	}
}

// steps does steps in order, on the hosts of a rolling block if only is given. It reports whether those after them may
// be done.
func (r *run) steps(ctx context.Context, steps []Step, only []string) bool {
	for _, s := range steps {
		if r.blocked() != nil || ctx.Err() != nil {
			return false
		}
		if !r.step(ctx, s, only) {
			return false
		}
	}
	return true
}

func (r *run) step(ctx context.Context, s Step, only []string) bool {
	switch s := s.(type) {
	case *Task:
		return r.task(ctx, r.b.byTask[s], only)
	case *Parallel:
		goesOn := make([]bool, len(s.Steps))
		work := pool.New().WithMaxGoroutines(max(len(s.Steps), 1))
		for i, child := range s.Steps {
			work.Go(func() { goesOn[i] = r.step(ctx, child, only) })
		}
		work.Wait()
		for _, ok := range goesOn {
			if !ok {
				return false
			}
		}
		return true
	case *Rolling:
		return r.rolling(ctx, s, only)
	default:
		return false
	}
}

// announce writes down what is about to happen. Without that on disk nothing may happen.
func (r *run) announce(ctx context.Context, n *node, host string, body event.Body) error {
	if err := r.e.cfg.Bus.Emit(ctx, n.task.Path, host, body); err != nil {
		err = fmt.Errorf("the journal cannot be written, so nothing more is changed: %w", err)
		r.stop(err)
		return err
	}
	return nil
}

// drop takes a host out of the rest of the run.
func (r *run) drop(host, step string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dropped == nil {
		r.dropped = map[string]string{}
	}
	if _, out := r.dropped[host]; !out {
		r.dropped[host] = step
	}
}

// droppedAt says in which task a host failed.
func (r *run) droppedAt(host string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	step, out := r.dropped[host]
	return step, out
}
