package cluster

import (
	"context"
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
)

//go:embed node_remove.md
var nodeRemoveDoc string

type nodeRemoveArgs struct {
	Node          string        `hcl:"node" doc:"The name of the node that leaves. The inventory need not have it." example:"\"pve4\""`
	Confirm       string        `hcl:"confirm" doc:"The same name again: the node is off for good and will never be started on this network with its old configuration." example:"\"pve4\""`
	Clean         bool          `hcl:"clean,optional" default:"false" doc:"Whether what the node left behind is removed too: its name in HA groups, rules and storages, replication jobs to it, its keys and its folder, unless that holds guests."`
	Cluster       string        `hcl:"cluster,optional" doc:"The name of the cluster, where cluster_create gave it another one than the inventory." example:"\"lab\""`
	QuorumTimeout time.Duration `hcl:"quorum_timeout,optional" default:"2m" min:"10s" doc:"How long the others may take to agree that the node is gone."`
}

// Validate checks the name, which is asked for twice.
func (a *nodeRemoveArgs) Validate() error {
	switch {
	case pve.CheckNodeName(a.Node) != nil:
		return schema.At("node", pve.CheckNodeName(a.Node))
	case a.Confirm != a.Node:
		return schema.At("confirm", fmt.Errorf("write confirm = %q to say that %s is off for good", a.Node, a.Node))
	case a.Cluster != "" && pve.CheckClusterName(a.Cluster) != nil:
		return schema.At("cluster", pve.CheckClusterName(a.Cluster))
	}
	return nil
}

type nodeRemoveOut struct {
	Members   []string `hcl:"members" doc:"The nodes that are in the cluster."`
	Leftovers []string `hcl:"leftovers" doc:"What still names the removed node, one line each."`
}

func nodeRemove() module.Module {
	return module.Define(module.Spec{
		Name: "node_remove", Summary: "Take a node that is off for good out of the cluster, with what it leaves behind", Doc: nodeRemoveDoc, Scope: module.PerCluster, Risk: module.RiskDestructive,
	}, module.Funcs[nodeRemoveArgs, nodeRemoveOut]{
		Probes: func(t module.Target, a nodeRemoveArgs) []module.Probe {
			return slices.DeleteFunc(probes(t), func(p module.Probe) bool { return p.Host == a.Node })
		},
		Plan: planRemove,
		Read: readRemove,
	})
}

// remaining reads the nodes that stay. The one that leaves is not even dialled.
func remaining(ctx context.Context, t module.Target, node string) []pve.NodeState {
	hosts := slices.DeleteFunc(slices.Clone(t.Cluster().Nodes), func(name string) bool { return name == node })
	return pve.ReadCluster(ctx, hosts, pve.Options{}, t.Conn)
}

func readRemove(ctx context.Context, t module.Target, args nodeRemoveArgs) (nodeRemoveOut, error) {
	var out nodeRemoveOut
	if t.Cluster() == nil {
		return out, errNoCluster
	}
	v := viewRemoval(args, clusterName(t, args.Cluster), remaining(ctx, t, args.Node))
	out.Members = v.conf.Names()
	if actor, ok := v.actor(); ok {
		left, err := readLeftovers(ctx, t, actor.Host, args.Node, v.addrs)
		if err != nil {
			return out, err
		}
		for _, l := range left {
			out.Leftovers = append(out.Leftovers, l.Saw)
		}
	}
	return out, nil
}

func readLeftovers(ctx context.Context, t module.Target, from, node string, addrs []string) ([]pve.Leftover, error) {
	out, err := act(ctx, t, from, transport.Command{Script: pve.LeftoversScript, Argv: []string{node}, Timeout: 45 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("%s: look for what %s left behind: %w", from, node, err)
	}
	return pve.ParseLeftovers(node, addrs, []byte(out))
}

func planRemove(ctx context.Context, t module.Target, args nodeRemoveArgs) ([]module.Change, error) {
	if t.Cluster() == nil {
		return nil, errNoCluster
	}
	states := remaining(ctx, t, args.Node)
	v := viewRemoval(args, clusterName(t, args.Cluster), states)
	v.byInventory(t)
	if err := v.unreachable(states); err != nil {
		return nil, err
	}
	if v.conf == nil {
		if _, why := growth(t, nil); why != "" {
			return nil, nil // a cluster that is being made has no node to lose
		}
		return nil, module.Refusals{{Gate: "remove " + args.Node, Saw: fmt.Sprintf("no other node is a member of a cluster %q", v.cluster), Want: "a cluster", Look: "pvecm status"}}
	}
	actor, ok := v.actor()
	if v.listed {
		if ok {
			answered, err := pingNode(ctx, t, actor.Host, v.addrs)
			if err != nil {
				return nil, err
			}
			v.answered = answered
		}
		if refusals := v.gate(); len(refusals) > 0 {
			return nil, refusals
		}
	}
	if !ok {
		return nil, v.gate()
	}
	left, err := readLeftovers(ctx, t, actor.Host, args.Node, v.addrs)
	if err != nil {
		return nil, err
	}
	v.left = left
	changes := v.changes(actor.Host)
	staying := slices.DeleteFunc(slices.Clone(t.Cluster().Nodes), func(name string) bool { return name == args.Node })
	if r := leftOut(t, "remove "+args.Node, staying); r != nil && len(changes) > 0 {
		return nil, module.Refusals{r}
	}
	for _, w := range v.warn(t.Cluster().Nodes) {
		t.Warn("", w)
	}
	return changes, nil
}

// pingNode finds the addresses of a node that answer.
func pingNode(ctx context.Context, t module.Target, from string, addrs []string) ([]string, error) {
	if len(addrs) == 0 {
		return nil, nil
	}
	out, err := act(ctx, t, from, transport.Command{Script: pingScript, Argv: addrs, Timeout: 30 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("%s: see whether the node is off: %w", from, err)
	}
	var answered []string
	asked := false
	for line := range strings.Lines(out) {
		addr, rc, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch rc {
		case "0":
			answered, asked = append(answered, addr), true
		case "1":
			asked = true
		}
	}
	if !asked {
		return nil, fmt.Errorf("%s: see whether the node is off: none of %s could be asked: %s (look: ping %s)", from, strings.Join(addrs, ", "), strings.Join(strings.Fields(out), " "), addrs[0])
	}
	return answered, nil
}

// pingScript prints each address with ping's exit status: 0 for an answer, 1 for none, others when it could not ask.
const pingScript = `# see whether any address answers
for a in "$@"; do
	{ ping -n -q -c 2 -W 1 "$a" >/dev/null 2>&1; echo "$a $?"; } &
done
wait
`

// byInventory adds the address by which the inventory reaches the node: one that lost its cluster may still answer there.
// Addresses that stand for another machine, such as one that forwards a port, say nothing about it.
func (v *removal) byInventory(t module.Target) {
	h, known := t.Site().Host(v.args.Node)
	if !known || h.SSH.Port != 0 && h.SSH.Port != 22 {
		return
	}
	if a, err := netip.ParseAddr(h.Address); err == nil && !a.IsLoopback() && !slices.Contains(v.addrs, a.String()) {
		v.addrs = append(v.addrs, a.String())
	}
}

// changes are the engine's: the node, the QDevice, and what is to be cleaned away.
func (v *removal) changes(actor string) []module.Change {
	var changes []module.Change
	device := &deviceRun{cluster: v.cluster, timeout: v.args.QuorumTimeout, gone: v.args.Node}
	node := v.args.Node
	if v.listed {
		changes = append(changes, module.Change{
			ID: actor + "/remove-" + node, Host: actor, Action: module.Delete, Risk: module.RiskDestructive, Summary: fmt.Sprintf("remove %s from cluster %q", node, v.cluster),
			Before: map[string]any{"members": v.conf.Names(), "expected_votes": v.ballot(v.conf.Names()).Expected()},
			After:  map[string]any{"members": v.others(), "expected_votes": v.ballot(v.others()).Expected()},
			Apply:  func(ctx context.Context, t module.Target) error { return v.remove(ctx, t, device) },
		})
	}
	for _, s := range v.deviceSteps(actor) {
		c := s.change(device, qdeviceArgs{})
		if s.kind == stepDeviceOff {
			c.Summary = fmt.Sprintf("take the QDevice %s off, since all nodes are online then", s.device)
			if len(v.others())%2 == 0 {
				c.Undo = undoDeviceOff(s.host, s.device)
			}
		}
		changes = append(changes, c)
	}
	if v.args.Clean {
		for _, l := range v.left {
			if l.Keep == "" {
				changes = append(changes, v.cleaning(actor, l))
			}
		}
	}
	return changes
}

// warn says what is left to people.
func (v *removal) warn(inventory []string) []string {
	var warnings []string
	node := v.args.Node
	if slices.Contains(inventory, node) {
		warnings = append(warnings, node+" is still in the inventory: take it out, or node_join takes it in again")
	}
	for _, name := range v.others() {
		if !v.online(name) {
			warnings = append(warnings, name+" is offline too: it learns of the change when it comes back")
		}
	}
	if v.conf.Device != nil && len(v.others())%2 != 0 {
		warnings = append(warnings, fmt.Sprintf("with %d nodes the QDevice %s stays off: Proxmox VE supports one for even numbers only", len(v.others()), v.conf.Device.Host))
	}
	for _, l := range v.left {
		switch {
		case l.Keep != "":
			warnings = append(warnings, "left behind: "+l.Saw+"; "+l.Keep)
		case !v.args.Clean:
			warnings = append(warnings, "left behind: "+l.Saw+"; clean = true removes it")
		}
	}
	return warnings
}
