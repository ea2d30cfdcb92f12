package machine

import (
	"cmp"
	"context"
	"os"
	"strconv"
	"sync"
	"time"
)

// locks are flock(2) locks by path.
type locks struct {
	mu   sync.Mutex
	held map[string]*openFile // exclusive owners
	wait chan struct{}
}

// runFlock locks a file for a command, or a descriptor that the shell holds open.
func runFlock(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+nxsuw:E:oc:", "nonblock=n", "nb=n", "exclusive=x", "shared=s", "unlock=u", "timeout=w", "wait=w", "conflict-exit-code=E", "close=o", "command=c")
	if !ok || len(rest) == 0 {
		return p.Fail(64, "not enough arguments")
	}
	conflict, err := strconv.Atoi(cmp.Or(opts.last("E"), "1"))
	if err != nil {
		return p.Fail(64, "invalid exit code: '%s'", opts.last("E"))
	}
	var file *openFile
	if fd, err := strconv.Atoi(rest[0]); err == nil && len(rest) == 1 {
		if file = p.files.get(fd); file == nil || file.path == "" {
			return p.Fail(65, "%d: Bad file descriptor", fd)
		}
	} else {
		f, err := p.Open(rest[0], os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return p.Fail(66, "cannot open lock file %s: %s", rest[0], Reason(err))
		}
		file = fileOf(f, p.absolute(rest[0]), os.O_RDWR)
		defer file.release()
	}
	if opts.has("u") {
		p.Machine.unlock(file)
		return 0
	}
	limit := time.Duration(-1)
	if opts.has("n") {
		limit = 0
	} else if opts.has("w") {
		limit, _ = duration(opts.last("w"))
	}
	if !p.Machine.lock(ctx, file, limit) {
		return conflict
	}
	if len(rest) == 1 && !opts.has("c") {
		return 0
	}
	defer p.Machine.unlock(file)
	argv := rest[1:]
	if opts.has("c") {
		argv = []string{"/bin/sh", "-c", opts.last("c")}
	} else if len(argv) == 2 && argv[0] == "-c" {
		argv = []string{"/bin/sh", "-c", argv[1]}
	}
	return p.runChild(ctx, p.child(argv), "failed to execute %s: %s")
}

func (p *Proc) absolute(path string) string {
	if real, err := p.view.Realpath(path, true); err == nil {
		return real
	}
	return path
}

// lock takes a file's lock within limit (negative: no limit). The lock goes with the last descriptor of the description.
func (m *Machine) lock(ctx context.Context, f *openFile, limit time.Duration) bool {
	expired := make(chan struct{})
	if limit > 0 {
		stop := m.clock.AfterFunc(limit, func() { close(expired) })
		defer stop()
	} else if limit == 0 {
		close(expired)
	}
	l := &m.locks
	for {
		l.mu.Lock()
		owner := l.held[f.path]
		if owner == nil || owner == f {
			if owner == nil {
				l.held[f.path] = f
				old := f.close
				f.close = func() {
					m.unlock(f)
					if old != nil {
						old()
					}
				}
			}
			l.mu.Unlock()
			return true
		}
		wait := l.wait
		l.mu.Unlock()
		select {
		case <-wait:
		case <-expired:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (m *Machine) unlock(f *openFile) {
	l := &m.locks
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[f.path] == f {
		delete(l.held, f.path)
		close(l.wait)
		l.wait = make(chan struct{})
	}
}
