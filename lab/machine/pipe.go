package machine

import (
	"bytes"
	"context"
	"io"
	"sync"
	"syscall"
)

// pipeSize is how much a pipe holds before its writer waits, as on Linux.
const pipeSize = 64 << 10

// Pipe is a kernel's pipe: bounded, closed from both sides, its waits ended by a context. Programs that are killed while
// they wait for input or for room come free by it.
type Pipe struct {
	mu           sync.Mutex
	changed      sync.Cond
	buf          []byte
	noReader     bool
	noWriter     bool
	readerWaits  int
	writersWaits int
}

// NewPipe returns an empty pipe that is open at both ends.
func NewPipe() *Pipe {
	p := &Pipe{}
	p.changed.L = &p.mu
	return p
}

// contextReader is a reader whose waits a context ends.
type contextReader interface {
	ReadContext(ctx context.Context, p []byte) (int, error)
}

// lineReader reads no further than the end of a line, so that what follows is left to others.
type lineReader interface {
	ReadLineContext(ctx context.Context, p []byte) (int, error)
}

// contextWriter is a writer whose waits a context ends.
type contextWriter interface {
	WriteContext(ctx context.Context, p []byte) (int, error)
}

// ReadContext reads what is there, waiting for at least one byte.
func (p *Pipe) ReadContext(ctx context.Context, b []byte) (int, error) { return p.read(ctx, b, false) }

// ReadLineContext reads at most one line.
func (p *Pipe) ReadLineContext(ctx context.Context, b []byte) (int, error) {
	return p.read(ctx, b, true)
}

// Read reads without a context.
func (p *Pipe) Read(b []byte) (int, error) { return p.read(context.Background(), b, false) }

func (p *Pipe) read(ctx context.Context, b []byte, line bool) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.wait(ctx, func() bool { return len(p.buf) > 0 || p.noWriter }); err != nil {
		return 0, err
	}
	if len(p.buf) == 0 {
		return 0, io.EOF
	}
	from := p.buf
	if line {
		if i := bytes.IndexByte(from, '\n'); i >= 0 {
			from = from[:i+1]
		}
	}
	n := copy(b, from)
	p.buf = p.buf[n:]
	if len(p.buf) == 0 {
		p.buf = nil
	}
	p.changed.Broadcast()
	return n, nil
}

// WriteContext writes everything, waiting for room. Without a reader it fails with EPIPE.
func (p *Pipe) WriteContext(ctx context.Context, b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	done := 0
	for {
		if p.noReader || p.noWriter {
			return done, syscall.EPIPE
		}
		if room := pipeSize - len(p.buf); room > 0 && len(b) > done {
			n := min(room, len(b)-done)
			p.buf = append(p.buf, b[done:done+n]...)
			done += n
			p.changed.Broadcast()
		}
		if done == len(b) {
			return done, nil
		}
		if err := p.wait(ctx, func() bool { return len(p.buf) < pipeSize || p.noReader || p.noWriter }); err != nil {
			return done, err
		}
	}
}

// Write writes without a context.
func (p *Pipe) Write(b []byte) (int, error) { return p.WriteContext(context.Background(), b) }

// CloseWrite says that nothing more comes: the reader gets EOF after what is there.
func (p *Pipe) CloseWrite() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noWriter = true
	p.changed.Broadcast()
}

// CloseRead says that nobody reads any more: writers get EPIPE.
func (p *Pipe) CloseRead() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noReader = true
	p.buf = nil
	p.changed.Broadcast()
}

// wait waits with the lock held until ready.
func (p *Pipe) wait(ctx context.Context, ready func() bool) error {
	if ready() {
		return nil
	}
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.changed.Broadcast()
	})
	defer stop()
	for !ready() {
		if err := ctx.Err(); err != nil {
			return err
		}
		p.changed.Wait()
	}
	return nil
}

// boundReader gives a program a reader whose waits end with the program.
type boundReader struct {
	ctx context.Context //nolint:containedctx // io.Reader has no room for one
	r   contextReader
}

func (b boundReader) Read(p []byte) (int, error) { return b.r.ReadContext(b.ctx, p) }

func (b boundReader) ReadContext(ctx context.Context, p []byte) (int, error) {
	return b.r.ReadContext(ctx, p)
}

func (b boundReader) ReadLineContext(ctx context.Context, p []byte) (int, error) {
	if l, ok := b.r.(lineReader); ok {
		return l.ReadLineContext(ctx, p)
	}
	return b.r.ReadContext(ctx, p[:1])
}

// boundWriter gives a program a writer whose waits end with the program. A pipe that nobody reads kills the program,
// as SIGPIPE does.
type boundWriter struct {
	ctx  context.Context //nolint:containedctx // io.Writer has no room for one
	w    io.Writer
	kill func(Signal)
}

func (b boundWriter) Write(p []byte) (n int, err error) {
	if c, ok := b.w.(contextWriter); ok {
		n, err = c.WriteContext(b.ctx, p)
	} else {
		n, err = b.w.Write(p)
	}
	if err == syscall.EPIPE && b.kill != nil {
		b.kill(SIGPIPE)
	}
	return n, err
}

// WriteContext lets a bound writer be bound again by a child.
func (b boundWriter) WriteContext(ctx context.Context, p []byte) (int, error) {
	if c, ok := b.w.(contextWriter); ok {
		return c.WriteContext(ctx, p)
	}
	return b.w.Write(p)
}

// readLine reads at most one line from any reader, taking nothing beyond it.
func readLine(ctx context.Context, r io.Reader, p []byte) (int, error) {
	switch r := r.(type) {
	case lineReader:
		return r.ReadLineContext(ctx, p)
	case contextReader:
		return readBytewise(func(b []byte) (int, error) { return r.ReadContext(ctx, b) }, p)
	default:
		return readBytewise(r.Read, p)
	}
}

func readBytewise(read func([]byte) (int, error), p []byte) (int, error) {
	for i := range p {
		n, err := read(p[i : i+1])
		if n == 0 || err != nil {
			if i+n > 0 {
				return i + n, nil
			}
			return 0, err
		}
		if p[i] == '\n' {
			return i + 1, nil
		}
	}
	return len(p), nil
}
