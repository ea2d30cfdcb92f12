package engine_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
)

// A block that is kept to one host still holds the whole cluster: its guests go to the others, and it restarts.
func TestTheLeaseOfARollingBlockIsOnTheWholeCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTurns(3)
		var leased []string
		g := f.engine(t, func(c *engine.Config) {
			c.Limit = []string{"h01"}
			c.Locker = lockerFunc(func(hosts []inventory.Host) {
				for _, h := range hosts {
					leased = append(leased, h.Name)
				}
			})
		})
		_, err := g.apply(t, f.runbook(f.upgrade(func(r module.Roll) (module.Course, error) { return backwards(r) }, nil)))
		require.NoError(t, err)
		slices.Sort(leased)
		require.Equal(t, []string{"h00", "h01", "h02"}, leased)
		require.Equal(t, []string{"h01 out=1", "h01 work=1", "h01 out="}, f.turns())
	})
}

// lockerFunc tells on which hosts a lease is taken.
type lockerFunc func(hosts []inventory.Host)

func (f lockerFunc) Acquire(_ context.Context, _ engine.Owner, _ *inventory.Cluster, hosts []inventory.Host, _ engine.Connect) (engine.Lease, error) {
	f(hosts)
	return freeLease{}, nil
}

type freeLease struct{}

func (freeLease) Keep(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (freeLease) Confirm(context.Context, string) error { return nil }

func (freeLease) Release(context.Context) error { return nil }
