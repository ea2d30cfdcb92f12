// Package gates decides whether a node may be taken down now: whether quorum, the other nodes, Ceph and the node's own guests and
// tasks bear it. Everything is read anew at each call; what cannot be read counts as no. Judgements are made of values (Facts),
// so that they can be tested without a cluster.
package gates

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
)

// The gates, as they are named in readings and in Options.Ignore.
const (
	Quorum    = "quorum"     // votes left without the node
	Others    = "others"     // no other node is down or in maintenance
	Links     = "links"      // corosync's links between the others
	HA        = "ha"         // the HA manager is at rest
	Tasks     = "tasks"      // backups, migrations, replication on the node
	Guests    = "guests"     // the node is empty
	Ceph      = "ceph"       // Ceph is healthy and whole
	CephFlags = "ceph_flags" // nobody else works on Ceph
	CephStop  = "ceph_stop"  // Ceph bears that the node's daemons stop
)

// Ignorable are the gates that a person may open: those behind which inconvenience waits, not loss.
var Ignorable = []string{Others, Links, HA, Tasks, CephFlags}

// Options say what is asked, and what is allowed.
type Options struct {
	// Gate is what is being guarded: "reboot pve2".
	Gate string
	// Away are the other nodes that are under way in the same run. Their votes, monitors and OSDs are counted as gone.
	Away []string
	// Tolerate are nodes that may be down or in maintenance although this run has nothing to do with it.
	Tolerate []string
	// Empty asks for a node without running guests, but for those in Stay ("vm:100").
	Empty bool
	Stay  []string
	// Coming counts guests that the HA manager brings, or may bring, as running on the node, with Empty: for what takes it down.
	Coming bool
	// Noout are the hosts of the CRUSH map for which this run has set noout.
	Noout []string
	// CephAccept are health checks of Ceph, by name, that do not count.
	CephAccept []string
	// Ignore are gates that do not count.
	Ignore []string
	// NoCeph says that Ceph is not asked, and not judged: what is done lets its daemons be.
	NoCeph bool
	// Settle is for how long gates that are closed are read again, as long as all of them may open by themselves.
	Settle time.Duration
}

// Verdict is what one gate saw.
type Verdict struct {
	module.Reading
	Look, Override string
	// Lasting says that waiting will not open it.
	Lasting bool
}

// Judgement is what all gates of a node saw at one time.
type Judgement struct {
	Node     string
	Verdicts []Verdict
	// Votes is the reading of the quorum; nil outside of a cluster, or when nobody could tell.
	Votes *module.Votes
}

// Check reads the gates of a node right before it is taken down, again and again for o.Settle while those that are closed may still
// open, and records the last reading. No refusal means that the node may go down now. waited says that it was not so at first: what was
// seen of the node before may be old.
func Check(ctx context.Context, t module.Target, node string, o Options) (refused module.Refusals, waited bool, err error) {
	var j Judgement
	looks := 0
	look := func(ctx context.Context) error {
		now := Look(ctx, t, node, o)
		if ctx.Err() != nil {
			return context.Cause(ctx) // what was cut off explains nothing
		}
		j = now
		looks++
		switch refusals := j.Refusals(o.Gate); {
		case len(refusals) == 0:
			return nil
		case j.lasting():
			return module.Fatal(refusals)
		default:
			return refusals
		}
	}
	if o.Settle <= 0 {
		err = look(ctx)
	} else {
		err = t.WaitFor(ctx, module.Condition{Name: o.Gate + ": its gates open", Check: look, Timeout: o.Settle, Every: 5 * time.Second})
	}
	switch {
	case ctx.Err() != nil:
		return nil, false, context.Cause(ctx)
	case looks == 0:
		return nil, false, fmt.Errorf("%s: its gates could not be read: %w", node, err)
	}
	j.record(t)
	if refusals := j.Refusals(o.Gate); len(refusals) > 0 {
		return refusals, looks > 1, nil // that it timed out is told by what is still closed
	}
	return nil, looks > 1, err
}

// Look reads and judges once, and records nothing.
func Look(ctx context.Context, t module.Target, node string, o Options) Judgement {
	return Judge(Read(ctx, t, node, ReadOptions{Away: o.Away, NoCeph: o.NoCeph}), o)
}

// Judge decides on what was read.
func Judge(f Facts, o Options) Judgement {
	j := Judgement{Node: f.Node}
	add := func(v Verdict) {
		if !v.OK && v.Reading.Override == "" && slices.Contains(o.Ignore, v.Gate) && slices.Contains(Ignorable, v.Gate) {
			v.Reading.Override, v.Lasting = fmt.Sprintf("ignore = [%q]", v.Gate), false
		}
		j.Verdicts = append(j.Verdicts, v)
	}
	if f.clustered() && f.conf() == nil {
		add(closed(Quorum, "no node of the cluster could tell its configuration", "quorum without the node", quorumLook, "none: bring the nodes back first"))
	} else if f.clustered() {
		v, votes := f.quorum(o)
		j.Votes = votes
		add(v)
		add(f.others(o))
		add(f.links(o))
		add(f.ha(o))
	}
	for _, v := range f.ceph(o) {
		add(v)
	}
	if f.Proxmox || f.clustered() || o.Empty {
		add(f.tasks())
		if o.Empty {
			add(f.guests(o))
		}
	}
	return j
}

// Refusals are the gates that are closed and not overridden.
func (j Judgement) Refusals(gate string) module.Refusals {
	var out module.Refusals
	for _, v := range j.Verdicts {
		if v.OK || v.Reading.Override != "" {
			continue
		}
		override := v.Override
		if slices.Contains(Ignorable, v.Gate) {
			override = strings.TrimPrefix(override+fmt.Sprintf("; or ignore = [%q]", v.Gate), "; or ")
		}
		out = append(out, &module.Refusal{Host: j.Node, Gate: gate, Saw: v.Saw, Want: v.Want, Look: v.Look, Override: override})
	}
	return out
}

func (j Judgement) lasting() bool {
	return slices.ContainsFunc(j.Verdicts, func(v Verdict) bool { return !v.OK && v.Lasting && v.Reading.Override == "" })
}

func (j Judgement) record(t module.Target) {
	for _, v := range j.Verdicts {
		t.Record(j.Node, v.Reading)
	}
	if j.Votes != nil {
		t.Record(j.Node, *j.Votes)
	}
}

// open is the verdict of a gate that lets pass.
func open(gate, saw, want string) Verdict {
	return Verdict{Reading: module.Reading{Gate: gate, Saw: saw, Want: want, OK: true}}
}

func closed(gate, saw, want, look, override string) Verdict {
	return Verdict{Reading: module.Reading{Gate: gate, Saw: saw, Want: want}, Look: look, Override: override}
}

// overridden is a closed gate that an argument lets pass.
func overridden(v Verdict, argument string) Verdict { v.Reading.Override = argument; return v }

// lasting is a closed gate that does not open by itself.
func lasting(v Verdict) Verdict { v.Lasting = true; return v }

// ErrIgnore says that a gate cannot be ignored.
var ErrIgnore = errors.New("it is no gate that can be ignored; those that can: " + strings.Join(Ignorable, ", "))

// CheckIgnore reports a name in a list of gates to be ignored that cannot be.
func CheckIgnore(names []string) error {
	for _, name := range names {
		if !slices.Contains(Ignorable, name) {
			return fmt.Errorf("%q: %w", name, ErrIgnore)
		}
	}
	return nil
}
