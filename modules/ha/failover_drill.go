package ha

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/pve/health"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed failover_drill.md
var failoverDrillDoc string

type failoverDrillArgs struct {
	Node     inventory.Refs `hcl:"node" doc:"The node that is cut off." example:"cluster.lab.pve3"`
	Confirm  string         `hcl:"confirm" doc:"Its name once more: its HA guests stop for some minutes, and the node restarts." example:"\"pve3\""`
	Target   time.Duration  `hcl:"target,optional" default:"4m" min:"1s" doc:"The time within which each HA guest must run elsewhere. The drill fails when one takes longer."`
	GiveUp   time.Duration  `hcl:"give_up,optional" default:"10m" min:"1m" doc:"How long to wait for the guests before the node is brought back."`
	Return   time.Duration  `hcl:"return_within,optional" default:"20m" min:"1m" doc:"How long the node may take to come back whole."`
	Guests   string         `hcl:"guests,optional" default:"refuse" oneof:"refuse lose" doc:"What to do about running guests on the node that are not under HA: refuse, or lose them with it."`
	Ignore   []string       `hcl:"ignore,optional" doc:"Checks of the cluster's health that do not count, as in the health module." example:"[\"kernel\"]"`
	Fence    *drillFence    `hcl:"fence,block" doc:"Cut the power through the node's management controller. Without this block corosync is stopped."`
	Findings string         `hcl:"fail_on,optional" default:"critical" oneof:"critical warning" doc:"From which severity on findings about the cluster keep the drill from starting."`
}

// drillFence is how the power is cut.
type drillFence struct {
	Address   string         `hcl:"address" doc:"The address of the node's management controller."`
	User      string         `hcl:"user" doc:"Who logs in there."`
	Password  secret.String  `hcl:"password" doc:"The password."`
	Interface string         `hcl:"interface,optional" default:"lanplus" oneof:"lanplus lan" doc:"IPMI 2.0 (lanplus) or 1.5 (lan)."`
	Via       inventory.Refs `hcl:"via,optional" doc:"The host that runs ipmitool (default: another node of the cluster)."`
	Unproved  string         `hcl:"unproved,optional" default:"refuse" oneof:"refuse accept" doc:"What to do when the node itself cannot tell that the controller at the address is its own: refuse, or take the address as given. A controller that is known to be another one's is refused either way."`
}

func (f *drillFence) args() fenceDeviceArgs {
	return fenceDeviceArgs{Address: f.Address, User: f.User, Password: f.Password, Interface: f.Interface, Via: f.Via, Unproved: f.Unproved, PowerWait: time.Minute}
}

// Validate checks that the node is named twice.
func (a *failoverDrillArgs) Validate() error {
	if len(a.Node) != 1 {
		return schema.At("node", fmt.Errorf("one node is cut off, %d are given", len(a.Node)))
	}
	if a.Confirm != a.Node[0] {
		return schema.At("confirm", fmt.Errorf("confirm is %q and the node is %q: write the node's name", a.Confirm, a.Node[0]))
	}
	if a.Fence != nil {
		device := a.Fence.args()
		return device.Validate()
	}
	return nil
}

type failoverDrillOut struct {
	HAGuests []string `hcl:"ha_guests" doc:"The guests under HA that are on the node now."`
}

func failoverDrill(turns *turns) module.Module {
	return module.Define(module.Spec{
		Name: "failover_drill", Summary: "Cut a node off, and measure how soon its HA guests run elsewhere", Doc: failoverDrillDoc, Scope: module.PerCluster, Risk: module.RiskDestructive,
	}, module.Funcs[failoverDrillArgs, failoverDrillOut]{
		Plan: func(ctx context.Context, t module.Target, args failoverDrillArgs) ([]module.Change, error) {
			return planDrill(ctx, t, args, turns)
		},
		Read: func(ctx context.Context, t module.Target, args failoverDrillArgs) (failoverDrillOut, error) {
			w, err := look(ctx, t)
			if err != nil {
				return failoverDrillOut{}, err
			}
			return failoverDrillOut{HAGuests: w.startedOn(args.Node[0])}, nil
		},
	})
}

// startedOn lists the HA guests that are meant to run and are on a node.
func (w *world) startedOn(node string) []string {
	var out []string
	for _, r := range w.Resources {
		if v, ok := w.Service(r.SID); ok && v.Node == node && r.State == "started" {
			out = append(out, r.SID)
		}
	}
	slices.Sort(out)
	return out
}

func planDrill(ctx context.Context, t module.Target, args failoverDrillArgs, turns *turns) ([]module.Change, error) {
	if t.Cluster() == nil {
		return nil, errNoCluster
	}
	node := args.Node[0]
	if !slices.ContainsFunc(t.Hosts(), func(h inventory.Host) bool { return h.Name == node }) {
		return nil, module.Refusals{{
			Host: node, Gate: "cut " + node + " off", Saw: "it is not among the hosts of this run: --limit or hosts leaves it out, or it failed before", Want: "a node that the run may touch",
			Override: "name it in --limit and hosts, too",
		}}
	}
	if len(t.Planned()) > 0 {
		return []module.Change{drillChange(args, nil, "earlier tasks are going to change the cluster", turns)}, nil
	}
	w, err := look(ctx, t)
	if err != nil {
		return nil, err
	}
	snapshot := health.Read(ctx, t.Cluster().Nodes, t.Conn)
	wanted := pve.WantedCluster(t.Cluster(), t.Site())
	refusals := w.drillGates(node, args, health.Judge(snapshot, wanted), votesOf(snapshot.States(), wanted.Cluster))
	if refusal := cephBears(ctx, t, w.actor, node); refusal != nil {
		refusals = append(refusals, refusal)
	}
	if args.Fence == nil {
		dog, err := watchdogOn(ctx, t, node)
		if refusal := w.fencesItself(node, dog, err); refusal != nil {
			refusals = append(refusals, refusal)
		}
	} else {
		refusals = append(refusals, fenceRefuses(ctx, t, node, args.Fence.args())...)
	}
	if len(refusals) > 0 {
		return nil, refusals
	}
	return []module.Change{drillChange(args, w.startedOn(node), "", turns)}, nil
}

// fenceRefuses says what speaks against cutting a node off by its controller: it does not answer, or may be another's.
func fenceRefuses(ctx context.Context, t module.Target, node string, args fenceDeviceArgs) module.Refusals {
	d, err := deviceOf(ctx, t, node, args)
	if err != nil {
		return module.Refusals{d.refusal(err)}
	}
	power, err := d.status(ctx, t)
	if err != nil {
		return module.Refusals{d.refusal(err)}
	}
	whose := d.identify(ctx, t, power)
	for _, one := range []*module.Refusal{d.foreign(whose), d.unproved(whose)} {
		if one != nil {
			return module.Refusals{one}
		}
	}
	return nil
}

// fencesItself refuses to stop corosync on a node that would not restart itself by it: its guests would go on running there,
// while the others, which wait for no more than its lock to expire, start them a second time on the same disks. No finding
// that is to be ignored opens this gate. err is why the watchdog could not be read.
func (w *world) fencesItself(node string, dog watchState, err error) *module.Refusal {
	const look = "systemctl status watchdog-mux; ls -d /run/watchdog-mux.active; ha-manager status"
	r := &module.Refusal{
		Host: node, Gate: "cut " + node + " off", Want: "a watchdog that restarts the node when it has lost the cluster, held by its LRM", Look: look,
		Override: "mend the watchdog (module watchdog), or cut the power with a fence block",
	}
	lrm, known := w.LRMs[node]
	switch refusal := dog.refusal(node); {
	case err != nil:
		r.Saw = "its watchdog could not be read: " + err.Error()
	case refusal != nil:
		r.Saw = refusal.Saw
	case !known || lrm.State != "active":
		r.Saw = fmt.Sprintf("its LRM is in state %q, in which it holds no watchdog", lrm.State)
	case w.Now.IsZero() || w.Now.Sub(lrm.Time) > lrmAge:
		r.Saw = "its LRM has not written for " + w.Now.Sub(lrm.Time).Round(time.Second).String()
	case !dog.armed:
		r.Saw = "nobody holds its watchdog: /run/watchdog-mux.active is not there"
	default:
		return nil
	}
	return r
}

// lrmAge is the age from which an LRM's word is old: it writes every ten seconds (reference §5.4).
const lrmAge = 30 * time.Second

// votesOf counts the votes of a cluster as its members see them.
func votesOf(states []pve.NodeState, cluster string) pve.Ballot {
	members := pve.MembersOf(states, cluster)
	conf := pve.NewestConf(members)
	if conf == nil {
		return pve.Ballot{}
	}
	online := func(name string) bool {
		return slices.ContainsFunc(members, func(m pve.NodeState) bool { return m.Writable && m.Members.Online(name) })
	}
	casting := slices.ContainsFunc(members, func(m pve.NodeState) bool {
		return m.Quorum != nil && m.Quorum.Device != nil && m.Quorum.Device.Votes > 0
	})
	return pve.BallotOf(conf, online, casting)
}

// drillGates are the reasons not to cut a node off now: the drill may cost what it says, and no more.
func (w *world) drillGates(node string, args failoverDrillArgs, r health.Report, b pve.Ballot) module.Refusals {
	var refusals module.Refusals
	gate := "cut " + node + " off"
	refuse := func(saw, want, look, override string) {
		refusals = append(refusals, &module.Refusal{Host: node, Gate: gate, Saw: saw, Want: want, Look: look, Override: override})
	}
	for _, f := range r.Findings {
		closed := f.Severity == pve.Critical || args.Findings == "warning" && f.Severity == pve.Warning || f.Check == "memory" && f.Node == node
		if closed && !slices.Contains(args.Ignore, f.Check) {
			refuse(f.Saw, "a healthy cluster", f.Look, fmt.Sprintf("%s; or ignore = [%q]", f.Remedy, f.Check))
		}
	}
	if rest := b.Without(node); !rest.Quorate() {
		refuse(fmt.Sprintf("without it %d of %d votes are left and %d are needed", rest.Total(), rest.Expected(), rest.Quorum()), "quorum without the node", "pvecm status", "add a node or a QDevice first")
	}
	if w.Manager == nil || len(w.startedOn(node)) == 0 {
		refuse("no guest under HA runs on it", "at least one, or there is nothing to measure", "ha-manager status", "move one there, or choose another node")
	}
	if w.Manager != nil && (len(w.Manager.Maintenance) > 0 || w.Manager.Disarmed != "") {
		refuse("nodes in maintenance: "+names(w.Manager.Maintenance)+", disarmed: "+w.Manager.Disarmed, "no node in maintenance and HA armed", "ha-manager status", "end the maintenance first")
	}
	if w.Manager != nil {
		for sid, v := range w.Manager.Services {
			if v.State != "started" && v.State != "stopped" {
				refuse(fmt.Sprintf("%s is in state %s on %s", sid, v.State, v.Node), "HA guests at rest", "ha-manager status", "wait until it is done")
			}
		}
	}
	for _, sid := range w.startedOn(node) {
		if home, alone := ha.Stranded(w.Rules)[sid]; alone && home == node {
			refuse(fmt.Sprintf("%s may run on %s only, by a strict rule", sid, node), "another node for every HA guest", "ha-manager rules config", "change the rule, or set the guest to stopped for the drill")
		}
	}
	var lost []string
	for _, g := range w.Guests {
		_, managed := w.Resource(g.SID)
		if g.Node == node && !managed && g.Running != "stopped" && !g.Template {
			lost = append(lost, g.SID)
		}
	}
	if len(lost) > 0 && args.Guests != "lose" {
		slices.Sort(lost)
		refuse(names(lost)+" on it, not under HA, running or not known to be stopped: they would die with the node", "no such guest", "qm list; pct list", `move them away, put them under HA, or guests = "lose"`)
	}
	slices.SortStableFunc(refusals, func(a, b *module.Refusal) int { return strings.Compare(a.Saw, b.Saw) })
	return refusals
}

// backInCluster starts corosync where that is safe: on a node that has restarted, or runs no guest. One that was cut off and goes
// on running guests may run them a second time, since HA starts them elsewhere: only a restart helps there.
const backInCluster = `systemctl is-active --quiet corosync && exit 0
for g in /run/qemu-server/*.pid /sys/fs/cgroup/lxc/[0-9]*; do
	[ -e "$g" ] || continue
	echo "guests run here that HA may have started elsewhere too: the watchdog restarts the node; if it does not, restart it by hand" >&2
	exit 1
done
exec systemctl start corosync`

func drillChange(args failoverDrillArgs, guests []string, predicted string, turns *turns) module.Change {
	node := args.Node[0]
	how := "stop corosync on " + node
	undo := &module.Undo{Host: node, Summary: "start corosync on " + node, Command: transport.Command{Script: backInCluster, Mutates: true, Timeout: time.Minute}}
	if args.Fence != nil {
		how = "cut the power of " + node
		// The password of its controller is not stored: until somebody has switched it on, the node does not answer, and this stays listed.
		undo.Summary = "give " + node + " its power back (at its controller, " + args.Fence.Address + ") and see it in the cluster"
	}
	// What it costs is the time of the guests, which run again: that is disruptive and can be taken back.
	return module.Change{
		Undo: undo, Undoes: []string{node + "/drill"},
		ID: node + "/drill", Host: node, Action: module.Run, Risk: module.RiskDisruptive, Imperative: true, Predicted: predicted,
		Summary: how + ", measure until its HA guests run elsewhere, bring it back",
		After:   map[string]any{"ha_guests": guests, "target": args.Target.String()},
		Apply:   func(ctx context.Context, t module.Target) error { return runDrill(ctx, t, args, turns) },
	}
}
