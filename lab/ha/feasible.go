package ha

import (
	"fmt"
	"maps"
	"slices"
)

// conflicts are the reasons for which rules are ignored, by rule and then by the option that is to blame (reference §5.2).
type conflicts map[string]map[string][]string

func (c conflicts) add(id, option, text string) {
	if c[id] == nil {
		c[id] = map[string][]string{}
	}
	c[id][option] = append(c[id][option], text)
}

// resources blames the resources, as nearly all checks do.
func (c conflicts) resources(r *rule, text string) { c.add(r.ID, "resources", text) }

// infeasible checks a set of rules against the nodes that there are.
func infeasible(rules []*rule, nodes []string) conflicts {
	found := conflicts{}
	var byNode, byResource, together, apart []*rule
	for _, r := range rules {
		switch {
		case r.Disabled:
		case r.Type == nodeAffinity:
			byNode = append(byNode, r)
		default:
			byResource = append(byResource, r)
			if r.Affinity == positive {
				together = append(together, r)
			} else {
				apart = append(apart, r)
			}
		}
	}
	found.usedTwice(byNode)
	found.counts(byResource, len(nodes))
	found.contradictions(together, apart)
	found.priorities(byResource, byNode)
	found.manyHomes(together, byNode)
	found.tooFewNodes(apart, byNode)
	return found
}

// usedTwice refuses resources in two node affinity rules.
func (c conflicts) usedTwice(byNode []*rule) {
	users := map[string]int{}
	for _, r := range byNode {
		for _, sid := range r.Resources {
			users[sid]++
		}
	}
	for _, r := range byNode {
		for _, sid := range r.Resources {
			if users[sid] > 1 {
				c.resources(r, fmt.Sprintf("resource '%s' is already used in another node affinity rule", sid))
			}
		}
	}
}

// counts refuses rules of one resource, and those that want more separate nodes than there are.
func (c conflicts) counts(byResource []*rule, nodes int) {
	for _, r := range byResource {
		if len(r.Resources) < 2 {
			c.resources(r, "rule is ineffective as there are less than two resources")
		}
	}
	for _, r := range byResource {
		if r.Affinity == negative && len(r.Resources) > nodes {
			c.resources(r, "rule defines more resources than available nodes")
		}
	}
}

// contradictions refuses rules that keep the same resources together and apart.
func (c conflicts) contradictions(together, apart []*rule) {
	for _, p := range together {
		for _, n := range apart {
			if len(common(p.Resources, n.Resources)) >= 2 {
				c.resources(p, "rule shares two or more resources with a negative resource affinity rule")
				c.resources(n, "rule shares two or more resources with a positive resource affinity rule")
			}
		}
	}
}

// priorities refuses resource affinity together with node affinity of several priorities.
func (c conflicts) priorities(byResource, byNode []*rule) {
	for _, r := range byResource {
		var paired []*rule
		several := false
		for _, n := range byNode {
			if len(common(r.Resources, n.Resources)) > 0 {
				paired = append(paired, n)
				several = several || severalPriorities(n.Nodes)
			}
		}
		if !several {
			continue
		}
		c.resources(r, "resources are in node affinity rules with multiple priorities")
		for _, n := range paired {
			c.resources(n, "resources are in a resource affinity rule and cannot be in a node affinity rule with multiple priorities")
		}
	}
}

// manyHomes refuses resources that must stay together and have more than one node affinity rule.
func (c conflicts) manyHomes(together, byNode []*rule) {
	for _, set := range connected(together) {
		var paired []*rule
		for _, n := range byNode {
			if len(common(set.resources, n.Resources)) > 0 {
				paired = append(paired, n)
			}
		}
		if len(paired) < 2 {
			continue
		}
		for _, r := range set.rules {
			c.resources(r, "resources are in multiple node affinity rules")
		}
		for _, n := range paired {
			c.resources(n, "at least one resource is in a positive resource affinity rule and there are other resources in at least one other node affinity rule already")
		}
	}
}

// tooFewNodes refuses resources that must be apart and are restricted to fewer nodes than that takes.
func (c conflicts) tooFewNodes(apart, byNode []*rule) {
	for _, r := range apart {
		var paired []*rule
		located, allowed := map[string]bool{}, map[string]bool{}
		for _, n := range byNode {
			shared := common(r.Resources, n.Resources)
			if len(shared) == 0 {
				continue
			}
			paired = append(paired, n)
			for _, sid := range shared {
				located[sid] = true
			}
			for node := range n.Nodes {
				allowed[node] = true
			}
		}
		if len(allowed) >= len(located) {
			continue
		}
		c.resources(r, "two or more resources are restricted to less nodes than available to the resources")
		for _, n := range paired {
			c.resources(n, "at least one resource is in a negative resource affinity rule and this rule would restrict these to less nodes than available to the resources")
		}
	}
}

// common are the elements of both lists.
func common(a, b []string) []string {
	var out []string
	for _, one := range a {
		if slices.Contains(b, one) {
			out = append(out, one)
		}
	}
	return out
}

func severalPriorities(nodes map[string]int) bool {
	seen := map[int]bool{}
	for _, p := range nodes {
		seen[p] = true
	}
	return len(seen) > 1
}

// connection is a set of rules of which each shares a resource with another one.
type connection struct {
	rules     []*rule
	resources []string
}

// connected joins rules that share resources.
func connected(rules []*rule) []connection {
	var sets []connection
	for _, r := range rules {
		now := connection{rules: []*rule{r}, resources: slices.Clone(r.Resources)}
		var rest []connection
		for _, set := range sets {
			if len(common(set.resources, now.resources)) == 0 {
				rest = append(rest, set)
				continue
			}
			now.rules = append(slices.Clone(set.rules), now.rules...)
			now.resources = append(now.resources, set.resources...)
		}
		slices.Sort(now.resources)
		now.resources = slices.Compact(now.resources)
		sets = append(rest, now)
	}
	return sets
}

// messages are the lines that the manager logs when it ignores rules.
func (c conflicts) messages() []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(c)) {
		for _, option := range slices.Sorted(maps.Keys(c[id])) {
			for _, text := range c[id][option] {
				out = append(out, fmt.Sprintf("Drop rule '%s', because %s.", id, text))
			}
		}
	}
	return out
}
