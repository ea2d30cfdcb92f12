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
