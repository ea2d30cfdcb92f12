package engine

import (
	"fmt"

	"github.com/pxrun/pxrun/engine/module"
)

// approved is what the plan announced, by task, host and item.
type approved map[approvedKey]*HostPlan

type approvedKey struct{ step, host, item string }

func approve(p *Plan) approved {
	a := approved{}
	for _, t := range p.Tasks {
		for i := range t.Hosts {
			h := &t.Hosts[i]
			for j := range h.Changes {
				h.Changes[j].Apply = nil // what is done is planned anew, and this may hold on to much
			}
			a[approvedKey{t.Step, h.Host, h.Item}] = h
		}
		if t.Deferred != "" {
			a[approvedKey{step: t.Step}] = &HostPlan{Deferred: t.Deferred}
		}
	}
	return a
}

// of gives what was approved; a task that was deferred as a whole stands for all of its hosts.
func (a approved) of(step, host, item string) *HostPlan {
	if h, ok := a[approvedKey{step, host, item}]; ok {
		return h
	}
	return a[approvedKey{step: step}]
}

// refuse says which of the changes nobody approved.
func (h *HostPlan) refuse(changes []module.Change) error {
	if h != nil && h.Deferred != "" {
		return nil
	}
	known := map[string]module.Change{}
	if h != nil {
		for _, c := range h.Changes {
			if c.Predicted != "" {
				return nil // a forecast is planned anew when what it rests on is there
			}
			known[c.ID] = c
		}
	}
	stale := &StaleError{}
	for _, c := range changes {
		switch was, ok := known[c.ID]; {
		case !ok:
			stale.Differences = append(stale.Differences, "was not planned: "+c.Summary)
		case was.Action != c.Action || was.Risk != c.Risk:
			stale.Differences = append(stale.Differences, fmt.Sprintf("was planned as %q: %s", was.Summary, c.Summary))
		}
	}
	if stale.Differences == nil {
		return nil
	}
	return stale
}
