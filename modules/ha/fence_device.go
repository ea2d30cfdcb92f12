package ha

import (
	"context"
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed fence_device.md
var fenceDeviceDoc string

type fenceDeviceArgs struct {
	Address   string         `hcl:"address" doc:"The address of the node's management controller." example:"self.vars.bmc"`
	User      string         `hcl:"user" doc:"Who logs in there." example:"\"fence\""`
	Password  secret.String  `hcl:"password" doc:"The password. It never becomes part of a command line."`
	Interface string         `hcl:"interface,optional" default:"lanplus" oneof:"lanplus lan" doc:"IPMI 2.0 (lanplus) or 1.5 (lan)."`
	Via       inventory.Refs `hcl:"via,optional" doc:"The host that runs ipmitool (default: another node of the cluster that answers)."`
	Power     string         `hcl:"power,optional" default:"check" oneof:"check on off cycle" doc:"What to do: check only reads; off and cycle cut the node's power and need confirm."`
	Confirm   string         `hcl:"confirm,optional" doc:"The name of the node whose power may be cut."`
	Unproved  string         `hcl:"unproved,optional" default:"refuse" oneof:"refuse accept" doc:"What to do when the node itself cannot tell that the controller at the address is its own and its power is to be cut: refuse, or take the address as given. A controller that is known to be another one's is refused either way."`
	Guests    string         `hcl:"guests,optional" default:"refuse" oneof:"refuse lose" doc:"What to do when guests run on a node whose power is to be cut: refuse, or lose them."`
	PowerWait time.Duration  `hcl:"power_wait,optional" default:"60s" min:"5s" doc:"How long the controller may take to do it."`
	Return    time.Duration  `hcl:"return_within,optional" default:"20m" min:"1m" doc:"How long a node whose power was cut and given back may take until it has restarted and every node counts on it again."`
}

// Validate checks the address, which becomes an argument on another host.
func (a *fenceDeviceArgs) Validate() error {
	if _, err := netip.ParseAddr(a.Address); err != nil {
		return schema.At("address", fmt.Errorf("%q is no IP address", a.Address))
	}
	if len(a.Via) > 1 {
		return schema.At("via", fmt.Errorf("one host runs ipmitool, %d are given", len(a.Via)))
	}
	if a.User == "" || strings.HasPrefix(a.User, "-") {
		return schema.At("user", fmt.Errorf("%q is no user name", a.User))
	}
	return nil
}

type fenceDeviceOut struct {
	Power  string `hcl:"power" doc:"on or off, as the controller says."`
	Proved bool   `hcl:"proved" doc:"Whether the node itself has told that the address is its own controller's."`
}

func fenceDevice(turns *turns) module.Module {
	return module.Define(module.Spec{
		Name: "fence_device", Summary: "Check a node's management controller, or switch its power", Doc: fenceDeviceDoc, Scope: module.PerHost, Risk: module.RiskDestructive,
		MayBeAway: true,
	}, module.Funcs[fenceDeviceArgs, fenceDeviceOut]{
		Plan: func(ctx context.Context, t module.Target, args fenceDeviceArgs) ([]module.Change, error) {
			return planFence(ctx, t, args, turns)
		},
		Read: func(ctx context.Context, t module.Target, args fenceDeviceArgs) (fenceDeviceOut, error) {
			d, err := deviceOf(ctx, t, t.Host().Name, args)
			if err != nil {
				return fenceDeviceOut{}, err
			}
			power, err := d.status(ctx, t)
			if err != nil {
				return fenceDeviceOut{}, err
			}
			return fenceDeviceOut{Power: power, Proved: d.identify(ctx, t, power).proved}, nil
		},
	})
}

func planFence(ctx context.Context, t module.Target, args fenceDeviceArgs, turns *turns) ([]module.Change, error) {
	node := t.Host().Name
	d, err := deviceOf(ctx, t, node, args)
	if err != nil {
		return nil, err
	}
	power, err := d.status(ctx, t)
	if err != nil {
		return nil, module.Refusals{d.refusal(err)}
	}
	whose := d.identify(ctx, t, power)
	if refusal := d.foreign(whose); refusal != nil {
		return nil, module.Refusals{refusal}
	}
	switch {
	case args.Power == "check":
		if !whose.proved {
			t.Warn(node, fmt.Sprintf("the controller at %s answers, and it is not proved to be the one of %s: %s", args.Address, node, whose.saw))
		}
		return nil, nil
	case args.Power == power:
		return nil, nil
	case args.Power == "on":
		return []module.Change{d.switchOn(turns)}, nil
	case args.Confirm != node:
		return nil, module.Refusals{{
			Host: node, Gate: "cut the power of " + node, Saw: fmt.Sprintf("confirm = %q", args.Confirm), Want: fmt.Sprintf("confirm = %q", node), Override: "write the node's name, if you mean it",
		}}
	case args.Power == "cycle" && power == "off":
		return []module.Change{d.revive(turns)}, nil
	}
	refusals := d.cutRefusals(ctx, t, whose)
	if refusal := d.severalRefuse(t); refusal != nil {
		refusals = append(refusals, refusal)
	}
	if len(refusals) > 0 {
		return nil, refusals
	}
	return []module.Change{d.cutChange(turns, whose)}, nil
}

// severalRefuse refuses to leave several nodes of a cluster without power by one task: each may be borne, all of them not.
func (d device) severalRefuse(t module.Target) *module.Refusal {
	if d.args.Power != "off" || t.Cluster() == nil {
		return nil
	}
	var all []string
	for _, name := range module.TaskHosts(t) {
		if slices.Contains(t.Cluster().Nodes, name) {
			all = append(all, name)
		}
	}
	if len(all) < 2 {
		return nil
	}
	return &module.Refusal{
		Host: d.node, Gate: "cut the power of " + d.node, Saw: fmt.Sprintf("the task is for %s of one cluster, and would leave them all off", names(all)), Want: "one node at a time",
		Override: "name one node in hosts; cycle takes several, one after the other",
	}
}

// cutChange cuts the power, and gives it back with cycle.
func (d device) cutChange(turns *turns, whose identity) module.Change {
	summary := "cut the power of " + d.node
	if d.args.Power == "cycle" {
		summary = fmt.Sprintf("switch the power of %s off and on again, and see it back in the cluster", d.node)
	}
	risk, after := module.RiskDisruptive, map[string]any{"controller": d.args.Address}
	if d.args.Guests == "lose" {
		risk, after["guests"] = module.RiskDestructive, "those that run there die"
	}
	if !whose.proved {
		after["proved"] = fmt.Sprintf("no (%s); unproved = %q", whose.saw, d.args.Unproved)
	}
	return module.Change{
		ID: d.node + "/power", Host: d.node, Action: module.Run, Summary: summary, Risk: risk, After: after, Imperative: d.args.Power == "cycle",
		Apply: func(ctx context.Context, t module.Target) error { return d.cut(ctx, t, turns) },
	}
}

// switchOn gives a node its power.
func (d device) switchOn(turns *turns) module.Change {
	return module.Change{
		ID: d.node + "/power", Host: d.node, Action: module.Run, Summary: "switch the power of " + d.node + " on",
		Apply: func(ctx context.Context, t module.Target) error {
			err := d.switchTo(ctx, t, "on", "on")
			if err == nil {
				turns.forgive(t, d.node)
			}
			return err
		},
	}
}

// revive is a cycle of a node that has no power: half of it is done already.
func (d device) revive(turns *turns) module.Change {
	c := d.switchOn(turns)
	c.Summary += ", and see it back in the cluster"
	apply := c.Apply
	c.Apply = func(ctx context.Context, t module.Target) error {
		before := d.before(ctx, t)
		if err := apply(ctx, t); err != nil {
			return err
		}
		return before.back(ctx, t, d.args.Return)
	}
	c.Imperative = true
	return c
}

// cut cuts the power in the node's turn, after its gates were read once more, and proves what came of it.
func (d device) cut(ctx context.Context, t module.Target, turns *turns) (err error) {
	mine, err := turns.take(ctx, t, d.node, d.args.Return)
	if err != nil {
		return err
	}
	defer func() { mine.end(err == nil && d.args.Power == "cycle") }()
	whose := d.identify(ctx, t, "on")
	if refusal := d.foreign(whose); refusal != nil {
		return module.Refusals{refusal}
	}
	if refusals := d.cutRefusals(ctx, t, whose); len(refusals) > 0 {
		return refusals
	}
	before := d.before(ctx, t)
	mine.begin()
	want := map[string]string{"off": "off", "cycle": "on"}[d.args.Power]
	if err := d.switchTo(ctx, t, d.args.Power, want); err != nil {
		return err
	}
	if err := before.gone(ctx, t, d.args); err != nil || d.args.Power == "off" {
		return err
	}
	return before.back(ctx, t, d.args.Return)
}
