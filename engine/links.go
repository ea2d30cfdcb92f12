package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/zclconf/go-cty/cty"
)

type (
	conn    = transport.Conn
	command = transport.Command
)

// calm tells when nothing is being changed: then reads of several tasks and hosts may share an answer.
type calm struct {
	mu    sync.Mutex
	busy  int    // changes under way
	epoch uint64 // changes that began or ended
}

// change begins a change, which lasts until the returned function is called.
func (c *calm) change() (over func()) {
	c.step(1)
	return func() { c.step(-1) }
}

func (c *calm) step(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy += by
	c.epoch++
}

// quiet is what transport's Together asks.
func (c *calm) quiet() (epoch uint64, still bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch, c.busy == 0
}

// fresh is how long reads of an apply stay good while nothing is known to have changed. Batches of tasks that change
// nothing take far less; a gate that is passed after a long step must look again.
const fresh = 3 * time.Second

// links are the connections of a run, one for each host.
type links struct {
	e      *Engine
	dials  chan struct{}
	writes atomic.Uint64 // mutating commands on any host, so that reads before one can be told from reads after it
	calm   calm

	mu     sync.Mutex
	byHost map[string]*link
	closed bool
}

// link is the connection to one host with its decorators.
type link struct {
	of   *links
	host inventory.Host

	dialing sync.Mutex // held while dialling; guards err
	err     error

	mu      sync.Mutex
	raw     conn                // reports its commands; nil until connected
	reads   *transport.Prefetch // over raw
	step    string              // what the host is at, for reported commands
	facts   cty.Value
	warm    int // tasks up to this index were prefetched; -1 for none
	warmAt  time.Time
	writes  uint64 // of the links when it was warmed
	follows int    // what warm becomes when the next command mutates
}

func (l *links) of(site *inventory.Site, host string) (*link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k, ok := l.byHost[host]; ok {
		return k, nil
	}
	if l.closed {
		return nil, errors.New("the run is over")
	}
	h, ok := site.Host(host)
	if !ok {
		return nil, fmt.Errorf("%q is not a host of this site", host)
	}
	k := &link{of: l, host: h, warm: -1, follows: -1, facts: cty.NilVal}
	l.byHost[host] = k
	return k, nil
}

// get returns a link that is connected. A host that could not be reached while planning is not dialled again until the
// plan is performed.
func (l *links) get(ctx context.Context, site *inventory.Site, host string) (*link, error) {
	k, err := l.of(site, host)
	if err != nil {
		return nil, err
	}
	return k, k.connect(ctx, false)
}

func (k *link) connect(ctx context.Context, again bool) error {
	k.dialing.Lock()
	defer k.dialing.Unlock()
	if _, connected := k.conns(); connected != nil {
		return nil
	}
	if k.err != nil && !again {
		return k.err
	}
	select {
	case k.of.dials <- struct{}{}:
		defer func() { <-k.of.dials }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	e := k.of.e
	start := e.cfg.Clock.Now()
	c, err := e.cfg.Dial(ctx, k.host)
	if ctx.Err() != nil && err != nil {
		return context.Cause(ctx) // nothing was learned about the host
	}
	told := event.HostConnected{Address: k.host.Address, Duration: e.cfg.Clock.Now().Sub(start)}
	k.err = err
	if err != nil {
		told.Error = err.Error()
	} else {
		raw := transport.Trace(k.host.Name, k.ran)(c)
		k.mu.Lock()
		k.raw, k.reads = raw, transport.NewPrefetch(raw)
		k.mu.Unlock()
	}
	e.tell(ctx, "", k.host.Name, told)
	return err
}

// failed reports whether a host was dialled in vain.
func (l *links) failed(host string) bool {
	l.mu.Lock()
	k := l.byHost[host]
	l.mu.Unlock()
	if k == nil {
		return false
	}
	k.dialing.Lock()
	defer k.dialing.Unlock()
	return k.err != nil
}

func (l *links) facts(host string) cty.Value {
	l.mu.Lock()
	k := l.byHost[host]
	l.mu.Unlock()
	if k == nil {
		return cty.NilVal
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.facts
}

func (l *links) close() error {
	l.mu.Lock()
	l.closed = true
	all := l.byHost
	l.byHost = map[string]*link{}
	l.mu.Unlock()
	errs := make([]error, 0, len(all))
	var wait sync.WaitGroup
	var mu sync.Mutex
	for _, k := range all {
		wait.Go(func() {
			raw, _ := k.conns()
			if raw == nil {
				return
			}
			err := raw.Close()
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// conns gives the bare and the caching connection; nil before the host was reached.
func (k *link) conns() (conn, *transport.Prefetch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.raw, k.reads
}

// at notes what the host is working at, for the commands that are reported.
func (k *link) at(step string) {
	k.mu.Lock()
	k.step = step
	k.mu.Unlock()
}

// warmed notes that the reads of tasks up to index are cached.
func (k *link) warmed(index int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.warm, k.warmAt, k.writes = index, k.of.e.cfg.Clock.Now(), k.of.writes.Load()
}

// isWarm reports whether the reads of a task are cached and good. strict asks that nothing changed on any host since.
func (k *link) isWarm(index int, strict bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.warm >= index && !k.stale(strict)
}

func (k *link) stale(strict bool) bool {
	return k.of.e.cfg.Clock.Now().Sub(k.warmAt) > fresh || strict && k.writes != k.of.writes.Load()
}

// freshen forgets cached reads that are too old.
func (k *link) freshen(strict bool) {
	k.mu.Lock()
	old := k.warm < 0 || k.stale(strict)
	if old {
		k.warm = -1
	}
	reads := k.reads
	k.mu.Unlock()
	if old && reads != nil {
		reads.Forget()
	}
}

// forget drops all cached reads.
func (k *link) forget() {
	k.mu.Lock()
	k.warm, k.follows = -1, -1
	reads := k.reads
	k.mu.Unlock()
	if reads != nil {
		reads.Forget()
	}
}

// ahead fetches reads in one round trip. Each is expected twice: by Plan, and by Read for the outputs.
func (k *link) ahead(ctx context.Context, probes []command) error {
	_, reads := k.conns()
	if reads == nil || len(probes) == 0 {
		return nil
	}
	return reads.Prefetch(ctx, slices.Concat(probes, probes))
}

// follow asks that reads travel with the next mutating command; they warm the tasks up to index.
func (k *link) follow(probes []command, index int) {
	k.mu.Lock()
	k.follows = index
	reads := k.reads
	k.mu.Unlock()
	if reads != nil {
		reads.Follow(slices.Concat(probes, probes)) // see ahead
	}
}

// mutating notes that the host is about to change: what was cached is void, except for what follows the change.
func (k *link) mutating() {
	k.of.writes.Add(1)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.warm, k.follows = k.follows, -1
	k.warmAt, k.writes = k.of.e.cfg.Clock.Now(), k.of.writes.Load()
}

// ran tells the bus of a command that went over the wire.
func (k *link) ran(t transport.Traced) {
	exit := t.Result.Exit
	if t.Err != nil {
		exit = -1
	}
	k.mu.Lock()
	step := k.step
	k.mu.Unlock()
	k.of.e.tell(context.Background(), step, k.host.Name, event.CommandRan{
		Command: Shown(t.Command), Exit: exit, Mutates: t.Command.Mutates, Duration: t.Took,
	})
}

// Shown is a command as -vv and the events have it: a script together with what it was given, since many reads share a
// script and differ in their arguments only.
func Shown(c transport.Command) string {
	text := c.String()
	if c.Script == "" || len(c.Argv) == 0 {
		return text
	}
	const most = 200 // bytes of arguments
	given := strings.Join(c.Argv, " ")
	if len(given) > most {
		given = strings.ToValidUTF8(given[:most], "") + "…"
	}
	return text + " -- " + given
}
