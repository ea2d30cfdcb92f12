package upgrade

import (
	"context"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/modules/internal/gates"
)

// gateOptions say what a gate lets pass: see gates.Options. Gate and Away need not be filled in.
type gateOptions = gates.Options

// mayGoDown reads, right before a disruptive act, everything that says whether a node may be down: quorum without it, the other
// nodes, corosync's links, the HA manager, Ceph, tasks in progress and, with o.Empty, running guests. Those that are under way in
// the same rolling block count as gone. The readings are recorded. No refusal means yes; what could not be read is a refusal. waited says that some gate
// was closed at first.
func mayGoDown(ctx context.Context, t module.Target, node string, o gateOptions) (refused module.Refusals, waited bool, err error) {
	o.Coming = o.Empty
	refused, waited, err = gates.Check(ctx, t, node, inBlock(t, node, o))
	if err == nil && len(refused) == 0 {
		err = module.GoOn(ctx, t, node) // it may have waited
	}
	return refused, waited, err
}

// inBlock fills in what the target knows.
func inBlock(t module.Target, node string, o gateOptions) gateOptions {
	if b := t.Block(); b != nil && o.Away == nil {
		o.Away = b.Out() // one that failed may go down at any time, or be down
	}
	if o.Gate == "" {
		o.Gate = "take " + node + " down"
	}
	return o
}

// fromLedger takes what the gates must know of it: where this run, or one before it that was cut off, has set noout for the node's
// OSDs, and which guests were left running there by their policy.
func fromLedger(ctx context.Context, t module.Target, node string) (noout, left []string) {
	l, err := readLedger(ctx, t, node)
	if err != nil || l == nil {
		return nil, nil
	}
	for _, g := range l.Guests {
		if g.Fate == fateLeft && l.Run == t.Run() { // what an earlier run allowed is not allowed now
			left = append(left, g.SID)
		}
	}
	return l.noouts(), left
}
