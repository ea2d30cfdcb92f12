package engine

import (
	"errors"
	"fmt"
	"testing"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
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

func TestAHostThatIsAwayIsToldUnderItsOwnName(t *testing.T) {
	gone := func(host string) error {
		return &transport.UnreachableError{Host: host, Phase: "connect", Cause: errors.New("no route to host"), Hint: "give it power"}
	}
	hp := HostPlan{Host: "a"}
	setFailure(&hp, fmt.Errorf("read the cluster: %w", errors.Join(gone("b"), gone("c"), gone("b"))))
	require.True(t, hp.Unreachable)
	require.Equal(t, []Away{{"b", "b: connect: no route to host\ngive it power"}, {"c", "c: connect: no route to host\ngive it power"}}, hp.Away)
	tp := TaskPlan{Hosts: []HostPlan{hp}}
	require.Nil(t, failedPlan(tp, "a"), "the task is only known by it")
	require.Equal(t, event.Unreachable, failedPlan(tp, "c").status())
	require.Contains(t, failedPlan(tp, "c").Error, "c: connect")

	// A task of the host itself needs no more than its error.
	hp = HostPlan{Host: "b"}
	setFailure(&hp, gone("b"))
	require.True(t, hp.Unreachable)
	require.Empty(t, hp.Away)
	require.Equal(t, event.Unreachable, failedPlan(TaskPlan{Hosts: []HostPlan{hp}}, "b").status())

	// What a later task cannot do for the same reason is told once, whichever host it is known by.
	told := causes{}
	first, second := []HostPlan{{Host: "a", Error: "x", Away: []Away{{"b", "gone"}}}}, []HostPlan{{Host: "b", Error: "gone", Unreachable: true}}
	told.follow("site/one", first)
	told.follow("site/two", second)
	require.Equal(t, "site/one", second[0].Follows)
}
