package ha

import (
	"context"
	"fmt"
	"slices"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
)

// cutRefusals are the reasons to leave a node its power: what the cluster, Ceph and the guests on it would lose.
func (d device) cutRefusals(ctx context.Context, t module.Target, whose identity) module.Refusals {
	var refusals module.Refusals
	for _, one := range []*module.Refusal{d.unproved(whose), d.guestsRefuse(ctx, t)} {
		if one != nil {
			refusals = append(refusals, one)
		}
	}
	return append(refusals, d.clusterRefuses(ctx, t)...)
}

// unproved refuses to cut the power by a controller that may be another machine's.
func (d device) unproved(whose identity) *module.Refusal {
	if whose.proved || d.args.Unproved == "accept" {
		return nil
	}
	return &module.Refusal{
		Host: d.node, Gate: "cut the power of " + d.node, Saw: fmt.Sprintf("that the controller at %s is its own is not proved: %s", d.args.Address, whose.saw),
		Want: "the node itself to tell its controller's address", Look: fmt.Sprintf("on %s: ipmitool lan print", d.node),
		Override: `mend that, or unproved = "accept" if you are sure of the address`,
	}
}

// clusterRefuses keeps the power on where the cluster would lose its quorum with the node, or Ceph its data. A node that counts
// no more, or a cluster that has lost its quorum already, loses no quorum.
func (d device) clusterRefuses(ctx context.Context, t module.Target) module.Refusals {
	if t.Cluster() == nil {
		return nil
	}
	var refusals module.Refusals
	states := pve.ReadCluster(ctx, t.Cluster().Nodes, pve.Options{Brief: true}, t.Conn)
	b := votesOf(states, t.Cluster().Name)
	if rest := b.Without(d.node); b.Quorate() && !rest.Quorate() {
		refusals = append(refusals, &module.Refusal{
			Host: d.node, Gate: "cut the power of " + d.node, Saw: fmt.Sprintf("without it %d of %d votes are left and %d are needed", rest.Total(), rest.Expected(), rest.Quorum()),
			Want: "quorum without the node", Look: "pvecm status", Override: "bring the other nodes back first",
		})
	}
	for _, s := range pve.MembersOf(states, t.Cluster().Name) {
		if s.Host == d.node || !s.Writable {
			continue
		}
		if refusal := cephBears(ctx, t, s.Host, d.node); refusal != nil {
			refusals = append(refusals, refusal)
		}
		break
	}
	return refusals
}

// guestsRefuse keeps the power on while guests run on the node, or while that cannot be known.
func (d device) guestsRefuse(ctx context.Context, t module.Target) *module.Refusal {
	if d.args.Guests == "lose" {
		return nil
	}
	refusal := &module.Refusal{
		Host: d.node, Gate: "cut the power of " + d.node, Want: "a node on which no guest runs", Look: "qm list; pct list", Override: `move them away, or guests = "lose"`,
	}
	w, err := look(ctx, t)
	if err != nil {
		refusal.Saw = "whether guests run there could not be read: " + err.Error()
		return refusal
	}
	var running []string
	for _, g := range w.Guests {
		if g.Node == d.node && g.Running != "stopped" && !g.Template {
			running = append(running, g.SID)
		}
	}
	if len(running) == 0 {
		return nil
	}
	slices.Sort(running)
	refusal.Saw = names(running) + " on it, running or not known to be stopped"
	return refusal
}
