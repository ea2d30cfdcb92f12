package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPercentKeepsSmallHeapsUncollectedAndBigOnesSmall(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		live, roots uint64
		want        int
	}{
		{0, 0, gcPercent},
		{2 * mib, 0, 400},
		{2 * mib, 2 * mib, 200},
		{9 * mib, mib, gcPercent},
		{100 * mib, 10 * mib, gcPercent},
	} {
		require.Equal(t, c.want, percentFor(c.live, c.roots), "%d %d", c.live, c.roots)
	}
}
