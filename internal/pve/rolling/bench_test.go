package rolling

import (
	"fmt"
	"testing"

	"github.com/pxrun/pxrun/internal/pve/guest"
)

// Times grow with nodes times guests: each guest is compared with each node once or twice. Memory grows with the guests, and
// with the square of the nodes for what is left on each at every step. On a machine of 2026: 32 nodes with 1,000 guests,
// 1,000 with 100,000.
func BenchmarkProve(b *testing.B) {
	for _, size := range []struct{ nodes, guests int }{{3, 30}, {32, 1000}, {100, 10_000}, {316, 31_600}, {1000, 100_000}} {
		for _, returns := range []Return{ReturnNever, ReturnMoved} {
			b.Run(fmt.Sprintf("nodes=%d/guests=%d/return=%s", size.nodes, size.guests, returns), func(b *testing.B) {
				w := large(size.nodes, size.guests)
				w.s.Return = returns
				b.ReportAllocs()
				for b.Loop() {
					if p := w.prove(); !p.Holds() {
						b.Fatal(p.Blocks[0])
					}
				}
			})
		}
	}
}

// large is a cluster of many kinds of guests that fits: a tenth of them do not run, a tenth are containers, every eighth is
// under HA.
func large(nodes, guests int) *world {
	names := make([]string, nodes)
	for i := range names {
		names[i] = fmt.Sprintf("pve%d", i+1)
	}
	w := newWorld(names...)
	for _, n := range w.s.Site.Nodes {
		n.Memory = 1024 * gib
	}
	w.s.Policies.Containers = RestartContainer
	for i := range guests {
		change := []func(*guest.Guest){}
		mixed := i*2654435761>>7 + i // so that the kinds do not line up with the nodes
		switch mixed % 10 {
		case 3:
			change = append(change, stopped)
		case 7:
			change = append(change, container)
		}
		w.guest(100+i, names[i%nodes], gib<<(mixed/10%5), change...)
	}
	byHA := map[int]bool{}
	for _, g := range w.s.Site.Guests {
		if g.Status == "running" && g.ID/3%8 == 0 {
			byHA[g.ID] = true
		}
	}
	w.manageAll(byHA)
	return w
}
