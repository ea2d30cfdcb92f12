package ha

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/schema"
)

//go:embed ha_resource.md
var haResourceDoc string

type haResourceArgs struct {
	Resources   []string      `hcl:"resources" min:"1" doc:"The guests: vm:<id> or ct:<id>." example:"[\"vm:100\", \"ct:200\"]"`
	State       string        `hcl:"state,optional" default:"keep" oneof:"keep started stopped disabled ignored" doc:"What the HA manager is to make of them. keep takes a guest as it is when it is added, and leaves the state alone later: nothing is started or stopped."`
	MaxRestart  *int          `hcl:"max_restart,optional" min:"0" max:"10" doc:"How often a guest that failed is started again on its node (default: left as it is; 1 for a new one)."`
	MaxRelocate *int          `hcl:"max_relocate,optional" min:"0" max:"10" doc:"How often it is then tried on another node (default: left as it is; 1 for a new one)."`
	Failback    *bool         `hcl:"failback,optional" doc:"Whether it returns to a better node that comes back (Proxmox VE 9; on 8 this is a setting of ha_group)."`
	Group       string        `hcl:"group,optional" doc:"The ha_group that it belongs to (default: left as it is)."`
	Comment     *string       `hcl:"comment,optional" doc:"A note (default: left as it is)."`
	Ensure      string        `hcl:"ensure,optional" default:"present" oneof:"present absent" doc:"Whether the guests are under HA. Absent, they are taken out of it and keep running."`
	HATimeout   time.Duration `hcl:"ha_timeout,optional" default:"5m" min:"10s" doc:"How long the HA manager may take to bring a guest into its state."`
}

// Validate checks the ids.
func (a *haResourceArgs) Validate() error {
	if err := checkSIDs(a.Resources); err != nil {
		return schema.At("resources", err)
	}
	if a.Group != "" {
		if err := checkID(a.Group); err != nil {
			return schema.At("group", err)
		}
	}
	return nil
}

type haResourceOut struct {
	States map[string]string `hcl:"states" doc:"What the HA manager says of each guest: started, stopped, error, …"`
	Nodes  map[string]string `hcl:"nodes" doc:"The node that each guest is on."`
}

func haResource() module.Module {
	return module.Define(module.Spec{
		Name: "ha_resource", Summary: "Put guests under high availability", Doc: haResourceDoc, Scope: module.PerCluster,
	}, module.Funcs[haResourceArgs, haResourceOut]{
		Probes: func(t module.Target, _ haResourceArgs) []module.Probe { return probes(t) },
		Plan: func(ctx context.Context, t module.Target, args haResourceArgs) ([]module.Change, error) {
			w, err := look(ctx, t)
			if err != nil {
				return nil, err
			}
			w.ask(ctx, t, args.Resources)
			steps, refusals := w.resources(args, plannedIDs(t.Planned(), "ha_group"))
			if len(refusals) > 0 {
				return nil, refusals
			}
			return w.changes(steps), nil
		},
		Read: func(ctx context.Context, t module.Target, args haResourceArgs) (haResourceOut, error) {
			out := haResourceOut{States: map[string]string{}, Nodes: map[string]string{}}
			w, err := look(ctx, t)
			if err != nil {
				return out, err
			}
			for _, sid := range args.Resources {
				if v, ok := w.Service(sid); ok {
					out.States[sid], out.Nodes[sid] = v.State, v.Node
				} else if g, ok := w.Guest(sid); ok {
					out.Nodes[sid] = g.Node
				}
			}
			return out, nil
		},
	})
}

// resources decides what to do for each guest. groups are those that earlier tasks are going to make.
func (w *world) resources(args haResourceArgs, groups []string) ([]step, module.Refusals) {
	var steps []step
	var refusals module.Refusals
	for _, sid := range slices.Sorted(slices.Values(args.Resources)) {
		s, refusal := w.resource(sid, args, groups)
		if refusal != nil {
			refusals = append(refusals, refusal)
		}
		steps = append(steps, s...)
	}
	return steps, refusals
}

func (w *world) resource(sid string, args haResourceArgs, groups []string) ([]step, *module.Refusal) {
	have, there := w.Resource(sid)
	switch {
	case args.Ensure == "absent" && !there:
		return nil, nil
	case args.Ensure == "absent":
		return []step{{
			id: sid, action: module.Delete, summary: "take " + sid + " out of HA; it keeps running", before: shownResource(have),
			commands: [][]string{{"remove", sid}},
			then: func(ctx context.Context, t module.Target, host string) error {
				return awaitGone(ctx, t, host, sid, args.HATimeout)
			},
		}}, nil
	}
	if refusal := w.resourceFits(sid, args, groups); refusal != nil {
		return nil, refusal
	}
	var steps []step
	if there {
		if s, changed := w.setResource(have, args); changed {
			steps = append(steps, s)
		}
	} else {
		s, refusal := w.addResource(sid, args)
		if refusal != nil {
			return nil, refusal
		}
		steps = append(steps, s)
	}
	if args.Group != "" && w.mode == ha.ByRules {
		s, refusal := w.enterRule(sid, args.Group, groups)
		if refusal != nil {
			return nil, refusal
		}
		steps = append(steps, s...)
	}
	return steps, nil
}

// resourceFits refuses what this release of Proxmox VE has no place for.
func (w *world) resourceFits(sid string, args haResourceArgs, groups []string) *module.Refusal {
	gate := "put " + sid + " under HA"
	switch {
	case w.mode == ha.Mixed && (args.Group != "" || args.Failback != nil):
		return mixedRefusal(gate)
	case args.Failback != nil && w.mode == ha.ByGroups:
		return &module.Refusal{
			Gate: gate, Saw: "failback is given, and the cluster runs Proxmox VE 8", Want: "failback as a setting of the group",
			Look: "ha-manager groupconfig", Override: "set failback in the ha_group task instead",
		}
	case args.Group != "" && w.mode == ha.ByGroups:
		if _, there := w.Group(args.Group); !there && !slices.Contains(groups, "group:"+args.Group) {
			return noGroup(gate, args.Group)
		}
	}
	if v, ok := w.Service(sid); ok && v.State == "error" {
		return &module.Refusal{
			Gate: gate, Saw: fmt.Sprintf("%s is in state error on %s", sid, v.Node), Want: "a service that the HA manager can act on", Look: "ha-manager status; journalctl -u pve-ha-crm",
			Override: fmt.Sprintf("mend the cause, then: ha-manager set %s --state disabled; wait until it is stopped; ha-manager set %s --state started", sid, sid),
		}
	}
	return nil
}

func noGroup(gate, group string) *module.Refusal {
	return &module.Refusal{
		Gate: gate, Saw: fmt.Sprintf("there is no group or rule %q", group), Want: "the group that the task names", Look: "cat /etc/pve/ha/groups.cfg /etc/pve/ha/rules.cfg",
		Override: "put an ha_group task of that name before this one",
	}
}

// addResource puts a guest under HA. Its requested state is what the guest does now, unless the task names one: Proxmox
// VE would start every guest that is added without a state.
func (w *world) addResource(sid string, args haResourceArgs) (step, *module.Refusal) {
	gate := "put " + sid + " under HA"
	guest, exists := w.Guest(sid)
	want := ha.Resource{SID: sid, State: args.State, MaxRestart: 1, MaxRelocate: 1, Failback: true, Group: args.Group}
	predicted := ""
	switch {
	case !exists && w.coming == "":
		return step{}, &module.Refusal{Gate: gate, Saw: sid + " does not exist in the cluster", Want: "a guest of that id", Look: "cat /etc/pve/.vmlist", Override: "mend the id, or make the guest first"}
	case !exists:
		predicted = sid + " does not exist yet: " + w.coming
	case guest.Template:
		return step{}, &module.Refusal{Gate: gate, Saw: sid + " is a template", Want: "a guest that can run", Look: "qm list"}
	}
	if args.State == "keep" {
		switch {
		case guest.Running == "stopped":
			want.State = "stopped"
		case guest.Running != "":
			want.State = "started"
		case predicted == "" && w.coming == "":
			return step{}, &module.Refusal{
				Gate: gate, Saw: guest.Node + " does not say whether " + sid + " runs, so that is not known", Want: "to know, since HA starts or stops what is not as requested",
				Look: "qm status, or pct status, on its node", Override: `name the state: state = "started" or "stopped"`,
			}
		case predicted == "":
			predicted = "whether " + sid + " runs is not known yet: " + w.coming
		}
	}
	overlay(&want, args)
	s := step{id: sid, action: module.Create, summary: "put " + sid + " under HA", after: shownResource(want), predicted: predicted}
	if w.mode != ha.ByGroups {
		want.Group = ""
	}
	s.commands = [][]string{append([]string{"add", sid, "--state", want.State}, resourceOptions(ha.Resource{MaxRestart: 1, MaxRelocate: 1, Failback: true}, want, false)...)}
	w.runs(&s, guest, want.State)
	s.then = func(ctx context.Context, t module.Target, host string) error {
		return await(ctx, t, host, sid, want.State, args.HATimeout)
	}
	return s, nil
}

// setResource changes what differs of a guest under HA.
func (w *world) setResource(have ha.Resource, args haResourceArgs) (step, bool) {
	want := have
	if args.State != "keep" {
		want.State = args.State
	}
	if args.Group != "" && w.mode == ha.ByGroups {
		want.Group = args.Group
	}
	overlay(&want, args)
	if want == have {
		return step{}, false
	}
	sid := have.SID
	s := step{id: sid, action: module.Update, summary: "change how HA treats " + sid, before: shownResource(have), after: shownResource(want)}
	command := []string{"set", sid}
	if want.State != have.State {
		command = append(command, "--state", want.State)
		guest, _ := w.Guest(sid)
		w.runs(&s, guest, want.State)
	}
	s.commands = [][]string{append(command, resourceOptions(have, want, true)...)}
	s.then = func(ctx context.Context, t module.Target, host string) error {
		if want.State == have.State {
			return nil
		}
		return await(ctx, t, host, sid, want.State, args.HATimeout)
	}
	return s, true
}

// runs tells in the summary when a guest is going to be started or stopped.
func (w *world) runs(s *step, guest ha.Guest, state string) {
	switch {
	case state == "started" && guest.Running == "stopped":
		s.summary += ", which starts it"
	case (state == "stopped" || state == "disabled") && guest.Running == "running":
		s.summary += ", which stops it"
		s.risk = module.RiskDisruptive
	}
}

// overlay puts what the task names over what is there.
func overlay(want *ha.Resource, args haResourceArgs) {
	if args.MaxRestart != nil {
		want.MaxRestart = *args.MaxRestart
	}
	if args.MaxRelocate != nil {
		want.MaxRelocate = *args.MaxRelocate
	}
	if args.Failback != nil {
		want.Failback = *args.Failback
	}
	if args.Comment != nil {
		want.Comment = *args.Comment
	}
}

// resourceOptions are the options of add and set that bring one to the other, the state left out.
func resourceOptions(have, want ha.Resource, exists bool) []string {
	var out, remove []string
	if want.MaxRestart != have.MaxRestart {
		out = append(out, "--max_restart", strconv.Itoa(want.MaxRestart))
	}
	if want.MaxRelocate != have.MaxRelocate {
		out = append(out, "--max_relocate", strconv.Itoa(want.MaxRelocate))
	}
	if want.Failback != have.Failback {
		out = append(out, "--failback", flag(want.Failback))
	}
	for _, o := range []struct{ name, have, want string }{{"group", have.Group, want.Group}, {"comment", have.Comment, want.Comment}} {
		switch {
		case o.want == o.have:
		case o.want == "":
			remove = append(remove, o.name)
		default:
			out = append(out, "--"+o.name, o.want)
		}
	}
	if len(remove) > 0 && exists {
		out = append(out, "--delete", strings.Join(remove, ","))
	}
	return out
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func shownResource(r ha.Resource) map[string]any {
	out := map[string]any{"state": r.State, "max_restart": r.MaxRestart, "max_relocate": r.MaxRelocate, "failback": r.Failback}
	if r.Group != "" {
		out["group"] = r.Group
	}
	if r.Comment != "" {
		out["comment"] = r.Comment
	}
	return out
}

// awaitGone waits until the CRM has let go of a service.
func awaitGone(ctx context.Context, t module.Target, host, sid string, timeout time.Duration) error {
	return t.WaitFor(ctx, module.Condition{
		Name: "the HA manager lets go of " + sid, Timeout: timeout, Every: 2 * time.Second,
		Check: func(ctx context.Context) error {
			s, err := read(ctx, t, host)
			if err != nil {
				return err
			}
			if v, there := s.Service(sid); there {
				return fmt.Errorf("it is in state %s on %s", v.State, v.Node)
			}
			return nil
		},
	})
}
