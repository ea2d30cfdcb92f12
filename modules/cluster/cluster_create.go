package cluster

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed cluster_create.md
var clusterCreateDoc string

type clusterCreateArgs struct {
	Name             string             `hcl:"name,optional" doc:"The name of the cluster, at most 15 characters (default: the name in the inventory)." example:"\"lab\""`
	Node             inventory.NodeRefs `hcl:"node,optional" doc:"The first node, which makes the cluster and may hold guests (default: the first in the inventory)." example:"cluster.lab.pve1"`
	TokenCoefficient *int               `hcl:"token_coefficient,optional" min:"0" doc:"Milliseconds that the token timeout grows with each node beyond two (default: that of Proxmox VE, 125 since 9.1)."`
	QuorumTimeout    time.Duration      `hcl:"quorum_timeout,optional" default:"90s" min:"5s" doc:"How long to wait until the new cluster can be written to."`
}

// Validate checks the name, which cannot be changed later.
func (a *clusterCreateArgs) Validate() error {
	if a.Name != "" {
		if err := pve.CheckClusterName(a.Name); err != nil {
			return schema.At("name", err)
		}
	}
	if len(a.Node) > 1 {
		return schema.At("node", fmt.Errorf("only one node can make the cluster, %d are given", len(a.Node)))
	}
	return nil
}

type clusterOut struct {
	Cluster string   `hcl:"cluster" doc:"The name of the cluster."`
	Members []string `hcl:"members" doc:"The names of its nodes."`
	Votes   int      `hcl:"votes" doc:"The votes that are there."`
	Quorum  int      `hcl:"quorum" doc:"The votes that are needed."`
}

func clusterCreate() module.Module {
	return module.Define(module.Spec{
		Name: "cluster_create", Summary: "Make a cluster on its first node", Doc: clusterCreateDoc, Scope: module.PerCluster,
	}, module.Funcs[clusterCreateArgs, clusterOut]{
		Probes: func(t module.Target, _ clusterCreateArgs) []module.Probe { return probes(t) },
		Plan:   planCreate,
		Read: func(ctx context.Context, t module.Target, args clusterCreateArgs) (clusterOut, error) {
			if t.Cluster() == nil {
				return clusterOut{}, errNoCluster
			}
			return readCluster(ctx, t, clusterName(t, args.Name))
		},
	})
}

func clusterName(t module.Target, given string) string {
	if given != "" {
		return given
	}
	return t.Cluster().Name
}

// readCluster gives the outputs of cluster_create and node_join.
func readCluster(ctx context.Context, t module.Target, name string) (clusterOut, error) {
	out := clusterOut{Cluster: name}
	states, err := readAll(ctx, t, t.Cluster().Nodes)
	if err != nil {
		return out, err
	}
	for _, m := range pve.MembersOf(states, name) {
		if m.Quorum != nil && m.Quorum.Quorate {
			out.Votes, out.Quorum = m.Quorum.Total, m.Quorum.Quorum
		}
		out.Members = m.Conf.Names()
	}
	return out, nil
}

func planCreate(ctx context.Context, t module.Target, args clusterCreateArgs) ([]module.Change, error) {
	if t.Cluster() == nil {
		return nil, errNoCluster
	}
	name := clusterName(t, args.Name)
	if err := pve.CheckClusterName(name); err != nil {
		return nil, err
	}
	states, err := readAll(ctx, t, t.Cluster().Nodes)
	if err != nil {
		return nil, err
	}
	first := oneHost(args.Node, t.Cluster().Nodes[0])
	state, ok := stateOf(states, first)
	if !ok {
		return nil, fmt.Errorf("%s is not a node of cluster %q in the inventory", first, t.Cluster().Name)
	}
	host, _ := t.Site().Host(first)
	want := pve.WantedFrom(host)
	d := decideCreate(name, state, states, want)
	switch {
	case d.refused != nil:
		return nil, module.Refusals{d.refused}
	case d.exists:
		w := pve.WantedCluster(t.Cluster(), t.Site())
		conf := pve.NewestConf(pve.MembersOf(states, name))
		for _, diff := range pve.CompareMembership(w, conf).Differences {
			t.Warn(diff.Node, diff.String()+"; the cluster is not changed")
		}
		if c := args.TokenCoefficient; c != nil && *c != conf.TokenCoefficient {
			t.Warn(first, fmt.Sprintf("token_coefficient of the cluster is %d, wanted %d; the cluster is not changed", conf.TokenCoefficient, *c))
		}
		return nil, nil
	case d.restart:
		return []module.Change{{
			ID: first + "/create", Host: first, Action: module.Create, Summary: fmt.Sprintf("finish making cluster %q: start corosync on %s", name, first),
			Apply: func(ctx context.Context, t module.Target) error { return finishCreate(ctx, t, name, first, args) },
		}}, nil
	}
	if !slices.ContainsFunc(t.Hosts(), func(h inventory.Host) bool { return h.Name == first }) {
		return nil, module.Refusals{{
			Host: first, Gate: "create cluster " + name, Saw: "the first node is not among the hosts of this run", Want: "the node on which the cluster is made",
			Override: "run without --limit, or name another node in the task",
		}}
	}
	argv := createArgv(name, want, args)
	return []module.Change{{
		ID: first + "/create", Host: first, Action: module.Create, Summary: fmt.Sprintf("create cluster %q on %s", name, first),
		After: describeCreate(name, want, args),
		Apply: func(ctx context.Context, t module.Target) error { return create(ctx, t, name, first, argv, args) },
	}}, nil
}

// createDecision is what the states say about making a cluster.
type createDecision struct {
	exists  bool // it is there: nothing to do
	restart bool // it is written and was not started
	refused *module.Refusal
}

// decideCreate decides by what the nodes say (reference §3.3).
func decideCreate(name string, first pve.NodeState, states []pve.NodeState, want pve.WantedNode) createDecision {
	refuse := func(saw, must, look, override string) createDecision {
		return createDecision{refused: &module.Refusal{Host: first.Host, Gate: fmt.Sprintf("create cluster %q", name), Saw: saw, Want: must, Look: look, Override: override}}
	}
	if why, unread := first.Unread["guests"]; unread {
		return refuse("/etc/pve/.vmlist could not be read: "+why, "a node that answers", "timeout 5 ls /etc/pve", "")
	}
	members := pve.MembersOf(states, name)
	j := pve.ClassifyJoin(name, first, members)
	if j.Phase == pve.PhaseCreated {
		return createDecision{restart: true}
	}
	if len(members) > 0 {
		return createDecision{exists: true}
	}
	switch {
	case j.Phase == pve.PhaseRunning:
		return refuse("pvecm is running on "+first.Host, "a node on which nothing else forms a cluster", j.Look, "wait until it ends")
	case j.Phase != pve.PhaseFresh:
		return refuse(j.Saw, "a node that is in no cluster", j.Look, j.Remedy)
	case first.UID != 0:
		return refuse(fmt.Sprintf("commands run with user id %d", first.UID), "root", "id", `set ssh.user = "root", or become = "sudo"`)
	case !first.IsPVE():
		return refuse("Proxmox VE is not installed", "a Proxmox VE node", "pveversion", "")
	case first.Hostname != first.Host:
		return refuse(fmt.Sprintf("the node calls itself %q", first.Hostname), fmt.Sprintf("%q, its name in the inventory", first.Host), "hostname", "rename one of the two")
	case !first.Mounted || !first.Writable:
		return refuse("/etc/pve is not mounted or cannot be written", "a running pve-cluster service", "systemctl status pve-cluster", "")
	}
	if want.Votes < 1 {
		return refuse(fmt.Sprintf("%s is wanted with %d votes", first.Host, want.Votes), "at least one vote on the first node", "", "set votes in the inventory, or name another first node")
	}
	for i, a := range want.Links {
		// pvecm create does not check this, and a cluster with a wrong address cannot be joined.
		if !first.HasAddress(a) {
			return refuse(fmt.Sprintf("no interface of %s has %s of link %d", first.Host, a, i), "every link's address on the node", "ip addr", "mend links in the inventory")
		}
	}
	return createDecision{}
}

func createArgv(name string, want pve.WantedNode, args clusterCreateArgs) []string {
	argv := []string{"pvecm", "create", name}
	for i, a := range want.Links {
		link := a.String()
		if want.Priorities[i] != 0 {
			link += ",priority=" + strconv.Itoa(want.Priorities[i])
		}
		argv = append(argv, fmt.Sprintf("--link%d", i), link)
	}
	if want.ID != 0 {
		argv = append(argv, "--nodeid", strconv.Itoa(want.ID))
	}
	if want.Votes > 1 {
		argv = append(argv, "--votes", strconv.Itoa(want.Votes))
	}
	if args.TokenCoefficient != nil {
		argv = append(argv, "--token-coefficient", strconv.Itoa(*args.TokenCoefficient))
	}
	return argv
}

func describeCreate(name string, want pve.WantedNode, args clusterCreateArgs) map[string]any {
	links := make([]string, len(want.Links))
	for i, a := range want.Links {
		links[i] = a.String()
		if want.Priorities[i] != 0 {
			links[i] += " priority " + strconv.Itoa(want.Priorities[i])
		}
	}
	shown := map[string]any{"cluster": name, "links": links, "votes": want.Votes}
	if args.TokenCoefficient != nil {
		shown["token_coefficient"] = *args.TokenCoefficient
	}
	return shown
}

// create makes the cluster. pvecm create exits 0 when it failed, and returns seconds before /etc/pve can be written:
// only the state tells.
func create(ctx context.Context, t module.Target, name, first string, argv []string, args clusterCreateArgs) error {
	before := readOne(ctx, t, first)
	if before.Err != nil {
		return before.Err
	}
	job := detached("cluster-create-"+name, argv...)
	job.Timeout = args.QuorumTimeout
	r, err := t.Detach(ctx, first, job)
	if err != nil {
		return fmt.Errorf("%s: pvecm create: %w", first, err)
	}
	if text := strings.TrimSpace(string(r.Stderr)); !strings.Contains(string(r.Stdout), "Restart corosync and cluster filesystem") {
		if text == "" {
			text = strings.TrimSpace(string(r.Stdout))
		}
		return fmt.Errorf("%s: pvecm create failed (exit %d): %s", first, r.Exit, strings.Join(strings.Fields(text), " "))
	}
	if err := awaitCluster(ctx, t, name, first, args.QuorumTimeout); err != nil {
		return err
	}
	return keepKeys(ctx, t, first, before.AuthorizedKeys)
}

// settleTime is how long a cluster that was just made may take to become ready by itself.
const settleTime = 15 * time.Second

// finishCreate starts what pvecm create would have started next, unless that is only a moment away.
func finishCreate(ctx context.Context, t module.Target, name, first string, args clusterCreateArgs) error {
	if awaitCluster(ctx, t, name, first, settleTime) == nil {
		return nil
	}
	job := detached("cluster-start-"+name, "systemctl", "restart", "corosync", "pve-cluster")
	job.Timeout = args.QuorumTimeout
	r, err := t.Detach(ctx, first, job)
	if err == nil {
		err = r.Err(transport.Command{Argv: []string{"systemctl", "restart", "corosync", "pve-cluster"}})
	}
	if err != nil {
		return fmt.Errorf("%s: start the cluster: %w", first, err)
	}
	return awaitCluster(ctx, t, name, first, args.QuorumTimeout)
}

func awaitCluster(ctx context.Context, t module.Target, name, first string, timeout time.Duration) error {
	return t.WaitFor(ctx, module.Condition{
		Name: fmt.Sprintf("cluster %q on %s is quorate and can be written to", name, first), Timeout: timeout, Every: time.Second,
		Check: func(ctx context.Context) error {
			s := readBrief(ctx, t, []string{first})[0]
			switch {
			case s.Err != nil:
				return s.Err
			case s.Members == nil || s.Members.Cluster == nil:
				return errors.New("/etc/pve shows no cluster yet")
			case s.Members.Cluster.Name != name:
				return module.Fatal(fmt.Errorf("/etc/pve shows cluster %q", s.Members.Cluster.Name))
			}
			return unmet(pve.JoinedEverywhere(s.Hostname, []pve.NodeState{s}))
		},
	})
}
