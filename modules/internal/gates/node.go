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
	const want, look = "no backup, migration, replication or other task in progress on the node", "pvenode task list --source active"
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
		return lasting(v)
	}
	saw := "none runs on it"
	if len(allowed) > 0 {
		saw = strings.Join(allowed, ", ") + " running, which may be"
	}
	return open(Guests, saw, want)
}
