package rolling

import (
	"cmp"
	"slices"
)

// searching bounds the search for a way to place all guests, in nodes that are looked at: so many for each node that is
// emptied, and so many for a whole run.
const (
	searchStep = 4_000_000
	searchRun  = 400_000_000
)

// search tries all ways to place the guests, the biggest first. It gives up at its bounds; then it placed none. Adding memory
// makes it find what it found before, as long as it stays within the bounds.
func (m *sim) search(movers []*mover) int64 {
	var list []*mover
	var sum int64
	for _, v := range movers {
		v.choice = -1
		if v.stuck == nil {
			list = append(list, v)
			sum += max(v.r.Memory, 1)
		}
	}
	f := finder{m: m, list: list, board: m.board(), budget: min(searchStep, searchRun-m.searched)}
	spent := f.budget
	found := f.place(0)
	m.searched += spent - f.budget
	if found {
		return 0
	}
	for _, v := range list {
		v.choice = -1
	}
	return sum
}

type finder struct {
	m    *sim
	list []*mover
	*board
	budget int
}

// place finds nodes for the guests from k on.
func (f *finder) place(k int) bool {
	if k == len(f.list) {
		return true
	}
	v := f.list[k]
	var targets []int
	for _, to := range f.open {
		if f.m.room(v, to, f.board) {
			targets = append(targets, to)
		}
	}
	f.budget -= len(f.free)
	slices.SortStableFunc(targets, func(a, b int) int { return cmp.Compare(f.free[a], f.free[b]) })
	for _, to := range targets {
		if f.budget <= 0 {
			return false
		}
		if !f.m.takes(v, to) {
			continue
		}
		v.choice = to
		f.free[to] -= v.r.Memory
		if f.place(k + 1) {
			return true
		}
		f.free[to] += v.r.Memory
		v.choice = -1
	}
	return false
}
