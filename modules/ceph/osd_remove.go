package ceph

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ceph"
)

// withoutOSDs plans to take OSDs away, one after the other: out, until its data is elsewhere, then stopped and destroyed.
func (w *world) withoutOSDs(args osdArgs) []module.Change {
	const gate = "remove OSDs"
	if !w.answers(gate) {
		return nil
	}
	if w.Map == nil {
		return nil // there is no cluster yet, so there are none
	}
	var there []int
	for _, id := range args.IDs {
		if _, ok := w.Map.OSD(id); ok && !slices.Contains(there, id) {
			there = append(there, id)
		}
	}
	if len(there) == 0 {
		return nil
	}
	if why := w.Lost(there); why != "" {
		w.refuse("", gate, why, "places and space for every copy without them", "ceph osd df tree; ceph osd pool ls detail", "add OSDs first, or take fewer away")
		return nil
	}
	var changes []module.Change
	for _, id := range there {
		o, _ := w.Map.OSD(id)
		if o.Host == "" && !o.Up {
			changes = append(changes, w.purge(o))
			continue
		}
		host := w.hostOf(o)
		if !slices.Contains(w.nodes, host) {
			w.refuse("", gate, fmt.Sprintf("osd.%d belongs to %s, which is no node of the inventory", id, host), "an OSD of a node that can be reached", "ceph osd tree", "")
			continue
		}
		if !w.need(host, gate) || !w.writable(host, gate) {
			continue
		}
		changes = append(changes, w.removal(host, o, args))
	}
	return changes
}

// hostOf is the node that an OSD runs on: the one that has its folder, or else what the cluster last heard.
func (w *world) hostOf(o ceph.OSD) string {
	for _, host := range w.nodes {
		if _, here := w.local[host].Daemon("osd", fmt.Sprint(o.ID)); here {
			return host
		}
	}
	if o.NodeName != "" {
		return o.NodeName
	}
	return o.Host
}

func (w *world) removal(host string, o ceph.OSD, args osdArgs) module.Change {
	before := map[string]any{"osd": o.ID, "up": o.Up, "in": o.In}
	if d, ok := w.local[host].DiskOf(o.ID, "block"); ok {
		before["disk"] = d.Describe()
	}
	after := map[string]any{"osd": nil}
	if args.Cleanup {
		after["disk"] = "wiped"
	}
	actor := w.actor()
	return module.Change{
		ID: fmt.Sprintf("%s/%s/%d", host, kindOSD, o.ID), Host: host, Action: module.Delete, Risk: module.RiskDestructive,
		Summary: fmt.Sprintf("remove osd.%d from %s, when its data is elsewhere", o.ID, host), Before: before, After: after,
		Apply: func(ctx context.Context, t module.Target) error { return removeOSD(ctx, t, host, actor, o.ID, args) },
	}
}

// removeOSD goes through the steps of a removal from wherever it stands. Nothing is stopped before the cluster says that no
// copy is lost by it.
func removeOSD(ctx context.Context, t module.Target, host, actor string, id int, args osdArgs) error {
	name := fmt.Sprintf("osd.%d", id)
	c, err := readCluster(ctx, t, actor)
	if err != nil {
		return err
	}
	o, there := c.Map.OSD(id)
	if !there {
		return nil
	}
	if o.In {
		if err := tell(ctx, t, actor, "osd", "out", fmt.Sprint(id)); err != nil {
			return err
		}
	}
	err = t.WaitFor(ctx, module.Condition{Name: name + " is safe to destroy", Timeout: args.Drain, Check: func(ctx context.Context) error {
		if err := ask(ctx, t, actor, "osd", "safe-to-destroy", fmt.Sprint(id)); err != nil {
			return fmt.Errorf("%s (look: ceph osd safe-to-destroy %d; ceph -s)", said(err), id)
		}
		return nil
	}})
	if err != nil {
		return fmt.Errorf("%w\n  %s is out and its data goes on moving; apply again to go on, or take it back: ceph osd in %d", err, name, id)
	}
	if o.Up {
		if err := run(ctx, t, host, "systemctl", "stop", fmt.Sprintf("ceph-osd@%d", id)); err != nil {
			return fmt.Errorf("%s: stop %s: %s", host, name, said(err))
		}
		err := await(ctx, t, name+" is down", actor, daemonTimeout, func(c *ceph.Cluster) string {
			if o, _ := c.Map.OSD(id); o.Up {
				return "the cluster still has it up"
			}
			return ""
		})
		if err != nil {
			return err
		}
	}
	argv := []string{"pveceph", "osd", "destroy", fmt.Sprint(id)}
	if args.Cleanup {
		argv = append(argv, "--cleanup", "1")
	}
	failed := work(ctx, t, host, tool(fmt.Sprintf("ceph-osd-destroy-%d", id), osdTimeout, argv...))
	return gone(ctx, t, actor, id, failed)
}

func gone(ctx context.Context, t module.Target, actor string, id int, failed error) error {
	c, err := readCluster(ctx, t, actor)
	if err != nil {
		return errors.Join(failed, err)
	}
	if _, there := c.Map.OSD(id); there {
		why := "the cluster still has it"
		if failed != nil {
			why = said(failed)
		}
		return fmt.Errorf("remove osd.%d: %s (look: ceph osd tree)", id, why)
	}
	return nil
}

// purge takes an id away that belongs to no host. The runbook names it, which is the approval that it needs (reference §8.3);
// one that was in before may hold data all the same, so that the cluster is asked.
func (w *world) purge(o ceph.OSD) module.Change {
	actor := w.actor()
	return module.Change{
		ID: fmt.Sprintf("%s/%s/%d", actor, kindOSD, o.ID), Host: actor, Action: module.Delete, Risk: module.RiskDestructive,
		Summary: fmt.Sprintf("purge osd.%d, which belongs to no host", o.ID), Before: map[string]any{"osd": o.ID, "state": strings.Join(o.State, ", ")},
		Apply: func(ctx context.Context, t module.Target) error {
			c, err := readCluster(ctx, t, actor)
			if err != nil {
				return err
			}
			now, there := c.Map.OSD(o.ID)
			refusal := &module.Refusal{Host: actor, Gate: fmt.Sprintf("purge osd.%d", o.ID), Want: "an OSD without data", Look: fmt.Sprintf("ceph osd tree; ceph osd safe-to-destroy %d", o.ID)}
			switch {
			case !there:
				return nil
			case now.Up || now.Host != "":
				refusal.Saw, refusal.Override = "it runs, or is part of a host by now", "plan again"
				return refusal
			case !now.NeverIn():
				if err := ask(ctx, t, actor, "osd", "safe-to-destroy", fmt.Sprint(o.ID)); err != nil {
					refusal.Saw, refusal.Override = "it was in before: "+said(err), "start it, if its disk is there, and let the data move away"
					return refusal
				}
			}
			err = tell(ctx, t, actor, "osd", "purge", fmt.Sprint(o.ID), "--yes-i-really-mean-it")
			return gone(ctx, t, actor, o.ID, err)
		},
	}
}
