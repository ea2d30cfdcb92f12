package rolling_test

import (
	"fmt"
	"testing"

	"github.com/pxrun/pxrun/internal/pve/rolling"
	"github.com/pxrun/pxrun/internal/pve/rolling/synthetic"
	"github.com/stretchr/testify/require"
)

// Time grows with nodes times guests, each guest being compared with each node once for every move: ten times the guests on
// three times the nodes take about thirty times as long. Memory grows with the guests, and with the square of the nodes for
// what is left on each at every step.
func BenchmarkProve(b *testing.B) {
	for _, size := range []struct{ nodes, guests int }{{3, 30}, {32, 1000}, {100, 10_000}, {316, 31_600}, {1000, 100_000}} {
		for name, change := range map[string]func(*rolling.Situation){
			"never":         func(*rolling.Situation) {},
			"moved":         func(s *rolling.Situation) { s.Return = rolling.ReturnMoved },
			"never,max=20%": func(s *rolling.Situation) { s.Max.Percent = 20 },
		} {
			b.Run(fmt.Sprintf("nodes=%d/guests=%d/return=%s", size.nodes, size.guests, name), func(b *testing.B) {
				s := synthetic.Cluster(size.nodes, size.guests)
				change(&s)
				b.ReportAllocs()
				for b.Loop() {
					if p := rolling.Prove(s); !p.Holds() {
						b.Fatal(p.Blocks[0])
					}
				}
			})
		}
	}
}

// Thirty-two nodes with a thousand guests, one at a time and as many as a tenth.
func TestThirtyTwoNodesWithAThousandGuests(t *testing.T) {
	s := synthetic.Cluster(32, 1000)
	p := rolling.Prove(s)
	require.Empty(t, p.Blocks)
	require.Len(t, p.Rounds, 32)
	require.Equal(t, "pve1", p.Order[31], "the HA manager's master")
	told := 0
	for _, r := range p.Rounds {
		require.Equal(t, rolling.Votes{Left: 31, Needed: 17}, r.Votes)
		require.Positive(t, r.Least.Bytes)
		told += len(r.Steps[0].Guests)
	}
	require.GreaterOrEqual(t, told, 1000)
	require.Less(t, p.Again, 100, "nearly all guests move once")

	s.Max.Percent, s.Canary, s.Return = 10, 1, rolling.ReturnMoved
	p = rolling.Prove(s)
	require.Empty(t, p.Blocks)
	require.Len(t, p.Rounds, 12, "the first alone, ten of three, the master alone")
	require.Zero(t, p.Again, "all have come home before")
	require.Equal(t, rolling.Votes{Left: 29, Needed: 17}, p.Rounds[1].Votes)
}
