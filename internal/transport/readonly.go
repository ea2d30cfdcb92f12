package transport

import (
	"context"
	"io"
)

// ReadOnlyError is a command that would change a host through a connection that may only read. It is a mistake of the
// module that sent it: planning must not write.
type ReadOnlyError struct {
	Command string
}

func (e *ReadOnlyError) Error() string {
	return "refused while planning, because it changes the host: " + e.Command
}

// ReadOnly is the middleware for planning: it refuses every command that mutates, and Put, before anything is sent.
func ReadOnly(next Conn) Conn { return readOnly{next} }

type readOnly struct{ next Conn }

// Run refuses a mutating command.
func (r readOnly) Run(ctx context.Context, c Command) (Result, error) {
	if c.Mutates {
		return Result{}, &ReadOnlyError{Command: c.String()}
	}
	return r.next.Run(ctx, c)
}

// Batch refuses the whole batch if one of its commands mutates.
func (r readOnly) Batch(ctx context.Context, cs []Command) ([]Result, error) {
	for _, c := range cs {
		if c.Mutates {
			return nil, &ReadOnlyError{Command: c.String()}
		}
	}
	return r.next.Batch(ctx, cs)
}

// Put is always refused.
func (r readOnly) Put(_ context.Context, f File) error {
	return &ReadOnlyError{Command: "put " + f.Path}
}

// Get reads.
func (r readOnly) Get(ctx context.Context, path string, w io.Writer) error {
	return r.next.Get(ctx, path, w)
}

// Close closes the connection below.
func (r readOnly) Close() error { return r.next.Close() }
