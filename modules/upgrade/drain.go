package upgrade

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/rolling"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/modules/internal/gates"
)

//go:embed drain.md
var drainDoc string

type drainArgs struct {
	Policy     string            `hcl:"policy,optional" default:"block" oneof:"migrate_with_disks shutdown leave block" doc:"What is done with machines that cannot move live: copy their disks, shut them down for the time, leave them running until the node goes down, or refuse."`
	Containers string            `hcl:"containers,optional" default:"block" oneof:"restart_container shutdown leave block" doc:"The same for containers, none of which can move live."`
	Tags       map[string]string `hcl:"tagged,optional" doc:"What is done with the guests that have a tag, whether they could move live or not: migrate, migrate_with_disks, shutdown, restart_container, leave or block." example:"{ \"k8s\" = \"shutdown\" }"`
	Guests     map[string]string `hcl:"guests,optional" doc:"The same by the guest's id; it goes before tags." example:"{ \"104\" = \"shutdown\" }"`
	BringHome  string            `hcl:"bring_home,optional" default:"never" oneof:"never moved balanced" doc:"Which guests release brings back: none, all that were moved, or those from nodes that are fuller. Guests under HA come back by themselves."`

	Reserve    string             `hcl:"reserve,optional" default:"2GiB" doc:"Memory that stays free on every node: bytes with a unit, or a percentage of the node's." example:"\"10%\""`
	Overcommit bool               `hcl:"overcommit,optional" doc:"Let nodes take guests with more configured memory than they have."`
	Parallel   int                `hcl:"parallel,optional" min:"0" max:"64" doc:"How many guests may be on their way at once from the node, and half as many to each other node. 0 is the datacenter's max_workers."`
	Bwlimit    int                `hcl:"bwlimit,optional" min:"0" doc:"The most KiB a second for each guest; 0 is the datacenter's limit."`
	Canary     inventory.NodeRefs `hcl:"canary,optional" doc:"Nodes that go first." example:"[cluster.lab.pve3]"`
	AllowOwn   bool               `hcl:"allow_own,optional" doc:"Let the node on which pxrun's own machine runs go too, last."`

	Shutdown time.Duration      `hcl:"shutdown_timeout,optional" default:"3m" min:"1s" doc:"How long a guest may take to shut down. One that does not is left running, and the node is not begun."`
	Move     time.Duration      `hcl:"move_timeout,optional" default:"2h" min:"1m" doc:"How long one guest may take to move."`
	Lock     time.Duration      `hcl:"lock_timeout,optional" default:"30m" min:"0s" doc:"How long to wait for guests that are locked, by a backup say."`
	OnStall  string             `hcl:"on_stall,optional" default:"block" oneof:"block shutdown" doc:"What is done with a machine whose move reaches move_timeout, since it writes memory faster than the network carries: the move is ended, and the machine is left where it is, or shut down."`
	Attempts int                `hcl:"attempts,optional" default:"2" min:"1" max:"10" doc:"How often a move is tried."`
	Wait     time.Duration      `hcl:"wait,optional" default:"5m" doc:"For how long gates that may open by themselves are read again before the node is refused."`
	Tolerate inventory.NodeRefs `hcl:"tolerate,optional" doc:"Other nodes that may be down or in maintenance, and nodes that may go although somebody else has them in maintenance." example:"[cluster.lab.pve5]"`
	Accept   []string           `hcl:"ceph_accept,optional" doc:"Health checks of Ceph that do not count." example:"[\"POOL_TOO_MANY_PGS\"]"`
	Ignore   []string           `hcl:"ignore,optional" doc:"Gates that do not count: others, links, ha, tasks, ceph_flags." example:"[\"ha\"]"`
}

var guestPolicies = []string{"migrate", "migrate_with_disks", "shutdown", "restart_container", "leave", "block"}

// Validate checks policies, ids, gates and the reserve.
func (a *drainArgs) Validate() error {
	var errs []error
	check := func(path, policy string) {
		if !slices.Contains(guestPolicies, policy) {
			errs = append(errs, schema.At(path, fmt.Errorf("%q is no policy: there is %s", policy, strings.Join(guestPolicies, ", "))))
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(a.Tags)) {
		check(fmt.Sprintf("tagged[%q]", tag), a.Tags[tag])
	}
	for _, id := range slices.Sorted(maps.Keys(a.Guests)) {
		if n, err := strconv.Atoi(id); err != nil || n < 100 {
			errs = append(errs, schema.At(fmt.Sprintf("guests[%q]", id), fmt.Errorf("%q is not the id of a guest", id)))
		}
		check(fmt.Sprintf("guests[%q]", id), a.Guests[id])
	}
	if _, err := reserveOf(a.Reserve); err != nil {
		errs = append(errs, schema.At("reserve", err))
	}
	if err := gates.CheckIgnore(a.Ignore); err != nil {
		errs = append(errs, schema.At("ignore", err))
	}
	return errors.Join(errs...)
}

// reserveOf reads "2GiB" or "10%".
func reserveOf(text string) (rolling.Reserve, error) {
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.Atoi(percent)
		if err != nil || n < 0 || n > 90 {
			return rolling.Reserve{}, fmt.Errorf("%q is no share of a node's memory: write 0%% to 90%%", text)
		}
		return rolling.Reserve{Percent: n}, nil
	}
	bytes, err := guest.ParseBytes(text)
	if err != nil {
		return rolling.Reserve{}, err
	}
	return rolling.Reserve{Bytes: bytes}, nil
}

func (a drainArgs) policies() rolling.Policies {
	p := rolling.Policies{Default: rolling.Policy(a.Policy), Containers: rolling.Policy(a.Containers), Tags: map[string]rolling.Policy{}, Guests: map[int]rolling.Policy{}}
	for tag, policy := range a.Tags {
		p.Tags[tag] = rolling.Policy(policy)
	}
	for id, policy := range a.Guests {
		if n, err := strconv.Atoi(id); err == nil {
			p.Guests[n] = rolling.Policy(policy)
		}
	}
	return p
}

type drainOut struct {
	Empty bool     `hcl:"empty" doc:"Whether no guest runs on the node but those that may stay."`
	Left  []string `hcl:"left" doc:"The guests that run on it and may stay until it goes down."`
}

// drainer is the module with what it knows of the machine that pxrun runs on.
type drainer struct {
	ownBootID func() string
	// ownMachine is the machine's identity (its SMBIOS UUID), by which the guest that pxrun runs in is found; "" if it cannot be told.
	ownMachine func() string
}

func drain(ownBootID, ownMachine func() string) module.Module {
	d := drainer{ownBootID, ownMachine}
	return module.DefineRoller(module.Spec{
		Name: "drain", Summary: "Take a node out of service and empty it of running guests, each proved to have arrived", Doc: drainDoc,
		Risk: module.RiskDisruptive, Serves: true,
	}, module.Funcs[drainArgs, drainOut]{Plan: d.plan, Read: readDrain}, d.roll)
}

// situation is what decisions about one node rest on.
func (d drainer) situation(w *world, args drainArgs, node string, away []string) rolling.Situation {
	reserve, _ := reserveOf(args.Reserve) // validated
	return rolling.Situation{
		Site: w.Site, Ballot: w.ballot(), Nodes: []rolling.Node{{Name: node}}, Away: away, Policies: args.policies(), Return: rolling.Return(args.BringHome),
		Tolerated: args.Tolerate, Reserve: reserve, Overcommit: args.Overcommit, Speeds: rolling.Speeds{Workers: args.Parallel},
	}
}

func (d drainer) plan(ctx context.Context, t module.Target, args drainArgs) ([]module.Change, error) {
	node := t.Host().Name
	b := t.Block()
	if b != nil && b.Planning {
		// Where its guests are when its turn comes nobody knows; the course of the block says where they would go now.
		return []module.Change{{
			ID: node + "/drain", Host: node, Action: module.Run, Summary: "empty " + node + " of its running guests, as listed below",
			Predicted: "guests may move until its turn comes; everything is read again then",
			Apply:     func(context.Context, module.Target) error { return errors.New("this was a forecast") },
		}}, nil
	}
	changes, waited, err := d.decide(ctx, t, args)
	if waited && err == nil && len(changes) > 0 {
		// What the gates waited for may have brought guests, or taken them.
		changes, _, err = d.decide(ctx, t, args)
	}
	return changes, err
}

// decide reads the cluster and the gates. waited says that the gates were closed at first.
func (d drainer) decide(ctx context.Context, t module.Target, args drainArgs) (changes []module.Change, waited bool, err error) {
	node, b := t.Host().Name, t.Block()
	var away, later, done, failed []string
	if b != nil {
		away, later, done, failed = b.Out(), b.Later, b.Done, b.Failed
	}
	w, err := look(ctx, t, node, away)
	if err != nil {
		return nil, false, err
	}
	old, err := readLedger(ctx, t, node)
	if err != nil {
		return nil, false, err
	}
	if !slices.Contains(w.Names(), node) {
		return nil, false, module.Refusals{{Host: node, Gate: "drain " + node, Saw: "it is no member of the cluster", Want: "a member", Look: "pvecm nodes"}}
	}
	e := emptying{node: node, args: args, w: w, old: old, workers: workersOf(w, args)}
	if refusals := e.taken(); len(refusals) > 0 {
		return nil, false, refusals
	}
	s := d.situation(w, args, node, away)
	s.Done, s.Failed = done, failed
	for _, name := range later {
		s.Nodes = append(s.Nodes, rolling.Node{Name: name}) // so that room is left for what must leave them
	}
	plans := rolling.Targets(s, node, away)
	if refusals := refusalsOf("drain "+node, blocksOf(plans)); len(refusals) > 0 {
		return nil, false, refusals
	}
	changes = e.changes(t, plans)
	if len(changes) == 0 {
		return nil, false, nil
	}
	refusals, waited, err := mayGoDown(ctx, t, node, gateOptions{
		Gate: "drain " + node, Away: away, Tolerate: args.Tolerate, CephAccept: args.Accept, Ignore: args.Ignore,
		Noout: old.noouts(), Settle: args.Wait,
	})
	if err != nil {
		return nil, false, err
	}
	if len(refusals) > 0 {
		return nil, waited, refusals
	}
	return changes, waited, nil
}

// workersOf is how many guests may leave the node at once.
func workersOf(w *world, args drainArgs) int {
	switch {
	case args.Parallel > 0:
		return args.Parallel
	case w.MaxWorkers > 0:
		return w.MaxWorkers
	}
	return 4 // the HA manager's own default (reference §5.5)
}

func blocksOf(plans []rolling.Plan) []rolling.Block {
	var out []rolling.Block
	for _, p := range plans {
		out = append(out, p.Blocks...)
	}
	return out
}

// refusalsOf makes refusals of what stands against a node, or against all.
func refusalsOf(gate string, blocks []rolling.Block) module.Refusals {
	var out module.Refusals
	for _, b := range blocks {
		override := b.Override
		if override == "" {
			override = "none"
		}
		saw := b.Saw
		if b.Guest != "" {
			saw = b.Guest + ": " + saw
		}
		out = append(out, &module.Refusal{Host: b.Node, Gate: gate + " (" + string(b.Gate) + ")", Saw: saw, Want: b.Want, Look: b.Look, Override: override})
	}
	return out
}

func readDrain(ctx context.Context, t module.Target, _ drainArgs) (drainOut, error) {
	node := t.Host().Name
	conn, err := t.Conn(ctx, node)
	if err != nil {
		return drainOut{}, err
	}
	n := guest.ReadNode(ctx, node, conn)
	if n.Err != nil {
		return drainOut{}, n.Err
	}
	l, err := readLedger(ctx, t, node)
	if err != nil {
		return drainOut{}, err
	}
	out := drainOut{Empty: true, Left: []string{}}
	for _, id := range slices.Sorted(maps.Keys(n.Running)) {
		sid := fmt.Sprintf("%s:%d", n.Running[id], id)
		if g, ok := l.find(sid); ok && g.Fate == fateLeft {
			out.Left = append(out.Left, sid)
			continue
		}
		out.Empty = false
	}
	return out, nil
}
