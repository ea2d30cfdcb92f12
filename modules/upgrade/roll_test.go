package upgrade

import (
	"testing"

	"github.com/pxrun/pxrun/internal/pve/rolling"
	"github.com/stretchr/testify/require"
)

// A node whose lists could not be read gets what the others get: else nothing could go back to them.
func TestVersionsThatAreNotKnownAreThoseOfTheOthers(t *testing.T) {
	nodes := []rolling.Node{
		{Name: "pve1", Work: rolling.Work{Packages: 3, QEMU: "10.1.2-6", Manager: "9.2.2"}},
		{Name: "pve2", Work: rolling.Work{Packages: 1, Unsure: true}},
		{Name: "pve3", Work: rolling.Work{Reboot: rolling.Yes}},
		{Name: "pve4", Idle: "nothing to do"},
		{Name: "pve5", Work: rolling.Work{Packages: 2, QEMU: "10.1.2-5", Manager: "9.2.1"}},
	}
	alike(nodes)
	require.Equal(t, "10.1.2-6", nodes[1].Work.QEMU)
	require.Equal(t, "9.2.2", nodes[1].Work.Manager)
	require.Empty(t, nodes[2].Work.QEMU, "nothing is installed there")
	require.Empty(t, nodes[3].Work.QEMU)
	require.Equal(t, "10.1.2-5", nodes[4].Work.QEMU)
}
