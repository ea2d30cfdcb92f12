package upgrade

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/rolling"
)

//go:embed release.md
var releaseDoc string

type releaseArgs struct {
	Parallel int           `hcl:"parallel,optional" min:"0" max:"64" doc:"How many guests may come home at once. 0 is the datacenter's max_workers."`
	Start    time.Duration `hcl:"start_timeout,optional" default:"5m" min:"1s" doc:"How long a guest that was stopped may take to start."`
	Move     time.Duration `hcl:"move_timeout,optional" default:"2h" min:"1m" doc:"How long one guest may take to come home."`
	Shutdown time.Duration `hcl:"shutdown_timeout,optional" default:"3m" min:"1s" doc:"How long a container may take to shut down before it comes home."`
	MayStop  []string      `hcl:"may_stop,optional" doc:"Guests, by id, that may be stopped in the end although they ran before." example:"[\"104\"]"`
	Settle   time.Duration `hcl:"settle,optional" default:"10m" min:"0s" doc:"How long to wait for guests under HA that come back by themselves. One that does not is a warning."`
}

type releaseOut struct {
	InService bool     `hcl:"in_service" doc:"Whether nothing of drain is left on the node."`
	Home      []string `hcl:"home" doc:"The guests that run on the node."`
}

func release() module.Module {
	return module.Define(module.Spec{
		Name: "release", Summary: "Give a node back that drain has taken out of service: Ceph, HA, its stopped guests, and those that come home", Doc: releaseDoc,
		Risk: module.RiskDisruptive, Serves: true,
	}, module.Funcs[releaseArgs, releaseOut]{Plan: planRelease, Read: readRelease})
}

func planRelease(ctx context.Context, t module.Target, args releaseArgs) ([]module.Change, error) {
	node := t.Host().Name
	l, err := readLedger(ctx, t, node)
	if err != nil {
		return nil, err
	}
	b := t.Block()
	switch {
	case l == nil && b != nil && b.Planning:
		return []module.Change{{
			ID: node + "/release", Host: node, Action: module.Update, Summary: "give " + node + " back, and start the guests that were stopped for it",
			Predicted: "it takes back what drain will have set",
			Apply:     func(context.Context, module.Target) error { return errors.New("this was a forecast") },
		}}, nil
	case l == nil:
		return nil, nil
	}
	away := b.Out()
	w, err := look(ctx, t, node, away)
	if err != nil {
		return nil, err
	}
	f := filling{node: node, args: args, w: w, l: *l, away: away}
	if n := w.Nodes[node]; n == nil || n.Err != nil || !w.Online(node) {
		return nil, module.Refusals{{
			Host: node, Gate: "release " + node, Saw: "the node is not there: the cluster does not see it, or it does not answer", Want: "a node that is back and well",
			Look: "pvecm status; cat /etc/pve/.members", Override: "bring it back; then pxrun resume",
		}}
	}
	if refusals := f.unknown(); len(refusals) > 0 {
		return nil, refusals
	}
	return f.changes(), nil
}

// unknown refuses to forget what cannot be seen to be gone.
func (f filling) unknown() module.Refusals {
	var out module.Refusals
	no := func(saw, want, look string) {
		out = append(out, &module.Refusal{Host: f.node, Gate: "release " + f.node, Saw: saw, Want: want, Look: look, Override: "none: run it again when it answers"})
	}
	if f.l.Noout && f.w.ceph == nil {
		no("noout was set for its OSDs, and Ceph does not say whether it still is: "+cmp.Or(f.w.silence, "it is not configured any more"), "an answer from Ceph", "ceph -s; ceph osd dump | grep flags")
	}
	if f.l.Maintenance {
		why := f.w.Missing("ha manager", "ha resources", "ha commands")
		if why == "" && (f.w.HA == nil || f.w.HA.Manager == nil) {
			why = "the HA manager has written no status"
		}
		if why != "" {
			no("it was put into maintenance, and whether it still is cannot be told: "+why, "the status of the HA manager", "ha-manager status; cat /etc/pve/ha/manager_status")
		}
	}
	return out
}

// filling is a node that is given back.
type filling struct {
	node string
	args releaseArgs
	w    *world
	l    ledger
	away []string
}

// changes are what is left to do until nothing of drain is left. The ledger goes last: as long as it is there, release is not done.
func (f filling) changes() []module.Change {
	var out []module.Change
	if set := slices.DeleteFunc(slices.Clone(f.l.noouts()), func(b string) bool { return !f.w.nooutSet(b) }); len(set) > 0 && f.w.ceph != nil {
		out = append(out, f.unsetNoout(set))
	}
	if f.inMaintenance() {
		out = append(out, f.leave())
	}
	starts, away := f.starts()
	out = append(out, starts...)
	f.asInService()
	home, stay := f.homecomers()
	out = append(out, home...)
	told := slices.Concat(away, stay)
	if text := foreignNoout(f.foreignFlags()); text != "" {
		told = append(told, text)
	}
	return append(out, f.forget(told))
}

// inMaintenance reports whether the maintenance that drain has asked for is still there.
func (f filling) inMaintenance() bool {
	if !f.l.Maintenance || f.w.HA == nil || f.w.HA.Manager == nil {
		return false
	}
	return slices.Contains(f.w.HA.Manager.Maintenance, f.node) || pendingMaintenance(f.w.HA, f.node)
}

func (f filling) leave() module.Change {
	return module.Change{
		ID: f.node + "/leave-maintenance", Host: f.node, Action: module.Update, Summary: "end the maintenance of " + f.node + ", and let its HA guests come back",
		Undoes: []string{f.node + "/maintenance"},
		Apply:  f.leaveMaintenance,
	}
}

// starts are the guests that were shut down for the node, or went down with it, and are still where they were.
func (f filling) starts() (out []module.Change, away []string) {
	for _, d := range f.l.Guests {
		if d.Fate != fateStopped && d.Fate != fateLeft {
			continue
		}
		g, ok := f.guest(d.SID)
		if !ok {
			away = append(away, d.Guest+" is gone, and is not started")
			continue
		}
		runs, known := f.w.Runs(g)
		resumed := !g.ByHA() || g.Managed.State == d.State
		switch {
		case known && runs && resumed:
			continue
		case g.Node != f.node && !g.ByHA():
			away = append(away, fmt.Sprintf("%s was moved to %s by somebody else, and is not started", g, g.Node))
			continue
		}
		out = append(out, module.Change{
			ID: f.node + "/start/" + d.SID, Host: f.node, Action: module.Update, Group: f.node + "/start", Slots: map[string]int{"start on " + f.node: max(f.args.Parallel, 2)},
			Summary: "start " + g.String() + " again", Before: "stopped", After: "running", Undoes: []string{f.node + "/drain/" + d.SID},
			Apply: func(ctx context.Context, t module.Target) error { return f.start(ctx, t, g, d) },
		})
	}
	return out, away
}

func (f filling) guest(sid string) (guest.Guest, bool) {
	for _, g := range f.w.Site.Guests {
		if g.SID() == sid {
			return g, true
		}
	}
	return guest.Guest{}, false
}

// asInService takes the maintenance for ended: guests come home after that.
func (f filling) asInService() {
	if !f.inMaintenance() {
		return
	}
	m := *f.w.HA.Manager
	m.Maintenance = slices.DeleteFunc(slices.Clone(m.Maintenance), func(n string) bool { return n == f.node })
	m.Nodes = maps.Clone(m.Nodes)
	m.Nodes[f.node] = "online"
	f.w.HA.Manager = &m
}

// homecomers are the guests that drain has moved and that come home by policy. Those that stay are told why.
func (f filling) homecomers() (home []module.Change, stay []string) {
	for _, d := range f.l.Guests {
		if d.Fate != fateMoved || f.l.Home == string(rolling.ReturnNever) || f.l.Home == "" {
			continue
		}
		g, ok := f.guest(d.SID)
		runs, known := f.w.Runs(g)
		switch {
		case !ok:
			continue
		case g.Node == f.node:
			continue
		case g.Node != d.To:
			stay = append(stay, fmt.Sprintf("%s is on %s, where somebody else has put it, and stays there", g, g.Node))
			continue
		case !known || !runs:
			stay = append(stay, fmt.Sprintf("%s does not run on %s any more, and stays there", g, g.Node))
			continue
		case f.l.Home == string(rolling.ReturnBalanced) && f.w.Committed(g.Node) <= f.w.Committed(f.node)+g.Memory:
			continue // it is as well off where it is
		}
		if m := guest.CanMove(f.w.Site, g, f.node, guest.Options{LocalDisks: true, Restart: true}); !m.Can() {
			stay = append(stay, fmt.Sprintf("%s stays on %s: %s", g, g.Node, m.Reasons[0]))
			continue
		}
		home = append(home, f.comeHome(g))
	}
	return home, stay
}

func (f filling) comeHome(g guest.Guest) module.Change {
	workers := f.args.Parallel
	if workers == 0 {
		workers = max(f.w.MaxWorkers, 2)
	}
	return module.Change{
		ID: f.node + "/home/" + g.SID(), Host: f.node, Action: module.Update, Group: f.node + "/home",
		Slots:   map[string]int{"to " + f.node: workers, "from " + g.Node: max(workers/2, 1)},
		Summary: fmt.Sprintf("bring %s back from %s", g, g.Node), Before: g.Node, After: f.node, Undoes: []string{f.node + "/drain/" + g.SID()},
		Apply: func(ctx context.Context, t module.Target) error { return f.bringHome(ctx, t, g) },
	}
}

// forget removes what drain has written down, once all guests are seen to run. With it, nothing of drain is left.
func (f filling) forget(stay []string) module.Change {
	undoes := []string{f.node + "/ledger", f.node + "/noout", f.node + "/maintenance"}
	for _, d := range f.l.Guests {
		undoes = append(undoes, f.node+"/drain/"+d.SID)
	}
	return module.Change{
		ID: f.node + "/forget", Host: f.node, Action: module.Delete, Summary: "forget what ran on " + f.node + ": it is in service", Undoes: undoes,
		Apply: func(ctx context.Context, t module.Target) error {
			if err := f.prove(ctx, t); err != nil {
				return err
			}
			for _, text := range stay {
				t.Warn(f.node, text)
			}
			return dropLedger(ctx, t, f.node)
		},
	}
}

func readRelease(ctx context.Context, t module.Target, _ releaseArgs) (releaseOut, error) {
	node := t.Host().Name
	l, err := readLedger(ctx, t, node)
	if err != nil {
		return releaseOut{}, err
	}
	conn, err := t.Conn(ctx, node)
	if err != nil {
		return releaseOut{}, err
	}
	n := guest.ReadNode(ctx, node, conn)
	if n.Err != nil {
		return releaseOut{}, n.Err
	}
	out := releaseOut{InService: l == nil, Home: []string{}}
	for id, kind := range n.Running {
		out.Home = append(out.Home, string(kind)+":"+strconv.Itoa(id))
	}
	slices.Sort(out.Home)
	return out, nil
}
