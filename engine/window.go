package engine

import (
	"fmt"
	"slices"
	"time"
)

// window decides how many hosts of a rolling block may be under way. It does no work and knows no time: the caller begins
// hosts and reports how they ended.
//
// Canaries go first, each alone. Then up to max hosts are under way at once, a new one as soon as one is done. A host
// that failed counts as down: it keeps its place, so that no further host is touched when max of them are down.
type window struct {
	max       int
	canaries  int // still to be passed
	maxFailed int
	// tolerant windows go on beside failed hosts: whether the cluster bears it is for the gates.
	tolerant bool

	left, away, done, failed []string
	refused                  bool   // the reason is a gate that said no
	reason                   string // why no further host is begun
}

// newWindow makes the window of a block over hosts in their order.
func newWindow(order []string, b *Rolling) *window {
	w := &window{left: slices.Clone(order), max: b.atOnce(len(order)), canaries: b.Canary, maxFailed: b.MaxFailed}
	if b.OnHostFailure == SkipHost {
		w.tolerant, w.maxFailed = true, len(order)
	}
	if w.canaries == 0 && w.max > 1 {
		w.canaries = 1
	}
	return w
}

// atOnce is how many of n hosts may be under way at once. With a limit for each place the Roller counts.
func (b *Rolling) atOnce(n int) int {
	if b.PerSite {
		return max(n, 1)
	}
	return b.MaxUnavailable.of(n)
}

// of is the amount of n hosts, at least one.
func (a Amount) of(n int) int {
	if a.Percent {
		return max(n*a.N/100, 1)
	}
	return max(a.N, 1)
}

// ready reports whether another host may be begun now.
func (w *window) ready() bool {
	down := len(w.away)
	if !w.tolerant {
		down += len(w.failed)
	}
	switch {
	case w.reason != "" || len(w.left) == 0:
		return false
	case w.canaries > 0 && len(w.away) > 0:
		return false
	}
	return down < w.max
}

// begin takes a host out of those that are left.
func (w *window) begin(host string) {
	w.drop(host)
	w.away = append(w.away, host)
}

// skip takes a host out that needs nothing.
func (w *window) skip(host string) {
	w.drop(host)
	w.done = append(w.done, host)
}

func (w *window) drop(host string) {
	w.left = without(w.left, host)
}

// ended reports how a host ended.
func (w *window) ended(host string, ok bool) {
	w.away = without(w.away, host)
	if ok {
		w.done = append(w.done, host)
		if w.canaries > 0 {
			w.canaries--
		}
		return
	}
	w.failed = append(w.failed, host)
	if w.canaries > 0 {
		w.halt(host + " went first and failed")
	}
	w.judge(host + " failed")
}

// judge stops the block when too many hosts have failed.
func (w *window) judge(what string) {
	switch {
	case len(w.failed) > w.maxFailed:
		w.halt(what)
	case !w.tolerant && len(w.failed) >= w.max && len(w.left) > 0:
		w.halt(fmt.Sprintf("%s, and no more than %s may be unavailable", what, plural(w.max, "host")))
	}
}

// down notes a host that failed before the block: it has its place and is not begun.
func (w *window) down(host string, why string) {
	w.drop(host)
	w.failed = append(w.failed, host)
	w.judge(why)
}

// halt keeps further hosts from being begun.
func (w *window) halt(reason string) {
	if w.reason == "" {
		w.reason = reason
	}
}

// refuse is halt by a gate.
func (w *window) refuse(reason string) {
	w.refused = w.refused || w.reason == ""
	w.halt(reason)
}

func without(list []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == name })
}

// Hours are the times of day in which hosts may be begun: from From to To, past midnight if To is not later. Days are those
// on which From may fall; empty means every day.
type Hours struct {
	From, To time.Duration // since midnight
	Days     []time.Weekday
	Location *time.Location
}

// At tells whether a moment is within the hours, and when they end; or else when they begin next. Hours of one day that end where those of the
// next begin are one.
func (h *Hours) At(now time.Time) (open bool, change time.Time) {
	open, change = h.at(now)
	for day := 0; open && day < 8; day++ {
		on, end := h.at(change)
		if !on {
			break
		}
		change = end
	}
	return open, change
}

func (h *Hours) at(now time.Time) (open bool, change time.Time) {
	now = now.In(h.Location)
	for day := -1; day <= 7; day++ {
		from := h.clock(now, day, h.From)
		if len(h.Days) > 0 && !slices.Contains(h.Days, from.Weekday()) {
			continue
		}
		to := h.clock(now, day, h.To)
		if h.To <= h.From {
			to = h.clock(now, day+1, h.To)
		}
		switch {
		case now.Before(from):
			return false, from
		case now.Before(to):
			return true, to
		}
	}
	return false, now.AddDate(0, 0, 7) // not reached: some day comes within a week
}

// clock is a time of a day by the wall's clock, whatever hour is left out or repeated before it.
func (h *Hours) clock(now time.Time, day int, since time.Duration) time.Time {
	return time.Date(now.Year(), now.Month(), now.Day()+day, int(since.Hours()), int(since.Minutes())%60, 0, 0, h.Location)
}
