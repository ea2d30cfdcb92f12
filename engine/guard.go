package engine

import (
	"fmt"

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
