package lease

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

type nothing struct{}

// A controller loses its network while a node is drained, for longer than its lease lasts. Another one works in the meantime. The node is
// not restarted when the network is back.
func TestAControllerThatLosesItsNetworkBeginsNothingMore(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	w.form("lab", "pve1", "pve2")
	clock := &later{}
	dark := func(ctx context.Context) {
		w.down("pve1", noRoute)
		w.down("pve2", noRoute)
		clock.pass(5 * time.Minute)
		require.NoError(t, os.Remove(w.path("pve-lab", "priv", "pxrun-lease.json"))) // its end came
		require.NoError(t, os.Remove(w.path("lock-pve1", "lease.json")))
		w.down("pve1", nil)
		w.down("pve2", nil)
		other, err := w.acquire("run2", "pve1", "pve2")
		require.NoError(t, err)
		w.release(other)
	}
	var did []string
	act := func(name string, does func(context.Context)) module.Change {
		return module.Change{ID: "pve1/" + name, Summary: name + " pve1", Imperative: true, Apply: func(ctx context.Context, _ module.Target) error {
			did = append(did, name)
			does(ctx)
			return nil
		}}
	}
	turn := module.Define(module.Spec{Name: "turn"}, module.Funcs[nothing, nothing]{
		Plan: func(context.Context, module.Target, nothing) ([]module.Change, error) {
			return []module.Change{act("drain", dark), act("restart", func(context.Context) {})}, nil
		},
	})
	c := &inventory.Cluster{Name: "lab", Nodes: []string{"pve1", "pve2"}}
	site := &inventory.Site{Clusters: []*inventory.Cluster{c}, Hosts: []inventory.Host{{Name: "pve1", Cluster: "lab"}, {Name: "pve2", Cluster: "lab"}}}
	rb := &engine.Runbook{Name: "weekly", Cluster: c, Site: site, Steps: []engine.Step{&engine.Task{
		Path: "weekly/turn", Name: "turn", Module: turn,
		Hosts: func(engine.Scope) ([]string, *engine.Unknown, diag.List) { return []string{"pve1"}, nil, nil },
		Args:  func(engine.Scope) (any, *engine.Unknown, diag.List) { return &nothing{}, nil, nil },
	}}}
	e := engine.New(engine.Config{
		RunID: "run1", Locker: New(Config{Pause: w.pause, Now: clock.now}), Clock: engine.Clock{Now: clock.now, Sleep: engine.SystemClock().Sleep},
		Dial: func(ctx context.Context, h inventory.Host) (transport.Conn, error) { return w.connect(ctx, h.Name) },
	})
	defer func() { require.NoError(t, e.Close()) }()
	p, problems := e.Plan(t.Context(), rb)
	require.False(t, problems.HasErrors(), "%v", problems)
	s, err := e.Apply(t.Context(), rb, p)
	_, lost := errors.AsType[*engine.LostLeaseError](err)
	require.True(t, lost, "%v", err)
	require.Equal(t, []string{"drain"}, did)
	require.Equal(t, engine.ExitPartly, engine.ExitCode(s, err))
	require.NoFileExists(t, w.path("pve-lab", "priv", "pxrun-lease.json"))
}
