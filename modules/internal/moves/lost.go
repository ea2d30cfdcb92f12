package moves

import (
	"context"
	"fmt"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc"
)

// A node that dies while a guest leaves it is waited for as long as a connection may be lost for other reasons, and not until the
// move would have had to be done.
const (
	lostAfter = 2 * time.Minute
	lostEvery = 10 * time.Second
)

// lostError says that the node on which a guest was is not in the cluster any more.
type lostError struct{ guest, node string }

func (e *lostError) Error() string {
	return fmt.Sprintf("%s is on %s, which the cluster has not seen for %s. Whether it runs is not known. Next: bring %s back; the HA manager starts elsewhere only what is under HA\nLook: pvecm status; the console of %s",
		e.guest, e.node, lostAfter, e.node, e.node)
}

// detached runs the migration on the node that the guest is on, for as long as the cluster sees that node.
func (m *Move) detached(ctx context.Context, t module.Target, j module.Job) (transport.Result, error) {
	within, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var watch conc.WaitGroup
	defer watch.Wait()
	defer stop(nil)
	watch.Go(func() {
		if m.lost(within, t) {
			stop(&lostError{m.Guest.String(), m.Guest.Node})
		}
	})
	r, err := t.Detach(within, m.Guest.Node, j)
	if lost, ok := context.Cause(within).(*lostError); err != nil && ok && ctx.Err() == nil {
		return r, lost
	}
	return r, err
}

// lost waits until the acting node has not seen the guest's node for a while. What the acting node does not tell is not counted.
func (m *Move) lost(ctx context.Context, t module.Target) bool {
	away := time.Duration(0)
	for away < lostAfter {
		if t.Sleep(ctx, lostEvery) != nil {
			return false
		}
		switch {
		case ctx.Err() != nil:
			return false
		case m.unseen(ctx, t):
			away += lostEvery
		default:
			away = 0
		}
	}
	return true
}

// unseen reports whether the acting node, which has quorum, does not see the guest's node.
func (m *Move) unseen(ctx context.Context, t module.Target) bool {
	if m.Actor == m.Guest.Node {
		return false
	}
	conn, err := t.Conn(ctx, m.Actor)
	if err != nil {
		return false
	}
	r, err := conn.Run(ctx, transport.Command{Argv: []string{"cat", "/etc/pve/.members"}, Timeout: lostEvery})
	if err != nil || r.Exit != 0 {
		return false
	}
	members, err := pve.ParseMembers(r.Stdout)
	return err == nil && members.Cluster != nil && bool(members.Cluster.Quorate) && !members.Online(m.Guest.Node)
}
