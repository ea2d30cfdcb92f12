package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"mvdan.cc/sh/v3/syntax"
)

// shellJob is a background list.
type shellJob struct {
	number int
	pid    int
	text   string
	done   chan struct{}
	status int    // valid once done is closed
	killed Signal // likewise
}

// startJob runs a statement in the background. It outlives the session, as a process does that has no terminal to hang
// up; signals and the loss of power end it.
func (s *shell) startJob(st *syntax.Stmt) {
	if !s.m.fork() {
		s.cannotFork()
		return
	}
	sub := s.subshell()
	if !s.interact {
		sub.files.set(0, textFile(""))
	}
	text := jobText(st)
	ctx, entry := s.m.start(context.WithoutCancel(s.ctx), strings.Fields(text), s.proc.UID)
	sub.ctx, sub.signals = ctx, newSignalBox()
	sub.view.Ctx = ctx
	sub.signals.share(sub.traps)
	sub.signals.attach(entry)
	s.jobNo++
	job := &shellJob{number: s.jobNo, pid: entry.pid, text: text, done: make(chan struct{})}
	s.jobs = append(s.jobs, job)
	s.lastJob = entry.pid
	foreground := *st
	foreground.Background = false
	s.m.wg.Go(func() {
		defer s.m.unfork()
		sub.run([]*syntax.Stmt{&foreground})
		sub.files.release()
		job.status = s.m.end(ctx, entry, sub.status)
		job.killed = entry.killed
		close(job.done)
	})
	s.status = 0
}

func (s *shell) cannotFork() {
	s.complain("Cannot fork")
	s.status, s.exiting = 2, true
}

func jobText(st *syntax.Stmt) string {
	var b strings.Builder
	copied := *st
	copied.Background = false
	if err := syntax.NewPrinter(syntax.SingleLine(true)).Print(&b, &copied); err != nil || b.Len() == 0 {
		return "sh"
	}
	return strings.TrimSpace(b.String())
}

func (s *shell) findJob(word string) *shellJob {
	if len(s.jobs) == 0 {
		return nil
	}
	if n, ok := strings.CutPrefix(word, "%"); ok {
		if n == "%" || n == "+" || n == "" {
			return s.jobs[len(s.jobs)-1]
		}
		number, err := strconv.Atoi(n)
		for _, j := range s.jobs {
			if err == nil && j.number == number {
				return j
			}
		}
		return nil
	}
	pid, err := strconv.Atoi(word)
	for _, j := range s.jobs {
		if err == nil && j.pid == pid {
			return j
		}
	}
	return nil
}

// builtinWait waits for jobs; a trapped signal ends the waiting with 128+n.
func builtinWait(s *shell, args []string) int {
	jobs, status := s.jobs, 0
	if len(args) > 1 {
		jobs = nil
		for _, word := range args[1:] {
			j := s.findJob(word)
			if j == nil {
				if _, err := strconv.Atoi(word); err != nil {
					s.complain("wait: No such job: %s", word)
					return 2
				}
				return 127
			}
			jobs = append(jobs, j)
		}
	}
	for _, j := range jobs {
		select {
		case <-j.done:
			status = j.status
			s.mourn(j.killed)
			s.jobs = slices.DeleteFunc(slices.Clone(s.jobs), func(one *shellJob) bool { return one == j })
		case sig := <-s.signals.wake:
			s.signals.take(sig)
			return 128 + int(sig)
		case <-s.ctx.Done():
			s.end()
			return s.status
		}
	}
	if len(args) == 1 {
		s.jobs, status = nil, 0
	}
	return status
}

func builtinJobs(s *shell, _ []string) int {
	for _, j := range s.jobs {
		state := "Running"
		select {
		case <-j.done:
			state = "Done"
		default:
		}
		fmt.Fprintf(s.writer(1), "[%d] %s %s\n", j.number, state, j.text)
	}
	return 0
}

func builtinKill(s *shell, args []string) int {
	for i, arg := range args[1:] {
		if strings.HasPrefix(arg, "%") {
			j := s.findJob(arg)
			if j == nil {
				s.complain("kill: No such job: %s", arg)
				return 2
			}
			args = slices.Clone(args)
			args[i+1] = strconv.Itoa(j.pid)
		}
	}
	return kill(s.m, args, s.writer(1), func(format string, a ...any) { s.complain("kill: "+format, a...) })
}

// kill is shared by the builtin and the program.
func kill(m *Machine, args []string, out io.Writer, complain func(string, ...any)) int {
	sig := SIGTERM
	args = args[1:]
	if len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "--" {
		name := args[0][1:]
		args = args[1:]
		if name == "l" {
			fmt.Fprintln(out, "HUP INT QUIT ABRT KILL USR1 SEGV USR2 PIPE ALRM TERM CHLD CONT STOP")
			return 0
		}
		if name == "s" && len(args) > 0 {
			name, args = args[0], args[1:]
		}
		var ok bool
		if sig, ok = ParseSignal(name); !ok {
			complain("Illegal option -%s", name[:1])
			return 2
		}
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	status := 0
	for _, word := range args {
		pid, err := strconv.Atoi(strings.TrimPrefix(word, "-")) // a group is led by its first process
		switch {
		case err != nil:
			complain("Illegal number: %s", word)
			return 2
		case !m.Kill(pid, sig):
			if !m.isDaemon(pid) {
				complain("No such process")
				status = 1
			}
		}
	}
	return status
}

// signalBox holds what signals a shell traps and which have come.
type signalBox struct {
	mu      sync.Mutex
	actions map[Signal]string
	pending []Signal
	wake    chan Signal
	process *process
}

func newSignalBox() *signalBox {
	return &signalBox{actions: map[Signal]string{}, wake: make(chan Signal, 64)}
}

// attach makes the box the process's handler.
func (b *signalBox) attach(p *process) {
	b.process = p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handler = b.deliver
}

func (b *signalBox) share(traps map[string]string) {
	for name, action := range traps {
		b.set(name, action, true)
	}
}

func (b *signalBox) set(name, action string, on bool) {
	sig, ok := ParseSignal(name)
	if !ok || sig == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !on {
		delete(b.actions, sig)
		return
	}
	b.actions[sig] = action
}

// deliver is called by whoever sends the signal.
func (b *signalBox) deliver(sig Signal) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	action, ok := b.actions[sig]
	if !ok {
		return false
	}
	if action != "" {
		b.pending = append(b.pending, sig)
		select {
		case b.wake <- sig:
		default:
		}
	}
	return true
}

// next takes the oldest signal that has come.
func (b *signalBox) next() (Signal, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending) == 0 {
		return 0, false
	}
	sig := b.pending[0]
	b.pending = b.pending[1:]
	select {
	case <-b.wake:
	default:
	}
	return sig, true
}

// take puts back the wake-up that a wait consumed, so that next finds the count right.
func (b *signalBox) take(sig Signal) {
	select {
	case b.wake <- sig:
	default:
	}
}

// listen makes the shell's process deliver signals to its traps.
func (s *shell) listen() {
	s.m.procs.mu.Lock()
	p := s.m.procs.all[s.pid]
	s.m.procs.mu.Unlock()
	if p != nil {
		s.signals.attach(p)
	}
}

func (s *shell) unlisten() {
	if p := s.signals.process; p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.handler = nil
	}
}

// runTraps runs the actions of signals that have come.
func (s *shell) runTraps() {
	if s.inTrap {
		return
	}
	for {
		sig, ok := s.signals.next()
		if !ok {
			return
		}
		action := s.traps[sig.String()]
		if action == "" {
			continue
		}
		status := s.status
		s.inTrap = true
		s.evaluate(action)
		s.inTrap = false
		if s.exiting {
			return
		}
		s.status = status
	}
}

// runExitTrap runs the EXIT trap once. Exit inside of it sets the status anew.
func (s *shell) runExitTrap() {
	action, ok := s.traps["EXIT"]
	if !ok {
		return
	}
	if s.gone() {
		_, over, ok := s.outlive()
		if !ok {
			return
		}
		defer over()
	}
	delete(s.traps, "EXIT")
	status := s.status
	s.evaluate(action)
	if !s.exiting {
		s.status = status
	}
	s.exiting = false
}

// builtinTrap sets, resets and lists traps.
func builtinTrap(s *shell, args []string) int {
	args = args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		for _, name := range slices.Sorted(maps.Keys(s.traps)) {
			fmt.Fprintf(s.writer(1), "trap -- '%s' %s\n", strings.ReplaceAll(s.traps[name], "'", `'"'"'`), name)
		}
		return 0
	}
	action, names := args[0], args[1:]
	reset := action == "-"
	if len(names) == 0 { // trap EXIT: reset
		names, reset = args, true
	}
	if _, err := strconv.Atoi(action); err == nil && len(args) > 1 {
		names, reset = args, true
	}
	for _, name := range names {
		known, err := trapName(name)
		if err != nil {
			s.complain("trap: %s: bad trap", name)
			return 1
		}
		if s.traps == nil {
			s.traps = map[string]string{}
		}
		if reset {
			delete(s.traps, known)
		} else {
			s.traps[known] = action
		}
		s.signals.set(known, action, !reset)
	}
	return 0
}

func trapName(name string) (string, error) {
	upper := strings.TrimPrefix(strings.ToUpper(name), "SIG")
	if upper == "EXIT" || upper == "0" {
		return "EXIT", nil
	}
	sig, ok := ParseSignal(upper)
	if !ok {
		return "", errors.New("bad trap")
	}
	return sig.String(), nil
}
