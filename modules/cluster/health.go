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
	"github.com/pxrun/pxrun/internal/pve/health"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed health.md
var healthDoc string

type healthArgs struct {
	FailOn   string             `hcl:"fail_on,optional" default:"critical" oneof:"critical warning never" doc:"From which severity on the task refuses to go on."`
	Within   time.Duration      `hcl:"within,optional" default:"0s" min:"0s" doc:"How long findings may take to go away while the task is performed: what passes by itself, such as a daemon that was just restarted."`
	Tolerate inventory.NodeRefs `hcl:"tolerate,optional" doc:"Nodes whose findings do not count." example:"[cluster.lab.pve5]"`
	Ignore   []string           `hcl:"ignore,optional" doc:"Checks that do not count: the words before the colon in the plan's warnings." example:"[\"kernel\", \"tasks\"]"`
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
			return nil, args.look(ctx, t)
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

// look reads and judges. While a run performs the task, findings have their time to go away; a plan waits for nothing.
func (a healthArgs) look(ctx context.Context, t module.Target) error {
	var refusals module.Refusals
	var warnings []pve.Finding
	check := func(ctx context.Context) error {
		r, err := judgeHealth(ctx, t)
		if err != nil {
			return module.Fatal(err)
		}
		if refusals, warnings = a.gate(r); len(refusals) > 0 {
			return refusals
		}
		return nil
	}
	var err error
	if t.Run() == "" || a.Within == 0 {
		err = check(ctx)
	} else {
		err = t.WaitFor(ctx, module.Condition{Name: "the cluster is healthy", Check: check, Timeout: a.Within, Every: 5 * time.Second})
	}
	if fatal, ok := errors.AsType[*module.FatalError](err); ok {
		err = fatal.Cause
	}
	for _, f := range warnings {
		t.Warn(f.Node, f.Check+": "+f.Saw)
	}
	if err != nil && ctx.Err() == nil && len(refusals) > 0 {
		return refusals // that it timed out is told by what is still wrong
	}
	return err
}

// gate refuses from the severity that the task names; what is less bad is a warning.
func (a healthArgs) gate(r health.Report) (refusals module.Refusals, warnings []pve.Finding) {
	// What is left out explains nothing: what follows from it is found as it would be without it.
	counted := slices.DeleteFunc(slices.Clone(r.Findings), func(f pve.Finding) bool {
		return slices.Contains(a.Ignore, f.Check) || f.Node != "" && slices.Contains(a.Tolerate, f.Node)
	})
	for _, f := range pve.Fold(counted) {
		closed := a.FailOn != "never" && f.Severity == pve.Critical || a.FailOn == "warning" && f.Severity == pve.Warning
		switch {
		case closed:
			override := fmt.Sprintf("%s; or ignore = [%q]", f.Remedy, f.Check)
			refusals = append(refusals, &module.Refusal{
				Host: f.Node, Gate: "health: " + f.Check, Saw: strings.Join(append([]string{f.Saw}, f.Consequences...), "\n"), Want: "no " + string(f.Severity) + " finding", Look: f.Look, Override: strings.TrimPrefix(override, "; "),
			})
		case f.Severity != pve.Info:
			warnings = append(warnings, f)
		}
	}
	return refusals, warnings
}
