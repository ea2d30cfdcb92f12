package engine_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

// ending is a locker whose hosts somebody else holds until a moment.
type ending struct {
	locker
	until time.Time // of the lease, as it stands in it
	gone  time.Time // when it is truly free
	tries int
}

func (l *ending) Acquire(ctx context.Context, o engine.Owner, c *inventory.Cluster, hosts []inventory.Host, connect engine.Connect) (engine.Lease, error) {
	l.tries++
	if time.Now().Before(l.gone) {
		return nil, &engine.LockedError{Host: "a", Owner: engine.Owner{Run: "01DEAD", Controller: "ann@desk", Runbook: "weekly"}, Expires: l.until}
	}
	return l.locker.Acquire(ctx, o, c, hosts, connect)
}

func TestALeaseThatIsAboutToEndIsWaitedFor(t *testing.T) {
	tests := []struct {
		name            string
		left, free      time.Duration
		known           bool // that the process is gone
		waits, interupt time.Duration
		err, told       string
	}{
		{name: "of a process that is gone", left: 110 * time.Second, free: 110 * time.Second, known: true, waits: 110 * time.Second, told: "its process is gone"},
		{name: "that was not renewed of late", left: 40 * time.Second, free: 40 * time.Second, waits: 40 * time.Second, told: "it was not renewed of late"},
		{name: "that is given back meanwhile", left: 100 * time.Second, free: 9 * time.Second, known: true, waits: 10 * time.Second, told: "waiting for that"},
		{name: "of a run at work", left: 90 * time.Second, free: time.Hour, err: "a is locked by run 01DEAD"},
		{name: "that never ends", left: 10 * time.Second, free: time.Hour, waits: 150 * time.Second, err: "a is locked by run 01DEAD", told: "waiting for that"},
		{name: "and the user has no patience", left: 50 * time.Second, free: time.Hour, waits: 5 * time.Second, interupt: 5 * time.Second, err: "interrupted", told: "waiting for that"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld("a")
				start := time.Now()
				l := &ending{locker: locker{w: w}, until: start.Add(tt.left), gone: start.Add(tt.free)}
				interrupts := make(<-chan struct{})
				if tt.interupt > 0 {
					given, stop := interruptAt(tt.interupt)
					defer stop()
					interrupts = given
				}
				g := w.engine(t, func(c *engine.Config) {
					c.Locker, c.Interrupts = l, interrupts
					c.Gone = func(o engine.Owner) bool { return tt.known && o.Run == "01DEAD" }
				})
				_, err := g.apply(t, w.runbook(task("one", kv{Key: "x", Value: "1"})))
				require.InDelta(t, tt.waits.Seconds(), time.Since(start).Seconds(), 3)
				if tt.err != "" {
					require.ErrorContains(t, err, tt.err)
					require.NotContains(t, w.notes(), "set a x=1")
				} else {
					require.NoError(t, err)
					require.Contains(t, w.notes(), "set a x=1")
				}
				warnings := bodies[event.Warning](g.rec)
				if tt.told == "" {
					require.Empty(t, warnings)
					return
				}
				require.Len(t, warnings, 1)
				require.Contains(t, warnings[0].Text, tt.told)
				require.Contains(t, warnings[0].Text, "pxrun resume 01DEAD")
				require.Contains(t, warnings[0].Text, "pxrun release 01DEAD")
			})
		})
	}
}

// unset is the temporary change of a key on a host.
func unset(run, host string) event.Pending {
	return event.Pending{Run: run, ID: host + "/m", Undo: module.Undo{
		Host: host, Summary: "unset m on " + host, Command: transport.Command{Argv: []string{"set", "m", ""}},
	}}
}

func TestUndoTakesTheLeaseOfTheWholeCluster(t *testing.T) {
	w := newWorld("a", "b", "c")
	w.machines["a"].put("m", "1")
	w.machines["c"].down = true
	l := &locker{w: w}
	with := func(c *engine.Config) { c.Locker, c.Command = l, "release" }
	site, _ := w.site("lab")
	left, err := w.engine(t, with).Undo(t.Context(), site, []event.Pending{unset("01OLD", "a")})
	require.NoError(t, err)
	require.Empty(t, left)
	require.Equal(t, []string{"lock 2 hosts for 01RUN", "set a m=", "unlock"}, w.notes(), "a node that is away is no hindrance")

	w.log, l.refuse = nil, &engine.LockedError{Host: "a", Owner: engine.Owner{Run: "01OTHER"}}
	left, err = w.engine(t, with).Undo(t.Context(), site, []event.Pending{unset("01OLD", "a")})
	require.ErrorContains(t, err, "locked by run 01OTHER")
	require.Len(t, left, 1)
	require.Equal(t, []string{"lock 2 hosts for 01RUN"}, w.notes(), "nothing was taken back under a run that is at work")
	require.Equal(t, 6, engine.ExitCode(event.Summary{}, err))
}

func TestUndoStopsWhenTheLeaseIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		w.machines["a"].put("m", "1")
		slow(w.machines["a"], 10*time.Second)
		slow(w.machines["b"], 10*time.Second)
		site, _ := w.site("lab")
		left, err := w.engine(t, func(c *engine.Config) { c.Locker = &locker{w: w, lostAt: 15 * time.Second} }).
			Undo(t.Context(), site, []event.Pending{unset("01OLD", "a"), unset("02OLD", "b"), unset("03OLD", "b")})
		require.ErrorContains(t, err, "another run has taken it")
		require.Equal(t, []event.Pending{unset("01OLD", "a")}, left, "what was under way came to its end")
		require.Equal(t, "1", w.machines["a"].get("m"))
	})
}

func TestNoChangeIsBegunWithoutALease(t *testing.T) {
	t.Run("that was lost", func(t *testing.T) {
		w := newWorld("a")
		asked := 0
		l := &locker{w: w, doubt: func(string) error {
			if asked++; asked > 1 {
				return &engine.LostLeaseError{Cause: errors.New("01OTHER was at work")}
			}
			return nil
		}}
		s, err := w.engine(t, func(c *engine.Config) { c.Locker = l }).
			apply(t, w.runbook(task("one", kv{Key: "x", Value: "1", Extra: "xx"}), task("two", kv{Key: "y", Value: "1"})))
		require.ErrorContains(t, err, "the lease was lost, so no further change is begun: 01OTHER was at work")
		require.Equal(t, []string{"one a failed: set x to 1; not: set xx to 1", "two a not_run; not: set y to 1"}, told(s))
		require.Equal(t, []string{"lock 1 hosts for 01RUN", "set a x=1", "unlock"}, w.notes())
	})
	t.Run("that cannot be confirmed for a while", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld("a")
			tries := 0
			l := &locker{w: w, doubt: func(string) error {
				if tries++; tries == 1 {
					return &transport.UnreachableError{Host: "a", Phase: "connect", Cause: errors.New("no route to host")}
				}
				return nil
			}}
			again := func(t *engine.Task) { t.Retry = engine.Retry{Attempts: 2, Delay: time.Minute} }
			g := w.engine(t, func(c *engine.Config) { c.Locker = l })
			_, err := g.apply(t, w.runbook(task("one", kv{Key: "x", Value: "1", Temporary: true}, again)))
			require.NoError(t, err)
			require.Len(t, bodies[event.UndoRegistered](g.rec), 1, "what was not begun is not written down as begun")
			require.Len(t, bodies[event.ChangeStarted](g.rec), 1)
			require.Contains(t, bodies[event.Note](g.rec)[0].Text, "that no other run is at work could not be proved")
		})
	})
}

func TestAChangeThatWaitedAsksWhetherItMayGoOn(t *testing.T) {
	tests := map[string]struct {
		doubt     error // from the second question on
		interrupt bool
		err       string
	}{
		"it may":               {},
		"the lease was lost":   {doubt: &engine.LostLeaseError{Cause: errors.New("01OTHER has it")}, err: "01OTHER has it"},
		"the user interrupted": {interrupt: true, err: "interrupted"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld("a")
				asked := 0
				l := &locker{w: w, doubt: func(string) error {
					if asked++; asked > 1 {
						return tt.doubt
					}
					return nil
				}}
				interrupts := make(chan struct{}, 1)
				var said error
				restart := module.Define(module.Spec{Name: "restart"}, module.Funcs[kv, kvOut]{
					Plan: func(context.Context, module.Target, kv) ([]module.Change, error) {
						return []module.Change{{ID: "a/restart", Summary: "restart a", Imperative: true, Apply: func(ctx context.Context, t module.Target) error {
							if tt.interrupt {
								interrupts <- struct{}{}
							}
							synctest.Wait() // for gates that open
							said = module.GoOn(ctx, t, "a")
							return said
						}}}, nil
					},
				})
				_, err := w.engine(t, func(c *engine.Config) { c.Locker, c.Interrupts = l, interrupts }).
					apply(t, w.runbook(task("one", kv{}, func(t *engine.Task) { t.Module = restart })))
				if tt.err == "" {
					require.NoError(t, err)
					require.NoError(t, said)
					return
				}
				require.Error(t, err)
				require.ErrorContains(t, said, tt.err)
			})
		})
	}
}

func TestAnUndoWhoseHostIsAwayGoesThroughAnotherNode(t *testing.T) {
	tests := map[string]struct {
		undo    module.Undo
		alone   bool // no other node is quorate
		set     []string
		problem []string
	}{
		"that does the same anywhere": {undo: module.Undo{Anywhere: true}, set: []string{"set b m="}},
		"and none is quorate": {undo: module.Undo{Anywhere: true}, alone: true, set: []string{"set b m="},
			problem: []string{"no route to host", "by hand, on any quorate node: set m"}},
		"that is about the host": {problem: []string{"no route to host", "by hand, on a: set m"}},
		"that is told in fewer words": {undo: module.Undo{ByHand: "ha-manager crm-command node-maintenance disable a"},
			problem: []string{"by hand, on a: ha-manager crm-command node-maintenance disable a"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld("a", "b", "c")
			w.machines["a"].down = true
			w.machines["c"].down = true
			if tt.alone {
				w.machines["b"].onSet = failing("no quorum")
			}
			p := unset("01OLD", "a")
			p.Undo.Anywhere, p.Undo.ByHand = tt.undo.Anywhere, tt.undo.ByHand
			site, _ := w.site("lab")
			g := w.engine(t)
			left, err := g.Undo(t.Context(), site, []event.Pending{p})
			require.Equal(t, tt.set, w.notes())
			done := bodies[event.UndoDone](g.rec)[0]
			if tt.problem == nil {
				require.NoError(t, err)
				require.Empty(t, left)
				require.Equal(t, event.UndoDone{ID: "a/m", Of: "01OLD", Summary: "unset m on a", About: "a"}, done)
				return
			}
			require.Len(t, left, 1)
			for _, part := range tt.problem {
				require.ErrorContains(t, err, part)
				require.Contains(t, done.Error, part)
			}
		})
	}
}

// The line of an undo names the node that was meant, whichever it went through.
func TestAnUndoIsToldOfTheHostThatItIsAbout(t *testing.T) {
	w := newWorld("a", "b")
	site, _ := w.site("lab")
	through := event.Pending{Run: "01OLD", ID: "a/maintenance", Undo: module.Undo{
		Host: "b", Summary: "end the maintenance of a", Command: transport.Command{Argv: []string{"set", "m", ""}},
	}}
	g := w.engine(t)
	_, err := g.Undo(t.Context(), site, []event.Pending{through})
	require.NoError(t, err)
	require.Equal(t, []event.UndoDone{{ID: "a/maintenance", Of: "01OLD", Summary: "end the maintenance of a", About: "a"}}, bodies[event.UndoDone](g.rec))
	require.Contains(t, g.rec.kinds(), "undo_done b")
}
