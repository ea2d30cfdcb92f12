package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/storage"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/members"
)

// again reads the world and decides anew: between plan and apply a guest may have moved.
func again(ctx context.Context, t module.Target, a replicationArgs) (*world, decision, error) {
	w, err := look(ctx, t, a.gate())
	if err != nil {
		return nil, decision{}, err
	}
	d, refusal := w.decide(a)
	if refusal != nil {
		return nil, d, module.Refusals{refusal}
	}
	return w, d, nil
}

func createReplication(ctx context.Context, t module.Target, a replicationArgs, id string) error {
	w, d, err := again(ctx, t, a)
	if err != nil {
		return err
	}
	actor := w.Actor([]string{d.source})
	if _, err := members.Run(ctx, t, actor, "pvesr create-local-job "+id, replicate([]string{"create-local-job", id, d.target}, a.wanted(), nil)); err != nil {
		return err
	}
	if w, d, err = again(ctx, t, a); err != nil {
		return err
	}
	if !d.exists || len(d.diffs) > 0 {
		return fmt.Errorf("%s: pvesr succeeded, and /etc/pve/replication.cfg does not have job %s as wanted", actor, id)
	}
	if d.job.Disabled || !w.View.Online(d.source) {
		return nil
	}
	return awaitFirstSync(ctx, t, a, d)
}

// awaitFirstSync waits until the copy is there for the first time. A job that fails is tried again by Proxmox after five
// minutes, so that its error is told at once.
func awaitFirstSync(ctx context.Context, t module.Target, a replicationArgs, d decision) error {
	return t.WaitFor(ctx, module.Condition{
		Name: fmt.Sprintf("%s has a copy of guest %d", d.target, a.Guest), Timeout: a.Within, Every: 10 * time.Second,
		Check: func(ctx context.Context) error {
			sync, err := syncOf(ctx, t, d.source, d.job)
			switch {
			case err != nil:
				return err
			case sync.LastSync > 0:
				return nil
			case sync.Failures > 0:
				return module.Fatal(fmt.Errorf("%s: replication job %s failed: %s (look: pvesr status; cat /var/log/pve/replicate/%s). Proxmox VE goes on trying: after 5, 10, 15, then every 30 minutes", d.source, d.job.ID, sync.Error, d.job.ID))
			case sync.Running:
				return errors.New("it is being copied (look: pvesr status)")
			}
			return errors.New("the scheduler has not begun (look: systemctl status pvescheduler)")
		},
	})
}

func updateReplication(ctx context.Context, t module.Target, a replicationArgs, id string, planned []storage.Difference) error {
	w, d, err := again(ctx, t, a)
	switch {
	case err != nil:
		return err
	case !d.exists || d.job.ID != id:
		return changedMeanwhile(a.gate(), "job "+id+" is not there any more", "cat /etc/pve/replication.cfg")
	case len(d.diffs) == 0:
		return nil
	}
	if saw := unplanned(planned, d.diffs); saw != "" {
		return changedMeanwhile(a.gate(), saw, "pvesr read "+id)
	}
	set, gone := split(d.diffs)
	actor := w.Actor([]string{d.source})
	if _, err := members.Run(ctx, t, actor, "pvesr update "+id, replicate([]string{"update", id}, set, gone)); err != nil {
		return err
	}
	_, after, err := again(ctx, t, a)
	if err != nil {
		return err
	}
	if len(after.diffs) > 0 {
		return fmt.Errorf("%s: pvesr succeeded, and %s of job %s is %s, wanted %s", actor, after.diffs[0].Option, id, orNothing(after.diffs[0].Have), orNothing(after.diffs[0].Want))
	}
	return nil
}

// planNoReplication removes the job between the guest and the node, whichever way it leads.
func (w *world) planNoReplication(t module.Target, a replicationArgs) ([]module.Change, error) {
	i := slices.IndexFunc(w.Jobs, func(j storage.Job) bool {
		return j.Guest == a.Guest && (j.Target == string(a.Target) || j.Source == string(a.Target)) && (a.Number == nil || j.ID == a.name(*a.Number))
	})
	if i < 0 {
		return nil, nil
	}
	job := w.Jobs[i]
	for _, node := range []string{job.Source, job.Target} {
		if node != "" && !w.View.Online(node) {
			return nil, module.Refusals{{
				Gate: "remove replication job " + job.ID, Saw: node + " is not there", Want: "both nodes, which remove the copy together", Look: "pvecm status",
				Override: "bring the node back; pxrun never takes a job away by force, which leaves the copy behind",
			}}
		}
	}
	summary := fmt.Sprintf("remove replication job %s and the copy of guest %d on %s", job.ID, a.Guest, job.Target)
	if job.Removing != "" {
		summary = "wait until replication job " + job.ID + " is gone"
	}
	actor := w.Actor([]string{job.Source})
	return []module.Change{{
		ID: "replication/" + job.ID, Host: actor, Action: module.Delete, Risk: module.RiskDestructive, Summary: summary,
		Before: map[string]any{"job": job.ID, "source": job.Source, "target": job.Target, "schedule": job.Schedule}, Predicted: w.Coming,
		Apply: func(ctx context.Context, t module.Target) error { return removeReplication(ctx, t, a, actor, job) },
	}}, nil
}

// removeReplication marks the job; the scheduler of the source removes it with its copy.
func removeReplication(ctx context.Context, t module.Target, a replicationArgs, actor string, job storage.Job) error {
	if job.Removing == "" {
		c := transport.Command{Argv: []string{"pvesr", "delete", job.ID}, Timeout: actTimeout}
		if _, err := members.Run(ctx, t, actor, "pvesr delete "+job.ID, c); err != nil {
			return err
		}
	}
	return t.WaitFor(ctx, module.Condition{
		Name: "replication job " + job.ID + " is gone", Timeout: a.Within, Every: 10 * time.Second,
		Check: func(ctx context.Context) error {
			w, err := look(ctx, t, a.gate())
			if err != nil {
				return err
			}
			if slices.ContainsFunc(w.Jobs, func(j storage.Job) bool { return j.ID == job.ID }) {
				return fmt.Errorf("it still stands in /etc/pve/replication.cfg: the scheduler on %s removes it (look: pvesr status; systemctl status pvescheduler)", strings.TrimSpace(job.Source))
			}
			return nil
		},
	})
}
