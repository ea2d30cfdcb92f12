package ha

import (
	"fmt"
	"slices"
	"strings"
)

// Conflict is a reason why Proxmox VE would refuse a set of rules or quietly ignore one of them (reference §5.2), or why a
// guest would have nowhere to run.
type Conflict struct {
	Rules []string // the ids of the rules that take part
	Why   string
}

// String names the rules.
func (c Conflict) String() string {
	return "rule " + strings.Join(c.Rules, " and ") + ": " + c.Why
}

// Conflicts finds what is wrong with rules on the nodes of a cluster. Disabled rules take no part.
func Conflicts(rules []Rule, nodes []string) []Conflict {
	var c conflicts
	c.nodes = nodes
	for _, r := range rules {
		switch {
		case r.Disabled:
		case r.Type == NodeAffinity:
			c.placed = append(c.placed, r)
		case r.Type == ResourceAffinity && r.Affinity == Negative:
			c.apart = append(c.apart, r)
		case r.Type == ResourceAffinity:
			c.together = append(c.together, r)
		}
	}
	c.oneHome()
	c.sizes()
	c.opposites()
	c.mixtures()
	c.nowhere()
	return c.found
}

type conflicts struct {
	nodes                   []string
	placed, apart, together []Rule
	found                   []Conflict
}

func (c *conflicts) add(why string, rules ...string) {
	c.found = append(c.found, Conflict{Rules: rules, Why: why})
}

// oneHome: a resource may be in one node affinity rule only, whose nodes must exist.
func (c *conflicts) oneHome() {
	home := map[string]string{}
	for _, r := range c.placed {
		for _, sid := range r.Resources {
			if other, taken := home[sid]; taken {
				c.add(fmt.Sprintf("%s is in both, and a resource may be in one node affinity rule only", sid), other, r.ID)
				continue
			}
			home[sid] = r.ID
		}
		for _, name := range r.Nodes.Names() {
			if !slices.Contains(c.nodes, name) {
				c.add(fmt.Sprintf("%s is no node of the cluster", name), r.ID)
			}
		}
	}
}

// sizes: two resources at least, and for each that must be alone a node.
func (c *conflicts) sizes() {
	for _, r := range slices.Concat(c.together, c.apart) {
		if len(r.Resources) < 2 {
			c.add("it has less than two resources, so it has no effect", r.ID)
		}
	}
	for _, r := range c.apart {
		if len(r.Resources) > len(c.nodes) {
			c.add(fmt.Sprintf("%d resources must be apart and there are %d nodes", len(r.Resources), len(c.nodes)), r.ID)
		}
	}
}

// opposites: what must be together cannot be apart.
func (c *conflicts) opposites() {
	for _, p := range c.together {
		for _, n := range c.apart {
			if both := common(p.Resources, n.Resources); len(both) > 1 {
				c.add(strings.Join(both, " and ")+" must be together by the one and apart by the other", p.ID, n.ID)
			}
		}
	}
}

// mixtures: node affinity of resources that depend on each other has limits in Proxmox VE.
func (c *conflicts) mixtures() {
	for _, r := range slices.Concat(c.together, c.apart) {
		for _, p := range c.placed {
			if both := common(r.Resources, p.Resources); len(both) > 0 && p.Nodes.priorities() > 1 {
				c.add(fmt.Sprintf("%s is in a resource affinity rule and cannot be in a node affinity rule with several priorities", both[0]), r.ID, p.ID)
			}
		}
	}
	for _, r := range c.together {
		homes := map[string]bool{}
		var ids []string
		for _, p := range c.placed {
			if len(common(r.Resources, p.Resources)) > 0 && !homes[p.ID] {
				homes[p.ID] = true
				ids = append(ids, p.ID)
			}
		}
		if len(ids) > 1 {
			c.add("resources that must be together are in several node affinity rules", append([]string{r.ID}, ids...)...)
		}
	}
}

// nowhere: resources that must be apart need a node each, among those that strict rules leave them.
func (c *conflicts) nowhere() {
	for _, r := range c.apart {
		if len(r.Resources) > len(c.nodes) {
			continue // told already
		}
		allowed := make([][]string, len(r.Resources))
		ids := []string{r.ID}
		for i, sid := range r.Resources {
			allowed[i] = c.nodes
			for _, p := range c.placed {
				if p.Strict && slices.Contains(p.Resources, sid) {
					allowed[i] = p.Nodes.Names()
					if !slices.Contains(ids, p.ID) {
						ids = append(ids, p.ID)
					}
				}
			}
		}
		if left := unplaced(allowed); left >= 0 {
			c.add(fmt.Sprintf("%s has no node left: strict rules leave %s fewer nodes than resources that must be apart", r.Resources[left], strings.Join(r.Resources, ", ")), ids...)
		}
	}
}

// unplaced gives each item a place of its own among those that it may have. It returns the first item for which there is
// none, -1 if all have one.
func unplaced(allowed [][]string) int {
	holder := map[string]int{}
	var place func(i int, seen map[string]bool) bool
	place = func(i int, seen map[string]bool) bool {
		for _, name := range allowed[i] {
			if seen[name] {
				continue
			}
			seen[name] = true
			other, taken := holder[name]
			if !taken || place(other, seen) {
				holder[name] = i
				return true
			}
		}
		return false
	}
	for i := range allowed {
		if !place(i, map[string]bool{}) {
			return i
		}
	}
	return -1
}

func common(a, b []string) []string {
	var out []string
	for _, x := range a {
		if slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}

// Stranded lists resources that a strict rule binds to a single node: nothing can take them over when it fails.
func Stranded(rules []Rule) map[string]string {
	out := map[string]string{}
	for _, r := range rules {
		if r.Type == NodeAffinity && r.Strict && !r.Disabled && len(r.Nodes) == 1 {
			for _, sid := range r.Resources {
				out[sid] = r.Nodes.Names()[0]
			}
		}
	}
	return out
}
