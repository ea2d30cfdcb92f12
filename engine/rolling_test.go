package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pxrun/pxrun/engine"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// fleet makes machines h00, h01, … that need a second for each change and note how many are at it.
type fleet struct {
	*world
	names []string

	mu     sync.Mutex
	at     map[string]bool // hosts in the block
	peak   int
	starts []string
	times  map[string]time.Time
}

func newFleet(n int, fails ...string) *fleet {
	f := &fleet{at: map[string]bool{}, times: map[string]time.Time{}}
	for i := range n {
		f.names = append(f.names, fmt.Sprintf("h%02d", i))
	}
	f.world = newWorld(f.names...)
	for name, m := range f.machines {
		m.onSet = func(_ context.Context, key, value string) error {
			f.mu.Lock()
			if key == "first" {
				f.at[name] = true
				f.starts = append(f.starts, name)
				f.times[name] = time.Now()
				f.peak = max(f.peak, len(f.at))
			}
			f.mu.Unlock()
			time.Sleep(time.Second)
			if slices.Contains(fails, name) {
				return errors.New("it broke") // and stays down
			}
			f.mu.Lock()
			if key == "last" {
				delete(f.at, name)
			}
			f.mu.Unlock()
			m.put(key, value)
			return nil
		}
	}
	return f
}

func (f *fleet) block(edit func(*engine.Rolling)) *engine.Rolling {
	b := &engine.Rolling{Name: "nodes", Over: hostList(f.names...), Steps: []engine.Step{
		task("drain", kv{Key: "first", Value: "1"}),
		task("upgrade", kv{Key: "middle", Value: "1"}, whenChanged("drain")),
		task("release", kv{Key: "last", Value: "1"}),
	}}
	edit(b)
	return b
}

func TestRolling(t *testing.T) {
	tests := []struct {
		name   string
		hosts  int
		fails  []string
		edit   func(*engine.Rolling)
		starts []string
		peak   int
		took   time.Duration
		exit   int
	}{
		{
			name: "one at a time, in order", hosts: 3, edit: func(*engine.Rolling) {},
			starts: []string{"h00", "h01", "h02"}, peak: 1, took: 9 * time.Second,
		},
		{
			name: "a soak between hosts, none after the last", hosts: 3, edit: func(b *engine.Rolling) { b.Soak = time.Minute },
			starts: []string{"h00", "h01", "h02"}, peak: 1, took: 9*time.Second + 2*time.Minute,
		},
		{
			name: "a canary, then two at once", hosts: 5, edit: func(b *engine.Rolling) { b.MaxUnavailable.N = 2 },
			starts: []string{"h00", "h01", "h02", "h03", "h04"}, peak: 2, took: 9 * time.Second,
		},
		{
			name: "a percentage", hosts: 5, edit: func(b *engine.Rolling) { b.MaxUnavailable = engine.Amount{N: 50, Percent: true} },
			starts: []string{"h00", "h01", "h02", "h03", "h04"}, peak: 2, took: 9 * time.Second,
		},
		{
			name: "it stops at the first failure", hosts: 3, fails: []string{"h01"}, edit: func(*engine.Rolling) {},
			starts: []string{"h00", "h01"}, peak: 1, took: 4 * time.Second, exit: 5,
		},
		{
			name: "a failed canary keeps everybody else out", hosts: 4, fails: []string{"h00"},
			edit:   func(b *engine.Rolling) { b.MaxUnavailable.N, b.MaxFailed = 3, 3 },
			starts: []string{"h00"}, peak: 1, took: time.Second, exit: 1,
		},
		{
			name: "a tolerated failure keeps its place in the window", hosts: 5, fails: []string{"h01"},
			edit:   func(b *engine.Rolling) { b.MaxUnavailable.N, b.MaxFailed = 2, 1 },
			starts: []string{"h00", "h01", "h02", "h03", "h04"}, peak: 2, took: 12 * time.Second, exit: 5,
		},
		{
			name: "no second host while as many are down as may be", hosts: 4, fails: []string{"h01"},
			edit:   func(b *engine.Rolling) { b.MaxFailed = 2 },
			starts: []string{"h00", "h01"}, peak: 1, took: 4 * time.Second, exit: 5,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(tt.hosts, tt.fails...)
				start := time.Now()
				s, err := f.engine(t).apply(t, f.runbook(f.block(tt.edit)))
				slices.Sort(f.starts[min(1, len(f.starts)):]) // those that start at one moment
				if diff := cmp.Diff(tt.starts, f.starts); diff != "" {
					t.Error(diff)
				}
				require.Equal(t, tt.peak, f.peak)
				require.Equal(t, tt.took, time.Since(start))
				require.Equal(t, tt.exit, engine.ExitCode(s, err), "%v", err)
			})
		})
	}
}

func TestRollingTellsWhatWasNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(3, "h00")
		s, err := f.engine(t).apply(t, f.runbook(f.block(func(*engine.Rolling) {}), task("after", kv{Key: "z", Value: "1"}, on("h02"))))
		require.ErrorContains(t, err, `rolling "nodes" ended early: h00 failed`)
		require.Equal(t, []string{
			"drain h00 failed; not: set first to 1", "drain h01 not_run; not: set first to 1", "drain h02 not_run; not: set first to 1",
			"upgrade h00 not_run", "upgrade h01 not_run", "upgrade h02 not_run",
			"release h00 not_run; not: set last to 1", "release h01 not_run; not: set last to 1", "release h02 not_run; not: set last to 1",
			"after h02 not_run; not: set z to 1",
		}, told(s))
		require.Equal(t, "h00 failed", s.Steps[0].Reason)
	})
}

// Whatever the numbers: hosts start in order, never more than allowed are down or at work, and a failure beyond the
// tolerated ones is the last thing that happens.
func TestRollingProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(rt, "hosts")
		names := newFleet(n).names
		var fails []string
		for _, name := range names {
			if rapid.IntRange(0, 4).Draw(rt, name) == 0 {
				fails = append(fails, name)
			}
		}
		allowed := rapid.IntRange(0, 5).Draw(rt, "max_unavailable")
		tolerated := rapid.IntRange(0, 3).Draw(rt, "max_failed")
		canary := rapid.IntRange(0, 3).Draw(rt, "canary")
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(n, fails...)
			s, err := f.engine(t).apply(t, f.runbook(f.block(func(b *engine.Rolling) {
				b.MaxUnavailable.N, b.MaxFailed, b.Canary = allowed, tolerated, canary
			})))
			if f.peak > max(allowed, 1) {
				rt.Fatalf("%d hosts were away, %d may be", f.peak, allowed)
			}
			failed := 0
			for _, h := range f.starts {
				if slices.Contains(fails, h) {
					failed++
				}
			}
			if failed > tolerated+max(allowed, 1) {
				rt.Fatalf("%d failed", failed)
			}
			sorted := slices.SortedFunc(slices.Values(f.starts), func(a, b string) int { return f.times[a].Compare(f.times[b]) })
			started := slices.Clone(sorted)
			slices.Sort(started)
			if !slices.Equal(started, f.names[:len(started)]) {
				rt.Fatalf("started out of order: %v", sorted)
			}
			if (err == nil) != (failed == 0 && len(started) == n) {
				rt.Fatalf("err = %v after %d of %d hosts with %d failures: %v", err, len(started), n, failed, told(s))
			}
		})
	})
}
