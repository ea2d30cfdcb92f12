package ha

import (
	"errors"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/stretchr/testify/require"
)

// A node whose watchdog does not restart it would go on running guests that the others start, too.
func TestCorosyncIsStoppedOnlyWhereTheWatchdogWatches(t *testing.T) {
	now := time.Unix(1_732_292_083, 0)
	for name, c := range map[string]struct {
		change func(*world, *watchState)
		err    error
		saw    string // "" when it may be cut off
	}{
		"all is well":              {},
		"watchdog-mux is dead":     {change: func(_ *world, d *watchState) { d.units["watchdog-mux"] = pve.Unit{Load: "loaded", Active: "failed"} }, saw: "watchdog-mux does not run"},
		"there is no device":       {change: func(_ *world, d *watchState) { d.device = false }, saw: "/dev/watchdog is not there"},
		"nobody holds it":          {change: func(_ *world, d *watchState) { d.armed = false }, saw: "nobody holds its watchdog"},
		"the LRM is idle":          {change: func(w *world, _ *watchState) { w.LRMs["pve3"] = ha.LRM{State: "wait_for_agent_lock", Time: now} }, saw: `in state "wait_for_agent_lock"`},
		"the LRM is silent":        {change: func(w *world, _ *watchState) { w.LRMs["pve3"] = ha.LRM{State: "active", Time: now.Add(-time.Minute)} }, saw: "has not written for 1m0s"},
		"the LRM is not known":     {change: func(w *world, _ *watchState) { delete(w.LRMs, "pve3") }, saw: `in state ""`},
		"the time is not known":    {change: func(w *world, _ *watchState) { w.Now = time.Time{} }, saw: "has not written for"},
		"it could not be read":     {err: errors.New("no answer"), saw: "could not be read: no answer"},
		"systemd has the watchdog": {change: func(_ *world, d *watchState) { d.systemd = "RuntimeWatchdogSec=20" }, saw: "systemd holds the watchdog"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{State: &ha.State{Now: now, LRMs: map[string]ha.LRM{"pve3": {State: "active", Time: now.Add(-5 * time.Second)}}}}
			dog := watchState{device: true, armed: true, units: map[string]pve.Unit{"watchdog-mux": {Load: "loaded", Active: "active", Sub: "running"}}}
			if c.change != nil {
				c.change(w, &dog)
			}
			refusal := w.fencesItself("pve3", dog, c.err)
			if c.saw == "" {
				require.Nil(t, refusal)
				return
			}
			require.NotNil(t, refusal)
			require.Contains(t, refusal.Saw, c.saw)
		})
	}
}
