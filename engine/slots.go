package engine

import "github.com/pxrun/pxrun/engine/module"

// slotPlan decides which changes of a group may be made beside each other.
type slotPlan struct {
	slots   []map[string]int // of each change, with how many may hold each
	held    map[string]int   // how many hold it now
	entered []bool
}

func newSlotPlan(changes []module.Change) *slotPlan {
	w := &slotPlan{held: map[string]int{}, entered: make([]bool, len(changes))}
	for _, c := range changes {
		slots := c.Slots
		if len(slots) == 0 {
			slots = map[string]int{c.Host: 1}
		}
		w.slots = append(w.slots, slots)
	}
	return w
}

// single reports whether all of the changes need one same slot that only one of them may hold.
func (w *slotPlan) single() bool {
	for name, most := range w.slots[0] {
		shared := most <= 1
		for _, slots := range w.slots[1:] {
			if m, needs := slots[name]; !needs || m > 1 {
				shared = false
			}
		}
		if shared {
			return true
		}
	}
	return false
}

// enter takes the slots of the first change that waits and fits, and returns its index; -1 if there is none.
func (w *slotPlan) enter() int {
	for i := range w.slots {
		if w.entered[i] || !w.fits(i) {
			continue
		}
		w.entered[i] = true
		for name := range w.slots[i] {
			w.held[name]++
		}
		return i
	}
	return -1
}

func (w *slotPlan) fits(i int) bool {
	for name, most := range w.slots[i] {
		if w.held[name] >= max(most, 1) {
			return false
		}
	}
	return true
}

// leave gives the slots of a change back.
func (w *slotPlan) leave(i int) {
	for name := range w.slots[i] {
		w.held[name]--
	}
}
