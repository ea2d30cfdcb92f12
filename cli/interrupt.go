package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
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

// twoStage hands interrupts to the engine: the first asks it to finish what is under way, the second to stop at once. A
// third ends the context, for whatever does not listen to the engine.
func twoStage(ctx context.Context, s Streams) (context.Context, <-chan struct{}, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 3)
	stop := s.Signals(signals)
	interrupts := make(chan struct{}, 2)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 1; ; n++ {
			select {
			case <-signals:
				if n > 2 {
					cancel(errInterrupted)
					return
				}
				interrupts <- struct{}{}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, interrupts, func() {
		stop()
		cancel(nil)
		<-done
	}
}
