package rolling

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Prove simulates the whole run. Guests are spread over the nodes; if one finds no room then, in any step, they are packed from
// the beginning, so that what is left for big guests stays in one piece.
func Prove(s Situation) Proof {
	p := prove(&s)
	if s.Pack || !slices.ContainsFunc(p.Blocks, func(b Block) bool { return b.Gate == MemoryGate }) {
		return *p
	}
	s.Pack = true
	if packed := prove(&s); len(packed.Blocks) < len(p.Blocks) {
		return *packed
	}
	return *p
}

func prove(s *Situation) *Proof {
	m := newSim(s)
	p := &Proof{Next: []string{}, Order: []string{}, Rounds: []Round{}, Packed: s.Pack}
	left := m.begin(p)
	p.Blocks = append(p.Blocks, m.atLarge()...)
	number := 0
	if len(s.Away) > 0 {
		left = m.beside(p, left)
		number = len(p.Rounds)
	}
	for ; len(left) > 0; number++ {
		room := m.spare(left)
		if len(room) == 0 {
			room = left // what keeps them is said in their turn
		}
		left = m.pass(p, m.choose(room, m.canaries(number)), left)
	}
	if len(s.Away) == 0 && len(p.Rounds) > 0 {
		p.Next = p.Rounds[0].Nodes
	}
	p.sum()
	m.window(p)
	p.Warnings = m.warnings(p)
	p.MayChange = m.mayChange(p)
	return p
}

// Targets is what happens to the guests of one node when it is emptied now, beside nodes that are away: the part of a proof that
// is decided again just before it is done. If the situation names nodes that go later, guests are packed when those would find
// no room otherwise, as in the proof.
func Targets(s Situation, node string, away []string) []Plan {
	s.Away = slices.Concat(s.Away, away)
	if !s.Pack && len(s.Nodes) > 1 {
		s.Pack = Prove(s).Packed
	}
	m := newSim(&s)
	at, ok := m.at[node]
	if !ok {
		return nil
	}
	m.leaveOut(s.Away)
	m.places[at].out = true
	return plans(m.drain([]int{at}))
}

func plans(all []leaving) []Plan {
	out := make([]Plan, len(all))
	for k := range all {
		out[k] = all[k].plan
	}
	return out
}

// begin sorts the nodes into those that are skipped and those that go.
func (m *sim) begin(p *Proof) (left []int) {
	for i := range m.places {
		n := m.places[i].node
		switch {
		case n == nil || slices.Contains(slices.Concat(m.s.Away, m.s.Failed, m.s.Done), n.Name):
		case n.Idle != "":
			p.Skipped = append(p.Skipped, Skipped{n.Name, n.Idle})
		default:
			left = append(left, i)
		}
	}
	for _, n := range m.s.Nodes {
		if _, ok := m.at[n.Name]; !ok {
			p.Blocks = append(p.Blocks, Block{Gate: UnknownGate, Node: n.Name, Saw: n.Name + " is no node of the cluster", Want: "a node of it", Look: "pvecm nodes", Override: "leave it out"})
		}
	}
	slices.SortFunc(p.Blocks, func(a, b Block) int { return cmp.Compare(a.Node, b.Node) })
	return left
}

// atLarge is what stands against the run whichever node goes.
func (m *sim) atLarge() []Block {
	var out []Block
	for _, name := range slices.Sorted(maps.Keys(m.s.Site.Unread)) {
		out = append(out, Block{Gate: UnknownGate, Saw: "the read of " + name + " failed: " + m.s.Site.Unread[name], Want: "what it holds", Look: "ls /etc/pve"})
	}
	if !m.s.Site.Quorate {
		out = append(out, Block{Gate: VotesGate, Saw: "the cluster is not quorate as " + m.s.Site.From + " sees it", Want: "a quorate cluster", Look: "pvecm status"})
	}
	return append(out, m.cephAtLarge()...)
}

// leaveOut marks nodes that are away.
func (m *sim) leaveOut(names []string) {
	m.away = names
	for _, name := range names {
		if at, ok := m.at[name]; ok {
			m.places[at].out = true
		}
	}
}

// beside finds what may begin now beside nodes that are away. After that they are taken to be back.
func (m *sim) beside(p *Proof, left []int) []int {
	m.leaveOut(m.s.Away)
	switch room := m.spare(left); {
	case len(left) == 0:
		p.Why = "no node is left"
	case m.s.Canary > 0:
		p.Why = "the first go alone"
	case len(room) == 0:
		p.Why = fmt.Sprintf("no more than %d may be away at once", m.limit(m.places[left[0]].node))
	default:
		at, _ := m.next(room)
		if b := m.wrong([]int{at}); b != nil {
			p.Why = b.Saw
			break
		}
		left = m.pass(p, m.choose(room, m.canaries(0)), left)
		p.Next = p.Rounds[0].Nodes
	}
	for _, name := range m.s.Away {
		if at, ok := m.at[name]; ok {
			m.finish(at)
		}
	}
	m.away = nil
	return left
}

// pass goes through a round. It returns the nodes that are left.
func (m *sim) pass(p *Proof, s set, left []int) []int {
	r, blocks := m.round(s)
	p.Order = append(p.Order, r.Nodes...)
	p.Rounds = append(p.Rounds, r)
	p.Blocks = append(p.Blocks, blocks...)
	return slices.DeleteFunc(left, func(at int) bool { return slices.Contains(s.nodes, at) })
}

// sum adds up what the rounds hold.
func (p *Proof) sum() {
	for _, r := range p.Rounds {
		p.Seconds += r.Seconds
		for _, s := range r.Steps {
			p.Moves += s.MoveOuts + homecomers(s.Home)
			p.Stops += s.Stops
			for _, g := range s.Guests {
				if g.Again && g.Fate == Moves {
					p.Again++
				}
			}
		}
	}
}
