package ceph

import (
	"context"
	_ "embed"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed ceph_mgr.md
var mgrDoc string

type mgrArgs struct {
	Nodes  inventory.Refs `hcl:"nodes,optional" doc:"The nodes that shall have a manager (default: the hosts of the task; in ceph_init those with a monitor). One is active, the others stand by." example:"cluster.lab.nodes"`
	Ensure string         `hcl:"ensure,optional" default:"present" oneof:"present absent" doc:"Whether the managers shall be there or not. The last one is never taken away."`
}

func cephMgr() module.Module {
	return module.Define(module.Spec{
		Name: "ceph_mgr", Summary: "Make Ceph managers", Doc: mgrDoc, Scope: module.PerCluster,
	}, module.Funcs[mgrArgs, cephOut]{
		Probes: func(t module.Target, _ mgrArgs) []module.Probe { return probes(t) },
		Plan: func(ctx context.Context, t module.Target, args mgrArgs) ([]module.Change, error) {
			w, err := look(ctx, t)
			if err != nil {
				return nil, err
			}
			hosts := inRun(t, args.Nodes)
			if args.Ensure == "absent" {
				return w.done(t, w.withoutManagers(args.Nodes, hosts))
			}
			return w.done(t, w.managers(hosts))
		},
		Read: func(ctx context.Context, t module.Target, _ mgrArgs) (cephOut, error) { return outputs(ctx, t) },
	})
}

func (w *world) managers(hosts []string) []module.Change {
	first := w.will.firstMon
	if len(w.Conf.Daemons("mon")) > 0 {
		first = "" // the first monitor brought its manager along long ago
	}
	return w.daemons("mgr", hosts, func(host string) bool { return w.will.mgrs[host] || host == first })
}

// withoutManagers plans to take managers away, but never the last.
func (w *world) withoutManagers(named inventory.Refs, hosts []string) []module.Change {
	const gate = "remove managers"
	if len(named) == 0 {
		w.refuse("", gate, "no nodes are named", "the nodes whose managers shall go", "", "say nodes = [...]")
		return nil
	}
	if !w.answers(gate) {
		return nil
	}
	left := 0
	for _, host := range w.nodes {
		if id, there := w.daemonOn(host, "mgr"); there {
			if d, _ := w.local[host].Daemon("mgr", id); d.Unit.Running() {
				left++
			}
		}
	}
	var changes []module.Change
	for _, host := range hosts {
		id, there := w.daemonOn(host, "mgr")
		if !there || !w.need(host, gate) {
			continue
		}
		if d, _ := w.local[host].Daemon("mgr", id); d.Unit.Running() {
			left--
		}
		if left < 1 {
			w.refuse(host, gate, "no manager would run any more", "at least one", "ceph -s", "make another one elsewhere first")
			continue
		}
		changes = append(changes, module.Change{
			ID: host + "/" + kindMgr, Host: host, Action: module.Delete, Risk: module.RiskDestructive, Summary: "remove manager " + id,
			Before: map[string]any{"manager": id}, Apply: func(ctx context.Context, t module.Target) error { return removeDaemon(ctx, t, host, "mgr", id) },
		})
	}
	return changes
}
