package engine

import (
	"testing"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/stretchr/testify/require"
)

func TestATaskThatRanSomewhereHasRun(t *testing.T) {
	for _, tt := range []struct {
		hosts []event.Status
		want  event.Status
	}{
		{nil, event.Skipped},
		{[]event.Status{event.NotRun, event.NotRun}, event.NotRun},
		{[]event.Status{event.Changed, event.NotRun}, event.Changed},
		{[]event.Status{event.NotRun, event.OK}, event.OK},
		{[]event.Status{event.Skipped, event.NotRun}, event.NotRun},
		{[]event.Status{event.Changed, event.NotRun, event.Failed}, event.Failed},
	} {
		got := event.Skipped
		for _, h := range tt.hosts {
			got = stepStatus(got, h)
		}
		require.Equal(t, tt.want, got, "%v", tt.hosts)
	}
}

func TestAGateCountsForTheHostThatItNames(t *testing.T) {
	named := &module.Refusal{Host: "c", Gate: "join", Saw: "guests"}
	tp := TaskPlan{Hosts: []HostPlan{{Host: "a", Error: named.Error(), Refused: module.Refusals{named}}}}
	require.Nil(t, failedPlan(tp, "a"))
	require.Nil(t, failedPlan(tp, "b"))
	require.Equal(t, event.Refused, failedPlan(tp, "c").status())
	require.Contains(t, failedPlan(tp, "c").Error, "guests")

	tp.Hosts[0].Refused = append(tp.Hosts[0].Refused, &module.Refusal{Gate: "the cluster", Saw: "no quorum"})
	require.Contains(t, failedPlan(tp, "a").Error, "no quorum")

	tp.Hosts[0] = HostPlan{Host: "a", Error: "broken"}
	require.Equal(t, "broken", failedPlan(tp, "a").Error)
	require.Nil(t, failedPlan(tp, "c"))
}
