package lease

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/inventory"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"
)

// ticks makes Keep renew when the test says so.
type ticks chan struct{}

func (c ticks) sleep(ctx context.Context, _ time.Duration) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// keep starts Keep. The first tick renews; the next one is only taken after that renewal.
func (w *world) keep(ctx context.Context, c ticks, run string, hosts ...string) (engine.Lease, <-chan error) {
	w.t.Helper()
	list := make([]inventory.Host, len(hosts))
	for i, h := range hosts {
		list[i].Name = h
	}
	l, err := New(Config{Sleep: c.sleep}).Acquire(ctx, engine.Owner{Run: run}, nil, list, w.connect)
	require.NoError(w.t, err)
	done := make(chan error, 1)
	var wg conc.WaitGroup
	wg.Go(func() { done <- l.Keep(ctx) })
	w.t.Cleanup(wg.Wait)
	return l, done
}

func TestKeepRenewsAndTakesTheLeaseIntoTheNewCluster(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	ctx, cancel := context.WithCancel(t.Context())
	c := make(ticks)
	_, done := w.keep(ctx, c, "run1", "pve1", "pve2")
	w.form("lab", "pve1", "pve2", "pve3")
	c <- struct{}{}
	w.conns["pve2"].set(func() { w.conns["pve2"].down = errors.New("rebooting") })
	c <- struct{}{}
	_, err := w.acquire("run2", "pve3")
	require.Equal(t, "run1", locked(t, err).Owner.Run, "the cluster's lease is there by now")
	for range 5 {
		c <- struct{}{}
	}
	cancel()
	require.NoError(t, <-done, "one host that is away is borne")
}

func TestKeepSaysWhenTheLeaseWasTakenOver(t *testing.T) {
	w := newWorld(t, "pve1")
	c := make(ticks)
	_, done := w.keep(t.Context(), c, "run1", "pve1")
	require.NoError(t, os.Remove(w.path("lock-pve1", "lease.json")))
	_, err := w.acquire("run2", "pve1")
	require.NoError(t, err)
	c <- struct{}{}
	require.Equal(t, "run2", locked(t, <-done).Owner.Run)
}
