package cluster

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed preflight.md
var preflightDoc string

type preflightArgs struct {
	For           string        `hcl:"for,optional" default:"forming" oneof:"forming running" doc:"What the nodes are checked for: forming or growing a cluster, or working on one that runs."`
	Ignore        []string      `hcl:"ignore,optional" doc:"Names of checks that only warn: read, count, root, release, hostname, unique, links, mtu, rtt, ports, time, pmxcfs, half_done, guests, cluster, storages, space, zfs or backups." example:"[\"rtt\"]"`
	MaxNodes      int           `hcl:"max_nodes,optional" default:"32" min:"1" doc:"How many nodes a cluster may have."`
	MinLinks      int           `hcl:"min_links,optional" default:"1" min:"1" max:"8" doc:"How many corosync links each node must have."`
	WarnRTT       time.Duration `hcl:"warn_rtt,optional" default:"2ms" min:"0s" doc:"Round trip time on a link from which to warn."`
	FailRTT       time.Duration `hcl:"fail_rtt,optional" default:"5ms" min:"0s" doc:"Round trip time on a link from which to refuse."`
	Full          int           `hcl:"full,optional" default:"95" min:"1" max:"100" doc:"From how many percent on a storage or a pool of ZFS counts as full, for a cluster that runs."`
	Backups       time.Duration `hcl:"backups_within,optional" default:"0s" min:"0s" doc:"How old the newest backup of a guest may be, for a cluster that runs; 0 does not ask for backups." example:"\"26h\""`
	MaxTimeOffset time.Duration `hcl:"max_time_offset,optional" default:"1s" min:"0s" doc:"How far the clocks of two nodes may be apart."`
}

// The names of the checks, which ignore takes.
const (
	checkRead     = "read"
	checkCount    = "count"
	checkRoot     = "root"
	checkRelease  = "release"
	checkHostname = "hostname"
	checkUnique   = "unique"
	checkLinks    = "links"
	checkMTU      = "mtu"
	checkRTT      = "rtt"
	checkPorts    = "ports"
	checkTime     = "time"
	checkPmxcfs   = "pmxcfs"
	checkHalf     = "half_done"
	checkGuests   = "guests"
	checkCluster  = "cluster"
	checkStorages = "storages"
	checkSpace    = "space"
	checkZFS      = "zfs"
	checkBackups  = "backups"
)

var checkNames = []string{
	checkRead, checkCount, checkRoot, checkRelease, checkHostname, checkUnique, checkLinks, checkMTU, checkRTT, checkPorts, checkTime,
	checkPmxcfs, checkHalf, checkGuests, checkCluster, checkStorages, checkSpace, checkZFS, checkBackups,
}

// Validate refuses names of checks that do not exist.
func (a *preflightArgs) Validate() error {
	for _, name := range a.Ignore {
		if !slices.Contains(checkNames, name) {
			return schema.At("ignore", fmt.Errorf("there is no check %q; the checks are %s", name, strings.Join(checkNames, ", ")))
		}
	}
	return nil
}

type preflightOut struct {
	Members []string `hcl:"members" doc:"The nodes that are in the cluster already."`
	Fresh   []string `hcl:"fresh" doc:"The nodes that are in no cluster."`
	Release string   `hcl:"release" doc:"The lowest version of pve-manager on the nodes."`
}

// preflight makes the module. now is the controller's clock, against which those of the nodes are compared.
func preflight(now func() time.Time) module.Module {
	return module.Define(module.Spec{
		Name: "preflight", Summary: "Check everything that forming or running a cluster needs, without changing anything",
		Doc: preflightDoc, Scope: module.PerCluster,
	}, module.Funcs[preflightArgs, preflightOut]{
		Probes: func(t module.Target, _ preflightArgs) []module.Probe { return probes(t) },
		Plan: func(ctx context.Context, t module.Target, args preflightArgs) ([]module.Change, error) {
			return nil, planPreflight(ctx, t, args, now)
		},
		Read: readPreflight,
	})
}

// problem is something that a check found. Warn says that it stops nothing.
type problem struct {
	check, host           string
	saw, want, look, cure string
	warn                  bool
}

func planPreflight(ctx context.Context, t module.Target, args preflightArgs, now func() time.Time) error {
	if t.Cluster() == nil {
		return errNoCluster
	}
	names := t.Cluster().Nodes
	states, err := readAll(ctx, t, names)
	if err != nil {
		return err
	}
	site := siteView{cluster: t.Cluster().Name, wanted: pve.WantedCluster(t.Cluster(), t.Site()), states: states}
	for _, name := range names {
		h, ok := t.Site().Host(name)
		if !ok {
			return fmt.Errorf("cluster %q: the inventory has no host %q", site.cluster, name)
		}
		site.hosts = append(site.hosts, h)
	}
	found := site.check(args)
	clocks, err := readClocks(ctx, t, names, now)
	if err != nil {
		return err
	}
	found = append(found, compareClocks(clocks, args.MaxTimeOffset)...)
	if args.For == "running" {
		found = append(found, site.ready(ctx, t, args)...)
	}
	if args.For == "forming" {
		network, err := site.measure(ctx, t, args)
		if err != nil {
			return err
		}
		found = append(found, network...)
	}
	return judge(t, args, found)
}

// judge turns problems into warnings and refusals, all of them at once.
func judge(t module.Target, args preflightArgs, found []problem) error {
	var refusals module.Refusals
	for _, p := range found {
		if p.warn || slices.Contains(args.Ignore, p.check) {
			text := p.check + ": " + p.saw
			if p.cure != "" {
				text += "; " + p.cure
			}
			t.Warn(p.host, text)
			continue
		}
		override := fmt.Sprintf("ignore = [%q] in the preflight task, when you are sure", p.check)
		if p.cure != "" {
			override = p.cure + "; or " + override
		}
		refusals = append(refusals, &module.Refusal{
			Host: p.host, Gate: "preflight " + p.check, Saw: p.saw, Want: p.want, Look: p.look, Override: override,
		})
	}
	if len(refusals) > 0 {
		return refusals
	}
	return nil
}

func readPreflight(ctx context.Context, t module.Target, _ preflightArgs) (preflightOut, error) {
	var out preflightOut
	if t.Cluster() == nil {
		return out, errNoCluster
	}
	states, err := readAll(ctx, t, t.Cluster().Nodes)
	if err != nil {
		return out, err
	}
	members := pve.MembersOf(states, t.Cluster().Name)
	out.Members = hostsOf(members)
	for _, s := range states {
		if pve.ClassifyJoin(t.Cluster().Name, s, members).Phase == pve.PhaseFresh {
			out.Fresh = append(out.Fresh, s.Host)
		}
		if v := s.Version(); out.Release == "" || v != "" && pve.CompareVersions(v, out.Release) < 0 {
			out.Release = v
		}
	}
	return out, nil
}

// siteView is what the checks see.
type siteView struct {
	cluster string
	wanted  pve.Wanted
	hosts   []inventory.Host
	states  []pve.NodeState
}

// clock is what a node's clock said, compared with the controller's.
type clock struct {
	host   string
	offset time.Duration // of the node's clock against the controller's
	within time.Duration // how exact that is: half of the time that asking took
}

var errBadClock = errors.New("date gave no time")
