package ha

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
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
	Guests    string         `hcl:"guests,optional" default:"refuse" oneof:"refuse lose" doc:"What to do when guests run on a node whose power is to be cut: refuse, or lose them."`
	PowerWait time.Duration  `hcl:"power_wait,optional" default:"60s" min:"5s" doc:"How long the controller may take to do it."`
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
	Power string `hcl:"power" doc:"on or off, as the controller says."`
}

func fenceDevice() module.Module {
	return module.Define(module.Spec{
		Name: "fence_device", Summary: "Check a node's management controller, or switch its power", Doc: fenceDeviceDoc, Scope: module.PerHost, Risk: module.RiskDestructive,
	}, module.Funcs[fenceDeviceArgs, fenceDeviceOut]{
		Plan: planFence,
		Read: func(ctx context.Context, t module.Target, args fenceDeviceArgs) (fenceDeviceOut, error) {
			d, err := deviceOf(ctx, t, t.Host().Name, args)
			if err != nil {
				return fenceDeviceOut{}, err
			}
			power, err := d.status(ctx, t)
			return fenceDeviceOut{Power: power}, err
		},
	})
}

// device is a node's management controller with the host that talks to it.
type device struct {
	node, via string
	args      fenceDeviceArgs
}

// deviceOf chooses who runs ipmitool: the host that the task names, or the first other node of the cluster that answers.
func deviceOf(ctx context.Context, t module.Target, node string, args fenceDeviceArgs) (device, error) {
	d := device{node: node, args: args}
	if len(args.Via) == 1 {
		d.via = args.Via[0]
		return d, nil
	}
	if t.Cluster() == nil {
		return d, errors.New(`no host is named to run ipmitool: write via = …, or "cluster = cluster.<name>" in the runbook`)
	}
	var failed []error
	for _, name := range t.Cluster().Nodes {
		if name == node {
			continue
		}
		_, err := t.Conn(ctx, name)
		if err == nil {
			d.via = name
			return d, nil
		}
		failed = append(failed, err)
	}
	return d, fmt.Errorf("no other node of the cluster answers, to run ipmitool for %s: %w", node, errors.Join(failed...))
}

// ipmi gets the password on standard input and hands it over in the environment, which only root can read.
const ipmi = `IFS= read -r IPMI_PASSWORD
export IPMI_PASSWORD
command -v ipmitool >/dev/null 2>&1 || { echo "ipmitool is not installed" >&2; exit 127; }
exec ipmitool -I "$1" -H "$2" -U "$3" -E -N 3 -R 2 chassis power "$4" </dev/null`

const ipmiTimeout = 45 * time.Second

func (d device) command(what string) transport.Command {
	return transport.Command{
		Script: ipmi, Argv: []string{d.args.Interface, d.args.Address, d.args.User, what}, Stdin: []byte(d.args.Password.Reveal() + "\n"),
		Mutates: what != "status", Timeout: ipmiTimeout,
	}
}

func (d device) run(ctx context.Context, t module.Target, what string) (string, error) {
	conn, err := t.Conn(ctx, d.via)
	if err != nil {
		return "", err
	}
	r, err := conn.Run(ctx, d.command(what))
	if err != nil {
		return "", err
	}
	if r.Exit != 0 {
		return "", fmt.Errorf("%s: ipmitool chassis power %s for %s (%s): exit %d: %s", d.via, what, d.node, d.args.Address, r.Exit, strings.TrimSpace(string(r.Stderr)))
	}
	return strings.TrimSpace(string(r.Stdout)), nil
}

// status is "on" or "off".
func (d device) status(ctx context.Context, t module.Target) (string, error) {
	text, err := d.run(ctx, t, "status")
	if err != nil {
		return "", err
	}
	switch strings.TrimPrefix(text, "Chassis Power is ") {
	case "on":
		return "on", nil
	case "off":
		return "off", nil
	}
	return "", fmt.Errorf("%s: the controller of %s answers %q", d.via, d.node, text)
}

// refusal is what an unreadable controller means: fencing by it would not work either.
func (d device) refusal(err error) *module.Refusal {
	override := "check the controller's address, user and network"
	if strings.Contains(err.Error(), "not installed") {
		override = "install ipmitool there: a package task with names = [\"ipmitool\"]"
	}
	return &module.Refusal{
		Host: d.node, Gate: "fence device of " + d.node, Saw: err.Error(), Want: "a controller that tells the power status",
		Look: fmt.Sprintf("ipmitool -I %s -H %s -U %s -a chassis power status", d.args.Interface, d.args.Address, d.args.User), Override: override,
	}
}

func planFence(ctx context.Context, t module.Target, args fenceDeviceArgs) ([]module.Change, error) {
	node := t.Host().Name
	d, err := deviceOf(ctx, t, node, args)
	if err != nil {
		return nil, err
	}
	power, err := d.status(ctx, t)
	if err != nil {
		return nil, module.Refusals{d.refusal(err)}
	}
	switch {
	case args.Power == "check" || args.Power == power:
		return nil, nil
	case args.Power == "on":
		return []module.Change{d.change("on", "switch the power of "+node+" on", module.RiskNone)}, nil
	case args.Confirm != node:
		return nil, module.Refusals{{
			Host: node, Gate: "cut the power of " + node, Saw: fmt.Sprintf("confirm = %q", args.Confirm), Want: fmt.Sprintf("confirm = %q", node), Override: "write the node's name, if you mean it",
		}}
	case args.Power == "cycle" && power == "off":
		return []module.Change{d.change("on", "switch the power of "+node+" on", module.RiskNone)}, nil
	}
	if refusal := guestsRefuse(ctx, t, node, args); refusal != nil {
		return nil, module.Refusals{refusal}
	}
	if refusal := votesRefuse(ctx, t, node); refusal != nil {
		return nil, module.Refusals{refusal}
	}
	c := d.change(args.Power, map[string]string{"off": "cut the power of " + node, "cycle": "cut the power of " + node + " and give it back"}[args.Power], module.RiskDestructive)
	c.Imperative = args.Power == "cycle"
	return []module.Change{c}, nil
}

// votesRefuse keeps the power on where the cluster would lose its quorum with the node. A node that counts no more, or a
// cluster that has lost its quorum already, loses nothing.
func votesRefuse(ctx context.Context, t module.Target, node string) *module.Refusal {
	if t.Cluster() == nil {
		return nil
	}
	states := pve.ReadCluster(ctx, t.Cluster().Nodes, pve.Options{Brief: true}, t.Conn)
	b := votesOf(states, t.Cluster().Name)
	if rest := b.Without(node); b.Quorate() && !rest.Quorate() {
		return &module.Refusal{
			Host: node, Gate: "cut the power of " + node, Saw: fmt.Sprintf("without it %d of %d votes are left and %d are needed", rest.Total(), rest.Expected(), rest.Quorum()),
			Want: "quorum without the node", Look: "pvecm status", Override: "bring the other nodes back first",
		}
	}
	return nil
}

// guestsRefuse keeps the power on while guests run on the node, or while that cannot be known.
func guestsRefuse(ctx context.Context, t module.Target, node string, args fenceDeviceArgs) *module.Refusal {
	if args.Guests == "lose" {
		return nil
	}
	refusal := &module.Refusal{
		Host: node, Gate: "cut the power of " + node, Want: "a node on which no guest runs", Look: "qm list; pct list", Override: `move them away, or guests = "lose"`,
	}
	w, err := look(ctx, t)
	if err != nil {
		refusal.Saw = "whether guests run there could not be read: " + err.Error()
		return refusal
	}
	var running []string
	for _, g := range w.Guests {
		if g.Node == node && g.Running != "stopped" && !g.Template {
			running = append(running, g.SID)
		}
	}
	if len(running) == 0 {
		return nil
	}
	slices.Sort(running)
	refusal.Saw = names(running) + " on it, running or not known to be stopped"
	return refusal
}

func (d device) change(what, summary string, risk module.Risk) module.Change {
	want := map[string]string{"on": "on", "off": "off", "cycle": "on"}[what]
	return module.Change{
		ID: d.node + "/power", Host: d.node, Action: module.Run, Summary: summary, Risk: risk,
		Apply: func(ctx context.Context, t module.Target) error { return d.switchTo(ctx, t, what, want) },
	}
}

// switchTo switches the power and waits until the controller says so.
func (d device) switchTo(ctx context.Context, t module.Target, what, want string) error {
	if _, err := d.run(ctx, t, what); err != nil {
		return err
	}
	return t.WaitFor(ctx, module.Condition{
		Name: fmt.Sprintf("the power of %s is %s", d.node, want), Timeout: d.args.PowerWait, Every: 2 * time.Second,
		Check: func(ctx context.Context) error {
			power, err := d.status(ctx, t)
			if err == nil && power != want {
				err = fmt.Errorf("it is %s", power)
			}
			return err
		},
	})
}
