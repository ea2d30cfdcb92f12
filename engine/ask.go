package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
)

// plan asks the module what it would change.
func (n *node) plan(ctx context.Context, t *target, asked *call) ([]module.Change, error) {
	var changes []module.Change
	err := guard(n.spec.Name, func() error {
		var err error
		changes, err = n.task.Module.Plan(ctx, t, asked.args)
		return err
	})
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool, len(changes))
	for i := range changes {
		c := &changes[i]
		if c.Host == "" {
			c.Host = t.Host().Name
		}
		if c.Apply == nil || seen[c.ID] {
			return nil, fmt.Errorf("module %s: change %q has no act or is not the only one of its name", n.spec.Name, c.ID)
		}
		seen[c.ID] = true
		if asked.item != "" {
			c.ID += "[" + asked.item + "]" // the same change for another item is another change
		}
	}
	return changes, nil
}

// read asks the module for its outputs.
func (n *node) read(ctx context.Context, t *target, args any) (any, error) {
	var outputs any
	err := guard(n.spec.Name, func() error {
		var err error
		outputs, err = n.task.Module.Read(ctx, t, args)
		return err
	})
	return outputs, err
}

// shown is what may be told of changes: without their contents if the task is sensitive.
func (n *node) shown(changes []module.Change) []module.Change {
	if !n.task.Sensitive {
		return changes
	}
	changes = slices.Clone(changes)
	for i := range changes {
		changes[i] = n.shownOne(changes[i])
	}
	return changes
}

func (n *node) shownOne(c module.Change) module.Change {
	if n.task.Sensitive {
		c.Before, c.After = nil, nil
	}
	return c
}

func (e *Engine) tellCrash(ctx context.Context, n *node, host string, err error) {
	if crash, ok := errors.AsType[*PanicError](err); ok {
		e.tell(ctx, n.task.Path, host, event.Note{Text: crash.Error() + "\n" + crash.Stack})
	}
}
