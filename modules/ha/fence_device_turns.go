package ha

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pxrun/pxrun/engine/module"
)

// turns lets a run cut one node of a cluster at a time, over all of its tasks: each alone may be borne and two at once not. The
// next one's turn comes when the one before is proved back; if it is not, there is none.
type turns struct {
	mu    sync.Mutex
	turns map[turnKey]*turn
}

type turnKey struct{ run, cluster string }

// turn is the cutting of a node.
type turn struct {
	of    *turns
	key   turnKey
	node  string
	begun bool // its power may be off
	ended bool
}

func newTurns() *turns { return &turns{turns: map[turnKey]*turn{}} }

func turnOf(t module.Target, node string) turnKey {
	key := turnKey{run: t.Run(), cluster: "host " + node}
	if c := t.Cluster(); c != nil {
		key.cluster = c.Name
	}
	return key
}

// take waits for the node's turn. timeout is what one turn may take.
func (s *turns) take(ctx context.Context, t module.Target, node string, timeout time.Duration) (*turn, error) {
	mine := &turn{of: s, key: turnOf(t, node), node: node}
	told := false
	err := t.WaitFor(ctx, module.Condition{
		Name: "no other node of the cluster is cut off by this run", Timeout: timeout * time.Duration(max(len(module.TaskHosts(t)), 2)), Every: time.Second,
		Check: func(context.Context) error {
			err := s.try(mine)
			if err != nil && !told {
				told = true
				module.Tell(t, node, "it keeps its power for now: "+err.Error())
			}
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return mine, nil
}

func (s *turns) try(mine *turn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	other := s.turns[mine.key]
	switch {
	case other == nil || other.ended && other.node == mine.node:
		s.turns[mine.key] = mine
		return nil
	case other.ended:
		return module.Fatal(fmt.Errorf("%s stays as it is: this run has cut %s, which is not proved back (look: pvecm status)", mine.node, other.node))
	default:
		return fmt.Errorf("%s is being cut", other.node)
	}
}

// begin notes that from now on the node may be without power.
func (m *turn) begin() {
	m.of.mu.Lock()
	defer m.of.mu.Unlock()
	m.begun = true
}

// end gives the turn to the next, if the node was not touched or is proved back.
func (m *turn) end(back bool) {
	m.of.mu.Lock()
	defer m.of.mu.Unlock()
	m.ended = true
	if back || !m.begun {
		delete(m.of.turns, m.key)
	}
}

// forgive lets others have their turn again after a node has its power back. Their own gates tell whether the cluster bears it.
func (s *turns) forgive(t module.Target, node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := turnOf(t, node)
	if other := s.turns[key]; other != nil && other.ended && other.node == node {
		delete(s.turns, key)
	}
}
