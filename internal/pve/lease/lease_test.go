package lease

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/sourcegraph/conc"
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
}

func (c *hostConn) Run(ctx context.Context, cmd transport.Command) (transport.Result, error) {
	c.mu.Lock()
	cluster, down := c.cluster, c.down
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
	return c.Local.Run(ctx, cmd)
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

// uptime is the clock of local leases.
func uptime(t *testing.T) (seconds int64, boot string) {
	t.Helper()
	up, err := os.ReadFile("/proc/uptime")
	require.NoError(t, err)
	whole, _, _ := strings.Cut(string(up), ".")
	seconds, err = strconv.ParseInt(whole, 10, 64)
	require.NoError(t, err)
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	require.NoError(t, err)
	return seconds, strings.TrimSpace(string(id))
}

// leave writes the lease of a run that is gone.
func (w *world) leave(file string, expires int64, boot string) {
	w.t.Helper()
	text := fmt.Sprintf("{\n\"expires\": %d,\n\"run\": \"run0\",\n\"boot\": %q,\n\"owner\": {\"run\":\"run0\"}\n}\n", expires, boot)
	require.NoError(w.t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(w.t, os.WriteFile(file, []byte(text), 0o644))
}

func TestExpiredLeaseIsTakenOver(t *testing.T) {
	w := newWorld(t, "pve1")
	w.form("lab", "pve1")
	up, boot := uptime(t)
	w.leave(w.path("lock-pve1", "lease.json"), up-1, boot)
	w.leave(w.path("pve-lab", "priv", "pxrun-lease.json"), time.Now().Add(-time.Second).Unix(), boot)
	l, err := w.acquire("run1", "pve1")
	require.NoError(t, err)
	_, err = w.acquire("run2", "pve1")
	require.Equal(t, "run1", locked(t, err).Owner.Run)
	w.release(l)
	require.Equal(t, []string(nil), w.files("lock-pve1"))
}

// files lists what is in a folder.
func (w *world) files(dir string) (names []string) {
	w.t.Helper()
	entries, err := os.ReadDir(w.path(dir))
	require.NoError(w.t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestLeaseOfAnEarlierBootIsOver(t *testing.T) {
	w := newWorld(t, "pve1")
	up, _ := uptime(t)
	w.leave(w.path("lock-pve1", "lease.json"), up+100, "of-another-boot")
	l, err := w.acquire("run1", "pve1")
	require.NoError(t, err)
	w.release(l)
}

func TestLeaseThatIsNotOverIsHeldAndSaysUntilWhen(t *testing.T) {
	w := newWorld(t, "pve1")
	up, boot := uptime(t)
	w.leave(w.path("lock-pve1", "lease.json"), up+100, boot)
	_, err := w.acquire("run1", "pve1")
	e := locked(t, err)
	require.Equal(t, "run0", e.Owner.Run)
	require.WithinDuration(t, time.Now().Add(100*time.Second), e.Expires, 20*time.Second)
}

// A run whose lease is about to end, or has ended, renews and drops it under the guard.
func TestLateRunKeepsItsLease(t *testing.T) {
	for _, left := range []int64{-5, 10} {
		w := newWorld(t, "pve1")
		up, boot := uptime(t)
		w.leave(w.path("lock-pve1", "lease.json"), up+left, boot)
		l, err := w.acquire("run0", "pve1")
		require.NoError(t, err)
		_, err = w.acquire("run1", "pve1")
		require.Equal(t, "run0", locked(t, err).Owner.Run)
		w.leave(w.path("lock-pve1", "lease.json"), up+left, boot)
		w.release(l)
		require.Equal(t, []string(nil), w.files("lock-pve1"))
	}
}

// A shell that is killed between making the file and writing it leaves it empty.
func TestEmptyFileIsWaitedForAndThenTakenOver(t *testing.T) {
	w := newWorld(t, "pve1")
	require.NoError(t, os.MkdirAll(w.path("lock-pve1"), 0o755))
	require.NoError(t, os.WriteFile(w.path("lock-pve1", "lease.json"), nil, 0o644))
	began, _ := uptime(t)
	l, err := New(Config{TTL: 12 * time.Second}).Acquire(t.Context(), engine.Owner{Run: "run1"}, nil, []inventory.Host{{Name: "pve1"}}, w.connect)
	require.NoError(t, err)
	ended, _ := uptime(t)
	require.GreaterOrEqual(t, ended-began, int64(1), "its writer may only be slow")
	w.release(l)
}

func TestLeaseThatCannotBeReadIsHeld(t *testing.T) {
	w := newWorld(t, "pve1")
	require.NoError(t, os.MkdirAll(w.path("lock-pve1"), 0o755))
	require.NoError(t, os.WriteFile(w.path("lock-pve1", "lease.json"), []byte("{"), 0o644))
	_, err := w.acquire("run1", "pve1")
	require.Equal(t, "unknown", locked(t, err).Owner.Run)
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

func TestKeepGivesUpWhenNoHostAnswers(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	c := make(ticks)
	_, done := w.keep(t.Context(), c, "run1", "pve1", "pve2")
	for _, h := range []string{"pve1", "pve2"} {
		w.conns[h].set(func() { w.conns[h].down = errors.New("no route to host") })
	}
	for range 3 {
		c <- struct{}{}
	}
	require.ErrorContains(t, <-done, "could not be renewed on any host for 2m0s")
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
