package storage

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/storage"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/modules/internal/members"
)

//go:embed backup_job.md
var backupJobDoc string

type backupJobArgs struct {
	ID           string                   `hcl:"id,optional" doc:"The name of the job (default: the task's)." example:"\"nightly\""`
	Schedule     string                   `hcl:"schedule,optional" max:"128" doc:"When it runs, as a calendar event of Proxmox VE." example:"\"02:30\""`
	Storage      string                   `hcl:"storage,optional" doc:"The storage that backups go to." example:"\"pbs\""`
	Guests       []int                    `hcl:"guests,optional" each_min:"100" doc:"The ids of the guests that are backed up." example:"[100, 101]"`
	Pool         string                   `hcl:"pool,optional" doc:"The resource pool whose guests are backed up."`
	All          bool                     `hcl:"all,optional" default:"false" doc:"Back up every guest, but for those in exclude."`
	Exclude      []int                    `hcl:"exclude,optional" each_min:"100" doc:"Guests that are left out, with all or pool." example:"[900]"`
	Node         inventory.NodeRef        `hcl:"node,optional" doc:"The only node on which it runs (default: every node backs up its own guests)."`
	Mode         string                   `hcl:"mode,optional" oneof:"snapshot suspend stop" doc:"How a running guest is treated (default: as it is; at creation snapshot)."`
	Compress     string                   `hcl:"compress,optional" oneof:"0 1 gzip lzo zstd" doc:"How backups are compressed; backup servers do it themselves."`
	PruneBackups string                   `hcl:"prune_backups,optional" doc:"Which older backups are kept (default: what the storage says)." example:"\"keep-daily=7,keep-weekly=4\""`
	Notes        string                   `hcl:"notes,optional" max:"1024" doc:"The notes of each backup; {{guestname}}, {{node}}, {{vmid}} and {{cluster}} are filled in." example:"\"{{guestname}}\""`
	Fleecing     map[string]config.Scalar `hcl:"fleecing,optional" doc:"Whether writes of the guest go to a fast storage first: enabled and storage." example:"{ enabled = true, storage = \"local-lvm\" }"`
	Protected    *bool                    `hcl:"protected,optional" doc:"Whether backups are protected from removal."`
	RepeatMissed *bool                    `hcl:"repeat_missed,optional" doc:"Whether a run that was missed is made up for."`
	Enabled      *bool                    `hcl:"enabled,optional" doc:"Whether it runs (default: as it is; at creation yes)."`
	Comment      string                   `hcl:"comment,optional" max:"512" doc:"A note."`
	Options      map[string]config.Scalar `hcl:"options,optional" doc:"Further options of vzdump by their names." example:"{ mailnotification = \"failure\" }"`
	Remove       []string                 `hcl:"remove,optional" doc:"Options that must not be set, by their names in Proxmox VE." example:"[\"prune-backups\"]"`
	NewestWithin time.Duration            `hcl:"newest_within,optional" min:"1m" doc:"Every guest of the job must have a backup on the storage that is no older than this. A job that was made or rescheduled more recently than that is given its time." example:"\"26h\""`
	OnStale      string                   `hcl:"on_stale,optional" default:"refuse" oneof:"refuse warn" doc:"What a guest without such a backup does: stop the run here, or only be told of."`
	Ensure       string                   `hcl:"ensure,optional" default:"present" oneof:"present absent" doc:"Whether the job is there. Its backups stay in any case."`
}

var jobName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,49}$`)

// Validate checks what needs no cluster.
func (a *backupJobArgs) Validate() error {
	if a.ID != "" && !jobName.MatchString(a.ID) {
		return schema.At("id", fmt.Errorf("%q is no name for a job: letters, digits, dots, - and _, at most 50", a.ID))
	}
	if a.Ensure == "absent" {
		return nil
	}
	ways := 0
	for _, given := range []bool{len(a.Guests) > 0, a.Pool != "", a.All} {
		if given {
			ways++
		}
	}
	switch {
	case a.Schedule == "":
		return schema.At("schedule", errors.New("a backup job needs a schedule"))
	case config.CheckSchedule(a.Schedule) != nil:
		return schema.At("schedule", config.CheckSchedule(a.Schedule))
	case a.Storage == "":
		return schema.At("storage", errors.New("a backup job needs a storage"))
	case storage.CheckID(a.Storage) != nil:
		return schema.At("storage", storage.CheckID(a.Storage))
	case ways == 0:
		return schema.At("guests", errors.New("say which guests are backed up: guests, pool, or all = true"))
	case ways > 1:
		return schema.At("guests", errors.New("guests, pool and all exclude each other"))
	case len(a.Exclude) > 0 && len(a.Guests) > 0:
		return schema.At("exclude", errors.New("guests that are not named need not be excluded"))
	case strings.ContainsAny(a.Notes+a.Comment, "\n\r"):
		return schema.At("notes", errors.New(`notes and comment have one line; write \\n for a break in notes`))
	}
	wanted := a.wanted()
	for _, option := range a.Remove {
		if _, both := wanted[option]; both {
			return schema.At("remove", fmt.Errorf("%s is both wanted and to be removed", option))
		}
	}
	return nil
}

// wanted are the options that the job is to have, by Proxmox's names.
func (a *backupJobArgs) wanted() map[string]string {
	out := map[string]string{
		"schedule": a.Schedule, "storage": a.Storage, "vmid": ids(a.Guests), "pool": a.Pool, "exclude": ids(a.Exclude), "node": string(a.Node), "mode": a.Mode,
		"compress": a.Compress, "prune-backups": a.PruneBackups, "notes-template": a.Notes, "comment": a.Comment, "fleecing": properties(a.Fleecing),
	}
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
	if a.All {
		out["all"] = "1"
	}
	for option, value := range map[string]*bool{"protected": a.Protected, "repeat-missed": a.RepeatMissed, "enabled": a.Enabled} {
		if value != nil {
			out[option] = strconv.Itoa(map[bool]int{true: 1}[*value])
		}
	}
	for option, value := range a.Options {
		out[option] = string(value)
	}
	return out
}

// gone are the options that must not be there: those of the other ways to choose guests go with a change of the way.
func (a *backupJobArgs) gone() []string {
	out := slices.Clone(a.Remove)
	wanted := a.wanted()
	for _, option := range []string{"vmid", "pool", "all", "exclude"} {
		if _, kept := wanted[option]; !kept && !slices.Contains(out, option) {
			out = append(out, option)
		}
	}
	return out
}

func ids(list []int) string {
	var out []string
	for _, id := range list {
		out = append(out, strconv.Itoa(id))
	}
	return strings.Join(out, ",")
}

func properties(values map[string]config.Scalar) string {
	out := map[string]string{}
	for key, value := range values {
		out[key] = string(value)
	}
	return config.FormatProperties(out, "enabled")
}

type backupJobOut struct {
	ID      string           `hcl:"id" doc:"The name of the job."`
	Covered []int            `hcl:"covered" doc:"The guests that it backs up."`
	Newest  map[string]int64 `hcl:"newest" doc:"When each of them was last backed up, by id, in seconds since 1970. Empty without newest_within."`
	Stale   []int            `hcl:"stale" doc:"The guests without a backup that is new enough. Empty without newest_within."`
}

func backupJob() module.Module {
	return module.Define(module.Spec{
		Name: "backup_job", Summary: "Schedule backups, and see to it that each guest has one that is new enough", Doc: backupJobDoc, Scope: module.PerCluster,
	}, module.Funcs[backupJobArgs, backupJobOut]{
		Probes: func(t module.Target, _ backupJobArgs) []module.Probe { return probes(t) },
		Plan:   planBackupJob,
		Read:   readBackupJob,
	})
}

// ValidateTask checks the task's name where it is that of the job.
func (a *backupJobArgs) ValidateTask(name string) error {
	if a.ID == "" && !jobName.MatchString(name) {
		return fmt.Errorf("%q is no name for a job: give it one with id", name)
	}
	return nil
}

func (a *backupJobArgs) named(t module.Target) error {
	if a.ID == "" {
		a.ID = t.Task()
	}
	if !jobName.MatchString(a.ID) {
		return fmt.Errorf("%q is no name for a backup job: give it one with id", a.ID)
	}
	return nil
}

func (w *world) backupJob(id string) (config.Section, bool) {
	s, there := config.FindSection(w.Backups, id)
	return s, there && s.Type == "vzdump"
}

func planBackupJob(ctx context.Context, t module.Target, a backupJobArgs) ([]module.Change, error) {
	if err := a.named(t); err != nil {
		return nil, err
	}
	w, err := look(ctx, t, "backup job "+a.ID)
	if err != nil {
		return nil, err
	}
	have, there := w.backupJob(a.ID)
	actor := w.Actors[0]
	change := module.Change{ID: "backup_job/" + a.ID, Host: actor, Predicted: w.Coming}
	if a.Ensure == "absent" {
		if !there {
			return nil, nil
		}
		change.Action, change.Before, change.Summary = module.Delete, have.Values, "remove backup job "+a.ID+"; its backups stay"
		change.Apply = func(ctx context.Context, t module.Target) error { return removeBackupJob(ctx, t, actor, a.ID) }
		return []module.Change{change}, nil
	}
	if refusal := w.backupTarget(a); refusal != nil {
		return nil, module.Refusals{refusal}
	}
	w.warnUncovered(t, a)
	diffs := storage.CompareBackup(have, a.wanted(), a.gone())
	switch {
	case !there:
		change.Action, change.After, change.Summary = module.Create, a.wanted(), fmt.Sprintf("add backup job %s: %s to %s at %s", a.ID, a.choice(), a.Storage, a.Schedule)
	case len(diffs) > 0:
		change.Action, change.Summary = module.Update, fmt.Sprintf("change %s of backup job %s", optionsOf(diffs, nil), a.ID)
		change.Before, change.After = shownDifferences(diffs)
	default:
		return nil, w.checkAges(ctx, t, a, have)
	}
	change.Apply = func(ctx context.Context, t module.Target) error {
		return writeBackupJob(ctx, t, actor, a, there, diffs)
	}
	return []module.Change{change}, nil
}

// choice is which guests a job backs up, for people.
func (a *backupJobArgs) choice() string {
	switch {
	case a.All && len(a.Exclude) > 0:
		return "all guests but " + ids(a.Exclude)
	case a.All:
		return "all guests"
	case a.Pool != "":
		return "pool " + a.Pool
	}
	return "guests " + ids(a.Guests)
}

// backupTarget refuses a storage that takes no backups.
func (w *world) backupTarget(a backupJobArgs) *module.Refusal {
	s, there := w.Storage(a.Storage)
	refuse := func(saw, override string) *module.Refusal {
		return &module.Refusal{Gate: "backup job " + a.ID, Saw: saw, Want: "a storage that takes backups", Look: "pvesh get /storage/" + a.Storage, Override: override}
	}
	switch {
	case !there && slices.Contains(w.coming, a.Storage):
		return nil
	case !there:
		return refuse(fmt.Sprintf("there is no storage %s", a.Storage), "put a storage task before this one, or mend the name")
	case !slices.Contains(storage.Content(s), "backup"):
		return refuse(fmt.Sprintf("storage %s holds %s", a.Storage, strings.Join(storage.Content(s), ", ")), "add backup to its content, or name another storage")
	case a.Node != "" && !slices.Contains(storage.NodesOf(s, w.Nodes), string(a.Node)):
		return refuse(fmt.Sprintf("storage %s may not be used on %s", a.Storage, a.Node), "let the node use it, or name another node")
	}
	return nil
}

// warnUncovered tells of guests that are named and not there, and of guests on nodes that cannot reach the storage.
func (w *world) warnUncovered(t module.Target, a backupJobArgs) {
	wanted := config.Section{Type: "vzdump", ID: a.ID, Values: a.wanted()}
	covered := storage.Covered(wanted, w.Guests, w.Pools)
	for _, id := range a.Guests {
		if !slices.Contains(covered, id) {
			t.Warn(w.Actors[0], fmt.Sprintf("backup job %s names guest %d, which is not there", a.ID, id))
		}
	}
	if _, known := w.Pools[a.Pool]; a.Pool != "" && !known {
		t.Warn(w.Actors[0], fmt.Sprintf("backup job %s backs up pool %s, which is not there", a.ID, a.Pool))
	}
	s, there := w.Storage(a.Storage)
	if !there {
		return
	}
	for _, g := range w.Guests {
		id, _ := strconv.Atoi(g.ID)
		if slices.Contains(covered, id) && !slices.Contains(storage.NodesOf(s, w.Nodes), g.Node) {
			t.Warn(g.Node, fmt.Sprintf("guest %d lives here, and storage %s of backup job %s may not be used here", id, a.Storage, a.ID))
		}
	}
}

// writeBackupJob makes or changes the job and proves it. What differs is found anew: a retry goes on where it stopped, and what
// the plan did not show is not written over. existed and planned are what the plan saw.
func writeBackupJob(ctx context.Context, t module.Target, host string, a backupJobArgs, existed bool, planned []storage.Difference) error {
	for attempt := 0; ; attempt++ {
		w, err := look(ctx, t, "backup job "+a.ID)
		if err != nil {
			return err
		}
		have, there := w.backupJob(a.ID)
		diffs := storage.CompareBackup(have, a.wanted(), a.gone())
		if there && len(diffs) == 0 {
			return nil
		}
		if saw := jobSince(existed, there, planned, diffs); saw != "" && attempt == 0 {
			return changedMeanwhile("backup job "+a.ID, saw, "pvesh get /cluster/backup/"+a.ID)
		}
		if attempt > 0 {
			saw := "does not have job " + a.ID
			if there {
				saw = fmt.Sprintf("has %s of job %s as %s, wanted %s", diffs[0].Option, a.ID, orNothing(diffs[0].Have), orNothing(diffs[0].Want))
			}
			return fmt.Errorf("%s: pvesh succeeded, and /etc/pve/jobs.cfg %s", host, saw)
		}
		argv := []string{"pvesh", "create", "/cluster/backup", "--id", a.ID}
		set, gone := a.wanted(), []string(nil)
		if there {
			argv = []string{"pvesh", "set", "/cluster/backup/" + a.ID}
			set = map[string]string{}
			for _, d := range diffs {
				if d.Want == "" {
					gone = append(gone, d.Option)
				} else {
					set[d.Option] = d.Want
				}
			}
		}
		for _, option := range slices.Sorted(maps.Keys(set)) {
			argv = append(argv, "--"+option, set[option])
		}
		if len(gone) > 0 {
			argv = append(argv, "--delete", strings.Join(gone, ","))
		}
		if _, err := members.Run(ctx, t, host, strings.Join(argv[:3], " "), transport.Command{Argv: argv, Timeout: actTimeout}); err != nil {
			return err
		}
	}
}

// jobSince tells what has become of a job since the plan that the plan did not show; "" for nothing.
func jobSince(existed, there bool, planned, now []storage.Difference) string {
	switch {
	case existed && !there:
		return "it is not there any more"
	case !existed && there:
		return "there is a job of that name now, with other options"
	case !existed:
		return ""
	}
	return unplanned(planned, now)
}

func removeBackupJob(ctx context.Context, t module.Target, host, id string) error {
	c := transport.Command{Argv: []string{"pvesh", "delete", "/cluster/backup/" + id}, Timeout: actTimeout}
	if _, err := members.Run(ctx, t, host, strings.Join(c.Argv, " "), c); err != nil {
		return err
	}
	w, err := look(ctx, t, "backup job "+id)
	if err != nil {
		return err
	}
	if _, there := w.backupJob(id); there {
		return fmt.Errorf("%s: pvesh succeeded, and /etc/pve/jobs.cfg still has job %s", host, id)
	}
	return nil
}
