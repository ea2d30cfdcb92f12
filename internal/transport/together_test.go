package transport_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
)

// slow is a host whose reads take a second.
type slow struct {
	counted
	fails int // of the first reads
}

func (s *slow) Run(ctx context.Context, c transport.Command) (transport.Result, error) {
	time.Sleep(time.Second)
	r, err := s.counted.Run(ctx, c)
	if s.mu.Lock(); s.fails > 0 {
		s.fails--
		err = errors.New("the connection is lost")
	}
	s.mu.Unlock()
	return r, err
}

func TestReadsOfTheSameMomentAreOne(t *testing.T) {
	look := transport.Command{Script: "look"}
	patient := transport.Command{Script: "look", Timeout: time.Hour}
	for name, c := range map[string]struct {
		asks  []transport.Command
		pause time.Duration // between two who ask
		still bool
		epoch uint64 // added for each who asks
		fails int
		trips int
	}{
		"at once":                              {asks: []transport.Command{look, look, look}, still: true, trips: 1},
		"while it is under way":                {asks: []transport.Command{look, look}, pause: 900 * time.Millisecond, still: true, trips: 1},
		"after it":                             {asks: []transport.Command{look, look}, pause: 1100 * time.Millisecond, still: true, trips: 2},
		"while something is being changed":     {asks: []transport.Command{look, look, look}, trips: 3},
		"with a change that began between":     {asks: []transport.Command{look, look, look}, pause: time.Millisecond, still: true, epoch: 1, trips: 3},
		"with another patience":                {asks: []transport.Command{look, patient, look, patient}, still: true, trips: 2},
		"of which the one that was sent fails": {asks: []transport.Command{look, look, look}, still: true, fails: 1, trips: 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &slow{fails: c.fails}
				var epoch uint64
				conn := transport.NewPrefetch(h).Together(func() (uint64, bool) { epoch += c.epoch; return epoch, c.still })
				failed := make(chan error, len(c.asks))
				for _, ask := range c.asks {
					go func() {
						r, err := conn.Run(t.Context(), ask)
						if err == nil && r.Out() != "look after 0" {
							err = errors.New(r.Out())
						}
						failed <- err
					}()
					synctest.Wait()
					time.Sleep(c.pause)
				}
				failures := 0
				for range c.asks {
					if <-failed != nil {
						failures++
					}
				}
				require.Equal(t, c.fails, failures, "those who shared a read that failed have asked themselves")
				require.Len(t, h.trips, c.trips)
			})
		})
	}
}

func TestWhoIsStoppedLeavesASharedReadToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := transport.NewPrefetch(&slow{}).Together(func() (uint64, bool) { return 0, true })
		go func() { _, _ = conn.Run(t.Context(), transport.Command{Script: "look"}) }()
		synctest.Wait()
		soon, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer stop()
		_, err := conn.Run(soon, transport.Command{Script: "look"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(time.Second)
	})
}

func TestWhatWasFetchedAheadIsTakenFirst(t *testing.T) {
	h := &counted{}
	p := transport.NewPrefetch(h)
	look := transport.Command{Script: "look"}
	require.NoError(t, p.Prefetch(t.Context(), []transport.Command{look}))
	r, err := p.Together(func() (uint64, bool) { return 0, true }).Run(t.Context(), look)
	require.NoError(t, err)
	require.True(t, r.Cached)
	require.Len(t, h.trips, 1)
}
