package ha

import (
	"context"

	"github.com/pxrun/pxrun/engine/module"
)

// step is one change as the pure decisions of this family give it: what is shown, and the commands that make it.
type step struct {
	id, summary   string
	action        module.Action
	risk          module.Risk
	before, after any
	predicted     string
	// first waits for what the commands need. nil: nothing.
	first func(ctx context.Context, t module.Target, host string) error
	// commands are arguments of ha-manager, run in their order.
	commands [][]string
	// then waits for what the commands set in motion. nil: nothing.
	then func(ctx context.Context, t module.Target, host string) error
}

// changes makes changes of steps.
func (w *world) changes(steps []step) []module.Change {
	out := make([]module.Change, len(steps))
	for i, s := range steps {
		host := w.actor
		out[i] = module.Change{
			ID: "ha/" + s.id, Host: host, Summary: s.summary, Action: s.action, Risk: s.risk, Before: s.before, After: s.after, Predicted: s.predicted,
			Apply: func(ctx context.Context, t module.Target) error {
				if s.first != nil {
					if err := s.first(ctx, t, host); err != nil {
						return err
					}
				}
				for _, args := range s.commands {
					if err := manager(ctx, t, host, args...); err != nil {
						return err
					}
				}
				if s.then == nil {
					return nil
				}
				return s.then(ctx, t, host)
			},
		}
	}
	return out
}

// mixedRefusal is why nothing is changed while a cluster runs both major releases.
func mixedRefusal(gate string) *module.Refusal {
	return &module.Refusal{
		Gate: gate, Saw: "the cluster's nodes run Proxmox VE 8 and 9: groups can no longer be relied on and rules cannot be made yet", Want: "one major release on all nodes",
		Look: "pveversion", Override: "finish the upgrade and apply again; Proxmox VE itself makes rules of the groups that exist",
	}
}
