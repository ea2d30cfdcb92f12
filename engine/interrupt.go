package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/sourcegraph/conc"
)

// stopper is how far a run has been told to stop. First nothing new is begun; a grace period later, waits end; and when
// the user insists, everything does.
type stopper struct {
	mu     sync.Mutex
	reason error         // why nothing new may begin
	told   chan struct{} // closed with the first reason

	waits     context.Context // ends when waits must
	endWaits  context.CancelCauseFunc
	interrupt int
}

func newStopper() *stopper {
	s := &stopper{told: make(chan struct{})}
	s.waits, s.endWaits = context.WithCancelCause(context.Background())
	return s
}

// stop keeps new work from beginning. Only the first reason counts.
func (s *stopper) stop(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == nil {
		s.reason = reason
		close(s.told)
	}
}

// stopped gives the reason why nothing new may begin; nil if it may.
func (s *stopper) stopped() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

func (s *stopper) interrupts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.interrupt
}

func (s *stopper) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interrupt++
	return s.interrupt
}

// waiting derives a context for something that changes nothing.
func (s *stopper) waiting(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(s.waits, func() { cancel(context.Cause(s.waits)) })
	return ctx, func() {
		unhook()
		cancel(nil)
	}
}

// untilStopped derives a context that ends when nothing new may begin: for waits that nobody needs then.
func (s *stopper) untilStopped(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var waiter conc.WaitGroup
	waiter.Go(func() {
		select {
		case <-s.told:
			cancel(s.stopped())
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel(nil)
		waiter.Wait()
	}
}

// watch listens for interrupts until ctx ends. cancel ends the work at once.
func (e *Engine) watch(ctx context.Context, s *stopper, cancel context.CancelCauseFunc) {
	grace := make(chan struct{})
	var pending <-chan struct{}
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-e.cfg.Interrupts:
			if !open {
				<-ctx.Done()
				return
			}
			n := s.count()
			e.tell(ctx, "", "", event.Interrupted{Count: n})
			s.stop(ErrInterrupted)
			if n > 1 {
				s.endWaits(ErrInterrupted)
				cancel(ErrInterrupted)
				return
			}
			timer := time.AfterFunc(e.cfg.Grace, func() { close(grace) })
			defer timer.Stop()
			pending = grace
		case <-pending:
			s.endWaits(fmt.Errorf("%w: the wait was given up after %s", ErrInterrupted, e.cfg.Grace))
			pending = nil
		}
	}
}

// planningContext ends with the first interrupt: planning changes nothing that would have to be finished.
func (e *Engine) planningContext(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case _, open := <-e.cfg.Interrupts:
			if open {
				e.early.Store(true)
				e.tell(ctx, "", "", event.Interrupted{Count: 1})
				cancel(ErrInterrupted)
			}
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}

// TimeoutError is a task that took longer than its timeout on a host.
type TimeoutError struct{ After time.Duration }

func (e *TimeoutError) Error() string { return fmt.Sprintf("timed out after %s", e.After) }

// timeout bounds one host's planning or applying of the task.
func (n *node) timeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if n.task.Timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, n.task.Timeout, &TimeoutError{n.task.Timeout})
}
