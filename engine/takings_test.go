package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/stretchr/testify/require"
)

// killedRelease is the journal of a run that was killed while the task "release" took back a temporary change of host a.
func killedRelease(done bool) event.History {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	undo := module.Undo{Host: "b", Summary: "end the maintenance of a"}
	change := module.Change{ID: "a/leave", Host: "a", Summary: "end the maintenance of a", Undoes: []string{"a/maintenance"}}
	events := []event.Event{
		{Time: at, Run: "01RUN", Step: "site/enter", Host: "b", Body: event.UndoRegistered{ID: "a/maintenance", Undo: undo}},
		{Time: at.Add(time.Minute), Run: "01RUN", Step: "site/release", Host: "a", Body: event.ChangeStarted{Change: change}},
	}
	if done {
		events = append(events, event.Event{Time: at.Add(2 * time.Minute), Run: "01RUN", Step: "site/release", Host: "a", Body: event.ChangeDone{ID: "a/leave"}})
	}
	return event.Fold(events)
}

func TestWhatAKilledProcessTookBackIsCrossedOff(t *testing.T) {
	release := func(edit ...func(*engine.Task)) *engine.Task {
		return task("release", kv{Key: "service", Value: "1", Undoes: "maintenance"}, edit...)
	}
	work := task("work", kv{Key: "x", Value: "1"})
	tests := []struct {
		name  string
		steps []engine.Step
		done  bool
		out   bool // of service
		left  int
	}{
		{name: "when nothing is left to do at all", steps: []engine.Step{release(on("a"))}, done: true},
		{name: "when it is not known whether it was done", steps: []engine.Step{release(on("a"))}},
		{name: "when others have something to do", steps: []engine.Step{work, release(on("a"))}, done: true},
		{name: "not before it is seen", steps: []engine.Step{release(on("a"), func(t *engine.Task) { t.Path = "site/another" })}, done: true, left: 1},
		{name: "and it is done again if it was not", steps: []engine.Step{release(on("a"))}, out: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld("a", "b")
			if !tt.out {
				w.machines["a"].put("service", "1")
			}
			past := killedRelease(tt.done)
			require.Len(t, past.Pending, 1)
			g := w.engine(t, func(c *engine.Config) { c.Command, c.Past = "resume", &past })
			s, err := g.apply(t, w.runbook(tt.steps...))
			require.NoError(t, err)
			require.Len(t, s.Left, tt.left)
			if tt.left == 0 {
				require.Equal(t, []event.UndoDone{{ID: "a/maintenance", Summary: "end the maintenance of a", About: "a"}}, bodies[event.UndoDone](g.rec))
			}
		})
	}
}

// The host has had its turn, so the resumed run passes it over: beside others, and when none is left.
func TestWhatAKilledProcessTookBackIsCrossedOffOnIdleHosts(t *testing.T) {
	serving := module.Define(module.Spec{Name: "kv_serving", Serves: true}, module.Funcs[kv, kvOut]{
		Plan: func(ctx context.Context, t module.Target, a kv) ([]module.Change, error) {
			return a.plan(ctx, t, t.Host().Name)
		},
	})
	for name, hosts := range map[string][]string{"beside others": {"a", "b"}, "alone": {"a"}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld("a", "b")
			w.machines["a"].put("work", "1")
			w.machines["a"].put("service", "1")
			past := killedRelease(true)
			g := w.engine(t, func(c *engine.Config) { c.Command, c.Past = "resume", &past })
			rb := w.runbook(&engine.Rolling{Name: "nodes", Over: hostList(hosts...), Steps: []engine.Step{
				task("work", kv{Key: "work", Value: "1"}),
				task("release", kv{Key: "service", Value: "1", Undoes: "maintenance"}, func(t *engine.Task) { t.Module = serving }),
			}})
			s, err := g.apply(t, rb)
			require.NoError(t, err)
			require.Empty(t, s.Left)
			require.Len(t, bodies[event.UndoDone](g.rec), 1)
			require.NotContains(t, w.notes(), "set a service=1")
		})
	}
}
