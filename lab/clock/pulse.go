package clock

import (
	"sync"
	"time"
)

// A pulse beats this often; one that comes later than patience after the last shows that the process did not get to run.
const (
	beat     = 10 * time.Millisecond
	patience = 2 * beat
)

// pulse measures time without the stretches in which the process was not allowed to work, because the machine had other
// things to do or it was stopped. All the while its simulated nodes stand still, but a faster clock would run on: a read with
// a limit of 5 s, an instant on an idle machine, would have 250 ms at a speed of 20 and be told to hang.
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
