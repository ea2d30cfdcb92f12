package event

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Syncer is a sink that can be waited for: Sync returns when every event handled before it is safe on disk. The bus
// calls it, outside of its own lock so that calls can share one flush, after the events that a later run must find.
type Syncer interface {
	Sync(ctx context.Context) error
}

// BusConfig is what a Bus is made of.
type BusConfig struct {
	// Run is the id that every event carries.
	Run string
	// Now stamps events.
	Now func() time.Time
	// Redact takes the secrets out of a text. nil means that there are none.
	Redact func(string) string
	Sinks  []Sink
}

// Bus numbers, redacts and hands out events. It is safe for concurrent use; every sink sees the same order.
type Bus struct {
	cfg BusConfig

	mu     sync.Mutex
	seq    uint64
	closed bool
	lost   []error // of sinks for people, told once at Close
}

// NewBus makes a bus. It owns the sinks from now on.
func NewBus(cfg BusConfig) *Bus {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Bus{cfg: cfg}
}

// Emit tells all sinks. For the events that resume relies on it returns only when every Syncer has them on disk. The
// error is that of a Syncer: who gets one must not act. A broken sink for people, such as a closed pipe, stops nothing.
func (b *Bus) Emit(ctx context.Context, step, host string, body Body) error {
	if b.cfg.Redact != nil {
		body = redactBody(body, b.cfg.Redact)
	}
	flush, err := b.hand(ctx, Event{Run: b.cfg.Run, Step: step, Host: host, Body: body})
	if err != nil || !flush {
		return err
	}
	for _, s := range b.cfg.Sinks {
		if syncer, ok := s.(Syncer); ok {
			err = errors.Join(err, syncer.Sync(ctx))
		}
	}
	return err
}

func (b *Bus) hand(ctx context.Context, e Event) (flush bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false, errors.New("events: the run is over")
	}
	b.seq++
	e.Seq, e.Time = b.seq, b.cfg.Now()
	// Sinks write even while the run is being cancelled: what happened must be told.
	ctx = context.WithoutCancel(ctx)
	for i, s := range b.cfg.Sinks {
		failed := s.Handle(ctx, e)
		if failed == nil {
			continue
		}
		if _, ok := s.(Syncer); ok {
			err = errors.Join(err, failed)
		} else if len(b.lost) < 8 {
			b.lost = append(b.lost, fmt.Errorf("sink %d: %w", i, failed))
		}
	}
	return flushAfter(e.Body), err
}

// flushAfter says whether an event must be on disk before anything else happens. The end of a change or a step need
// not: lost, it makes an outcome unknown, which is read from the host again, and the next announcement flushes it too.
func flushAfter(body Body) bool {
	switch body.(type) {
	case ChangeStarted, UndoRegistered, UndoDone, RunDone, Interrupted:
		return true
	default:
		return false
	}
}

// Close closes the sinks, which tell what they still hold.
func (b *Bus) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	err := errors.Join(b.lost...)
	b.mu.Unlock()
	for _, s := range b.cfg.Sinks {
		err = errors.Join(err, s.Close())
	}
	return err
}
