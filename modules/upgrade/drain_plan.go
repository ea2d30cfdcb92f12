package upgrade

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/rolling"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/moves"
)

// emptying is a node that is being emptied.
type emptying struct {
	node    string
	args    drainArgs
	w       *world
	old     *ledger // what an earlier attempt has written; nil if there was none
	workers int
}

// changes are what is left to do until the node is empty: nothing if it is.
func (e emptying) changes(t module.Target, plans []rolling.Plan) []module.Change {
	l := ledger{Run: t.Run(), Node: e.node, Since: e.w.Now.Unix(), Home: e.args.BringHome, Guests: []ledgerGuest{}}
	if e.old != nil {
		l = *e.old
		if l.Run != t.Run() {
			// What another run allowed to stay is allowed anew, or not.
			l.Guests = slices.DeleteFunc(slices.Clone(l.Guests), func(g ledgerGuest) bool { return g.Fate == fateLeft })
		}
		l.Run, l.Home = t.Run(), e.args.BringHome
	}
	var acts []module.Change
	if unset := e.wantsNoout(); len(unset) > 0 {
		l.NooutHosts, l.Noout, l.NooutFrom = union(l.NooutHosts, unset), true, e.w.ceph.From
		acts = append(acts, e.noout(unset))
	}
	maintenance, enter := e.wantsMaintenance()
	l.Maintenance = l.Maintenance || enter
	var decided []ledgerGuest
	var stops, moving []module.Change
	following := false
	for _, p := range plans {
		g, ok := e.w.Guest(p.ID)
		if running, known := e.w.Runs(g); !ok || known && !running {
			continue
		}
		d := ledgerGuest{SID: g.SID(), Guest: g.String(), To: p.To, State: g.Managed.State}
		switch {
		case p.Fate == rolling.Stays:
			d.Fate, d.To = fateLeft, ""
		case p.Fate == rolling.StopsIt:
			d.Fate, d.To = fateStopped, ""
			stops = append(stops, e.stop(g))
		case p.ByHA:
			d.Fate, following = fateHA, true
		default:
			d.Fate = fateMoved
			moving = append(moving, e.move(g, p))
		}
		decided = append(decided, d)
	}
	acts = append(acts, stops...)
	if enter || maintenance && following {
		acts = append(acts, e.maintain(plans, enter))
	}
	acts = append(acts, moving...)
	l = l.with(decided)
	ours := e.old == nil || t.Run() == "" || e.old.Run == t.Run()
	if len(acts) == 0 && ours && (e.old != nil && e.noted(decided) || len(decided) == 0) {
		return nil
	}
	return append([]module.Change{e.note(l)}, acts...)
}

// noted reports whether the ledger has these guests as decided.
func (e emptying) noted(decided []ledgerGuest) bool {
	return !slices.ContainsFunc(decided, func(d ledgerGuest) bool {
		was, ok := e.old.find(d.SID)
		return !ok || was.Fate != d.Fate
	})
}

// note writes down what runs where, before anything is touched.
func (e emptying) note(l ledger) module.Change {
	return module.Change{
		ID: e.node + "/ledger", Host: e.node, Action: module.Create, Summary: fmt.Sprintf("write down what runs on %s, and where it goes", e.node),
		Imperative: true, // it is written anew when something is decided otherwise
		Undo: &module.Undo{Host: e.node, Summary: "forget what ran on " + e.node, Command: transport.Command{
			Script: dropLedgerScript, Mutates: true, Timeout: time.Minute,
		}},
		Apply: func(ctx context.Context, t module.Target) error { return writeLedger(ctx, t, l) },
	}
}

// wantsMaintenance reports whether the HA manager has anything to do with the node, and whether maintenance is still to be asked
// for. Without resources no CRM would take the command (reference §5.6).
func (e emptying) wantsMaintenance() (used, enter bool) {
	if e.w.HA == nil || len(e.w.HA.Resources) == 0 {
		return false, false
	}
	m := e.w.HA.Manager
	return true, m == nil || !slices.Contains(m.Maintenance, e.node)
}

// taken refuses a node that somebody else has in maintenance: whoever works on it would find it emptied and restarted.
func (e emptying) taken() module.Refusals {
	ours := e.old != nil && e.old.Maintenance
	if ours || e.w.HA == nil || e.w.HA.Manager == nil || !slices.Contains(e.w.HA.Manager.Maintenance, e.node) || slices.Contains(e.args.Tolerate, e.node) {
		return nil
	}
	return module.Refusals{{
		Host: e.node, Gate: "drain " + e.node, Saw: "it is in maintenance, and not by pxrun: somebody may be at work on it", Want: "a node that nobody else works on",
		Look: "ha-manager status", Override: fmt.Sprintf("ha-manager crm-command node-maintenance disable %s; or tolerate = [%q]", e.node, e.node),
	}}
}

// leaveScript ends the maintenance of a node ($1) if it still is in it.
// What cannot be read is not taken for gone, and a command that still waits for the HA master counts too.
const leaveScript = `[ "$(stat -c %a /etc/pve/local)" = 755 ] || { echo "/etc/pve is not writable here: no quorum" >&2; exit 1; }
cat /etc/pve/ha/manager_status >/dev/null || exit 1
grep -q "maintenance.* $1\$" /etc/pve/ha/crm_commands 2>/dev/null || tr -d ' \n' </etc/pve/ha/manager_status | grep -q "\"node_request\":{.*\"$1\":{\"maintenance\":1}" || exit 0
exec ha-manager crm-command node-maintenance disable "$1"`

// maintain asks for maintenance, and follows the guests under HA to where they truly are.
func (e emptying) maintain(plans []rolling.Plan, enter bool) module.Change {
	actor := e.w.actor
	c := module.Change{
		ID: e.node + "/maintenance", Host: e.node, Action: module.Update,
		Summary: "put " + e.node + " into maintenance, and follow its HA guests to other nodes",
	}
	if enter {
		c.Undo = &module.Undo{Host: actor, Summary: "end the maintenance of " + e.node, Command: transport.Command{
			Script: leaveScript, Argv: []string{e.node}, Mutates: true, Timeout: 2 * time.Minute,
		}, Anywhere: true, ByHand: "ha-manager crm-command node-maintenance disable " + e.node}
	} else {
		c.ID = e.node + "/maintenance/follow"
		c.Summary = "follow the HA guests of " + e.node + " to other nodes"
	}
	c.Apply = func(ctx context.Context, t module.Target) error {
		f := &evacuation{node: e.node, actor: actor, workers: e.workers, args: e.args, enter: enter, expected: plans}
		return f.run(ctx, t)
	}
	return c
}

func (e emptying) id(g guest.Guest) string { return e.node + "/drain/" + g.SID() }

// move takes a guest that is not under HA to another node.
func (e emptying) move(g guest.Guest, p rolling.Plan) module.Change {
	out := max(e.workers, 1)
	c := module.Change{
		ID: e.id(g), Host: e.node, Action: module.Update, Group: e.node + "/drain",
		Slots:   map[string]int{"from " + e.node: out, "to " + p.To: max(out/2, 1)},
		Summary: fmt.Sprintf("move %s to %s, %s", g, p.To, p.Way), Before: e.node, After: p.To,
		Apply: func(ctx context.Context, t module.Target) error {
			m := mover{emptying: e, guest: g, to: p.To, options: p.Options()}
			return m.run(ctx, t)
		},
	}
	if p.Way == guest.Restart {
		c.Risk = module.RiskDisruptive
	}
	if e.args.BringHome != string(rolling.ReturnNever) {
		c.Undo = &module.Undo{Host: e.w.actor, Summary: fmt.Sprintf("bring %s back to %s", g, e.node), Command: transport.Command{
			Script: bringBackScript, Argv: []string{g.Kind.Tool(), strconv.Itoa(g.ID), p.To, e.node}, Mutates: true, Timeout: e.args.Move,
		}, Anywhere: true, ByHand: homeByHand(g, p.To, e.node)}
	}
	if e.args.OnStall == "shutdown" && g.Kind == guest.VM {
		c.Undo = e.stalledBack(g, c.Undo)
	}
	return c
}

// homeByHand is the command by which a person brings a guest back.
func homeByHand(g guest.Guest, from, to string) string {
	kind, how := "qemu", "--online 1 --with-local-disks 1"
	if g.Kind != guest.VM {
		kind, how = "lxc", "--restart 1"
	}
	return fmt.Sprintf("pvesh create /nodes/%s/%s/%d/migrate --target %s %s", from, kind, g.ID, to, how)
}

// stalledBack is the way back of a machine that may be shut down instead of moved, since its move does not end: back is what brings it home,
// nil if it stays where it went.
func (e emptying) stalledBack(g guest.Guest, back *module.Undo) *module.Undo {
	start := transport.Command{Script: startScript, Argv: e.startArgs(g), Mutates: true, Timeout: 5 * time.Minute}
	if back == nil {
		return &module.Undo{Host: e.node, Summary: fmt.Sprintf("start %s, if it was shut down", g), Command: start}
	}
	c := back.Command
	c.Script = `if [ -e "` + stoppedNotes + `vm:$2" ]; then ` + "\n\tset -- \"$1\" \"$2\" \"vm:$2\" \"\"\n" + startScript + "\texit 0\nfi\n" + c.Script
	return &module.Undo{Host: e.node, Summary: back.Summary, Command: c} // its notes lie on the node
}

func (e emptying) startArgs(g guest.Guest) []string {
	return []string{g.Kind.Tool(), strconv.Itoa(g.ID), g.SID(), g.Managed.State}
}

// bringBackScript takes a guest ($2, with the program $1) back from $3 to $4, if it still is where it was put and nothing holds it.
// pvesh passes it on to the node that the guest is on.
const bringBackScript = `[ "$(stat -c %a /etc/pve/local)" = 755 ] || { echo "/etc/pve is not writable here: no quorum" >&2; exit 1; }
kind=qemu; [ "$1" = pct ] && kind=lxc
conf=$([ "$kind" = lxc ] && echo lxc || echo qemu-server)
[ -e "/etc/pve/nodes/$3/$conf/$2.conf" ] || exit 0
grep -q '^lock:' "/etc/pve/nodes/$3/$conf/$2.conf" && { echo "$2 is locked" >&2; exit 1; }
if [ "$kind" = lxc ]; then set -- "$@" --restart 1; else set -- "$@" --online 1 --with-local-disks 1; fi
id=$2 from=$3 to=$4; shift 4
case $kind in lxc) sid="ct: $id";; *) sid="vm: $id";; esac
if grep -qx "$sid" /etc/pve/ha/resources.cfg 2>/dev/null; then echo "$id is under HA now: its manager decides where it runs" >&2; exit 0; fi
pvesh create "/nodes/$from/$kind/$id/migrate" --target "$to" "$@"
[ -e "/etc/pve/nodes/$to/$conf/$id.conf" ] || { echo "$id did not come back to $to" >&2; exit 1; }`

// stop shuts a guest down for the time that the node is away.
func (e emptying) stop(g guest.Guest) module.Change {
	c := module.Change{
		ID: e.id(g), Host: e.node, Action: module.Update, Risk: module.RiskDisruptive, Group: e.node + "/drain",
		Slots:   map[string]int{"from " + e.node: max(e.workers, 1)},
		Summary: fmt.Sprintf("shut down %s until %s is back", g, e.node), Before: "running", After: "stopped",
		Undo: &module.Undo{Host: e.node, Summary: "start " + g.String(), Command: transport.Command{
			Script: startScript, Argv: e.startArgs(g), Mutates: true, Timeout: 5 * time.Minute,
		}},
		Apply: func(ctx context.Context, t module.Target) error { return e.shutDown(ctx, t, g) },
	}
	return c
}

// startScript starts a guest ($2, with the program $1) that was shut down for the node, or was left to go down with it ($5), unless it runs. One that is under HA ($3,
// wanted in state $4) is started by the HA manager.
const startScript = `[ -e "` + stoppedNotes + `$3" ] || [ "$5" = ` + fateLeft + ` ] || exit 0
if [ -n "$4" ] && [ "$4" != ignored ]; then
	ha-manager set "$3" --state "$4" || exit 1
else
	case $("$1" status "$2") in *running*) ;; *) "$1" start "$2" || exit 1;; esac
fi
rm -f "` + stoppedNotes + `$3"`

// mover is moves.Move with what a drain adds: waiting for locks, trying again, and recording.
type mover struct {
	emptying
	guest   guest.Guest
	to      string
	options guest.Options
}

func (m *mover) job() *moves.Move {
	return &moves.Move{
		Guest: m.guest, Move: guest.Move{Target: m.to}, Actor: m.w.actor, Options: m.options, Shutdown: m.args.Shutdown, Timeout: m.args.Move, Bwlimit: m.args.Bwlimit, EndStalled: true,
	}
}
