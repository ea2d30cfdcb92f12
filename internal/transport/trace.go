package transport

import (
	"context"
	"io"
	"time"
)

// Traced is one command that went through a connection, with what came of it. Result.Cached tells an answer that had
// been fetched beforehand.
type Traced struct {
	Host    string
	Command Command
	Result  Result
	Err     error
	Took    time.Duration
}

// Trace is the middleware that reports every command to f, also those of a batch, in which Took is each command's own
// duration. f is called from many goroutines and must not change what it is given.
func Trace(host string, f func(Traced)) Middleware {
	return func(next Conn) Conn { return tracer{next: next, host: host, report: f} }
}

type tracer struct {
	next   Conn
	host   string
	report func(Traced)
}

// Run reports one command.
func (t tracer) Run(ctx context.Context, c Command) (Result, error) {
	began := time.Now()
	r, err := t.next.Run(ctx, c)
	t.report(Traced{Host: t.host, Command: c, Result: r, Err: err, Took: time.Since(began)})
	return r, err
}

// Batch reports each of its commands; an error is reported with the first that has no result.
func (t tracer) Batch(ctx context.Context, cs []Command) ([]Result, error) {
	began := time.Now()
	results, err := t.next.Batch(ctx, cs)
	for i, r := range results {
		t.report(Traced{Host: t.host, Command: cs[i], Result: r, Took: r.Duration})
	}
	if err != nil && len(results) < len(cs) {
		t.report(Traced{Host: t.host, Command: cs[len(results)], Err: err, Took: time.Since(began)})
	}
	return results, err
}

// Put reports a transfer as the command "put path".
func (t tracer) Put(ctx context.Context, f File) error {
	began := time.Now()
	err := t.next.Put(ctx, f)
	t.report(Traced{Host: t.host, Command: Command{Argv: []string{"put", f.Path}, Mutates: true}, Err: err, Took: time.Since(began)})
	return err
}

// Get reports a transfer as the command "get path".
func (t tracer) Get(ctx context.Context, path string, w io.Writer) error {
	began := time.Now()
	err := t.next.Get(ctx, path, w)
	t.report(Traced{Host: t.host, Command: Command{Argv: []string{"get", path}}, Err: err, Took: time.Since(began)})
	return err
}

// Close closes the connection below.
func (t tracer) Close() error { return t.next.Close() }
