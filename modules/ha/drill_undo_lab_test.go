package ha_test

import (
	"testing"

	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/ha"
	"github.com/stretchr/testify/require"
)

// What a drill leaves in the journal starts corosync, but not beside guests that may run elsewhere by now.
func TestLabDrillIsTakenBackOnlyWhereNoGuestRuns(t *testing.T) {
	t.Parallel()
	target := guarded(t)
	target.Converge(labkit.Only(t, ha.All(), "ha_resource"), `resources = ["vm:100", "vm:101"]`)
	changes, err := target.Plan(labkit.Only(t, ha.All(), "failover_drill"), drillArgs)
	require.NoError(t, err)
	undo := changes[0].Undo
	require.NotNil(t, undo)
	require.Equal(t, "pve3", undo.Host)
	require.Equal(t, "start corosync on pve3", undo.Summary)
	require.Equal(t, []string{changes[0].ID}, changes[0].Undoes, "a drill that ends well crosses it off itself")
	take := func() transport.Result {
		t.Helper()
		r, err := target.Conns["pve3"].Run(t.Context(), undo.Command)
		require.NoError(t, err)
		return r
	}
	require.Zero(t, take().Exit, "corosync runs: there is nothing to be done")

	// No guest under HA is let go by the watchdog before this test is over: it looks at once.
	target.Must("pve3", "systemctl stop corosync")
	r := take()
	require.Equal(t, 1, r.Exit)
	require.Contains(t, string(r.Stderr), "guests run here that HA may have started elsewhere too")
	target.Must("pve3", "! systemctl is-active --quiet corosync")

	target.Must("pve3", "rm -f /run/qemu-server/*.pid") // as after a restart
	require.Zero(t, take().Exit)
	target.Must("pve3", "systemctl is-active --quiet corosync")
}
