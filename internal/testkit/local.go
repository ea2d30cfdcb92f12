package testkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
)

// Local is a connection that runs commands on this machine with /bin/sh, for tests that want a real shell. It does not
// shut anything in: tests use paths below a temporary directory and put fakes of dangerous programs in front of PATH.
type Local struct {
	// Bin is searched for programs before the system's own directories.
	Bin string

	mu    sync.Mutex
	calls []transport.Command
}

// NewLocal makes a connection with an empty directory for fake programs.
func NewLocal(tb testing.TB) *Local {
	tb.Helper()
	return &Local{Bin: tb.TempDir()}
}

// Program puts a fake program, written in sh, in front of the real one.
func (l *Local) Program(tb testing.TB, name, script string) {
	tb.Helper()
	if err := os.WriteFile(filepath.Join(l.Bin, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		tb.Fatal(err)
	}
}

// Calls lists the commands that were run, in order.
func (l *Local) Calls() []transport.Command {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]transport.Command(nil), l.calls...)
}

// Run runs one command.
func (l *Local) Run(ctx context.Context, c transport.Command) (transport.Result, error) {
	l.mu.Lock()
	l.calls = append(l.calls, c)
	l.mu.Unlock()
	limit := c.Timeout
	if limit == 0 {
		limit = transport.DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	argv := c.Argv
	if c.Script != "" {
		argv = append([]string{"/bin/sh", "-c", c.Script, "sh"}, c.Argv...)
	}
	if len(argv) == 0 {
		return transport.Result{}, errors.New("no command")
	}
	// env finds the program along the PATH that it sets, and fails like a shell does.
	cmd := exec.CommandContext(ctx, "/usr/bin/env", append(l.environment(c), argv...)...)
	cmd.Env = []string{"HOME=/root"}
	cmd.Stdin = bytes.NewReader(c.Stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	output := oneAtATime(c.Output)
	stdout, stderr := &keep{stream: transport.Stdout, output: output}, &keep{stream: transport.Stderr, output: output}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	started := time.Now()
	err := cmd.Run()
	stdout.end()
	stderr.end()
	r := transport.Result{Duration: time.Since(started), Dropped: stdout.dropped + stderr.dropped}
	r.Stdout, r.Stderr = stdout.bytes(), stderr.bytes()
	if ctx.Err() != nil {
		return r, fmt.Errorf("%s: %w", c, context.Cause(ctx))
	}
	exit, ran := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
	case !ran:
		return r, err
	default:
		r.Exit = exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			r.Exit = 128 + int(status.Signal())
		}
	}
	return r, nil
}

func (l *Local) environment(c transport.Command) []string {
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	if l.Bin != "" {
		path = l.Bin + ":" + path
	}
	env := []string{"PATH=" + path, "LC_ALL=C"}
	for k, v := range c.Env {
		env = append(env, k+"="+v)
	}
	return env
}

// Batch runs commands one after the other.
func (l *Local) Batch(ctx context.Context, cs []transport.Command) ([]transport.Result, error) {
	results := make([]transport.Result, len(cs))
	for i, c := range cs {
		r, err := l.Run(ctx, c)
		if err != nil {
			return nil, err
		}
		results[i] = r
	}
	return results, nil
}

// Put writes a file beside its path and renames it into place.
func (l *Local) Put(ctx context.Context, f transport.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(f.Path), ".put-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) //nolint:errcheck // gone after the rename
	mode := f.Mode
	if mode == 0 {
		mode = 0o644
		if info, err := os.Stat(f.Path); err == nil {
			mode = info.Mode()
		}
	}
	_, err = io.Copy(temp, f.Content)
	err = errors.Join(err, temp.Chmod(mode), l.chown(temp.Name(), f.Owner, f.Group), temp.Close())
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), f.Path)
}

func (l *Local) chown(path, owner, group string) error {
	uid, gid := -1, -1
	if owner != "" {
		u, err := user.Lookup(owner)
		if err != nil {
			return err
		}
		uid, _ = strconv.Atoi(u.Uid)
	}
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return err
		}
		gid, _ = strconv.Atoi(g.Gid)
	}
	if uid < 0 && gid < 0 {
		return nil
	}
	return os.Chown(path, uid, gid)
}

// Get reads a file.
func (l *Local) Get(ctx context.Context, path string, w io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	_, err = io.Copy(w, f)
	return err
}

// Close does nothing.
func (l *Local) Close() error { return nil }

// keep keeps the head and the tail of a stream and reports its lines.
type keep struct {
	stream  transport.Stream
	output  func(transport.Stream, string)
	head    []byte
	tail    []byte
	line    []byte
	dropped int64
}

// oneAtATime keeps the two streams from calling the same function at once.
func oneAtATime(output func(transport.Stream, string)) func(transport.Stream, string) {
	if output == nil {
		return nil
	}
	var mu sync.Mutex
	return func(s transport.Stream, line string) {
		mu.Lock()
		defer mu.Unlock()
		output(s, line)
	}
}

func (k *keep) Write(p []byte) (int, error) {
	const half = transport.OutputLimit / 2
	rest := p
	if room := half - len(k.head); room > 0 {
		n := min(room, len(rest))
		k.head = append(k.head, rest[:n]...)
		rest = rest[n:]
	}
	k.tail = append(k.tail, rest...)
	if over := len(k.tail) - half; over > 0 {
		k.tail = append(k.tail[:0], k.tail[over:]...)
		k.dropped += int64(over)
	}
	if k.output != nil {
		k.line = append(k.line, p...)
		for {
			i := bytes.IndexByte(k.line, '\n')
			if i < 0 {
				break
			}
			k.output(k.stream, string(k.line[:i]))
			k.line = k.line[i+1:]
		}
	}
	return len(p), nil
}

func (k *keep) end() {
	if k.output != nil && len(k.line) > 0 {
		k.output(k.stream, string(k.line))
		k.line = nil
	}
}

func (k *keep) bytes() []byte { return append(k.head, k.tail...) }
