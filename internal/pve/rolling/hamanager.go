package rolling

import (
	"cmp"
	"slices"

	"github.com/pxrun/pxrun/internal/pve/ha"
)

// placement foretells where the HA manager puts services: by node affinity with its priorities, resource affinity both ways,
// and the number of services that a node carries (reference §5.5, §5.6). It decides itself, in the end.
type placement struct {
	homes    map[string]map[int]int // by service: the nodes it may run on with their priorities
	strict   map[string]bool
	together map[string][]string
	apart    map[string][]string
	index    map[string]int // guests by service id
	failback map[string]bool
	ignored  []string // rules that contradict each other, which Proxmox VE ignores
}

// counts reports whether the HA manager counts a guest as a service of its node.
func (r *resident) counts() bool {
	if !r.ByHA() {
		return false
	}
	switch r.Managed.Service.State {
	case "", "stopped", "request_start":
		return false
	}
	return true
}

// transient reports whether the HA manager is at work on a service in a way that ends by itself, with the service running.
func (r *resident) transient() bool {
	switch r.Managed.Service.State {
	case "migrate", "relocate", "request_start", "request_start_balance":
		return r.ByHA()
	}
	return false
}

// going is where the HA manager is moving a service right now; -1 if it is not.
func (m *sim) going(i int) int {
	s := m.guests[i].Managed.Service
	to, ok := m.at[s.Target]
	if !ok || s.State != "migrate" && s.State != "relocate" || s.Node != m.places[m.guests[i].at].name || m.places[to].out {
		return -1
	}
	return to
}

func newPlacement(m *sim) *placement {
	p := &placement{
		homes: map[string]map[int]int{}, strict: map[string]bool{}, together: map[string][]string{}, apart: map[string][]string{},
		index: map[string]int{}, failback: map[string]bool{},
	}
	for i := range m.guests {
		if r := &m.guests[i]; r.ByHA() {
			p.index[r.SID()] = i
			if r.counts() {
				m.places[r.at].services++
			}
		}
	}
	state := m.s.Site.HA
	if state == nil || len(p.index) == 0 {
		return p
	}
	p.groups(m, state)
	p.rules(m, state)
	return p
}

// groups reads the groups of Proxmox VE 8, and who wants back to a better node.
func (p *placement) groups(m *sim, state *ha.State) {
	groups := map[string]ha.Group{}
	for _, g := range state.Groups {
		groups[g.Name] = g
	}
	for _, r := range state.Resources {
		p.failback[r.SID] = r.Failback
		if g, ok := groups[r.Group]; ok && r.Group != "" {
			p.home(m, r.SID, g.Nodes, g.Restricted)
			p.failback[r.SID] = !g.NoFailback
		}
	}
}

func (p *placement) home(m *sim, sid string, nodes ha.Nodes, strict bool) {
	at := map[int]int{}
	for name, priority := range nodes {
		if i, ok := m.at[name]; ok {
			at[i] = priority
		}
	}
	p.homes[sid], p.strict[sid] = at, strict
}

// rules reads those of Proxmox VE 9. Rules that contradict each other are ignored by it.
func (p *placement) rules(m *sim, state *ha.State) {
	names := make([]string, len(m.places))
	for i := range m.places {
		names[i] = m.places[i].name
	}
	rules := slices.Clone(state.Rules)
	slices.SortFunc(rules, func(a, b ha.Rule) int { return cmp.Compare(a.ID, b.ID) })
	bad := map[string]bool{}
	for _, c := range ha.Conflicts(rules, names) {
		for _, id := range c.Rules {
			bad[id] = true
		}
		p.ignored = append(p.ignored, c.String())
	}
	for _, r := range rules {
		switch {
		case r.Disabled || bad[r.ID]:
		case r.Type == ha.NodeAffinity:
			for _, sid := range r.Resources {
				p.home(m, sid, r.Nodes, r.Strict)
			}
		case r.Affinity == ha.Negative:
			relate(p.apart, r.Resources)
		default:
			relate(p.together, r.Resources)
		}
	}
	p.inherit()
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

// inherit makes what holds for one of those that stay together hold for all of them.
func (p *placement) inherit() {
	seen := map[string]bool{}
	for _, sid := range sortedKeys(p.together) {
		if seen[sid] {
			continue
		}
		set := p.connected(sid)
		for _, one := range set {
			seen[one] = true
			for _, other := range set {
				if other == one {
					continue
				}
				if !slices.Contains(p.together[one], other) {
					p.together[one] = append(p.together[one], other)
				}
				if home, ok := p.homes[one]; ok && p.homes[other] == nil {
					p.homes[other], p.strict[other] = home, p.strict[one]
				}
				for _, enemy := range slices.Clone(p.apart[one]) {
					relate(p.apart, []string{other, enemy})
				}
			}
		}
	}
}

// connected are all services that stay together with one, by name.
func (p *placement) connected(sid string) []string {
	set := []string{sid}
	for i := 0; i < len(set); i++ {
		for _, other := range p.together[set[i]] {
			if !slices.Contains(set, other) {
				set = append(set, other)
			}
		}
	}
	slices.Sort(set)
	return set
}

// choose is the node on which the HA manager would have a service, and why. at < 0 is none. home is the node that it left for
// the sake of maintenance, to which it goes back; -1 if it left none.
func (p *placement) choose(m *sim, i, home int) (at int, why string) {
	sid := m.guests[i].SID()
	now := m.guests[i].at
	beside, avoid := p.neighbours(m, sid)
	stays := !avoid[now] && (len(beside) == 0 || beside[now] > 0)
	if home >= 0 && !p.failback[sid] && p.allowed(m, sid, now) && stays {
		return now, "its failback is off"
	}
	homes, bound := p.homes[sid]
	c := candidates{homes: homes, bound: bound, strict: p.strict[sid], avoid: avoid, most: majority(beside)}
	top, some := c.top(m)
	at = -1
	for k := range m.places {
		if !c.good(m, k, top) {
			continue
		}
		switch {
		case k == home:
			return home, "the HA manager brings it back"
		case at < 0 || m.rank(i, k, at) < 0:
			at = k
		}
	}
	switch {
	case at < 0:
		return -1, c.nowhere(some)
	case home >= 0 && c.most == now:
		return now, "those that it must stay together with are there"
	case home >= 0 && c.good(m, now, top):
		return now, "it is where the HA manager wants it"
	}
	return at, c.reason(top, m.s.Scheduler)
}

// allowed reports whether a service may be on a node at all.
func (p *placement) allowed(m *sim, sid string, at int) bool {
	if !m.places[at].haOnline || m.places[at].out {
		return false
	}
	_, named := p.homes[sid][at]
	return named || !p.strict[sid]
}

// neighbours are where the services are that one must run beside, and those that it must avoid.
func (p *placement) neighbours(m *sim, sid string) (beside map[int]int, avoid map[int]bool) {
	for _, other := range p.together[sid] {
		if i, ok := p.index[other]; ok && m.present(i) {
			if beside == nil {
				beside = map[int]int{}
			}
			beside[m.guests[i].at]++
		}
	}
	for _, other := range p.apart[sid] {
		if i, ok := p.index[other]; ok && m.present(i) {
			if avoid == nil {
				avoid = map[int]bool{}
			}
			avoid[m.guests[i].at] = true
		}
	}
	return beside, avoid
}

// present reports whether the HA manager counts a service on a node that is there.
func (m *sim) present(i int) bool {
	at := &m.places[m.guests[i].at]
	return m.guests[i].counts() && at.haOnline && !at.out
}

// majority is the node with the most neighbours, the first by name of equals; -1 without any.
func majority(beside map[int]int) int {
	best := -1
	for at, n := range beside {
		if best < 0 || n > beside[best] || n == beside[best] && at < best {
			best = at
		}
	}
	return best
}

func byMemory(scheduler string) bool { return scheduler == "static" || scheduler == "dynamic" }

// rank compares two nodes as the HA manager does: by the number of services, or with a static or dynamic scheduler by the
// share of memory that would be used, which is the better part of what those weigh.
func (m *sim) rank(i, a, b int) int {
	if byMemory(m.s.Scheduler) {
		return cmp.Compare(m.places[a].used(m.guests[i].Memory), m.places[b].used(m.guests[i].Memory))
	}
	return cmp.Compare(m.places[a].services, m.places[b].services)
}

// used is the share of a node's memory that would be used with so much more on it.
func (p *place) used(more int64) float64 {
	if p.capacity <= 0 {
		return 2
	}
	return float64(p.capacity-p.free+more) / float64(p.capacity)
}
