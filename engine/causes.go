package engine

import (
	"fmt"
	"path"
	"strings"

	"github.com/pxrun/pxrun/engine/event"
)

// causes remember what stood against which task, so that the same thing is told once. Several modules look at the same
// state: what preflight refuses, a join would refuse too.
type causes map[string]string // what was seen on a host: the step that said so first

// follow marks the plans of a step that failed for nothing but what an earlier step has told already.
func (c causes) follow(step string, hosts []HostPlan) {
	for i := range hosts {
		h := &hosts[i]
		if h.Error == "" {
			continue
		}
		first, all := "", true
		for _, cause := range causesOf(h) {
			earlier, known := c[cause]
			if !known {
				c[cause], all = step, false
			} else if earlier == step {
				all = false
			} else if first == "" {
				first = earlier
			}
		}
		if all && first != "" {
			h.Follows = first
			h.Error = fmt.Sprintf("not planned: %s %s", path.Base(first), followed(h.status()))
		}
	}
}

// causesOf are what stands against a plan, whatever its task calls it.
func causesOf(h *HostPlan) []string {
	if len(h.Refused) == 0 {
		if len(h.Away) == 0 {
			return []string{h.Host + "\x00" + h.Error}
		}
		keys := make([]string, len(h.Away))
		for i, a := range h.Away {
			keys[i] = a.Host + "\x00" + a.Error
		}
		return keys
	}
	keys := make([]string, len(h.Refused))
	for i, r := range h.Refused {
		host, seen := r.Host, r.Saw
		if host == "" {
			host = h.Host
		}
		if strings.TrimSpace(seen) == "" {
			seen = r.Error()
		}
		keys[i] = host + "\x00" + seen
	}
	return keys
}

func followed(s event.Status) string {
	switch s {
	case event.Refused:
		return "was refused for the same reason"
	case event.Unreachable:
		return "could not reach it either"
	default:
		return "failed for the same reason"
	}
}
