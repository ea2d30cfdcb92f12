package engine

import (
	"context"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/zclconf/go-cty/cty"
)

// Config is everything that an Engine uses and does not decide. The zero value of every field but Dial and Bus is a
// good default.
type Config struct {
	// Dial connects to a host. The engine asks once per host and run, closes what it got in Close, and puts its own
	// decorators around it.
	Dial func(ctx context.Context, h inventory.Host) (transport.Conn, error)
	// Dials bounds how many hosts are dialled at once. Default 256.
	Dials int
	// Bus carries every event. The journal must be among its sinks for runs that can be resumed.
	Bus *event.Bus
	// Command is what the user asked for: plan, apply, resume or exec. Default apply.
	Command string
	// RunID is the id of the run in the journal; "" for a plan without one.
	RunID string
	// Locker keeps other runs off the hosts; nil means that nothing is locked.
	Locker Locker
	// Gone reports whether the process of a run that holds a lease is known to be over. nil knows of none.
	Gone func(Owner) bool
	// Owner is shown to those whom the lock keeps out.
	Owner Owner
	// Facts tells what a host is, for self.facts. It is asked for only when a task needs it.
	Facts Facts
	// Parallelism is how many hosts are worked on at once. Default 32.
	Parallelism int
	// Limit keeps the run to these hosts; empty means all.
	Limit []string
	// Tags keeps the run to tasks that have one of them; SkipTags leaves out those that have one.
	Tags, SkipTags []string
	// Source is a digest of the files and variables, which saved plans carry.
	Source string
	// Approve asks the person at the terminal; nil means that nobody is there.
	Approve func(ctx context.Context, question string) error
	// Consent waits until somebody lets a rolling block go on, and tells who. nil means that nobody can.
	Consent func(ctx context.Context, p PausePoint) (by string, err error)
	// Interrupts receives once for each interrupt of the user. The first one stops the run after the changes under way,
	// the second one at once.
	Interrupts <-chan struct{}
	// Grace bounds how long waits, which change nothing, go on after the first interrupt. Default 10 s.
	Grace time.Duration
	// Keep stores a value that is shown only once. nil refuses.
	Keep func(name string, v secret.String) error
	// Detach runs a command that outlives the connection: see internal/detach. nil refuses such commands.
	Detach Detach
	// Past is what an earlier process of the same run left in the journal.
	Past *event.History
	// Pending are temporary changes of any run that the journal still knows as being in place.
	Pending []event.Pending
	// Clock is the engine's time. Default: the system's.
	Clock Clock
}

// PausePoint is where a rolling block waits for an approval.
type PausePoint struct {
	Block, Host string
	// Number counts the approvals that the run has asked for, from 1.
	Number int
}

// Facts gathers the facts of a host.
type Facts struct {
	// Probes are the reads that Gather makes, so that they travel with those of the tasks.
	Probes []transport.Command
	Gather func(ctx context.Context, c transport.Conn) (cty.Value, error)
}

// Detach runs a job of a module on a host; see module.Target.
type Detach func(ctx context.Context, c transport.Conn, host, run string, j module.Job) (transport.Result, error)

// Clock tells the time and waits. Nothing below cli asks the system for it.
type Clock struct {
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
}

// SystemClock is the real time.
func SystemClock() Clock { return Clock{Now: time.Now, Sleep: sleep} }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c Config) withDefaults() Config {
	if c.Dials <= 0 {
		c.Dials = 256
	}
	if c.Parallelism <= 0 {
		c.Parallelism = 32
	}
	if c.Command == "" {
		c.Command = "apply"
	}
	if c.Grace <= 0 {
		c.Grace = 10 * time.Second
	}
	if c.Clock.Now == nil {
		c.Clock.Now = time.Now
	}
	if c.Clock.Sleep == nil {
		c.Clock.Sleep = sleep
	}
	if c.Bus == nil {
		c.Bus = event.NewBus(event.BusConfig{Run: c.RunID, Now: c.Clock.Now})
	}
	return c
}
