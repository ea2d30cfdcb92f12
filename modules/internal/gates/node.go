package gates

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// harmless are tasks that nothing is lost with: consoles, and the refresh of package lists.
var harmless = []string{"vncproxy", "vncshell", "termproxy", "spiceproxy", "spiceshell", "aptupdate", "logrotate"}

// tasks looks for work in progress on the node that its going down would cut off.
func (f Facts) tasks() Verdict {
	const want, look = "no backup, migration, replication or other task in progress on the node or towards it", "pvenode task list --source active"
	if f.WorkersErr != nil {
		return closed(Tasks, f.WorkersErr.Error(), want, look, "")
	}
	var busy []string
	for _, w := range f.Workers {
		if !slices.Contains(harmless, w.Type) {
			busy = append(busy, w.String())
		}
	}
	if len(busy) > 0 {
		return closed(Tasks, "in progress: "+strings.Join(busy, ", "), want, look, "wait for it, or stop it")
	}
	return open(Tasks, "none", want)
}

// guests proves that the node is empty, by the processes that exist on it.
func (f Facts) guests(o Options) Verdict {
	const want, look = "no running guest on the node", "qm list; pct list"
	if f.RunningErr != nil {
		return closed(Guests, f.RunningErr.Error(), want, look, "")
	}
	var here, allowed []string
	for _, id := range slices.Sorted(maps.Keys(f.Running)) {
		sid := fmt.Sprintf("%s:%d", f.Running[id], id)
		if slices.Contains(o.Stay, sid) {
			allowed = append(allowed, sid)
		} else {
			here = append(here, sid)
		}
	}
	if len(here) > 0 {
		v := closed(Guests, strings.Join(here, ", ")+" running on it", want, look, fmt.Sprintf("move or stop them first; guests that may be shut down with the node are named one by one: guests = [%q]", here[0]))
		if f.leaving(here) {
			return v
		}
		return lasting(v)
	}
	if coming := f.coming(); o.Coming && coming != "" {
		return closed(Guests, coming, want, "ha-manager status", "wait until they are gone again, or put the node into maintenance again")
	}
	saw := "none runs on it"
	if len(allowed) > 0 {
		saw = strings.Join(allowed, ", ") + " running, which may be"
	}
	return open(Guests, saw, want)
}

// leaving reports whether the HA manager has been told to take all of these guests away.
func (f Facts) leaving(here []string) bool {
	if f.HA == nil || f.HA.Manager == nil || !slices.Contains(f.HA.Manager.Maintenance, f.Node) {
		return false
	}
	return !slices.ContainsFunc(here, func(sid string) bool {
		_, managed := f.HA.Manager.Services[sid]
		return !managed
	})
}

// coming tells of guests that the HA manager is about to bring to the node: "" if there are none. An upgrade restarts the node's
// HA agent, and for that moment maintenance is not in effect: the manager takes the node for back, and returns its guests.
func (f Facts) coming() string {
	if f.HA == nil || f.HA.Manager == nil {
		return ""
	}
	m := f.HA.Manager
	var coming []string
	for _, sid := range slices.Sorted(maps.Keys(m.Services)) {
		if s := m.Services[sid]; s.Target == f.Node && s.Node != f.Node && (s.State == "migrate" || s.State == "relocate") {
			coming = append(coming, sid)
		}
	}
	switch agent := f.HA.LRMs[f.Node].Mode; {
	case len(coming) > 0:
		return "the HA manager moves " + strings.Join(coming, ", ") + " to it"
	case len(m.Services) == 0 || !slices.Contains(m.Maintenance, f.Node):
	case m.Nodes[f.Node] != "maintenance":
		return "its maintenance is not in effect: the HA manager has it as " + m.Nodes[f.Node] + ", and may bring guests back"
	case agent != "maintenance":
		return "its maintenance is not in effect: its HA agent is in mode " + agent + ", and the HA manager may bring guests back"
	}
	return ""
}
