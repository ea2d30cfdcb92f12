package engine_test

import (
	"context"
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
