package ceph

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed ceph_init.md
var initDoc string

type poolBlock struct {
	Name string `hcl:"name,label" doc:"The pool's name."`
	poolSettings
}

type fsBlock struct {
	Name string `hcl:"name,label" doc:"The file system's name."`
	fsSettings
}

type initArgs struct {
	networks
	software
	Mons      inventory.Refs        `hcl:"mons,optional" doc:"The nodes with a monitor (default: the first three of the task's hosts)." example:"cluster.lab.nodes"`
	Addresses map[string]netip.Addr `hcl:"mon_addresses,optional" doc:"The monitor's address by node, where a node has several in the public network." example:"{ pve1 = \"10.0.3.1\" }"`
	Mgrs      inventory.Refs        `hcl:"mgrs,optional" doc:"The nodes with a manager (default: those with a monitor)."`
	MDS       inventory.Refs        `hcl:"mds,optional" doc:"The nodes with a metadata server (default: with an fs block, as many of the monitors' nodes as there are file systems, and one more)."`
	Disks     []diskBlock           `hcl:"disk,block" doc:"A disk that shall be an OSD (default: those that the inventory names)."`
	Crush     *crushSettings        `hcl:"crush,block" doc:"Where the hosts stand, for pools that keep copies on several sites or in several racks."`
	Pools     []poolBlock           `hcl:"pool,block" doc:"A pool."`
	FS        []fsBlock             `hcl:"fs,block" doc:"A CephFS."`
	Start     bool                  `hcl:"start_stopped,optional" doc:"Whether an OSD that somebody has stopped is started. Without it that is told, and the OSD is left alone."`
	UpWait    time.Duration         `hcl:"up_timeout,optional" default:"5m" min:"30s" doc:"How long a new OSD may take until it is up."`
}

// Validate checks what can be checked without a node.
func (a *initArgs) Validate() error {
	errs := []error{a.networks.validate(), a.software.validate(), checkDisks(a.Disks), checkMDS("mds", a.MDS)}
	if a.Crush != nil {
		errs = append(errs, a.Crush.validate("crush."))
	}
	seen := map[string]bool{}
	for i := range a.Pools {
		p := &a.Pools[i]
		at := fmt.Sprintf("pool[%d].", i)
		errs = append(errs, schema.At(at+"name", checkPoolName(p.Name)), p.poolSettings.validate(at))
		if seen[p.Name] {
			errs = append(errs, schema.At(at+"name", fmt.Errorf("there are two pools %q", p.Name)))
		}
		seen[p.Name] = true
	}
	for i, f := range a.FS {
		errs = append(errs, schema.At(fmt.Sprintf("fs[%d].name", i), checkPoolName(f.Name)))
	}
	return errors.Join(errs...)
}

func cephInit() module.Module {
	return module.Define(module.Spec{
		Name: "ceph_init", Summary: "Make a whole Ceph cluster: packages, monitors, managers, OSDs, pools, CephFS, storages", Doc: initDoc, Scope: module.PerCluster,
	}, module.Funcs[initArgs, cephOut]{
		Probes: func(t module.Target, _ initArgs) []module.Probe { return probes(t) },
		Plan: func(ctx context.Context, t module.Target, args initArgs) ([]module.Change, error) {
			w, err := look(ctx, t)
			if err != nil {
				return nil, err
			}
			return w.done(t, w.whole(t, args))
		},
		Read: func(ctx context.Context, t module.Target, _ initArgs) (cephOut, error) { return outputs(ctx, t) },
	})
}

// whole plans the story from the packages to the storages. Each part is what the module of its name plans; each sees what the
// parts before it are going to make.
func (w *world) whole(t module.Target, a initArgs) []module.Change {
	hosts := hostsOf(t)
	mons := w.monHosts(t, a.Mons, hosts)
	changes := w.install(hosts, a.software)
	changes = append(changes, w.initialise(a.networks, mons)...)
	if len(w.refusals) > 0 || len(w.errs) > 0 {
		return nil // what follows would only complain of the same
	}
	changes = append(changes, w.monitors(mons, a.Addresses, &a.networks)...)
	if len(w.refusals) > 0 || !w.answers("make the Ceph cluster") {
		return nil
	}
	mgrs := mons
	if len(a.Mgrs) > 0 {
		mgrs = inRun(t, a.Mgrs)
	}
	changes = append(changes, w.managers(mgrs)...)
	if disks := disksOf(t, a.Disks); len(disks) > 0 || w.Map == nil {
		changes = append(changes, w.osds(disks, osdWishes{upWait: a.UpWait, startStopped: a.Start}, &a.networks)...)
	}
	if a.Crush != nil {
		changes = append(changes, w.crush(*a.Crush)...)
	}
	for _, p := range a.Pools {
		changes = append(changes, w.pool(p.Name, p.poolSettings)...)
	}
	changes = append(changes, w.metadataServers(w.mdsHosts(t, a, mons))...)
	for _, f := range a.FS {
		changes = append(changes, w.filesystem(f.Name, f.fsSettings)...)
	}
	w.complain()
	return changes
}

// monHosts are the nodes for monitors: those that are named; or else as many as are missing to three, after those that have
// one.
func (w *world) monHosts(t module.Target, named inventory.Refs, hosts []string) []string {
	if len(named) > 0 {
		return inRun(t, named)
	}
	var with, without []string
	for _, host := range hosts {
		if _, ok := w.monOn(host); ok || w.will.mons[host] {
			with = append(with, host)
		} else {
			without = append(without, host)
		}
	}
	missing := max(0, fewestMons-max(w.countMons(), len(with)))
	return append(with, without[:min(missing, len(without))]...)
}

// mdsHosts are the nodes for metadata servers. File systems get one each, and one that stands by.
func (w *world) mdsHosts(t module.Target, a initArgs, mons []string) []string {
	switch {
	case len(a.MDS) > 0:
		return inRun(t, a.MDS)
	case len(a.FS) == 0:
		return nil
	}
	return mons[:min(len(mons), len(a.FS)+1)]
}

// complain passes on what Ceph complains of: a cluster that is as the runbook wants it can still be ill.
func (w *world) complain() {
	if !w.Answers || w.Status.Health.Status == "HEALTH_OK" {
		return
	}
	w.warn("", "Ceph says %s: %s (look: ceph health detail)", w.Status.Health.Status, strings.Join(w.Status.Complaints(), "; "))
}
