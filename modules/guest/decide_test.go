package guest

import (
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/modules/internal/members"
	"github.com/stretchr/testify/require"
)

func TestArgumentsThatNameNothing(t *testing.T) {
	for src, want := range map[string]string{
		`target = "pve2"`:                                  "no guests are named",
		`guests = [100]`:                                   "no target is named",
		"from = \"pve2\"\ntarget = \"pve2\"":               "cannot be moved to that node",
		"guests = [100]\ntargets = { \"web\" = \"pve2\" }": "is not the id of a guest",
		"guests = [7]\ntarget = \"pve2\"":                  "100",
		"guests = [100]\ntarget = \"pve2\"\ntarget_storage = \"a1\"\ntarget_storages = { \"b1\" = \"c1\" }": "write either",
	} {
		_, problems := testkit.TryArgs(t, migrate(), src)
		require.Contains(t, joined(problems), want, src)
	}
	_, problems := testkit.TryArgs(t, moveDisk(), "guest = 100\ndisk = \"net0\"\nstorage = \"x1\"")
	require.Contains(t, joined(problems), `"net0" is no disk`)
}

func joined(lines []string) string {
	text := ""
	for _, line := range lines {
		text += line + "\n"
	}
	return text
}

func TestMovesOfEarlierTasksCount(t *testing.T) {
	planned := []module.Planned{
		{Module: "migrate", Change: module.Change{ID: changeID(100), After: place{Node: "pve2"}}},
		{Module: "move_disk", Change: module.Change{ID: "guest/101/scsi0", After: disk{}}},
	}
	coming := earlierMoves(planned)
	require.Equal(t, map[int]string{100: "pve2"}, coming)
	steps := []step{{guest: guest.Guest{ID: 100, Kind: guest.VM, Node: "pve1"}, Move: guest.Move{Target: "pve3", Reasons: []guest.Reason{{Saw: "pve3 is offline"}}}}}
	require.Empty(t, refuse(steps, coming), "it is judged when it is there")
	require.Len(t, refuse(steps, nil), 1)
	w := &world{View: &members.View{}, actor: "pve1"}
	changes := w.changes(steps, migrateArgs{Parallel: 2}, coming)
	require.Equal(t, "an earlier task moves it to pve2", changes[0].Predicted)
	require.Equal(t, map[string]int{"from pve1": 2, "to pve3": 2}, changes[0].Slots)
}

func TestRoughDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		47 * time.Second: "45s", 95 * time.Second: "1m35s", 12*time.Minute + 10*time.Second: "12m", 3*time.Hour + 2*time.Minute: "3h", 90 * time.Minute: "1h30m",
	} {
		require.Equal(t, want, rough(d))
	}
}
