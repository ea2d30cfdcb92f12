// Package clock is the lab's time. Every duration of the model (a join, a corosync token, a reboot) is waited on it, so
// that one factor makes the whole lab faster, and tests can move it by hand. What the nodes show as the time of day
// (date, journal, /proc/uptime) is the wall clock plus each machine's own skew, whatever the speed: else a fast lab
// would fail every comparison of clocks.
package clock

import (
	"context"
	"time"
)

// Clock measures model time since the lab began.
type Clock interface {
	// Elapsed is the model time since the start.
	Elapsed() time.Duration
	// Sleep waits for a model duration or the end of ctx.
	Sleep(ctx context.Context, d time.Duration) error
	// AfterFunc calls f once, in a goroutine that Close waits for, when d has passed. stop reports whether it prevented
	// the call.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
	// Close stops all timers and waits for running functions.
	Close()
}
