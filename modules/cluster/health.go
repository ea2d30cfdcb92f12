package cluster

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/health"
)

//go:embed health.md
var healthDoc string

type healthArgs struct {
	FailOn string   `hcl:"fail_on,optional" default:"critical" oneof:"critical warning never" doc:"From which severity on the task refuses to go on."`
	Ignore []string `hcl:"ignore,optional" doc:"Checks that do not count: the words before the colon in the plan's warnings." example:"[\"kernel\", \"tasks\"]"`
}

type healthOut struct {
	Quorate  bool   `hcl:"quorate" doc:"Whether the cluster has quorum."`
	Bearable int    `hcl:"bearable_failures" doc:"How many more nodes may fail, whichever they are; -1 without quorum."`
	Ceph     string `hcl:"ceph" doc:"What Ceph says of its health; empty without Ceph."`
	Critical int    `hcl:"critical" doc:"How many findings are critical."`
	Warnings int    `hcl:"warnings" doc:"How many findings are warnings."`
}

func healthModule() module.Module {
	return module.Define(module.Spec{
		Name: "health", Summary: "Refuse to go on unless the cluster is healthy", Doc: healthDoc, Scope: module.PerCluster,
	}, module.Funcs[healthArgs, healthOut]{
		Probes: healthProbes,
		Plan: func(ctx context.Context, t module.Target, args healthArgs) ([]module.Change, error) {
			if len(t.Planned()) > 0 {
				return []module.Change{healthLater()}, nil
			}
			r, err := judgeHealth(ctx, t)
			if err != nil {
				return nil, err
			}
			return nil, args.gate(t, r)
		},
		Read: func(ctx context.Context, t module.Target, _ healthArgs) (healthOut, error) {
			r, err := judgeHealth(ctx, t)
			if err != nil {
				return healthOut{}, err
			}
			out := healthOut{Quorate: r.Quorate, Bearable: r.Votes.Bearable}
			if r.Ceph != nil {
				out.Ceph = r.Ceph.Health
			}
			for _, f := range r.Findings {
				switch f.Severity {
				case pve.Critical:
					out.Critical++
				case pve.Warning:
					out.Warnings++
				}
			}
			return out, nil
		},
	})
}

// healthLater stands for the look that is due when the changes of earlier tasks have been made.
func healthLater() module.Change {
	return module.Change{
		ID: "health", Action: module.Run, Summary: "check the health of the cluster", Imperative: true, Predicted: "earlier tasks are going to change the cluster",
		Apply: func(context.Context, module.Target) error { return nil },
	}
}

func healthProbes(t module.Target, _ healthArgs) []module.Probe {
	if t.Cluster() == nil {
		return nil
	}
	var list []module.Probe
	for i, name := range t.Cluster().Nodes {
		list = append(list, module.Probe{Host: name, Command: health.Probe(i)})
	}
	return list
}

func judgeHealth(ctx context.Context, t module.Target) (health.Report, error) {
	if t.Cluster() == nil {
		return health.Report{}, errNoCluster
	}
	snapshot := health.Read(ctx, t.Cluster().Nodes, t.Conn)
	return health.Judge(snapshot, pve.WantedCluster(t.Cluster(), t.Site())), nil
}

// gate tells what was found, and refuses from the severity that the task names.
func (a healthArgs) gate(t module.Target, r health.Report) error {
	var refusals module.Refusals
	// What is left out explains nothing: what follows from it is found as it would be without it.
	counted := slices.DeleteFunc(slices.Clone(r.Findings), func(f pve.Finding) bool { return slices.Contains(a.Ignore, f.Check) })
	for _, f := range pve.Fold(counted) {
		closed := a.FailOn != "never" && f.Severity == pve.Critical || a.FailOn == "warning" && f.Severity == pve.Warning
		switch {
		case closed:
			override := fmt.Sprintf("%s; or ignore = [%q]", f.Remedy, f.Check)
			refusals = append(refusals, &module.Refusal{
				Host: f.Node, Gate: "health: " + f.Check, Saw: strings.Join(append([]string{f.Saw}, f.Consequences...), "\n"), Want: "no " + string(f.Severity) + " finding", Look: f.Look, Override: strings.TrimPrefix(override, "; "),
			})
		case f.Severity != pve.Info:
			t.Warn(f.Node, f.Check+": "+f.Saw)
		}
	}
	if len(refusals) == 0 {
		return nil
	}
	return refusals
}
