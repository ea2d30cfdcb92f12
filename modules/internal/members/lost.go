package members

import (
	"context"
	"fmt"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc"
)

// A node that dies at work is waited for as long as a connection may be lost for other reasons, and not as long as the work may take.
const (
	lostAfter = 2 * time.Minute
	lostEvery = 10 * time.Second
)

// LostError says that a node that was at work is not in the cluster any more.
type LostError struct{ Node string }

func (e *LostError) Error() string {
	return fmt.Sprintf("the cluster has not seen %s for %s: it is down or cut off\n  look: pvecm status; the console of %s\n  next: bring %s back, then pxrun resume", e.Node, lostAfter, e.Node, e.Node)
}

// WhileSeen does something that a node is at work on, and ends the wait with a LostError when the cluster has not seen that node for a
// while. What the cluster sees is asked of others, the first of them that answers and has quorum; where none does, nothing is known, and
// the wait goes on.
func WhileSeen(ctx context.Context, t module.Target, others []string, node string, do func(context.Context) error) error {
	within, stop := context.WithCancelCause(ctx)
	var watch conc.WaitGroup
	defer watch.Wait()
	defer stop(nil)
	watch.Go(func() {
		if lost(within, t, others, node) {
			stop(&LostError{node})
		}
	})
	err := do(within)
	if lost, ok := context.Cause(within).(*LostError); ok && err != nil && ctx.Err() == nil {
		return lost
	}
	return err
}

// lost waits until nobody has seen the node for a while.
func lost(ctx context.Context, t module.Target, others []string, node string) bool {
	for away := time.Duration(0); away < lostAfter; {
		if t.Sleep(ctx, lostEvery) != nil {
			return false
		}
		if away += lostEvery; !unseen(ctx, t, others, node) {
			away = 0
		}
	}
	return ctx.Err() == nil
}

func unseen(ctx context.Context, t module.Target, others []string, node string) bool {
	for _, name := range others {
		if name == node {
			continue
		}
		conn, err := t.Conn(ctx, name)
		if err != nil {
			continue
		}
		r, err := conn.Run(ctx, transport.Command{Argv: []string{"cat", "/etc/pve/.members"}, Timeout: lostEvery})
		if err != nil || r.Exit != 0 {
			continue
		}
		if m, err := pve.ParseMembers(r.Stdout); err == nil && m.Cluster != nil && bool(m.Cluster.Quorate) {
			return !m.Online(node)
		}
	}
	return false
}
