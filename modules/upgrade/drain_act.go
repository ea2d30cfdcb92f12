package upgrade

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/moves"
)

// retryPause is waited before a move is tried again.
const retryPause = 10 * time.Second

func (m *mover) run(ctx context.Context, t module.Target) error {
	if m.guest.Lock != "" {
		if err := m.unlocked(ctx, t); err != nil {
			return err
		}
	}
	var last error
	waited := false
	for try := 1; try <= m.args.Attempts; try++ {
		if last != nil {
			t.Warn(m.node, fmt.Sprintf("%s could not be moved, trying again: %s", m.guest, moves.FirstLine(last)))
			if err := t.Sleep(ctx, retryPause); err != nil {
				return err
			}
		}
		j := m.job()
		took, err := timed(ctx, t, m.w.actor, func() error { return j.Run(ctx, t) })
		record := module.Moved{Guest: m.guest.String(), From: m.node, To: m.to, Way: string(j.Way), Why: "drain", Took: took}
		if err == nil {
			t.Record(m.node, record)
			recordBreak(t, m.to, m.guest, j, took)
			return nil
		}
		record.Error = moves.FirstLine(err)
		t.Record(m.node, record)
		last = err
		if stalled, ok := errors.AsType[*moves.StallError](err); ok {
			return m.stall(ctx, t, stalled)
		}
		switch _, refused := errors.AsType[module.Refusals](err); {
		case ctx.Err() != nil:
			return err
		case refused && !waited && j.Has(guest.IsLocked):
			// A backup or a snapshot began since the node was looked at.
			waited = true
			if err := m.unlocked(ctx, t); err != nil {
				return err
			}
			try--
		case refused:
			return err
		}
	}
	return last
}

// timed measures by the clock of a node, so that times are those of the cluster.
func timed(ctx context.Context, t module.Target, node string, do func() error) (time.Duration, error) {
	before := nodeTime(ctx, t, node)
	err := do()
	after := nodeTime(ctx, t, node)
	if before == 0 || after < before {
		return 0, err
	}
	return time.Duration(after-before) * time.Millisecond, err
}

// nodeTime is a node's clock in milliseconds; 0 if it cannot be told.
func nodeTime(ctx context.Context, t module.Target, node string) int64 {
	conn, err := t.Conn(ctx, node)
	if err != nil {
		return 0
	}
	r, err := conn.Run(ctx, transport.Command{Argv: []string{"date", "+%s%3N"}, Timeout: 10 * time.Second})
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(r.Out(), 10, 64)
	return n
}

// recordBreak reports for how long a guest did not answer while it moved.
func recordBreak(t module.Target, node string, g guest.Guest, j *moves.Move, took time.Duration) {
	switch {
	case j.Way == guest.Restart:
		t.Record(node, module.Downtime{Guest: g.String(), How: "restarted", Took: took})
	case j.Way == guest.Live && j.Frozen > 0:
		t.Record(node, module.Downtime{Guest: g.String(), How: "live", Took: j.Frozen})
	}
}

// unlocked waits until nothing holds the guest: a backup, a snapshot. pxrun never takes a lock away.
func (m *mover) unlocked(ctx context.Context, t module.Target) error {
	locked := func(ctx context.Context) error {
		site, err := moves.ReadFrom(ctx, t, m.w.actor)
		if err != nil {
			return err
		}
		g, ok := site.Guest(m.guest.ID)
		if ok && g.Lock != "" && !(g.Lock == "migrate" && moves.UnderWay(ctx, t, []guest.Guest{g})[g.ID]) {
			return fmt.Errorf("%s is locked (%s); look: %s config %d; pvenode task list --source active", g, g.Lock, g.Kind.Tool(), g.ID)
		}
		return nil
	}
	return t.WaitFor(ctx, module.Condition{Name: fmt.Sprintf("nothing holds %s any more", m.guest), Check: locked, Timeout: max(m.args.Lock, time.Second), Every: 10 * time.Second})
}

// stall deals with a machine whose move was ended since it would not have ended by itself.
func (m *mover) stall(ctx context.Context, t module.Target, stalled *moves.StallError) error {
	if m.args.OnStall != "shutdown" {
		return fmt.Errorf("%w\n  next: give it more time (move_timeout), another policy (guests = { \"%d\" = \"shutdown\" }), or on_stall = \"shutdown\"", stalled, m.guest.ID)
	}
	t.Warn(m.node, fmt.Sprintf("%s writes memory faster than the network carries: it is shut down instead (on_stall)", m.guest))
	l, err := readLedger(ctx, t, m.node)
	if err != nil {
		return err
	}
	if l == nil {
		return errors.New(m.node + ": " + ledgerFile + " is gone")
	}
	next := l.with([]ledgerGuest{{SID: m.guest.SID(), Guest: m.guest.String(), Fate: fateStopped}})
	if err := writeLedger(ctx, t, next); err != nil {
		return err
	}
	return m.shutDown(ctx, t, m.guest)
}

// shutDownScript notes when the guest ($2, with the program $1, $3 in the HA manager) was stopped, and shuts it down within $4 seconds.
const shutDownScript = `mkdir -p ` + notesDir + ` && date +%s >"` + stoppedNotes + `$3" || exit 1
"$1" shutdown "$2" --timeout "$4" && exit 0
rm -f "` + stoppedNotes + `$3"
exit 1`

// haStopScript has the HA manager stop a guest.
const haStopScript = `mkdir -p ` + notesDir + ` && date +%s >"` + stoppedNotes + `$3" || exit 1
exec ha-manager set "$3" --state stopped`

// shutDown stops a guest in order, and proves that it does not run. It is never stopped hard.
func (e emptying) shutDown(ctx context.Context, t module.Target, g guest.Guest) error {
	c := transport.Command{
		Script: shutDownScript, Argv: []string{g.Kind.Tool(), strconv.Itoa(g.ID), g.SID(), strconv.Itoa(int(e.args.Shutdown.Seconds()))},
		Mutates: true, Timeout: e.args.Shutdown + time.Minute,
	}
	if g.ByHA() {
		c.Script = haStopScript
	}
	err := runOn(ctx, t, e.node, "shut down "+g.String(), c)
	if err != nil && g.ByHA() {
		return err
	}
	// What a program says of a shutdown counts less than whether the process is there.
	stopped := t.WaitFor(ctx, module.Condition{Name: g.String() + " has stopped", Timeout: e.args.Shutdown + time.Minute, Every: 2 * time.Second, Check: func(ctx context.Context) error {
		conn, failed := t.Conn(ctx, e.node)
		if failed != nil {
			return failed
		}
		n := guest.ReadNode(ctx, e.node, conn)
		switch _, runs := n.Running[g.ID]; {
		case n.Err != nil:
			return n.Err
		case runs && err != nil:
			return module.Fatal(fmt.Errorf("%w; it still runs, and is never stopped hard. Next: shut it down by hand, or give it another policy", err))
		case runs:
			return errors.New(g.String() + " still runs")
		}
		return nil
	}})
	if stopped != nil {
		return stopped
	}
	t.Record(e.node, module.Downtime{Guest: g.String(), How: "stopped", Least: true})
	return nil
}
