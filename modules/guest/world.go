package guest

import (
	"context"
	"errors"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/modules/internal/members"
	"github.com/pxrun/pxrun/modules/internal/moves"
)

// world is the guests of a cluster as one of its nodes has them, and what the nodes say of themselves.
type world struct {
	*members.View
	*guest.Site
	actor string
}

// probes lists the reads that look makes. Which node is asked for the cluster is not known before; it is the first, mostly.
func probes(t module.Target) []module.Probe {
	list := members.Probes(t)
	if t.Cluster() == nil {
		return list
	}
	for i, name := range t.Cluster().Nodes {
		if i == 0 {
			list = append(list, module.Probe{Host: name, Command: guest.Probe()})
		}
		list = append(list, module.Probe{Host: name, Command: guest.NodeProbe()})
	}
	return list
}

// look reads the guests. A cluster that an earlier task of the plan is going to make has none yet.
func look(ctx context.Context, t module.Target, gate string) (*world, error) {
	view, err := members.Look(ctx, t, gate)
	if err != nil {
		return nil, err
	}
	w := &world{View: view}
	var failed []error
	for _, name := range view.Actors {
		site, err := moves.ReadFrom(ctx, t, name)
		if err == nil {
			w.Site, w.actor = site, name
			return w, nil
		}
		failed = append(failed, err)
	}
	return nil, module.Refusals{{
		Gate: gate, Saw: errors.Join(failed...).Error(), Want: "a quorate member whose /etc/pve answers", Look: "pvecm status; ls /etc/pve/nodes", Override: "bring absent nodes back, or run it again",
	}}
}

// ask lets nodes say what runs on them and what they can run.
func (w *world) ask(ctx context.Context, t module.Target, nodes []string) {
	moves.AskNodes(ctx, t, w.Site, nodes)
}

// again reads the cluster from the acting node, and the nodes that a guest is or was on.
func again(ctx context.Context, t module.Target, actor string, nodes ...string) (*world, error) {
	site, err := moves.Again(ctx, t, actor, nodes...)
	if err != nil {
		return nil, err
	}
	return &world{Site: site, actor: actor, View: &members.View{}}, nil
}
