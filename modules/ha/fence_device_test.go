package ha

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

func TestWhoseControllerItIs(t *testing.T) {
	wanted := netip.MustParseAddr("198.51.100.13")
	another := netip.MustParseAddr("198.51.100.12")
	for name, c := range map[string]struct {
		own             []netip.Addr
		proved, foreign bool
	}{
		"its own":               {[]netip.Addr{wanted}, true, false},
		"its own, of two":       {[]netip.Addr{another, wanted}, true, false},
		"another's":             {[]netip.Addr{another}, false, true},
		"none that it could be": {nil, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := device{node: "pve3", args: fenceDeviceArgs{Address: wanted.String(), Unproved: "accept"}}
			whose := identityOf(wanted, c.own)
			require.Equal(t, c.proved, whose.proved)
			require.Equal(t, c.foreign, d.foreign(whose) != nil, "no argument opens this")
			require.Nil(t, d.unproved(whose))
			d.args.Unproved = "refuse"
			require.Equal(t, c.proved, d.unproved(whose) == nil)
		})
	}
}

// Whoever waits for his turn gets it when the node before is proved back, and never when it is not.
func TestOneNodeOfAClusterIsCutAtATime(t *testing.T) {
	target := &testkit.Target{TB: t, RunID: "run1", In: &inventory.Cluster{Name: "lab"}}
	other := &testkit.Target{TB: t, RunID: "run1", In: &inventory.Cluster{Name: "other"}}
	next := &testkit.Target{TB: t, RunID: "run2", In: &inventory.Cluster{Name: "lab"}}
	s := newTurns()
	mine := func(target *testkit.Target, node string) *turn {
		return &turn{of: s, key: turnOf(target, node), node: node}
	}
	first, second := mine(target, "pve1"), mine(target, "pve2")
	require.NoError(t, s.try(first))
	require.ErrorContains(t, s.try(second), "pve1 is being cut")
	_, fatal := errors.AsType[*module.FatalError](s.try(second))
	require.False(t, fatal, "its turn comes")
	require.NoError(t, s.try(mine(other, "x1")), "another cluster has turns of its own")

	first.begin()
	first.end(true)
	require.NoError(t, s.try(second))
	second.end(false) // refused before anything was done
	third := mine(target, "pve3")
	require.NoError(t, s.try(third))
	third.begin()
	third.end(false)
	err := s.try(mine(target, "pve1"))
	require.ErrorContains(t, err, "this run has cut pve3, which is not proved back")
	_, fatal = errors.AsType[*module.FatalError](err)
	require.True(t, fatal)
	require.NoError(t, s.try(mine(next, "pve1")), "another run reads its own gates")
	s.forgive(target, "pve1")
	require.Error(t, s.try(mine(target, "pve1")))
	s.forgive(target, "pve3")
	require.NoError(t, s.try(mine(target, "pve1")))
}
