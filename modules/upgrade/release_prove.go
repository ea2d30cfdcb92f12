package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/modules/internal/moves"
)

// deadGuest is a guest that ran on the node when it was taken out of service, and does not run now.
type deadGuest struct {
	guest guest.Guest
	saw   string
	// helped says that the HA manager may start it still, lasting that nothing starts it but a person.
	helped, lasting bool
}

// dead are the guests of a ledger that do not run, wherever they are. Guests that are gone, and those that somebody has told the HA
// manager to stop, are as somebody wants them.
func (l ledger) dead(site *guest.Site) []deadGuest {
	var out []deadGuest
	for _, d := range l.Guests {
		i := slices.IndexFunc(site.Guests, func(g guest.Guest) bool { return g.SID() == d.SID })
		if i < 0 {
			continue
		}
		g := site.Guests[i]
		state := ""
		if g.ByHA() {
			if g.Managed.State == "stopped" || g.Managed.State == "disabled" {
				continue
			}
			state = g.Managed.Service.State
		}
		runs, known := site.Runs(g)
		switch {
		case state == "error":
			out = append(out, deadGuest{guest: g, saw: fmt.Sprintf("%s is in state error on %s: the HA manager has given it up", g, g.Node), lasting: true})
		case !known:
			out = append(out, deadGuest{guest: g, saw: fmt.Sprintf("whether %s runs on %s cannot be told", g, g.Node), helped: true})
		case !runs:
			out = append(out, deadGuest{guest: g, saw: fmt.Sprintf("%s does not run on %s", g, g.Node), helped: g.ByHA()})
		}
	}
	return out
}

// standsStill is for how long a guest may not run that nobody starts but a person: containers restart by themselves.
const standsStill = time.Minute

// prove sees that all guests that ran on the node when it was taken out of service run, wherever they are now.
func (f filling) prove(ctx context.Context, t module.Target) error {
	if len(f.l.Guests) == 0 {
		return nil
	}
	var dead []deadGuest
	look := func(ctx context.Context) error {
		site, err := moves.ReadFrom(ctx, t, f.w.actor)
		if err != nil {
			return err
		}
		var nodes []string
		for _, g := range site.Guests {
			if slices.ContainsFunc(f.l.Guests, func(d ledgerGuest) bool { return d.SID == g.SID() }) && !slices.Contains(nodes, g.Node) {
				nodes = append(nodes, g.Node)
			}
		}
		moves.AskNodes(ctx, t, site, nodes)
		if dead = f.l.dead(site); len(dead) == 0 {
			return nil
		}
		failed := errors.New(strings.Join(sawOf(dead), "; "))
		if slices.ContainsFunc(dead, func(d deadGuest) bool { return d.lasting }) {
			return module.Fatal(failed)
		}
		return failed
	}
	wait := func(limit time.Duration) error {
		return t.WaitFor(ctx, module.Condition{Name: "the guests of " + f.node + " run", Timeout: limit, Every: 2 * time.Second, Check: look})
	}
	err := wait(standsStill)
	if err != nil && len(dead) > 0 && !slices.ContainsFunc(dead, func(d deadGuest) bool { return !d.helped }) {
		err = wait(max(f.args.Settle, time.Second))
	}
	if err != nil && (ctx.Err() != nil || len(dead) == 0) {
		return err
	}
	return f.judgeDead(t, dead)
}

func sawOf(dead []deadGuest) []string {
	out := make([]string, len(dead))
	for i, d := range dead {
		out[i] = d.saw
	}
	return out
}

// judgeDead records what was seen, and refuses what no policy allows.
func (f filling) judgeDead(t module.Target, dead []deadGuest) error {
	const gate, want = "guests", "every guest that ran on the node before to run"
	var refused, borne []deadGuest
	var named []string
	for _, d := range dead {
		if id := strconv.Itoa(d.guest.ID); slices.Contains(f.args.MayStop, id) {
			borne, named = append(borne, d), append(named, strconv.Quote(id))
			continue
		}
		refused = append(refused, d)
	}
	r := module.Reading{Gate: gate, Saw: "all of them do", Want: want, OK: len(dead) == 0}
	if len(dead) > 0 {
		r.Saw = strings.Join(sawOf(dead), "; ")
	}
	if len(refused) == 0 && len(borne) > 0 {
		r.Override = "may_stop = [" + strings.Join(named, ", ") + "]"
	}
	t.Record(f.node, r)
	if len(refused) == 0 {
		return nil
	}
	g := refused[0].guest
	look, cure := fmt.Sprintf("%s status %d", g.Kind.Tool(), g.ID), fmt.Sprintf("start it (%s start %d)", g.Kind.Tool(), g.ID)
	if g.ByHA() {
		look = "ha-manager status; journalctl -u pve-ha-crm -u pve-ha-lrm"
		if refused[0].lasting {
			cure = fmt.Sprintf("mend the cause; ha-manager set %s --state disabled, and --state started when it is stopped", g.SID())
		}
	}
	return module.Refusals{{
		Host: f.node, Gate: "release " + f.node + " (" + gate + ")", Saw: strings.Join(sawOf(refused), "; "), Want: want, Look: look,
		Override: fmt.Sprintf("%s, then pxrun resume; or, if it is meant to be stopped, may_stop = [%q]", cure, strconv.Itoa(g.ID)),
	}}
}
