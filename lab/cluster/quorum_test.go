package cluster

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTwoPartitionsAreNeverBothQuorate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		votes := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 32).Draw(t, "votes")
		device := rapid.IntRange(0, 1).Draw(t, "device votes")
		expected := device
		for _, v := range votes {
			expected += v
		}
		cut := rapid.IntRange(0, len(votes)).Draw(t, "cut")
		deviceLeft := rapid.Bool().Draw(t, "device left")
		left, right := device, 0
		if !deviceLeft {
			left, right = 0, device
		}
		a, b := count(votes[:cut], left, expected), count(votes[cut:], right, expected)
		if a.quorate && b.quorate {
			t.Fatalf("both quorate: %+v %+v", a, b)
		}
		if a.total+b.total != expected {
			t.Fatalf("votes got lost: %+v %+v of %d", a, b, expected)
		}
	})
}

func TestArbiterGivesItsVoteToExactlyOnePartition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.Permutation([]int{1, 2, 3, 4, 5, 6}).Draw(t, "nodes")
		cut := rapid.IntRange(0, len(all)).Draw(t, "cut")
		parts := []splitCandidate{{nodes: sorted(all[:cut])}, {nodes: sorted(all[cut:])}}
		winner := ffsplit(parts)
		if len(parts[winner].nodes) < len(parts[1-winner].nodes) {
			t.Fatalf("the smaller partition won: %v", parts)
		}
		if len(parts[0].nodes) == len(parts[1].nodes) && parts[winner].nodes[0] != 1 {
			t.Fatalf("a tie did not go to the lowest id: %v", parts)
		}
	})
}

func sorted(list []int) []int {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

func TestFfsplitKeepsTheActivePartitionOnATie(t *testing.T) {
	require.Equal(t, 1, ffsplit([]splitCandidate{{nodes: []int{1}}, {nodes: []int{2}, active: true}}))
	require.Equal(t, -1, ffsplit([]splitCandidate{{}, {}}))
}

func TestExpectedVotesMayNotMakeNonsense(t *testing.T) {
	require.True(t, expectedAllowed(1, 1))
	require.True(t, expectedAllowed(3, 2))
	require.False(t, expectedAllowed(4, 2), "would block the partition")
	require.False(t, expectedAllowed(1, 5), "would let a minority rule")
	require.False(t, expectedAllowed(0, 1))
}
