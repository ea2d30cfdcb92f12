package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/storage"
	"github.com/pxrun/pxrun/internal/transport"
)

// listTimeout bounds the list of a storage's backups, which may have to be mounted first, or hang.
const listTimeout = 90 * time.Second

// ages is what is known of the backups of a job's guests.
type ages struct {
	covered []int
	newest  map[int]storage.Backup
	stale   []int
	now     time.Time
}

// readAges lists the backups on the job's storage, from a node that may use it. The list is asked of Proxmox: only it knows
// where backups lie on each type of storage, and when they were made.
func (w *world) readAges(ctx context.Context, t module.Target, a backupJobArgs, job config.Section) (ages, error) {
	out := ages{covered: storage.Covered(job, w.Guests, w.Pools), now: w.Now}
	s, there := w.Storage(a.Storage)
	if !there {
		return out, fmt.Errorf("storage %s is not there", a.Storage)
	}
	host := w.Actor(storage.NodesOf(s, w.Nodes))
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return out, err
	}
	path := "/nodes/" + host + "/storage/" + a.Storage + "/content"
	c := transport.Command{Argv: []string{"timeout", "-k", "2", "75", "pvesh", "get", path, "--content", "backup", "--output-format", "json"}, Timeout: listTimeout, Own: true}
	r, err := conn.Run(ctx, c)
	_, killed := errors.AsType[*transport.TimeoutError](err)
	switch {
	case killed || err == nil && (r.Exit == 124 || r.Exit == 137):
		return out, fmt.Errorf("%s: storage %s gives no answer (look on %s: timeout 30 pvesm list %s --content backup)", host, a.Storage, host, a.Storage)
	case err != nil:
		return out, err
	case r.Exit != 0:
		return out, fmt.Errorf("%s: the backups on storage %s could not be listed: %s", host, a.Storage, strings.Join(strings.Fields(string(r.Stderr)), " "))
	}
	all, err := storage.ParseBackups(r.Stdout)
	if err != nil {
		return out, fmt.Errorf("%s: storage %s: %w", host, a.Storage, err)
	}
	out.newest = storage.Newest(all)
	out.stale = storage.Stale(out.covered, out.newest, w.Now, a.NewestWithin)
	return out, nil
}

// young reports whether a job was made or rescheduled so recently that a guest cannot be asked for a backup of it yet.
func (w *world) young(ctx context.Context, t module.Target, a backupJobArgs) (bool, error) {
	for _, host := range w.Actors {
		conn, err := t.Conn(ctx, host)
		if err != nil {
			return false, err
		}
		l, err := storage.ReadLocal(ctx, host, conn)
		if err != nil {
			return false, err
		}
		if since, known := l.JobsSince[a.ID]; known && w.Now.Sub(since) < a.NewestWithin {
			return true, nil
		}
	}
	return false, nil
}

// checkAges is the gate on the age of backups. What cannot be read counts as closed.
func (w *world) checkAges(ctx context.Context, t module.Target, a backupJobArgs, job config.Section) error {
	if a.NewestWithin == 0 {
		return nil
	}
	gate := func(saw string) *module.Refusal {
		return &module.Refusal{
			Gate: fmt.Sprintf("backups of job %s are no older than %s", a.ID, a.NewestWithin), Saw: saw, Want: "a backup of every guest that is newer",
			Look:     "pvesm list " + a.Storage + " --content backup",
			Override: `make one: vzdump <guest> --storage ` + a.Storage + `; or set on_stale = "warn"`,
		}
	}
	found, err := w.readAges(ctx, t, a, job)
	if err != nil {
		return w.stale(t, a, gate(err.Error()))
	}
	if len(found.stale) == 0 {
		return nil
	}
	young, err := w.young(ctx, t, a)
	if err != nil {
		return err
	}
	if young {
		t.Log(w.Actors[0], fmt.Sprintf("backup job %s is younger than %s: its guests are given the time for their first backup", a.ID, a.NewestWithin))
		return nil
	}
	return w.stale(t, a, gate(found.tell()))
}

func (w *world) stale(t module.Target, a backupJobArgs, refusal *module.Refusal) error {
	if a.OnStale == "warn" {
		t.Warn(w.Actors[0], refusal.Gate+": "+refusal.Saw)
		return nil
	}
	return module.Refusals{refusal}
}

// tell says which guests have no backup that is new enough, and how old the newest is.
func (f ages) tell() string {
	var out []string
	for _, id := range f.stale {
		b, there := f.newest[id]
		if !there {
			out = append(out, fmt.Sprintf("guest %d has none", id))
			continue
		}
		out = append(out, fmt.Sprintf("the newest of guest %d is %s old", id, f.now.Sub(b.Time).Truncate(time.Minute)))
	}
	return strings.Join(out, "; ")
}

func readBackupJob(ctx context.Context, t module.Target, a backupJobArgs) (backupJobOut, error) {
	out := backupJobOut{Covered: []int{}, Newest: map[string]int64{}, Stale: []int{}}
	if err := a.named(t); err != nil {
		return out, err
	}
	w, err := look(ctx, t, "backup job "+a.ID)
	if err != nil {
		return out, err
	}
	out.ID = a.ID
	job, there := w.backupJob(a.ID)
	if !there {
		return out, nil
	}
	out.Covered = append(out.Covered, storage.Covered(job, w.Guests, w.Pools)...)
	if a.NewestWithin == 0 {
		return out, nil
	}
	found, err := w.readAges(ctx, t, a, job)
	if err != nil {
		if a.OnStale == "warn" {
			out.Stale = slices.Clone(out.Covered) // nothing is known of any
			return out, nil
		}
		return out, err
	}
	out.Stale = append(out.Stale, found.stale...)
	for _, id := range found.covered {
		if b, there := found.newest[id]; there {
			out.Newest[strconv.Itoa(id)] = b.Time.Unix()
		}
	}
	return out, nil
}
