package lease

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

// later is a clock that a test sets ahead.
type later struct {
	mu sync.Mutex
	by time.Duration
}

func (l *later) now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Add(l.by)
}

func (l *later) pass(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.by += d
}

// held takes a lease whose proofs age by the clock of the test.
func (w *world) held(run string, nodes []string, hosts ...string) (engine.Lease, *later) {
	w.t.Helper()
	clock := &later{}
	list := make([]inventory.Host, len(hosts))
	for i, h := range hosts {
		list[i].Name = h
	}
	var cluster *inventory.Cluster
	if nodes != nil {
		cluster = &inventory.Cluster{Name: "lab", Nodes: nodes}
	}
	l, err := New(Config{Pause: w.pause, Now: clock.now}).Acquire(w.t.Context(), engine.Owner{Run: run}, cluster, list, w.connect)
	require.NoError(w.t, err)
	return l, clock
}

func (w *world) down(host string, err error) {
	w.conns[host].set(func() { w.conns[host].down = err })
}

func isLost(t *testing.T, err error) {
	t.Helper()
	_, ok := errors.AsType[*engine.LostLeaseError](err)
	require.True(t, ok, "%v", err)
}

var noRoute = &transport.UnreachableError{Host: "x", Phase: "connect", Cause: errors.New("no route to host")}

func TestAFreshProofCostsNothing(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	l, clock := w.held("run1", nil, "pve1", "pve2")
	w.down("pve1", noRoute)
	w.down("pve2", noRoute)
	clock.pass(20 * time.Second)
	require.NoError(t, l.Confirm(t.Context(), "pve1"))
	clock.pass(20 * time.Second)
	err := l.Confirm(t.Context(), "pve1")
	require.ErrorContains(t, err, "no route to host")
	w.down("pve1", nil)
	require.NoError(t, l.Confirm(t.Context(), "pve1"), "it was only away")
}

func TestAHostThatIsAwayIsVouchedForByAnother(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	w.form("lab", "pve1", "pve2", "pve3")
	l, clock := w.held("run1", []string{"pve1", "pve2", "pve3"}, "pve1", "pve2")
	w.down("pve1", noRoute)
	clock.pass(time.Minute)
	require.NoError(t, l.Confirm(t.Context(), "pve1"))
	w.down("pve2", noRoute)
	clock.pass(time.Minute)
	require.NoError(t, l.Confirm(t.Context(), "pve1"), "pve3 is a node of the cluster too")
	w.down("pve3", noRoute)
	clock.pass(time.Minute)
	require.Error(t, l.Confirm(t.Context(), "pve1"))
}

// While a controller has no network, another one may come, work, and go.
func TestALeaseThatWasAwayIsLost(t *testing.T) {
	for name, nodes := range map[string][]string{"on a host": nil, "in a cluster": {"pve1"}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "pve1")
			if nodes != nil {
				w.form("lab", nodes...)
			}
			l, clock := w.held("run1", nodes, "pve1")
			for _, file := range []string{w.path("lock-pve1", "lease.json"), w.path("pve-lab", "priv", "pxrun-lease.json")} {
				if err := os.Remove(file); err != nil { // its end has come
					require.ErrorIs(t, err, os.ErrNotExist)
				}
			}
			other, err := w.acquire("run2", "pve1")
			require.NoError(t, err)
			w.release(other)
			clock.pass(time.Minute)
			err = l.Confirm(t.Context(), "pve1")
			isLost(t, err)
			require.ErrorContains(t, err, "others may have been at work since")
			isLost(t, l.Confirm(t.Context(), "pve1"))
		})
	}
}

func TestALeaseThatSomebodyElseHasIsLost(t *testing.T) {
	w := newWorld(t, "pve1")
	l, clock := w.held("run1", nil, "pve1")
	require.NoError(t, os.Remove(w.path("lock-pve1", "lease.json")))
	_, err := w.acquire("run2", "pve1")
	require.NoError(t, err)
	clock.pass(time.Minute)
	err = l.Confirm(t.Context(), "pve1")
	isLost(t, err)
	require.Equal(t, "run2", locked(t, err).Owner.Run)
}

// /run/lock is empty after a restart, and the lease is made anew.
func TestARestartLosesNoLease(t *testing.T) {
	w := newWorld(t, "pve1")
	w.form("lab", "pve1")
	l, clock := w.held("run1", []string{"pve1"}, "pve1")
	require.NoError(t, os.RemoveAll(w.path("lock-pve1")))
	w.conns["pve1"].set(func() { w.conns["pve1"].boot = "another" })
	clock.pass(10 * time.Minute)
	require.NoError(t, l.Confirm(t.Context(), "pve1"))
	_, err := w.acquire("run2", "pve1")
	require.Equal(t, "run1", locked(t, err).Owner.Run)
	w.release(l)
}

func TestTheClustersLeaseIsGivenBackByAnotherNode(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	w.form("lab", "pve1", "pve2", "pve3")
	l, _ := w.held("run1", []string{"pve1", "pve2", "pve3"}, "pve1")
	w.down("pve1", noRoute)
	w.down("pve2", noRoute)
	require.NoError(t, l.Release(t.Context()))
	require.NoFileExists(t, w.path("pve-lab", "priv", "pxrun-lease.json"))

	w = newWorld(t, "alone")
	l, _ = w.held("run1", nil, "alone")
	w.down("alone", noRoute)
	require.ErrorContains(t, l.Release(t.Context()), "no route to host", "nobody else can")
}

func TestKeepBearsSilenceAndKeepsTheClustersLeaseByAnotherNode(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	w.form("lab", "pve1", "pve2")
	c := make(ticks)
	l, err := New(Config{Sleep: c.sleep}).Acquire(t.Context(), engine.Owner{Run: "run1"}, &inventory.Cluster{Name: "lab", Nodes: []string{"pve1", "pve2"}}, []inventory.Host{{Name: "pve1"}}, w.connect)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { done <- l.Keep(ctx) })
	defer wg.Wait()
	w.down("pve1", noRoute)
	file := w.path("pve-lab", "priv", "pxrun-lease.json")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	_, end, _ := strings.Cut(string(text), "\n\"run\"")
	require.NoError(t, os.WriteFile(file, []byte("{\n\"expires\": 1,\n\"run\""+end), 0o600)) // it would have ended long ago
	for range 5 {
		c <- struct{}{}
	}
	_, err = w.acquire("run2", "pve2")
	require.Equal(t, "run1", locked(t, err).Owner.Run)
	cancel()
	require.NoError(t, <-done)
	require.NoError(t, l.Release(t.Context()))
	require.NoFileExists(t, file)
	require.NoFileExists(t, w.path("lock-pve2", "lease.json"))
}
