package rolling

import (
	"fmt"
	"slices"
	"strings"
)

// set is a number of nodes that go at once. They are out, and their guests have moved.
type set struct {
	nodes []int
	// because is why the first of them goes now, why why there are no more.
	because, why string
	guests       []leaving
}

// limit is how many nodes may be out at once: in all, or in the site of a node.
func (m *sim) limit(of *Node) int {
	l := m.s.Max
	if l.Count > 0 || l.Percent <= 0 {
		return max(l.Count, 1)
	}
	total := 0
	for i := range m.s.Nodes {
		if !l.PerSite || of == nil || m.s.Nodes[i].Site == of.Site {
			total++
		}
	}
	return max(total*l.Percent/100, 1)
}

// crowded reports whether no more nodes may go beside a set and those that are away, for the number of them alone.
func (m *sim) crowded(nodes []int, one *Node) bool {
	n := 0
	count := func(p *place) {
		if !m.s.Max.PerSite || p.node != nil && p.node.Site == one.Site {
			n++
		}
	}
	for _, at := range nodes {
		count(&m.places[at])
	}
	out := slices.Concat(m.away, m.counted)
	if m.s.Max.PerSite {
		out = append(out, m.s.Failed...) // they have their place; of a number for all, whoever asks has taken them off
	}
	slices.Sort(out)
	for _, name := range slices.Compact(out) {
		if at, ok := m.at[name]; ok {
			count(&m.places[at])
		}
	}
	return n >= m.limit(one)
}

// spare are those that may go beside the nodes that are away.
func (m *sim) spare(left []int) []int {
	return slices.DeleteFunc(slices.Clone(left), func(at int) bool { return m.crowded(nil, m.places[at].node) })
}

// canaries reports whether the nodes of a round go alone because they are the first.
func (m *sim) canaries(number int) bool { return number < m.s.Canary }

// wrong is what votes or Ceph say against a set; nil if nothing.
func (m *sim) wrong(nodes []int) *Block {
	if b := m.lacksVotes(nodes); b != nil {
		return b
	}
	_, b := m.lacksCeph(nodes)
	return b
}

// choose chooses the nodes that go next, takes them out and moves their guests. There is more than one only if votes, Ceph and
// memory bear it and no guest is left without a place by it.
func (m *sim) choose(left []int, alone bool) set {
	s := m.gather(left, alone)
	for {
		for _, at := range s.nodes {
			m.places[at].out = true
		}
		s.guests = m.drain(s.nodes)
		if len(s.nodes) == 1 || !slices.ContainsFunc(s.guests, func(l leaving) bool { return l.plan.Fate == Blocked && !l.fixed }) {
			return s
		}
		m.undo(s)
		s.why = fmt.Sprintf("with %d at once, guests would find no place", len(s.nodes))
		s.nodes = s.nodes[:len(s.nodes)/2]
	}
}

// undo brings the guests of a set back.
func (m *sim) undo(s set) {
	for k := len(s.guests) - 1; k >= 0; k-- {
		l := &s.guests[k]
		if l.to < 0 {
			continue
		}
		if space := m.places[l.to].space; space != nil {
			for _, v := range l.move.Copied {
				if _, known := space[v.Storage]; known {
					space[v.Storage] += v.Size
				}
			}
		}
		m.move(l.i, l.before.at)
		r := &m.guests[l.i]
		r.home, r.moved, r.Jobs = l.before.home, l.before.moved, l.before.jobs
	}
	for _, at := range s.nodes {
		m.places[at].out = false
	}
}

// gather finds nodes that may go at once as far as their number, votes, Ceph and the sum of memory say.
func (m *sim) gather(left []int, alone bool) set {
	first, because := m.next(left)
	s := set{nodes: []int{first}, because: because}
	p := &m.places[first]
	if alone {
		s.why = "the first go alone"
		return s
	}
	if m.crowded(s.nodes, p.node) && !m.s.Max.PerSite || m.wrong(s.nodes) != nil {
		s.why = m.most(p.node)
		return s
	}
	through := m.through()
	others := slices.DeleteFunc(slices.Clone(left), func(at int) bool { return at == first || m.turn(&m.places[at]) != m.turn(p) })
	slices.SortFunc(others, func(a, b int) int {
		if m.before(&m.places[a], &m.places[b], through) {
			return -1
		}
		return 1
	})
	free := through + m.waiting(left)
	free -= max(p.free, 0) + p.capacity - p.free
	for _, at := range others {
		o := &m.places[at]
		if m.crowded(s.nodes, o.node) {
			s.why = m.most(o.node)
			continue
		}
		if used := o.capacity - o.free; free < used+max(o.free, 0) && !m.s.Overcommit {
			s.why = fmt.Sprintf("with %s as well, the memory that is left would not do", o.name)
			continue
		}
		if b := m.wrong(append(s.nodes, at)); b != nil {
			s.why = b.Saw
			continue
		}
		s.nodes = append(s.nodes, at)
		free -= max(o.free, 0) + o.capacity - o.free
	}
	return s
}

func (m *sim) most(of *Node) string {
	if m.s.Max.PerSite {
		return fmt.Sprintf("no more than %d of site %q at once", m.limit(of), of.Site)
	}
	return fmt.Sprintf("no more than %d at once", m.limit(of))
}

// waiting is the memory that is free on nodes that are yet to go.
func (m *sim) waiting(left []int) (sum int64) {
	for _, at := range left {
		if p := &m.places[at]; !p.out && p.unfit == "" {
			sum += max(p.free, 0)
		}
	}
	return sum
}

// round goes through with a set: what is left while it is out, what is done on each node, and who comes home.
func (m *sim) round(s set) (Round, []Block) {
	r := Round{Why: s.why, Votes: m.votes(s.nodes)}
	var blocks []Block
	if b := m.lacksNumber(m.places[s.nodes[0]].node); b != nil {
		blocks = append(blocks, *b)
	}
	if b := m.lacksVotes(s.nodes); b != nil {
		blocks = append(blocks, *b)
	}
	said, b := m.lacksCeph(s.nodes)
	if r.Ceph = said; b != nil {
		blocks = append(blocks, *b)
		r.Ceph = b.Saw
	}
	for k := range blocks {
		blocks[k].Node = m.places[s.nodes[0]].name
	}
	r.Headroom, r.Least = m.headroom()
	for _, at := range s.nodes {
		step := m.step(at, s)
		for _, b := range []*Block{m.unready(&m.places[at]), m.own(at, step.Guests)} {
			if b != nil {
				b.Node = step.Node
				blocks = append(blocks, *b)
			}
		}
		for _, g := range step.Guests {
			blocks = append(blocks, g.Blocks...)
		}
		r.Nodes = append(r.Nodes, step.Node)
		r.Steps = append(r.Steps, step)
	}
	for _, at := range s.nodes {
		m.finish(at)
	}
	for k, at := range s.nodes {
		r.Steps[k].Home = m.home(at, s.guests)
		for _, g := range r.Steps[k].Home {
			blocks = append(blocks, g.Blocks...)
		}
	}
	m.times(&r)
	return r, blocks
}

// step is what happens to one node of a set, times left out.
func (m *sim) step(at int, s set) Step {
	p := &m.places[at]
	step := Step{Node: p.name, Why: s.because, Work: p.node.Work.String(), Reboot: p.node.Work.Reboot}
	if step.Reboot == "" {
		step.Reboot = Perhaps
	}
	if at != s.nodes[0] {
		step.Why = "votes, Ceph and memory bear that it goes at the same time"
	}
	for k := range s.guests {
		if s.guests[k].plan.From == p.name {
			step.Guests = append(step.Guests, s.guests[k].plan)
		}
	}
	return step
}

// String says what is done: 12 packages, a reboot (the kernel changes).
func (w Work) String() string {
	var parts []string
	switch {
	case w.Packages > 0 && w.Unsure:
		parts = append(parts, "packages")
	case w.Packages == 1:
		parts = append(parts, "1 package")
	case w.Packages > 1:
		parts = append(parts, fmt.Sprintf("%d packages", w.Packages))
	}
	why := ""
	if w.Why != "" {
		why = " (" + w.Why + ")"
	}
	switch w.Reboot {
	case Yes:
		parts = append(parts, "a reboot"+why)
	case No:
	default:
		parts = append(parts, "perhaps a reboot"+why)
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
