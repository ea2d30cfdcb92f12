package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
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
	roll := &rolling{
		r: r, b: b, hosts: order, w: newWindow(order, b), began: r.e.cfg.Clock.Now(), total: len(order),
		works: map[string]*hostWork{}, seen: map[string]time.Time{},
	}
	roll.through(ctx)
	for _, rec := range r.recordsOf(b) {
		if rec.begun {
			r.stepDone(ctx, rec)
		}
	}
	w := roll.w
	if w.reason == "" {
		return true
	}
	status := event.Failed
	if w.refused {
		status = event.Refused
	}
	for _, rec := range r.recordsOf(b) {
		for _, o := range rec.outcomes {
			if isFailure(o.status) {
				status = o.status
			}
		}
	}
	r.explain(b, w.reason)
	if w.refused {
		r.e.tell(ctx, "", "", event.Warning{Text: w.reason})
	}
	r.fail(status, fmt.Sprintf("rolling %q ended early: %s", b.Name, w.reason))
	return false
}

// rolling is a block under way. Its fields are the property of the goroutine that runs through.
type rolling struct {
	r     *run
	b     *Rolling
	hosts []string
	w     *window
	works map[string]*hostWork
	seen  map[string]time.Time // when the work of a host was last found out
	began time.Time
	count int // hosts begun
	total int // of those that are to be
	asked int // approvals asked for
	// passed is the host for which somebody has approved, or "*" for all.
	passed string
	ends   chan turn // how turns have ended
}

// turn is how a host's turn ended.
type turn struct {
	host string
	ok   bool
}

func (g *rolling) through(ctx context.Context) {
	r, w := g.r, g.w
	for _, h := range g.hosts {
		if step, out := r.droppedAt(h); out {
			w.down(h, fmt.Sprintf("%s failed before, in %s", h, step))
		}
	}
	r.e.links.forget(everyHost)
	g.look(ctx, w.left)
	g.ends = make(chan turn, len(g.hosts)) // so that nobody waits for us while we wait for an approval
	var hosts conc.WaitGroup
	defer hosts.Wait()
	for {
		if err := r.blocked(); err != nil {
			w.halt(err.Error())
		}
		for {
			host, ok := g.next(ctx)
			if !ok {
				break
			}
			w.begin(host)
			g.publish()
			steps := g.stepsFor(host)
			hosts.Go(func() { g.ends <- turn{host, g.turn(ctx, host, steps)} })
		}
		g.publish()
		if len(w.away) == 0 {
			return
		}
		g.ended(<-g.ends)
	}
}

func (g *rolling) ended(end turn) {
	g.w.ended(end.host, end.ok)
	g.publish()
}

// collect takes note of the turns that ended while something was waited for: what became of them decides whether another host may begin.
func (g *rolling) collect() {
	for {
		select {
		case end := <-g.ends:
			g.ended(end)
		default:
			if err := g.r.blocked(); err != nil {
				g.w.halt(err.Error())
			}
			return
		}
	}
}

// stepsFor are the steps for a host: all, or those that clear up on one that is idle.
func (g *rolling) stepsFor(host string) []Step {
	if w := g.works[host]; w != nil && w.cleanUp {
		p, _ := g.r.b.partsOf(g.b)
		g.r.skipped(g.b, host, func(n *node) bool { return !slices.Contains(p.after, n) })
		return g.b.Steps[p.tail:]
	}
	return g.b.Steps
}

// turn takes a host through the steps, lets it soak, and does what is between hosts.
func (g *rolling) turn(ctx context.Context, host string, steps []Step) bool {
	r, start := g.r, g.r.e.cfg.Clock.Now()
	ok := r.steps(ctx, steps, []string{host})
	if _, out := r.droppedAt(host); out {
		ok = false
	}
	if ok && len(r.blockOf(g.b, host).Later) > 0 {
		if g.b.Soak > 0 {
			waiting, stop := r.stopper.waiting(ctx)
			_ = r.e.cfg.Clock.Sleep(waiting, g.b.Soak) // cut short only when the run ends anyway
			stop()
		}
		if r.blocked() == nil {
			ok = r.steps(ctx, g.b.Between, []string{host})
		}
	} else if ok {
		for _, step := range g.b.Between { // it is between nothing any more
			all := r.b.under(step)
			r.skipped(g.b, host, func(n *node) bool { return slices.Contains(all, n) })
		}
	}
	if !ok {
		r.giveUp(ctx, g.b, host)
	}
	done := event.NodeDone{Block: g.b.Name, Status: event.OK, Duration: r.e.cfg.Clock.Now().Sub(start)}
	if !ok {
		done.Status = event.Failed
		if r.stopped() != nil {
			done.Status = event.Cancelled
		}
		if step, out := r.droppedAt(host); out {
			done.Reason = "in " + step
		}
	}
	r.e.tell(ctx, "", host, done)
	return ok
}

// publish makes the state of the block known to its tasks.
func (g *rolling) publish() {
	g.r.mu.Lock()
	defer g.r.mu.Unlock()
	if g.r.blocks == nil {
		g.r.blocks = map[*Rolling]module.Block{}
	}
	g.r.blocks[g.b] = module.Block{
		Name: g.b.Name, Away: slices.Clone(g.w.away), Later: slices.Clone(g.w.left), Done: slices.Clone(g.w.done),
		Failed: slices.Clone(g.w.failed),
	}
}

// blockOf is the state of a block as a host in it sees it.
func (r *run) blockOf(b *Rolling, host string) *module.Block {
	if b == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.blocks[b]
	state.Name, state.Away, state.Failed = b.Name, without(state.Away, host), without(state.Failed, host)
	return &state
}

// next is the host that is to be begun now; false if none may, be it for now or for good.
func (g *rolling) next(ctx context.Context) (string, bool) {
	r, w := g.r, g.w
	for w.ready() && ctx.Err() == nil {
		if g.skipIdle(ctx) {
			continue
		}
		host, takes, ok := g.choose(ctx)
		if !ok {
			return "", false
		}
		if !g.fresh(ctx, host) {
			continue
		}
		switch waited, ok := g.allowed(ctx, host, takes); {
		case !ok:
			return "", false
		case waited:
			g.collect()
			continue // the cluster may have changed meanwhile
		}
		g.count++
		r.e.tell(ctx, "", host, event.NodeStarted{Block: g.b.Name, Index: g.count, Of: g.total, Takes: takes})
		return host, true
	}
	return "", false
}

// skipIdle leaves the idle hosts alone and reports whether there were any.
func (g *rolling) skipIdle(ctx context.Context) bool {
	any := false
	for _, host := range slices.Clone(g.w.left) {
		if work := g.works[host]; work != nil && work.idle != "" && !work.cleanUp {
			any = true
			g.w.skip(host)
			g.total--
			for _, then := range work.after {
				_ = g.r.crossOffPast(ctx, then.n, []string{host}, then.changes) // the list stays longer than it must be
			}
			g.r.skipped(g.b, host, func(*node) bool { return true })
			g.r.e.tell(ctx, "", host, event.NodeDone{Block: g.b.Name, Status: event.Skipped, Reason: work.idle})
		}
	}
	return any
}

// choose asks the Roller which host is next, or takes the first.
func (g *rolling) choose(ctx context.Context) (host string, takes time.Duration, ok bool) {
	r, w := g.r, g.w
	n, _ := r.b.roller(g.b)
	if n == nil {
		return w.left[0], 0, true
	}
	r.e.links.forget(everyHost)
	t := &target{e: r.e, b: r.b, run: r, block: r.blockOf(g.b, "")}
	course, err := r.e.course(ctx, r.b, t, asked{block: g.b, hosts: g.hosts, works: g.works, state: w}, r.results.view())
	if err == nil && len(course.Refusals) > 0 {
		err = course.Refusals
	}
	if err != nil {
		w.refuse(err.Error())
		return "", 0, false
	}
	r.e.tellCourse(ctx, n.task.Path, g.b.Name, course)
	next := slices.DeleteFunc(slices.Clone(course.Next), func(h string) bool { return !slices.Contains(w.left, h) })
	switch {
	case len(next) > 0:
		return next[0], course.Takes[next[0]], true
	case len(w.away) == 0:
		w.refuse(course.Why)
	}
	return "", 0, false
}

// workStays is how long it may be believed that a host has something to do. What its tasks do is planned anew anyway: this only
// saves a host from being drained for nothing.
const workStays = 5 * time.Minute

// look finds out what hosts have to do.
func (g *rolling) look(ctx context.Context, hosts []string) {
	for host, work := range g.r.works(ctx, g.b, hosts) {
		g.works[host], g.seen[host] = work, g.r.e.cfg.Clock.Now()
	}
}

// fresh reports whether the host still has something to do, right before its turn.
func (g *rolling) fresh(ctx context.Context, host string) bool {
	if g.r.e.cfg.Clock.Now().Sub(g.seen[host]) > workStays {
		g.look(ctx, []string{host})
	}
	return g.works[host].idle == "" || g.works[host].cleanUp
}

// over gives the hosts of a block in their order, within the selection.
func (r *run) over(b *Rolling, only []string) ([]string, error) {
	hosts, unknown, problems := b.Over(Scope{Results: r.results.view()})
	if problems.HasErrors() {
		return nil, problems
	}
	if unknown != nil {
		return nil, errors.New("its hosts cannot be known: " + unknown.Reason)
	}
	return r.e.among(hosts, only), nil
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
