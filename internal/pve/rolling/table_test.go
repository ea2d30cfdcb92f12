package rolling

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func text(t Table) string {
	lines := []string{t.Title}
	for i, row := range t.Rows {
		line := strings.Join(row, " | ")
		if mark := t.Marks[i]; mark != "" {
			line = mark + ": " + line
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestTablesThatAPersonCanRead(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 32*gib).guest(101, "pve1", 8*gib, container).guest(102, "pve2", 8*gib, local).guest(103, "pve3", 4*gib).guest(104, "pve3", 4*gib, stopped)
	w.guest(105, "pve2", 2*gib).managed(105)
	w.s.Policies.Containers, w.s.Return = RestartContainer, ReturnMoved
	p := w.prove()
	var got []string
	for _, table := range p.Tables() {
		got = append(got, text(table))
	}
	require.Equal(t, `What stands against it
block: pve2 | vm 102 (g102) | local-zfs:vm-102-disk-0 (100 GiB) is on the local storage local-zfs | leave to copy it over the network | qm config 102 | policy migrate_with_disks for it, which copies them there and back, or shutdown

The run
1 | pve3 | 20 packages, a reboot (a new kernel) | 1 | 45 s | 0 | 24 GiB on pve1 | 2/2 | - | 7 min | the least to move again (2 guests)
block: 2 | pve2 | 20 packages, a reboot (a new kernel) | 1 | 27 s | 0 | 22 GiB on pve1 | 2/2 | - | 7 min | its guests find room on nodes that are through
warn: 3 | pve1 | 20 packages, a reboot (a new kernel) | 2 | 5 min | 2 | 28 GiB on pve3 | 2/2 | - | 16 min | late: it is the master of the HA manager

Guests of pve3 (1 more do not run and stay)
vm 103 (g103) | 4 GiB | moves live | pve2 | 45 s | the most memory left; 50 GiB stay free there
vm 103 (g103) | 4 GiB | comes back from pve2: moves live | pve3 | 45 s | it comes home

Guests of pve2
block: vm 102 (g102) | 8 GiB | cannot go | - | - | local-zfs:vm-102-disk-0 (100 GiB) is on the local storage local-zfs
vm 105 (g105) | 2 GiB | moves live (HA) | pve1 | 27 s | the node with the fewest HA services; the HA manager decides
vm 105 (g105) | 2 GiB | comes back from pve1: moves live (HA) | pve2 | 27 s | the HA manager brings it back

Guests of pve1
vm 100 (g100) | 32 GiB | moves live | pve3 | 5 min | upgraded already; 28 GiB stay free there
warn: ct 101 (g101) | 8 GiB | is shut down, moved and started | pve2 | 28 s | upgraded already; 46 GiB stay free there
vm 100 (g100) | 32 GiB | comes back from pve3: moves live | pve1 | 5 min | it comes home
warn: ct 101 (g101) | 8 GiB | comes back from pve2: is shut down, moved and started | pve1 | 28 s | it comes home

Guests that stop
warn: ct 101 (g101) | pve1 | is shut down, moved and started | 28 s | restart_container | upgraded already; 46 GiB stay free there
warn: ct 101 (g101) | pve1 | is shut down, moved and started | 28 s | restart_container | it comes home`, strings.Join(got, "\n\n"))
	require.Equal(t, []string{"3 nodes in 3 rounds, about 30 min: 8 moves and 2 stops of guests.", "One thing stands against it."}, p.Summary())
}

func TestTheSummaryOfNothing(t *testing.T) {
	w := newWorld("pve1")
	w.node("pve1").Idle = "nothing to upgrade, no reboot needed"
	p := w.prove()
	require.Equal(t, []string{"Nothing is to be done on any node."}, p.Summary())
	require.Len(t, p.Tables(), 1)
}

// Programs read the proof: empty lists are lists, and units are in the names.
func TestTheProofAsJSON(t *testing.T) {
	w := newWorld("pve1", "pve2", "pve3")
	w.guest(100, "pve1", 32*gib)
	text, err := json.Marshal(w.prove())
	require.NoError(t, err)
	for _, want := range []string{
		`"order":["pve2","pve3","pve1"]`, `"votes":{"left":2,"needed":2}`, `"least_headroom":{"node":"pve1","bytes":34359738368}`,
		`"memory_bytes":34359738368`, `"duration_seconds":`, `"downtime_seconds":0.1`, `"fate":"moves"`, `"way":"live"`,
	} {
		require.Contains(t, string(text), want)
	}
	w.node("pve1").Idle, w.node("pve2").Idle, w.node("pve3").Idle = "done", "done", "done"
	text, err = json.Marshal(w.prove())
	require.NoError(t, err)
	require.Contains(t, string(text), `"order":[],`)
	require.Contains(t, string(text), `"next":[],`)
	require.Contains(t, string(text), `"rounds":[]`)
}

func TestTimesForPeople(t *testing.T) {
	for seconds, want := range map[float64]string{0.4: "0 s", 40: "40 s", 89.6: "90 s", 720: "12 min", 7199: "120 min", 7200: "2 h", 7800: "2 h 10 min"} {
		require.Equal(t, want, about(seconds))
	}
}
