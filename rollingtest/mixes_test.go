package rollingtest_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run only the mix of this seed")
	mixesFlag = flag.Int("mixes", 0, "how many mixes of faults are run; each takes some seconds of one processor")
	firstFlag = flag.Uint64("first", 1, "the seed of the first mix")
)

// TestMixes upgrades clusters in which several things go wrong, drawn from a seed. One of them again:
//
//	go test ./rollingtest -run TestMixes -seed N
//
// Without -mixes N or -seed N there are none: a hundred take as long as all other tests together.
func TestMixes(t *testing.T) {
	first, n := *firstFlag, *mixesFlag
	if *seedFlag > 0 {
		first, n = *seedFlag, 1
	}
	if n == 0 {
		t.Skip("no mixes are asked for: -mixes N")
	}
	for i := range n {
		seed := first + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			s := draw(r)
			upgradeWith(t, s, seed, drawTroubles(r, s)...)
		})
	}
}
