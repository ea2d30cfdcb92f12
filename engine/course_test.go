package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/stretchr/testify/require"
)

// serving makes modules that only make way, or clear up: they set the key "out".
func serving(name string, from, to string, roll func(module.Roll) (module.Course, error)) module.Module {
	spec := module.Spec{Name: name, Summary: name, Serves: true}
	funcs := module.Funcs[kv, kvOut]{Plan: func(ctx context.Context, t module.Target, a kv) ([]module.Change, error) {
		host := t.Host().Name
		c, err := t.Conn(ctx, host)
		if err != nil {
			return nil, err
		}
		r, err := c.Run(ctx, read("out"))
		if err != nil || r.Out() != from {
			return nil, err
		}
		a.Key, a.Value = "out", to
		change := module.Change{ID: host + "/" + name, Host: host, Summary: name, Apply: func(ctx context.Context, t module.Target) error {
			return a.apply(ctx, t, host, "out")
		}}
		if t.Block() != nil && t.Block().Planning && name == "drain" {
			change.Predicted = "it may change"
		}
		return []module.Change{change}, nil
	}}
	if roll == nil {
		return module.Define(spec, funcs)
	}
	return module.DefineRoller(spec, funcs, func(_ context.Context, _ module.Target, r module.Roll) (module.Course, error) { return roll(r) })
}

// upgrade is a block of drain, work and release over the fleet, whose course roll decides.
func (f *fleet) upgrade(roll func(module.Roll) (module.Course, error), edit func(*engine.Rolling)) *engine.Rolling {
	as := func(m module.Module) func(*engine.Task) { return func(t *engine.Task) { t.Module = m } }
	b := &engine.Rolling{Name: "nodes", Over: hostList(f.names...), Steps: []engine.Step{
		task("drain", kv{}, as(serving("drain", "", "1", roll))),
		task("work", kv{Key: "work", Value: "1"}),
		task("release", kv{}, as(serving("release", "1", "", nil))),
	}}
	if edit != nil {
		edit(b)
	}
	return b
}

// backwards goes over the hosts that are not idle from the last to the first, one at a time.
func backwards(r module.Roll) (module.Course, error) {
	c := module.Course{Why: "nobody is left", Takes: map[string]time.Duration{}}
	for _, h := range slices.Backward(r.Hosts) {
		if h.Idle == "" && !slices.Contains(slices.Concat(r.Away, r.Done, r.Failed), h.Name) {
			c.Order = append(c.Order, h.Name)
			c.Takes[h.Name] = 3 * time.Second
		}
	}
	if len(r.Away) == 0 {
		c.Next = c.Order[:min(1, len(c.Order))]
	}
	return c, nil
}

// sets are the hosts on which a key was set, in order.
func (f *fleet) turns() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.starts)
}

// newTurns is a fleet that notes each "out" and "work".
func newTurns(n int) *fleet {
	f := newFleet(n)
	for name, m := range f.machines {
		m.onSet = func(_ context.Context, key, value string) error {
			f.mu.Lock()
			f.starts = append(f.starts, fmt.Sprintf("%s %s=%s", name, key, value))
			f.mu.Unlock()
			time.Sleep(time.Second)
			m.put(key, value)
			return nil
		}
	}
	return f
}

func TestAHostThatCannotBeClearedIsAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTurns(2)
		b := f.upgrade(nil, nil)
		temporary := task("flag", kv{Key: "flag", Value: "1", Temporary: true}, func(t *engine.Task) { t.Module = servingKV })
		broken := task("evacuate", kv{Key: "guests", Value: "0", Gate: "room"}, func(t *engine.Task) { t.Module = servingKV })
		b.Steps = slices.Concat([]engine.Step{temporary, broken}, b.Steps[1:])
		for _, name := range f.names { // the gate is open while planning, and closed when it counts
			f.machines[name].put("room", "1")
		}
		f.machines["h00"].onSet = func(_ context.Context, key, value string) error {
			f.machines["h00"].put(key, value)
			f.world.mu.Lock()
			delete(f.machines["h00"].values, "room")
			f.world.mu.Unlock()
			return nil
		}
		g := f.engine(t)
		s, err := g.apply(t, f.runbook(b))
		require.Error(t, err)
		require.Empty(t, s.Left, "the flag was taken back")
		require.Empty(t, f.machines["h00"].get("flag"))
		require.Len(t, bodies[event.UndoDone](g.rec), 1)
		require.NotContains(t, f.machines["h00"].values, "work")
	})
}

// An interrupt before the work was begun leaves the host as it was too.
func TestAnInterruptedHostIsAsItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTurns(2)
		b := f.upgrade(nil, nil)
		temporary := task("flag", kv{Key: "flag", Value: "1", Temporary: true}, func(t *engine.Task) { t.Module = servingKV })
		slow := task("evacuate", kv{Key: "guests", Value: "0"}, func(t *engine.Task) { t.Module = servingKV })
		b.Steps = slices.Concat([]engine.Step{temporary, slow}, b.Steps[1:])
		interrupts := make(chan struct{}, 1)
		f.machines["h00"].onSet = func(_ context.Context, key, value string) error {
			f.machines["h00"].put(key, value)
			if key == "guests" {
				interrupts <- struct{}{}
				time.Sleep(time.Second)
			}
			return nil
		}
		s, err := f.engine(t, func(c *engine.Config) { c.Interrupts = interrupts }).apply(t, f.runbook(b))
		require.Equal(t, engine.ExitInterrupted, engine.ExitCode(s, err), "%v", err)
		require.Empty(t, s.Left)
		require.Empty(t, f.machines["h00"].get("flag"))
		require.NotContains(t, f.machines["h00"].values, "work")
	})
}

// servingKV is the module kv, as one that makes way for others.
var servingKV = module.Define(module.Spec{Name: "kv_serving", Summary: "a key", Serves: true}, module.Funcs[kv, kvOut]{
	Plan: func(ctx context.Context, t module.Target, a kv) ([]module.Change, error) {
		return a.plan(ctx, t, t.Host().Name)
	},
})

func TestTheRollerDecidesTheOrderAndIdleHostsAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTurns(3)
		f.machines["h01"].put("work", "1")
		var asked []module.Roll
		g := f.engine(t)
		rb := f.runbook(f.upgrade(func(r module.Roll) (module.Course, error) {
			asked = append(asked, r)
			return backwards(r)
		}, nil))
		p, problems := g.Plan(t.Context(), rb)
		require.False(t, problems.HasErrors(), "%v", problems)
		require.NoError(t, p.Blocked())
		require.Equal(t, []string{"h02", "h00"}, p.Blocks[0].Order)
		require.Equal(t, map[string]string{"h01": "nothing to do: work would change nothing"}, p.Blocks[0].Idle)
		require.Equal(t, "site/drain", p.Blocks[0].Step)
		require.True(t, asked[0].Planning)
		require.Equal(t, "set work to 1", asked[0].Hosts[0].Work[0].Summary)

		s, err := g.Apply(t.Context(), rb, p)
		require.NoError(t, err)
		require.Equal(t, []string{"h02 out=1", "h02 work=1", "h02 out=", "h00 out=1", "h00 work=1", "h00 out="}, f.turns())
		if diff := cmp.Diff([]string{
			"drain h00 changed: drain", "drain h01 skipped", "drain h02 changed: drain",
			"work h00 changed: set work to 1", "work h01 skipped", "work h02 changed: set work to 1",
			"release h00 changed: release", "release h01 skipped", "release h02 changed: release",
		}, told(s)); diff != "" {
			t.Error(diff)
		}
		require.Len(t, asked, 3, "in the plan and before each host")
		require.Equal(t, []string{"h01", "h02"}, asked[2].Done)
		require.Equal(t, []string{"h02", "h00"}, hostsOf[event.NodeStarted](g.rec))
		acting := 0
		for _, e := range g.rec.events {
			if b, ok := e.Body.(event.StepStarted); ok && !b.Planning {
				acting++
			}
		}
		require.Equal(t, 3, acting, "each task is told to begin, though it is left out on a host before")
	})
}

func hostsOf[T event.Body](r *recorder) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, e := range r.events {
		if _, ok := e.Body.(T); ok {
			all = append(all, e.Host)
		}
	}
	return all
}

func TestWhatARunLeftBehindIsClearedUpOnAnIdleHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTurns(2)
		for _, h := range f.names {
			f.machines[h].put("work", "1")
		}
		f.machines["h01"].put("out", "1")
		cleared := false
		s, err := f.engine(t).apply(t, f.runbook(f.upgrade(func(r module.Roll) (module.Course, error) {
			cleared = cleared || r.Hosts[1].CleanUp && !r.Hosts[0].CleanUp
			return backwards(r)
		}, nil)))
		require.NoError(t, err)
		require.True(t, cleared, "the Roller is told that the host does not go down")
		require.Equal(t, []string{"h01 out="}, f.turns())
		require.Contains(t, told(s), "release h01 changed: release")
		require.Contains(t, told(s), "drain h00 skipped")
	})
}

func TestAHostThatIsHalfDoneIsNotOnlyClearedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTurns(2)
		f.machines["h01"].put("out", "1")
		asked := false
		_, err := f.engine(t).apply(t, f.runbook(f.upgrade(func(r module.Roll) (module.Course, error) {
			asked = true
			require.False(t, r.Hosts[1].CleanUp, "an earlier run left something on it, and work is to be done there too")
			return backwards(r)
		}, nil)))
		require.NoError(t, err)
		require.True(t, asked)
	})
}

func TestARefusedCourseBlocksThePlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTurns(2)
		no := &module.Refusal{Host: "h00", Gate: "memory", Saw: "3 GiB are short on h01", Want: "room", Look: "free"}
		s, err := f.engine(t).apply(t, f.runbook(f.upgrade(func(r module.Roll) (module.Course, error) {
			return module.Course{Refusals: module.Refusals{no}}, nil
		}, nil)))
		require.ErrorContains(t, err, "3 GiB are short on h01")
		require.Equal(t, engine.ExitRefused, engine.ExitCode(s, err))
		require.Empty(t, f.turns())
	})
}

func TestACourseThatIsRefusedOnTheWayEndsTheBlock(t *testing.T) {
	tests := map[string]func(module.Roll) (module.Course, error){
		"refusal": func(r module.Roll) (module.Course, error) {
			if len(r.Done) > 0 {
				return module.Course{Refusals: module.Refusals{{Gate: "quorum", Saw: "1 of 3 votes", Want: "2"}}}, nil
			}
			return backwards(r)
		},
		"nothing known": func(r module.Roll) (module.Course, error) {
			if len(r.Done) > 0 {
				return module.Course{}, errors.New("1 of 3 votes")
			}
			return backwards(r)
		},
		"none may": func(r module.Roll) (module.Course, error) {
			if len(r.Done) > 0 {
				return module.Course{Why: "1 of 3 votes"}, nil
			}
			return backwards(r)
		},
	}
	for name, roll := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newTurns(3)
				s, err := f.engine(t).apply(t, f.runbook(f.upgrade(roll, nil)))
				require.ErrorContains(t, err, "1 of 3 votes")
				require.Equal(t, engine.ExitPartly, engine.ExitCode(s, err))
				require.Equal(t, []string{"h02 out=1", "h02 work=1", "h02 out="}, f.turns())
			})
		})
	}
}

func TestPauses(t *testing.T) {
	tests := []struct {
		pause engine.Pause
		asked []string
	}{
		{engine.NeverPause, nil},
		{engine.BeforeHost, []string{"h00", "h01", "h02"}},
		{engine.AfterFirst, []string{"h01"}},
	}
	for _, tt := range tests {
		t.Run(string(tt.pause), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newTurns(3)
				var asked []string
				g := f.engine(t, func(c *engine.Config) {
					c.Consent = func(_ context.Context, p engine.PausePoint) (string, error) {
						asked = append(asked, p.Host)
						require.Equal(t, len(asked), p.Number)
						return "ann", nil
					}
				})
				_, err := g.apply(t, f.runbook(f.upgrade(nil, func(b *engine.Rolling) { b.Pause = tt.pause })))
				require.NoError(t, err)
				require.Equal(t, tt.asked, asked)
				require.Equal(t, tt.asked, hostsOf[event.Paused](g.rec))
				require.Len(t, f.turns(), 9)
			})
		})
	}
}

func TestNobodyApproves(t *testing.T) {
	block := func(b *engine.Rolling) { b.Pause, b.PauseLimit = engine.BeforeHost, time.Hour }
	t.Run("nobody can be asked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newTurns(2)
			s, err := f.engine(t).apply(t, f.runbook(f.upgrade(nil, block)))
			require.ErrorContains(t, err, "h00 was not begun: somebody must approve it, and nobody can be asked")
			require.Equal(t, engine.ExitRefused, engine.ExitCode(s, err))
			require.Empty(t, f.turns())
		})
	})
	t.Run("in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newTurns(2)
			start := time.Now()
			_, err := f.engine(t, func(c *engine.Config) {
				c.Consent = func(ctx context.Context, _ engine.PausePoint) (string, error) {
					<-ctx.Done()
					return "", ctx.Err()
				}
			}).apply(t, f.runbook(f.upgrade(nil, block)))
			require.ErrorContains(t, err, "nobody has approved it within 1h0m0s")
			require.Equal(t, time.Hour, time.Since(start))
			require.Empty(t, f.turns())
		})
	})
}

func TestHoursAndStopAfter(t *testing.T) {
	at := func(from, to string) *engine.Hours {
		clock := func(s string) time.Duration {
			c, err := time.Parse("15:04", s)
			require.NoError(t, err)
			return time.Duration(c.Hour())*time.Hour + time.Duration(c.Minute())*time.Minute
		}
		return &engine.Hours{From: clock(from), To: clock(to), Location: time.UTC}
	}
	tests := []struct { // a bubble begins at midnight UTC
		name   string
		edit   func(*engine.Rolling)
		begins time.Duration
		turns  int
		says   string
	}{
		{name: "within", edit: func(b *engine.Rolling) { b.Hours = at("23:00", "05:00") }, turns: 9},
		{name: "before", edit: func(b *engine.Rolling) { b.Hours = at("02:00", "05:00") }, begins: 2 * time.Hour, turns: 9},
		{
			name: "they end on the way", edit: func(b *engine.Rolling) { b.Hours, b.Soak = at("23:00", "00:01"), 56*time.Second }, turns: 3,
			says: "h01 was not begun: it takes about 0s, and the hours for it end Sat 00:01 UTC",
		},
		{name: "they go on at midnight", edit: func(b *engine.Rolling) { b.Hours, b.Soak = at("00:00", "00:00"), 11*time.Hour+59*time.Minute }, turns: 9},
		{name: "the wait for them is no work", edit: func(b *engine.Rolling) { b.Hours, b.StopAfter = at("02:00", "05:00"), time.Minute }, begins: 2 * time.Hour, turns: 9},
		{
			name: "no time is left", edit: func(b *engine.Rolling) { b.StopAfter = 8 * time.Second }, turns: 6,
			says: "h00 was not begun: it takes about 0s, and stop_after ends Sat 00:00 UTC",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newTurns(3)
				start := time.Now()
				roll := backwards
				if tt.name == "they end on the way" {
					roll = func(r module.Roll) (module.Course, error) {
						slices.Reverse(r.Hosts)
						return backwards(r)
					}
				}
				g := f.engine(t)
				s, err := g.apply(t, f.runbook(f.upgrade(roll, tt.edit)))
				if tt.says == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, tt.says)
					require.Equal(t, engine.ExitPartly, engine.ExitCode(s, err))
				}
				require.Len(t, f.turns(), tt.turns)
				g.rec.mu.Lock()
				defer g.rec.mu.Unlock()
				i := slices.IndexFunc(g.rec.events, func(e event.Event) bool { _, ok := e.Body.(event.NodeStarted); return ok })
				require.Equal(t, tt.begins, g.rec.events[i].Time.Sub(start))
			})
		})
	}
}

func TestBetweenIsDoneWhileOthersAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTurns(3)
		s, err := f.engine(t).apply(t, f.runbook(f.upgrade(nil, func(b *engine.Rolling) {
			b.Between = []engine.Step{task("gate", kv{Key: "gate", Value: "1"})}
		})))
		require.NoError(t, err)
		var gates []string
		for _, turn := range f.turns() {
			if turn[4:] == "gate=1" {
				gates = append(gates, turn[:3])
			}
		}
		require.Equal(t, []string{"h00", "h01"}, gates)
		require.Contains(t, told(s), "gate h00 changed: set gate to 1")
		require.Contains(t, told(s), "gate h02 skipped", "nothing is left that it could be between")
	})
}

func TestWhatStandsAsideIsNoReasonToBeginAHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTurns(2)
		f.machines["h00"].put("work", "1")
		s, err := f.engine(t).apply(t, f.runbook(f.upgrade(nil, func(b *engine.Rolling) {
			hook := task("hook", kv{Key: "hook", Value: "1"})
			hook.Aside = true
			b.Steps = slices.Insert(b.Steps, 0, engine.Step(hook))
		})))
		require.NoError(t, err)
		require.Equal(t, []string{"h01 hook=1", "h01 out=1", "h01 work=1", "h01 out="}, f.turns())
		require.Contains(t, told(s), "hook h00 skipped")
	})
}

func TestAFailedHostMayBeSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(4, "h01")
		s, err := f.engine(t).apply(t, f.runbook(f.block(func(b *engine.Rolling) { b.OnHostFailure = engine.SkipHost })))
		require.Equal(t, []string{"h00", "h01", "h02", "h03"}, f.starts)
		require.Equal(t, engine.ExitPartly, engine.ExitCode(s, err), "%v", err)
	})
}

func TestHours(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	clock := func(s string) time.Time {
		at, err := time.ParseInLocation("2006-01-02 15:04", s, berlin)
		require.NoError(t, err)
		return at
	}
	night := engine.Hours{From: 22 * time.Hour, To: 5 * time.Hour, Location: berlin}
	saturday := night
	saturday.Days = []time.Weekday{time.Saturday}
	tests := []struct {
		hours  engine.Hours
		now    string
		open   bool
		change string
	}{
		{night, "2026-11-22 23:30", true, "2026-11-23 05:00"},
		{night, "2026-11-23 04:59", true, "2026-11-23 05:00"},
		{night, "2026-11-23 05:00", false, "2026-11-23 22:00"},
		{night, "2026-10-24 23:00", true, "2026-10-25 05:00"},    // the clock goes back meanwhile
		{saturday, "2026-11-22 04:00", true, "2026-11-22 05:00"}, // a Sunday morning
		{saturday, "2026-11-22 06:00", false, "2026-11-28 22:00"},
		{engine.Hours{From: 9 * time.Hour, To: 9 * time.Hour, Location: berlin}, "2026-11-22 08:00", true, "2026-11-30 09:00"}, // always; nobody asks further
		{engine.Hours{From: 22 * time.Hour, Location: berlin}, "2026-11-22 23:59", true, "2026-11-23 00:00"},
		{engine.Hours{From: 22 * time.Hour, Location: berlin}, "2026-11-23 00:00", false, "2026-11-23 22:00"},
		{engine.Hours{Location: berlin, Days: []time.Weekday{time.Saturday, time.Sunday}}, "2026-11-21 12:00", true, "2026-11-23 00:00"}, // two whole days
		{engine.Hours{From: 1 * time.Hour, To: 4 * time.Hour, Location: berlin}, "2026-03-29 01:30", true, "2026-03-29 04:00"},           // two hours long
		{engine.Hours{From: 150 * time.Minute, To: 4 * time.Hour, Location: berlin}, "2026-03-29 01:59", false, "2026-03-29 03:30"},      // half past two does not come
		{engine.Hours{From: 1 * time.Hour, To: 150 * time.Minute, Location: berlin}, "2026-10-25 01:30", true, "2026-10-25 02:30"},       // the first of two
	}
	for _, tt := range tests {
		open, change := tt.hours.At(clock(tt.now).UTC())
		require.Equal(t, tt.open, open, tt.now)
		require.Equal(t, clock(tt.change).UTC(), change.UTC(), tt.now)
	}
}
