package ha

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ha"
	family "github.com/pxrun/pxrun/modules/internal/members"
)

var errNoCluster = errors.New(`the runbook names no cluster: write "cluster = cluster.<name>" in it`)

// world is what a module of this family decides on: the nodes and the HA side of their cluster.
type world struct {
	cluster string
	nodes   []string // of the cluster, those that an earlier task is going to add included
	mode    ha.Mode
	actor   string // the host on which commands are run
	*ha.State
	// coming is why parts of the state are not there yet: earlier tasks of this plan are going to make them.
	coming string
	// silent are nodes whose release is not known because they did not answer.
	silent []string
}

// probes lists the reads that look makes: the nodes, and the HA files of the first node.
func probes(t module.Target) []module.Probe {
	if t.Cluster() == nil {
		return nil
	}
	var list []module.Probe
	for i, name := range t.Cluster().Nodes {
		list = append(list, module.Probe{Host: name, Command: pve.ProbeNode(pve.Options{})})
		if i == 0 {
			list = append(list, module.Probe{Host: name, Command: ha.Probe()})
		}
	}
	return list
}

// look reads the world. A cluster that does not exist is fine while an earlier task of the plan is going to make it.
func look(ctx context.Context, t module.Target) (*world, error) {
	if t.Cluster() == nil {
		return nil, errNoCluster
	}
	w := &world{cluster: t.Cluster().Name, State: &ha.State{}}
	states := pve.ReadCluster(ctx, t.Cluster().Nodes, pve.Options{}, t.Conn)
	members := pve.MembersOf(states, w.cluster)
	planned := plannedNodes(t.Planned())
	versions := map[string]string{}
	var unreachable []error
	for _, s := range states {
		if s.Err != nil {
			unreachable = append(unreachable, s.Err)
			w.silent = append(w.silent, s.Host)
			continue
		}
		versions[s.Host] = s.Version()
	}
	if len(versions) == 0 {
		return nil, errors.Join(unreachable...)
	}
	if len(members) == 0 && len(planned) == 0 {
		return nil, module.Refusals{{
			Gate: "high availability of cluster " + w.cluster, Saw: fmt.Sprintf("no node is a member of a cluster %q", w.cluster),
			Want: "a cluster", Look: "pvecm status", Override: "put cluster_create and node_join before this task",
		}}
	}
	if conf := pve.NewestConf(members); conf != nil {
		w.nodes = conf.Names()
	}
	for _, name := range planned {
		if !slices.Contains(w.nodes, name) {
			w.nodes = append(w.nodes, name)
			w.coming = name + " becomes a member in an earlier task"
		}
	}
	if len(t.Planned()) > 0 && w.coming == "" {
		w.coming = "earlier tasks are going to change the cluster"
	}
	quorate := slices.ContainsFunc(members, func(m pve.NodeState) bool { return m.Writable })
	if !quorate && len(planned) > 0 {
		// There is no cluster yet, or its making was cut off and an earlier task finishes it.
		w.actor = planned[0]
	} else if err := w.read(ctx, t, members); err != nil {
		return nil, err
	}
	var err error
	w.mode, err = ha.ModeOf(versions, w.Groups)
	return w, err
}

// read reads the HA files from a quorate member, the first that answers.
func (w *world) read(ctx context.Context, t module.Target, members []pve.NodeState) error {
	var failed []error
	var out []string
	for _, m := range members {
		if !m.Writable {
			continue
		}
		if !t.Selected(m.Host) {
			out = append(out, m.Host)
			continue
		}
		conn, err := t.Conn(ctx, m.Host)
		if err == nil {
			w.State, err = ha.Read(ctx, m.Host, conn)
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if why := w.unread("resources", "groups", "rules", "manager", "guests"); why != "" {
			failed = append(failed, fmt.Errorf("%s: %s", m.Host, why))
			continue
		}
		w.actor = m.Host
		return nil
	}
	if len(out) > 0 && len(failed) == 0 {
		return family.LeftOut("high availability of cluster "+w.cluster, out)
	}
	saw := "no member that answers is quorate"
	if err := errors.Join(failed...); err != nil {
		saw = err.Error()
	}
	return module.Refusals{{
		Gate: "high availability of cluster " + w.cluster, Saw: saw, Want: "a quorate member whose /etc/pve answers",
		Look: "pvecm status", Override: "bring absent nodes back",
	}}
}

func (w *world) unread(names ...string) string {
	for _, name := range names {
		if why, bad := w.Unread[name]; bad {
			return fmt.Sprintf("the read of %s failed: %s", name, why)
		}
	}
	return ""
}

// plannedNodes are the nodes that earlier tasks of the plan are going to make members.
func plannedNodes(earlier []module.Planned) []string {
	var names []string
	for _, p := range earlier {
		if (p.Module == "cluster_create" || p.Module == "node_join") && p.Host != "" && !slices.Contains(names, p.Host) {
			names = append(names, p.Host)
		}
	}
	return names
}

// plannedIDs are the things that an earlier task of a module is going to make, by the ends of their changes' ids.
func plannedIDs(earlier []module.Planned, mod string) []string {
	var ids []string
	for _, p := range earlier {
		if p.Module == mod {
			if _, id, ok := strings.Cut(p.ID, "/"); ok && p.Action != module.Delete {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

var (
	sidForm = regexp.MustCompile(`^(vm|ct):([1-9][0-9]{2,8})$`)
	idForm  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]+$`)
)

func checkSIDs(sids []string) error {
	for _, sid := range sids {
		if !sidForm.MatchString(sid) {
			return fmt.Errorf("%q is no HA resource: write vm:<id> or ct:<id>", sid)
		}
	}
	return nil
}

func checkID(id string) error {
	if !idForm.MatchString(id) {
		return fmt.Errorf("%q is no name for a group or rule: a letter first, then letters, digits, - and _, at least two characters", id)
	}
	return nil
}

// releaseKnown refuses to choose between groups and rules while the release of a node is not known.
func (w *world) releaseKnown(gate string) *module.Refusal {
	if len(w.silent) == 0 {
		return nil
	}
	return &module.Refusal{
		Gate: gate, Saw: "no answer from " + strings.Join(w.silent, ", ") + ", so that it is not known whether all nodes run the same release", Want: "the release of every node, which decides between groups and rules",
		Look: "pveversion", Override: "bring the node back, or remove it from the cluster and the inventory",
	}
}

// checkNodes refuses names that are no nodes of the cluster.
func (w *world) checkNodes(gate string, nodes ha.Nodes) *module.Refusal {
	for _, name := range nodes.Names() {
		if !slices.Contains(w.nodes, name) {
			return &module.Refusal{
				Gate: gate, Saw: fmt.Sprintf("%q is no node of the cluster, which has %s", name, strings.Join(w.nodes, ", ")), Want: "names of its nodes",
				Look: "pvecm nodes", Override: "mend the names, or join the node first",
			}
		}
	}
	return nil
}

// unmanaged lists those of the resources that are not under HA and that no earlier task is going to put there.
func (w *world) unmanaged(t module.Target, sids []string) []string {
	coming := plannedIDs(t.Planned(), "ha_resource")
	var out []string
	for _, sid := range sids {
		if _, there := w.Resource(sid); !there && !slices.Contains(coming, sid) {
			out = append(out, sid)
		}
	}
	return out
}
