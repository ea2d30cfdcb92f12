package guest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/storage"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/moves"
)

//go:embed move_disk.md
var moveDiskDoc string

type moveDiskArgs struct {
	Guest        int           `hcl:"guest" min:"100" doc:"The id of the guest."`
	Disk         string        `hcl:"disk" doc:"The disk, by its key in the guest's config: scsi0, virtio1, rootfs, mp0."`
	Storage      string        `hcl:"storage" doc:"The storage to move it to."`
	Format       string        `hcl:"format,optional" oneof:"raw qcow2 vmdk" doc:"The format of its image there, of virtual machines and on storages that keep files (default: the storage's)."`
	DeleteSource bool          `hcl:"delete_source,optional" doc:"Whether the old volume is deleted. Without, it stays in the guest's config as an unused disk."`
	Restart      bool          `hcl:"restart,optional" doc:"Whether a container that runs may be stopped for it and started afterwards: its volumes cannot be moved while it runs."`
	Bwlimit      int           `hcl:"bwlimit,optional" min:"0" doc:"The most KiB a second; 0 is the datacenter's limit."`
	MoveTimeout  time.Duration `hcl:"move_timeout,optional" default:"6h" min:"1m" doc:"How long it may take. After it the run fails and the copy goes on: it is not cut off."`
}

var diskForm = regexp.MustCompile(`^(?:ide|sata|scsi|virtio|mp)\d+$|^(?:efidisk|tpmstate)0$|^rootfs$`)

// Validate checks the disk's name.
func (a *moveDiskArgs) Validate() error {
	if !diskForm.MatchString(a.Disk) {
		return schema.At("disk", fmt.Errorf("%q is no disk: write its key in the guest's config, like scsi0 or rootfs", a.Disk))
	}
	return nil
}

type moveDiskOut struct {
	Volume string `hcl:"volume" doc:"The volume that the disk is on."`
}

func moveDisk() module.Module {
	return module.Define(module.Spec{
		Name: "move_disk", Summary: "Move a guest's disk to another storage", Doc: moveDiskDoc, Scope: module.PerCluster,
	}, module.Funcs[moveDiskArgs, moveDiskOut]{
		Probes: func(t module.Target, _ moveDiskArgs) []module.Probe { return probes(t) },
		Plan:   planMoveDisk,
		Read: func(ctx context.Context, t module.Target, args moveDiskArgs) (moveDiskOut, error) {
			w, err := look(ctx, t, "the guest")
			if err != nil {
				return moveDiskOut{}, err
			}
			g, _ := w.Guest(args.Guest)
			v, _ := diskOf(g, args.Disk)
			return moveDiskOut{Volume: v.File}, nil
		},
	})
}

func diskOf(g guest.Guest, key string) (guest.Volume, bool) {
	i := slices.IndexFunc(g.Volumes, func(v guest.Volume) bool { return v.Key == key && !v.Detached })
	if i < 0 {
		return guest.Volume{}, false
	}
	return g.Volumes[i], true
}

// disk is the volume of a disk, as plans show it.
type disk struct {
	Volume string `json:"volume"`
	Size   string `json:"size,omitempty"`
	Source string `json:"source,omitempty"` // what becomes of the old volume
	Takes  string `json:"takes,omitempty"`
}

func planMoveDisk(ctx context.Context, t module.Target, args moveDiskArgs) ([]module.Change, error) {
	gate := fmt.Sprintf("move %s of guest %d to storage %s", args.Disk, args.Guest, args.Storage)
	w, err := look(ctx, t, gate)
	if err != nil {
		return nil, err
	}
	g, there := w.Guest(args.Guest)
	if !there && len(t.Planned()) > 0 {
		return []module.Change{{
			ID: diskID(args), Host: w.actor, Action: module.Update, Summary: gate, After: disk{Volume: args.Storage + ":…"},
			Predicted: "the guest does not exist yet: an earlier task may bring it",
			Apply:     func(context.Context, module.Target) error { return fmt.Errorf("guest %d does not exist", args.Guest) },
		}}, nil
	}
	v, has := diskOf(g, args.Disk)
	if there && has && v.Storage == args.Storage && (args.Format == "" || v.Format == args.Format) {
		return nil, nil
	}
	if there && leftOut(t, g, g.Node) {
		return nil, nil
	}
	w.ask(ctx, t, []string{g.Node})
	if refusals := w.refuseDisk(gate, g, there, args); len(refusals) > 0 {
		if waits := plannedStorage(t.Planned(), args.Storage); waits == "" || len(refusals) > 1 {
			return nil, refusals
		}
	}
	changes := w.diskChanges(g, v, args)
	for i := range changes {
		changes[i].Predicted = plannedStorage(t.Planned(), args.Storage)
	}
	return changes, nil
}

func diskID(args moveDiskArgs) string { return fmt.Sprintf("guest/%d/%s", args.Guest, args.Disk) }

// plannedStorage is why a storage is there only later: an earlier task makes it.
func plannedStorage(planned []module.Planned, name string) string {
	for _, p := range planned {
		if p.Module == "storage" && strings.HasSuffix(p.ID, "/"+name) && p.Action != module.Delete {
			return "storage " + name + " comes with an earlier task"
		}
	}
	return ""
}

// refuseDisk is what speaks against moving a disk (reference §6.2 and the refusals of qm move-disk).
func (w *world) refuseDisk(gate string, g guest.Guest, there bool, args moveDiskArgs) module.Refusals {
	var out module.Refusals
	no := func(saw, want, look, override string) {
		out = append(out, &module.Refusal{Host: g.Node, Gate: gate, Saw: saw, Want: want, Look: look, Override: override})
	}
	if !there {
		no(fmt.Sprintf("guest %d does not exist", args.Guest), "a guest of the cluster", "pvesh get /cluster/resources --type vm", "mend the id")
		return out
	}
	show := fmt.Sprintf("%s config %d", g.Kind.Tool(), g.ID)
	v, has := diskOf(g, args.Disk)
	running, known := w.Runs(g)
	switch {
	case !has:
		no(fmt.Sprintf("%s has no disk %s", g, args.Disk), "one of its disks", show, "mend the name of the disk")
		return out
	case v.CDROM:
		no(args.Disk+" is a CD drive", "a disk", show, "mend the name of the disk")
	case v.Storage == "":
		no(fmt.Sprintf("%s is %s of the node", args.Disk, v.File), "a volume of a storage", show, "none: there is no volume to move")
	}
	if !known {
		no("whether it runs on "+g.Node+" is not known", "its state", fmt.Sprintf("%s status %d", g.Kind.Tool(), g.ID), "bring the node back")
	}
	if g.Lock != "" {
		no(fmt.Sprintf("it is locked (%s)", g.Lock), "no lock", fmt.Sprintf("pvesh get /nodes/%s/tasks --vmid %d --source active", g.Node, g.ID),
			"wait for the task that holds it; pxrun never takes a lock away")
	}
	if s := g.Managed.Service.State; g.ByHA() && s != "" && s != "started" && s != "stopped" {
		no(fmt.Sprintf("the HA manager is at work on it: state %s on %s", s, g.Managed.Service.Node), "started or stopped", "ha-manager status", "wait until it is done")
	}
	if g.Kind == guest.CT && running && !args.Restart {
		no("the container runs: its volumes cannot be moved meanwhile", "a container that is stopped", fmt.Sprintf("pct status %d", g.ID), "restart = true, which stops it for as long as the copy takes")
	}
	if g.Kind == guest.CT && running && args.Restart && g.ByHA() {
		no("the container runs under HA, which starts it again when it is stopped", "a container that may be stopped", "ha-manager status", "take it out of HA or set its state to stopped first")
	}
	if g.Kind == guest.CT && args.Format != "" {
		no("format is of virtual machines' images", "no format", show, "leave format out")
	}
	if args.DeleteSource && v.Snapshot != "" {
		no(fmt.Sprintf("the snapshot %s needs the old volume", v.Snapshot), "no snapshots of the disk", fmt.Sprintf("%s listsnapshot %d", g.Kind.Tool(), g.ID), "remove the snapshot, or delete_source = false")
	}
	w.refuseStorage(no, g, args)
	return out
}

// refuseStorage is what speaks against the storage.
func (w *world) refuseStorage(no func(saw, want, look, override string), g guest.Guest, args moveDiskArgs) {
	content, look := "images", "pvesm status; cat /etc/pve/storage.cfg"
	if g.Kind == guest.CT {
		content = "rootdir"
	}
	s, there := config.FindSection(w.Storages, args.Storage)
	switch {
	case !there:
		no(fmt.Sprintf("storage %s does not exist", args.Storage), "a storage of the cluster", look, "mend the name, or put a storage task before this one")
	case s.Is("disable"):
		no(fmt.Sprintf("storage %s is disabled", args.Storage), "an enabled one", look, "enable it")
	case len(storage.NodesOf(s, []string{g.Node})) == 0:
		no(fmt.Sprintf("storage %s is not available on %s", args.Storage, g.Node), "one of the guest's node", look, "another storage, or move the guest first")
	case !slices.Contains(storage.Content(s), content):
		no(fmt.Sprintf("storage %s does not take content %s", args.Storage, content), "one that does", look, fmt.Sprintf("add %s to its content", content))
	}
}

// diskChanges are the changes that move a disk: a container that runs is stopped before and started after.
func (w *world) diskChanges(g guest.Guest, v guest.Volume, args moveDiskArgs) []module.Change {
	after := disk{Volume: args.Storage + ":…", Size: guest.FormatBytes(v.Size), Source: "stays as an unused disk"}
	if args.DeleteSource {
		after.Source = "is deleted"
	}
	if v.Size > 0 {
		after.Takes = "about " + rough(time.Duration(float64(v.Size)/float64(speedOf(args.Bwlimit))*float64(time.Second))) + " at " + guest.FormatBytes(int64(speedOf(args.Bwlimit))) + "/s"
	}
	move := module.Change{
		ID: diskID(args), Host: g.Node, Action: module.Update, Summary: fmt.Sprintf("move %s of %s from %s to %s", args.Disk, g, v.Storage, args.Storage),
		Before: disk{Volume: v.File, Size: guest.FormatBytes(v.Size)}, After: after,
		Apply: func(ctx context.Context, t module.Target) error {
			return (&diskMover{actor: w.actor, guest: g, volume: v, args: args}).move(ctx, t)
		},
	}
	if running, _ := w.Runs(g); g.Kind != guest.CT || !running {
		return []module.Change{move}
	}
	id := strconv.Itoa(g.ID)
	down, up := diskID(args)+"/stop", diskID(args)+"/start"
	return []module.Change{
		{
			ID: down, Host: g.Node, Action: module.Run, Risk: module.RiskDisruptive, Summary: fmt.Sprintf("shut %s down while %s is copied", g, args.Disk),
			Undo: &module.Undo{Host: g.Node, Summary: fmt.Sprintf("start %s", g), Command: transport.Command{
				Script: `pct status "$1" | grep -q running || pct start "$1"`, Argv: []string{id}, Mutates: true, Timeout: 2 * time.Minute,
			}},
			Apply: func(ctx context.Context, t module.Target) error {
				return w.containerTo(ctx, t, g, false, "pct", "shutdown", id, "--timeout", "180", "--forceStop", "1")
			},
		},
		move,
		{
			ID: up, Host: g.Node, Action: module.Run, Summary: fmt.Sprintf("start %s", g), Undoes: []string{down},
			Apply: func(ctx context.Context, t module.Target) error {
				return w.containerTo(ctx, t, g, true, "pct", "start", id)
			},
		},
	}
}

// speedOf is what the estimate of a copy within a node rests on: what a single good disk writes.
func speedOf(bwlimit int) guest.Speed {
	const local = 200 << 20
	if bwlimit > 0 {
		return min(guest.Speed(bwlimit)<<10, local)
	}
	return local
}

// containerTo starts or stops a container and waits until it has.
func (w *world) containerTo(ctx context.Context, t module.Target, g guest.Guest, up bool, argv ...string) error {
	r, err := t.Detach(ctx, g.Node, module.Job{Name: fmt.Sprintf("%s-%d", argv[1], g.ID), Command: transport.Command{Argv: argv, Mutates: true}, Timeout: 5 * time.Minute})
	if err != nil {
		return err
	}
	word := map[bool]string{true: "runs", false: "is stopped"}[up]
	err = t.WaitFor(ctx, module.Condition{Name: fmt.Sprintf("%s %s", g, word), Timeout: time.Minute, Check: func(ctx context.Context) error {
		now, err := again(ctx, t, w.actor, g.Node)
		if err != nil {
			return err
		}
		if running, known := now.Runs(g); !known || running != up {
			return errors.New("it is not so yet (look: pct status " + strconv.Itoa(g.ID) + ")")
		}
		return nil
	}})
	if err != nil && r.Exit != 0 {
		var lines moves.Tail
		lines.Add(string(r.Stdout))
		lines.Add(string(r.Stderr))
		return fmt.Errorf("%s: exit %d: %s", strings.Join(argv[:3], " "), r.Exit, moves.Because(lines.Text()))
	}
	return err
}
