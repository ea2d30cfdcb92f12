package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

const jobsFile = "/etc/pve/jobs.cfg"

// backupOptions are the options of vzdump that a job may have. The number says what they take.
var backupOptions = map[string]pvetool.Option{
	"vmid": {}, "node": {}, "all": {Kind: pvetool.Bool}, "stdexcludes": {Kind: pvetool.Bool}, "compress": {Check: oneOf("0", "1", "gzip", "lzo", "zstd")},
	"pigz": {Kind: pvetool.Int}, "zstd": {Kind: pvetool.Int}, "quiet": {Kind: pvetool.Bool}, "mode": {Check: oneOf("snapshot", "suspend", "stop")},
	"exclude": {}, "exclude-path": {}, "mailto": {}, "mailnotification": {Check: oneOf("always", "failure")}, "tmpdir": {}, "dumpdir": {}, "script": {},
	"storage": {}, "bwlimit": {Kind: pvetool.Int}, "ionice": {Kind: pvetool.Int}, "performance": {}, "lockwait": {Kind: pvetool.Int}, "stopwait": {Kind: pvetool.Int},
	"prune-backups": {}, "remove": {Kind: pvetool.Bool}, "pool": {}, "notes-template": {}, "protected": {Kind: pvetool.Bool}, "fleecing": {},
	"notification-mode": {Check: oneOf("auto", "legacy-sendmail", "notification-system")}, "pbs-change-detection-mode": {Check: oneOf("legacy", "data", "metadata")},
	"stop": {Kind: pvetool.Bool},
}

// jobOnly are the options of a job beside those of vzdump.
var jobOnly = map[string]pvetool.Option{
	"schedule": {Check: checkSchedule}, "comment": {}, "enabled": {Kind: pvetool.Bool}, "repeat-missed": {Kind: pvetool.Bool},
}

func oneOf(words ...string) func(string) string {
	return func(v string) string {
		if slices.Contains(words, v) {
			return ""
		}
		return fmt.Sprintf("value '%s' does not have a value in the enumeration '%s'", v, strings.Join(words, ", "))
	}
}

func backupJobOptions(more ...string) map[string]pvetool.Option {
	known := maps.Clone(backupOptions)
	maps.Copy(known, jobOnly)
	for _, name := range more {
		known[name] = pvetool.Option{}
	}
	return known
}

// readBackupJobs reads the backup jobs of jobs.cfg, and what else stands there.
func readBackupJobs(v *vfs.View) []pvetool.Section {
	raw, _ := v.ReadFile(jobsFile) // none is fine
	return pvetool.ParseSections(string(raw))
}

func (n *Node) changeBackupJobs(ctx context.Context, p *machine.Proc, edit func([]pvetool.Section) ([]pvetool.Section, error)) error {
	return n.n.Locked(ctx, p.View(), p.Stderr, "file-jobs_cfg", func() error {
		sections, err := edit(readBackupJobs(p.View()))
		if err != nil {
			return err
		}
		return cluster.ReplaceFile(p.View(), jobsFile, format(sections, map[string][]string{"vzdump": {"schedule"}}))
	})
}

func paramError(name, text string) error {
	return &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{name + ": " + text}}
}

// verify is vzdump's check of a set of options.
func verify(values map[string]string, complete bool) error {
	_, all := values["all"]
	all = all && values["all"] != "0"
	switch {
	case all && values["vmid"] != "":
		return paramError("all", "option conflicts with option 'vmid'")
	case values["exclude"] != "" && values["vmid"] != "":
		return paramError("exclude", "option conflicts with option 'vmid'")
	case values["pool"] != "" && values["vmid"] != "":
		return paramError("pool", "option conflicts with option 'vmid'")
	}
	if values["exclude"] != "" && values["pool"] == "" {
		values["all"], all = "1", true
	}
	if complete && !all && values["vmid"] == "" && values["pool"] == "" {
		return paramError("vmid", "property is missing")
	}
	return nil
}

func (n *Node) createBackupJob(ctx context.Context, p *machine.Proc, values map[string]string) error {
	values = maps.Clone(values)
	id := values["id"]
	if id == "" {
		id = fmt.Sprintf("backup-%08x-%04x", n.n.Machine().Now().Unix(), len(readBackupJobs(p.View())))
	}
	delete(values, "id")
	if values["schedule"] == "" {
		return paramError("starttime", "property is missing and it is not optional")
	}
	if values["enabled"] == "" {
		values["enabled"] = "1"
	}
	if err := verify(values, true); err != nil {
		return err
	}
	maps.DeleteFunc(values, func(_, v string) bool { return v == "" })
	err := n.changeBackupJobs(ctx, p, func(jobs []pvetool.Section) ([]pvetool.Section, error) {
		if slices.ContainsFunc(jobs, func(s pvetool.Section) bool { return s.ID == id }) {
			return nil, fmt.Errorf("Job '%s' already exists", id) //nolint:revive,staticcheck // Proxmox's words
		}
		return append(jobs, pvetool.Section{Type: "vzdump", ID: id, Values: values}), nil
	})
	if err == nil {
		n.noteJob(id, func(s map[string]any) { s["state"], s["time"] = "created", n.n.Machine().Now().Unix() })
	}
	return err
}

func (n *Node) updateBackupJob(ctx context.Context, p *machine.Proc, id string, values map[string]string) error {
	values = maps.Clone(values)
	remove := list(values["delete"])
	delete(values, "delete")
	if len(values)+len(remove) == 0 {
		return errors.New("no options specified")
	}
	if err := verify(maps.Clone(values), false); err != nil {
		return err
	}
	err := n.changeBackupJobs(ctx, p, func(jobs []pvetool.Section) ([]pvetool.Section, error) {
		i := slices.IndexFunc(jobs, func(s pvetool.Section) bool { return s.ID == id && s.Type == "vzdump" })
		if i < 0 {
			return nil, paramError("id", "No such job '"+id+"'")
		}
		job := jobs[i].Values
		for _, key := range remove {
			if _, known := backupJobOptions()[key]; !known {
				return nil, paramError("delete", "unknown option '"+key+"'")
			}
			delete(job, key)
		}
		maps.Copy(job, values)
		replaceSelection(job, values)
		if err := verify(job, true); err != nil {
			return nil, err
		}
		maps.DeleteFunc(job, func(_, v string) bool { return v == "" })
		return jobs, nil
	})
	_, schedule := values["schedule"]
	_, enabled := values["enabled"]
	if err == nil && (schedule || enabled) {
		n.noteJob(id, func(s map[string]any) { s["updated"] = n.n.Machine().Now().Unix() })
	}
	return err
}

// replaceSelection lets a new way to choose guests take the place of the old one.
func replaceSelection(job, values map[string]string) {
	gone := []string(nil)
	switch {
	case values["vmid"] != "":
		gone = []string{"all", "exclude", "pool"}
	case values["all"] == "1":
		gone = []string{"vmid", "pool"}
	case job["pool"] != "":
		gone = []string{"vmid", "all"}
	}
	for _, key := range gone {
		delete(job, key)
	}
}

func (n *Node) deleteBackupJob(ctx context.Context, p *machine.Proc, id string) error {
	err := n.changeBackupJobs(ctx, p, func(jobs []pvetool.Section) ([]pvetool.Section, error) {
		rest := slices.DeleteFunc(slices.Clone(jobs), func(s pvetool.Section) bool { return s.ID == id && s.Type == "vzdump" })
		if len(rest) == len(jobs) {
			return nil, paramError("id", "No such job '"+id+"'")
		}
		return rest, nil
	})
	if err == nil {
		_ = n.n.Machine().FS.Remove(jobStateFile(id)) // it is cleaned up with the next round otherwise
	}
	return err
}

func jobStateFile(id string) string { return "/var/lib/pve-manager/jobs/vzdump-" + id + ".json" }

// noteJob edits the node's state of a job.
func (n *Node) noteJob(id string, edit func(map[string]any)) {
	v := n.n.Machine().FS.View
	state := map[string]any{}
	if raw, err := v.ReadFile(jobStateFile(id)); err == nil {
		_ = json.Unmarshal(raw, &state) // a broken file is one without a state
	}
	edit(state)
	raw, err := json.Marshal(state)
	if err != nil {
		return
	}
	_ = v.MkdirAll(path.Dir(jobStateFile(id)), 0o755) // as with the file itself, a full disk loses it
	_ = v.WriteFile(jobStateFile(id), raw, 0o644)
}

// backupJobObject is a job as the API shows it.
func backupJobObject(s pvetool.Section) pvetool.Object {
	o := pvetool.Object{"id": s.ID, "type": "vzdump"}
	for key, value := range s.Values {
		number, err := strconv.Atoi(value)
		switch {
		case key == "prune-backups" || key == "fleecing" || key == "performance":
			parts := pvetool.Object{}
			for part := range strings.SplitSeq(value, ",") {
				k, v, _ := strings.Cut(part, "=")
				parts[k] = v
			}
			o[key] = parts
		case err == nil && key != "vmid" && key != "schedule" && key != "comment" && key != "compress":
			o[key] = number
		default:
			o[key] = value
		}
	}
	return o
}

// backUpDue runs the jobs whose time has come round, for the guests of this node.
func (n *Node) backUpDue() {
	v := n.n.Machine().FS.View
	for _, s := range readBackupJobs(v) {
		wait, err := period(s.Values["schedule"])
		if s.Type != "vzdump" || err != nil {
			continue
		}
		if _, seen := v.Stat(jobStateFile(s.ID)); seen != nil {
			n.noteJob(s.ID, func(st map[string]any) { st["state"], st["time"] = "created", n.n.Machine().Now().Unix() })
		}
		n.w.mu.Lock()
		last, known := n.runs["backup "+s.ID]
		if !known {
			last = run{tried: n.elapsed()}
		}
		due := n.elapsed()-last.tried >= wait && s.Values["enabled"] != "0" && (s.Values["node"] == "" || s.Values["node"] == n.n.Name())
		if due {
			last.tried = n.elapsed()
		}
		n.runs["backup "+s.ID] = last
		n.w.mu.Unlock()
		if due {
			n.runBackupJob(s)
		}
	}
}
