package transport

import (
	"context"
	"fmt"
	"slices"
)

// flight is a read that is under way, for all who ask the same meanwhile.
type flight struct {
	epoch  uint64
	done   chan struct{}
	result Result
	err    error
}

// Together is the connection for those who read at the same time as many others, and much the same: a read that is under way is not
// sent again, its answer is for all who ask for it meanwhile. A node that is looked at for each of a hundred nodes is asked once.
//
// Such an answer may be older than the question, by as long as the read takes. quiet says whether that matters: it counts what
// changes any host, and tells whether nothing is being changed now. Only a read that began when nothing was being changed, and since
// which nothing was, is shared.
func (p *Prefetch) Together(quiet func() (epoch uint64, still bool)) Conn {
	return &together{Prefetch: p, quiet: quiet}
}

type together struct {
	*Prefetch
	quiet func() (epoch uint64, still bool)
}

// Run answers a read from what was fetched, or together with others.
func (t *together) Run(ctx context.Context, c Command) (Result, error) {
	if c.Mutates || c.Output != nil {
		return t.Prefetch.Run(ctx, c)
	}
	if r, ok := t.take(c); ok {
		return r, nil
	}
	epoch, still := t.quiet()
	if !still {
		return t.next.Run(ctx, c)
	}
	f, mine := t.board(c, epoch)
	if mine {
		f.result, f.err = t.next.Run(ctx, c)
		t.land(c, f)
		return own(f.result), f.err
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return Result{}, context.Cause(ctx)
	}
	if f.err != nil { // perhaps because whoever asked was stopped
		return t.next.Run(ctx, c)
	}
	t.mu.Lock()
	t.stats.Trips--
	t.mu.Unlock()
	r := own(f.result)
	r.Cached, r.Duration = true, 0
	return r, nil
}

// board joins a read that is under way, or begins one.
func (t *together) board(c Command, epoch uint64) (f *flight, mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := flightOf(c)
	if f := t.flights[key]; f != nil && f.epoch == epoch {
		return f, false
	}
	f = &flight{epoch: epoch, done: make(chan struct{})}
	if t.flights == nil {
		t.flights = map[string]*flight{}
	}
	t.flights[key] = f
	return f, true
}

// land ends a read: who asks from now on asks anew.
func (t *together) land(c Command, f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if key := flightOf(c); t.flights[key] == f {
		delete(t.flights, key)
	}
	close(f.done)
}

func flightOf(c Command) string { return fmt.Sprintf("%d %t %s", c.Timeout, c.Own, c.Identity()) }

// own is an answer that may be changed.
func own(r Result) Result {
	r.Stdout, r.Stderr = slices.Clone(r.Stdout), slices.Clone(r.Stderr)
	return r
}
