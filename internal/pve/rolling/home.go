package rolling

import (
	"cmp"
	"slices"

	"github.com/pxrun/pxrun/internal/pve/guest"
)

// home brings guests back to a node that is through: those under HA as its manager does it, the others by policy.
func (m *sim) home(at int, left []leaving) []Plan {
	var back []int
	for k := range left {
		if r := &m.guests[left[k].i]; left[k].to >= 0 && r.moved && r.home == at {
			back = append(back, left[k].i)
		}
	}
	slices.SortFunc(back, func(a, b int) int {
		x, y := &m.guests[a], &m.guests[b]
		switch {
		case x.ByHA() && y.ByHA():
			return cmp.Compare(x.SID(), y.SID())
		case x.ByHA():
			return -1 // nothing keeps them: the others have what they leave
		case y.ByHA():
			return 1
		}
		return cmp.Compare(a, b)
	})
	var out []Plan
	for _, i := range back {
		if p, ok := m.comeBack(i, at); ok {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Plan) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// comeBack brings one guest home, or says why it stays where it is. told is false if nobody wants it home.
func (m *sim) comeBack(i, at int) (p Plan, told bool) {
	r := &m.guests[i]
	l := leaving{i: i, to: -1, policy: r.policy, ha: r.ByHA(), plan: Plan{
		ID: r.ID, Kind: r.Kind, Name: r.Name, Guest: r.String(), From: m.places[r.at].name, ByHA: r.ByHA(), MemoryBytes: r.Memory,
	}}
	if l.policy != RestartContainer && l.policy != MigrateWithDisks {
		l.policy = Migrate
	}
	why := "it comes home"
	switch {
	case r.ByHA():
		to, said := m.ha.choose(m, i, at)
		if to != at {
			l.plan.Fate, l.plan.Why = Stays, "the HA manager does not bring it back: "+said
			return l.plan, true
		}
		why = said
	case m.s.Return == ReturnMoved:
	case m.s.Return == ReturnBalanced:
		if m.places[r.at].used(0) <= m.places[at].used(r.Memory) {
			return Plan{}, false
		}
		why = "it comes home: " + m.places[r.at].name + " is fuller"
	default:
		return Plan{}, false
	}
	move := m.ask(r, at, l.policy.Options())
	if m.cannotReturn(&l, at, move) {
		return l.plan, true
	}
	m.give(&l, at, move, why)
	r.home, r.moved = at, false
	return l.plan, true
}

// cannotReturn says what keeps a guest from its home, if anything does. Under HA, that would be tried again and again.
func (m *sim) cannotReturn(l *leaving, at int, move guest.Move) bool {
	home := &m.places[at]
	short := m.guests[l.i].Memory - home.free
	switch {
	case !move.Can() && l.ha:
		for _, reason := range move.Reasons {
			b := blockOf(reason)
			b.Gate, b.Saw = HAGate, "the HA manager would bring it back to "+home.name+", where it cannot go: "+b.Saw
			b.Override = "failback = false for it, or policy shutdown"
			l.block(b)
			l.plan.Blocks[len(l.plan.Blocks)-1].Node = home.name
		}
	case !move.Can():
		l.plan.Fate, l.plan.Why = Stays, "it cannot come home: "+move.Reasons[0].Saw
	case !l.ha && short > 0 && !m.s.Overcommit:
		l.plan.Fate, l.plan.Why = Stays, "it cannot come home: "+home.name+" is "+guest.FormatBytes(short)+" short of its memory"
	default:
		return false
	}
	return true
}
