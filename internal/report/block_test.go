package report_test

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/stretchr/testify/require"
)

func TestPlanOfARollingBlock(t *testing.T) {
	p := &engine.Plan{Runbook: "weekly", Cluster: "lab", Blocks: []engine.BlockPlan{{
		Name: "nodes", Order: []string{"pve2", "pve1"}, Idle: map[string]string{"pve3": "nothing to do: packages would change nothing"},
		Error: "memory", Refused: module.Refusals{{Host: "pve1", Gate: "memory", Saw: "3 GiB are short on pve2", Want: "room", Look: "free -h"}},
		Showing: &module.Showing{
			Title: "Two nodes, one after the other, about 40 minutes", Lead: []string{"Every guest finds a place."},
			Tables: []module.Table{{
				Title: "Order", Columns: []module.Column{{Name: "node"}, {Name: "votes", Right: true}, {Name: "why"}},
				Rows:  [][]string{{"pve2", "2/2", "first, since it holds the fewest guests and everything that stands on it finds a place on nodes that have been upgraded"}, {"pve1", "2/2", "the HA master goes last"}},
				Marks: map[int]string{1: "block"},
			}},
			Notes: []string{"Guests that start meanwhile change this."},
		},
	}}}
	var out bytes.Buffer
	require.NoError(t, report.Plan(&out, p, report.Look{Unicode: true, Width: 80}))
	golden(t, "block.txt", out.String())
}

func TestTurnsOfARollingBlock(t *testing.T) {
	var out bytes.Buffer
	sink := report.NewPlain(&out, report.Options{Look: report.Look{Unicode: true, Width: 80}, Now: time.Now})
	for _, e := range []event.Event{
		{Host: "pve2", Body: event.NodeStarted{Block: "nodes", Index: 1, Of: 2, Takes: 20 * time.Minute}},
		{Host: "pve2", Body: module.Moved{Guest: "vm 100 (web)", From: "pve2", To: "pve1", Way: "live", Took: 9 * time.Second}},
		{Host: "pve2", Body: module.Moved{Guest: "vm 101", From: "pve2", To: "pve1", Way: "live", Error: "aborted"}},
		{Host: "pve2", Body: event.NodeDone{Block: "nodes", Status: event.OK, Duration: 12 * time.Minute}},
		{Host: "pve3", Body: event.NodeDone{Block: "nodes", Status: event.Skipped, Reason: "nothing to do"}},
		{Host: "pve1", Body: event.Paused{Block: "nodes", Reason: "an approval is needed before pve1", Answer: "pxrun approve 01RUN"}},
		{Host: "pve1", Body: event.Continued{Block: "nodes", By: "ann@desk"}},
		{Host: "pve1", Body: event.NodeDone{Block: "nodes", Status: event.Failed, Reason: "in weekly/evacuate"}},
	} {
		require.NoError(t, sink.Handle(t.Context(), e))
	}
	require.NoError(t, sink.Close())
	golden(t, "turns.txt", out.String())
}

func TestTablesFold(t *testing.T) {
	table := module.Table{
		Title: "The run", Marks: map[int]string{1: "warn"},
		Columns: []module.Column{
			{Name: "round", Right: true}, {Name: "node"}, {Name: "what is done"}, {Name: "guests out", Right: true}, {Name: "stops", Right: true},
			{Name: "least memory left"}, {Name: "votes", Right: true}, {Name: "Ceph"}, {Name: "about", Right: true}, {Name: "why now"},
		},
		Rows: [][]string{
			{"1", "pve2", "16 packages, a reboot (the kernel changes)", "2", "0", "7 GiB on pve1", "2/2", "-", "6 min", "the least to move again (2 guests)"},
			{"2", "pve1", "16 packages, a reboot (the kernel changes)", "12", "1", "5.5 GiB on pve2", "2/2", "-", "18 min", "late: it is the master of the HA manager"},
		},
	}
	var out bytes.Buffer
	for _, width := range []int{0, 200, 120, 80, 40} {
		out.WriteString(report.Look{Unicode: true, Width: width}.Showing(module.Showing{Title: fmt.Sprintf("in %d columns", width), Tables: []module.Table{table}}))
	}
	golden(t, "tables.txt", out.String())
}

func TestTerminalShowsWhereHostsOfARollingBlockAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		sink := report.NewTerminal(&out, options(report.Normal))
		hosts := []string{"pve1", "pve2", "pve3"}
		say := func(step, host string, body event.Body) {
			require.NoError(t, sink.Handle(t.Context(), event.Event{Run: "01RUN", Step: step, Host: host, Time: time.Now(), Body: body}))
		}
		say("", "", event.RunStarted{Command: "apply", Runbook: "weekly", Hosts: hosts, Tasks: 3})
		say("", "pve2", event.NodeStarted{Block: "nodes", Index: 1, Of: 3, Takes: 6 * time.Minute})
		say("weekly/drain", "", event.StepStarted{Index: 1, Module: "drain", Hosts: hosts})
		say("weekly/drain", "pve2", event.HostDone{Status: event.Changed})
		time.Sleep(80 * time.Second) // the fake clock
		say("weekly/upgrade", "", event.StepStarted{Index: 2, Module: "upgrade", Hosts: hosts})
		say("weekly/upgrade", "pve2", event.ChangeStarted{Change: module.Change{ID: "u", Host: "pve2", Summary: "upgrade packages: 16 upgraded"}})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		golden(t, "turn.txt", screen(t, bytes.Clone(out.Bytes())))
		require.NoError(t, sink.Close())
	})
}
