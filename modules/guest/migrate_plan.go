package guest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/modules/internal/moves"
)

// step is one guest of the task with the move that was decided for it.
type step struct {
	guest guest.Guest
	guest.Move
	// mine is a guest that is on its way already, by a job of an earlier run.
	mine bool
}

// place is where a guest is and how it goes there, as plans show it.
type place struct {
	Node string `json:"node"`
	// How and Takes are of a move that is to be made.
	How   string `json:"how,omitempty"`
	Takes string `json:"takes,omitempty"`
	Down  string `json:"down,omitempty"`
}

// decide decides the move of each guest. What those before bring to a node counts for those after. Guests that are where they
// belong are left out.
func (w *world) decide(chosen []guest.Guest, args migrateArgs, mine map[int]bool) []step {
	var out []step
	promised := map[string]int64{}
	for _, g := range chosen {
		to := args.target(g.ID)
		if to == g.Node {
			continue
		}
		if to == "" {
			m := guest.Move{Reasons: []guest.Reason{{Code: guest.NoTarget, Saw: "no target is named for it", Want: "a node", Look: "pvecm nodes", Override: fmt.Sprintf("targets = { \"%d\" = \"…\" }", g.ID)}}}
			out = append(out, step{guest: g, Move: m})
			continue
		}
		o := args.options()
		o.Promised, o.Mine = promised[to], mine[g.ID]
		m := guest.CanMove(w.Site, g, to, o)
		running, _ := w.Runs(g)
		if running && g.Kind == guest.VM && !args.Live {
			m.Reasons = append(m.Reasons, guest.Reason{Code: guest.NeedsRestart, Saw: "it runs, and live = false", Want: "a machine that is stopped", Look: fmt.Sprintf("qm status %d", g.ID), Override: "stop it, or live = true"})
			m.Way = guest.Nowhere
		}
		if running && m.Can() {
			promised[to] += g.Memory
		}
		if mine[g.ID] {
			m.Notes = append(m.Notes, guest.Reason{Saw: "its migration by an earlier run is at work and is followed"})
		}
		out = append(out, step{guest: g, Move: m, mine: mine[g.ID]})
	}
	return out
}

// leftOut tells of a guest that is not touched because --limit leaves out its node, or the one that it is to go to.
func leftOut(t module.Target, g guest.Guest, to string) bool {
	for _, node := range []string{g.Node, to} {
		if node != "" && !t.Selected(node) {
			t.Warn(g.Node, fmt.Sprintf("%s stays as it is: %s is left out by --limit", g, node))
			return true
		}
	}
	return false
}

// consult asks Proxmox VE itself about the machines that could move (reference §6.4). Containers have no such answer worth
// having: theirs leaves storages and mount points out.
func (w *world) consult(ctx context.Context, t module.Target, steps []step, o guest.Options) error {
	ids := map[string][]int{}
	var order []string
	for _, s := range steps {
		if s.guest.Kind != guest.VM || !s.Can() || s.mine {
			continue
		}
		if ids[s.guest.Node] == nil {
			order = append(order, s.guest.Node)
		}
		ids[s.guest.Node] = append(ids[s.guest.Node], s.guest.ID)
	}
	for _, node := range order {
		conn, err := t.Conn(ctx, node)
		if err != nil {
			return err
		}
		said, err := guest.ReadPreconditions(ctx, node, conn, ids[node])
		if err != nil {
			return err
		}
		for i := range steps {
			if p, asked := said[steps[i].guest.ID]; asked && steps[i].guest.Node == node {
				steps[i].Add(p, o)
			}
		}
	}
	return nil
}

// refuse makes refusals of all reasons. What an earlier task of the plan is going to move is judged when it has moved.
func refuse(steps []step, coming map[int]string) module.Refusals {
	var out module.Refusals
	for _, s := range steps {
		if _, early := coming[s.guest.ID]; !early {
			out = append(out, s.mover("", migrateArgs{}).Refused()...)
		}
	}
	return out
}

// mover makes the move.
func (s step) mover(actor string, args migrateArgs) *moves.Move {
	return &moves.Move{
		Guest: s.guest, Move: s.Move, Mine: s.mine, Actor: actor, Options: args.options(), Shutdown: args.ShutdownTimeout, Timeout: args.MoveTimeout,
		Network: args.MigrationNetwork, Bwlimit: args.Bwlimit,
	}
}

// changeID names the move of a guest.
func changeID(id int) string { return fmt.Sprintf("guest/%d", id) }

// earlierMoves are the guests that earlier tasks of the plan are going to move, with where to.
func earlierMoves(planned []module.Planned) map[int]string {
	out := map[int]string{}
	for _, p := range planned {
		var id int
		if _, err := fmt.Sscanf(p.ID, "guest/%d", &id); p.Module != "migrate" || err != nil {
			continue
		}
		if to, ok := p.After.(place); ok {
			out[id] = to.Node
		}
	}
	return out
}

// foretold are the moves of guests that do not exist yet, while earlier tasks may make them.
func foretold(w *world, t module.Target, args migrateArgs) []module.Change {
	if len(t.Planned()) == 0 {
		return nil
	}
	var out []module.Change
	for _, id := range args.Guests {
		if g, there := w.Guest(id); there && g.Node == args.target(id) {
			continue
		}
		to := args.target(id)
		out = append(out, module.Change{
			ID: changeID(id), Host: w.actor, Action: module.Update, Summary: fmt.Sprintf("move guest %d to %s", id, to), After: place{Node: to},
			Predicted: "the guest does not exist yet: an earlier task may bring it",
			Apply:     func(context.Context, module.Target) error { return fmt.Errorf("guest %d does not exist", id) },
		})
	}
	return out
}

// changes are the moves as a plan has them. They go in a sliding window, so many at once from and to each node.
func (w *world) changes(steps []step, args migrateArgs, coming map[int]string) []module.Change {
	var out []module.Change
	for _, s := range steps {
		from, g := s.guest.Node, s.guest
		c := module.Change{
			ID: changeID(g.ID), Host: from, Action: module.Update, Group: "migrate",
			Slots:   map[string]int{"from " + from: args.Parallel, "to " + s.Target: args.Parallel},
			Summary: fmt.Sprintf("move %s from %s to %s, %s", g, from, s.Target, s.Way),
			Before:  place{Node: from}, After: s.place(args.speed()),
			Apply: func(ctx context.Context, t module.Target) error {
				return s.mover(w.actor, args).Run(ctx, t)
			},
		}
		if s.ByHA {
			c.Summary += " through the HA manager"
		}
		if s.Way == guest.Restart {
			c.Risk = module.RiskDisruptive
		}
		if at, early := coming[g.ID]; early {
			if at == s.Target {
				continue
			}
			c.Predicted = "an earlier task moves it to " + at
		}
		if w.Coming != "" {
			c.Predicted = w.Coming
		}
		out = append(out, c)
	}
	return out
}

// place is where a move leads, with what it costs.
func (s step) place(speed guest.Speed) place {
	p := place{Node: s.Target, How: s.String(), Takes: fmt.Sprintf("about %s at %s/s", rough(s.Duration(speed)), guest.FormatBytes(int64(speed)))}
	if down := s.Downtime(speed); s.Way == guest.Restart {
		p.Down = "about " + rough(down)
	}
	for _, n := range s.Notes {
		p.How += "; " + n.Saw
	}
	return p
}

// rough is a duration without what nobody knows of it.
func rough(d time.Duration) string {
	switch {
	case d >= time.Hour:
		d = d.Round(5 * time.Minute)
	case d >= 5*time.Minute:
		d = d.Round(time.Minute)
	default:
		d = d.Round(5 * time.Second)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
