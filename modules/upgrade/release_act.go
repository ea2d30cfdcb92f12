package upgrade

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/members"
	"github.com/pxrun/pxrun/modules/internal/moves"
)

// leaveMaintenance ends the maintenance, confirms that it is gone, and waits for the guests that come back by themselves.
func (f filling) leaveMaintenance(ctx context.Context, t module.Target) error {
	v := &evacuation{node: f.node, actor: f.w.actor}
	before, err := v.read(ctx, t)
	if err != nil {
		return err
	}
	argv := []string{"ha-manager", "crm-command", "node-maintenance", "disable", f.node}
	if _, err := members.Run(ctx, t, f.w.actor, strings.Join(argv, " "), transport.Command{Argv: argv, Timeout: time.Minute}); err != nil {
		return err
	}
	err = t.WaitFor(ctx, module.Condition{Name: f.node + " is out of maintenance", Timeout: takeUpWithin, Every: 2 * time.Second, Check: func(ctx context.Context) error {
		s, err := v.read(ctx, t)
		if err != nil {
			return err
		}
		lrm := s.LRMs[f.node]
		switch {
		case slices.Contains(s.Manager.Maintenance, f.node) || s.Manager.Nodes[f.node] != "online":
			return fmt.Errorf("the HA manager has it as %s (look: ha-manager status)", s.Manager.Nodes[f.node])
		case lrm.Mode != "active":
			return fmt.Errorf("its LRM is in mode %s (look: systemctl status pve-ha-lrm)", lrm.Mode)
		}
		return v.writes(ctx, t, s)
	}})
	if err != nil {
		return err
	}
	return f.haHome(ctx, t, v, before)
}

// haHome waits for the HA guests that left for the maintenance. One that does not come back, because a rule keeps it or the manager has
// something better, is a warning: where it runs is the HA manager's to decide.
func (f filling) haHome(ctx context.Context, t module.Target, v *evacuation, before *ha.State) error {
	var waiting []string
	from, started := map[string]string{}, map[string]time.Time{}
	for sid, svc := range before.Manager.Services {
		if svc.MaintenanceNode == f.node && svc.Node != f.node {
			from[sid] = svc.Node
		}
	}
	err := t.WaitFor(ctx, module.Condition{Name: "the HA guests of " + f.node + " are back", Timeout: max(f.args.Settle, time.Second), Every: 2 * time.Second, Check: func(ctx context.Context) error {
		s, err := v.read(ctx, t)
		if err != nil {
			return err
		}
		waiting = waiting[:0]
		for _, sid := range slices.Sorted(maps.Keys(s.Manager.Services)) {
			svc := s.Manager.Services[sid]
			moving := svc.State == "migrate" || svc.State == "relocate"
			switch {
			case moving && svc.Target == f.node && started[sid].IsZero():
				started[sid] = s.Now
			case !moving && svc.Node == f.node && from[sid] != "":
				set := started[sid]
				if set.IsZero() {
					set = before.Now // it came between two looks
				}
				t.Record(f.node, module.Moved{Guest: v.name(s, sid), From: from[sid], To: f.node, Way: "ha", Why: "return", Took: s.Now.Sub(set)})
				delete(from, sid)
			}
			if svc.MaintenanceNode == f.node || svc.Target == f.node {
				waiting = append(waiting, sid+" "+svc.State+" on "+svc.Node)
			}
		}
		if len(waiting) > 0 {
			return errors.New("still away: " + strings.Join(waiting, ", "))
		}
		return nil
	}})
	switch {
	case ctx.Err() != nil:
		return err
	case err != nil && len(waiting) > 0:
		t.Warn(f.node, "the HA manager has not brought back all guests, which its rules may want: "+strings.Join(waiting, ", ")+" (look: ha-manager status)")
		return nil
	}
	return err
}

// start starts a guest that was stopped for the node, and proves that it runs.
func (f filling) start(ctx context.Context, t module.Target, g guest.Guest, d ledgerGuest) error {
	stopped := f.stoppedAt(ctx, t, d.SID)
	err := runOn(ctx, t, f.node, "start "+g.String(), transport.Command{
		Script: startScript, Argv: []string{g.Kind.Tool(), strconv.Itoa(g.ID), d.SID, d.State, d.Fate}, Mutates: true, Timeout: f.args.Start,
	})
	runs := t.WaitFor(ctx, module.Condition{Name: g.String() + " runs", Timeout: f.args.Start, Every: 2 * time.Second, Check: func(ctx context.Context) error {
		site, failed := moves.ReadFrom(ctx, t, f.w.actor)
		if failed != nil {
			return failed
		}
		at, _ := site.Guest(g.ID)
		moves.AskNodes(ctx, t, site, []string{f.node, at.Node})
		if up, known := site.Runs(at); !known || !up {
			return errors.Join(err, fmt.Errorf("%s does not run (look: %s status %d)", g, g.Kind.Tool(), g.ID))
		}
		return nil
	}})
	if runs != nil {
		return runs
	}
	if now := nodeTime(ctx, t, f.node) / 1000; stopped > 0 && now > stopped {
		t.Record(f.node, module.Downtime{Guest: g.String(), How: "stopped", Took: time.Duration(now-stopped) * time.Second})
	}
	return nil
}

// stoppedAt is when a guest was stopped, in seconds by the node's clock; 0 if that is not known.
func (f filling) stoppedAt(ctx context.Context, t module.Target, sid string) int64 {
	conn, err := t.Conn(ctx, f.node)
	if err != nil {
		return 0
	}
	r, err := conn.Run(ctx, transport.Command{Argv: []string{"cat", stoppedNotes + sid}, Timeout: 20 * time.Second})
	if err != nil || r.Exit != 0 {
		return 0
	}
	n, _ := strconv.ParseInt(r.Out(), 10, 64)
	return n
}

// bringHome moves a guest back. One that cannot come is a warning: it runs where it is.
func (f filling) bringHome(ctx context.Context, t module.Target, g guest.Guest) error {
	j := &moves.Move{
		Guest: g, Move: guest.Move{Target: f.node}, Actor: f.w.actor, Options: guest.Options{LocalDisks: true, Restart: true},
		Shutdown: f.args.Shutdown, Timeout: f.args.Move, EndStalled: true,
	}
	took, err := timed(ctx, t, f.w.actor, func() error { return j.Run(ctx, t) })
	record := module.Moved{Guest: g.String(), From: g.Node, To: f.node, Way: string(j.Way), Why: "return", Took: took}
	if err != nil {
		record.Error = moves.FirstLine(err)
	} else {
		recordBreak(t, f.node, g, j, took)
	}
	t.Record(f.node, record)
	return err
}
