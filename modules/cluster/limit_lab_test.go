package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What changes the cluster as a whole is not half done: --limit must leave all of it in the run, or it is refused.
func TestLabALimitThatLeavesHostsOut(t *testing.T) {
	t.Parallel()
	target := newArbiterLab(t, 4, "arbiter")
	target.wantLinks(1)
	target.grown()

	target.wantLinks(1, 2)
	target.Limit = []string{"pve1", "pve3", "arbiter"}
	target.refused(corosyncLink(), ``, "pve2, pve4 left out by --limit")
	target.refused(qdevice(), wantDevice, "pve2, pve4 left out by --limit")
	target.Limit = []string{"pve1", "pve2", "pve3", "pve4"}
	target.refused(qdevice(), wantDevice, "arbiter left out by --limit")
	require.Len(t, target.Converge(corosyncLink(), ``), 1)
	target.Limit = append(target.Limit, "arbiter")
	target.Converge(qdevice(), wantDevice)

	// Where nothing has to change, a limit is no obstacle.
	target.Limit = []string{"pve1"}
	require.Empty(t, target.Converge(corosyncLink(), ``))
	require.Empty(t, target.Converge(qdevice(), wantDevice))

	target.gone("pve4")
	target.refused(nodeRemove(), removePve4, "pve2, pve3 left out by --limit")
	target.Limit = []string{"pve1", "pve2", "pve3"}
	changes, err := target.Plan(nodeRemove(), removePve4)
	require.NoError(t, err)
	require.NotEmpty(t, changes, "the node that leaves need not be in the run")
}
