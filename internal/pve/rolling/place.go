package rolling

import (
	"cmp"
	"slices"

	"github.com/pxrun/pxrun/internal/pve/guest"
)

// mover is a guest for which a node is looked for.
type mover struct {
	*leaving
	r *resident
	// fit are the nodes that have what it needs, no those that were asked about and refused it.
	fit []uint64
	no  map[int]guest.Move
	// stuck is what keeps it from going anywhere.
	stuck *guest.Move
	// asked is the node that was asked about last and takes it.
	asked     int
	confirmed guest.Move
	// choice is where it goes, of so many nodes that would do.
	choice, choices int
}

// anywhere are the reasons that are the same for every target.
var anywhere = []guest.Code{
	guest.IsTemplate, guest.IsLocked, guest.InHAError, guest.HADisarmed, guest.LocalDevice, guest.LocalDisk, guest.LocalMedium, guest.LocalPath,
	guest.HasClones, guest.ForeignVolume, guest.StorageKind, guest.StorageContent, guest.JobRemoved, guest.NeedsRestart, guest.StateUnknown,
}

// everywhere reports whether a reason is the same for every target. A snapshot travels to where a volume is replicated.
func (r *resident) everywhere(why guest.Reason) bool {
	return slices.Contains(anywhere, why.Code) || why.Code == guest.HasSnapshot && len(r.Jobs) == 0
}

// manner is how one of several nodes is chosen.
type manner int

const (
	spread  manner = iota // the one with the greatest share of memory left
	fitting               // the fullest that has room: what is left for big guests stays in one piece
)

// byUs finds nodes for all guests that pxrun moves itself. Guests are spread over the nodes as long as all find room so; then
// they are packed, the biggest first; then, within bounds, all ways are tried.
func (m *sim) byUs(all []leaving) {
	var movers []*mover
	for k := range all {
		if l := &all[k]; l.moves && !l.ha {
			r := &m.guests[l.i]
			movers = append(movers, &mover{leaving: l, r: r, fit: m.fit(r.class), no: map[int]guest.Move{}, asked: -1, choice: -1})
		}
	}
	if len(movers) == 0 {
		return
	}
	slices.SortFunc(movers, func(a, b *mover) int { return cmp.Or(cmp.Compare(b.r.Memory, a.r.Memory), cmp.Compare(a.i, b.i)) })
	packing := func(list []*mover) int64 { return m.attempt(list, fitting) }
	tries := []func([]*mover) int64{packing, m.attemptNarrow, m.search}
	if !m.s.Pack {
		tries = slices.Insert(tries, 0, func(list []*mover) int64 { return m.attempt(list, spread) })
	}
	for _, try := range tries {
		if m.better(movers, try) {
			break
		}
	}
	m.settleMovers(movers)
}

// better tries a way and keeps it if it places more memory than what was found before. It reports whether all found room.
func (m *sim) better(movers []*mover, try func([]*mover) int64) bool {
	before, worst := make([]int, len(movers)), int64(-1)
	for k, v := range movers {
		before[k] = v.choice
		if v.choice < 0 && v.stuck == nil {
			worst = max(worst, 0) + max(v.r.Memory, 1)
		}
	}
	left := try(movers)
	if left >= worst {
		for k, v := range movers {
			v.choice = before[k]
		}
	}
	return left == 0
}

// attempt gives each guest the best node at the moment, one after the other. It returns how much memory found no room.
func (m *sim) attempt(movers []*mover, how manner) (left int64) {
	b := m.board()
	for _, v := range movers {
		v.choice = -1
		if v.stuck != nil {
			continue
		}
		if to := m.pick(v, b, how); to >= 0 {
			v.choice = to
			b.free[to] -= v.r.Memory
		} else if v.stuck == nil {
			left += max(v.r.Memory, 1)
		}
	}
	return left
}

// attemptNarrow packs those first that have the fewest nodes to choose from.
func (m *sim) attemptNarrow(movers []*mover) int64 {
	b := m.board()
	width := make(map[*mover]int, len(movers))
	for _, v := range movers {
		width[v] = m.width(v, b)
	}
	ordered := slices.Clone(movers)
	slices.SortStableFunc(ordered, func(a, b *mover) int { return cmp.Compare(width[a], width[b]) })
	return m.attempt(ordered, fitting)
}

func (m *sim) width(v *mover, b *board) (n int) {
	for _, to := range b.open {
		if m.room(v, to, b) {
			n++
		}
	}
	return n
}

// board is what is looked at of the nodes for each guest, side by side in memory. free is what would be left on them.
type board struct {
	open []int // the nodes to which guests may go
	free []int64
	back []bool
	part []float64 // one byte as a share of the node's memory
}

func (m *sim) board() *board {
	n := len(m.places)
	b := &board{open: make([]int, 0, n), free: make([]int64, n), back: make([]bool, n), part: make([]float64, n)}
	for i := range m.places {
		p := &m.places[i]
		if p.unfit == "" && !p.out {
			b.open = append(b.open, i)
		}
		b.free[i], b.back[i], b.part[i] = p.free, p.back, 1/float64(max(p.capacity, 1))
	}
	return b
}

// room reports whether a node may be asked about and has the memory.
func (m *sim) room(v *mover, to int, b *board) bool {
	if b.free[to] < v.r.Memory && !m.s.Overcommit || !m.could(v.r, to, v.fit) {
		return false
	}
	if len(v.no) == 0 {
		return true
	}
	_, refused := v.no[to]
	return !refused
}

// pick chooses a node: first of all one that is through, so that the guest need not move again.
func (m *sim) pick(v *mover, b *board, how manner) int {
	for v.stuck == nil {
		best, choices, score := -1, 0, 0.0
		for _, to := range b.open {
			if !m.room(v, to, b) {
				continue
			}
			choices++
			s := float64(b.free[to]-v.r.Memory) * b.part[to]
			if how == fitting {
				s = -float64(b.free[to])
			}
			if best < 0 || b.back[to] && !b.back[best] || b.back[to] == b.back[best] && s > score {
				best, score = to, s
			}
		}
		if best < 0 || m.takes(v, best) {
			v.choices = choices
			return best
		}
	}
	return -1
}

// takes asks whether a node takes the guest, and remembers the answer.
func (m *sim) takes(v *mover, to int) bool {
	if v.asked == to {
		return true
	}
	move := m.ask(v.r, to, v.policy.Options())
	if move.Can() {
		v.asked, v.confirmed = to, move
		return true
	}
	v.no[to] = move
	if slices.ContainsFunc(move.Reasons, v.r.everywhere) {
		v.stuck = &move
	}
	return false
}

// settleMovers moves those that found a node, and says what becomes of the others.
func (m *sim) settleMovers(movers []*mover) {
	for _, v := range movers {
		if v.choice < 0 {
			continue
		}
		if short, _ := m.full(v.choice, v.confirmed); short > 0 || !m.takes(v, v.choice) {
			// Others have taken the room on a storage meanwhile.
			v.asked = -1
			if v.choice = m.pick(v, m.board(), fitting); v.choice < 0 {
				continue
			}
		}
		m.give(v.leaving, v.choice, v.confirmed, m.reason(v))
	}
	for _, v := range movers {
		if v.choice < 0 {
			v.fixed = v.stuck != nil
			m.fall(v.leaving, m.blocks(v))
		}
	}
}

// reason says why a guest goes where it goes.
func (m *sim) reason(v *mover) string {
	p := &m.places[v.choice]
	left := guest.FormatBytes(p.free-v.r.Memory) + " stay free there"
	if p.free < v.r.Memory {
		left = "it has promised more than it has, as overcommit allows"
	}
	switch {
	case len(v.r.Jobs) > 0:
		return "the target of its replication; " + left
	case v.choices == 1:
		return "the only node that can take it; " + left
	case p.upgraded:
		return "upgraded already; " + left
	case p.back && p.node != nil:
		return "nothing is to be done on it; " + left
	case p.back && len(m.s.Nodes) > 1:
		return "the run does not go over it; " + left
	}
	return "the most memory left; " + left
}
