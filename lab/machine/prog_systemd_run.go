package machine

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// transient is a unit to be made by systemd-run.
type transient struct {
	name, description string
	argv              []string
	env               map[string]string
	dir               string
	uid               int
	collect, remain   bool
	limit             time.Duration
	stdin             *openFile
	stdout, stderr    *openFile
	delay             time.Duration
	oneshot           bool
	stopPost          string
	tag               any
}

func runSystemdRun(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+qGu:p:E:PtdSr", "quiet=q", "collect=G", "unit=u", "property=p", "setenv=E", "pipe=P", "pty=t", "wait", "no-block", "on-active=", "description=", "uid=", "gid=",
		"working-directory=", "same-dir=d", "remain-after-exit=r", "service-type=", "slice=", "scope", "system", "user", "nice=", "no-ask-password", "timer-property=", "on-boot=", "on-calendar=", "send-sighup", "shell=S", "background=", "expand-environment=")
	if !ok {
		return 1
	}
	if len(rest) == 0 {
		io.WriteString(p.Stderr, "Command line to execute required.\n")
		return 1
	}
	if p.UID != 0 {
		io.WriteString(p.Stderr, "Failed to start transient service unit: Interactive authentication required.\n")
		return 1
	}
	m := p.Machine
	t := &transient{
		argv: rest, env: map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, dir: "/",
		collect: opts.has("G"), remain: opts.has("r"), oneshot: opts.last("service-type") == "oneshot", tag: p.Tag,
	}
	t.name = opts.last("u")
	if t.name == "" {
		random := make([]byte, 8)
		m.Random(random)
		t.name = fmt.Sprintf("run-p%d-i%x", p.pid, random[:4])
	}
	t.name = canonicalUnit(t.name)
	t.description = cmp.Or(opts.last("description"), strings.Join(rest, " "))
	if opts.has("scope") {
		return p.runChild(ctx, p.child(rest), "Failed to execute %s: %s")
	}
	if err := t.settings(p, opts); err != nil {
		fmt.Fprintln(p.Stderr, err)
		t.close()
		return 1
	}
	if _, err := lookup(m.FS.View, t.argv[0], t.env["PATH"]); err != nil && t.delay == 0 {
		fmt.Fprintf(p.Stderr, "Failed to find executable %s: %s\n", t.argv[0], Reason(err))
		t.close()
		return 1
	}
	u, err := m.startTransient(ctx, t)
	if err != nil {
		fmt.Fprintf(p.Stderr, "Failed to start transient service unit: %v\n", err)
		t.close()
		return 1
	}
	if !opts.has("q") && !opts.has("P") {
		if t.delay > 0 {
			fmt.Fprintf(p.Stderr, "Running timer as unit: %s\nWill run service as unit: %s\n", strings.TrimSuffix(t.name, ".service")+".timer", t.name)
		} else {
			fmt.Fprintf(p.Stderr, "Running as unit: %s\n", t.name)
		}
	}
	if !opts.has("wait") && !opts.has("P") && !opts.has("t") {
		return 0
	}
	select {
	case <-u.done:
	case <-ctx.Done():
		return 1
	}
	m.units.mu.Lock()
	defer m.units.mu.Unlock()
	if u.ExitCode == 2 {
		return 128 + u.ExitStatus
	}
	return u.ExitStatus
}

// settings reads the options that become properties of the unit.
func (t *transient) settings(p *Proc, opts flags) error {
	for _, pair := range opts.all("E") {
		name, value, given := strings.Cut(pair, "=")
		if !given {
			value = p.Env[name]
		}
		t.env[name] = value
	}
	if opts.has("d") {
		t.dir = p.Dir
	}
	if dir := opts.last("working-directory"); dir != "" {
		t.dir = dir
	}
	if opts.has("uid") {
		if err := t.setUser(p.Machine, opts.last("uid")); err != nil {
			return err
		}
	}
	if d := opts.last("on-active"); d != "" {
		var ok bool
		if t.delay, ok = duration(strings.TrimSuffix(d, "sec")); !ok {
			return fmt.Errorf("Failed to parse timespec value: %s", d)
		}
		t.delay = max(t.delay, time.Millisecond)
	}
	if opts.has("P", "t") {
		t.stdin, t.stdout, t.stderr = p.files.get(0).retain(), p.files.get(1).retain(), p.files.get(2).retain()
	}
	for _, property := range opts.all("p") {
		if err := t.property(p, property); err != nil {
			return err
		}
	}
	return nil
}

func (t *transient) setUser(m *Machine, name string) error {
	u, ok := m.User(name)
	if n, err := strconv.Atoi(name); err == nil && !ok {
		u, ok = m.UserByID(n)
	}
	if !ok {
		return fmt.Errorf("Failed to start transient service unit: unknown user %s", name)
	}
	t.uid = u.UID
	t.env["USER"], t.env["HOME"], t.env["LOGNAME"] = u.Name, u.Home, u.Name
	return nil
}

func (t *transient) property(p *Proc, text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("Not an assignment: %s", text)
	}
	switch key {
	case "StandardOutput", "StandardError":
		f, err := outputFile(p.Machine, value)
		if err != nil {
			return fmt.Errorf("Failed to set up standard output: %s", Reason(err))
		}
		slot := &t.stdout
		if key == "StandardError" {
			slot = &t.stderr
		}
		(*slot).release()
		*slot = f
	case "StandardInput":
		if path, ok := strings.CutPrefix(value, "file:"); ok {
			f, err := p.Machine.FS.Open(path, os.O_RDONLY, 0)
			if err != nil {
				return fmt.Errorf("Failed to set up standard input: %s", Reason(err))
			}
			t.stdin = fileOf(f, path, os.O_RDONLY)
		}
	case "Environment":
		for _, pair := range strings.Fields(value) {
			name, v, _ := strings.Cut(strings.Trim(pair, `"`), "=")
			t.env[name] = v
		}
	case "WorkingDirectory":
		t.dir = value
	case "RuntimeMaxSec":
		if d, ok := duration(value); ok {
			t.limit = d
		}
	case "User":
		return t.setUser(p.Machine, value)
	case "RemainAfterExit":
		t.remain = value == "yes" || value == "true" || value == "1"
	case "Type":
		t.oneshot = value == "oneshot"
	case "CollectMode":
		t.collect = t.collect || value == "inactive-or-failed"
	case "ExecStopPost":
		t.stopPost = value
	case "Description":
		t.description = value
	}
	return nil
}

// outputFile opens what StandardOutput= names; nil is the journal.
func outputFile(m *Machine, value string) (*openFile, error) {
	for prefix, flag := range map[string]int{"file:": 0, "append:": os.O_APPEND, "truncate:": os.O_TRUNC} {
		if path, ok := strings.CutPrefix(value, prefix); ok {
			f, err := m.FS.Open(path, os.O_WRONLY|os.O_CREATE|flag, 0o644)
			if err != nil {
				return nil, err
			}
			return fileOf(f, path, os.O_WRONLY), nil
		}
	}
	return nil, nil
}

func (t *transient) close() {
	t.stdin.release()
	t.stdout.release()
	t.stderr.release()
}

// startTransient makes the unit and runs its command apart from the session that asked for it.
func (m *Machine) startTransient(ctx context.Context, t *transient) (*unit, error) {
	m.units.mu.Lock()
	for i, old := range m.units.list {
		if old.Name != t.name {
			continue
		}
		if old.Active != "inactive" || !old.Transient {
			m.units.mu.Unlock()
			return nil, fmt.Errorf("Unit %s was already loaded or has a fragment file.", t.name)
		}
		m.units.list = append(m.units.list[:i:i], m.units.list[i+1:]...)
		break
	}
	u := &unit{UnitState: UnitState{
		Unit: Unit{Name: t.name, Description: t.description, Oneshot: t.oneshot}, Active: "active", Sub: "running", Load: "loaded", Result: "success", Since: m.opt.Wall().Add(m.Skew()), Transient: true,
	}, done: make(chan struct{}), collect: t.collect}
	if t.delay > 0 {
		u.Active, u.Sub = "inactive", "dead"
	}
	m.units.list = append(m.units.list, u)
	m.units.mu.Unlock()

	running := make(chan struct{})
	m.background(leaveSession(ctx), func(ctx context.Context) {
		defer close(u.done)
		defer t.close()
		if t.delay > 0 {
			close(running)
			if m.clock.Sleep(ctx, t.delay) != nil || !m.Up() {
				return
			}
			m.setState(u, func(s *UnitState) { s.Active, s.Sub = "active", "running" })
			m.runTransient(ctx, u, t, func() {})
			return
		}
		m.runTransient(ctx, u, t, func() { close(running) })
	})
	<-running
	return u, nil
}

func (m *Machine) runTransient(ctx context.Context, u *unit, t *transient, started func()) {
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, pidKey{}, 1))
	defer cancel(nil)
	m.Log(Entry{Unit: t.name, Ident: "systemd", PID: 1, Priority: 6, Text: fmt.Sprintf("Started %s - %s.", t.name, t.description)})
	p := Proc{Argv: t.argv, Env: t.env, Dir: t.dir, UID: t.uid, Tag: t.tag}
	log := func() *openFile {
		f := &openFile{w: &journalWriter{m: m, unit: t.name, ident: lastName(t.argv[0])}}
		f.refs.Store(1)
		return f
	}
	files := descriptors{t.stdin.orEmpty(), t.stdout.orElse(log), nil}
	if t.stderr != nil {
		files[2] = t.stderr.retain()
	} else {
		files[2] = files[1].retain()
	}
	var once bool
	code := m.exec(ctx, p, files, func(e *process) {
		m.units.mu.Lock()
		u.process = e
		u.MainPID = e.pid
		m.units.mu.Unlock()
		if t.limit > 0 {
			stop := m.clock.AfterFunc(t.limit, func() { e.signal(SIGTERM) })
			context.AfterFunc(ctx, func() { stop() })
		}
		once = true
		started()
	})
	if !once {
		started()
	}
	files.release()
	if t.stopPost != "" {
		m.Exec(ctx, Proc{Argv: []string{"/bin/sh", "-c", t.stopPost}, Env: t.env, Dir: t.dir, Tag: t.tag})
	}
	m.finishTransient(u, t, code)
}

// finishTransient records how the command ended and forgets the unit as systemd does: success always (unless it
// remains), failure only with --collect.
func (m *Machine) finishTransient(u *unit, t *transient, code int) {
	if !m.Up() {
		return
	}
	m.units.mu.Lock()
	u.process = nil
	m.units.mu.Unlock()
	m.setState(u, func(s *UnitState) {
		s.ExitStatus, s.ExitCode = code, 1
		switch {
		case code > 128 && code < 128+65:
			s.ExitStatus, s.ExitCode, s.Result = code-128, 2, "signal"
			if sig := Signal(code - 128); sig == SIGTERM || sig == SIGHUP || sig == SIGINT || sig == SIGPIPE {
				s.Result = "success"
			}
		case code != 0:
			s.Result = "exit-code"
		}
		s.Active, s.Sub = "inactive", "dead"
		if s.Result != "success" {
			s.Active, s.Sub = "failed", "failed"
		} else if t.remain {
			s.Active, s.Sub = "active", "exited"
		}
	})
	state, _ := m.Unit(t.name)
	if state.Active == "failed" {
		m.Log(Entry{Unit: t.name, Ident: "systemd", PID: 1, Priority: 4, Text: fmt.Sprintf("%s: Failed with result '%s'.", t.name, state.Result)})
	} else {
		m.Log(Entry{Unit: t.name, Ident: "systemd", PID: 1, Priority: 6, Text: t.name + ": Deactivated successfully."})
	}
	if state.Active == "inactive" || state.Active == "failed" && u.collect {
		m.forget(u)
	}
}

func (m *Machine) forget(u *unit) {
	m.units.mu.Lock()
	defer m.units.mu.Unlock()
	for i, one := range m.units.list {
		if one == u {
			m.units.list = append(m.units.list[:i:i], m.units.list[i+1:]...)
			return
		}
	}
}

func (f *openFile) orEmpty() *openFile {
	return f.orElse(func() *openFile { return textFile("") })
}

func (f *openFile) orElse(other func() *openFile) *openFile {
	if f != nil {
		return f.retain()
	}
	return other()
}
