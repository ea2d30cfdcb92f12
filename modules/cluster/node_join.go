package cluster

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed node_join.md
var nodeJoinDoc string

type nodeJoinArgs struct {
	Nodes         inventory.NodeRefs `hcl:"nodes,optional" doc:"The nodes that shall be members, in the order in which they join (default: the hosts of the task)." example:"cluster.lab.nodes"`
	Cluster       string             `hcl:"cluster,optional" doc:"The name of the cluster, where cluster_create gave it another one than the inventory." example:"\"lab\""`
	Via           inventory.NodeRefs `hcl:"via,optional" doc:"The member that lets the others in (default: the first that is online)." example:"cluster.lab.pve1"`
	Method        string             `hcl:"method,optional" default:"ssh" oneof:"ssh api" doc:"How pvecm talks to the member: over SSH with keys that are prepared for it, or over the API with root's password."`
	Password      secret.String      `hcl:"password,optional" doc:"The password of root@pam on the member, for the API method." example:"secret.root_password"`
	Resume        *bool              `hcl:"resume,optional" doc:"Whether joins that were cut off are finished where that is known to be safe (default: true)."`
	QDevice       string             `hcl:"qdevice,optional" default:"restore" oneof:"restore leave_off" doc:"What becomes of a QDevice, which must be taken off while nodes join: set up again when the number of nodes is even, or left off."`
	QuorumTimeout time.Duration      `hcl:"quorum_timeout,optional" default:"2m" min:"10s" doc:"How long a node may take to join and to be seen by all."`
}

// Validate checks what belongs together.
func (a *nodeJoinArgs) Validate() error {
	switch {
	case a.Method == "api" && a.Password.Empty():
		return schema.At("password", errors.New("the API method needs the password of root@pam on the member"))
	case a.Method != "api" && !a.Password.Empty():
		return schema.At("password", errors.New(`a password is only used with method = "api"`))
	case len(a.Via) > 1:
		return schema.At("via", fmt.Errorf("only one member can let nodes in, %d are given", len(a.Via)))
	case a.Cluster != "" && pve.CheckClusterName(a.Cluster) != nil:
		return schema.At("cluster", pve.CheckClusterName(a.Cluster))
	}
	return nil
}

func (a *nodeJoinArgs) resumes() bool { return a.Resume == nil || *a.Resume }

func nodeJoin() module.Module {
	return module.Define(module.Spec{
		Name: "node_join", Summary: "Make nodes members of the cluster, one after the other", Doc: nodeJoinDoc, Scope: module.PerCluster,
	}, module.Funcs[nodeJoinArgs, clusterOut]{
		Probes: func(t module.Target, _ nodeJoinArgs) []module.Probe { return probes(t) },
		Plan:   planJoin,
		Read: func(ctx context.Context, t module.Target, args nodeJoinArgs) (clusterOut, error) {
			if t.Cluster() == nil {
				return clusterOut{}, errNoCluster
			}
			return readCluster(ctx, t, clusterName(t, args.Cluster))
		},
	})
}

func planJoin(ctx context.Context, t module.Target, args nodeJoinArgs) ([]module.Change, error) {
	if t.Cluster() == nil {
		return nil, errNoCluster
	}
	j := joining{args: args, cluster: clusterName(t, args.Cluster), wanted: pve.WantedCluster(t.Cluster(), t.Site())}
	for _, name := range args.Nodes {
		if !slices.Contains(t.Cluster().Nodes, name) {
			return nil, fmt.Errorf("%s is not a node of cluster %q in the inventory", name, t.Cluster().Name)
		}
	}
	j.joiners = joinersOf(t, args)
	// A node that neither joins nor is a member may be down; which nodes are members is known only after reading.
	j.states = pve.ReadCluster(ctx, t.Cluster().Nodes, pve.Options{}, t.Conn)
	if err := j.unreachable(); err != nil {
		return nil, err
	}
	for _, p := range t.Planned() {
		if p.Module == "cluster_create" {
			j.created = p.Host
		}
	}
	steps, refusals := j.decide()
	for _, w := range j.warnings {
		t.Warn("", w)
	}
	if len(refusals) > 0 {
		return nil, refusals
	}
	changes := make([]module.Change, len(steps))
	for i, s := range steps {
		changes[i] = j.change(s)
	}
	return changes, nil
}

// joinersOf lists the nodes that shall be members, in order: those of the argument that are in this run.
func joinersOf(t module.Target, args nodeJoinArgs) []string {
	var present []string
	for _, h := range t.Hosts() {
		present = append(present, h.Name)
	}
	if len(args.Nodes) == 0 {
		return slices.DeleteFunc(present, func(name string) bool { return !slices.Contains(t.Cluster().Nodes, name) })
	}
	var names []string
	for _, name := range args.Nodes {
		if slices.Contains(present, name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// stepKind is what a step of the plan does.
type stepKind string

const (
	stepJoin      stepKind = "join"
	stepDeviceOff stepKind = "qdevice-off"
	stepDeviceOn  stepKind = "qdevice-on"
	stepForget    stepKind = "qdevice-forget"
)

// joinStep is one step of a plan.
type joinStep struct {
	kind      stepKind
	host      string
	phase     pve.JoinPhase // of a join: where it begins
	saw       string
	keys      []string // keys that are let in on all nodes
	device    string   // the QDevice's host
	predicted string
}

// change makes a step one of the engine's changes.
func (j *joining) change(s joinStep) module.Change {
	c := module.Change{ID: s.host + "/" + string(s.kind), Host: s.host, Action: module.Create, Predicted: s.predicted}
	run := j.plain()
	device := &deviceRun{cluster: j.cluster, timeout: j.args.QuorumTimeout}
	switch s.kind {
	case stepJoin:
		c.Summary = fmt.Sprintf("join %s to cluster %q", s.host, j.cluster)
		if s.phase != pve.PhaseFresh {
			c.Summary = fmt.Sprintf("finish the join of %s to cluster %q", s.host, j.cluster)
			c.Before = map[string]any{"state": string(s.phase), "seen": s.saw}
		}
		c.After = j.describe(s)
		c.Apply = func(ctx context.Context, t module.Target) error { return run.join(ctx, t, s.host) }
	case stepDeviceOff:
		c.Summary, c.Action = fmt.Sprintf("take the QDevice %s off while nodes join", s.device), module.Delete
		c.Before = map[string]any{"qdevice": s.device}
		c.Undo = undoDeviceOff(s.host, s.device)
		c.Apply = func(ctx context.Context, t module.Target) error {
			if err := device.note(ctx, t, s.host, s.device); err != nil {
				return err
			}
			return device.off(ctx, t, s.host)
		}
	case stepDeviceOn:
		c.Summary = fmt.Sprintf("set the QDevice %s up again", s.device)
		c.After = map[string]any{"qdevice": s.device}
		c.Undoes = []string{s.host + "/" + string(stepDeviceOff)}
		c.Apply = func(ctx context.Context, t module.Target) error { return device.on(ctx, t, s.host, s.device) }
	case stepForget:
		c.Summary, c.Action = "forget the note of a QDevice that was taken off", module.Delete
		c.Undoes = []string{s.host + "/" + string(stepDeviceOff)}
		c.Apply = func(ctx context.Context, t module.Target) error { return forgetDevice(ctx, t, s.host) }
	}
	return c
}

func (j *joining) describe(s joinStep) map[string]any {
	shown := map[string]any{"cluster": j.cluster}
	if w, ok := j.wanted.Node(s.host); ok {
		links := make([]string, len(w.Links))
		for i, a := range w.Links {
			links[i] = a.String()
		}
		shown["links"], shown["votes"] = links, w.Votes
	}
	if s.phase == pve.PhaseFresh {
		shown["replaces"] = "the node's own /etc/pve: its storages, users, firewall and jobs"
	}
	if len(s.keys) > 0 {
		shown["login_keys_let_in"] = keyNames(s.keys)
	}
	return shown
}
