package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is some hosts, each a folder of this machine; those in a cluster share their /etc/pve.
type world struct {
	t     *testing.T
	root  string
	conns map[string]*hostConn
	// pause replaces the one between two tries; nil is the real one.
	pause func(context.Context, time.Duration) error
}

// hostConn sends the commands of one host to its folders.
type hostConn struct {
	*testkit.Local
	w    *world
	name string

	mu      sync.Mutex
	cluster string // "" while standalone
	down    error
	boot    string // "" is that of this machine
}

func (c *hostConn) Run(ctx context.Context, cmd transport.Command) (transport.Result, error) {
	c.mu.Lock()
	cluster, down, boot := c.cluster, c.down, c.boot
	c.mu.Unlock()
	if down != nil {
		return transport.Result{}, down
	}
	if cluster == "" {
		cluster = c.name
	}
	cmd.Argv = append([]string(nil), cmd.Argv...)
	cmd.Argv[3] = filepath.Join(c.w.root, "pve-"+cluster)
	cmd.Argv[4] = filepath.Join(c.w.root, "lock-"+c.name)
	r, err := c.Local.Run(ctx, cmd)
	if boot != "" {
		r.Stdout = append([]byte("boot "+boot+"\n"), bytes.TrimPrefix(r.Stdout, []byte("boot "+bootID(c.w.t)+"\n"))...)
	}
	return r, err
}

func (c *hostConn) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func newWorld(t *testing.T, hosts ...string) *world {
	t.Helper()
	w := &world{t: t, root: t.TempDir(), conns: map[string]*hostConn{}, pause: func(context.Context, time.Duration) error { return nil }}
	for _, h := range hosts {
		w.conns[h] = &hostConn{Local: testkit.NewLocal(t), w: w, name: h}
		require.NoError(t, os.MkdirAll(filepath.Join(w.root, "pve-"+h, "priv"), 0o755))
	}
	return w
}

// form puts hosts into one cluster.
func (w *world) form(name string, hosts ...string) {
	w.t.Helper()
	require.NoError(w.t, os.MkdirAll(w.path("pve-"+name, "priv"), 0o755))
	require.NoError(w.t, os.WriteFile(w.path("pve-"+name, "corosync.conf"), []byte("totem {\n}\n"), 0o644))
	for _, h := range hosts {
		w.conns[h].set(func() { w.conns[h].cluster = name })
	}
}

func (w *world) path(parts ...string) string {
	return filepath.Join(append([]string{w.root}, parts...)...)
}

func (w *world) connect(_ context.Context, host string) (transport.Conn, error) {
	return w.conns[host], nil
}

func (w *world) acquire(run string, hosts ...string) (engine.Lease, error) {
	list := make([]inventory.Host, len(hosts))
	for i, h := range hosts {
		list[i].Name = h
	}
	owner := engine.Owner{Run: run, Controller: "ann@desk", Runbook: "site", PID: 7}
	return New(Config{Pause: w.pause}).Acquire(w.t.Context(), owner, nil, list, w.connect)
}

func (w *world) release(l engine.Lease) {
	w.t.Helper()
	require.NoError(w.t, l.Release(w.t.Context()))
}

func locked(t *testing.T, err error) *engine.LockedError {
	t.Helper()
	e, ok := errors.AsType[*engine.LockedError](err)
	require.True(t, ok, "%v", err)
	return e
}

func TestSecondRunIsKeptOut(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	first, err := w.acquire("run1", "pve1", "pve2")
	require.NoError(t, err)

	_, err = w.acquire("run2", "pve2")
	e := locked(t, err)
	require.Equal(t, "pve2", e.Host)
	require.Equal(t, engine.Owner{Run: "run1", Controller: "ann@desk", Runbook: "site", PID: 7}, e.Owner)
	require.WithinDuration(t, time.Now().Add(2*time.Minute), e.Expires, time.Minute)
	require.Equal(t, "cat /run/lock/pxrun/lease.json", e.Look)

	w.release(first)
	second, err := w.acquire("run2", "pve2")
	require.NoError(t, err)
	w.release(second)
}

func TestAllHostsOrNone(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	first, err := w.acquire("run1", "pve3")
	require.NoError(t, err)
	_, err = w.acquire("run2", "pve1", "pve2", "pve3")
	locked(t, err)
	other, err := w.acquire("run3", "pve1", "pve2")
	require.NoError(t, err, "what the refused run had taken is free again")
	w.release(other)
	w.release(first)
}

func TestClusterLeaseReachesNodesThatTheRunDoesNotTouch(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	w.form("lab", "pve1", "pve2", "pve3")
	first, err := w.acquire("run1", "pve1", "pve2")
	require.NoError(t, err)
	_, err = w.acquire("run2", "pve3")
	require.Equal(t, "cat /etc/pve/priv/pxrun-lease.json", locked(t, err).Look)
	w.release(first)
	require.NoFileExists(t, w.path("pve-lab", "priv", "pxrun-lease.json"))
	require.NoDirExists(t, w.path("pve-lab", "priv", "lock", "pxrun"), "the guard is given back too")
}

func TestRunTakesItsOwnLeaseOver(t *testing.T) {
	w := newWorld(t, "pve1")
	_, err := w.acquire("run1", "pve1") // this process is killed
	require.NoError(t, err)
	again, err := w.acquire("run1", "pve1")
	require.NoError(t, err)
	w.release(again)
}

// Any user of a node may make the folder first, with links in it that point at files of root.
func TestFolderOfSomebodyElseIsNotUsed(t *testing.T) {
	w := newWorld(t, "pve1")
	require.NoError(t, os.MkdirAll(w.path("theirs"), 0o755))
	require.NoError(t, os.WriteFile(w.path("precious"), []byte("kept"), 0o644))
	require.NoError(t, os.Symlink(w.path("precious"), w.path("theirs", "lease.json.run1")))
	require.NoError(t, os.Symlink(w.path("theirs"), w.path("lock-pve1")))
	_, err := w.acquire("run1", "pve1")
	require.ErrorContains(t, err, "its folder is not of the user that pxrun works as")
	require.ErrorContains(t, err, "look: ls -ld /run/lock/pxrun")
	kept, err := os.ReadFile(w.path("precious"))
	require.NoError(t, err)
	require.Equal(t, "kept", string(kept))

	if os.Getuid() == 0 {
		require.NoError(t, os.Remove(w.path("lock-pve1")))
		require.NoError(t, os.Mkdir(w.path("lock-pve1"), 0o755))
		require.NoError(t, os.Chown(w.path("lock-pve1"), 65534, 65534))
		_, err = w.acquire("run1", "pve1")
		require.ErrorContains(t, err, "its folder is not of the user that pxrun works as")
	}
}

func TestReleaseLeavesTheLeaseOfOthers(t *testing.T) {
	w := newWorld(t, "pve1")
	first, err := w.acquire("run1", "pve1")
	require.NoError(t, err)
	require.NoError(t, os.Remove(w.path("lock-pve1", "lease.json"))) // it expired, and
	second, err := w.acquire("run2", "pve1")
	require.NoError(t, err)
	w.release(first)
	_, err = w.acquire("run3", "pve1")
	require.Equal(t, "run2", locked(t, err).Owner.Run)
	w.release(second)
}

func TestGuardOfAKilledHolderIsPassed(t *testing.T) {
	w := newWorld(t, "pve1")
	up, boot := uptime(t)
	w.leave(w.path("lock-pve1", "lease.json"), up-1, boot)
	require.NoError(t, os.MkdirAll(w.path("lock-pve1", fmt.Sprintf("guard.%s.%d", boot, up/10-2)), 0o755))
	l, err := w.acquire("run1", "pve1")
	require.NoError(t, err)
	w.release(l)
}

// A guard that its holder was killed with hinders nobody who takes a free lease, or resumes the run that had it.
func TestNewestGuardHindersNeitherFreshRunNorResume(t *testing.T) {
	w := newWorld(t, "pve1")
	up, boot := uptime(t)
	for k := up/10 - 1; k <= up/10+3; k++ {
		require.NoError(t, os.MkdirAll(w.path("lock-pve1", fmt.Sprintf("guard.%s.%d", boot, k)), 0o755))
	}
	_, err := w.acquire("run1", "pve1") // killed
	require.NoError(t, err)
	l, err := w.acquire("run1", "pve1")
	require.NoError(t, err)
	w.release(l)
	after, _ := uptime(t)
	require.Less(t, after-up, int64(20))
}

func TestLocalLeaseStandsWhilePmxcfsIsAway(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	first, err := w.acquire("run1", "pve1", "pve2")
	require.NoError(t, err)
	w.form("lab", "pve1", "pve2") // the run makes a cluster: other /etc/pve, without the lease
	_, err = w.acquire("run2", "pve2")
	require.Equal(t, "run1", locked(t, err).Owner.Run)

	require.NoError(t, os.RemoveAll(w.path("pve-lab", "priv"))) // as if it could not be written
	require.NoError(t, os.WriteFile(w.path("pve-lab", "priv"), nil, 0o644))
	w.release(first)
	second, err := w.acquire("run2", "pve1", "pve2")
	require.NoError(t, err, "a cluster without quorum must be mendable")
	w.release(second)
}

func TestUnreachableHostReleasesTheOthers(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	w.conns["pve2"].down = &transport.UnreachableError{Host: "pve2", Phase: "connect", Cause: errors.New("refused")}
	_, err := w.acquire("run1", "pve1", "pve2")
	_, unreachable := errors.AsType[*transport.UnreachableError](err)
	require.True(t, unreachable)
	require.NoFileExists(t, w.path("lock-pve1", "lease.json"))
}

func TestBadRunID(t *testing.T) {
	w := newWorld(t, "pve1")
	for _, run := range []string{"", "a b", "a\"b", "../x"} {
		_, err := w.acquire(run, "pve1")
		require.ErrorContains(t, err, "no id of a run")
	}
}
