package cli_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// What a node's turn of the rolling upgrade may take beyond what the nodes themselves are at work.
const turnOverhead = 2 * time.Second

// The course is asked for before each node. Everything is read at once, then Ceph is asked whether it bears the stops.
const tripsOfCourse = 2

func TestRollingUpgradeOverheadAtADistance(t *testing.T) {
	if testing.Short() || raceDetector() {
		t.Skip("three nodes are upgraded and restarted twice")
	}
	const rtt = 5 * time.Millisecond
	near, far := upgradeAt(t, 0), upgradeAt(t, rtt)
	require.Len(t, far, 3)
	for i, turn := range far {
		t.Logf("%s: turn %s (%s without a distance), of which overhead %s, course %s, %d exchanges", turn.host, turn.took(), near[i].took(), turn.overhead(rtt), turn.course, len(turn.ran))
		require.Less(t, turn.overhead(rtt), turnOverhead, turn.host)
		if i > 0 {
			require.Equal(t, near[i].course+tripsOfCourse*rtt, turn.course, turn.host)
		}
	}
}

// upgradeAt upgrades a fresh cluster of three nodes over a distance.
func upgradeAt(t *testing.T, rtt time.Duration) (turns []nodeTurn) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFaraway(t, farSize{nodes: 3, osds: 3, guests: 9, updates: true})
		code, out, _ := f.pxrun(rtt, 0, "apply", "rolling_upgrade", "-i", f.path("site.hcl"), "--auto-approve", "--json", "-vv", "--arg", "soak=0s", "--arg", "containers=restart_container")
		require.Zero(t, code, out)
		turns = turnsOf(t, out)
	})
	return turns
}

// exchange is a command that ran on a node.
type exchange struct {
	key        string
	begin, end time.Time
}

// nodeTurn is what happened from a node's begin to its end. course is how long it took to find out that it was the next.
type nodeTurn struct {
	host       string
	begin, end time.Time
	course     time.Duration
	ran        []exchange
}

func (n nodeTurn) took() time.Duration { return n.end.Sub(n.begin) }

func turnsOf(t *testing.T, out string) []nodeTurn {
	t.Helper()
	var turns []nodeTurn
	for line := range strings.Lines(out) {
		var e struct {
			Type, Host, Command string
			Time                time.Time
			Duration            time.Duration `json:"duration_ns"`
		}
		if !strings.HasPrefix(line, "{") {
			continue
		}
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		last := len(turns) - 1
		switch e.Type {
		case "node_started":
			turn := nodeTurn{host: e.Host, begin: e.Time}
			if last >= 0 {
				turn.course = e.Time.Sub(turns[last].end)
			}
			turns = append(turns, turn)
		case "node_done":
			turns[last].end = e.Time
		case "command_ran":
			if last >= 0 && turns[last].end.IsZero() {
				turns[last].ran = append(turns[last].ran, exchange{waitOf(e.Command), e.Time.Add(-e.Duration), e.Time})
			}
		}
	}
	return turns
}

// waitOf tells what a command that is asked again and again waits for; "" for others.
func waitOf(command string) string {
	switch {
	case strings.HasPrefix(command, "# look at the job"):
		fields := strings.Fields(command)
		return strings.Join(fields[:min(9, len(fields))], " ") // up to the job's folder and unit
	case strings.HasPrefix(command, "cat /proc/sys/kernel/random/boot_id"):
		return "restart"
	case strings.Contains(command, "/etc/ceph/ceph.conf") && strings.HasSuffix(command, " 1"): // Ceph's state, without asking for stops
		return "verify"
	}
	return ""
}

// overhead is the time of a turn in which no node was at work. A node is at work while it performs a command, and while
// something is waited for that was not there at the last look but one: the pause before the last look counts as overhead.
func (n nodeTurn) overhead(rtt time.Duration) time.Duration {
	var work []exchange
	waits := map[string][]exchange{}
	for _, x := range n.ran {
		if begin, end := x.begin.Add(rtt/2), x.end.Add(-rtt/2); end.After(begin) {
			work = append(work, exchange{begin: begin, end: end})
		}
		if x.key != "" {
			waits[x.key] = append(waits[x.key], x)
		}
	}
	for _, looks := range waits {
		if len(looks) > 1 {
			work = append(work, exchange{begin: looks[0].begin, end: looks[len(looks)-2].end})
		}
	}
	slices.SortFunc(work, func(a, b exchange) int { return a.begin.Compare(b.begin) })
	idle, at := time.Duration(0), n.begin
	for _, w := range work {
		if w.begin.After(at) {
			idle += w.begin.Sub(at)
		}
		if w.end.After(at) {
			at = w.end
		}
	}
	return idle + max(n.end.Sub(at), 0)
}
