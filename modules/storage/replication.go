package storage

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
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/storage"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed replication.md
var replicationDoc string

type replicationArgs struct {
	Guest    int               `hcl:"guest" min:"100" max:"999999999" doc:"The id of the guest." example:"100"`
	Target   inventory.NodeRef `hcl:"target" doc:"The node that gets a copy. When the guest itself lives there, the copy is where it came from." example:"cluster.lab.pve2"`
	Number   *int              `hcl:"number,optional" min:"0" max:"999999999" doc:"The number in the job's name, such as 0 in 100-0 (default: that of the job to this target, else the lowest free one)."`
	Schedule string            `hcl:"schedule,optional" max:"128" doc:"When it runs, as a calendar event of Proxmox VE (default: as it is; at creation every 15 minutes)." example:"\"*/5\""`
	Rate     *float64          `hcl:"rate,optional" min:"1" doc:"At most this many megabytes a second."`
	Comment  string            `hcl:"comment,optional" max:"4096" doc:"A note."`
	Disable  *bool             `hcl:"disable,optional" doc:"Whether it does not run for the time being."`
	Remove   []string          `hcl:"remove,optional" oneof:"schedule rate comment disable" doc:"Options that must not be set." example:"[\"rate\"]"`
	Ensure   string            `hcl:"ensure,optional" default:"present" oneof:"present absent" doc:"Whether the job is there. With it goes the copy, for which both nodes must be there."`
	Within   time.Duration     `hcl:"within,optional" default:"30m" min:"1m" doc:"How long the first copy may take, and the removal."`
}

// Validate checks what needs no cluster.
func (a *replicationArgs) Validate() error {
	if a.Schedule != "" && config.CheckSchedule(a.Schedule) != nil {
		return schema.At("schedule", config.CheckSchedule(a.Schedule))
	}
	wanted := a.wanted()
	for _, option := range a.Remove {
		if _, both := wanted[option]; both {
			return schema.At("remove", fmt.Errorf("%s is both wanted and to be removed", option))
		}
	}
	if strings.ContainsAny(a.Comment, "\n\r") {
		return schema.At("comment", errors.New("a comment has one line"))
	}
	return nil
}

// wanted are the options that the job is to have, by Proxmox's names.
func (a *replicationArgs) wanted() map[string]string {
	out := map[string]string{}
	if a.Schedule != "" {
		out["schedule"] = a.Schedule
	}
	if a.Rate != nil {
		out["rate"] = strconv.FormatFloat(*a.Rate, 'f', -1, 64)
	}
	if a.Comment != "" {
		out["comment"] = a.Comment
	}
	if a.Disable != nil {
		out["disable"] = strconv.Itoa(map[bool]int{true: 1}[*a.Disable])
	}
	return out
}

type replicationOut struct {
	ID       string `hcl:"id" doc:"The name of the job; empty if there is none."`
	Source   string `hcl:"source" doc:"The node that the guest is on."`
	Target   string `hcl:"target" doc:"The node that has the copy."`
	LastSync int64  `hcl:"last_sync" doc:"When the copy was last brought up to date, in seconds since 1970; 0 for never."`
	Failures int    `hcl:"failures" doc:"How often it has failed since then."`
	Error    string `hcl:"error" doc:"What it said the last time that it failed."`
}

func replication() module.Module {
	return module.Define(module.Spec{
		Name: "replication", Summary: "Keep a copy of a guest's disks on another node", Doc: replicationDoc, Scope: module.PerCluster,
	}, module.Funcs[replicationArgs, replicationOut]{
		Probes: func(t module.Target, _ replicationArgs) []module.Probe { return probes(t) },
		Plan:   planReplication,
		Read:   readReplication,
	})
}

func (a *replicationArgs) gate() string {
	return fmt.Sprintf("replicate guest %d to %s", a.Guest, a.Target)
}

// decision is what the state of a cluster says about a wanted job.
type decision struct {
	source string // the node that the guest is on
	target string // the node that the copy goes to
	job    storage.Job
	exists bool
	turned bool // the guest lives where its copy was wanted, and the copy is where it came from
	diffs  []storage.Difference
}

// decide finds the job of an intent. A guest and a node have at most one job with each other, whichever way it leads.
func (w *world) decide(a replicationArgs) (decision, *module.Refusal) {
	refuse := func(saw, want, look, override string) (decision, *module.Refusal) {
		return decision{}, &module.Refusal{Gate: a.gate(), Saw: saw, Want: want, Look: look, Override: override}
	}
	i := slices.IndexFunc(w.Guests, func(g pve.Guest) bool { return g.ID == strconv.Itoa(a.Guest) })
	if i < 0 {
		return refuse(fmt.Sprintf("there is no guest %d", a.Guest), "a guest of this id", "cat /etc/pve/.vmlist", "make the guest first, or mend the id")
	}
	d := decision{source: w.Guests[i].Node, target: string(a.Target)}
	if d.source == d.target {
		// The guest has moved to where its copy was: the job turned round with it (reference §10).
		j := slices.IndexFunc(w.Jobs, func(j storage.Job) bool {
			return j.Guest == a.Guest && j.Removing == "" && (a.Number == nil || j.ID == a.name(*a.Number))
		})
		if j < 0 {
			return refuse(fmt.Sprintf("guest %d lives on %s itself", a.Guest, a.Target), "a target that the guest is not on", "cat /etc/pve/.vmlist",
				"name the node that the copy is to be on, or migrate the guest away first")
		}
		d.job, d.exists, d.turned, d.target = w.Jobs[j], true, true, w.Jobs[j].Target
	} else if j := slices.IndexFunc(w.Jobs, func(j storage.Job) bool { return j.Guest == a.Guest && j.Target == d.target }); j >= 0 {
		d.job, d.exists = w.Jobs[j], true
	}
	if !slices.Contains(w.Nodes, d.target) {
		return refuse(fmt.Sprintf("%s is no node of the cluster, which has %s", d.target, strings.Join(w.Nodes, ", ")), "a node of the cluster", "pvecm nodes", "mend target, or join the node first")
	}
	if d.exists && a.Number != nil && d.job.ID != a.name(*a.Number) {
		return refuse(fmt.Sprintf("job %s replicates guest %d to %s already", d.job.ID, a.Guest, d.target), "job "+a.name(*a.Number), "cat /etc/pve/replication.cfg",
			"leave number out, or remove the other job; a guest has one job to a node")
	}
	if d.exists {
		d.diffs = a.compare(d.job)
	}
	return d, nil
}

func (a *replicationArgs) name(number int) string { return fmt.Sprintf("%d-%d", a.Guest, number) }

// compare says in which options a job differs.
func (a *replicationArgs) compare(j storage.Job) []storage.Difference {
	have := map[string]string{"schedule": j.Schedule, "rate": j.Rate, "comment": j.Comment, "disable": strconv.Itoa(map[bool]int{true: 1}[j.Disabled])}
	wanted := a.wanted()
	var out []storage.Difference
	for _, option := range []string{"comment", "disable", "rate", "schedule"} {
		want, named := wanted[option]
		switch {
		case named && option == "rate" && sameNumber(have[option], want):
		case named && want != have[option]:
			out = append(out, storage.Difference{Option: option, Have: have[option], Want: want})
		case slices.Contains(a.Remove, option) && have[option] != map[string]string{"schedule": storage.DefaultSchedule, "disable": "0"}[option]:
			out = append(out, storage.Difference{Option: option, Have: have[option]})
		}
	}
	return out
}

func sameNumber(a, b string) bool {
	x, err := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return err == nil && err2 == nil && x == y
}

// gates refuses what Proxmox would refuse, or would take and fail at again and again.
func (w *world) gates(a replicationArgs, d decision) *module.Refusal {
	storages := slices.Clone(w.Storages)
	for _, id := range w.coming {
		storages = append(storages, config.Section{Type: "zfspool", ID: id}) // whether it is one is seen when it is there
	}
	ids, why := storage.Replicatable(a.Guest, w.Drives, storages)
	if why != "" {
		return &module.Refusal{
			Gate: a.gate(), Saw: fmt.Sprintf("guest %d cannot be replicated: %s", a.Guest, why), Want: "every disk on ZFS (zfspool), or marked replicate=0",
			Look:     fmt.Sprintf("grep -E '^(scsi|virtio|sata|ide|efidisk|tpmstate|rootfs|mp)[0-9]*:' /etc/pve/nodes/%s/*/%d.conf", d.source, a.Guest),
			Override: "move its disks to a storage of type zfspool, or exclude them from replication in the guest's config",
		}
	}
	for _, id := range ids {
		s, there := w.Storage(id)
		if !there {
			continue
		}
		for _, node := range []string{d.source, d.target} {
			if s.Is("disable") || !slices.Contains(storage.NodesOf(s, w.Nodes), node) {
				return &module.Refusal{
					Gate: a.gate(), Saw: fmt.Sprintf("storage %s is not available on %s", id, node), Want: "the same ZFS storage on source and target",
					Look: "pvesh get /storage/" + id, Override: "let the storage be used on that node, or name another target",
				}
			}
		}
	}
	return nil
}

func planReplication(ctx context.Context, t module.Target, a replicationArgs) ([]module.Change, error) {
	w, err := look(ctx, t, a.gate())
	if err != nil {
		return nil, err
	}
	if a.Ensure == "absent" {
		return w.planNoReplication(t, a)
	}
	d, refusal := w.decide(a)
	if refusal != nil {
		return nil, module.Refusals{refusal}
	}
	id := d.job.ID
	if !d.exists {
		if refusal := w.gates(a, d); refusal != nil {
			return nil, module.Refusals{refusal}
		}
		id = a.name(a.number(w.Jobs))
	}
	change := module.Change{ID: "replication/" + id, Host: d.source, Predicted: w.Coming}
	for _, r := range w.Drives {
		if r.Guest == a.Guest && slices.Contains(w.coming, r.Storage()) {
			change.Predicted = "storage " + r.Storage() + " is made in an earlier task"
		}
	}
	switch {
	case !d.exists:
		after := map[string]any{"job": id, "source": d.source, "target": d.target}
		for option, value := range a.wanted() {
			after[option] = value
		}
		change.Action, change.After = module.Create, after
		change.Summary = fmt.Sprintf("replicate guest %d from %s to %s (job %s)", a.Guest, d.source, d.target, id)
		change.Apply = func(ctx context.Context, t module.Target) error { return createReplication(ctx, t, a, id) }
	case d.job.Removing != "":
		return nil, module.Refusals{{
			Gate: a.gate(), Saw: "job " + id + " is being removed", Want: "a job that stays", Look: "cat /etc/pve/replication.cfg", Override: "wait until the scheduler has removed it, then apply again",
		}}
	case len(d.diffs) > 0:
		change.Action = module.Update
		change.Before, change.After = shownDifferences(d.diffs)
		change.Summary = fmt.Sprintf("change %s of replication job %s", optionsOf(d.diffs, nil), id)
		change.Apply = func(ctx context.Context, t module.Target) error { return updateReplication(ctx, t, a, id, d.diffs) }
	default:
		return nil, w.warnReplication(ctx, t, d)
	}
	return []module.Change{change}, nil
}

func (a *replicationArgs) number(jobs []storage.Job) int {
	if a.Number != nil {
		return *a.Number
	}
	return storage.FreeNumber(jobs, a.Guest)
}

// warnReplication tells of a job that is as wanted and fails.
func (w *world) warnReplication(ctx context.Context, t module.Target, d decision) error {
	if d.turned {
		t.Log(d.source, fmt.Sprintf("guest %d lives where its copy was wanted; its copy is on %s", d.job.Guest, d.target))
	}
	if d.job.Disabled || !w.View.Online(d.source) {
		return nil
	}
	sync, err := syncOf(ctx, t, d.source, d.job)
	if err != nil {
		return err
	}
	if sync.Failures > 0 {
		t.Warn(d.source, fmt.Sprintf("replication job %s has failed %d times: %s (look: pvesr status; cat /var/log/pve/replicate/%s)", d.job.ID, sync.Failures, sync.Error, d.job.ID))
	}
	return nil
}

// syncOf is how a job went last.
func syncOf(ctx context.Context, t module.Target, source string, job storage.Job) (storage.Sync, error) {
	conn, err := t.Conn(ctx, source)
	if err != nil {
		return storage.Sync{}, err
	}
	l, err := storage.ReadLocal(ctx, source, conn)
	if err != nil {
		return storage.Sync{}, err
	}
	if why, bad := l.Unread["syncs"]; bad {
		return storage.Sync{}, fmt.Errorf("%s: the state of its replication jobs could not be read: %s", source, why)
	}
	return l.Syncs[job.Guest][job.Target], nil
}

func readReplication(ctx context.Context, t module.Target, a replicationArgs) (replicationOut, error) {
	w, err := look(ctx, t, a.gate())
	if err != nil {
		return replicationOut{}, err
	}
	d, refusal := w.decide(a)
	if refusal != nil || !d.exists {
		return replicationOut{Source: d.source, Target: d.target}, nil //nolint:nilerr // what is not there has no state
	}
	out := replicationOut{ID: d.job.ID, Source: d.source, Target: d.target}
	if w.View.Online(d.source) {
		sync, err := syncOf(ctx, t, d.source, d.job)
		if err != nil {
			return out, err
		}
		out.LastSync, out.Failures, out.Error = sync.LastSync, sync.Failures, sync.Error
	}
	return out, nil
}

// replicate makes the command of pvesr for options.
func replicate(verb []string, options map[string]string, remove []string) transport.Command {
	c := transport.Command{Argv: append([]string{"pvesr"}, verb...), Timeout: actTimeout}
	for _, option := range []string{"comment", "disable", "rate", "schedule"} {
		if value, ok := options[option]; ok {
			c.Argv = append(c.Argv, "--"+option, value)
		}
	}
	if len(remove) > 0 {
		c.Argv = append(c.Argv, "--delete", strings.Join(remove, ","))
	}
	return c
}
