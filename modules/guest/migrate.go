package guest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/modules/internal/moves"
)

//go:embed migrate.md
var migrateDoc string

type migrateArgs struct {
	Guests   []int                        `hcl:"guests,optional" each_min:"100" doc:"Ids of the guests to move." example:"[100, 201]"`
	WithTags []string                     `hcl:"with_tags,optional" doc:"Move the guests that have one of these tags."`
	Pool     string                       `hcl:"pool,optional" doc:"Move the guests of this resource pool. Tags, pool and node narrow each other."`
	From     inventory.NodeRef            `hcl:"from,optional" doc:"Move the guests of this node."`
	Target   inventory.NodeRef            `hcl:"target,optional" doc:"The node to move them to."`
	Targets  map[string]inventory.NodeRef `hcl:"targets,optional" doc:"The nodes of single guests, by their ids; they go before target." example:"{ \"100\" = \"pve2\" }"`

	Live             bool              `hcl:"live,optional" default:"true" doc:"Whether virtual machines that run may be moved while they run. Without, they are refused."`
	Restart          bool              `hcl:"restart,optional" doc:"Whether containers that run may be shut down, moved and started again: there is no other way for them."`
	WithLocalDisks   bool              `hcl:"with_local_disks,optional" doc:"Whether disks on storages of the node may be copied over the network."`
	TargetStorage    string            `hcl:"target_storage,optional" doc:"The storage on the target for disks that are copied (default: the one of the same name)."`
	TargetStorages   map[string]string `hcl:"target_storages,optional" doc:"The same by the storage that a disk is on." example:"{ \"local-lvm\" = \"tank\" }"`
	MigrationNetwork netip.Prefix      `hcl:"migration_network,optional" doc:"The network that the data goes over (default: that of the datacenter's options)."`
	Bwlimit          int               `hcl:"bwlimit,optional" min:"0" doc:"The most KiB a second for each guest; 0 is the datacenter's limit."`
	Overcommit       bool              `hcl:"overcommit,optional" doc:"Move guests also where more memory is promised then than the node has."`
	Parallel         int               `hcl:"parallel,optional" default:"1" min:"1" max:"8" doc:"How many guests may be on their way from a node, and to a node, at once."`
	ShutdownTimeout  time.Duration     `hcl:"shutdown_timeout,optional" default:"3m" min:"1s" doc:"How long a container may take to shut down before it is stopped hard."`
	MoveTimeout      time.Duration     `hcl:"move_timeout,optional" default:"2h" min:"1m" doc:"How long one guest may take. After it the run fails and the migration goes on: it is not cut off."`
}

// Validate checks that guests and targets are named.
func (a *migrateArgs) Validate() error {
	var problems []error
	if len(a.Guests) == 0 && len(a.WithTags) == 0 && a.Pool == "" && a.From == "" {
		problems = append(problems, errors.New("no guests are named: write guests, with_tags, pool or from"))
	}
	if a.Target == "" && len(a.Targets) == 0 {
		problems = append(problems, errors.New("no target is named: write target or targets"))
	}
	if a.From != "" && a.From == a.Target {
		problems = append(problems, schema.At("target", errors.New("the guests of a node cannot be moved to that node")))
	}
	for _, id := range slices.Sorted(maps.Keys(a.Targets)) {
		if n, err := strconv.Atoi(id); err != nil || n < 100 {
			problems = append(problems, schema.At(fmt.Sprintf("targets[%q]", id), fmt.Errorf("%q is not the id of a guest", id)))
		}
	}
	if a.TargetStorage != "" && len(a.TargetStorages) > 0 {
		problems = append(problems, schema.At("target_storages", errors.New("write either target_storage or target_storages")))
	}
	return errors.Join(problems...)
}

// options are what the moves may do.
func (a migrateArgs) options() guest.Options {
	storages := maps.Clone(a.TargetStorages)
	if a.TargetStorage != "" {
		storages = map[string]string{"": a.TargetStorage}
	}
	return guest.Options{LocalDisks: a.WithLocalDisks, Storages: storages, Restart: a.Restart, Overcommit: a.Overcommit}
}

// target is the node that a guest is to go to; "" if none is named.
func (a migrateArgs) target(id int) string {
	if to, ok := a.Targets[strconv.Itoa(id)]; ok {
		return string(to)
	}
	return string(a.Target)
}

func (a migrateArgs) selection() guest.Selection {
	sel := guest.Selection{IDs: slices.Clone(a.Guests), Tags: a.WithTags, Pool: a.Pool, From: string(a.From)}
	return sel
}

// speed is what the estimates rest on.
func (a migrateArgs) speed() guest.Speed {
	if a.Bwlimit > 0 {
		return min(guest.Speed(a.Bwlimit)<<10, guest.GigabitSpeed)
	}
	return guest.GigabitSpeed
}

type migrateOut struct {
	Nodes map[string]string `hcl:"nodes" doc:"The node that each guest is on, by id."`
}

func migrate() module.Module {
	return module.Define(module.Spec{
		Name: "migrate", Summary: "Move guests to another node", Doc: migrateDoc, Scope: module.PerCluster, Risk: module.RiskDisruptive,
	}, module.Funcs[migrateArgs, migrateOut]{
		Probes: func(t module.Target, _ migrateArgs) []module.Probe { return probes(t) },
		Plan:   planMigrate,
		Read: func(ctx context.Context, t module.Target, args migrateArgs) (migrateOut, error) {
			out := migrateOut{Nodes: map[string]string{}}
			w, err := look(ctx, t, "the guests")
			if err != nil {
				return out, err
			}
			chosen, _, err := w.Choose(args.selection())
			for _, g := range chosen {
				out.Nodes[strconv.Itoa(g.ID)] = g.Node
			}
			return out, err
		},
	})
}

func planMigrate(ctx context.Context, t module.Target, args migrateArgs) ([]module.Change, error) {
	w, err := look(ctx, t, "move guests")
	if err != nil {
		return nil, err
	}
	chosen, templates, err := w.Choose(args.selection())
	if err != nil {
		if early := foretold(w, t, args); len(early) > 0 {
			return early, nil
		}
		return nil, module.Refusals{{
			Gate: "move guests", Saw: err.Error(), Want: "guests of cluster " + w.Cluster, Look: "pvesh get /cluster/resources --type vm", Override: "mend the ids, or leave them out",
		}}
	}
	for _, g := range templates {
		t.Warn(g.Node, fmt.Sprintf("%s is a template and stays where it is", g))
	}
	chosen = slices.DeleteFunc(chosen, func(g guest.Guest) bool {
		return args.target(g.ID) != g.Node && leftOut(t, g, args.target(g.ID))
	})
	nodes := []string{}
	for _, g := range chosen {
		if to := args.target(g.ID); to != g.Node {
			nodes = append(nodes, g.Node, to)
		}
	}
	w.ask(ctx, t, nodes)
	steps := w.decide(chosen, args, moves.UnderWay(ctx, t, chosen))
	if err := w.consult(ctx, t, steps, args.options()); err != nil {
		return nil, err
	}
	coming := earlierMoves(t.Planned())
	if refusals := refuse(steps, coming); len(refusals) > 0 {
		return nil, refusals
	}
	return w.changes(steps, args, coming), nil
}
