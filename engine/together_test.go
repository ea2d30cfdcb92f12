package engine_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/stretchr/testify/require"
)

// surveyModule looks at every host of the cluster for each of its hosts, as the gates of a node do.
var surveyModule = module.Define(module.Spec{Name: "survey", Summary: "what all say"}, module.Funcs[kv, kvOut]{
	Plan: func(ctx context.Context, t module.Target, a kv) ([]module.Change, error) {
		var all sync.WaitGroup
		failed := make([]error, len(t.Cluster().Nodes))
		for i, name := range t.Cluster().Nodes {
			all.Go(func() {
				c, err := t.Conn(ctx, name)
				if err == nil {
					_, err = c.Run(ctx, read(a.Key))
				}
				failed[i] = err
			})
		}
		all.Wait()
		for _, err := range failed {
			if err != nil {
				return nil, err
			}
		}
		return nil, nil
	},
	Read: func(context.Context, module.Target, kv) (kvOut, error) { return kvOut{}, nil },
})

func TestLookingAtAllHostsForEachHostAsksEachOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range 20 {
			names = append(names, fmt.Sprintf("h%02d", i))
		}
		w := newWorld(names...)
		for _, m := range w.machines {
			m.latency = 10 * time.Millisecond
		}
		rb := w.runbook(task("look", kv{Key: "mood", Value: "good"}, func(t *engine.Task) { t.Module = surveyModule }))
		g := w.engine(t)
		_, problems := g.Plan(t.Context(), rb)
		require.False(t, problems.HasErrors(), "%v", problems)
		require.Equal(t, 1, w.trips(), "the most that one host was asked")
		require.NoError(t, g.Close())
	})
}
