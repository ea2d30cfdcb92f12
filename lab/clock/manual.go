package clock

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Manual is a clock that stands still until Advance moves it. Functions of AfterFunc run inside Advance, in the order
// in which they are due, so that a test sees their effect when Advance returns.
type Manual struct {
	mu     sync.Mutex
	now    time.Duration
	seq    int
	alarms []*alarm
	closed bool
	done   chan struct{}
}

type alarm struct {
	due time.Duration
	seq int
	f   func()
}

// NewManual returns a clock that shows zero.
func NewManual() *Manual { return &Manual{done: make(chan struct{})} }

// Elapsed is the model time since the start.
func (m *Manual) Elapsed() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Sleep waits until Advance has moved the clock by d, or for the end of ctx.
func (m *Manual) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	woken := make(chan struct{})
	stop, ok := m.add(d, func() { close(woken) })
	if !ok {
		return ErrClosed
	}
	select {
	case <-woken:
		return nil
	case <-m.done:
		return ErrClosed
	case <-ctx.Done():
		stop()
		return ctx.Err()
	}
}

// AfterFunc calls f once, inside the Advance that reaches its time.
func (m *Manual) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	stop, _ = m.add(d, f)
	return stop
}

func (m *Manual) add(d time.Duration, f func()) (stop func() bool, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return func() bool { return false }, false
	}
	m.seq++
	a := &alarm{due: m.now + d, seq: m.seq, f: f}
	m.alarms = append(m.alarms, a)
	return func() bool { return m.remove(a) }, true
}

func (m *Manual) remove(a *alarm) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.alarms, a)
	if i < 0 {
		return false
	}
	m.alarms = slices.Delete(m.alarms, i, i+1)
	return true
}

// Sleepers is how many sleepers and functions wait: a test that must not advance too early looks at it.
func (m *Manual) Sleepers() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.alarms)
}

// Advance moves the clock by d and runs everything that falls due on the way, also what is added on the way.
func (m *Manual) Advance(d time.Duration) {
	m.mu.Lock()
	end := m.now + d
	for !m.closed {
		next := m.earliest(end)
		if next < 0 {
			break
		}
		a := m.alarms[next]
		m.alarms = slices.Delete(m.alarms, next, next+1)
		m.now = max(m.now, a.due)
		m.mu.Unlock()
		a.f()
		m.mu.Lock()
	}
	m.now = max(m.now, end)
	m.mu.Unlock()
}

// earliest is the index of the first alarm due by end, or -1. The caller holds the lock.
func (m *Manual) earliest(end time.Duration) int {
	best := -1
	for i, a := range m.alarms {
		if a.due > end {
			continue
		}
		if best < 0 || a.due < m.alarms[best].due || (a.due == m.alarms[best].due && a.seq < m.alarms[best].seq) {
			best = i
		}
	}
	return best
}

// Close drops all waiting functions; sleepers get ErrClosed.
func (m *Manual) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		close(m.done)
	}
	m.alarms = nil
}
