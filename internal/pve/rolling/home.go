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

func (m *sim) comeBack(i, at int) (Plan, bool) {
	r := &m.guests[i]
	why := "it comes home"
	switch {
	case r.ByHA():
		to, said := m.ha.choose(m, i, at)
		if to != at {
			return Plan{}, false
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
	policy := r.policy
	if policy != RestartContainer && policy != MigrateWithDisks {
		policy = Migrate
	}
	move := m.ask(r, at, policy.Options())
	l := leaving{i: i, to: -1, policy: policy, ha: r.ByHA(), plan: Plan{
		ID: r.ID, Kind: r.Kind, Name: r.Name, Guest: r.String(), From: m.places[r.at].name, ByHA: r.ByHA(), MemoryBytes: r.Memory,
	}}
	short := r.Memory - m.places[at].free
	switch {
	case !move.Can() && r.ByHA():
		for _, reason := range move.Reasons {
			b := blockOf(reason)
			b.Gate, b.Saw = HAGate, "the HA manager would bring it back to "+m.places[at].name+", where it cannot go: "+b.Saw
			b.Override = "failback = false for it, or policy shutdown"
			l.block(b)
			l.plan.Blocks[len(l.plan.Blocks)-1].Node = m.places[at].name
		}
		return l.plan, true
	case !move.Can():
		l.plan.Fate, l.plan.Why = Stays, "it cannot come home: "+move.Reasons[0].Saw
		return l.plan, true
	case !r.ByHA() && short > 0 && !m.s.Overcommit:
		l.plan.Fate, l.plan.Why = Stays, "it cannot come home: "+m.places[at].name+" is "+guest.FormatBytes(short)+" short of its memory"
		return l.plan, true
	}
	m.give(&l, at, move, why)
	r.home, r.moved = at, false
	return l.plan, true
}
