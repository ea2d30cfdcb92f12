package machine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// process is an entry of a machine's process table.
type process struct {
	pid, ppid int
	uid       int
	argv      []string
	started   time.Duration // of uptime
	cancel    context.CancelCauseFunc
	session   *Session
	killed    Signal // set at the end, by end

	mu      sync.Mutex
	handler func(Signal) bool // a shell's traps; true: the signal was taken
}

// processes is the process table.
type processes struct {
	mu   sync.Mutex
	last int
	all  map[int]*process
}

// Process describes a running process.
type Process struct {
	PID, PPID, UID int
	Argv           []string
	// Started is the uptime at which it began.
	Started time.Duration
}

type pidKey struct{}

// start enters a process. Its context ends when parent does, when it is killed, and with the power.
func (m *Machine) start(parent context.Context, argv []string, uid int) (context.Context, *process) {
	ctx, cancel := context.WithCancelCause(parent)
	p := &process{uid: uid, argv: argv, started: m.Uptime(), cancel: cancel, session: sessionOf(parent)}
	if up, ok := parent.Value(pidKey{}).(int); ok {
		p.ppid = up
	} else {
		p.ppid = 1
	}
	t := &m.procs
	t.mu.Lock()
	t.last++
	if t.last < 400 {
		t.last = 400 + t.last
	}
	p.pid = t.last
	t.all[p.pid] = p
	t.mu.Unlock()
	return context.WithValue(ctx, pidKey{}, p.pid), p
}

// end takes a process off the table and returns the exit status that its parent sees.
func (m *Machine) end(ctx context.Context, p *process, code int) int {
	t := &m.procs
	t.mu.Lock()
	delete(t.all, p.pid)
	t.mu.Unlock()
	var sig Signal
	if errors.As(context.Cause(ctx), &sig) {
		code = 128 + int(sig)
		p.killed = sig
	}
	p.cancel(nil)
	return code
}

// signal delivers a signal to a process: to its traps, or it ends it.
func (p *process) signal(s Signal) {
	p.mu.Lock()
	handler := p.handler
	p.mu.Unlock()
	if s != SIGKILL && handler != nil && handler(s) {
		return
	}
	if s.fatal() {
		p.cancel(s)
	}
}

// Kill sends a signal to a process and reports whether there is one.
func (m *Machine) Kill(pid int, s Signal) bool {
	m.procs.mu.Lock()
	p := m.procs.all[pid]
	m.procs.mu.Unlock()
	if p == nil {
		return false
	}
	p.signal(s)
	return true
}

// killAll ends every process, as the loss of power does.
func (m *Machine) killAll() {
	m.procs.mu.Lock()
	all := make([]*process, 0, len(m.procs.all))
	for _, p := range m.procs.all {
		all = append(all, p)
	}
	m.procs.mu.Unlock()
	for _, p := range all {
		p.cancel(SIGKILL)
	}
}

// Processes lists the running processes by PID, the daemons of active units included.
func (m *Machine) Processes() []Process {
	list := []Process{{PID: 1, Argv: []string{"/sbin/init"}}}
	list = append(list, m.daemonProcesses()...)
	m.procs.mu.Lock()
	for _, p := range m.procs.all {
		list = append(list, Process{PID: p.pid, PPID: p.ppid, UID: p.uid, Argv: p.argv, Started: p.started})
	}
	m.procs.mu.Unlock()
	slices.SortFunc(list, func(a, b Process) int { return a.PID - b.PID })
	return list
}

// Command is the process's command line as ps shows it.
func (p Process) Command() string { return strings.Join(p.Argv, " ") }

// background runs f in a goroutine that Close waits for. Its context ends with the power, not with the caller's.
func (m *Machine) background(ctx context.Context, f func(context.Context)) {
	detached := context.WithoutCancel(ctx)
	m.wg.Go(func() { f(detached) })
}
