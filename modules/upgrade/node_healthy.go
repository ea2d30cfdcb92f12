package upgrade

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/modules/internal/gates"
)

//go:embed node_healthy.md
var nodeHealthyDoc string

type nodeHealthyArgs struct {
	Within    time.Duration      `hcl:"within,optional" default:"20m" min:"5s" doc:"How long the node may take until all is well but Ceph's placement groups."`
	Ceph      time.Duration      `hcl:"ceph_within,optional" default:"60m" min:"5s" doc:"How long Ceph may take until all placement groups are active and clean."`
	Stalled   time.Duration      `hcl:"ceph_stalled,optional" default:"10m" min:"5s" doc:"How long placement groups may be unclean without any of their numbers getting better: groups that are not clean, objects that lack copies or are misplaced. Where nothing gets better the wait ends then."`
	MaxOffset time.Duration      `hcl:"max_offset,optional" default:"50ms" min:"1ms" doc:"How far the node's clock may be off. Ceph complains from 50 ms on."`
	Tolerate  inventory.NodeRefs `hcl:"tolerate,optional" doc:"Other nodes that may be down." example:"[cluster.lab.pve5]"`
	Failed    []string           `hcl:"allow_failed,optional" doc:"Units that may have failed, with * for any part of a name." example:"[\"zfs-import@*.service\"]"`
	Ignore    []string           `hcl:"ignore,optional" doc:"Checks that do not count: kernel, pmxcfs, membership, links, services, lrm, network, storages, clock, units, ceph, osds, pgs." example:"[\"storages\"]"`
}

// checkKernel is the check whether the node runs what the restart was for.
const checkKernel = "kernel"

// Validate checks the names of checks and the patterns of units.
func (a *nodeHealthyArgs) Validate() error {
	var errs []error
	known := append([]string{checkKernel}, gates.WellChecks...)
	for i, name := range a.Ignore {
		if !slices.Contains(known, name) || name == gates.WellAnswers {
			errs = append(errs, schema.At(fmt.Sprintf("ignore[%d]", i), fmt.Errorf("%q is no check that can be ignored: those are %s", name, strings.Join(slices.DeleteFunc(known, func(k string) bool { return k == gates.WellAnswers }), ", "))))
		}
	}
	for i, pattern := range a.Failed {
		if _, err := path.Match(pattern, ""); err != nil {
			errs = append(errs, schema.At(fmt.Sprintf("allow_failed[%d]", i), fmt.Errorf("%q is no pattern", pattern)))
		}
	}
	return errors.Join(errs...)
}

type nodeHealthyOut struct {
	Healthy  bool     `hcl:"healthy" doc:"Whether nothing is wrong with the node."`
	Problems []string `hcl:"problems" doc:"What is wrong, each with the name of its check."`
}

func nodeHealthy() module.Module {
	return module.Define(module.Spec{
		Name: "node_healthy", Summary: "See that a node is a whole member of its cluster again, and wait until it is", Doc: nodeHealthyDoc, Serves: true,
	}, module.Funcs[nodeHealthyArgs, nodeHealthyOut]{
		Plan: planHealthy,
		Read: func(ctx context.Context, t module.Target, args nodeHealthyArgs) (nodeHealthyOut, error) {
			_, bad, _ := examine(ctx, t, t.Host().Name, args)
			return nodeHealthyOut{Healthy: len(bad) == 0, Problems: append([]string{}, texts(bad)...)}, nil
		},
	})
}

// planHealthy looks once. A node on which nothing is wrong needs no wait, and no change stands in the plan. Where earlier tasks
// change the node, what it looks like now says nothing.
func planHealthy(ctx context.Context, t module.Target, args nodeHealthyArgs) ([]module.Change, error) {
	host := t.Host().Name
	change := module.Change{
		ID: host + "/verify", Host: host, Action: module.Run, Imperative: true, Summary: "see that " + host + " is well",
		Apply: func(ctx context.Context, t module.Target) error { return waitHealthy(ctx, t, host, args) },
	}
	if slices.ContainsFunc(t.Planned(), func(p module.Planned) bool { return p.Host == host }) {
		change.Predicted = "earlier tasks change it first"
		return []module.Change{change}, nil
	}
	_, bad, _ := examine(ctx, t, host, args)
	if len(bad) == 0 {
		return nil, nil
	}
	change.Summary = "wait until " + host + " is well: " + strings.Join(texts(bad), "; ")
	return []module.Change{change}, nil
}

// examine makes all checks of a node once. bad are those that are not fulfilled and not ignored; lacking is what Ceph lacks.
func examine(ctx context.Context, t module.Target, host string, args nodeHealthyArgs) (all, bad []gates.Verdict, lacking *lacks) {
	away := t.Block().Out()
	f := gates.Read(ctx, t, host, gates.ReadOptions{Away: away, Extra: append(gates.WellReads(), sentRead), NoStop: true, NoGuests: true})
	all = gates.Well(f, gates.WellOptions{Away: away, Tolerate: args.Tolerate, Failed: args.Failed, MaxOffset: args.MaxOffset})
	if v, known := kernelOf(f, t.Run()); known {
		all = append([]gates.Verdict{v}, all...)
	}
	for i, v := range all {
		if v.OK {
			continue
		}
		if slices.Contains(args.Ignore, v.Gate) {
			all[i].Reading.Override = fmt.Sprintf("ignore = [%q]", v.Gate)
			continue
		}
		bad = append(bad, v)
	}
	return all, bad, lacksOf(f.Ceph)
}

// waitHealthy looks again and again until nothing is wrong. Placement groups have a time of their own: copies are made anew for
// long.
func waitHealthy(ctx context.Context, t module.Target, host string, args nodeHealthyArgs) error {
	began, err := clockOf(ctx, t, host)
	if err != nil {
		began = 0 // the phase is not measured
	}
	w := waiting{t: t, host: host, args: args}
	err = w.within(ctx, args.Within, func(v gates.Verdict) bool { return v.Gate != gates.WellPGs })
	if err == nil {
		err = w.whole(ctx)
	}
	for _, v := range w.all {
		t.Record(host, v.Reading)
	}
	if ended, errClock := clockOf(ctx, t, host); errClock == nil && began > 0 && ended > began {
		t.Record(host, module.Phase{Name: "verify", Took: ended - began})
	}
	return err
}

func texts(bad []gates.Verdict) []string {
	out := make([]string, len(bad))
	for i, v := range bad {
		out[i] = v.Gate + ": " + v.Saw
	}
	return out
}

// clockOf is the time by the clock of another node, whose clock nobody sets now; of the node itself if there is no other.
func clockOf(ctx context.Context, t module.Target, host string) (time.Duration, error) {
	from := host
	if h, ok := t.Site().Host(host); ok {
		if c, ok := t.Site().Cluster(h.Cluster); ok {
			if i := slices.IndexFunc(c.Nodes, func(n string) bool { return n != host }); i >= 0 {
				from = c.Nodes[i]
			}
		}
	}
	conn, err := t.Conn(ctx, from)
	if err != nil {
		return 0, err
	}
	r, err := conn.Run(ctx, transport.Command{Argv: []string{"date", "+%s.%N"}, Timeout: askTimeout})
	if err != nil {
		return 0, err
	}
	return seconds(r.Out())
}
