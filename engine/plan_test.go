package engine_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/stretchr/testify/require"
)

// lines shows a plan: "task host: change, change".
func lines(p *engine.Plan) []string {
	var all []string
	for _, t := range p.Tasks {
		if t.Skipped != "" {
			all = append(all, t.Step+" skipped: "+t.Skipped)
		}
		if t.Deferred != "" {
			all = append(all, t.Step+" deferred: "+t.Deferred)
		}
		for _, h := range t.Hosts {
			line := t.Step + " " + h.Host
			if h.Item != "" {
				line += "[" + h.Item + "]"
			}
			switch {
			case h.Error != "":
				line += " error: " + h.Error
			case h.Deferred != "":
				line += " deferred: " + h.Deferred
			case h.Skipped != "":
				line += " skipped: " + h.Skipped
			}
			for _, c := range h.Changes {
				line += " | " + c.Summary
			}
			all = append(all, line)
		}
	}
	return all
}

func TestPlan(t *testing.T) {
	items := func(keys ...string) func(*engine.Task) {
		return func(t *engine.Task) {
			t.Items = func(engine.Scope) ([]engine.Item, *engine.Unknown, diag.List) {
				var all []engine.Item
				for _, k := range keys {
					all = append(all, engine.Item{Key: k})
				}
				return all, nil, nil
			}
			t.Args = func(s engine.Scope) (any, *engine.Unknown, diag.List) {
				return &kv{Key: s.Item.Key, Value: "1"}, nil, nil
			}
		}
	}
	tests := []struct {
		name   string
		before func(*world)
		config func(*engine.Config)
		steps  []engine.Step
		want   []string
		exit   int // with --detailed-exitcode
	}{
		{
			name:   "a change for each host that differs",
			before: func(w *world) { w.machines["a"].put("x", "1") },
			steps:  []engine.Step{task("one", kv{Key: "x", Value: "1"})},
			want:   []string{"site/one a", "site/one b | set x to 1"},
			exit:   2,
		},
		{
			name: "nothing to do",
			before: func(w *world) {
				w.machines["a"].put("x", "1")
				w.machines["b"].put("x", "1")
			},
			steps: []engine.Step{task("one", kv{Key: "x", Value: "1"})},
			want:  []string{"site/one a", "site/one b"},
		},
		{
			name:  "a task that needs results waits for them",
			steps: []engine.Step{task("one", kv{Key: "x", Value: "1"}, on("a")), task("two", kv{}, on("a"), valueOf("one", "y"))},
			want:  []string{"site/one a | set x to 1", "site/two a deferred: task.one has not run yet"},
			exit:  2,
		},
		{
			name:   "results of a task with nothing to do are known already",
			before: func(w *world) { w.machines["a"].put("x", "7") },
			steps:  []engine.Step{task("one", kv{Key: "x", Value: "7"}, on("a")), task("two", kv{}, on("a"), valueOf("one", "y"))},
			want:   []string{"site/one a", "site/two a | set y to 7"},
			exit:   2,
		},
		{
			name: "a false condition skips the host",
			before: func(w *world) {
				w.machines["a"].put("x", "1")
				w.machines["b"].put("x", "1")
			},
			steps: []engine.Step{task("one", kv{Key: "x", Value: "1"}), task("two", kv{Key: "y", Value: "1"}, whenChanged("one"))},
			want:  []string{"site/one a", "site/one b", "site/two a skipped: its condition is false", "site/two b skipped: its condition is false"},
		},
		{
			name:   "tags",
			config: func(c *engine.Config) { c.Tags, c.SkipTags = []string{"web"}, []string{"slow"} },
			steps: []engine.Step{
				task("one", kv{Key: "x", Value: "1"}, on("a"), func(t *engine.Task) { t.Tags = []string{"web"} }),
				task("two", kv{Key: "x", Value: "1"}, on("a"), func(t *engine.Task) { t.Tags = []string{"web", "slow"} }),
				task("three", kv{Key: "x", Value: "1"}, on("a")),
			},
			want: []string{"site/one a | set x to 1", "site/two skipped: left out by --skip-tags", "site/three skipped: left out by --tags"},
			exit: 2,
		},
		{
			name:   "limit",
			config: func(c *engine.Config) { c.Limit = []string{"b"} },
			steps:  []engine.Step{task("one", kv{Key: "x", Value: "1"}), task("two", kv{Key: "x", Value: "1"}, on("a"))},
			want:   []string{"site/one b | set x to 1", "site/two skipped: none of its hosts is selected"},
			exit:   2,
		},
		{
			name:  "for_each plans every item",
			steps: []engine.Step{task("one", kv{}, on("a"), items("k1", "k2")), task("two", kv{}, on("a"), items())},
			want:  []string{"site/one a[k1] | set k1 to 1", "site/one a[k2] | set k2 to 1", "site/two skipped: its for_each is empty"},
			exit:  2,
		},
		{
			name:  "run_once plans the first host",
			steps: []engine.Step{task("one", kv{Key: "x", Value: "1"}, func(t *engine.Task) { t.RunOnce = true })},
			want:  []string{"site/one a | set x to 1"},
			exit:  2,
		},
		{
			name: "delegate_to looks at the other host",
			before: func(w *world) {
				w.machines["b"].put("x", "1")
			},
			steps: []engine.Step{task("one", kv{Key: "x", Value: "1"}, on("a"), func(t *engine.Task) { t.DelegateTo = "b" })},
			want:  []string{"site/one a"},
		},
		{
			name:  "a cluster task plans once",
			steps: []engine.Step{task("one", kv{Key: "x", Value: "1"}, wholeCluster)},
			want:  []string{"site/one a | set x to 1 | set x to 1"},
			exit:  2,
		},
		{
			name:   "an unreachable host is told once and the others are planned",
			before: func(w *world) { w.machines["a"].down = true },
			steps:  []engine.Step{task("one", kv{Key: "x", Value: "1"}), task("two", kv{Key: "y", Value: "1"}, on("a"))},
			want: []string{
				"site/one a error: a: connect: no route to host", "site/one b | set x to 1",
				"site/two a error: not planned: one could not reach it either",
			},
			exit: 4,
		},
		{
			name: "what two gates see is told once",
			steps: []engine.Step{
				task("one", kv{Key: "x", Value: "1", Gate: "ok"}, on("a")), task("two", kv{Key: "y", Value: "1", Gate: "ok"}, on("a")),
				task("three", kv{Key: "y", Value: "1", Gate: "other"}, on("a")), task("four", kv{Key: "y", Value: "1", Gate: "ok"}, on("b")),
			},
			want: []string{
				"site/one a error: a: refused: set x\n  saw: no ok\n  wanted: ok", "site/two a error: not planned: one was refused for the same reason",
				"site/three a error: a: refused: set y\n  saw: no other\n  wanted: other", "site/four b error: b: refused: set y\n  saw: no ok\n  wanted: ok",
			},
			exit: 6,
		},
		{
			name:  "a gate refuses and the others are planned",
			steps: []engine.Step{task("one", kv{Key: "x", Value: "1", Gate: "ok"}, on("a")), task("two", kv{Key: "y", Value: "1"}, on("a"))},
			want:  []string{"site/one a error: a: refused: set x\n  saw: no ok\n  wanted: ok", "site/two a | set y to 1"},
			exit:  6,
		},
		{
			name:  "a module that panics fails its task",
			steps: []engine.Step{task("one", kv{Crash: true}, on("a")), task("two", kv{Key: "y", Value: "1"}, on("a"))},
			want:  []string{"site/one a error: module kv crashed: out of cheese (this is a bug in pxrun; the stack is in the run's log)", "site/two a | set y to 1"},
			exit:  1,
		},
		{
			name: "later tasks see what earlier ones would change, except beside them",
			steps: []engine.Step{
				&engine.Parallel{Steps: []engine.Step{
					task("one", kv{Key: "x", Value: "1"}, on("a")),
					task("two", kv{Key: "y", Value: "1", Predicts: true}, on("a")),
				}},
				task("three", kv{Key: "z", Value: "1", Predicts: true}, on("a")),
			},
			want: []string{"site/one a | set x to 1", "site/two a | set y to 1", "site/three a | set z to 1"},
			exit: 2,
		},
		{
			name: "a rolling block has one entry for each task",
			steps: []engine.Step{&engine.Rolling{Name: "r", Over: hostList("b", "a"), Steps: []engine.Step{
				task("one", kv{Key: "x", Value: "1"}), task("two", kv{Key: "y", Value: "1"}, on("a")),
			}}},
			want: []string{"site/one b | set x to 1", "site/one a | set x to 1", "site/two a | set y to 1"},
			exit: 2,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld("a", "b")
			if tt.before != nil {
				tt.before(w)
			}
			if tt.config == nil {
				tt.config = func(*engine.Config) {}
			}
			p, problems := w.engine(t, tt.config).Plan(t.Context(), w.runbook(tt.steps...))
			require.Empty(t, problems)
			if diff := cmp.Diff(tt.want, lines(p)); diff != "" {
				t.Error(diff)
			}
			require.Equal(t, tt.exit, p.ExitCode(true))
			require.Empty(t, w.notes(), "planning changed something")
		})
	}
}

func TestPlanOfForecastsIsMarked(t *testing.T) {
	w := newWorld("a")
	p, _ := w.engine(t).Plan(t.Context(), w.runbook(
		task("one", kv{Key: "x", Value: "1"}),
		task("two", kv{Key: "y", Value: "1", Predicts: true}),
	))
	require.Empty(t, p.Tasks[0].Hosts[0].Changes[0].Predicted)
	require.Equal(t, "it rests on set x to 1", p.Tasks[1].Hosts[0].Changes[0].Predicted)
}

func TestPlanCollectsTheProblemsOfAllTasks(t *testing.T) {
	w := newWorld("a", "b")
	broken := func(at int) func(*engine.Task) {
		return func(t *engine.Task) {
			t.Args = func(engine.Scope) (any, *engine.Unknown, diag.List) {
				return nil, nil, diag.Error("Bad value", "It is bad.", diag.Range{Filename: "site.hcl", Start: pos(at), End: pos(at)})
			}
		}
	}
	p, problems := w.engine(t).Plan(t.Context(), w.runbook(task("two", kv{}, broken(2)), task("one", kv{}, broken(1))))
	require.NotNil(t, p)
	require.Len(t, problems, 2, "the same problem on two hosts is one problem")
	require.Equal(t, 1, problems[0].Subject.Start.Line)
	require.Equal(t, 3, engine.ExitCode(event.Summary{}, problems))
}

// Round trips, not seconds, are what a plan and an apply cost.
func TestRoundTrips(t *testing.T) {
	w := newWorld("a", "b", "c")
	var steps []engine.Step
	for i := range 10 {
		steps = append(steps, task(fmt.Sprintf("file%d", i), kv{Key: fmt.Sprintf("f%d", i), Value: "1"}))
	}
	for i := range 5 {
		steps = append(steps, task(fmt.Sprintf("command%d", i), kv{Key: fmt.Sprintf("c%d", i), Value: "1"}))
	}
	rb := w.runbook(steps...)

	_, err := w.engine(t).apply(t, rb)
	require.NoError(t, err)
	// 1 to plan, 1 to look again before the first change, and 1 for each change with its proof and the next task's reads.
	require.LessOrEqual(t, w.trips(), 2+15)

	g := w.engine(t)
	p, _ := g.Plan(t.Context(), rb)
	require.True(t, p.Empty())
	require.Equal(t, 1, w.trips(), "one batch for all reads of a host")
	_, err = g.Apply(t.Context(), rb, p)
	require.NoError(t, err)
	require.Equal(t, 0, w.trips(), "nothing to do costs nothing")

	w.machines["a"].put("f9", "2")
	_, err = w.engine(t).apply(t, rb)
	require.NoError(t, err)
	require.LessOrEqual(t, w.trips(), 3)
}

func TestBareCommandsCostOneRoundTripEach(t *testing.T) {
	w := newWorld("a", "b")
	var steps []engine.Step
	for i := range 20 {
		steps = append(steps, task(fmt.Sprintf("t%d", i), kv{Key: fmt.Sprintf("k%d", i), Value: "1", Imperative: true}))
	}
	_, err := w.engine(t).apply(t, w.runbook(steps...))
	require.NoError(t, err)
	require.LessOrEqual(t, w.trips(), 2+20)
}

func TestSavedPlan(t *testing.T) {
	w := newWorld("a", "b")
	rb := w.runbook(task("one", kv{Key: "x", Value: "s3cret"}), task("two", kv{Key: "y", Value: "1"}))
	redact := func(s string) string { return replaceAll(s, "s3cret", "(secret)") }
	p, _ := w.engine(t).Plan(t.Context(), rb)
	var file buffer
	require.NoError(t, p.Save(&file, redact))
	require.NotContains(t, file.String(), "s3cret")
	loaded, err := engine.LoadPlan(&file)
	require.NoError(t, err)

	again, _ := w.engine(t).Plan(t.Context(), rb)
	require.NoError(t, loaded.Same(again))

	w.machines["b"].put("y", "1")
	now, _ := w.engine(t).Plan(t.Context(), rb)
	err = loaded.Same(now)
	require.ErrorContains(t, err, "no longer: site/two on b: set y to 1")
	require.Equal(t, 6, engine.ExitCode(event.Summary{}, err))

	w.machines["b"].put("y", "before")
	now, _ = w.engine(t).Plan(t.Context(), rb)
	require.ErrorContains(t, loaded.Same(now), "stale", "the same change from another state is another change")
	require.Empty(t, w.notes())
}

func TestLoadPlanRefusesWhatIsNoPlan(t *testing.T) {
	for _, text := range []string{"", "{}", "[]", `{"format":2,"digest":"x"}`, `{"format":1}`, "\x00\x01"} {
		_, err := engine.LoadPlan(readerOf(text))
		require.Error(t, err, text)
	}
}

func TestChangesOfItemsHaveIDsOfTheirOwn(t *testing.T) {
	w := newWorld("a")
	each := func(t *engine.Task) {
		t.Items = func(engine.Scope) ([]engine.Item, *engine.Unknown, diag.List) {
			return []engine.Item{{Key: "x"}, {Key: "y"}}, nil, nil
		}
	}
	p, _ := w.engine(t).Plan(t.Context(), w.runbook(task("one", kv{Key: "k", Value: "1"}, each)))
	var ids []string
	for _, h := range p.Tasks[0].Hosts {
		for _, c := range h.Changes {
			ids = append(ids, c.ID)
		}
	}
	require.Equal(t, []string{"a/k[x]", "a/k[y]"}, ids)
}
