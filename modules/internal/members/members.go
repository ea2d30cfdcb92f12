// Package members finds out on which node a module that acts for a whole cluster reads and runs its commands, and which nodes
// the cluster has or is about to have.
package members

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
)

// ErrNoCluster says that the runbook names no cluster.
var ErrNoCluster = errors.New(`the runbook names no cluster: write "cluster = cluster.<name>" in it`)

// View is a cluster as it is, and as earlier tasks of the plan are going to make it.
type View struct {
	Cluster string
	// Nodes are the names of its nodes, those that an earlier task is going to add included. States are what the nodes of the
	// inventory said.
	Nodes  []string
	States []pve.NodeState
	// Actors are the hosts on which commands may be run, the best first: quorate members, or the one standalone node that
	// there is or that a cluster is going to be made on.
	Actors []string
	// Coming is why parts of this are a forecast; "" if nothing is.
	Coming string
}

// Probes lists the reads that Look makes.
func Probes(t module.Target) []module.Probe {
	if t.Cluster() == nil {
		return nil
	}
	var list []module.Probe
	for _, name := range t.Cluster().Nodes {
		list = append(list, module.Probe{Host: name, Command: pve.ProbeNode(pve.Options{})})
	}
	return list
}

// Look reads the nodes. Without a node that may be acted on it is a refusal that names the gate.
func Look(ctx context.Context, t module.Target, gate string) (*View, error) {
	if t.Cluster() == nil {
		return nil, ErrNoCluster
	}
	v := &View{Cluster: t.Cluster().Name, States: pve.ReadCluster(ctx, t.Cluster().Nodes, pve.Options{}, t.Conn)}
	var failed []error
	for _, s := range v.States {
		if s.Err != nil {
			failed = append(failed, s.Err)
		}
	}
	members := pve.MembersOf(v.States, v.Cluster)
	planned := plannedNodes(t.Planned())
	switch {
	case len(failed) == len(v.States):
		return nil, errors.Join(failed...)
	case len(members) > 0:
		v.Nodes = pve.NewestConf(members).Names()
		v.Actors = writable(members)
	case len(planned) > 0:
		v.Actors = planned[:1]
	case len(t.Cluster().Nodes) == 1 && v.States[0].Conf == nil:
		v.Nodes, v.Actors = t.Cluster().Nodes, writable(v.States) // a node for itself is all there is
	default:
		return nil, module.Refusals{{
			Gate: gate, Saw: fmt.Sprintf("no node is a member of a cluster %q", v.Cluster), Want: "a cluster", Look: "pvecm status",
			Override: "put cluster_create and node_join before this task",
		}}
	}
	for _, name := range planned {
		if !slices.Contains(v.Nodes, name) {
			v.Nodes = append(v.Nodes, name)
			v.Coming = name + " becomes a member in an earlier task"
		}
	}
	if len(v.Actors) == 0 && len(planned) > 0 { // the making of the cluster was cut off, and an earlier task finishes it
		v.Actors = planned[:1]
		if v.Coming == "" {
			v.Coming = "the cluster is finished by an earlier task"
		}
	}
	allowed := slices.DeleteFunc(slices.Clone(v.Actors), func(name string) bool { return !t.Selected(name) })
	if len(allowed) == 0 && len(v.Actors) > 0 {
		return nil, LeftOut(gate, v.Actors)
	}
	v.Actors = allowed
	if len(v.Actors) == 0 {
		return nil, module.Refusals{{
			Gate: gate, Saw: errors.Join(append(failed, errors.New("no member that answers is quorate"))...).Error(), Want: "a quorate member",
			Look: "pvecm status", Override: "bring absent nodes back",
		}}
	}
	return v, nil
}

// LeftOut refuses what any of some nodes could do while --limit leaves all of them out.
func LeftOut(gate string, nodes []string) module.Refusals {
	return module.Refusals{{
		Gate: gate, Saw: strings.Join(nodes, ", ") + " left out by --limit, and no node in the run is a quorate member", Want: "a quorate member that may be acted on",
		Look: "pvecm status", Override: "add one of them to --limit",
	}}
}

func writable(states []pve.NodeState) []string {
	var out []string
	for _, s := range states {
		if s.Err == nil && s.Mounted && s.Writable {
			out = append(out, s.Host)
		}
	}
	return out
}

// plannedNodes are the nodes that earlier tasks of the plan are going to make members, the one that makes the cluster first.
func plannedNodes(earlier []module.Planned) []string {
	var names []string
	for _, p := range earlier {
		if (p.Module == "cluster_create" || p.Module == "node_join") && p.Host != "" && !slices.Contains(names, p.Host) {
			names = append(names, p.Host)
		}
	}
	return names
}

// Online reports whether a node is one of the cluster and can be reached.
func (v *View) Online(node string) bool {
	for _, s := range v.States {
		if s.Host == node {
			return s.Err == nil
		}
	}
	return false
}

// Actor is the best host for commands; of those that are wanted, if one is.
func (v *View) Actor(wanted []string) string {
	for _, name := range v.Actors {
		if slices.Contains(wanted, name) {
			return name
		}
	}
	return v.Actors[0]
}

// Version is the release of Proxmox VE on the first node that says it.
func (v *View) Version() string {
	for _, s := range v.States {
		if s.Err == nil && s.Version() != "" {
			return s.Version()
		}
	}
	return ""
}
