package engine_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
)

func failing(text string) func(context.Context, string, string) error {
	return func(context.Context, string, string) error { return errors.New(text) }
}

// noEffect says that all is well and does nothing.
func noEffect(context.Context, string, string) error { return nil }

func continues(t *engine.Task) { t.OnFailure = engine.Continue }

func TestApply(t *testing.T) {
	tests := []struct {
		name   string
		before func(*world)
		steps  []engine.Step
		want   []string
		exit   int
	}{
		{
			name: "changes are made and a later task sees the results",
			steps: []engine.Step{
				task("one", kv{Key: "x", Value: "1"}, on("a")),
				task("two", kv{}, on("a"), valueOf("one", "y")),
				task("three", kv{Key: "z", Value: "1"}, whenChanged("one")),
			},
			want: []string{"one a changed: set x to 1", "two a changed: set y to 1", "three a changed: set z to 1", "three b skipped"},
		},
		{
			name:   "a failed host ends the run before the next task",
			before: func(w *world) { w.machines["b"].onSet = failing("disk full") },
			steps:  []engine.Step{task("one", kv{Key: "x", Value: "1"}), task("two", kv{Key: "y", Value: "1"})},
			want: []string{
				"one a changed: set x to 1", "one b failed; not: set x to 1",
				"two a not_run; not: set y to 1", "two b not_run; not: set y to 1",
			},
			exit: 5,
		},
		{
			name:   "on_failure = continue goes on without the failed host",
			before: func(w *world) { w.machines["b"].onSet = failing("disk full") },
			steps:  []engine.Step{task("one", kv{Key: "x", Value: "1"}, continues), task("two", kv{Key: "y", Value: "1"})},
			want: []string{
				"one a changed: set x to 1", "one b failed; not: set x to 1",
				"two a changed: set y to 1", "two b not_run; not: set y to 1",
			},
			exit: 5,
		},
		{
			name:   "nothing done at all is a failure, not half a success",
			before: func(w *world) { w.machines["a"].onSet = failing("disk full") },
			steps:  []engine.Step{task("one", kv{Key: "x", Value: "1"}, on("a"))},
			want:   []string{"one a failed; not: set x to 1"},
			exit:   1,
		},
		{
			name:   "a change that did not happen is found out",
			before: func(w *world) { w.machines["a"].onSet = noEffect },
			steps:  []engine.Step{task("one", kv{Key: "x", Value: "1"}, on("a"))},
			want:   []string{"one a failed: set x to 1; not: set x to 1"},
			exit:   5,
		},
		{
			name:   "a bare command needs no proof",
			before: func(w *world) { w.machines["a"].onSet = noEffect },
			steps:  []engine.Step{task("one", kv{Key: "x", Value: "1", Imperative: true}, on("a"))},
			want:   []string{"one a changed: set x to 1"},
		},
		{
			name:  "run_once acts on one host and counts for all",
			steps: []engine.Step{task("one", kv{Key: "x", Value: "1"}, func(t *engine.Task) { t.RunOnce = true }), task("two", kv{Key: "y", Value: "1"}, whenChanged("one"))},
			want:  []string{"one a changed: set x to 1", "one b changed", "two a changed: set y to 1", "two b changed: set y to 1"},
		},
		{
			name:  "delegate_to acts elsewhere",
			steps: []engine.Step{task("one", kv{Key: "x", Value: "1"}, on("a"), func(t *engine.Task) { t.DelegateTo = "b" })},
			want:  []string{"one a changed: set x to 1"},
		},
		{
			name:  "a cluster task tells of each host",
			steps: []engine.Step{task("one", kv{Key: "x", Value: "1"}, wholeCluster)},
			want:  []string{"one a changed: set x to 1", "one b changed: set x to 1"},
		},
		{
			name:   "a cluster task stops at its first failure",
			before: func(w *world) { w.machines["a"].onSet = failing("no quorum") },
			steps:  []engine.Step{task("one", kv{Key: "x", Value: "1"}, wholeCluster)},
			want:   []string{"one a failed; not: set x to 1", "one b not_run; not: set x to 1"},
			exit:   1,
		},
		{
			name: "a lost connection is not tried again",
			before: func(w *world) {
				w.machines["a"].onSet = func(context.Context, string, string) error {
					return &transport.LostError{Host: "a", Command: "set", Cause: errors.New("EOF")}
				}
			},
			steps: []engine.Step{task("one", kv{Key: "x", Value: "1"}, on("a"), func(t *engine.Task) { t.Retry = engine.Retry{Attempts: 5} })},
			want:  []string{"one a failed; not: set x to 1"},
			exit:  1,
		},
		{
			name: "steps of a parallel block all run, and a failure ends the run after it",
			before: func(w *world) {
				w.machines["a"].onSet = failing("disk full")
			},
			steps: []engine.Step{
				&engine.Parallel{Steps: []engine.Step{task("one", kv{Key: "x", Value: "1"}, on("a")), task("two", kv{Key: "y", Value: "1"}, on("b"))}},
				task("three", kv{Key: "z", Value: "1"}, on("b")),
			},
			want: []string{"one a failed; not: set x to 1", "two b changed: set y to 1", "three b not_run; not: set z to 1"},
			exit: 5,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld("a", "b")
			if tt.before != nil {
				tt.before(w)
			}
			s, err := w.engine(t).apply(t, w.runbook(tt.steps...))
			if diff := cmp.Diff(tt.want, told(s)); diff != "" {
				t.Errorf("%s (%v)", diff, err)
			}
			require.Equal(t, tt.exit, engine.ExitCode(s, err), "%v", err)
			require.Equal(t, tt.exit == 0, err == nil)
		})
	}
}

func TestApplyTwiceChangesNothing(t *testing.T) {
	w := newWorld("a", "b")
	rb := w.runbook(task("one", kv{Key: "x", Value: "1", Extra: "xx"}), task("two", kv{Key: "y", Value: "1"}, wholeCluster))
	_, err := w.engine(t).apply(t, rb)
	require.NoError(t, err)
	p, _ := w.engine(t).Plan(t.Context(), rb)
	require.True(t, p.Empty())
	require.Equal(t, 0, p.ExitCode(true))
}

func TestApplyRefusesAPlanWithProblems(t *testing.T) {
	w := newWorld("a", "b")
	w.machines["a"].down = true
	g := w.engine(t)
	rb := w.runbook(task("one", kv{Key: "x", Value: "1"}))
	s, err := g.apply(t, rb)
	require.ErrorContains(t, err, "site/one on a: a: connect: no route to host")
	require.Equal(t, []string{"one a unreachable", "one b not_run; not: set x to 1"}, told(s))
	require.Equal(t, 4, engine.ExitCode(s, err))
	require.Empty(t, w.notes())
}

func TestApplyLeavesOutUnreachableHostsOfTasksThatContinue(t *testing.T) {
	w := newWorld("a", "b")
	w.machines["a"].down = true
	s, err := w.engine(t).apply(t, w.runbook(task("one", kv{Key: "x", Value: "1"}, continues)))
	require.Equal(t, []string{"one a unreachable", "one b changed: set x to 1"}, told(s))
	require.Equal(t, 5, engine.ExitCode(s, err))
	require.Equal(t, 1, w.machines["a"].dials)
}

func TestApplyRefusesChangesThatNobodyApproved(t *testing.T) {
	w := newWorld("a")
	w.machines["a"].put("y", "1")
	rb := w.runbook(task("one", kv{Key: "x", Value: "1"}), task("two", kv{Key: "y", Value: "1"}))
	g := w.engine(t)
	p, _ := g.Plan(t.Context(), rb)
	w.machines["a"].onSet = func(_ context.Context, key, value string) error {
		w.machines["a"].put(key, value)
		w.machines["a"].put("y", "2") // somebody else
		return nil
	}
	s, err := g.Apply(t.Context(), rb, p)
	require.ErrorContains(t, err, "site/two failed on a")
	require.Equal(t, []string{"one a changed: set x to 1", "two a refused; not: set y to 1"}, told(s))
	require.Contains(t, s.Steps[1].Hosts[0].Error, "was not planned: set y to 1")
	require.Equal(t, []string{"set a x=1"}, w.notes())
}

func TestApplyAllowsWhatAForecastBecomes(t *testing.T) {
	w := newWorld("a")
	rb := w.runbook(task("one", kv{Key: "x", Value: "1"}), task("two", kv{Key: "y", Value: "1", Predicts: true}))
	s, err := w.engine(t).apply(t, rb)
	require.NoError(t, err)
	require.Equal(t, []string{"one a changed: set x to 1", "two a changed: set y to 1"}, told(s))
}

func TestHoldErrorsSayWhoIsToBlame(t *testing.T) {
	w := newWorld("a")
	w.machines["a"].put("x", "old")
	rb := w.runbook(task("one", kv{Key: "x", Value: "1"}))
	tests := []struct {
		name, becomes, want string
	}{
		{"nothing happened", "old", "its state is what it was before"},
		{"something else happened", "half", "still not what module kv wants"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w.machines["a"].put("x", "old")
			w.machines["a"].onSet = func(context.Context, string, string) error { w.machines["a"].put("x", tt.becomes); return nil }
			s, err := w.engine(t).apply(t, rb)
			require.Error(t, err)
			require.Contains(t, s.Steps[0].Hosts[0].Error, "did not hold: set x to 1")
			require.Contains(t, s.Steps[0].Hosts[0].Error, tt.want)
		})
	}
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		tries := 0
		w.machines["a"].onSet = func(_ context.Context, key, value string) error {
			if tries++; tries < 3 {
				return errors.New("busy")
			}
			w.machines["a"].put(key, value)
			return nil
		}
		start := time.Now()
		s, err := w.engine(t).apply(t, w.runbook(task("one", kv{Key: "x", Value: "1"}, func(t *engine.Task) {
			t.Retry = engine.Retry{Attempts: 3, Delay: 10 * time.Second}
		})))
		require.NoError(t, err)
		require.Equal(t, []string{"one a changed: set x to 1"}, told(s))
		require.Equal(t, 20*time.Second, time.Since(start))
	})
}

func TestTimeoutOfATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		w.machines["a"].onSet = func(ctx context.Context, _, _ string) error { <-ctx.Done(); return nil }
		s, err := w.engine(t).apply(t, w.runbook(task("one", kv{Key: "x", Value: "1"}, func(t *engine.Task) { t.Timeout = time.Minute })))
		require.Error(t, err)
		require.Contains(t, s.Steps[0].Hosts[0].Error, "timed out after 1m0s")
		require.Equal(t, event.Failed, s.Steps[0].Hosts[0].Status)
	})
}

func TestWaitsSeeThePresent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		m := w.machines["a"]
		var late *time.Timer
		m.onSet = func(_ context.Context, key, value string) error {
			late = time.AfterFunc(5*time.Second, func() { m.put(key, value) })
			return nil
		}
		_, err := w.engine(t).apply(t, w.runbook(task("one", kv{Key: "x", Value: "1", Wait: true})))
		require.NoError(t, err)
		require.False(t, late.Stop())

		m.onSet = noEffect
		s, err := w.engine(t).apply(t, w.runbook(task("one", kv{Key: "x", Value: "2", Wait: true})))
		require.Error(t, err)
		require.Contains(t, s.Steps[0].Hosts[0].Error, `waited 1m0s until x is there, which did not come: x is "1"`)
	})
}

func TestClusterChangesAreMadeOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b", "c")
		busy, peak := 0, 0
		for _, m := range w.machines {
			m.onSet = func(_ context.Context, key, value string) error {
				busy++
				peak = max(peak, busy)
				time.Sleep(time.Second)
				busy--
				m.put(key, value)
				return nil
			}
		}
		_, err := w.engine(t).apply(t, w.runbook(task("one", kv{Key: "x", Value: "1", Extra: "y"}, wholeCluster)))
		require.NoError(t, err)
		require.Equal(t, 1, peak)
		require.Equal(t, []string{"set a x=1", "set a y=1", "set b x=1", "set b y=1", "set c x=1", "set c y=1"}, w.notes())
	})
}

func TestParallelismIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range 20 {
			names = append(names, fmt.Sprintf("h%02d", i))
		}
		w := newWorld(names...)
		w.machines["h00"].latency = 0
		busy, peak := 0, 0
		for _, m := range w.machines {
			m.onSet = func(_ context.Context, key, value string) error {
				w.mu.Lock()
				busy++
				peak = max(peak, busy)
				w.mu.Unlock()
				time.Sleep(time.Second)
				w.mu.Lock()
				busy--
				w.mu.Unlock()
				m.put(key, value)
				return nil
			}
		}
		start := time.Now()
		_, err := w.engine(t, func(c *engine.Config) { c.Parallelism = 5 }).apply(t, w.runbook(&engine.Parallel{Steps: []engine.Step{
			task("one", kv{Key: "x", Value: "1"}), task("two", kv{Key: "y", Value: "1"}),
		}}))
		require.NoError(t, err)
		require.Equal(t, 5, peak)
		require.Equal(t, 8*time.Second, time.Since(start))
	})
}

func TestAChangeIsAnnouncedOnDiskBeforeItIsMade(t *testing.T) {
	w := newWorld("a")
	g := w.engine(t)
	g.rec.onEvent = func(e event.Event) error {
		switch b := e.Body.(type) {
		case event.UndoRegistered, event.ChangeStarted, event.ChangeDone:
			w.note("%s", e.Body.Kind())
		case event.HostDone:
			w.note("%s %s", e.Body.Kind(), b.Status)
		}
		return nil
	}
	g.rec.onSync = func() error { w.note("sync"); return nil }
	_, err := g.apply(t, w.runbook(task("one", kv{Key: "x", Value: "1", Temporary: true})))
	require.NoError(t, err)
	require.Equal(t, []string{
		"undo_registered", "sync", "change_started", "sync", "set a x=1", "change_done", "host_done changed", "sync",
	}, w.notes())
}

func TestWithoutAJournalNothingIsChanged(t *testing.T) {
	w := newWorld("a", "b")
	g := w.engine(t)
	g.rec.onSync = func() error { return errors.New("no space left on device") }
	s, err := g.apply(t, w.runbook(task("one", kv{Key: "x", Value: "1"}), task("two", kv{Key: "y", Value: "1"})))
	require.ErrorContains(t, err, "no space left")
	require.Empty(t, w.notes())
	require.Equal(t, 1, engine.ExitCode(s, err))
}

func TestSummaryListsTemporaryChangesThatAreLeft(t *testing.T) {
	w := newWorld("a")
	maintenance := task("drain", kv{Key: "maintenance", Value: "1", Temporary: true})
	s, err := w.engine(t).apply(t, w.runbook(maintenance))
	require.NoError(t, err)
	require.Len(t, s.Left, 1)
	require.Equal(t, "unset maintenance", s.Left[0].Summary)

	w.machines["a"].put("maintenance", "")
	g := w.engine(t)
	s, err = g.apply(t, w.runbook(maintenance, task("release", kv{Key: "service", Value: "1", Undoes: "maintenance"})))
	require.NoError(t, err)
	require.Empty(t, s.Left)
	require.Equal(t, []event.UndoDone{{ID: "a/maintenance", Summary: "unset maintenance", About: "a"}}, bodies[event.UndoDone](g.rec))
}

func TestUndoTakesBackWhatRunsLeftBehind(t *testing.T) {
	w := newWorld("a", "b")
	w.machines["a"].put("m", "1")
	w.machines["b"].onSet = failing("no")
	undo := func(host string) event.Pending {
		return event.Pending{Run: "01OLD", ID: host + "/m", Undo: module.Undo{
			Host: host, Summary: "unset m on " + host, Command: transport.Command{Argv: []string{"set", "m", ""}},
		}}
	}
	g := w.engine(t)
	site, _ := w.site("lab")
	left, err := g.Undo(t.Context(), site, []event.Pending{undo("a"), undo("b")})
	require.ErrorContains(t, err, "b: unset m on b")
	require.Equal(t, []event.Pending{undo("b")}, left)
	require.Empty(t, w.machines["a"].get("m"))
	done := bodies[event.UndoDone](g.rec)
	require.Equal(t, "01OLD", done[1].Of)
	require.NotEmpty(t, done[0].Error)
}

// What hosts share, such as /etc/pve, changes on all of them when it changes on one.
func TestReadsOfOtherHostsAreForgottenWhenOneIsChanged(t *testing.T) {
	tests := []struct {
		name string
		step *engine.Task
	}{
		{"on one host", task("share", kv{Key: "shared", Value: "1"}, on("a"))},
		{"run once", task("share", kv{Key: "shared", Value: "1"}, func(t *engine.Task) { t.RunOnce = true })},
		{"delegated", task("share", kv{Key: "shared", Value: "1"}, on("b"), func(t *engine.Task) { t.DelegateTo = "a" })},
		{"for the whole cluster, in vain", task("share", kv{Key: "shared", Value: "1", Extra: "more"}, on("a"), wholeCluster, continues)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld("a", "b")
			w.machines["a"].onSet = func(_ context.Context, key, value string) error {
				for _, m := range w.machines {
					m.put(key, value)
				}
				if key == "more" {
					return errors.New("disk full")
				}
				return nil
			}
			// The first task reads what the third one will on host b, before the second one changes it from host a.
			first := task("first", kv{Key: "own", Value: "1"}, on("b"))
			last := task("last", kv{Key: "shared", Value: "1"}, on("b"))
			s, _ := w.engine(t).apply(t, w.runbook(first, tt.step, last))
			require.Contains(t, told(s), "last b ok")
			require.NotContains(t, w.notes(), "set b shared=1")
		})
	}
}
