package upgrade

import (
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/lab"
	labguest "github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/lab/storage"
	"github.com/stretchr/testify/require"
)

// drainLab is a formed cluster of three nodes with a shared storage; pve2 is drained.
func drainLab(t *testing.T, change func(*lab.Spec)) *labkit.Target {
	t.Helper()
	tgt := labkit.New(t, 3, func(s *lab.Spec) {
		s.Hosts = append(s.Hosts, lab.HostSpec{Name: "nas", Address: "192.0.2.90", Exports: []storage.Export{{Kind: "nfs", Name: "/srv/san"}}})
		if change != nil {
			change(s)
		}
	})
	tgt.Form()
	tgt.Must("pve1", "pvesm add nfs san --server 192.0.2.90 --export /srv/san --content images,rootdir")
	tgt.Of = tgt.All[1]
	tgt.All = tgt.All[1:2]
	return tgt
}

func addGuest(t *testing.T, tgt *labkit.Target, node string, s labguest.Spec) {
	t.Helper()
	require.NoError(t, tgt.Lab.AddGuest(t.Context(), node, s))
}

func onSAN(id int) labguest.Spec {
	return labguest.Spec{ID: id, Running: true, MemoryMiB: 1024, Disks: []labguest.Disk{{Storage: "san", SizeGiB: 4}}}
}

func drainModule() module.Module { return drain(nobody, nobody) }

func records[R module.Record](tgt *labkit.Target) []R {
	var out []R
	for _, r := range tgt.Records() {
		if r, ok := r.(R); ok {
			out = append(out, r)
		}
	}
	return out
}

func TestDrainAndRelease(t *testing.T) {
	t.Parallel()
	tgt := drainLab(t, nil)
	addGuest(t, tgt, "pve2", onSAN(100))
	addGuest(t, tgt, "pve2", labguest.Spec{ID: 101, Type: "lxc", Running: true, MemoryMiB: 512, Disks: []labguest.Disk{{Storage: "san", SizeGiB: 1}}})
	addGuest(t, tgt, "pve2", labguest.Spec{ID: 102, Name: "pinned", Running: true, MemoryMiB: 512, Options: map[string]string{"hostpci0": "0000:01:00.0"}})
	addGuest(t, tgt, "pve2", onSAN(103))
	stopped := onSAN(104)
	stopped.Running = false
	addGuest(t, tgt, "pve2", stopped)
	tgt.Must("pve1", "ha-manager add vm:103 --state started")
	tgt.Eventually("pve1", "ha-manager status | grep -q 'vm:103 (pve2, started)'")

	_, err := tgt.Plan(drainModule(), "")
	require.ErrorContains(t, err, "vm 102 (pinned): it uses devices of its node: hostpci0")
	require.ErrorContains(t, err, "ct 101 (guest101): it is a running container")

	const policy = "policy = \"shutdown\"\ncontainers = \"restart_container\"\nbring_home = \"moved\""
	made := tgt.Converge(drainModule(), policy)
	require.Contains(t, made, "put pve2 into maintenance, and follow its HA guests to other nodes")
	require.Contains(t, made, "shut down vm 102 (pinned) until pve2 is back")
	require.Empty(t, tgt.Must("pve2", "ls /run/qemu-server/*.pid /sys/fs/cgroup/lxc/[0-9]* 2>/dev/null || true"))
	for _, id := range []int{100, 101, 103} {
		require.Len(t, tgt.Lab.Guests().Where(id), 1, "%d", id)
		require.NotContains(t, tgt.Lab.Guests().Where(id), "pve2")
	}
	require.Len(t, records[module.Moved](tgt), 3)

	ways := map[string]string{}
	for _, m := range records[module.Moved](tgt) {
		ways[m.Guest] = m.Way + " from " + m.From
	}
	require.Equal(t, map[string]string{"vm 100 (guest100)": "live from pve2", "ct 101 (guest101)": "restart from pve2", "vm 103 (guest103)": "ha from pve2"}, ways)

	made = tgt.Converge(release(), "")
	require.Contains(t, made, "start vm 102 (pinned) again")
	for _, id := range []int{100, 101, 102, 103} {
		require.Equal(t, []string{"pve2"}, tgt.Lab.Guests().Where(id), "%d", id)
	}
	require.NotContains(t, tgt.Must("pve1", "ha-manager status"), "maintenance")
	returned := 0
	for _, m := range records[module.Moved](tgt) {
		if m.Why == "return" {
			returned++
			require.Equal(t, "pve2", m.To)
			require.NotEqual(t, "pve2", m.From)
		}
	}
	require.Equal(t, 3, returned)
	require.Equal(t, "ok\n", tgt.Must("pve2", "[ -e /var/lib/pxrun/rolling.json ] || echo ok"))
	changes, err := tgt.Plan(release(), "")
	require.NoError(t, err)
	require.Empty(t, changes)
}

// A node is not given back quietly while a guest that ran on it does not run any more.
func TestAGuestThatDiedIsTold(t *testing.T) {
	t.Parallel()
	tgt := drainLab(t, nil)
	addGuest(t, tgt, "pve2", onSAN(100))
	tgt.Converge(drainModule(), "")
	at := tgt.Lab.Guests().Where(100)
	require.Len(t, at, 1)
	tgt.Fault(lab.Fault{Kind: "guest-crash", Target: at[0], Value: "100"})
	release := release()
	changes, err := tgt.Plan(release, "")
	require.NoError(t, err)
	err = tgt.Apply(changes)
	require.ErrorContains(t, err, "saw: vm 100 (guest100) does not run on "+at[0])
	require.ErrorContains(t, err, "look: qm status 100")
	require.ErrorContains(t, err, `may_stop = ["100"]`)
	changes, err = tgt.Plan(release, `may_stop = ["100"]`)
	require.NoError(t, err)
	require.NotEmpty(t, changes, "the node is not given back as long as it stands still")
	tgt.Must(at[0], "qm start 100")
	tgt.Converge(release, "")
	readings := records[module.Reading](tgt)
	require.Equal(t, module.Reading{Gate: "guests", Saw: "all of them do", Want: "every guest that ran on the node before to run", OK: true}, readings[len(readings)-1])
}

// A guest that somebody moves to the node meanwhile is waited for, and then moved away with the others.
func TestAGuestOnItsWayToTheNode(t *testing.T) {
	t.Parallel()
	tgt := drainLab(t, nil)
	addGuest(t, tgt, "pve2", onSAN(100))
	addGuest(t, tgt, "pve3", onSAN(101))
	tgt.Fault(lab.Fault{Kind: "slow", Value: "1m", Phase: "migrate:locked:101"})
	tgt.Must("pve3", "(qm migrate 101 pve2 --online 1 >/dev/null 2>&1 &)")
	tgt.Eventually("pve3", "grep -q :qmigrate:101: /var/log/pve/tasks/active")
	made := strings.Join(tgt.Converge(drainModule(), ""), "\n")
	require.Contains(t, made, "move vm 100")
	require.Contains(t, made, "move vm 101")
	for _, id := range []int{100, 101} {
		require.Len(t, tgt.Lab.Guests().Where(id), 1)
		require.NotContains(t, tgt.Lab.Guests().Where(id), "pve2")
	}
}

// A node that has failed in the run may go down at any time, or be down: it is counted as gone although it answers, and gets no guests.
func TestANodeThatHasFailedIsNotCountedOn(t *testing.T) {
	t.Parallel()
	tgt := drainLab(t, nil)
	addGuest(t, tgt, "pve2", onSAN(100))
	tgt.Rolls = &module.Block{Name: "nodes", Failed: []string{"pve3"}}
	_, err := tgt.Plan(drainModule(), "wait = \"1s\"")
	require.ErrorContains(t, err, "1 of 3 votes stay without pve2, pve3, 2 are needed")
}
