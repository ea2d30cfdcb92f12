package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// get adds a path that reads.
func (n *Node) get(path string, options map[string]pvetool.Option, do func(ctx context.Context, r pvetool.Request) (any, error)) {
	n.n.API().Handle(pvetool.Route{Verb: "get", Path: path, Options: options, Do: func(ctx context.Context, r pvetool.Request) (any, error) {
		if node, ok := r.Path["node"]; ok {
			if err := n.checkNode(node); err != nil {
				return nil, err
			}
		}
		return do(ctx, r)
	}})
}

// act adds a path that changes something and answers nothing.
func (n *Node) act(verb, path string, options map[string]pvetool.Option, required []string, do func(ctx context.Context, r pvetool.Request) error) {
	n.n.API().Handle(pvetool.Route{Verb: verb, Path: path, Options: options, Required: required, Do: func(ctx context.Context, r pvetool.Request) (any, error) {
		r.Options.Values = maps.Clone(r.Options.Values)
		maps.DeleteFunc(r.Options.Values, func(key, _ string) bool { _, ours := options[key]; return !ours }) // those of pvesh itself
		return nil, do(ctx, r)
	}})
}

// entryObject is an entry of storage.cfg as the API shows it.
func entryObject(c config, s pvetool.Section) pvetool.Object {
	o := pvetool.Object{"storage": s.ID, "type": s.Type, "digest": c.digest}
	for key, value := range s.Values {
		switch {
		case key == "content" || key == "nodes":
			o[key] = shuffled(value)
		case key == "priority":
			o[key] = 0
		case slices.Contains(booleans, key):
			o[key] = map[bool]int{true: 1}[value != "0"]
		default:
			o[key] = value
		}
	}
	if kinds[s.Type].shared {
		o["shared"] = 1
	}
	return o
}

// addPaths puts the paths about storages into pvesh.
func (n *Node) addPaths() {
	n.get("/storage", map[string]pvetool.Option{"type": {}}, func(_ context.Context, r pvetool.Request) (any, error) {
		c, out := readConfig(r.Proc.View()), []pvetool.Object{}
		for _, s := range c.entries {
			if kindName := r.Options.Values["type"]; kindName == "" || kindName == s.Type {
				out = append(out, entryObject(c, s))
			}
		}
		return out, nil
	})
	n.get("/storage/{storage}", nil, func(_ context.Context, r pvetool.Request) (any, error) {
		c := readConfig(r.Proc.View())
		s, ok := c.find(r.Path["storage"])
		if !ok {
			return nil, fmt.Errorf("storage '%s' does not exist", r.Path["storage"])
		}
		return entryObject(c, s), nil
	})
	n.get("/nodes/{node}/storage", map[string]pvetool.Option{
		"storage": {}, "content": optionOf("content"), "enabled": {Kind: pvetool.Bool}, "target": {}, "format": {Kind: pvetool.Bool},
	}, func(ctx context.Context, r pvetool.Request) (any, error) {
		states, err := n.index(ctx, r.Proc, r.Proc.Stderr, r.Options)
		out := []pvetool.Object{}
		for _, s := range states {
			out = append(out, s.object())
		}
		return out, err
	})
	n.get("/nodes/{node}/storage/{storage}/status", nil, func(ctx context.Context, r pvetool.Request) (any, error) {
		id := r.Path["storage"]
		for _, s := range n.information(ctx, r.Proc.View(), r.Proc.Stderr, "") {
			if s.ID == id {
				o := s.object()
				delete(o, "storage")
				delete(o, "used_fraction")
				return o, nil
			}
		}
		return nil, fmt.Errorf("storage '%s' does not exist", id)
	})
	n.get("/nodes/{node}/storage/{storage}/content", map[string]pvetool.Option{"content": optionOf("content"), "vmid": {Kind: pvetool.Int}},
		func(ctx context.Context, r pvetool.Request) (any, error) {
			items, err := n.contents(ctx, r.Proc, r.Path["storage"], r.Options.Values["content"], r.Options.Int("vmid"))
			out := []pvetool.Object{}
			for _, i := range items {
				out = append(out, i.object())
			}
			return out, err
		})
}

// addReplicationPaths puts the paths about replication into pvesh.
func (n *Node) addReplicationPaths() {
	n.get("/cluster/replication", nil, func(_ context.Context, r pvetool.Request) (any, error) {
		jobs, _ := readJobs(r.Proc.View())
		out := []pvetool.Object{}
		slices.SortFunc(jobs, func(a, b job) int { return strings.Compare(a.id, b.id) })
		for _, j := range jobs {
			out = append(out, j.object())
		}
		return out, nil
	})
	n.get("/cluster/replication/{id}", nil, func(_ context.Context, r pvetool.Request) (any, error) {
		jobs, digest := readJobs(r.Proc.View())
		for _, j := range jobs {
			if j.id == r.Path["id"] {
				o := j.object()
				o["digest"] = digest
				return o, nil
			}
		}
		return nil, fmt.Errorf("no such replication job '%s'", r.Path["id"])
	})
	n.get("/nodes/{node}/replication", map[string]pvetool.Option{"guest": {Kind: pvetool.Int}}, func(_ context.Context, r pvetool.Request) (any, error) {
		out := []pvetool.Object{}
		for _, s := range n.statuses(r.Proc.View()) {
			if only := r.Options.Int("guest"); only == 0 || only == s.guest {
				out = append(out, s.object())
			}
		}
		return out, nil
	})
	create := jobOptions("id", "target", "type")
	n.act("create", "/cluster/replication", create, []string{"id", "target", "type"}, func(ctx context.Context, r pvetool.Request) error {
		values := map[string]string{}
		for key, value := range r.Options.Values {
			if key != "id" && key != "target" && key != "type" {
				values[key] = value
			}
		}
		return n.createJob(ctx, r.Proc, r.Options.Values["id"], r.Options.Values["target"], values)
	})
	n.act("set", "/cluster/replication/{id}", jobOptions("delete", "digest"), nil, func(ctx context.Context, r pvetool.Request) error {
		return n.updateJob(ctx, r.Proc, r.Path["id"], r.Options.Values)
	})
	n.act("delete", "/cluster/replication/{id}", map[string]pvetool.Option{"keep": {Kind: pvetool.Bool}, "force": {Kind: pvetool.Bool}}, nil, func(ctx context.Context, r pvetool.Request) error {
		return n.deleteJob(ctx, r.Proc, r.Path["id"], r.Options.Is("keep"), r.Options.Is("force"))
	})
	n.act("create", "/nodes/{node}/replication/{id}/schedule_now", nil, nil, func(_ context.Context, r pvetool.Request) error {
		return n.scheduleNow(r.Proc.View(), r.Path["id"])
	})
}

// object is a job with its state as the API shows it.
func (s status) object() pvetool.Object {
	o := s.job.object()
	o["vmtype"], o["next_sync"] = s.kind, s.next
	o["last_sync"], o["last_try"], o["fail_count"] = s.state.LastSync, s.state.LastTry, s.state.FailCount
	if s.state.Duration > 0 {
		o["duration"] = s.state.Duration
	}
	if s.state.Error != "" {
		o["error"] = s.state.Error
	}
	if s.state.PID != 0 {
		o["pid"] = s.state.PID
	}
	return o
}

// addBackupPaths puts the paths about backup jobs into pvesh.
func (n *Node) addBackupPaths() {
	n.get("/cluster/backup", nil, func(_ context.Context, r pvetool.Request) (any, error) {
		out := []pvetool.Object{}
		for _, s := range readBackupJobs(r.Proc.View()) {
			if s.Type == "vzdump" {
				o := backupJobObject(s)
				o["next-run"] = next(s.Values["schedule"], n.n.Machine().Now().Unix())
				out = append(out, o)
			}
		}
		return out, nil
	})
	n.get("/cluster/backup/{id}", nil, func(_ context.Context, r pvetool.Request) (any, error) {
		for _, s := range readBackupJobs(r.Proc.View()) {
			if s.ID == r.Path["id"] && s.Type == "vzdump" {
				return backupJobObject(s), nil
			}
		}
		return nil, paramError("id", "No such job '"+r.Path["id"]+"'")
	})
	n.act("create", "/cluster/backup", backupJobOptions("id"), nil, func(ctx context.Context, r pvetool.Request) error {
		return n.createBackupJob(ctx, r.Proc, r.Options.Values)
	})
	n.act("set", "/cluster/backup/{id}", backupJobOptions("delete"), nil, func(ctx context.Context, r pvetool.Request) error {
		return n.updateBackupJob(ctx, r.Proc, r.Path["id"], r.Options.Values)
	})
	n.act("delete", "/cluster/backup/{id}", nil, nil, func(ctx context.Context, r pvetool.Request) error {
		return n.deleteBackupJob(ctx, r.Proc, r.Path["id"])
	})
}

// addDatacenterPaths puts the options of the datacenter into pvesh.
func (n *Node) addDatacenterPaths() {
	n.get("/cluster/options", nil, func(_ context.Context, r pvetool.Request) (any, error) { return getDatacenter(r.Proc.View()), nil })
	n.act("set", "/cluster/options", n.datacenterOptions(), nil, func(ctx context.Context, r pvetool.Request) error {
		return n.setDatacenter(ctx, r.Proc, r.Options.Values)
	})
}
