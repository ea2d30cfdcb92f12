package rollingtest_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run only the mix of this seed")
	mixesFlag = flag.Int("mixes", 32, "how many mixes of faults are run; each takes some seconds of one processor")
	firstFlag = flag.Uint64("first", 1, "the seed of the first mix")
)

// TestMixes upgrades clusters in which several things go wrong, drawn from a seed. One of them again:
//
//	go test ./rollingtest -run TestMixes -seed N
func TestMixes(t *testing.T) {
	if raceDetector() && *seedFlag == 0 {
		t.Skip("many whole upgrades in bubbles take ten times as long with the race detector: make test runs them once more without it")
	}
	first, n := *firstFlag, *mixesFlag
	if *seedFlag > 0 {
		first, n = *seedFlag, 1
	}
	for i := range n {
		seed := first + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("again: go test ./rollingtest -run TestMixes -seed %d", seed)
				}
			})
			r := rand.New(rand.NewPCG(seed, 1))
			s := draw(r)
			upgradeWith(t, s, seed, drawTroubles(r, s)...)
		})
	}
}
