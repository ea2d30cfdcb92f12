package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/journal"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

// process is one life of pxrun: it dies at its n-th event; it lives on if that is 0. What is dead writes no journal and reaches no host.
type process struct {
	*journal.Run
	dies int
	seen int
	dead atomic.Bool
}

var errDead = errors.New("the process is dead")

func (p *process) Handle(ctx context.Context, e event.Event) error {
	switch e.Body.(type) {
	case event.CommandRan, event.Output, event.HostConnected: // no part of the journal that matters
	default:
		p.seen++
	}
	if p.dies > 0 && p.seen == p.dies {
		p.dead.Store(true)
	}
	if p.dead.Load() {
		return errDead
	}
	return p.Run.Handle(ctx, e)
}

// Sync leaves out the disk: a process that dies takes nothing with it that was written.
func (p *process) Sync(context.Context) error {
	if p.dead.Load() {
		return errDead
	}
	return nil
}

// mortal is a connection of a process.
type mortal struct {
	transport.Conn
	p *process
}

func (m mortal) Run(ctx context.Context, c transport.Command) (transport.Result, error) {
	if m.p.dead.Load() {
		return transport.Result{}, errDead
	}
	return m.Conn.Run(ctx, c)
}

func (m mortal) Batch(ctx context.Context, cs []transport.Command) ([]transport.Result, error) {
	if m.p.dead.Load() {
		return nil, errDead
	}
	return m.Conn.Batch(ctx, cs)
}

// live runs the runbook as one process.
func (w *world) live(t *testing.T, p *process, rb *engine.Runbook, past *event.History) (event.Summary, error) {
	cfg := engine.Config{
		RunID: p.ID(), Past: past, Parallelism: 1,
		Bus: event.NewBus(event.BusConfig{Run: p.ID(), Sinks: []event.Sink{p}}),
		Dial: func(ctx context.Context, h inventory.Host) (transport.Conn, error) {
			c, err := w.dial(ctx, h)
			return mortal{c, p}, err
		},
	}
	if past != nil {
		cfg.Command = "resume"
	}
	e := engine.New(cfg)
	defer e.Close()
	plan, problems := e.Plan(t.Context(), rb)
	if plan == nil || problems.HasErrors() {
		return event.Summary{}, errDead
	}
	return e.Apply(t.Context(), rb, plan)
}

// Wherever a run dies, resuming it ends in the same state, leaves nothing behind, and repeats no change that was proved.
func TestKillAnywhereAndResume(t *testing.T) {
	steps := func() []engine.Step {
		return []engine.Step{
			task("prepare", kv{Key: "p", Value: "1", Extra: "pp"}),
			task("form", kv{Key: "c", Value: "1"}, wholeCluster),
			&engine.Rolling{Name: "nodes", Over: hostList("b", "a"), Steps: []engine.Step{
				task("drain", kv{Key: "m", Value: "on", Temporary: true}),
				task("upgrade", kv{Key: "u", Value: "2"}),
				task("release", kv{Key: "r", Value: "1", Undoes: "m"}),
			}},
			task("announce", kv{Key: "n", Value: "1"}, on("a")),
		}
	}
	state := func(w *world) map[string]map[string]string {
		all := map[string]map[string]string{}
		for name, m := range w.machines {
			all[name] = maps.Clone(m.values)
		}
		return all
	}
	whole := newWorld("a", "b")
	store := &journal.Store{Dir: t.TempDir()}
	begin := func(dies int) *process {
		r, err := store.Create(journal.Meta{Command: "apply"})
		require.NoError(t, err)
		return &process{Run: r, dies: dies}
	}
	p := begin(0)
	_, err := whole.live(t, p, whole.runbook(steps()...), nil)
	require.NoError(t, err)
	require.NoError(t, p.Close())
	want, changes := state(whole), len(whole.notes())
	require.Greater(t, p.seen, 50)

	for dies := 1; dies <= p.seen; dies++ {
		t.Run(fmt.Sprint(dies), func(t *testing.T) {
			w := newWorld("a", "b")
			first := begin(dies)
			_, err := w.live(t, first, w.runbook(steps()...), nil)
			require.Error(t, err)
			require.NoError(t, first.Close())

			again, record, err := store.Resume(first.ID())
			require.NoError(t, err)
			require.LessOrEqual(t, len(record.History.Unknown), 1)
			second := &process{Run: again}
			s, err := w.live(t, second, w.runbook(steps()...), &record.History)
			require.NoError(t, err, "%v", told(s))
			require.NoError(t, again.Close())

			if diff := cmp.Diff(want, state(w)); diff != "" {
				t.Error(diff)
			}
			require.LessOrEqual(t, len(w.notes()), changes, "no change was made twice")
			ended, err := store.Load(first.ID())
			require.NoError(t, err)
			require.Contains(t, []string{"ok", "changed"}, ended.Status())
			for _, left := range ended.History.Pending {
				require.Equal(t, left.Undo.Host+"/m", left.ID)
			}
		})
	}
}
