package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

func notifySignals(to chan<- os.Signal) (stop func()) {
	signal.Notify(to, os.Interrupt, syscall.SIGTERM)
	return func() { signal.Stop(to) }
}

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = errors.New("interrupted")

// interruptible returns a context that the first SIGINT or SIGTERM ends: for commands that change nothing.
func interruptible(ctx context.Context, s Streams) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	stop := s.Signals(signals)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-signals:
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		stop()
		cancel(nil)
		<-done
	}
}

// interrupts are the signals of a command that changes things. While the engine works it gets them: the first asks it to
// finish what is under way, the second to stop at once. At all other times, such as during a question, the first one
// ends the command.
type interrupts struct {
	toEngine chan struct{}
	working  atomic.Bool
}

// engine says whether the engine is at work.
func (i *interrupts) engine(working bool) { i.working.Store(working) }

// twoStage starts to listen for interrupts. A third one ends the context, for whatever does not listen to the engine.
func twoStage(ctx context.Context, s Streams) (context.Context, *interrupts, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 3)
	stop := s.Signals(signals)
	i := &interrupts{toEngine: make(chan struct{}, 2)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; {
			select {
			case <-signals:
				if n++; n > 2 || !i.working.Load() {
					cancel(errInterrupted)
					return
				}
				i.toEngine <- struct{}{}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, i, func() {
		stop()
		cancel(nil)
		<-done
	}
}
