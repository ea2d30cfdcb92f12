package engine

import (
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func move(from, to string) module.Change {
	return module.Change{Host: from, Slots: map[string]int{"from " + from: 2, "to " + to: 1}}
}

func TestChangesOvertakeThoseThatWaitForASlot(t *testing.T) {
	w := newSlotPlan([]module.Change{move("pve1", "pve2"), move("pve1", "pve2"), move("pve1", "pve3"), move("pve1", "pve4")})
	require.False(t, w.single())
	require.Equal(t, []int{0, 2, -1}, []int{w.enter(), w.enter(), w.enter()}, "the second waits for pve2, the fourth for pve1")
	w.leave(2)
	require.Equal(t, []int{3, -1}, []int{w.enter(), w.enter()})
	w.leave(0)
	require.Equal(t, []int{1, -1}, []int{w.enter(), w.enter()})
}

func TestChangesOfAHostStayInOrderWithoutSlots(t *testing.T) {
	w := newSlotPlan([]module.Change{{Host: "a"}, {Host: "a"}, {Host: "b"}})
	require.Equal(t, []int{0, 2, -1}, []int{w.enter(), w.enter(), w.enter()})
	w.leave(0)
	require.Equal(t, 1, w.enter())
	require.True(t, newSlotPlan([]module.Change{{Host: "a"}, {Host: "a"}}).single())
}

// However changes end, all of them get their turn and no slot is ever held by more than it bears.
func TestWindowNeverOverbooksAndNeverStarves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := []string{"a", "b", "c"}
		var changes []module.Change
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			changes = append(changes, move(rapid.SampledFrom(nodes).Draw(t, "from"), rapid.SampledFrom(nodes).Draw(t, "to")))
		}
		w := newSlotPlan(changes)
		var under []int
		for made := 0; made < len(changes); {
			if i := w.enter(); i >= 0 {
				under = append(under, i)
			} else {
				if len(under) == 0 {
					t.Fatalf("%d of %d changes were made", made, len(changes))
				}
				n := rapid.IntRange(0, len(under)-1).Draw(t, "ends")
				w.leave(under[n])
				under = append(under[:n], under[n+1:]...)
				made++
			}
			for name, held := range w.held {
				if most := map[byte]int{'f': 2, 't': 1}[name[0]]; held > most {
					t.Fatalf("%s is held %d times", name, held)
				}
			}
		}
	})
}
