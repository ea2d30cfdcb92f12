package guest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnIndexKnowsWhatWouldBeOtherwiseByThen(t *testing.T) {
	g := vm()
	s := cluster(g)
	s.Nodes["pve2"].QEMU = "9.2.0-5"
	s.HA.Manager.Maintenance = []string{"pve2"}
	x := s.Index()
	require.True(t, x.CanMove(g, "pve2", Options{}).Has(OlderTarget))
	x.SetVersions("pve2", "10.1.2-4", "9.1.8")
	require.False(t, x.CanMove(g, "pve2", Options{}).Has(OlderTarget))
	require.True(t, x.CanMove(g, "pve2", Options{}).Has(NoTarget))
	x.Release("pve2")
	require.True(t, x.CanMove(g, "pve2", Options{}).Can())

	// On pve2 by then, it runs on, although the site has it on pve1.
	g.Node = "pve2"
	running, sure := x.Runs(g.ID)
	require.True(t, running && sure)
	require.Equal(t, Live, x.CanMove(g, "pve1", Options{}).Way)
	require.True(t, CanMove(s, vm(), "pve2", Options{}).Has(OlderTarget), "the site stays as it was read")

	require.True(t, x.Usable("ceph", "pve3"))
	require.False(t, x.Usable("tank", "pve3"))
	require.False(t, x.Usable("off", "pve1"))
	require.False(t, x.Usable("gone", "pve1"))
	require.False(t, x.Online("pve3"))
	require.False(t, x.Online("pve9"))
	_, sure = x.Runs(999)
	require.False(t, sure)
}
