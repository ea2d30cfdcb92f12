package rollingtest_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// TestWhatOnlyLooksWritesNothing runs all that is to look and not to touch on a cluster with Ceph, HA and guests, with the lab
// counting what is written on its nodes.
func TestWhatOnlyLooksWritesNothing(t *testing.T) {
	if raceDetector() {
		t.Skip("it takes ten times as long with the race detector: make test runs it once more without it")
	}
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, three(withCeph), 1)
		defer func() { require.Empty(t, w.watch.end()) }()
		c := w.controller()
		site, snapshot := w.path("site.hcl"), w.path("tonight.json")
		for _, n := range w.shape.names() {
			w.must(n, "pvesm status") // makes the folders of storages, as a node does that lives
		}
		before := w.touchable()
		w.lab.ResetWrites()
		for _, look := range []struct {
			args   []string
			answer string // of the person at the terminal
			code   int
			says   string
		}{
			{args: []string{"plan", "rolling_upgrade", "-i", site, "--arg", "containers=restart_container"}, says: "Course of the run"},
			{args: []string{"plan", "rolling_upgrade", "-i", site}, code: refused, says: "ct 102 (guest102)"},
			{args: []string{"apply", "rolling_upgrade", "-i", site, "--arg", "containers=restart_container"}, answer: "no\n", code: nothingDone, says: "Course of the run"},
			{args: []string{"apply", "--auto-approve", "rolling_upgrade", "-i", site}, code: refused, says: "ct 102 (guest102)"},
			{args: []string{"status", "-i", site}, says: "Ceph"},
			{args: []string{"snapshot", "-i", site, "-o", snapshot}},
			{args: []string{"report"}},
			{args: []string{"runs"}},
			{args: []string{"release", "-i", site}},
		} {
			code, out := c.asked(look.answer, look.args...)
			require.Equal(t, look.code, code, "%v\n%s", look.args, out)
			require.Contains(t, out, look.says, "%v", look.args)
			require.Empty(t, w.lab.Writes(), "%v\n%s", look.args, out)
			require.Equal(t, before, w.touchable(), "%v\n%s", look.args, out)
		}
		w.must("pve1", "echo here > /root/here")
		require.NotEmpty(t, w.lab.Writes(), "what writes is counted")
	})
}

// A rehearsal runs in a lab of its own, which listens on sockets: it is no guest in a bubble of time.
func TestARehearsalWritesNothingOnTheCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t, three(), 1)
	defer func() { require.Empty(t, w.watch.end()) }()
	for _, n := range w.shape.names() {
		w.must(n, "pvesm status")
	}
	w.lab.ResetWrites()
	code, out := w.controller().run("rehearse", "health_check", "-i", w.path("site.hcl"), "--speed", "600")
	require.Equal(t, done, code, out)
	require.Contains(t, out, "Your cluster is not touched.")
	require.Empty(t, w.lab.Writes(), out)
}

// touchable is what a run could change without writing a file: guests, flags, units and packages.
func (w *world) touchable() string {
	var b strings.Builder
	for _, g := range w.shape.guests {
		fmt.Fprintln(&b, g.ID, w.lab.Guests().Where(g.ID))
	}
	fmt.Fprintln(&b, w.lab.Ceph().Flags())
	for _, n := range w.shape.names() {
		fmt.Fprintln(&b, n, w.lab.Machine(n).BootID(), w.must(n, "dpkg-query -W; systemctl list-units --all --no-legend 'pxrun-*'; qm list; pct list"))
	}
	return b.String()
}
