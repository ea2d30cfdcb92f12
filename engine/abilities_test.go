package engine_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/stretchr/testify/require"
)

// switchModule sets a host's key on b, as one switches the power of a machine at its controller.
var switchModule = module.Define(module.Spec{Name: "kv_switch", Summary: "a key on b", MayBeAway: true}, module.Funcs[kv, kvOut]{
	Plan: func(ctx context.Context, t module.Target, a kv) ([]module.Change, error) {
		a.Key, a.Imperative = t.Host().Name, true
		changes, err := a.plan(ctx, t, "b")
		for i := range changes {
			apply := changes[i].Apply
			changes[i].Apply = func(ctx context.Context, t module.Target) error {
				module.Tell(t, t.Host().Name, "one of "+strings.Join(module.TaskHosts(t), ", "))
				return apply(ctx, t)
			}
		}
		return changes, err
	},
	Read: func(context.Context, module.Target, kv) (kvOut, error) { return kvOut{}, nil },
})

func TestAModuleThatNeedsNoAnswerWorksOnAHostThatIsAway(t *testing.T) {
	w := newWorld("a", "b")
	w.machines["a"].down = true
	site, cluster := w.site("lab")
	run := func(m module.Module) (event.Summary, rig, error) {
		g := w.engine(t)
		step := task("one", kv{Key: "x", Value: "1"}, func(t *engine.Task) { t.Module = m })
		s, err := g.apply(t, &engine.Runbook{Name: "site", Site: site, Cluster: cluster, Steps: []engine.Step{step}})
		return s, g, err
	}
	_, _, err := run(kvModule)
	require.Error(t, err)
	_, g, err := run(switchModule)
	require.NoError(t, err)
	require.Equal(t, "1", w.machines["b"].values["a"])
	require.Equal(t, "1", w.machines["b"].values["b"])
	var told []string
	for _, e := range g.rec.events {
		if n, ok := e.Body.(event.Note); ok && n.Result {
			told = append(told, e.Host+": "+n.Text)
		}
	}
	slices.Sort(told)
	require.Equal(t, []string{"a: one of a, b", "b: one of a, b"}, told)
}
