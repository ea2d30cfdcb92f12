package cli

import (
	"testing"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/journal"
	"github.com/stretchr/testify/require"
)

func TestResumeChoosesTheRunThatIsUnfinished(t *testing.T) {
	over := func(id string, status event.Status, changes int) journal.Info {
		return journal.Info{Meta: journal.Meta{ID: id, Ended: &journal.Ended{Status: status, Changes: changes, Began: true}}, State: journal.Over}
	}
	givenUp := func(id string, status event.Status) journal.Info {
		return journal.Info{Meta: journal.Meta{ID: id, Ended: &journal.Ended{Status: status}}, State: journal.Over}
	}
	killed := func(id string) journal.Info {
		return journal.Info{Meta: journal.Meta{ID: id}, State: journal.Interrupted}
	}
	running := journal.Info{Meta: journal.Meta{ID: "running"}, State: journal.Running}
	for name, tt := range map[string]struct {
		runs []journal.Info // newest first
		want string
	}{
		"none":                              {nil, ""},
		"all well":                          {[]journal.Info{over("b", event.Changed, 2), over("a", event.OK, 0)}, ""},
		"the newest that failed":            {[]journal.Info{over("b", event.Failed, 1), over("a", event.Failed, 1)}, "b"},
		"refused while a killed one waits":  {[]journal.Info{over("c", event.Refused, 0), killed("b"), over("a", event.OK, 0)}, "b"},
		"refused, and nothing else":         {[]journal.Info{over("b", event.Refused, 0), over("a", event.OK, 0)}, "b"},
		"refused after all had been well":   {[]journal.Info{over("c", event.Refused, 0), over("b", event.OK, 0), killed("a")}, "c"},
		"an old one though later ones went": {[]journal.Info{over("b", event.OK, 0), killed("a")}, "a"},
		"given up, and nothing else":        {[]journal.Info{givenUp("c", event.Refused), givenUp("b", event.Cancelled), over("a", event.OK, 0)}, ""},
		"given up while a failed one waits": {[]journal.Info{givenUp("c", event.Refused), over("b", event.Failed, 0)}, "b"},
		"given up after a killed one":       {[]journal.Info{givenUp("b", event.Unreachable), killed("a")}, "a"},
		"one that is under way is not it":   {[]journal.Info{running, killed("a")}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := unfinished(tt.runs)
			require.Equal(t, tt.want, got.ID)
			require.Equal(t, tt.want != "", ok)
		})
	}
}

func TestNothingToResumeNamesTheRunsThatWerePassedOver(t *testing.T) {
	run := func(id string) journal.Info {
		return journal.Info{Meta: journal.Meta{ID: id, Runbook: "site", Ended: &journal.Ended{Status: event.Refused}}, State: journal.Over}
	}
	text := nothingToResume([]journal.Info{run("R5"), run("R4"), run("R3"), run("R2")}).Error()
	for _, part := range []string{"R5  ", "site  refused", "R3", "and 1 more", "pxrun resume R5"} {
		require.Contains(t, text, part)
	}
	require.NotContains(t, text, "R2")
	require.Contains(t, nothingToResume(nil).Error(), "every run has ended well")
}
