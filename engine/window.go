package engine

import (
	"fmt"
	"slices"
)

// window decides which host of a rolling block is next. It does no work and knows no time: the caller starts the hosts
// that it gives and reports how they ended.
//
// Canaries go first, each alone. Then up to max hosts are under way at once, a new one as soon as one is done. A host
// that failed counts as down: it keeps its place, so that no further host is touched when max of them are down.
type window struct {
	order     []string
	max       int
	canaries  int // still to be passed
	maxFailed int

	next    int
	running int
	failed  int
	reason  string // why no further host is started
}

// newWindow makes the window of a block over hosts in their order.
func newWindow(order []string, b *Rolling) *window {
	w := &window{order: order, max: b.MaxUnavailable.of(len(order)), canaries: b.Canary, maxFailed: b.MaxFailed}
	if w.canaries == 0 && w.max > 1 {
		w.canaries = 1
	}
	return w
}

// of is the amount of n hosts, at least one.
func (a Amount) of(n int) int {
	if a.Percent {
		return max(n*a.N/100, 1)
	}
	return max(a.N, 1)
}

// start gives the next host that may be begun now. ok is false when none may, be it for now or for good.
func (w *window) start() (host string, ok bool) {
	down := w.running + w.failed
	switch {
	case w.reason != "" || w.next == len(w.order):
		return "", false
	case w.canaries > 0 && w.running > 0:
		return "", false
	case down >= w.max:
		return "", false
	}
	host = w.order[w.next]
	w.next++
	w.running++
	return host, true
}

// ended reports how a host ended.
func (w *window) ended(host string, ok bool) {
	w.running--
	if ok {
		if w.canaries > 0 {
			w.canaries--
		}
		return
	}
	w.failed++
	if w.canaries > 0 {
		w.halt(host + " went first and failed")
	}
	w.judge(host + " failed")
}

// judge stops the block when too many hosts have failed.
func (w *window) judge(what string) {
	switch {
	case w.failed > w.maxFailed:
		w.halt(what)
	case w.failed >= w.max && len(w.left()) > 0:
		w.halt(fmt.Sprintf("%s, and no more than %s may be unavailable", what, plural(w.max, "host")))
	}
}

// down notes a host that failed before the block: it has its place and is not started. Call it before start.
func (w *window) down(host string, why string) {
	w.order = slices.DeleteFunc(slices.Clone(w.order), func(h string) bool { return h == host })
	w.failed++
	w.judge(why)
}

// left are the hosts that were not begun.
func (w *window) left() []string { return w.order[w.next:] }

// halt keeps further hosts from being started.
func (w *window) halt(reason string) {
	if w.reason == "" {
		w.reason = reason
	}
}
