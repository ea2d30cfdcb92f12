package ha

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ipmi"
	"github.com/pxrun/pxrun/internal/transport"
)

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

// ipmiScript gets the password on standard input and hands it over in the environment, which only root can read.
const ipmiScript = `IFS= read -r IPMI_PASSWORD
export IPMI_PASSWORD
command -v ipmitool >/dev/null 2>&1 || { echo "ipmitool is not installed" >&2; exit 127; }
exec ipmitool -I "$1" -H "$2" -U "$3" -E -N 3 -R 2 chassis power "$4" </dev/null`

const ipmiTimeout = 45 * time.Second

func (d device) command(what string) transport.Command {
	return transport.Command{
		Script: ipmiScript, Argv: []string{d.args.Interface, d.args.Address, d.args.User, what}, Stdin: []byte(d.args.Password.Reveal() + "\n"),
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
		return "", fmt.Errorf("ipmitool on %s could not ask the controller of %s (%s, power %s): exit %d: %s", d.via, d.node, d.args.Address, what, r.Exit, strings.TrimSpace(string(r.Stderr)))
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
	r := &module.Refusal{
		Host: d.node, Gate: "fence device of " + d.node, Saw: err.Error(), Want: "a controller that tells the power status",
		Look: fmt.Sprintf("on %s: ipmitool -v -I %s -H %s -U %s -a chassis power status", d.via, d.args.Interface, d.args.Address, d.args.User), Override: "check the controller's address, user and network",
	}
	switch saw := err.Error(); {
	case strings.Contains(saw, "not installed"):
		r.Override = fmt.Sprintf("install it on %s: a package task with names = [\"ipmitool\"]", d.via)
	case strings.Contains(saw, "Unable to establish"):
		r.Override = "none; ipmitool says the same of a controller that does not answer and of a wrong user or password: with -v, \"RAKP 2 HMAC is invalid\" is the password, \"unauthorized name\" the user, neither is the address or the network"
	}
	return r
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

// identity says whether a controller is the node's own. It is not proved, and not another's either, where the node cannot tell.
type identity struct {
	proved bool
	others []netip.Addr // what the node tells instead
	saw    string       // why it is not proved
}

// identify asks the node itself for the address of its controller: whoever mixed up two addresses would cut the wrong machine.
// power is what the controller says. A node without power cannot be asked, but one that answers nevertheless tells something.
func (d device) identify(ctx context.Context, t module.Target, power string) identity {
	if power == "off" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, answerTime/2)
		defer cancel()
	}
	address, err := netip.ParseAddr(d.args.Address)
	address = address.Unmap()
	if err != nil || !address.Is4() {
		return identity{saw: "ipmitool lan print tells IPv4 addresses only"}
	}
	conn, err := t.Conn(ctx, d.node)
	if err != nil {
		return identity{saw: "the node does not answer"}
	}
	r, err := conn.Run(ctx, ipmi.LAN(address))
	switch {
	case err != nil && power == "off":
		return identity{saw: "the node has no power and cannot be asked"}
	case err != nil:
		return identity{saw: "the node could not be asked: " + err.Error()}
	case r.Exit != 0:
		return identity{saw: strings.TrimSpace(string(r.Stderr))}
	}
	return identityOf(address, ipmi.ParseLAN(r.Stdout))
}

func identityOf(address netip.Addr, own []netip.Addr) identity {
	switch {
	case slices.Contains(own, address):
		return identity{proved: true}
	case len(own) == 0:
		return identity{saw: "the node's own controller has no address that ipmitool lan print shows"}
	}
	return identity{others: own, saw: "the node's own controller has another address"}
}

// foreign refuses a controller that is not the node's. No argument opens this gate.
func (d device) foreign(whose identity) *module.Refusal {
	if len(whose.others) == 0 {
		return nil
	}
	var own []string
	for _, a := range whose.others {
		own = append(own, a.String())
	}
	return &module.Refusal{
		Host: d.node, Gate: "fence device of " + d.node, Saw: fmt.Sprintf("%s itself says that its controller is at %s, not at %s", d.node, strings.Join(own, ", "), d.args.Address),
		Want: "the node's own controller: another one would cut another machine", Look: fmt.Sprintf("on %s: ipmitool lan print", d.node), Override: "none; mend the address in the site's files",
	}
}
