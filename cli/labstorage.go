package cli

import (
	"slices"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/lab"
	labstorage "github.com/pxrun/pxrun/lab/storage"
	"github.com/pxrun/pxrun/modules/storage"
	"github.com/pxrun/pxrun/runbooks"
)

// addBackends gives a lab what the storage tasks of a site need to be there: a host of the inventory exports what tasks mount
// from it, and nodes have the ZFS pools and volume groups that tasks name. A server that is no host of the inventory is not in
// the lab.
func addBackends(spec *lab.Spec, doc *runbooks.Document) {
	for _, b := range backends(doc) {
		for i := range spec.Hosts {
			addBackend(&spec.Hosts[i], b)
		}
	}
}

func addBackend(h *lab.HostSpec, b storage.Backend) {
	used := len(b.Nodes) == 0 || slices.Contains(b.Nodes, h.Name)
	switch {
	case b.Server != "" && (b.Server == h.Name || b.Server == h.Address || slices.Contains(h.Links, b.Server)):
		e := labstorage.Export{Kind: b.Type, Name: b.Name, Username: b.Username, Password: b.Password}
		same := func(o labstorage.Export) bool { return o.Kind == e.Kind && o.Name == e.Name }
		if e.Validate() == nil && !slices.ContainsFunc(h.Exports, same) {
			h.Exports = append(h.Exports, e)
		}
	case b.Server != "" || h.PVE == "" || !used:
	case b.Pool != "" && !slices.Contains(h.Pools, b.Pool):
		h.Pools = append(h.Pools, b.Pool)
	case b.Group != "" && !slices.Contains(h.Groups, b.Group):
		h.Groups = append(h.Groups, b.Group)
	}
}

// backends lists what the storage tasks of all runbooks need, as far as their arguments are known without a run.
func backends(doc *runbooks.Document) []storage.Backend {
	var out []storage.Backend
	for _, name := range doc.RunbookNames() {
		rb, problems := doc.Runbook(name)
		if problems.HasErrors() {
			continue
		}
		for _, task := range storageTasks(rb.Steps) {
			for _, scope := range scopesOf(task) {
				args, unknown, problems := task.Args(scope)
				if problems.HasErrors() || unknown != nil {
					continue
				}
				if b, ok := storage.BackendOf(args); ok {
					out = append(out, b)
				}
			}
		}
	}
	return out
}

func storageTasks(steps []engine.Step) []*engine.Task {
	var out []*engine.Task
	for _, step := range steps {
		switch s := step.(type) {
		case *engine.Task:
			if s.Module != nil && s.Module.Spec().Name == "storage" {
				out = append(out, s)
			}
		case *engine.Parallel:
			out = append(out, storageTasks(s.Steps)...)
		case *engine.Rolling:
			out = append(out, storageTasks(s.Steps)...)
		}
	}
	return out
}

// scopesOf are the items of a task with for_each, or one empty scope.
func scopesOf(task *engine.Task) []engine.Scope {
	if task.Items == nil {
		return []engine.Scope{{}}
	}
	items, unknown, problems := task.Items(engine.Scope{})
	if problems.HasErrors() || unknown != nil {
		return nil
	}
	var out []engine.Scope
	for i := range items {
		out = append(out, engine.Scope{Item: &items[i]})
	}
	return out
}
