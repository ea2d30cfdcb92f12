package rolling

import "fmt"

// turn is when a node goes, beside what its guests ask for.
type turn int

const (
	begun turn = iota // it is in maintenance already
	canary
	anytime
	cephManager
	haMaster
	ours
)

// turn is that of a node.
func (m *sim) turn(p *place) turn {
	switch {
	case p.maintained:
		return begun
	case p.name == m.s.Own.Node:
		return ours
	case p.node.Canary:
		return canary // somebody wants it so, whatever else it is
	case m.s.Site.HA != nil && m.s.Site.HA.Manager != nil && m.s.Site.HA.Manager.Master == p.name && len(m.ha.index) > 0:
		return haMaster
	case m.s.Ceph != nil && m.s.Ceph.Manager == p.name:
		return cephManager
	}
	return anytime
}

// spill is how much of a node's memory in use would have to go to nodes that are not through yet, and from there again.
func (m *sim) spill(p *place, through int64) int64 { return max(p.capacity-p.free-through, 0) }

// through is the memory that is free on nodes that are through.
func (m *sim) through() (sum int64) {
	for i := range m.places {
		if p := &m.places[i]; p.back && !p.out && p.unfit == "" {
			sum += max(p.free, 0)
		}
	}
	return sum
}

// next is the node that should go next, with the reason; -1 if none is left.
func (m *sim) next(left []int) (at int, why string) {
	through := m.through()
	at = -1
	for _, i := range left {
		if at < 0 || m.before(&m.places[i], &m.places[at], through) {
			at = i
		}
	}
	if at < 0 {
		return -1, ""
	}
	return at, m.because(&m.places[at], through)
}

// before reports whether a should go before b: the one whose guests have to move again the least.
func (m *sim) before(a, b *place, through int64) bool {
	if x, y := m.turn(a), m.turn(b); x != y {
		return x < y
	}
	x, y := m.spill(a, through), m.spill(b, through)
	if x != y {
		return x < y
	}
	if x == 0 && through > 0 && a.free != b.free {
		return a.free > b.free // whose room helps those after it the most
	}
	if x, y := a.capacity-a.free, b.capacity-b.free; x != y {
		return x < y
	}
	return a.name < b.name
}

func (m *sim) because(p *place, through int64) string {
	switch m.turn(p) {
	case begun:
		return "it is in maintenance already"
	case canary:
		return "it is a canary"
	case cephManager:
		return "late: Ceph's active manager is on it"
	case haMaster:
		return "late: it is the master of the HA manager"
	case ours:
		return "last: pxrun runs on it"
	}
	switch {
	case len(p.here) == 0:
		return "no guest is on it"
	case m.spill(p, through) == 0 && through > 0:
		return "its guests find room on nodes that are through"
	}
	return fmt.Sprintf("the least to move again (%d guests)", len(p.here))
}
