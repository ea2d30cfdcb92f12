package ceph

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed ceph_mds.md
var mdsDoc string

type mdsArgs struct {
	Nodes  inventory.Refs `hcl:"nodes,optional" doc:"The nodes that shall have a metadata server (default: the hosts of the task). A CephFS needs one, and one that stands by." example:"cluster.lab.nodes"`
	Ensure string         `hcl:"ensure,optional" default:"present" oneof:"present absent" doc:"Whether the metadata servers shall be there or not. What a file system needs is never taken away."`
}

// Validate checks the names: Ceph takes no id that begins with a digit.
func (a *mdsArgs) Validate() error { return checkMDS("nodes", a.Nodes) }

func checkMDS(argument string, nodes inventory.Refs) error {
	for _, name := range nodes {
		if name != "" && name[0] >= '0' && name[0] <= '9' {
			return schema.At(argument, errors.New("the name of a metadata server is that of its node, and "+name+" begins with a digit, which Ceph refuses"))
		}
	}
	return nil
}

func cephMDS() module.Module {
	return module.Define(module.Spec{
		Name: "ceph_mds", Summary: "Make metadata servers for CephFS", Doc: mdsDoc, Scope: module.PerCluster,
	}, module.Funcs[mdsArgs, cephOut]{
		Probes: func(t module.Target, _ mdsArgs) []module.Probe { return probes(t) },
		Plan: func(ctx context.Context, t module.Target, args mdsArgs) ([]module.Change, error) {
			w, err := look(ctx, t)
			if err != nil {
				return nil, err
			}
			hosts := inRun(t, args.Nodes)
			if args.Ensure == "absent" {
				return w.done(t, w.withoutMDS(args.Nodes, hosts))
			}
			return w.done(t, w.metadataServers(hosts))
		},
		Read: func(ctx context.Context, t module.Target, _ mdsArgs) (cephOut, error) { return outputs(ctx, t) },
	})
}

func (w *world) metadataServers(hosts []string) []module.Change {
	return w.daemons("mds", hosts, func(host string) bool { return w.will.mds[host] })
}

// withoutMDS plans to take metadata servers away. Each file system keeps one that is active.
func (w *world) withoutMDS(named inventory.Refs, hosts []string) []module.Change {
	const gate = "remove metadata servers"
	if len(named) == 0 {
		w.refuse("", gate, "no nodes are named", "the nodes whose metadata servers shall go", "", "say nodes = [...]")
		return nil
	}
	if !w.answers(gate) {
		return nil
	}
	running := len(w.Status.FS.ByRank) + w.Status.FS.Standby
	var changes []module.Change
	for _, host := range hosts {
		id, there := w.daemonOn(host, "mds")
		if !there || !w.need(host, gate) || !w.writable(host, gate) {
			continue
		}
		if d, _ := w.local[host].Daemon("mds", id); d.Unit.Running() {
			running--
		}
		if running < len(w.Filesystems) {
			w.refuse(host, gate, fmt.Sprintf("%d metadata servers would be left for %d file systems", running, len(w.Filesystems)), "one for each", "ceph fs status", "make another one elsewhere first")
			continue
		}
		if running == len(w.Filesystems) && running > 0 {
			w.warn(host, "no metadata server will stand by: while one restarts, its file system stops")
		}
		changes = append(changes, module.Change{
			ID: host + "/" + kindMDS, Host: host, Action: module.Delete, Risk: module.RiskDestructive, Summary: "remove metadata server " + id,
			Before: map[string]any{"metadata server": id}, Apply: func(ctx context.Context, t module.Target) error { return removeMDS(ctx, t, host, id) },
		})
	}
	return changes
}

func removeMDS(ctx context.Context, t module.Target, host, id string) error {
	if err := ask(ctx, t, host, "mds", "ok-to-stop", id); err != nil {
		return &module.Refusal{Host: host, Gate: "remove metadata server " + id, Saw: said(err), Want: "file systems that go on without it", Look: "ceph mds ok-to-stop " + id}
	}
	return removeDaemon(ctx, t, host, "mds", id)
}
