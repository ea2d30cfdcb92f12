package rollingtest_test

import (
	"flag"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab/guest"
)

// large is a cluster of 32 nodes with 1,000 guests, 100 of them in HA, of which the first nodes are to be upgraded.
func large(behind, out int, args ...string) shape {
	const nodes, guests, ha = 32, 1000, 100
	s := shape{nodes: nodes, pve: nine, current: nodes - behind, out: out, args: append([]string{"soak=10s", "containers=restart_container"}, args...)}
	for i := range guests {
		g := placed{
			node: nodeName(1 + i%nodes), ha: i < ha,
			Spec: guest.Spec{ID: 100 + i, Running: i%10 != 3 || i < ha, MemoryMiB: 256, Disks: []guest.Disk{{Storage: "san", SizeGiB: 4}}},
		}
		if i%10 == 7 && i >= ha {
			g.Type, g.mayStop = "lxc", true
		}
		s.guests = append(s.guests, g)
	}
	return s
}

var largeFlag = flag.Bool("large", false, "upgrade three of 32 nodes at once, too: a minute and a quarter of one processor")

// The whole upgrade of one of 32 nodes, by the command line: all are looked at, and 32 guests find a place among a thousand. It takes
// 40 s of a processor, and each node more some 20 s.
func TestOneOfThirtyTwoNodes(t *testing.T) { upgradeLarge(t, large(1, 1)) }

// Three nodes are out at most:
//
//	go test ./rollingtest -run TestThreeOf -large
func TestThreeOfThirtyTwoNodes(t *testing.T) {
	if !*largeFlag {
		t.Skip("it is not asked for: -large")
	}
	upgradeLarge(t, large(3, 3, "max_unavailable=3"))
}

func upgradeLarge(t *testing.T, s shape) {
	t.Helper()
	if testing.Short() {
		t.Skip("32 nodes with 1,000 guests")
	}
	if raceDetector() {
		t.Skip("a whole upgrade in a bubble takes ten times as long with the race detector: make test runs them once more without it")
	}
	e := upgradeWith(t, s, 1)
	require.Equal(t, done, e.code, e.out)
	require.Zero(t, e.resumes)
}
