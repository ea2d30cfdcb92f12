package cluster

import (
	"testing"

	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/lab"
	"github.com/stretchr/testify/require"
)

// What passes by itself is waited for, as long as the task says.
func TestHealthWaitsForWhatPasses(t *testing.T) {
	t.Parallel()
	tgt := labkit.New(t, 3, nil)
	tgt.Form()
	m := healthModule()
	_, err := tgt.Plan(m, `within = "10m"`)
	require.NoError(t, err)
	off := lab.Fault{Kind: "power-off", Target: "pve3"}
	id, err := tgt.Lab.AddFault(off)
	require.NoError(t, err)
	tgt.Eventually("pve1", `[ "$(grep -c '"online": 1' /etc/pve/.members)" = 2 ]`)
	_, err = tgt.Plan(m, "")
	require.ErrorContains(t, err, "pve3")
	tgt.RunID = ""
	_, err = tgt.Plan(m, `within = "1h"`)
	require.ErrorContains(t, err, "pve3", "a plan waits for nothing")
	tgt.RunID = "run1"
	_, err = tgt.Plan(m, `within = "20s"`)
	require.ErrorContains(t, err, "no critical finding")
	require.NoError(t, tgt.Lab.ClearFault(id))
	_, err = tgt.Plan(m, `within = "20m"`)
	require.NoError(t, err)
}
