package rolling

import "fmt"

// candidates are what rules leave a service of the nodes that are there.
type candidates struct {
	homes         map[int]int
	bound, strict bool
	avoid         map[int]bool
	most          int // the node of those that it must stay together with; -1 without any
}

// priority is that of a node; ok is false if the service may not run there, or the node is not there.
func (c *candidates) priority(m *sim, at int) (priority int, ok bool) {
	if !m.places[at].haOnline || m.places[at].out {
		return 0, false
	}
	if !c.bound {
		return 0, true
	}
	priority, named := c.homes[at]
	if !named {
		return -1, !c.strict
	}
	return priority, true
}

// top is the highest priority among the nodes.
func (c *candidates) top(m *sim) (top int, some bool) {
	for at := range m.places {
		if priority, ok := c.priority(m, at); ok && (!some || priority > top) {
			top, some = priority, true
			if !c.bound {
				break
			}
		}
	}
	return top, some
}

// good reports whether a node has the highest priority, and services that it must be with or apart from do not speak against it.
func (c *candidates) good(m *sim, at, top int) bool {
	priority, ok := c.priority(m, at)
	return ok && priority == top && !c.avoid[at] && (c.most < 0 || c.most == at)
}

func (c *candidates) reason(top int, scheduler string) string {
	switch {
	case c.most >= 0:
		return "with those that it must stay together with"
	case !c.bound && byMemory(scheduler):
		return "the node with the most memory left, as the " + scheduler + " scheduler weighs it"
	case !c.bound:
		return "the node with the fewest HA services"
	case top < 0:
		return "no node of its affinity is there, and the affinity is not strict"
	}
	return fmt.Sprintf("of the nodes of its affinity with priority %d", top)
}

func (c *candidates) nowhere(some bool) string {
	switch {
	case !some:
		return "its node affinity is strict and leaves it no node that is online"
	case c.most >= 0:
		return "those that it must stay together with are where it may not run"
	case len(c.avoid) > 0:
		return "services that it must be apart from are on every node that is left"
	}
	return "no node is left"
}
