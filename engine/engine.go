package engine

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

// Engine plans one runbook and performs the plan. It is for one run: make a new one for the next. Plan comes first,
// then Apply or Abandon, then Close.
type Engine struct {
	cfg   Config
	links *links
	forks chan struct{} // one token for each host that is worked on

	asking sync.Mutex  // one question at a time
	book   *book       // what Plan made of the runbook
	opened bool        // RunStarted was told
	ended  bool        // RunDone was told
	early  atomic.Bool // an interrupt came while planning
}

// New makes an engine. It connects to nothing yet.
func New(cfg Config) *Engine {
	cfg = cfg.withDefaults()
	e := &Engine{cfg: cfg, forks: make(chan struct{}, cfg.Parallelism)}
	e.links = &links{e: e, byHost: map[string]*link{}, dials: make(chan struct{}, cfg.Dials)}
	return e
}

// Close gives back all connections. Call it when no Plan or Apply runs.
func (e *Engine) Close() error { return e.links.close() }

// Abandon ends a run whose plan the user did not want.
func (e *Engine) Abandon(ctx context.Context, reason string) event.Summary {
	var s event.Summary
	if e.book != nil {
		for _, n := range e.book.nodes {
			s.Steps = append(s.Steps, event.StepSummary{
				Step: n.task.Path, Module: n.spec.Name, Status: event.NotRun, Reason: reason, Hosts: []event.HostSummary{},
			})
		}
	}
	_ = e.end(ctx, event.RunDone{Status: event.Cancelled, Summary: s}) // nothing was done that would have to be on disk
	return s
}

// end tells that the run is over, once.
func (e *Engine) end(ctx context.Context, done event.RunDone) error {
	if !e.opened || e.ended {
		return nil
	}
	e.ended = true
	return e.cfg.Bus.Emit(ctx, "", "", done)
}

// open reads the runbook's shape once, for Plan and Apply alike.
func (e *Engine) open(ctx context.Context, rb *Runbook) (*book, diag.List) {
	if e.book != nil {
		return e.book, nil
	}
	b, problems := e.readBook(rb)
	if problems.HasErrors() {
		return nil, problems
	}
	e.book = b
	if !e.opened {
		e.opened = true
		started := event.RunStarted{Command: e.cfg.Command, Runbook: rb.Name, Tasks: len(b.nodes), Hosts: b.hosts}
		if rb.Cluster != nil {
			started.Cluster = rb.Cluster.Name
		}
		e.tell(ctx, "", "", started)
	}
	return b, problems
}

// tell emits an event that nothing depends on.
func (e *Engine) tell(ctx context.Context, step, host string, body event.Body) {
	// The only errors are a journal's, and those matter where a change is announced: see run.announce.
	_ = e.cfg.Bus.Emit(ctx, step, host, body)
}

// fork waits for a free place among the hosts that are worked on at once.
func (e *Engine) fork(ctx context.Context) (release func(), err error) {
	select {
	case e.forks <- struct{}{}:
		return func() { <-e.forks }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// connect is what a Locker gets. Its commands leave the cached reads alone, but for those by which it takes the lease:
// ahead says what each host will read next, and that travels right behind them. So the reads of the first changes are
// made under the lease of their host and cost no exchange of their own. ahead is nil once the lease is held.
func (e *Engine) connect(site *inventory.Site, ahead *atomic.Pointer[func(host string) ([]command, int)]) Connect {
	return func(ctx context.Context, host string) (conn, error) {
		l, err := e.links.get(ctx, site, host)
		if err != nil {
			return nil, err
		}
		raw, reads := l.conns()
		if next := ahead.Load(); next != nil {
			probes, upTo := (*next)(host)
			return taking{conn: reads, k: l, probes: probes, upTo: upTo}, nil
		}
		return raw, nil
	}
}

// taking is the connection by which a lease is taken.
type taking struct {
	conn
	k      *link
	probes []command
	upTo   int // the task that the probes end with
}

// Run takes the reads along. Those of an earlier try are void.
func (t taking) Run(ctx context.Context, c command) (transport.Result, error) {
	t.k.follow(t.probes, t.upTo)
	t.k.mutating()
	return t.conn.Run(ctx, c)
}

// Close does nothing: the engine closes its connections itself.
func (t taking) Close() error { return nil }
