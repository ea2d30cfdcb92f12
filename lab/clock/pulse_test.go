package clock

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPulseLeavesOutWhatTheProcessDidNotRun(t *testing.T) {
	start := time.Unix(0, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	p := newPulse(start)
	for _, step := range []struct {
		ms    int
		beats bool
		want  int
	}{
		{8, true, 8},
		{17, true, 17},  // a little late
		{21, false, 21}, // between two beats
		{27, false, 27},
		{1027, false, 27}, // asked before the beat that is late
		{1027, true, 27},  // stopped for a second
		{1035, true, 35},
		{1065, true, 45},
	} {
		if step.beats {
			p.beat(at(step.ms))
		}
		require.Equal(t, time.Duration(step.want)*time.Millisecond, p.since(at(step.ms)), "at %d ms", step.ms)
	}
}

// A process that is stopped and goes on finds its timers due, but its model has had no time to do anything.
func TestFasterClockWaitsForAProcessThatWasStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(20)
		close(c.done) // no beats
		c.wg.Wait()
		c.done = make(chan struct{})
		defer c.Close()
		rung, slept := make(chan struct{}), make(chan error, 1)
		c.AfterFunc(10*time.Second, func() { close(rung) })
		go func() { slept <- c.Sleep(t.Context(), 10*time.Second) }()

		time.Sleep(10 * time.Second)
		synctest.Wait()
		select {
		case <-rung:
			t.Fatal("the alarm rang while the process did not run")
		case err := <-slept:
			t.Fatalf("the sleeper was woken while the process did not run: %v", err)
		default:
		}
		require.Equal(t, 20*patience, c.Elapsed())

		c.wg.Go(func() { c.pulse.keep(c.done) })
		went := time.Now()
		<-rung
		require.NoError(t, <-slept)
		require.InDelta(t, 500*time.Millisecond-patience, time.Since(went), float64(2*beat))
	})
}
