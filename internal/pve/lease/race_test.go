package lease

import (
	"fmt"
	"testing"

	"github.com/pxrun/pxrun/engine"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"
)

// However many runs start at once, one gets all hosts and the others get none.
func TestOnlyOneOfManyWins(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	w.form("lab", "pve1", "pve2")
	w.pause = nil
	const runs = 8
	leases, errs := make([]engine.Lease, runs), make([]error, runs)
	var wg conc.WaitGroup
	for i := range runs {
		wg.Go(func() { leases[i], errs[i] = w.acquire(fmt.Sprintf("run%d", i), "pve3", "pve2", "pve1") })
	}
	wg.Wait()
	won := 0
	for i := range runs {
		if errs[i] == nil {
			won++
			w.release(leases[i])
		} else {
			locked(t, errs[i])
		}
	}
	require.Equal(t, 1, won, "%v", errs)
}

// Many runs that all find the same lease at its end: one takes it over.
func TestOnlyOneTakesAnEndedLeaseOver(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	up, boot := uptime(t)
	for _, h := range []string{"pve1", "pve2"} {
		w.leave(w.path("lock-"+h, "lease.json"), up-1, boot)
	}
	w.pause = nil
	const runs = 8
	errs := make([]error, runs)
	var wg conc.WaitGroup
	for i := range runs {
		wg.Go(func() { _, errs[i] = w.acquire(fmt.Sprintf("run%d", i), "pve2", "pve1") })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			locked(t, err)
		}
	}
	require.Equal(t, 1, won, "%v", errs)
}

// A run that is refused on a node does not take the lease of the node's cluster in passing.
func TestRefusedRunDoesNotTakeTheCluster(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	w.form("lab", "pve1", "pve2")
	up, boot := uptime(t)
	w.leave(w.path("lock-pve1", "lease.json"), up+100, boot)
	_, err := w.acquire("run1", "pve1")
	require.Equal(t, "run0", locked(t, err).Owner.Run)
	require.NoFileExists(t, w.path("pve-lab", "priv", "pxrun-lease.json"))
	l, err := w.acquire("run0", "pve1", "pve2")
	require.NoError(t, err)
	w.release(l)
}

// Two controllers that enter the cluster by different nodes, with no host in common.
func TestOnlyOneWinsOverTheCluster(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3", "pve4")
	w.form("lab", "pve1", "pve2", "pve3", "pve4")
	errs := make([]error, 4)
	var wg conc.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = w.acquire(fmt.Sprintf("run%d", i), fmt.Sprintf("pve%d", i+1)) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		}
	}
	require.Equal(t, 1, won, "%v", errs)
}
