package rolling

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestThreeNodesAreEmptiedOneAfterTheOther(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 16*gib).guest(101, "pve1", 8*gib).guest(102, "pve2", 8*gib).guest(103, "pve3", 4*gib).guest(104, "pve3", 4*gib, stopped)
	p := w.prove()
	require.Empty(t, p.Blocks)
	require.Equal(t, []string{"pve3", "pve2", "pve1"}, p.Order, "the least to move goes first")
	require.Equal(t, []string{"pve3"}, p.Next)
	require.Equal(t, Stays, plan(t, p, "pve3", 104).Fate)
	require.Equal(t, "pve3", plan(t, p, "pve2", 102).To, "to the node that is upgraded")
	require.Equal(t, "pve2", plan(t, p, "pve1", 100).To, "of both that are upgraded, to the one with more left")
	for _, r := range p.Rounds {
		require.Equal(t, Votes{Left: 2, Needed: 2}, r.Votes)
	}
}
