package engine_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/stretchr/testify/require"
)

// Two may be out at once. While somebody is asked about the third, the second fails: the answer comes too late.
func TestAHostThatFailsWhileAnotherAwaitsItsApprovalEndsTheBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(4)
		second := f.machines["h01"].onSet
		f.machines["h01"].onSet = func(ctx context.Context, key, value string) error {
			if key == "middle" {
				time.Sleep(time.Minute)
				return errors.New("disk full")
			}
			return second(ctx, key, value)
		}
		g := f.engine(t, func(c *engine.Config) {
			c.Consent = func(_ context.Context, p engine.PausePoint) (string, error) {
				if p.Host == "h02" {
					time.Sleep(time.Hour)
				}
				return "ann", nil
			}
		})
		s, err := g.apply(t, f.runbook(f.block(func(b *engine.Rolling) {
			b.Pause, b.PauseLimit, b.MaxUnavailable = engine.BeforeHost, 2*time.Hour, engine.Amount{N: 2}
		})))
		require.Equal(t, []string{"h00", "h01"}, f.starts)
		require.ErrorContains(t, err, "h01 failed")
		require.Equal(t, engine.ExitPartly, engine.ExitCode(s, err))
	})
}
