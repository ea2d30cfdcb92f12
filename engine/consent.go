package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pxrun/pxrun/engine/event"
)

// allowed decides whether a host may be begun now: by the hours, by what is left of the time, and by whoever must approve. It
// waits for what comes; waited says that it did, so that everything must be read anew.
func (g *rolling) allowed(ctx context.Context, host string, takes time.Duration) (waited, ok bool) {
	now := g.r.e.cfg.Clock.Now()
	if h := g.b.Hours; h != nil {
		open, change := h.At(now)
		switch {
		case !open && g.count == 0:
			waited, ok := g.wait(ctx, "the hours in which hosts may be begun", change)
			g.began = g.r.e.cfg.Clock.Now() // stop_after is the time for work
			return waited, ok
		case !open:
			g.w.refuse(fmt.Sprintf("%s was not begun: the hours for it are over; resume the run when they begin again, %s", host, stamp(change)))
			return false, false
		case now.Add(takes).After(change):
			g.w.refuse(fmt.Sprintf("%s was not begun: it takes about %s, and the hours for it end %s; resume the run in the next", host, takes.Round(time.Minute), stamp(change)))
			return false, false
		}
	}
	if end := g.began.Add(g.b.StopAfter); g.b.StopAfter > 0 && now.Add(takes).After(end) {
		g.w.refuse(fmt.Sprintf("%s was not begun: it takes about %s, and stop_after ends %s; resume the run when there is time", host, takes.Round(time.Minute), stamp(end)))
		return false, false
	}
	if !g.mustAsk(host) {
		return false, true
	}
	return g.ask(ctx, host)
}

func stamp(t time.Time) string { return t.Format("Mon 15:04 MST") }

// wait waits for a moment.
func (g *rolling) wait(ctx context.Context, what string, until time.Time) (waited, ok bool) {
	r := g.r
	r.e.tell(ctx, "", "", event.Paused{Block: g.b.Name, Reason: "waiting for " + what, Until: until})
	waiting, stop := r.stopper.untilStopped(ctx)
	defer stop()
	if err := r.e.cfg.Clock.Sleep(waiting, until.Sub(r.e.cfg.Clock.Now())); err != nil {
		g.w.halt(context.Cause(waiting).Error())
		return true, false
	}
	r.e.tell(ctx, "", "", event.Continued{Block: g.b.Name})
	return true, true
}

// mustAsk reports whether somebody must approve the host.
func (g *rolling) mustAsk(host string) bool {
	switch g.b.Pause {
	case BeforeHost:
		return g.passed != host
	case AfterFirst:
		return len(g.w.done)+len(g.w.failed) > 0 && g.count > 0 && g.passed == ""
	}
	return false
}

// ask waits until somebody lets the block go on with a host.
func (g *rolling) ask(ctx context.Context, host string) (waited, ok bool) {
	r := g.r
	if r.e.cfg.Consent == nil {
		g.w.refuse(fmt.Sprintf("%s was not begun: somebody must approve it, and nobody can be asked", host))
		return false, false
	}
	limit := g.b.PauseLimit
	if limit <= 0 {
		limit = pauseWithin
	}
	g.asked++
	r.e.tell(ctx, "", host, event.Paused{
		Block: g.b.Name, Reason: fmt.Sprintf("an approval is needed before %s", host), Answer: "pxrun approve " + r.e.cfg.RunID, Until: r.e.cfg.Clock.Now().Add(limit),
	})
	waiting, stop := r.stopper.untilStopped(ctx)
	defer stop()
	waiting, cancel := context.WithTimeoutCause(waiting, limit, errors.New("nobody has approved it within "+limit.String()))
	defer cancel()
	by, err := r.e.cfg.Consent(waiting, PausePoint{Block: g.b.Name, Host: host, Number: g.asked})
	if err != nil {
		if cause := context.Cause(waiting); cause != nil {
			err = cause
		}
		g.w.refuse(fmt.Sprintf("%s was not begun: %v", host, err))
		return true, false
	}
	g.passed = host
	r.e.tell(ctx, "", host, event.Continued{Block: g.b.Name, By: by})
	return true, true
}
