package clock

import (
	"sync"
	"time"
)

// A pulse beats this often; one that comes later than patience after the last shows that there was something in its way.
const (
	beat     = 8 * time.Millisecond
	patience = 10 * time.Millisecond
)

// pulse measures time without the stretches in which the process could not keep up: the machine had other things to do,
// the process was stopped, or its own nodes had more to do than its processors could. All the while the nodes get on with
// nothing, but a faster clock would run on: a read with a limit of 5 s, an instant on an idle machine, would have 250 ms at a
// speed of 20, and would be told to hang.
type pulse struct {
	mu    sync.Mutex
	start time.Time
	last  time.Time
	lost  time.Duration
}

func newPulse(now time.Time) *pulse { return &pulse{start: now, last: now} }

// beat notes that the process runs.
func (p *pulse) beat(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost += max(0, now.Sub(p.last)-patience)
	p.last = now
}

// since is how long the process has been allowed to run. It never goes back.
func (p *pulse) since(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return min(now.Sub(p.start), p.last.Add(patience).Sub(p.start)) - p.lost
}

// keep beats until done is closed.
func (p *pulse) keep(done <-chan struct{}) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.beat(time.Now())
		case <-done:
			return
		}
	}
}
