package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

// snapshot is a backup on a backup server.
type snapshot struct {
	kind  string // vm or ct
	vmid  int
	time  int64
	size  int64
	notes string
}

// snapshots lists the backups on a backup server.
func (n *Node) snapshots(v *vfs.View, s pvetool.Section) ([]item, error) {
	if _, err := n.backupServerStatus(v, s); err != nil {
		return nil, err
	}
	e := n.w.find("pbs", s.Values["server"], s.Values["datastore"])
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	var out []item
	for _, b := range e.backups {
		out = append(out, item{
			volid:  fmt.Sprintf("%s:backup/%s/%d/%s", s.ID, b.kind, b.vmid, time.Unix(b.time, 0).UTC().Format("2006-01-02T15:04:05Z")),
			format: "pbs-" + b.kind, content: "backup", size: b.size, vmid: b.vmid, ctime: b.time, notes: b.notes,
		})
	}
	return out, nil
}

// AddBackup puts a backup of a guest onto a backup server, as old as ctime says.
func (w *World) AddBackup(server, datastore, kind string, vmid int, ctime time.Time) error {
	e := w.find("pbs", server, datastore)
	if e == nil {
		return fmt.Errorf("%s has no datastore %q", server, datastore)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e.backups = append(e.backups, snapshot{kind: kind, vmid: vmid, time: ctime.Unix(), size: 1 << 30})
	return nil
}

// vzdump is the program of that name.
func (n *Node) vzdump(ctx context.Context, p *machine.Proc) int {
	if code := n.start(ctx, p); code >= 0 {
		return code
	}
	known := maps.Clone(backupOptions)
	known["stdout"], known["job-id"] = pvetool.Option{Kind: pvetool.Bool}, pvetool.Option{}
	o, perr := pvetool.Parse(p.Args(), known)
	if perr != nil {
		return pvetool.Usage(p, perr, "vzdump {<vmid>} [OPTIONS]")
	}
	values := maps.Clone(o.Values)
	if len(o.Positional) > 0 {
		values["vmid"] = strings.Join(o.Positional, ",")
	}
	if err := verify(values, true); err != nil {
		return n.die(ctx, p, err)
	}
	id := ""
	if ids := list(values["vmid"]); len(ids) == 1 {
		id = ids[0]
	}
	_, code := n.n.Tasks().Run(ctx, p, &pvetool.Task{Kind: "vzdump", ID: id, Hook: true}, func(ctx context.Context, out io.Writer) error {
		return n.backUp(ctx, p.View(), out, values)
	})
	return code
}

// runBackupJob runs a job in the background, as the scheduler does.
func (n *Node) runBackupJob(s pvetool.Section) {
	v := n.n.Machine().FS.View
	upid, err := n.n.Tasks().Background(n.w.ctx, &pvetool.Task{Kind: "vzdump"}, func(ctx context.Context, out io.Writer) error {
		return n.backUp(ctx, v, out, s.Values)
	})
	n.noteJob(s.ID, func(st map[string]any) {
		delete(st, "time")
		st["state"], st["upid"], st["msg"] = "stopped", upid, "OK"
		if err != nil {
			st["msg"] = err.Error()
		}
	})
}

// chosen are the guests of this node that options name.
func (n *Node) chosen(v *vfs.View, values map[string]string) ([]guestConfig, error) {
	ids, members := list(values["vmid"]), pool(v, values["pool"])
	excluded := list(values["exclude"])
	var out []guestConfig
	for _, g := range guests(v) {
		id := strconv.Itoa(g.id)
		wanted := slices.Contains(ids, id) || values["all"] == "1" || values["pool"] != "" && slices.Contains(members, g.id)
		if g.node == n.n.Name() && wanted && !slices.Contains(excluded, id) {
			out = append(out, g)
		}
	}
	for _, id := range ids {
		number, _ := strconv.Atoi(id)
		if _, there := guest(v, number); !there {
			return out, fmt.Errorf("unable to find VM '%s'", id)
		}
	}
	return out, nil
}

// backUp backs guests up one after the other. One that fails does not hold up the others, but the job fails.
func (n *Node) backUp(ctx context.Context, v *vfs.View, out io.Writer, values map[string]string) error {
	id := values["storage"]
	if id == "" {
		id = "local"
	}
	s, err := readConfig(v).enabled(id, n.n.Name())
	switch {
	case err != nil:
		return fmt.Errorf("could not get storage information for '%s': %w", id, err)
	case !holds(s, "backup"):
		return fmt.Errorf("could not get storage information for '%s': can't use storage type '%s' for backup", id, s.Type)
	}
	if err := n.activate(ctx, v, s); err != nil {
		return fmt.Errorf("could not get storage information for '%s': %w", id, err)
	}
	chosen, missing := n.chosen(v, values)
	failed := missing != nil
	if failed {
		fmt.Fprintf(out, "ERROR: Backup failed - %v\n", missing)
	}
	for _, g := range chosen {
		fmt.Fprintf(out, "INFO: Starting Backup of VM %d (%s)\n", g.id, g.kind)
		if err := n.backUpOne(ctx, v, s, g, values); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			failed = true
			fmt.Fprintf(out, "ERROR: Backup of VM %d failed - %v\n", g.id, err)
			continue
		}
		fmt.Fprintf(out, "INFO: Finished Backup of VM %d (00:00:05)\n", g.id)
	}
	if failed {
		return errors.New("job errors")
	}
	fmt.Fprintln(out, "INFO: Backup job finished successfully")
	return nil
}

// backupDuration is what a small guest takes.
const backupDuration = 5 * time.Second

func (n *Node) backUpOne(ctx context.Context, v *vfs.View, s pvetool.Section, g guestConfig, values map[string]string) error {
	begin := n.n.Machine().Now()
	if err := n.n.Phase(ctx, "backup:run", backupDuration); err != nil {
		return err
	}
	notes := strings.NewReplacer("{{guestname}}", g.name, "{{node}}", g.node, "{{vmid}}", strconv.Itoa(g.id)).Replace(values["notes-template"])
	if s.Type == "pbs" {
		if _, err := n.backupServerStatus(v, s); err != nil {
			return err
		}
		e := n.w.find("pbs", s.Values["server"], s.Values["datastore"])
		n.w.mu.Lock()
		defer n.w.mu.Unlock()
		if e.full {
			return errors.New("backup write data failed: command error: write_data upload error: pipelined request failed: No space left on device (os error 28)")
		}
		e.backups = append(e.backups, snapshot{kind: map[string]string{"qemu": "vm", "lxc": "ct"}[g.kind], vmid: g.id, time: begin.Unix(), size: 1 << 30, notes: notes})
		return nil
	}
	name := fmt.Sprintf("vzdump-%s-%d-%s.%s", g.kind, g.id, begin.Format(backupTime), map[string]string{"qemu": "vma", "lxc": "tar"}[g.kind])
	name += map[string]string{"zstd": ".zst", "gzip": ".gz", "1": ".lzo", "lzo": ".lzo"}[values["compress"]]
	file := subdir(s, "backup") + "/" + name
	if err := v.WriteFile(file, bytes.Repeat([]byte("backup\n"), 100), 0o640); err != nil {
		return fmt.Errorf("unable to open '%s' - %s", file, machine.Reason(err))
	}
	if notes != "" {
		if err := v.WriteFile(file+".notes", []byte(notes), 0o640); err != nil {
			return err
		}
	}
	return n.prune(v, s, g, values)
}

// prune keeps the newest backups of a guest, as many as keep-last says; the other ways of counting are not modelled.
func (n *Node) prune(v *vfs.View, s pvetool.Section, g guestConfig, values map[string]string) error {
	rule := values["prune-backups"]
	if rule == "" {
		rule = s.Values["prune-backups"]
	}
	keep := 0
	for _, part := range list(rule) {
		if number, ok := strings.CutPrefix(part, "keep-last="); ok {
			keep, _ = strconv.Atoi(number)
		}
	}
	if keep == 0 || values["remove"] == "0" {
		return nil
	}
	items, err := n.itemsOf(v, s, "backup")
	if err != nil {
		return err
	}
	items = slices.DeleteFunc(items, func(i item) bool { return i.vmid != g.id || i.protected })
	slices.SortFunc(items, func(a, b item) int { return int(b.ctime - a.ctime) })
	for _, old := range items[min(keep, len(items)):] {
		path, err := volumePath(s, strings.TrimPrefix(old.volid, s.ID+":"))
		if err != nil {
			return err
		}
		if err := v.Remove(path); err != nil {
			return err
		}
	}
	return nil
}
