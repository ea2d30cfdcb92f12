package rollingtest_test

import (
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/guest"
	"github.com/stretchr/testify/require"
)

// three is the cluster in which single faults strike: pve1 has most guests.
func three(change ...func(*shape)) shape {
	disks := func(storage string) []guest.Disk { return []guest.Disk{{Storage: storage, SizeGiB: 4}} }
	s := shape{
		nodes: 3, pve: nine, out: 1, args: []string{"soak=10s", "containers=restart_container", "bring_home=moved"},
		guests: []placed{
			{node: "pve1", Spec: guest.Spec{ID: 100, Running: true, MemoryMiB: 1024, Disks: disks("san")}},
			{node: "pve1", Spec: guest.Spec{ID: 101, Running: true, MemoryMiB: 1024, Disks: disks("san")}, ha: true},
			{node: "pve1", Spec: guest.Spec{ID: 102, Type: "lxc", Running: true, MemoryMiB: 512, Disks: disks("san")}, mayStop: true},
			{node: "pve2", Spec: guest.Spec{ID: 103, Running: true, MemoryMiB: 1024, Disks: disks("san")}},
			{node: "pve3", Spec: guest.Spec{ID: 104, Running: true, MemoryMiB: 1024, Disks: disks("san")}, ha: true},
			{node: "pve3", Spec: guest.Spec{ID: 105, MemoryMiB: 1024, Disks: disks("san")}},
		},
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

func withCeph(s *shape) { s.ceph = true }

func two(s *shape) {
	s.nodes, s.arbiter = 2, true
	for i := range s.guests {
		if s.guests[i].node == "pve3" {
			s.guests[i].node = "pve2"
		}
	}
}

// strikes is a trouble made of faults of the lab.
func strikes(faults ...lab.Fault) trouble {
	return trouble{name: "fault", begin: func(m *mix, _ *rand.Rand) {
		for _, f := range faults {
			m.fault(f)
		}
	}}
}

// happens is a trouble that somebody makes at a time.
func happens(after time.Duration, act func(*mix)) trouble {
	return trouble{name: "act", begin: func(m *mix, _ *rand.Rand) { m.later(after, func() { act(m) }) }}
}

// singles are the faults one by one: how the run ends, and what it says.
var singles = []struct {
	name  string
	shape shape
	what  trouble
	code  int
	says  []string
}{
	{"nothing goes wrong", three(), trouble{begin: func(*mix, *rand.Rand) {}}, 0, nil},
	{"nothing goes wrong with Ceph", three(withCeph), trouble{begin: func(*mix, *rand.Rand) {}}, 0, nil},
	{"nothing goes wrong with two nodes and an arbiter", three(two), trouble{begin: func(*mix, *rand.Rand) {}}, 0, nil},
	{"the migration of one guest fails", three(), strikes(lab.Fault{Kind: "fail", Value: "255:ERROR: migration aborted", Phase: "migrate:transfer:100", Every: true}), 5, []string{"guest100", "pve1 failed: in rolling_upgrade/evacuate"}},
	{"a guest moves though its task failed", three(), strikes(lab.Fault{Kind: "fail", Value: "255:ERROR: command failed", Phase: "migrate:moved:100"}), 0, nil},
	{"a node returns late", three(), strikes(lab.Fault{Kind: "slow", Value: "5m", Phase: "boot:start", Target: "pve1"}), 0, nil},
	{"somebody has set noout", three(withCeph), strikes(lab.Fault{Kind: "ceph-flag", Value: "noout"}), 6, []string{"noout"}},
	{"a configuration file was changed", three(), strikes(lab.Fault{Kind: "conffile", Target: "pve1"}), 0, nil},
	{"the connection is lost during apt", three(), strikes(lab.Fault{Kind: "cut-ssh", Target: "pve1", Phase: "apt:unpack"}), 0, nil},
	{"pxrun is killed", three(), happens(2*time.Minute, func(m *mix) { m.next = m.first.kill() }), 130, nil},
	{"two controllers", three(), happens(time.Minute, func(m *mix) { require.Equal(m.t, refused, m.said("the other one", m.w.controller())) }), 0, nil},
}

func TestSingleFaults(t *testing.T) {
	if raceDetector() {
		t.Skip("a whole upgrade in a bubble takes ten times as long with the race detector: make test runs them once more without it")
	}
	for _, c := range singles {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := upgradeWith(t, c.shape, 1, c.what)
			require.Equal(t, c.code, e.code, e.out)
			for _, words := range c.says {
				require.Contains(t, e.out, words)
			}
		})
	}
}

func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
