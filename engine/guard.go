package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/panics"
)

// PanicError is a module that crashed. The stack is for the log.
type PanicError struct {
	Module string
	Value  any
	Stack  string
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("module %s crashed: %v (this is a bug in pxrun; the stack is in the run's log)", e.Module, e.Value)
}

// guard runs code of a module, or of the language, and makes a panic an error.
func guard(module string, do func() error) error {
	var err error
	if crashed := panics.Try(func() { err = do() }); crashed != nil {
		return &PanicError{Module: module, Value: crashed.Value, Stack: string(crashed.Stack)}
	}
	return err
}

// ErrReadOnly is what a command that may change a host gets while planning.
var ErrReadOnly = errors.New("planning must not change anything")

// readOnly refuses whatever may change the host.
type readOnly struct{ conn }

func (r readOnly) Run(ctx context.Context, c command) (answer, error) {
	if c.Mutates {
		return answer{}, fmt.Errorf("%w: %s", ErrReadOnly, c)
	}
	return r.conn.Run(ctx, c)
}

func (r readOnly) Batch(ctx context.Context, cs []command) ([]answer, error) {
	if i := slices.IndexFunc(cs, func(c command) bool { return c.Mutates }); i >= 0 {
		return nil, fmt.Errorf("%w: %s", ErrReadOnly, cs[i])
	}
	return r.conn.Batch(ctx, cs)
}

func (r readOnly) Put(_ context.Context, f transport.File) error {
	return fmt.Errorf("%w: put %s", ErrReadOnly, f.Path)
}

// Close does nothing: the engine closes its connections itself.
func (readOnly) Close() error { return nil }
