package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"reflect"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"github.com/pxrun/pxrun/lab/vfs"
)

// elfMark begins the files that stand for registered programs. What follows, up to the newline, is the program's name.
const elfMark = "\x7fELF lab "

// Register makes a program: a file /usr/bin/<name> (or at the path, if name has a slash) that runs it.
func (m *Machine) Register(name string, program Program) {
	path := name
	if !strings.Contains(name, "/") {
		path = "/usr/bin/" + name
	}
	key := path[strings.LastIndexByte(path, '/')+1:]
	m.mu.Lock()
	programs := maps.Clone(m.programs)
	programs[key] = program
	m.programs = programs
	m.mu.Unlock()
	if err := m.disk.Seed(path, 0o755, []byte(elfMark+key+"\n")); err != nil {
		panic(fmt.Sprintf("register %s: %v", path, err)) // a path through a file: a mistake of the lab's author
	}
}

// Unregister takes a program's file away: shells then say "not found".
func (m *Machine) Unregister(name string) {
	for _, dir := range []string{"/usr/bin/", "/usr/sbin/"} {
		_ = m.disk.Remove(dir + name)
	}
}

func (m *Machine) program(name string) Program {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.programs[name]
}

// defaultPath is root's PATH in an SSH session.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Exec runs a program and returns its exit status: 127 if it does not exist, 126 if it may not be executed, 128+n if
// signal n ended it. Missing streams are empty or discarded.
func (m *Machine) Exec(ctx context.Context, p Proc) int {
	files, done := m.filesOf(&p)
	defer done()
	p.Machine = m
	return m.exec(ctx, p, files, nil)
}

// ExecSignal is Exec that also tells which signal ended the program; 0 is none.
func (m *Machine) ExecSignal(ctx context.Context, p Proc) (code int, killed Signal) {
	files, done := m.filesOf(&p)
	defer done()
	var entry *process
	code = m.exec(ctx, p, files, func(e *process) { entry = e })
	if entry != nil {
		killed = entry.killed
	}
	return code, killed
}

// filesOf makes descriptors of a Proc's streams. After done nothing is written to the caller's writers any more, whatever
// still runs in the background.
func (m *Machine) filesOf(p *Proc) (files descriptors, done func()) {
	if p.Stdin == nil {
		p.Stdin = eofReader{}
	}
	if p.Stdout == nil {
		p.Stdout = io.Discard
	}
	if p.Stderr == nil {
		p.Stderr = io.Discard
	}
	out := oneAtATime(p.Stdout)
	errs := out
	if !sameWriter(p.Stdout, p.Stderr) {
		errs = oneAtATime(p.Stderr)
	}
	files = descriptors{{r: p.Stdin}, {w: out}, {w: errs}}
	for _, f := range files {
		f.refs.Store(1)
	}
	for i := 3; i < len(p.extra); i++ {
		if f := p.extra[i]; f != nil {
			files.set(i, f.retain())
		}
	}
	return files, func() {
		files.release()
		for _, w := range []io.Writer{out, errs} {
			if l, ok := w.(*lockedWriter); ok {
				l.close()
			}
		}
	}
}

// oneAtATime makes a caller's writer safe for the several processes that may write to it at once. What can be waited on
// with a context is the machine's own and safe already.
func oneAtATime(w io.Writer) io.Writer {
	if _, ok := w.(contextWriter); ok {
		return w
	}
	return &lockedWriter{w: w}
}

// sameWriter compares writers, which may be of types that == would panic at.
func sameWriter(a, b io.Writer) bool {
	t := reflect.TypeOf(a)
	return t != nil && t == reflect.TypeOf(b) && t.Comparable() && a == b
}

type lockedWriter struct {
	mu     sync.Mutex
	w      io.Writer
	closed bool
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, syscall.EPIPE
	}
	return l.w.Write(p)
}

func (l *lockedWriter) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// exec runs a program with descriptors, which stay the caller's. started, if given, hears the process before it runs.
func (m *Machine) exec(ctx context.Context, p Proc, files descriptors, started func(*process)) int {
	if len(p.Argv) == 0 {
		return 0
	}
	if p.Dir == "" {
		p.Dir = "/"
	}
	if p.Env == nil {
		p.Env = map[string]string{"PATH": defaultPath}
	}
	p.Machine, p.files = m, files
	program, err := m.find(&p)
	if err != nil {
		text, code := "not found", exitNotFound
		if !errors.Is(err, fs.ErrNotExist) {
			text, code = Reason(err), exitNotExecutable
		}
		if f := files.get(2); f != nil && f.w != nil {
			fmt.Fprintf(f.w, "%s: %s\n", p.Argv[0], text)
		}
		return code
	}
	return m.runProcess(ctx, p, program, started)
}

// runProcess enters a process and runs a program as it.
func (m *Machine) runProcess(ctx context.Context, p Proc, program Program, started func(*process)) int {
	if !m.Up() {
		return 128 + int(SIGKILL)
	}
	pctx, entry := m.start(ctx, p.Argv, p.UID)
	if started != nil {
		started(entry)
	}
	p.pid, p.ctx = entry.pid, pctx
	m.bind(&p, entry)
	code, handled := m.intercept(pctx, &p)
	if !handled {
		code = m.guard(pctx, &p, program)
	}
	return m.end(pctx, entry, code)
}

// BeforeExec adds a function that is asked before each program starts (commands built into the shell are none). If it
// says handled, the program does not run and ends with that code. It may wait, until ctx ends.
func (m *Machine) BeforeExec(f func(ctx context.Context, p *Proc) (code int, handled bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beforeExec = append(m.beforeExec, f)
}

func (m *Machine) intercept(ctx context.Context, p *Proc) (int, bool) {
	m.mu.Lock()
	list := m.beforeExec
	m.mu.Unlock()
	for _, f := range list {
		if code, handled := f(ctx, p); handled {
			return code, true
		}
	}
	return 0, false
}

// bind gives a Proc the streams and the view that end with its process.
func (m *Machine) bind(p *Proc, entry *process) {
	p.Stdin, p.Stdout, p.Stderr = closedFile{}, closedFile{}, closedFile{}
	if f := p.files.get(0); f != nil && f.r != nil {
		p.Stdin = bindReader(p.ctx, f.r)
	}
	if f := p.files.get(1); f != nil && f.w != nil {
		p.Stdout = boundWriter{ctx: p.ctx, w: f.w, kill: entry.signal}
	}
	if f := p.files.get(2); f != nil && f.w != nil {
		p.Stderr = boundWriter{ctx: p.ctx, w: f.w, kill: entry.signal}
	}
	umask := fs.FileMode(0o022)
	if p.umask != nil {
		umask = *p.umask
	}
	p.view = &vfs.View{}
	*p.view = *m.FS.As(p.UID, m.groupsOf(p.UID)...)
	p.view.Ctx, p.view.Dir, p.view.Umask, p.view.Actor = p.ctx, p.Dir, umask, p
}

// guard keeps a program's panic within its process, which dies as by a segmentation fault.
func (m *Machine) guard(ctx context.Context, p *Proc, program Program) (code int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(p.Stderr, "%s: internal error of the simulated program: %v\n%s", p.Name(), r, debug.Stack())
			code = 128 + int(SIGSEGV)
		}
	}()
	return program(ctx, p)
}
