package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
)

// acts is a module that has something to do until done says that it has been done.
func acts(plan func(ctx context.Context, t module.Target) error, apply func(ctx context.Context, t module.Target) error) func(*engine.Task) {
	var mu sync.Mutex
	done := false
	m := module.Define(module.Spec{Name: "acts"}, module.Funcs[kv, kvOut]{
		Plan: func(ctx context.Context, t module.Target, _ kv) ([]module.Change, error) {
			if plan != nil {
				if err := plan(ctx, t); err != nil {
					return nil, err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if done {
				return nil, nil
			}
			return []module.Change{{ID: t.Host().Name + "/act", Summary: "act", Action: module.Run, Before: "plain", After: "text",
				Apply: func(ctx context.Context, t module.Target) error {
					err := apply(ctx, t)
					mu.Lock()
					done = true
					mu.Unlock()
					return err
				}}}, nil
		},
	})
	return func(t *engine.Task) { t.Module = m }
}

func TestWhatATargetOffers(t *testing.T) {
	set := transport.Command{Argv: []string{"set", "x", "1"}, Mutates: true}
	conn := func(ctx context.Context, t module.Target) transport.Conn {
		c, err := t.Conn(ctx, t.Host().Name)
		if err != nil {
			panic(err)
		}
		return c
	}
	tests := []struct {
		name   string
		config func(*engine.Config)
		plan   func(context.Context, module.Target) error
		apply  func(context.Context, module.Target) error
		want   string // the error
	}{
		{
			name: "planning cannot write",
			plan: func(ctx context.Context, t module.Target) error { _, err := conn(ctx, t).Run(ctx, set); return err },
			want: "refused while planning, because it changes the host: set x 1",
		},
		{
			name: "planning cannot put files",
			plan: func(ctx context.Context, t module.Target) error {
				return conn(ctx, t).Put(ctx, transport.File{Path: "/etc/x", Content: strings.NewReader("")})
			},
			want: "put /etc/x",
		},
		{
			name: "planning cannot detach",
			plan: func(ctx context.Context, t module.Target) error {
				_, err := t.Detach(ctx, "a", module.Job{Name: "join"})
				return err
			},
			want: `job "join"`,
		},
		{
			name:  "nobody can be asked",
			apply: func(ctx context.Context, t module.Target) error { return t.Approve(ctx, "Really?") },
			want:  "nobody can be asked: Really?",
		},
		{
			name:   "somebody says yes",
			config: func(c *engine.Config) { c.Approve = func(context.Context, string) error { return nil } },
			apply:  func(ctx context.Context, t module.Target) error { return t.Approve(ctx, "Really?") },
		},
		{
			name:  "a value that cannot be kept is a failure",
			apply: func(_ context.Context, t module.Target) error { t.Keep("token", secret.New("s3cret")); return nil },
			want:  "token is shown only once and could not be kept: this run has no place to keep it",
		},
		{
			name:   "a value is kept",
			config: func(c *engine.Config) { c.Keep = func(string, secret.String) error { return nil } },
			apply:  func(_ context.Context, t module.Target) error { t.Keep("token", secret.New("s3cret")); return nil },
		},
		{
			name: "a fatal error ends a wait at once",
			apply: func(ctx context.Context, t module.Target) error {
				return t.WaitFor(ctx, module.Condition{Name: "it is up", Timeout: time.Hour, Check: func(context.Context) error {
					return module.Fatal(errors.New("it is gone"))
				}})
			},
			want: "waiting until it is up: it is gone",
		},
		{
			name: "another host of the site can be reached",
			apply: func(ctx context.Context, t module.Target) error {
				c, err := t.Conn(ctx, "b")
				if err != nil {
					return err
				}
				_, err = c.Run(ctx, set)
				return errors.Join(err, c.Close())
			},
		},
		{
			name: "a host that is not of the site cannot",
			apply: func(ctx context.Context, t module.Target) error {
				_, err := t.Conn(ctx, "z")
				return err
			},
			want: `"z" is not a host of this site`,
		},
		{
			name: "a detached job gets the bare connection and the run",
			config: func(c *engine.Config) {
				c.Detach = func(ctx context.Context, c transport.Conn, host, run string, j module.Job) (transport.Result, error) {
					if host != "a" || run != "01RUN" || j.Name != "join" {
						return transport.Result{}, errors.New(host + run + j.Name)
					}
					j.Command.Output(transport.Stdout, "joining")
					return c.Run(ctx, set)
				}
			},
			apply: func(ctx context.Context, t module.Target) error {
				_, err := t.Detach(ctx, "a", module.Job{Name: "join"})
				return err
			},
		},
		{
			name:  "a crash while acting fails the task",
			apply: func(context.Context, module.Target) error { panic("out of cheese") },
			want:  "act: module acts crashed: out of cheese",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld("a", "b")
			if tt.config == nil {
				tt.config = func(*engine.Config) {}
			}
			if tt.apply == nil {
				tt.apply = func(context.Context, module.Target) error { return nil }
			}
			s, err := w.engine(t, tt.config).apply(t, w.runbook(task("one", kv{}, on("a"), acts(tt.plan, tt.apply))))
			if tt.want == "" {
				require.NoError(t, err, "%v", told(s))
				return
			}
			require.Error(t, err)
			require.Contains(t, s.Steps[0].Hosts[0].Error, tt.want)
			require.Empty(t, w.notes())
		})
	}
}

func TestACrashLeavesItsStackInTheLog(t *testing.T) {
	w := newWorld("a")
	g := w.engine(t)
	_, err := g.apply(t, w.runbook(task("one", kv{}, acts(nil, func(context.Context, module.Target) error { panic("out of cheese") }))))
	require.Error(t, err)
	notes := bodies[event.Note](g.rec)
	require.Len(t, notes, 1)
	require.Contains(t, notes[0].Text, "target_test.go")
}

func TestASensitiveTaskTellsNothing(t *testing.T) {
	for _, sensitive := range []bool{false, true} {
		w := newWorld("a")
		g := w.engine(t)
		one := task("one", kv{Key: "x", Value: "hidden"}, func(t *engine.Task) { t.Sensitive = sensitive })
		rb := w.runbook(one)
		p, _ := g.Plan(t.Context(), rb)
		_, err := g.Apply(t.Context(), rb, p)
		require.NoError(t, err)
		started := bodies[event.ChangeStarted](g.rec)[0].Change
		if sensitive {
			require.Empty(t, bodies[event.Output](g.rec))
			require.Nil(t, started.After)
			require.Nil(t, p.Tasks[0].Hosts[0].Changes[0].After)
		} else {
			require.Equal(t, []event.Output{{Stream: "stdout", Line: "setting x"}}, bodies[event.Output](g.rec))
			require.Equal(t, "hidden", started.After)
		}
	}
}

func TestFactsCostOneMoreRoundTrip(t *testing.T) {
	w := newWorld("a", "b")
	for _, m := range w.machines {
		m.put("release", "9")
		m.put("x9", "1")
		m.put("y", "1")
	}
	probe := read("release")
	facts := engine.Facts{Probes: []transport.Command{probe}, Gather: func(ctx context.Context, c transport.Conn) (cty.Value, error) {
		r, err := c.Run(ctx, probe)
		return cty.ObjectVal(map[string]cty.Value{"release": cty.StringVal(r.Out())}), err
	}}
	needs := func(t *engine.Task) {
		t.NeedsFacts = true
		t.Args = func(s engine.Scope) (any, *engine.Unknown, diag.List) {
			return &kv{Key: "x" + s.Facts.GetAttr("release").AsString(), Value: "1"}, nil, nil
		}
	}
	with := func(c *engine.Config) { c.Facts = facts }
	p, problems := w.engine(t, with).Plan(t.Context(), w.runbook(task("one", kv{}, needs), task("two", kv{Key: "y", Value: "1"})))
	require.Empty(t, problems)
	require.True(t, p.Empty(), "%v", lines(p))
	require.Equal(t, 2, w.trips())

	p, _ = w.engine(t, with).Plan(t.Context(), w.runbook(task("two", kv{Key: "y", Value: "1"})))
	require.True(t, p.Empty())
	require.Equal(t, 1, w.trips(), "facts that nobody asks for are not gathered")
}

func TestAllHostsAreDialledAtOnceAndOnce(t *testing.T) {
	w := newWorld("a", "b", "c")
	w.machines["c"].down = true
	g := w.engine(t)
	_, _ = g.Plan(t.Context(), w.runbook(task("one", kv{Key: "x", Value: "1"}), task("two", kv{Key: "y", Value: "1"}), task("three", kv{Key: "z", Value: "1"}, wholeCluster)))
	for _, m := range w.machines {
		require.Equal(t, 1, m.dials, m.name)
	}
	connected := bodies[event.HostConnected](g.rec)
	require.Len(t, connected, 3)
}
