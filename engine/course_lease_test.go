package engine_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

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

// What is taken back at an interrupt may take long. A second one stops at once, and what was not taken back is listed.
func TestASecondInterruptEndsTheTakingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTurns(1)
		b := f.upgrade(nil, nil)
		first := task("ledger", kv{Key: "ledger", Value: "1", Temporary: true}, func(t *engine.Task) { t.Module = servingKV })
		flag := task("flag", kv{Key: "flag", Value: "1", Temporary: true}, func(t *engine.Task) { t.Module = servingKV })
		slow := task("evacuate", kv{Key: "guests", Value: "0"}, func(t *engine.Task) { t.Module = servingKV })
		b.Steps = slices.Concat([]engine.Step{first, flag, slow}, b.Steps[1:])
		interrupts := make(chan struct{}, 2)
		m := f.machines["h00"]
		m.onSet = func(ctx context.Context, key, value string) error {
			switch {
			case key == "guests":
				interrupts <- struct{}{}
				time.Sleep(time.Second)
			case key == "flag" && value == "":
				time.AfterFunc(3*time.Second, func() { interrupts <- struct{}{} })
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(10 * time.Minute):
				}
			}
			m.put(key, value)
			return nil
		}
		start := time.Now()
		g := f.engine(t, func(c *engine.Config) { c.Interrupts = interrupts })
		s, err := g.apply(t, f.runbook(b))
		require.Equal(t, engine.ExitInterrupted, engine.ExitCode(s, err), "%v", err)
		require.Less(t, time.Since(start), 20*time.Second)
		var left []string
		for _, u := range s.Left {
			left = append(left, u.Summary)
		}
		require.Equal(t, []string{"unset ledger", "unset flag"}, left, "what was not taken back, and what stands before it")
	})
}
