package upgrade

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
)

// wantsNoout are the hosts of the CRUSH map for which noout is to be set: Ceph must not begin to copy the data of OSDs that are away
// for a restart. Where it is set already, whoever did that keeps it.
func (e emptying) wantsNoout() []string {
	if e.w.ceph == nil || e.w.ceph.Map.Has("noout") {
		return nil
	}
	return slices.DeleteFunc(e.w.buckets(e.node), func(b string) bool { return e.w.ceph.Map.HasOn(b, "noout") })
}

// nooutNote is a file for each host of the CRUSH map for which this tool has set noout, on the node from which it did: what the note is
// missing for was set by somebody else, and is not taken away.
const nooutNote = notesDir + "/noout-"

// setNooutScript sets noout for hosts of the CRUSH map, but for those that have got it since they were looked at: it names these.
// Without a quorum of monitors the program would hang.
const setNooutScript = `mkdir -p ` + notesDir + ` || exit 1
dump=$(timeout 60 ceph --connect-timeout 30 osd dump -f json) || exit 1
flags=$(printf '%s' "$dump" | tr -d ' \n')
case $flags in *'"crush_node_flags":{'*) ;; *) echo "osd dump tells no flags of hosts" >&2; exit 1;; esac
flags=${flags#*'"crush_node_flags":{'}
flags="${flags%%'}'*}"
mine=
for b in "$@"; do
	rest=${flags#*"\"$b\":["}
	case "$flags" in *"\"$b\":["*) case "${rest%%']'*}" in *'"noout"'*) rm -f "` + nooutNote + `$b"; echo "$b"; continue;; esac;; esac
	: >"` + nooutNote + `$b" || exit 1
	mine="$mine $b"
done
[ -n "$mine" ] || exit 0
timeout 60 ceph --connect-timeout 30 osd set-group noout $mine >&2`

// unsetNooutScript takes noout away from hosts of the CRUSH map for which it was set from this node.
const unsetNooutScript = `for b in "$@"; do
	[ -e "` + nooutNote + `$b" ] || continue
	timeout 60 ceph --connect-timeout 30 osd unset-group noout "$b" || exit 1
	rm -f "` + nooutNote + `$b"
done`

const forgetNooutScript = `for b in "$@"; do rm -f "` + nooutNote + `$b"; done`

func (e emptying) noout(buckets []string) module.Change {
	actor := e.w.ceph.From
	return module.Change{
		ID: e.node + "/noout", Host: e.node, Action: module.Update, Summary: "set noout for the OSDs of " + e.node,
		Undo: &module.Undo{Host: actor, Summary: "unset noout for the OSDs of " + e.node, Command: transport.Command{
			Script: unsetNooutScript, Argv: buckets, Mutates: true, Timeout: time.Duration(1+len(buckets)) * time.Minute,
		}, ByHand: "ceph osd unset-group noout " + strings.Join(buckets, " ")},
		Apply: func(ctx context.Context, t module.Target) error { return e.setNoout(ctx, t, actor, buckets) },
	}
}

// setNoout sets it, and writes down for which hosts somebody else was faster.
func (e emptying) setNoout(ctx context.Context, t module.Target, actor string, buckets []string) error {
	conn, err := t.Conn(ctx, actor)
	if err != nil {
		return err
	}
	r, err := conn.Run(ctx, transport.Command{Script: setNooutScript, Argv: buckets, Mutates: true, Timeout: 3 * time.Minute})
	if err != nil {
		return fmt.Errorf("%s: set noout: %w", actor, err)
	}
	if r.Exit != 0 {
		return fmt.Errorf("%s: set noout: exit %d: %s", actor, r.Exit, strings.TrimSpace(string(r.Stderr)))
	}
	theirs := strings.Fields(r.Out())
	if len(theirs) == 0 {
		return nil
	}
	t.Warn(e.node, foreignNoout(theirs))
	l, err := readLedger(ctx, t, e.node)
	if err != nil || l == nil {
		return err
	}
	l.NooutHosts = slices.DeleteFunc(l.NooutHosts, func(b string) bool { return slices.Contains(theirs, b) })
	l.Noout = len(l.NooutHosts) > 0
	return writeLedger(ctx, t, *l)
}

// foreignNoout tells of flags that this run has not set: "" if there are none.
func foreignNoout(where []string) string {
	if len(where) == 0 {
		return ""
	}
	return "noout is set on " + strings.Join(where, ", ") + " by somebody else, and stays (look: ceph osd dump | grep flags)"
}

// foreignFlags are the places where noout is set for the node's OSDs and not by this run: hosts of the CRUSH map, or the whole cluster.
func (f filling) foreignFlags() []string {
	if f.w.ceph == nil {
		return nil
	}
	var out []string
	if f.w.ceph.Map.Has("noout") {
		out = append(out, "the whole cluster")
	}
	for _, b := range f.w.buckets(f.node) {
		if f.w.ceph.Map.HasOn(b, "noout") && !slices.Contains(f.l.NooutHosts, b) {
			out = append(out, b)
		}
	}
	return out
}

// unsetNoout takes away what drain has set, and the notes of it.
func (f filling) unsetNoout(set []string) module.Change {
	actor := f.w.ceph.From
	return module.Change{
		ID: f.node + "/unset-noout", Host: f.node, Action: module.Update, Summary: "unset noout for the OSDs of " + f.node, Undoes: []string{f.node + "/noout"},
		Apply: func(ctx context.Context, t module.Target) error {
			err := runOn(ctx, t, actor, "unset noout", transport.Command{
				Argv: append([]string{"timeout", "60", "ceph", "--connect-timeout", "30", "osd", "unset-group", "noout"}, set...), Mutates: true, Timeout: 2 * time.Minute,
			})
			if err != nil {
				return err
			}
			// Without its note, an undo that is still registered takes nothing away. A node that is away by now keeps the note until then.
			if f.l.NooutFrom != "" {
				_ = runOn(ctx, t, f.l.NooutFrom, "forget noout", transport.Command{Script: forgetNooutScript, Argv: f.l.NooutHosts, Mutates: true, Timeout: 30 * time.Second})
			}
			return nil
		},
	}
}

func union(a, b []string) []string {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}
