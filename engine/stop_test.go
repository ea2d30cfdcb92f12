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

// slow makes every change of a machine take a while.
func slow(m *machine, d time.Duration) {
	m.onSet = func(ctx context.Context, key, value string) error {
		select {
		case <-time.After(d):
			m.put(key, value)
			return nil
		case <-ctx.Done():
			return &transport.LostError{Host: m.name, Command: "set", Cause: ctx.Err()}
		}
	}
}

// interruptAt sends interrupts at moments after the start.
func interruptAt(moments ...time.Duration) (chan struct{}, func()) {
	c := make(chan struct{}, len(moments))
	var timers []*time.Timer
	for _, d := range moments {
		timers = append(timers, time.AfterFunc(d, func() { c <- struct{}{} }))
	}
	return c, func() {
		for _, t := range timers {
			t.Stop()
		}
	}
}

func TestFirstInterruptFinishesTheChangeUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		slow(w.machines["a"], 10*time.Second)
		slow(w.machines["b"], time.Minute) // longer than the grace period: changes are never cut short by it
		interrupts, stop := interruptAt(5 * time.Second)
		defer stop()
		g := w.engine(t, func(c *engine.Config) { c.Interrupts = interrupts })
		start := time.Now()
		s, err := g.apply(t, w.runbook(task("one", kv{Key: "x", Value: "1", Extra: "xx"}), task("two", kv{Key: "y", Value: "1"})))
		require.Equal(t, []string{
			"one a cancelled: set x to 1; not: set xx to 1", "one b cancelled: set x to 1; not: set xx to 1",
			"two a not_run; not: set y to 1", "two b not_run; not: set y to 1",
		}, told(s))
		require.Equal(t, time.Minute, time.Since(start))
		require.Equal(t, 130, engine.ExitCode(s, err))
		require.Equal(t, []event.Interrupted{{Count: 1}}, bodies[event.Interrupted](g.rec))
		require.Equal(t, event.Cancelled, bodies[event.RunDone](g.rec)[0].Status)
	})
}

func TestSecondInterruptStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		slow(w.machines["a"], time.Hour)
		interrupts, stop := interruptAt(5*time.Second, 7*time.Second)
		defer stop()
		start := time.Now()
		s, err := w.engine(t, func(c *engine.Config) { c.Interrupts = interrupts }).
			apply(t, w.runbook(task("drain", kv{Key: "m", Value: "1", Temporary: true})))
		require.Equal(t, 7*time.Second, time.Since(start))
		require.Equal(t, 130, engine.ExitCode(s, err))
		require.Equal(t, "unset m", s.Left[0].Summary, "what is left is told")
	})
}

func TestInterruptEndsWaitsAfterTheGracePeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		w.machines["a"].onSet = noEffect
		interrupts, stop := interruptAt(5 * time.Second)
		defer stop()
		start := time.Now()
		s, err := w.engine(t, func(c *engine.Config) { c.Interrupts, c.Grace = interrupts, 3*time.Second }).
			apply(t, w.runbook(task("one", kv{Key: "x", Value: "1", Wait: true})))
		require.Equal(t, 8*time.Second, time.Since(start))
		require.Equal(t, 130, engine.ExitCode(s, err))
		require.Contains(t, s.Steps[0].Hosts[0].Error, "waiting until x is there: interrupted")
	})
}

func TestInterruptTakesBackWhatIsSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		slow(w.machines["a"], 10*time.Second)
		interrupts, stop := interruptAt(15 * time.Second)
		defer stop()
		g := w.engine(t, func(c *engine.Config) { c.Interrupts = interrupts })
		s, err := g.apply(t, w.runbook(
			task("drain", kv{Key: "m", Value: "1", Temporary: true}),
			task("upgrade", kv{Key: "x", Value: "1"}, on("a")),
			task("release", kv{Key: "y", Value: "1"}),
		))
		require.Equal(t, 130, engine.ExitCode(s, err))
		require.Equal(t, "", w.machines["b"].get("m"), "b is as it was: back to service")
		require.Equal(t, "1", w.machines["a"].get("m"), "a was changed and not checked: it stays out of service")
		require.Len(t, s.Left, 1)
		require.Equal(t, "a", s.Left[0].Host)
	})
}

func TestInterruptWhilePlanning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		w.machines["a"].latency = time.Minute
		interrupts, stop := interruptAt(5 * time.Second)
		defer stop()
		start := time.Now()
		p, problems := w.engine(t, func(c *engine.Config) { c.Interrupts = interrupts }).Plan(t.Context(), w.runbook(task("one", kv{Key: "x", Value: "1"})))
		require.Nil(t, p)
		require.True(t, problems.HasErrors())
		require.Equal(t, 5*time.Second, time.Since(start))
	})
}

// locker is a lease as a test wants it.
type locker struct {
	w      *world
	refuse error
	lostAt time.Duration
	doubt  func(host string) error // what Confirm says
}

func (l *locker) Acquire(ctx context.Context, o engine.Owner, _ *inventory.Cluster, hosts []inventory.Host, c engine.Connect) (engine.Lease, error) {
	l.w.note("lock %d hosts for %s", len(hosts), o.Run)
	if _, err := c(ctx, hosts[0].Name); err != nil {
		return nil, err
	}
	if l.refuse != nil {
		return nil, l.refuse
	}
	return l, nil
}

func (l *locker) Keep(ctx context.Context) error {
	if l.lostAt > 0 {
		select {
		case <-time.After(l.lostAt):
			return errors.New("another run has taken it")
		case <-ctx.Done():
			return nil
		}
	}
	<-ctx.Done()
	return nil
}

func (l *locker) Confirm(_ context.Context, host string) error {
	if l.doubt != nil {
		return l.doubt(host)
	}
	return nil
}

func (l *locker) Release(ctx context.Context) error {
	l.w.note("unlock")
	return ctx.Err()
}

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		rb := w.runbook(task("one", kv{Key: "x", Value: "1"}, on("a")), task("two", kv{Key: "y", Value: "1"}, on("a")))
		l := &locker{w: w}
		with := func(c *engine.Config) { c.Locker = l }

		_, err := w.engine(t, with).apply(t, rb)
		require.NoError(t, err)
		require.Equal(t, []string{"lock 1 hosts for 01RUN", "set a x=1", "set a y=1", "unlock"}, w.notes())

		w.log = nil
		_, err = w.engine(t, with).apply(t, rb)
		require.NoError(t, err)
		require.Empty(t, w.notes(), "a run that changes nothing locks nothing")

		w.machines["a"].put("x", "")
		l.refuse = &engine.LockedError{Host: "a", Owner: engine.Owner{Run: "01OTHER"}}
		s, err := w.engine(t, with).apply(t, rb)
		require.ErrorContains(t, err, "locked by run 01OTHER")
		require.Equal(t, 6, engine.ExitCode(s, err))
		require.Equal(t, []string{"one a not_run; not: set x to 1", "two a not_run"}, told(s))
		require.Equal(t, []string{"lock 1 hosts for 01RUN"}, w.notes())
	})
}

func TestHostsThatAreLeftOutAreNotLocked(t *testing.T) {
	w := newWorld("a", "b", "c")
	w.machines["a"].down = true
	_, err := w.engine(t, func(c *engine.Config) { c.Locker = &locker{w: w} }).apply(t, w.runbook(task("one", kv{Key: "x", Value: "1"}, on("a", "b"), continues)))
	require.Error(t, err)
	require.Equal(t, []string{"lock 1 hosts for 01RUN", "set b x=1", "unlock"}, w.notes())
}

func TestALostLeaseStopsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		slow(w.machines["a"], 10*time.Second)
		s, err := w.engine(t, func(c *engine.Config) { c.Locker = &locker{w: w, lostAt: 5 * time.Second} }).
			apply(t, w.runbook(task("one", kv{Key: "x", Value: "1", Extra: "xx"})))
		require.ErrorContains(t, err, "another run has taken it")
		require.Equal(t, []string{"one a failed: set x to 1; not: set xx to 1"}, told(s))
		require.Equal(t, 5, engine.ExitCode(s, err))
	})
}

func TestWhatWasReadBeforeTheLeaseIsReadAgain(t *testing.T) {
	w := newWorld("a")
	w.machines["a"].put("gate", "open")
	rb := w.runbook(task("gate", kv{Key: "gate", Value: "open", Gate: "gate"}), task("one", kv{Key: "x", Value: "1"}))
	g := w.engine(t, func(c *engine.Config) { c.Locker = &locker{w: w} })
	p, _ := g.Plan(t.Context(), rb)
	w.mu.Lock()
	delete(w.machines["a"].values, "gate")
	w.mu.Unlock()
	s, err := g.Apply(t.Context(), rb, p)
	require.Equal(t, 6, engine.ExitCode(s, err))
	require.Equal(t, []string{"gate a refused", "one a not_run; not: set x to 1"}, told(s))
}

func TestResumeReadsUnknownOutcomesAgain(t *testing.T) {
	w := newWorld("a")
	rb := w.runbook(task("one", kv{Key: "x", Value: "1"}))
	g := w.engine(t)
	g.rec.onEvent = nil
	p, _ := g.Plan(t.Context(), rb)
	past := &event.History{Unknown: []event.Unfinished{{Step: "site/one", Change: p.Tasks[0].Hosts[0].Changes[0]}}}
	w.machines["a"].put("x", "1") // it had been done after all
	g = w.engine(t, func(c *engine.Config) { c.Command, c.Past = "resume", past })
	_, err := g.apply(t, rb)
	require.NoError(t, err)
	require.Equal(t, []event.Warning{{Text: "outcome was unknown when the run ended, so it is read again from the host: set x to 1"}}, bodies[event.Warning](g.rec))
	require.Empty(t, w.notes())
}

func TestResumeWithNothingLeftGivesTheLeaseBack(t *testing.T) {
	w := newWorld("a")
	w.machines["a"].put("x", "1")
	l := &locker{w: w}
	_, err := w.engine(t, func(c *engine.Config) { c.Command, c.Past, c.Locker = "resume", &event.History{}, l }).
		apply(t, w.runbook(task("one", kv{Key: "x", Value: "1"})))
	require.NoError(t, err)
	require.Equal(t, []string{"lock 1 hosts for 01RUN", "unlock"}, w.notes(), "the killed process of this run may still hold it")

	w.log, l.refuse = nil, &engine.LockedError{Host: "a", Owner: engine.Owner{Run: "01OTHER"}}
	_, err = w.engine(t, func(c *engine.Config) { c.Command, c.Past, c.Locker = "resume", &event.History{}, l }).
		apply(t, w.runbook(task("one", kv{Key: "x", Value: "1"})))
	require.NoError(t, err, "another run's lease is none of ours")
}

func TestResumeWaitsForAHostInTheMiddleOfAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		w.machines["a"].down, w.machines["b"].down = true, true
		past := &event.History{Unknown: []event.Unfinished{{Change: module.Change{ID: "a/join", Host: "a", Summary: "join a"}}}}
		back := time.AfterFunc(10*time.Second, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.machines["a"].down = false
		})
		defer back.Stop()
		p, _ := w.engine(t, func(c *engine.Config) { c.Past = past }).Plan(t.Context(), w.runbook(task("one", kv{Key: "x", Value: "1"})))
		require.Equal(t, []string{"site/one a | set x to 1", "site/one b error: b: connect: no route to host"}, lines(p))
		require.Equal(t, 3, w.machines["a"].dials)
		require.Equal(t, 1, w.machines["b"].dials)
	})
}
