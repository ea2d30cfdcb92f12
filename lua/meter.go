package lua

import (
	"context"
	"time"
)

// patience is how many steps a script makes between two looks at the clock.
const patience = 64

// meter counts what one call uses. It is the context that the interpreter asks before each instruction, which makes
// Done the place where instructions are counted: a channel that never closes says "go on", the closed one "stop". Only
// the goroutine that runs the script touches it; see gate.
type meter struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	limits Limits

	steps, memory, output int64
	next                  int64 // the count of steps at which to look at the clock
	over                  error // what ended the script, for good
}

var stop = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func newMeter(ctx context.Context, limits Limits) *meter {
	ctx, cancel := context.WithCancelCause(ctx)
	return &meter{ctx: ctx, cancel: cancel, limits: limits, next: patience}
}

// Done is asked by the interpreter before each instruction.
func (m *meter) Done() <-chan struct{} {
	m.steps++
	if m.steps >= m.next {
		m.look()
	}
	if m.over != nil {
		return stop
	}
	return nil
}

// Err is what the interpreter raises once Done is closed.
func (m *meter) Err() error { return m.over }

// Deadline is that of the call.
func (m *meter) Deadline() (time.Time, bool) { return m.ctx.Deadline() }

// Value is that of the call.
func (m *meter) Value(key any) any { return m.ctx.Value(key) }

func (m *meter) look() {
	m.next = m.steps + patience
	switch {
	case m.over != nil:
	case m.steps > m.limits.Steps:
		m.end(m.limits.stepsError())
	case m.ctx.Err() != nil:
		m.end(context.Cause(m.ctx))
	}
}

// end stops the script and what it waits for.
func (m *meter) end(err error) error {
	if m.over == nil {
		m.over = err
		m.cancel(err)
	}
	return m.over
}

// work charges n steps of a library function.
func (m *meter) work(n int) error {
	m.steps += int64(n)
	if m.steps >= m.next {
		m.look()
	}
	return m.over
}

// alloc charges n bytes that are about to be allocated.
func (m *meter) alloc(n int64) error {
	if n < 0 || n > m.limits.Memory-m.memory {
		return m.end(m.limits.memoryError())
	}
	m.memory += n
	return m.over
}

// print charges n bytes of output.
func (m *meter) print(n int) error {
	m.output += int64(n)
	if m.output > m.limits.Output {
		return m.end(m.limits.outputError())
	}
	return m.over
}
