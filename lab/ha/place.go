package ha

import (
	"maps"
	"slices"
	"strings"
)

// placement is a feasible set of rules in the form in which nodes are chosen.
type placement struct {
	homes    map[string]map[string]int // of a resource: priorities of the nodes it may run on
	together map[string][]string       // of a resource: those that it must run beside
	apart    map[string][]string       // of a resource: those that it must not run beside
}

// compile drops the rules that contradict each other and brings the others into a placement. nodes are all nodes.
func compile(rules []*rule, nodes []string) (*placement, []string) {
	bad := infeasible(rules, nodes)
	p := &placement{homes: map[string]map[string]int{}, together: map[string][]string{}, apart: map[string][]string{}}
	var kept, positives []*rule
	for _, r := range rules {
		if _, dropped := bad[r.ID]; dropped || r.Disabled {
			continue
		}
		kept = append(kept, r)
		if r.Type == resourceAffinity && r.Affinity == positive {
			positives = append(positives, r)
		}
	}
	for _, r := range kept {
		switch {
		case r.Type == nodeAffinity:
			for _, sid := range r.Resources {
				p.homes[sid] = effective(r, nodes)
			}
		case r.Affinity == negative:
			relate(p.apart, r.Resources)
		}
	}
	for _, set := range connected(positives) {
		relate(p.together, set.resources)
		p.inherit(set.resources)
	}
	return p, bad.messages()
}

// effective are the priorities of a rule's nodes; others have -1 unless the rule is strict.
func effective(r *rule, nodes []string) map[string]int {
	out := maps.Clone(r.Nodes)
	if r.Strict {
		return out
	}
	for _, n := range nodes {
		if _, named := out[n]; !named {
			out[n] = -1
		}
	}
	return out
}

func relate(into map[string][]string, resources []string) {
	for _, sid := range resources {
		for _, other := range resources {
			if other != sid && !slices.Contains(into[sid], other) {
				into[sid] = append(into[sid], other)
			}
		}
	}
}

// inherit makes what holds for one of a set that must stay together hold for all of it.
func (p *placement) inherit(set []string) {
	for _, sid := range set {
		home, ok := p.homes[sid]
		for _, other := range set {
			if ok && p.homes[other] == nil {
				p.homes[other] = home
			}
			for _, enemy := range slices.Clone(p.apart[sid]) {
				if other != enemy && !slices.Contains(p.apart[other], enemy) {
					p.apart[other] = append(p.apart[other], enemy)
					p.apart[enemy] = append(p.apart[enemy], other)
				}
			}
		}
	}
}

// preference is how a node is to be chosen.
type preference int

const (
	preferCurrent preference = iota
	preferBest
	preferNext // after a failed start
)

// usedNodes are the nodes that a service puts load on: its own and the one it goes to.
func usedNodes(s *service, online map[string]bool) []string {
	var out []string
	switch s.State {
	case stateStopped, stateRequestStart:
		return nil
	case stateBalance:
	default:
		if online[s.Node] {
			out = append(out, s.Node)
		}
	}
	if s.Target != "" && online[s.Target] && (s.State == stateMigrate || s.State == stateRelocate || s.State == stateBalance) {
		out = append(out, s.Target)
	}
	return out
}

// choose selects the node on which a service should run; "" if there is none.
func (p *placement) choose(sid string, failback bool, services map[string]*service, online map[string]bool, how preference) string {
	s := services[sid]
	if how == preferCurrent && s.Maintenance == "" && online[s.Node] && p.unbound(sid) {
		return s.Node
	}
	allowed, preferred := p.allowed(sid, online)
	if len(preferred) == 0 {
		return ""
	}
	beside, avoid := p.neighbours(sid, services, online)
	fits := !avoid[s.Node] && (len(beside) == 0 || beside[s.Node] > 0)
	if how == preferCurrent && !failback && allowed[s.Node] && fits {
		return s.Node
	}
	if how == preferNext {
		for _, failed := range s.Failed {
			delete(preferred, failed)
		}
	}
	for node := range avoid {
		delete(preferred, node)
	}
	if most := majority(beside); most != "" {
		maps.DeleteFunc(preferred, func(node string, _ bool) bool { return node != most })
	}
	switch {
	case s.Maintenance != "" && preferred[s.Maintenance]:
		return s.Maintenance
	case how == preferCurrent && preferred[s.Node]:
		return s.Node
	case len(preferred) == 0:
		return ""
	}
	ranked := rank(preferred, services, online)
	if at := slices.Index(ranked, s.Node); how == preferNext && at >= 0 && at < len(ranked)-1 {
		return ranked[at+1]
	}
	return ranked[0]
}

// unbound reports whether no rule says anything about a service: the common case, which costs nothing.
func (p *placement) unbound(sid string) bool {
	return p.homes[sid] == nil && len(p.together[sid]) == 0 && len(p.apart[sid]) == 0
}

// allowed are the online nodes on which a service may run, and those of them with the highest priority.
func (p *placement) allowed(sid string, online map[string]bool) (allowed, preferred map[string]bool) {
	home, bound := p.homes[sid]
	if !bound {
		return maps.Clone(online), maps.Clone(online)
	}
	allowed, preferred = map[string]bool{}, map[string]bool{}
	highest := -2
	for node, priority := range home {
		if online[node] {
			allowed[node] = true
			highest = max(highest, priority)
		}
	}
	for node := range allowed {
		if home[node] == highest {
			preferred[node] = true
		}
	}
	return allowed, preferred
}

// neighbours are the nodes where services are that this one must run beside, with their number, and those where services
// are that it must avoid.
func (p *placement) neighbours(sid string, services map[string]*service, online map[string]bool) (beside map[string]int, avoid map[string]bool) {
	beside, avoid = map[string]int{}, map[string]bool{}
	for _, other := range p.together[sid] {
		if s := services[other]; s != nil {
			for _, node := range usedNodes(s, online) {
				beside[node]++
			}
		}
	}
	for _, other := range p.apart[sid] {
		if s := services[other]; s != nil {
			for _, node := range usedNodes(s, online) {
				avoid[node] = true
			}
		}
	}
	return beside, avoid
}

// majority is the node with the most neighbours, the first by name of equals.
func majority(beside map[string]int) string {
	best := ""
	for _, node := range slices.Sorted(maps.Keys(beside)) {
		if best == "" || beside[node] > beside[best] {
			best = node
		}
	}
	return best
}

// rank sorts nodes by the number of services that they carry.
func rank(nodes map[string]bool, services map[string]*service, online map[string]bool) []string {
	load := map[string]int{}
	for _, s := range services {
		for _, node := range usedNodes(s, online) {
			load[node]++
		}
	}
	return slices.SortedFunc(maps.Keys(nodes), func(a, b string) int {
		if load[a] != load[b] {
			return load[a] - load[b]
		}
		return strings.Compare(a, b)
	})
}
