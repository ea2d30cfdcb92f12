package engine

import (
	"context"
	"slices"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
)

var (
	_ module.Companions = (*target)(nil)
	_ module.Teller     = (*target)(nil)
	_ module.Guarded    = (*target)(nil)
)

// TaskHosts are the names of all hosts of the task.
func (t *target) TaskHosts() []string {
	t.n.mu.Lock()
	defer t.n.mu.Unlock()
	return slices.Clone(t.n.hosts)
}

// Tell reports a result, unless the task's output is to be withheld.
func (t *target) Tell(host, text string) {
	if !t.n.task.Sensitive {
		t.e.tell(context.Background(), t.n.task.Path, host, event.Note{Text: text, Result: true})
	}
}

// GoOn is why nothing more may be begun on a host.
func (t *target) GoOn(ctx context.Context, host string) error {
	if t.run == nil {
		return nil
	}
	if err := t.run.stopped(); err != nil {
		return err
	}
	return t.run.confirm(ctx, host)
}
