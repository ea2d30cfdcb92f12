package storage

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/storage"
	"github.com/pxrun/pxrun/modules/internal/members"
)

//go:embed storage.md
var storageDoc string

type storageOut struct {
	ID       string   `hcl:"id" doc:"The name of the storage."`
	Type     string   `hcl:"type" doc:"What kind of storage it is."`
	Path     string   `hcl:"path" doc:"Where its files are; empty for block storages."`
	Content  []string `hcl:"content" doc:"What it holds."`
	Nodes    []string `hcl:"nodes" doc:"The nodes that may use it."`
	ActiveOn []string `hcl:"active_on" doc:"The nodes that have reported it in the last five minutes."`
	Total    int64    `hcl:"total" doc:"Its size in bytes, as the first of these nodes sees it."`
	Used     int64    `hcl:"used" doc:"What of it is in use, in bytes."`
}

func storageModule() module.Module {
	return module.Define(module.Spec{
		Name: "storage", Summary: "Declare a storage of the cluster, and prove that its nodes can use it", Doc: storageDoc, Scope: module.PerCluster,
	}, module.Funcs[storageArgs, storageOut]{
		Probes: func(t module.Target, _ storageArgs) []module.Probe { return probes(t) },
		Plan:   planStorage,
		Read:   readStorage,
	})
}

// probes lists the reads of this family: the nodes, and the site from the first of them.
func probes(t module.Target) []module.Probe {
	list := members.Probes(t)
	if len(list) > 0 {
		list = append(list, module.Probe{Host: list[0].Host, Command: storage.Probe()})
	}
	return list
}

// world is what the modules of this family decide on.
type world struct {
	*members.View
	*storage.Site
	// coming are names of storages that earlier tasks of the plan are going to make.
	coming []string
}

// look reads the world from the first node that may be acted on and whose /etc/pve answers.
func look(ctx context.Context, t module.Target, gate string) (*world, error) {
	view, err := members.Look(ctx, t, gate)
	if err != nil {
		return nil, err
	}
	w := &world{View: view}
	for _, p := range t.Planned() {
		if id, ok := strings.CutPrefix(p.ID, "storage/"); ok && p.Module == "storage" && p.Action == module.Create {
			w.coming = append(w.coming, id)
		}
	}
	var failed []string
	for _, host := range view.Actors {
		site, err := readSite(ctx, t, host)
		if err == nil {
			w.Site = site
			return w, nil
		}
		failed = append(failed, err.Error())
	}
	return nil, module.Refusals{{
		Gate: gate, Saw: strings.Join(failed, "; "), Want: "a quorate node whose /etc/pve answers", Look: "timeout 5 cat /etc/pve/storage.cfg",
	}}
}

func readSite(ctx context.Context, t module.Target, host string) (*storage.Site, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return nil, err
	}
	site, err := storage.Read(ctx, host, conn)
	if err != nil {
		return nil, err
	}
	if why := site.Missing("storages", "replication", "jobs", "guests", "drives", "users"); why != "" {
		return nil, fmt.Errorf("%s: %s", host, why)
	}
	return site, nil
}

// ValidateTask checks the task's name where it is that of the storage.
func (a *storageArgs) ValidateTask(name string) error {
	if a.ID != "" {
		return nil
	}
	return storage.CheckID(name)
}

func (a *storageArgs) named(t module.Target) error {
	if a.ID == "" {
		a.ID = t.Task()
	}
	return storage.CheckID(a.ID)
}

func gateOf(id string) string { return "storage " + id }

func planStorage(ctx context.Context, t module.Target, a storageArgs) ([]module.Change, error) {
	if err := a.named(t); err != nil {
		return nil, err
	}
	w, err := look(ctx, t, gateOf(a.ID))
	if err != nil {
		return nil, err
	}
	have, there := w.Storage(a.ID)
	if a.Ensure == "absent" {
		return w.planRemoval(a, have, there)
	}
	if refusal := w.checkNodes(a); refusal != nil {
		return nil, module.Refusals{refusal}
	}
	actor := w.Actor(a.Nodes)
	if !there {
		return w.planCreation(a, actor), nil
	}
	var stale []string
	if have.Type == a.Type { // else it is refused, whatever the secrets
		if stale, err = staleSecrets(ctx, t, actor, a); err != nil {
			return nil, err
		}
	}
	changes, err := w.planUpdate(a, have, actor, stale)
	if err == nil {
		w.warnSilent(ctx, t, a, have, len(changes) > 0)
	}
	return changes, err
}

// checkNodes refuses names that are no nodes of the cluster.
func (w *world) checkNodes(a storageArgs) *module.Refusal {
	for _, name := range a.Nodes {
		if !slices.Contains(w.Nodes, name) {
			return &module.Refusal{
				Gate: gateOf(a.ID), Saw: fmt.Sprintf("%q is no node of the cluster, which has %s", name, strings.Join(w.Nodes, ", ")), Want: "names of its nodes",
				Look: "pvecm nodes", Override: "mend nodes, or join the node first",
			}
		}
	}
	return nil
}

func (w *world) planCreation(a storageArgs, actor string) []module.Change {
	shown := map[string]any{"type": a.Type}
	for option, value := range a.wanted() {
		shown[option] = value
	}
	for option := range a.secrets() {
		shown[option] = "(secret)"
	}
	return []module.Change{{
		ID: "storage/" + a.ID, Host: actor, Action: module.Create, Summary: fmt.Sprintf("add storage %s (%s)", a.ID, describe(a)), After: shown, Predicted: w.Coming,
		Apply: func(ctx context.Context, t module.Target) error { return create(ctx, t, actor, a) },
	}}
}

// describe is a storage's type and what it lies on, for people.
func describe(a storageArgs) string {
	b, _ := BackendOf(&a)
	switch {
	case b.Server != "":
		return a.Type + " " + b.Server + ":" + b.Name
	case a.Path != "":
		return a.Type + " " + a.Path
	}
	if name := b.Pool + b.Group; name != "" {
		return a.Type + " " + name
	}
	return a.Type
}

func (w *world) planUpdate(a storageArgs, have config.Section, actor string, stale []string) ([]module.Change, error) {
	diffs := storage.Compare(have, a.wanted(), a.Remove)
	if refusal := w.fixed(a, have, diffs); refusal != nil {
		return nil, module.Refusals{refusal}
	}
	if len(diffs)+len(stale) == 0 {
		return nil, nil
	}
	before, after := shownDifferences(diffs)
	for _, option := range stale {
		before[option], after[option] = "(another secret)", "(secret)"
	}
	return []module.Change{{
		ID: "storage/" + a.ID, Host: actor, Action: module.Update, Summary: fmt.Sprintf("change %s of storage %s", optionsOf(diffs, stale), a.ID),
		Before: before, After: after, Predicted: w.Coming,
		Apply: func(ctx context.Context, t module.Target) error { return update(ctx, t, actor, a, diffs, stale) },
	}}, nil
}

func shownDifferences(diffs []storage.Difference) (before, after map[string]any) {
	before, after = map[string]any{}, map[string]any{}
	for _, d := range diffs {
		if d.Have != "" {
			before[d.Option] = d.Have
		}
		if d.Want != "" {
			after[d.Option] = d.Want
		}
	}
	return before, after
}

func optionsOf(diffs []storage.Difference, more []string) string {
	var out []string
	for _, d := range diffs {
		out = append(out, d.Option)
	}
	return strings.Join(append(out, more...), ", ")
}

// fixed refuses what Proxmox cannot change: the type, and what a storage was made with.
func (w *world) fixed(a storageArgs, have config.Section, diffs []storage.Difference) *module.Refusal {
	var saw, want []string
	if have.Type != a.Type {
		saw, want = append(saw, "its type is "+have.Type), append(want, "type "+a.Type)
	} else {
		for _, d := range diffs {
			if d.Fixed {
				saw, want = append(saw, fmt.Sprintf("%s is %s", d.Option, orNothing(d.Have))), append(want, fmt.Sprintf("%s %s", d.Option, d.Want))
			}
		}
	}
	if len(saw) == 0 {
		return nil
	}
	override := fmt.Sprintf("Proxmox VE cannot change it. Take the entry away with ensure = \"absent\", which leaves the data alone, and add it anew; or use another name than %s", a.ID)
	if users := storage.References(w.Drives, a.ID); len(users) > 0 {
		saw = append(saw, "used by "+nameSome(users))
		override = "Proxmox VE cannot change it while guests use it: use another name, and move their disks there"
	}
	return &module.Refusal{
		Gate: gateOf(a.ID), Saw: strings.Join(saw, "; "), Want: strings.Join(want, ", "), Look: "pvesh get /storage/" + a.ID, Override: override,
	}
}

func orNothing(text string) string {
	if text == "" {
		return "not set"
	}
	return text
}

// nameSome names the users of a storage, a few of them.
func nameSome(users []storage.Reference) string {
	const few = 5
	var out []string
	for i, u := range users {
		if i == few {
			return fmt.Sprintf("%s and %d more", strings.Join(out, ", "), len(users)-few)
		}
		out = append(out, u.String())
	}
	return strings.Join(out, ", ")
}

// planRemoval takes an entry away, unless somebody needs it.
func (w *world) planRemoval(a storageArgs, have config.Section, there bool) ([]module.Change, error) {
	if a.ID == "local" {
		return nil, module.Refusals{{Gate: "remove storage local", Saw: "Proxmox VE brings local back whenever it reads storage.cfg", Want: "another storage", Override: "disable = true, or other content"}}
	}
	if !there {
		return nil, nil
	}
	if refusal := w.needed(a.ID); refusal != nil {
		return nil, module.Refusals{refusal}
	}
	actor := w.Actor(storage.NodesOf(have, w.Nodes))
	return []module.Change{{
		ID: "storage/" + a.ID, Host: actor, Action: module.Delete, Summary: fmt.Sprintf("remove the entry of storage %s (%s); what is on it stays", a.ID, have.Type),
		Before: have.Values, Risk: module.RiskDisruptive, Predicted: w.Coming,
		Apply: func(ctx context.Context, t module.Target) error { return remove(ctx, t, actor, a.ID) },
	}}, nil
}

// needed refuses to remove a storage that guests, other storages or backup jobs name: Proxmox checks only the second.
func (w *world) needed(id string) *module.Refusal {
	var saw []string
	if users := storage.References(w.Drives, id); len(users) > 0 {
		saw = append(saw, "used by "+nameSome(users))
	}
	for _, other := range w.Storages {
		if base, _, ok := strings.Cut(other.Values["base"], ":"); ok && base == id {
			saw = append(saw, "base of storage "+other.ID)
		}
	}
	for _, job := range w.Backups {
		if job.Values["storage"] == id {
			saw = append(saw, "backup job "+job.ID+" writes to it")
		}
	}
	if len(saw) == 0 {
		return nil
	}
	return &module.Refusal{
		Gate: "remove storage " + id, Saw: strings.Join(saw, "; "), Want: "a storage that nobody names", Look: fmt.Sprintf("grep -r %s: /etc/pve/nodes/*/qemu-server /etc/pve/nodes/*/lxc", id),
		Override: "move the disks, eject the images, change the jobs first",
	}
}

func readStorage(ctx context.Context, t module.Target, a storageArgs) (storageOut, error) {
	if err := a.named(t); err != nil {
		return storageOut{}, err
	}
	w, err := look(ctx, t, gateOf(a.ID))
	if err != nil {
		return storageOut{}, err
	}
	s, there := w.Storage(a.ID)
	out := storageOut{ID: a.ID, Content: []string{}, Nodes: []string{}, ActiveOn: []string{}}
	if !there {
		return out, nil
	}
	out.Type, out.Path, out.Content, out.Nodes = s.Type, s.Values["path"], storage.Content(s), storage.NodesOf(s, w.Nodes)
	if out.Path == "" && slices.Contains([]string{"nfs", "cifs", "cephfs"}, s.Type) {
		out.Path = "/mnt/pve/" + s.ID
	}
	for _, node := range out.Nodes {
		if row, told := w.Rows[node][a.ID]; told {
			if len(out.ActiveOn) == 0 {
				out.Total, out.Used = row.Total, row.Used
			}
			out.ActiveOn = append(out.ActiveOn, node)
		}
	}
	return out, nil
}
