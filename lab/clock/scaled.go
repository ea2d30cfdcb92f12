package clock

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

// ErrClosed is what a sleeper gets when the clock is closed under it.
var ErrClosed = errors.New("the lab's clock is closed")

// Scaled is a clock that runs Speed times faster than time does. One that runs faster counts only the time in which the
// process gets to run.
type Scaled struct {
	speed float64
	start time.Time
	pulse *pulse // nil at a speed of 1 and less

	mu     sync.Mutex
	timers map[*alarmTimer]struct{}
	done   chan struct{}
	closed bool
	wg     sync.WaitGroup
}

// alarmTimer gives a timer an identity that exists before the timer does. It is due in model time.
type alarmTimer struct {
	*time.Timer
	due time.Duration
}

// New starts a clock. A speed of 1 is real time, 50 is fifty times faster; 0 and less mean 1.
func New(speed float64) *Scaled {
	if speed <= 0 {
		speed = 1
	}
	c := &Scaled{speed: speed, start: time.Now(), timers: map[*alarmTimer]struct{}{}, done: make(chan struct{})}
	if speed > 1 {
		c.pulse = newPulse(c.start)
		c.wg.Go(func() { c.pulse.keep(c.done) })
	}
	return c
}

// Speed is how many times faster than time the clock runs.
func (c *Scaled) Speed() float64 { return c.speed }

// Elapsed is the model time since the start.
func (c *Scaled) Elapsed() time.Duration {
	passed := time.Since(c.start)
	if c.pulse != nil {
		passed = c.pulse.since(time.Now())
	}
	return time.Duration(float64(passed) * c.speed)
}

// real is the time that a model duration takes, at least 1 ns.
func (c *Scaled) real(d time.Duration) time.Duration {
	return max(1, time.Duration(math.Ceil(float64(d)/c.speed)))
}

// Sleep waits for a model duration, the end of ctx or Close.
func (c *Scaled) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for due := c.Elapsed() + d; d > 0; d = due - c.Elapsed() {
		if err := c.nap(ctx, c.real(d)); err != nil {
			return err
		}
	}
	return nil
}

// nap waits for a duration of real time.
func (c *Scaled) nap(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return ErrClosed
	}
}

// AfterFunc calls f once when d has passed. After Close it does nothing.
func (c *Scaled) AfterFunc(d time.Duration, f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return func() bool { return false }
	}
	t := &alarmTimer{due: c.Elapsed() + d}
	c.timers[t] = struct{}{}
	t.Timer = time.AfterFunc(c.real(d), func() {
		if c.take(t) {
			defer c.wg.Done()
			f()
		}
	})
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, waiting := c.timers[t]
		delete(c.timers, t)
		t.Stop()
		return waiting
	}
}

// take claims a timer for running; false when it was stopped in the meantime, or is not due yet and was set again.
func (c *Scaled) take(t *alarmTimer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, waiting := c.timers[t]; !waiting {
		return false
	}
	if left := t.due - c.Elapsed(); left > 0 {
		t.Reset(c.real(left))
		return false
	}
	delete(c.timers, t)
	c.wg.Add(1)
	return true
}

// Close stops all timers, wakes all sleepers with ErrClosed and waits for running functions. It may be called again.
func (c *Scaled) Close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.done)
	}
	for t := range c.timers {
		t.Stop()
	}
	clear(c.timers)
	c.mu.Unlock()
	c.wg.Wait()
}
