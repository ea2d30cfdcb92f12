package testkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

// Target stands in for the engine. Its clock is its own: waits take no time.
type Target struct {
	TB      testing.TB
	Of      inventory.Host
	All     []inventory.Host // the hosts of the task; Of alone when empty
	Whole   *inventory.Site
	In      *inventory.Cluster
	Conns   map[string]transport.Conn
	Earlier []module.Planned
	RunID   string
	Named   string        // the task's name
	Rolls   *module.Block // the rolling block that it stands in
	Limit   []string      // the hosts that may be changed; all when empty
	// Answer is what the person at the terminal says; nil stands for nobody being there.
	Answer func(question string) error
	// OnDetach replaces running a detached job through the connection.
	OnDetach func(host string, j module.Job) (transport.Result, error)

	mu       sync.Mutex
	elapsed  time.Duration
	logs     []string
	warnings []string
	records  []module.Record
	jobs     []module.Job
	kept     map[string]secret.String
	readonly bool
	reads    []transport.Command
}

var _ module.Target = (*Target)(nil)

// NewTarget makes a target of one host.
func NewTarget(tb testing.TB, host string, conn transport.Conn) *Target {
	tb.Helper()
	h := inventory.Host{Name: host, Address: "192.0.2.11"}
	return &Target{
		TB: tb, Of: h, Whole: &inventory.Site{Hosts: []inventory.Host{h}}, Conns: map[string]transport.Conn{host: conn},
		kept: map[string]secret.String{},
	}
}

// Host is the host of the target.
func (t *Target) Host() inventory.Host { return t.Of }

// Hosts are the hosts of the task.
func (t *Target) Hosts() []inventory.Host {
	if len(t.All) == 0 {
		return []inventory.Host{t.Of}
	}
	return t.All
}

// Site is the inventory.
func (t *Target) Site() *inventory.Site { return t.Whole }

// Cluster is the runbook's cluster.
func (t *Target) Cluster() *inventory.Cluster { return t.In }

// Planned are the earlier tasks' changes.
func (t *Target) Planned() []module.Planned { return t.Earlier }

// Selected reports whether Limit allows a host to be changed.
func (t *Target) Selected(host string) bool {
	return len(t.Limit) == 0 || slices.Contains(t.Limit, host)
}

// Task is the name of the task.
func (t *Target) Task() string { return t.Named }

// Block is the rolling block of the task.
func (t *Target) Block() *module.Block { return t.Rolls }

// Record keeps what was measured.
func (t *Target) Record(_ string, r module.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records = append(t.records, r)
}

// Records are what was measured so far.
func (t *Target) Records() []module.Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.records)
}

// Run is the id of the run.
func (t *Target) Run() string { return t.RunID }

// Conn returns the connection to a host. While planning it refuses whatever would write.
func (t *Target) Conn(_ context.Context, host string) (transport.Conn, error) {
	c, ok := t.Conns[host]
	if !ok {
		return nil, fmt.Errorf("%s: no connection in this test", host)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readonly {
		return &reader{c, t}, nil
	}
	return c, nil
}

// Detach runs the job's command through the connection, to its end.
func (t *Target) Detach(ctx context.Context, host string, j module.Job) (transport.Result, error) {
	t.mu.Lock()
	t.jobs = append(t.jobs, j)
	readonly := t.readonly
	t.mu.Unlock()
	if readonly {
		t.TB.Errorf("planning must not detach %q", j.Name)
		return transport.Result{}, errors.New("read-only")
	}
	if t.OnDetach != nil {
		return t.OnDetach(host, j)
	}
	c, err := t.Conn(ctx, host)
	if err != nil {
		return transport.Result{}, err
	}
	cmd := j.Command
	cmd.Mutates, cmd.Timeout = true, j.Timeout
	return c.Run(ctx, cmd)
}

// WaitFor polls on the target's own clock.
func (t *Target) WaitFor(ctx context.Context, c module.Condition) error {
	every := c.Every
	if every <= 0 {
		every = 2 * time.Second
	}
	for waited := time.Duration(0); ; waited += every {
		err := c.Check(ctx)
		if err == nil {
			return nil
		}
		if fatal, ok := errors.AsType[*module.FatalError](err); ok {
			return fatal.Cause
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if waited >= c.Timeout {
			return fmt.Errorf("%s: not within %s: %w", c.Name, c.Timeout, err)
		}
		t.advance(every)
	}
}

// Log keeps a line.
func (t *Target) Log(host, line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.logs = append(t.logs, host+": "+line)
}

// Warn keeps a warning.
func (t *Target) Warn(host, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.warnings = append(t.warnings, host+": "+text)
}

// Keep keeps a value.
func (t *Target) Keep(name string, v secret.String) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept[name] = v
}

// Sleep moves the target's clock.
func (t *Target) Sleep(ctx context.Context, d time.Duration) error {
	t.advance(d)
	return ctx.Err()
}

// Approve gives the test's answer.
func (t *Target) Approve(_ context.Context, question string) error {
	if t.Answer == nil {
		return errors.New("nobody is there to answer; use --auto-approve")
	}
	return t.Answer(question)
}

func (t *Target) advance(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.elapsed += d
}

// Elapsed is how long the subject has waited on the target's clock.
func (t *Target) Elapsed() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.elapsed
}

// Logs are the lines logged so far.
func (t *Target) Logs() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.logs...)
}

// Warnings are the warnings so far.
func (t *Target) Warnings() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.warnings...)
}

// Jobs are the detached jobs so far.
func (t *Target) Jobs() []module.Job {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]module.Job(nil), t.jobs...)
}

// Kept returns a value that was handed over.
func (t *Target) Kept(name string) secret.String {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept[name]
}

// planning makes connections read-only and forgets earlier reads until done is called.
func (t *Target) planning() (done func() []transport.Command) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.readonly, t.reads = true, nil
	return func() []transport.Command {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.readonly = false
		return t.reads
	}
}

// reader refuses what would write and remembers what was read.
type reader struct {
	transport.Conn
	t *Target
}

func (r *reader) see(cs ...transport.Command) error {
	r.t.mu.Lock()
	defer r.t.mu.Unlock()
	for _, c := range cs {
		r.t.reads = append(r.t.reads, c)
		if c.Mutates {
			r.t.TB.Errorf("planning must not run the mutating command %q", c)
			return fmt.Errorf("read-only: %s", c)
		}
	}
	return nil
}

func (r *reader) Run(ctx context.Context, c transport.Command) (transport.Result, error) {
	if err := r.see(c); err != nil {
		return transport.Result{}, err
	}
	return r.Conn.Run(ctx, c)
}

func (r *reader) Batch(ctx context.Context, cs []transport.Command) ([]transport.Result, error) {
	if err := r.see(cs...); err != nil {
		return nil, err
	}
	return r.Conn.Batch(ctx, cs)
}

func (r *reader) Put(context.Context, transport.File) error {
	r.t.TB.Error("planning must not put a file")
	return errors.New("read-only")
}

func (r *reader) Get(ctx context.Context, path string, w io.Writer) error {
	return r.Conn.Get(ctx, path, w)
}
