package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// processPrograms start, watch and end processes.
func processPrograms() map[string]Program {
	return map[string]Program{
		"sleep": runSleep, "timeout": runTimeout, "env": runEnv, "nohup": runNohup, "setsid": runSetsid, "xargs": runXargs, "kill": runKill, "ps": runPs,
		"pgrep": runPgrep, "pkill": runPgrep, "killall": runKillall, "pidof": runPidof, "flock": runFlock, "sudo": runSudo, "su": runSu,
		"/usr/sbin/runuser": runSu, "nice": runWrapped, "ionice": runWrapped, "stdbuf": runWrapped, "chrt": runWrapped,
		"/usr/sbin/reboot": runPower, "/usr/sbin/poweroff": runPower, "/usr/sbin/halt": runPower, "/usr/sbin/shutdown": runPower, "time": runTime,
	}
}

// duration reads "1.5", "10s", "2m", "1h", "1d".
func duration(text string) (time.Duration, bool) {
	unit := time.Second
	if text != "" {
		switch text[len(text)-1] {
		case 's':
			text = text[:len(text)-1]
		case 'm':
			text, unit = text[:len(text)-1], time.Minute
		case 'h':
			text, unit = text[:len(text)-1], time.Hour
		case 'd':
			text, unit = text[:len(text)-1], 24*time.Hour
		}
	}
	if text == "infinity" {
		return 1 << 62, true
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 || n > 1e9 {
		return 0, false
	}
	return time.Duration(n * float64(unit)), true
}

func runSleep(ctx context.Context, p *Proc) int {
	if len(p.Argv) < 2 {
		return p.Fail(1, "missing operand")
	}
	total := time.Duration(0)
	for _, arg := range p.Args() {
		d, ok := duration(arg)
		if !ok {
			return p.Fail(1, "invalid time interval ‘%s’", arg)
		}
		total += d
	}
	if p.Machine.Sleep(ctx, total) != nil {
		return 1
	}
	return 0
}

func runTimeout(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+k:s:fpv", "kill-after=k", "signal=s", "foreground=f", "preserve-status=p", "verbose=v")
	if !ok || len(rest) < 2 {
		return p.Fail(125, "missing operand")
	}
	limit, valid := duration(rest[0])
	if !valid {
		return p.Fail(125, "invalid time interval ‘%s’", rest[0])
	}
	sig := SIGTERM
	if s := opts.last("s"); s != "" {
		if sig, ok = ParseSignal(s); !ok {
			return p.Fail(125, "‘%s’: invalid signal", s)
		}
	}
	child := p.child(rest[1:])
	started := make(chan *process, 1)
	code := make(chan int, 1)
	cctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.Machine.wg.Go(func() {
		code <- p.Machine.exec(cctx, child, p.files, func(e *process) { started <- e })
	})
	if limit == 0 {
		return <-code
	}
	expired, stop := p.Machine.deadline(limit)
	defer stop()
	select {
	case c := <-code:
		return c
	case <-expired:
	}
	select {
	case e := <-started:
		e.signal(sig)
	default:
		cancel(sig)
	}
	if k, ok := duration(opts.last("k")); ok && opts.has("k") {
		stopKill := p.Machine.clock.AfterFunc(k, func() { cancel(SIGKILL) })
		defer stopKill()
	}
	c := <-code
	if opts.has("p") {
		return c
	}
	if c == 128+int(SIGKILL) {
		return c
	}
	return 124
}

// realPatience is what timeout grants a program of real time in a lab whose clock runs fast: there the model's seconds
// pass while a busy computer has not yet run the program at all.
const realPatience = 2 * time.Second

// deadline returns a channel that is closed when a limit has passed, in model time and, on a fast clock, a little real
// time too.
func (m *Machine) deadline(limit time.Duration) (expired <-chan struct{}, stop func()) {
	done := make(chan struct{})
	real := time.Duration(0)
	if fast, ok := m.clock.(interface{ Speed() float64 }); ok && fast.Speed() > 1 {
		real = min(limit, realPatience)
	}
	var timers struct {
		sync.Mutex
		left int
		stop []func() bool
	}
	timers.left = 1
	fire := func() {
		timers.Lock()
		defer timers.Unlock()
		if timers.left--; timers.left == 0 {
			close(done)
		}
	}
	timers.Lock()
	defer timers.Unlock()
	if real > 0 {
		timers.left++
		timers.stop = append(timers.stop, time.AfterFunc(real, fire).Stop)
	}
	timers.stop = append(timers.stop, m.clock.AfterFunc(limit, fire))
	return done, func() {
		for _, stop := range timers.stop {
			stop()
		}
	}
}

func runEnv(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+iu:0C:S:", "ignore-environment=i", "unset=u", "chdir=C", "null=0")
	if !ok {
		return 125
	}
	env := maps.Clone(p.Env)
	if opts.has("i") {
		env = map[string]string{}
	}
	if len(rest) > 0 && rest[0] == "-" {
		env, rest = map[string]string{}, rest[1:]
	}
	for _, name := range opts.all("u") {
		delete(env, name)
	}
	for len(rest) > 0 && strings.Contains(rest[0], "=") {
		name, value, _ := strings.Cut(rest[0], "=")
		env[name] = value
		rest = rest[1:]
	}
	if len(rest) == 0 {
		end := "\n"
		if opts.has("0") {
			end = "\x00"
		}
		for _, name := range slices.Sorted(maps.Keys(env)) {
			io.WriteString(p.Stdout, name+"="+env[name]+end)
		}
		return 0
	}
	child := p.child(rest)
	child.Env = env
	if dir := opts.last("C"); dir != "" {
		child.Dir = dir
	}
	return p.runChild(ctx, child, "‘%s’: %s")
}

// runChild runs a program for a wrapper that complains in its own words if there is none.
func (p *Proc) runChild(ctx context.Context, child Proc, complaint string) int {
	path := child.Env["PATH"]
	if path == "" {
		path = p.Env["PATH"]
	}
	if _, err := lookup(p.view, child.Argv[0], path); err != nil {
		code := exitNotFound
		if !errors.Is(err, os.ErrNotExist) {
			code = exitNotExecutable
		}
		return p.Fail(code, complaint, child.Argv[0], Reason(err))
	}
	return p.Machine.exec(ctx, child, p.files, nil)
}

// runDetached runs a child that outlives the session. It waits for it unless the session goes; a signal to the wrapper
// goes to the child.
func (p *Proc) runDetached(ctx context.Context, child Proc, files descriptors) int {
	code := make(chan int, 1)
	cctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	kept := files.clone()
	p.Machine.wg.Go(func() {
		defer cancel(nil)
		c := p.Machine.exec(cctx, child, kept, nil)
		kept.release()
		code <- c
	})
	select {
	case c := <-code:
		return c
	case <-ctx.Done():
	}
	var sig Signal
	if errors.As(context.Cause(ctx), &sig) && sig != SIGHUP {
		cancel(sig)
		return <-code
	}
	return 128 + int(SIGHUP)
}

func runNohup(ctx context.Context, p *Proc) int {
	args := p.Args()
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return p.Fail(125, "missing operand")
	}
	return p.runDetached(ctx, p.child(args), p.files)
}

func runSetsid(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+cfw", "ctty=c", "fork=f", "wait=w")
	if !ok || len(rest) == 0 {
		return 1
	}
	if !opts.has("f") {
		return p.runDetached(leaveSession(ctx), p.child(rest), p.files)
	}
	child, files := p.child(rest), p.files.clone()
	p.Machine.background(leaveSession(ctx), func(ctx context.Context) {
		p.Machine.exec(ctx, child, files, nil)
		files.release()
	})
	return 0
}

func runWrapped(ctx context.Context, p *Proc) int {
	_, rest, ok := p.getopt("+n:c:p:i:o:e:fr")
	if !ok || len(rest) == 0 {
		return 0
	}
	return p.runChild(ctx, p.child(rest), "‘%s’: %s")
}

func runTime(ctx context.Context, p *Proc) int {
	_, rest, ok := p.getopt("+p")
	if !ok || len(rest) == 0 {
		return 0
	}
	before := p.Machine.Uptime()
	code := p.runChild(ctx, p.child(rest), "cannot run %s: %s")
	fmt.Fprintf(p.Stderr, "real %.2f\nuser 0.00\nsys 0.00\n", (p.Machine.Uptime() - before).Seconds())
	return code
}

func runPower(_ context.Context, p *Proc) int {
	if p.UID != 0 {
		return p.Fail(1, "must be superuser.")
	}
	reboot := p.Name() == "reboot" || slices.Contains(p.Args(), "-r")
	if slices.Contains(p.Args(), "-c") {
		return 0
	}
	p.Machine.Shutdown(reboot)
	return 0
}
