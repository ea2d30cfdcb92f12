package event

import (
	"context"
	"errors"
	"sync"
)

// Buffered puts a queue and a goroutine before a sink for people, so that a slow terminal does not slow the run. When
// size events wait, further output lines and remote commands are counted and dropped; every other event waits for room.
// Close returns when all is told.
func Buffered(to Sink, size int) Sink {
	b := &buffered{to: to, size: max(size, 1), done: make(chan struct{})}
	b.some = sync.NewCond(&b.mu)
	go b.drain()
	return b
}

type buffered struct {
	to   Sink
	size int
	done chan struct{}

	mu      sync.Mutex
	some    *sync.Cond // something changed: the queue, or closed
	queue   []Event
	dropped map[string]int // output lines by host, since the last one told
	closed  bool
	err     error
}

func (b *buffered) Handle(_ context.Context, e Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) >= b.size && !b.closed {
		switch e.Body.(type) {
		case Output:
			if b.dropped == nil {
				b.dropped = map[string]int{}
			}
			b.dropped[e.Host]++
			return b.err
		case CommandRan:
			return b.err
		}
		b.some.Wait()
	}
	if b.closed {
		return errors.New("sink is closed")
	}
	b.queue = append(b.queue, e)
	b.some.Broadcast()
	return b.err
}

func (b *buffered) drain() {
	defer close(b.done)
	for {
		events, dropped, more := b.take()
		for _, e := range events {
			b.tell(e)
		}
		for host, n := range dropped {
			b.tell(Event{Time: events[len(events)-1].Time, Seq: events[len(events)-1].Seq, Run: events[0].Run, Host: host, Body: Dropped{Lines: n}})
		}
		if !more {
			return
		}
	}
}

func (b *buffered) take() ([]Event, map[string]int, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) == 0 && !b.closed {
		b.some.Wait()
	}
	events, dropped := b.queue, b.dropped
	b.queue, b.dropped = nil, nil
	b.some.Broadcast()
	return events, dropped, !b.closed
}

func (b *buffered) tell(e Event) {
	if err := b.to.Handle(context.Background(), e); err != nil {
		b.mu.Lock()
		if b.err == nil {
			b.err = err
		}
		b.mu.Unlock()
	}
}

func (b *buffered) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.some.Broadcast()
	b.mu.Unlock()
	<-b.done
	return errors.Join(b.err, b.to.Close())
}
