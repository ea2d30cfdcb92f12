package machine

import (
	"context"
	"errors"
	"time"
)

// Daemon is a process that a model runs without a program of the machine, such as the QEMU of a virtual guest.
type Daemon struct {
	process *process
}

// PID is the process's number.
func (d *Daemon) PID() int { return d.process.pid }

// Started is the uptime at which it began.
func (d *Daemon) Started() time.Duration { return d.process.started }

// End ends the process as if it had finished by itself.
func (d *Daemon) End() { d.process.cancel(nil) }

// Spawn enters such a process, which lives until it is ended. ended hears, in a goroutine that Close waits for, by what: by End
// (0), by a signal, or with the power (SIGKILL). ok is false while the machine is off.
func (m *Machine) Spawn(argv []string, ended func(Signal)) (d *Daemon, ok bool) {
	return m.spawn(argv, func(ctx context.Context) {
		<-ctx.Done()
		var sig Signal
		errors.As(context.Cause(ctx), &sig)
		ended(sig)
	})
}

// Work runs a daemon's work as a process of its own, in a goroutine that Close waits for. Its context ends when the process is
// killed and with the power. It reports false, and does nothing, while the machine is off.
func (m *Machine) Work(argv []string, work func(ctx context.Context)) bool {
	_, ok := m.spawn(argv, work)
	return ok
}

func (m *Machine) spawn(argv []string, work func(ctx context.Context)) (*Daemon, bool) {
	m.mu.Lock()
	if m.closed || m.power != running && m.power != stopping {
		m.mu.Unlock()
		return nil, false
	}
	m.wg.Add(1) // under the lock: Close waits after it has set closed
	m.mu.Unlock()
	ctx, p := m.start(context.Background(), argv, 0)
	if !m.Up() { // the power went before the process was in the table that dies with it
		p.cancel(SIGKILL)
	}
	go func() {
		defer m.wg.Done()
		work(ctx)
		m.end(ctx, p, 0)
	}()
	return &Daemon{process: p}, true
}
