package lease

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

// uptime is the clock of local leases.
func uptime(t *testing.T) (seconds int64, boot string) {
	t.Helper()
	up, err := os.ReadFile("/proc/uptime")
	require.NoError(t, err)
	whole, _, _ := strings.Cut(string(up), ".")
	seconds, err = strconv.ParseInt(whole, 10, 64)
	require.NoError(t, err)
	return seconds, bootID(t)
}

func bootID(t *testing.T) string {
	t.Helper()
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	require.NoError(t, err)
	return strings.TrimSpace(string(id))
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
