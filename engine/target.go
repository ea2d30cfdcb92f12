package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

// target is what a module acts on and with. run is nil until a plan is performed; acts is set only while a change is
// being made.
type target struct {
	e       *Engine
	b       *book
	n       *node
	hosts   []inventory.Host
	planned []module.Planned
	run     *run
	acts    bool
	block   *module.Block // of a task in a rolling block

	mu   sync.Mutex
	used map[string]*link // hosts that the task talks to
	kept error            // why a value that is shown only once could not be stored
}

func (t *target) Host() inventory.Host {
	if len(t.hosts) == 0 {
		return inventory.Host{}
	}
	return t.hosts[0]
}

func (t *target) Hosts() []inventory.Host     { return t.hosts }
func (t *target) Site() *inventory.Site       { return t.b.rb.Site }
func (t *target) Cluster() *inventory.Cluster { return t.b.rb.Cluster }
func (t *target) Planned() []module.Planned   { return t.planned }
func (t *target) Task() string                { return t.n.task.Name }
func (t *target) Run() string                 { return t.e.cfg.RunID }
func (t *target) Block() *module.Block        { return t.block }
func (t *target) Selected(host string) bool   { return t.e.limitAllows(host) }

func (t *target) link(ctx context.Context, host string) (*link, error) {
	k, err := t.e.links.of(t.b.rb.Site, host)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	if t.used == nil {
		t.used = map[string]*link{}
	}
	t.used[host] = k
	t.mu.Unlock()
	return k, k.connect(ctx, t.run != nil)
}

func (t *target) Conn(ctx context.Context, host string) (transport.Conn, error) {
	k, err := t.link(ctx, host)
	if err != nil {
		return nil, err
	}
	if !t.acts {
		_, reads := k.conns()
		return transport.ReadOnly(unclosed{reads.Together(t.e.links.calm.quiet)}), nil
	}
	return t.acting(k), nil
}

func (t *target) acting(k *link) *acting {
	_, reads := k.conns()
	return &acting{conn: reads, k: k, t: t}
}

func (t *target) Detach(ctx context.Context, host string, j module.Job) (transport.Result, error) {
	switch {
	case !t.acts:
		return transport.Result{}, &transport.ReadOnlyError{Command: fmt.Sprintf("job %q", j.Name)}
	case t.e.cfg.Detach == nil:
		return transport.Result{}, fmt.Errorf("job %q: this run has no way to detach commands", j.Name)
	}
	k, err := t.link(ctx, host)
	if err != nil {
		return transport.Result{}, err
	}
	raw, reads := k.conns()
	change := func() {
		reads.Forget()
		k.follow(nil, -1)
		k.mutating()
	}
	change()
	defer change()
	j.Command.Output = t.listen(host, j.Command.Output)
	return t.e.cfg.Detach(ctx, raw, host, t.e.cfg.RunID, j)
}

// listen makes the lines of a command events, unless the task's output is to be withheld.
func (t *target) listen(host string, also func(transport.Stream, string)) func(transport.Stream, string) {
	if t.n.task.Sensitive {
		return also
	}
	return func(s transport.Stream, line string) {
		name := "stdout"
		if s == transport.Stderr {
			name = "stderr"
		}
		t.e.tell(context.Background(), t.n.task.Path, host, event.Output{Stream: name, Line: line})
		if also != nil {
			also(s, line)
		}
	}
}

func (t *target) Log(host, line string) {
	if !t.n.task.Sensitive {
		t.e.tell(context.Background(), t.n.task.Path, host, event.Note{Text: line})
	}
}

func (t *target) Warn(host, text string) {
	t.e.tell(context.Background(), t.n.task.Path, host, event.Warning{Text: text})
}

func (t *target) Record(host string, r module.Record) {
	t.e.tell(context.Background(), t.n.task.Path, host, r)
}

// Keep stores a value. That it could not be stored fails the task: nobody can ever read it again.
func (t *target) Keep(name string, v secret.String) {
	err := errors.New("this run has no place to keep it")
	if t.e.cfg.Keep != nil {
		err = t.e.cfg.Keep(name, v)
	}
	if err != nil {
		t.mu.Lock()
		t.kept = errors.Join(t.kept, fmt.Errorf("%s is shown only once and could not be kept: %w", name, err))
		t.mu.Unlock()
	}
}

func (t *target) keepError() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept
}

func (t *target) Sleep(ctx context.Context, d time.Duration) error {
	ctx, stop := t.waiting(ctx)
	defer stop()
	return t.e.cfg.Clock.Sleep(ctx, d)
}

func (t *target) Approve(ctx context.Context, question string) error {
	if !t.acts || t.e.cfg.Approve == nil {
		return fmt.Errorf("this needs an answer and nobody can be asked: %s", question)
	}
	t.e.asking.Lock()
	defer t.e.asking.Unlock()
	ctx, stop := t.waiting(ctx)
	defer stop()
	return t.e.cfg.Approve(ctx, question)
}

// waiting bounds something that changes nothing: it ends some time after the first interrupt.
func (t *target) waiting(ctx context.Context) (context.Context, func()) {
	if t.run == nil {
		return ctx, func() {}
	}
	return t.run.stopper.waiting(ctx)
}

// The pauses of a wait: quick at first, then a sixteenth of what it has waited for, so that it ends little later than what it waits
// for happens, in relation. They do not get longer than the condition says while a wait is as long as waits are; one that lasts has
// no need of haste, and whom it asks has enough to do.
const (
	firstPause  = 100 * time.Millisecond
	pauseShare  = 16
	longPause   = 2 * time.Second
	defaultWait = 5 * time.Minute
	lasting     = 3 * time.Minute
	lastingRate = 64
	lastingMost = 15 * time.Second
)

// pauseAfter is how long a wait pauses that has waited for so long and may pause for every.
func pauseAfter(waited, every time.Duration) time.Duration {
	if waited > lasting {
		every = max(every, min(waited/lastingRate, lastingMost))
	}
	return min(max(firstPause, waited/pauseShare), every)
}

func (t *target) WaitFor(ctx context.Context, c module.Condition) error {
	every, timeout := c.Every, c.Timeout
	if every <= 0 {
		every = longPause
	}
	if timeout <= 0 {
		timeout = defaultWait
	}
	ctx, stop := t.waiting(ctx)
	defer stop()
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pause, began := min(firstPause, every), t.e.cfg.Clock.Now()
	var last error
	for try := 0; ; try++ {
		if try > 0 {
			t.lookAgain()
		}
		err := c.Check(limited)
		if err == nil {
			return nil
		}
		if fatal, ok := errors.AsType[*module.FatalError](err); ok {
			return fmt.Errorf("waiting until %s: %w", c.Name, fatal.Cause)
		}
		if limited.Err() == nil || last == nil {
			last = err // what the deadline itself cut off explains nothing
		}
		if t.e.cfg.Clock.Now().Sub(began) >= timeout { // of a clock that runs faster than time
			return fmt.Errorf("waited %s until %s, which did not come: %w", timeout, c.Name, last)
		}
		if err := t.e.cfg.Clock.Sleep(limited, pause); err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("waiting until %s: %w", c.Name, context.Cause(ctx))
			}
			return fmt.Errorf("waited %s until %s, which did not come: %w", timeout, c.Name, last)
		}
		pause = pauseAfter(t.e.cfg.Clock.Now().Sub(began), every)
	}
}

// lookAgain drops the cached reads of the hosts that the task talks to, so that a wait sees the present.
func (t *target) lookAgain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.used {
		k.forget()
	}
}

// unclosed keeps modules from closing what the engine closes itself.
type unclosed struct{ conn }

// Close does nothing.
func (unclosed) Close() error { return nil }

// acting is the connection that changes are made through.
type acting struct {
	conn
	k *link
	t *target
}

func (a *acting) Run(ctx context.Context, c command) (transport.Result, error) {
	if c.Mutates {
		a.k.mutating()
		c.Output = a.t.listen(a.k.host.Name, c.Output)
	}
	return a.conn.Run(ctx, c)
}

func (a *acting) Batch(ctx context.Context, cs []command) ([]transport.Result, error) {
	if slices.ContainsFunc(cs, func(c command) bool { return c.Mutates }) {
		a.k.mutating()
		cs = slices.Clone(cs)
		for i := range cs {
			if cs[i].Mutates {
				cs[i].Output = a.t.listen(a.k.host.Name, cs[i].Output)
			}
		}
	}
	return a.conn.Batch(ctx, cs)
}

func (a *acting) Put(ctx context.Context, f transport.File) error {
	a.k.mutating()
	return a.conn.Put(ctx, f)
}

// Close does nothing: the engine closes its connections itself.
func (a *acting) Close() error { return nil }
