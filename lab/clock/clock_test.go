package clock_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pxrun/pxrun/lab/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestScaledClockRunsFasterThanTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.New(50)
		defer c.Close()
		before := time.Now()
		require.NoError(t, c.Sleep(t.Context(), 100*time.Second))
		require.Equal(t, 2*time.Second, time.Since(before))
		require.Equal(t, 100*time.Second, c.Elapsed())
	})
}

func TestScaledClockCallsOnceUnlessStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.New(1)
		defer c.Close()
		var calls, stopped atomic.Int32
		c.AfterFunc(time.Second, func() { calls.Add(1) })
		stop := c.AfterFunc(time.Second, func() { stopped.Add(1) })
		require.True(t, stop())
		require.False(t, stop())
		require.NoError(t, c.Sleep(t.Context(), 3*time.Second))
		require.EqualValues(t, 1, calls.Load())
		require.Zero(t, stopped.Load())
	})
}

func TestScaledClockCloseWaitsForRunningFunctionsAndWakesSleepers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.New(1)
		var finished atomic.Bool
		c.AfterFunc(time.Second, func() { time.Sleep(5 * time.Second); finished.Store(true) })
		c.AfterFunc(time.Hour, func() { t.Error("called after Close") })
		slept := make(chan error, 1)
		go func() { slept <- c.Sleep(context.Background(), time.Hour) }()
		time.Sleep(2 * time.Second)
		c.Close()
		c.Close()
		require.True(t, finished.Load())
		require.ErrorIs(t, <-slept, clock.ErrClosed)
		require.False(t, c.AfterFunc(0, func() { t.Error("called after Close") })())
	})
}

func TestSleepEndsWithItsContext(t *testing.T) {
	for name, c := range map[string]clock.Clock{"scaled": clock.New(1), "manual": clock.NewManual()} {
		t.Run(name, func(t *testing.T) {
			defer c.Close()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, c.Sleep(ctx, time.Hour), context.Canceled)
		})
	}
}

func TestManualClockRunsWhatFallsDueInOrder(t *testing.T) {
	m := clock.NewManual()
	defer m.Close()
	var order []string
	m.AfterFunc(2*time.Second, func() { order = append(order, "second") })
	m.AfterFunc(time.Second, func() {
		order = append(order, "first")
		m.AfterFunc(500*time.Millisecond, func() { order = append(order, "between") })
	})
	m.AfterFunc(time.Minute, func() { order = append(order, "late") })
	m.Advance(3 * time.Second)
	require.Equal(t, []string{"first", "between", "second"}, order)
	require.Equal(t, 3*time.Second, m.Elapsed())
	require.Equal(t, 1, m.Sleepers())
}

func TestManualClockWakesSleepers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := clock.NewManual()
		woke := make(chan error, 2)
		go func() { woke <- m.Sleep(t.Context(), time.Second) }()
		synctest.Wait()
		m.Advance(time.Second)
		require.NoError(t, <-woke)
		go func() { woke <- m.Sleep(t.Context(), time.Second) }()
		synctest.Wait()
		m.Close()
		require.True(t, errors.Is(<-woke, clock.ErrClosed))
	})
}
