package cluster

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/modules/internal/apt"
)

//go:embed qdevice.md
var qdeviceDoc string

type qdeviceArgs struct {
	Arbiter       inventory.Refs `hcl:"arbiter,optional" doc:"The host that runs corosync-qnetd: one of the inventory that is no node of the cluster." example:"host.arbiter"`
	Ensure        string         `hcl:"ensure,optional" default:"present" oneof:"present absent" doc:"Whether the cluster has a QDevice."`
	Address       string         `hcl:"address,optional" doc:"The IP address by which the nodes reach the arbiter (default: its address in the inventory)." example:"\"192.0.2.50\""`
	Cluster       string         `hcl:"cluster,optional" doc:"The name of the cluster, where cluster_create gave it another one than the inventory." example:"\"lab\""`
	Replace       bool           `hcl:"replace,optional" doc:"Take a QDevice off that has another arbiter or algorithm, or that does not vote although all its daemons run, and set it up anew." default:"false"`
	QuorumTimeout time.Duration  `hcl:"quorum_timeout,optional" default:"2m" min:"10s" doc:"How long the QDevice may take to vote on every node."`
}

// Validate checks what belongs together.
func (a *qdeviceArgs) Validate() error {
	switch {
	case a.Ensure == "present" && len(a.Arbiter) != 1:
		return schema.At("arbiter", fmt.Errorf("a QDevice has one arbiter, %d are given", len(a.Arbiter)))
	case a.Ensure == "absent" && (a.Replace || a.Address != ""):
		return errors.New(`address and replace belong to ensure = "present"`)
	case a.Cluster != "" && pve.CheckClusterName(a.Cluster) != nil:
		return schema.At("cluster", pve.CheckClusterName(a.Cluster))
	}
	if a.Address != "" {
		if _, err := netip.ParseAddr(a.Address); err != nil {
			return schema.At("address", fmt.Errorf("%q is no IP address, which pvecm qdevice setup wants", a.Address))
		}
	}
	return nil
}

type qdeviceOut struct {
	Device    string `hcl:"device" doc:"The address of the arbiter, empty without a QDevice."`
	Algorithm string `hcl:"algorithm" doc:"The algorithm that decides who gets its vote."`
	Votes     int    `hcl:"votes" doc:"The votes that are there, those of the QDevice among them."`
	Expected  int    `hcl:"expected" doc:"The votes that are expected."`
	Quorum    int    `hcl:"quorum" doc:"The votes that are needed."`
}

func qdevice() module.Module {
	return module.Define(module.Spec{
		Name: "qdevice", Summary: "Give a cluster with an even number of nodes an arbiter's vote", Doc: qdeviceDoc, Scope: module.PerCluster,
	}, module.Funcs[qdeviceArgs, qdeviceOut]{
		Probes: func(t module.Target, _ qdeviceArgs) []module.Probe { return probes(t) },
		Plan:   planDevice,
		Read:   readDevice,
	})
}

func readDevice(ctx context.Context, t module.Target, args qdeviceArgs) (qdeviceOut, error) {
	var out qdeviceOut
	if t.Cluster() == nil {
		return out, errNoCluster
	}
	states, err := readAll(ctx, t, t.Cluster().Nodes)
	if err != nil {
		return out, err
	}
	members := pve.MembersOf(states, clusterName(t, args.Cluster))
	if conf := pve.NewestConf(members); conf != nil && conf.Device != nil {
		out.Device, out.Algorithm = conf.Device.Host, conf.Device.Algorithm
	}
	for _, m := range members {
		if m.Quorum != nil && m.Quorum.Quorate {
			out.Votes, out.Expected, out.Quorum = m.Quorum.Total, m.Quorum.Expected, m.Quorum.Quorum
		}
	}
	return out, nil
}

func planDevice(ctx context.Context, t module.Target, args qdeviceArgs) ([]module.Change, error) {
	if t.Cluster() == nil {
		return nil, errNoCluster
	}
	states, err := readAll(ctx, t, t.Cluster().Nodes)
	if err != nil {
		return nil, err
	}
	v := &deviceView{args: args, cluster: clusterName(t, args.Cluster), states: states}
	v.members = pve.MembersOf(states, v.cluster)
	v.conf = pve.NewestConf(v.members)
	v.count, v.growing = growth(t, v.conf)
	if v.refusals = refusedReads(states); len(v.refusals) > 0 {
		return nil, v.refusals
	}
	if v.conf == nil && v.growing == "" && args.Ensure == "present" {
		return nil, module.Refusals{{Gate: "set the QDevice up", Saw: fmt.Sprintf("no node is a member of a cluster %q", v.cluster), Want: "a cluster", Look: "pvecm status", Override: "put a cluster_create task before this one"}}
	}
	var steps []deviceStep
	if args.Ensure == "absent" {
		steps = v.absent()
	} else if steps, err = v.present(ctx, t); err != nil {
		return nil, err
	}
	for _, w := range v.warnings {
		t.Warn("", w)
	}
	if len(v.refusals) > 0 {
		return nil, v.refusals
	}
	if r := leftOut(t, "change the QDevice", slices.Concat(t.Cluster().Nodes, args.Arbiter)); r != nil && len(steps) > 0 {
		return nil, module.Refusals{r}
	}
	return v.changes(ctx, t, steps)
}

// present reads what deciding about a wanted device needs beside the nodes' states: nothing while it is there and votes.
func (v *deviceView) present(ctx context.Context, t module.Target) ([]deviceStep, error) {
	if slices.Contains(t.Cluster().Nodes, v.args.Arbiter[0]) {
		return nil, fmt.Errorf("%s is a node of the cluster: an arbiter must fail apart from it", v.args.Arbiter[0])
	}
	address, err := deviceAddress(t, v.args)
	if err != nil {
		return nil, err
	}
	v.address = address
	if v.conf != nil && v.conf.Device != nil {
		steps := v.wanted()
		if len(v.refusals) > 0 || v.growing != "" || !v.replaces(steps) && (len(steps) > 0 && !onlyForgets(steps) || votingAll(v.members)) {
			return steps, nil
		}
		// Of a cluster that is not whole nothing can be said.
		if v.refusals = deviceGates("see the QDevice vote", v.members, v.conf); len(v.refusals) > 0 {
			return nil, nil
		}
	}
	arbiter, err := readArbiter(ctx, t, v.args.Arbiter[0])
	if err != nil {
		return nil, v.arbiterAway(err)
	}
	v.arbiter = &arbiter
	if r := arbiter.loginRefusal(); r != nil {
		v.refusals = append(v.refusals, r)
		return nil, nil
	}
	if v.conf != nil && v.conf.Device != nil && v.conf.Device.Host == address {
		if steps := v.silent(); len(steps) > 0 {
			return append(steps, v.forget()...), nil
		}
	}
	if v.count%2 == 0 {
		if err := v.readTrust(ctx, t); err != nil {
			return nil, err
		}
	}
	return v.wanted(), nil
}

func refusedReads(states []pve.NodeState) module.Refusals {
	var out module.Refusals
	for _, m := range states {
		if why := unreadOf(m, "id", "pmxcfs", "conf", "localconf", "here", "quorum", "units", "packages"); why != "" {
			out = append(out, &module.Refusal{Host: m.Host, Gate: "look at the QDevice", Saw: why, Want: "a member that answers", Look: "timeout 5 ls /etc/pve"})
		}
	}
	return out
}

func onlyForgets(steps []deviceStep) bool {
	return !slices.ContainsFunc(steps, func(s deviceStep) bool { return s.kind != stepForget })
}

func (v *deviceView) replaces(steps []deviceStep) bool {
	return slices.ContainsFunc(steps, func(s deviceStep) bool { return s.kind == stepDeviceOff })
}

func votingAll(members []pve.NodeState) bool {
	return !slices.ContainsFunc(members, func(m pve.NodeState) bool { return voteOf(m) != nil })
}

// arbiterAway says what an arbiter that cannot be asked means.
func (v *deviceView) arbiterAway(err error) error {
	if v.conf == nil || v.conf.Device == nil {
		return fmt.Errorf("the arbiter must answer to be set up: %w", err)
	}
	return fmt.Errorf("the QDevice casts no vote and its arbiter does not answer; %s: %w", v.bears(), err)
}

// bears says what the cluster bears as it is.
func (v *deviceView) bears() string {
	b := pve.BallotOf(v.conf, func(name string) bool {
		return slices.ContainsFunc(v.members, func(m pve.NodeState) bool { return m.Members.Online(name) })
	}, false)
	if n := b.Bearable(); n >= 0 {
		return fmt.Sprintf("without it the cluster bears the loss of %d nodes", n)
	}
	return "the cluster has no quorum"
}

// silent decides about a device that is configured as wanted, whose daemons run on all nodes, and that does not vote.
func (v *deviceView) silent() []deviceStep {
	a := v.arbiter
	owner := v.owner()
	prove := deviceStep{kind: stepProve, host: owner, device: v.address}
	switch {
	case !a.Package:
		return []deviceStep{{kind: stepArbiterPackage, host: a.Host}, prove}
	case !a.Unit.Running() || a.Unit.Enabled != "enabled":
		return []deviceStep{{kind: stepArbiterStart, host: a.Host}, prove}
	case v.conf.Device.Algorithm != "ffsplit" || v.conf.Device.Votes != 1 || votingAll(v.members):
	case v.args.Replace:
		v.renew = true
	default:
		// Daemons that have just started need some seconds. If it takes longer, something is wrong.
		v.warnings = append(v.warnings, fmt.Sprintf("the QDevice %s casts no vote although all its daemons run; if that lasts, replace = true sets it up anew; %s", v.address, v.bears()))
		return []deviceStep{prove}
	}
	return nil
}

// changes makes the steps the engine's.
func (v *deviceView) changes(ctx context.Context, t module.Target, steps []deviceStep) ([]module.Change, error) {
	run := &deviceRun{cluster: v.cluster, timeout: v.args.QuorumTimeout}
	var changes []module.Change
	for _, s := range steps {
		if s.kind == stepNodePackage || s.kind == stepArbiterPackage {
			name := map[stepKind]string{stepNodePackage: "corosync-qdevice", stepArbiterPackage: "corosync-qnetd"}[s.kind]
			more, err := apt.Plan(ctx, t, s.host, apt.Request{Names: []string{name}, State: apt.Present, UpdateCache: true})
			if err != nil {
				return nil, err
			}
			for i := range more {
				more[i].Group = "packages" // of several hosts at once
			}
			changes = append(changes, more...)
			continue
		}
		c := s.change(run, v.args)
		if v.growing != "" {
			c.Predicted = v.growing
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// change makes one step a change.
func (s deviceStep) change(run *deviceRun, args qdeviceArgs) module.Change {
	c := module.Change{ID: s.host + "/" + string(s.kind), Host: s.host, Action: module.Update}
	switch s.kind {
	case stepArbiterStart:
		c.Summary = "start corosync-qnetd on " + s.host + ", now and at each boot"
		c.Apply = func(ctx context.Context, t module.Target) error { return startUnit(ctx, t, s.host, "corosync-qnetd") }
	case stepDaemon:
		c.Summary = "start corosync-qdevice on " + s.host + ", now and at each boot"
		c.Apply = func(ctx context.Context, t module.Target) error { return startUnit(ctx, t, s.host, "corosync-qdevice") }
	case stepTrust:
		c.Action, c.Summary = module.Create, fmt.Sprintf("let root of %s log in to %s by key", s.host, args.Arbiter[0])
		c.After = map[string]any{"authorized_keys": "root's id_rsa.pub of " + s.host + " on " + args.Arbiter[0], "known_hosts": s.device + " on " + s.host}
		c.Apply = func(ctx context.Context, t module.Target) error {
			return trustArbiter(ctx, t, s.host, args.Arbiter[0], s.device)
		}
	case stepClean:
		c.Action, c.Summary = module.Delete, "remove the certificates of an earlier QDevice from "+s.host
		c.Before = map[string]any{"directory": "/etc/corosync/qdevice"}
		c.Apply = func(ctx context.Context, t module.Target) error { return cleanStore(ctx, t, s.host) }
	case stepDaemonOff:
		c.Summary = "stop corosync-qdevice on " + s.host + ", now and at each boot"
		c.Apply = func(ctx context.Context, t module.Target) error { return stopUnit(ctx, t, s.host, "corosync-qdevice") }
	case stepProve:
		c.Summary = "see the QDevice vote on every node"
		c.Apply = func(ctx context.Context, t module.Target) error { return run.votes(ctx, t) }
	case stepDeviceOff:
		c.Action, c.Summary = module.Delete, "take the QDevice "+s.device+" off"
		c.Before = map[string]any{"qdevice": s.device}
		c.Apply = func(ctx context.Context, t module.Target) error { return run.off(ctx, t, s.host) }
	case stepDeviceOn:
		c.Action, c.Summary = module.Create, "set the QDevice "+s.device+" up"
		c.After = map[string]any{"qdevice": s.device, "algorithm": "ffsplit", "votes": 1}
		c.Undoes = []string{s.host + "/" + string(stepDeviceOff)} // of a run that was cut off while it was off
		c.Apply = func(ctx context.Context, t module.Target) error { return run.on(ctx, t, s.host, s.device) }
	case stepForget:
		c.Action, c.Summary = module.Delete, "forget the note of a QDevice that was taken off"
		c.Undoes = []string{s.host + "/" + string(stepDeviceOff)}
		c.Apply = func(ctx context.Context, t module.Target) error { return forgetDevice(ctx, t, s.host) }
	}
	return c
}

// startUnit starts a service and has it started at each boot.
func startUnit(ctx context.Context, t module.Target, host, unit string) error {
	if _, err := act(ctx, t, host, transport.Command{Argv: []string{"systemctl", "enable", "--now", unit}, Mutates: true, Timeout: time.Minute}); err != nil {
		return fmt.Errorf("%s: start %s (look: systemctl status %s): %w", host, unit, unit, err)
	}
	return nil
}

func stopUnit(ctx context.Context, t module.Target, host, unit string) error {
	if _, err := act(ctx, t, host, transport.Command{Argv: []string{"systemctl", "disable", "--now", unit}, Mutates: true, Timeout: time.Minute}); err != nil {
		return fmt.Errorf("%s: stop %s (look: systemctl status %s): %w", host, unit, unit, err)
	}
	return nil
}
