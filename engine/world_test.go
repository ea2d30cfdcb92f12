package engine_test

import (
	"context"
	"errors"
	"fmt"

	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/zclconf/go-cty/cty"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a set of machines that hold keys and values. Their commands are "get KEY" and "set KEY VALUE".
type world struct {
	mu       sync.Mutex
	machines map[string]*machine
	log      []string // mutations and, where a test asks for it, events, in the order in which they happened
}

type machine struct {
	w       *world
	name    string
	values  map[string]string
	trips   int
	dials   int
	down    bool
	busy    int // mutations under way
	peak    int
	latency time.Duration
	// onSet may replace what a mutation does.
	onSet func(ctx context.Context, key, value string) error
}

func newWorld(names ...string) *world {
	w := &world{machines: map[string]*machine{}}
	for _, n := range names {
		w.machines[n] = &machine{w: w, name: n, values: map[string]string{}}
	}
	return w
}

func (w *world) site(cluster string) (*inventory.Site, *inventory.Cluster) {
	names := slices.Sorted(maps.Keys(w.machines))
	s := &inventory.Site{}
	c := &inventory.Cluster{Name: cluster, Nodes: names}
	for _, n := range names {
		s.Hosts = append(s.Hosts, inventory.Host{Name: n, Address: n + ".example", Cluster: cluster})
	}
	s.Clusters = []*inventory.Cluster{c}
	return s, c
}

func (w *world) dial(_ context.Context, h inventory.Host) (transport.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.machines[h.Name]
	m.dials++
	if m.down {
		return nil, &transport.UnreachableError{Host: h.Name, Phase: "connect", Cause: errors.New("no route to host")}
	}
	return m, nil
}

func (w *world) trips() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, m := range w.machines {
		n = max(n, m.trips)
		m.trips = 0
	}
	return n
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *world) notes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.log)
}

// kv is the argument struct of the module "kv": a key that must have a value.
type kv struct {
	Key   string `hcl:"key" doc:"The key."`
	Value string `hcl:"value" doc:"The value."`
	// What the module does about it.
	Temporary  bool   `hcl:"temporary,optional" doc:"Registers an undo."`
	Undoes     string `hcl:"undoes,optional" doc:"Takes a temporary change back."`
	Imperative bool   `hcl:"imperative,optional" doc:"Is a bare command."`
	Extra      string `hcl:"extra,optional" doc:"Sets one more key, as a change of its own."`
	Gate       string `hcl:"gate,optional" doc:"Refuses unless this key is set."`
	Crash      bool   `hcl:"crash,optional" doc:"Panics."`
	Predicts   bool   `hcl:"predicts,optional" doc:"Forecasts while earlier changes are planned."`
	Wait       bool   `hcl:"wait,optional" doc:"Waits for the value after setting it."`
}

type kvOut struct {
	Value string `hcl:"value" doc:"The value."`
}

func read(key string) transport.Command { return transport.Command{Argv: []string{"get", key}} }

func (a kv) keys() []string {
	keys := []string{a.Key}
	if a.Extra != "" {
		keys = append(keys, a.Extra)
	}
	return keys
}

func (a kv) probes(host string) []module.Probe {
	var ps []module.Probe
	for _, k := range a.keys() {
		ps = append(ps, module.Probe{Host: host, Command: read(k)})
	}
	if a.Gate != "" {
		ps = append(ps, module.Probe{Host: host, Command: read(a.Gate)})
	}
	return ps
}

func (a kv) plan(ctx context.Context, t module.Target, host string) ([]module.Change, error) {
	if a.Crash {
		panic("out of cheese")
	}
	c, err := t.Conn(ctx, host)
	if err != nil {
		return nil, err
	}
	if a.Gate != "" {
		if r, err := c.Run(ctx, read(a.Gate)); err != nil || r.Exit != 0 {
			return nil, errors.Join(err, &module.Refusal{Host: host, Gate: "set " + a.Key, Saw: "no " + a.Gate, Want: a.Gate})
		}
	}
	var changes []module.Change
	for _, key := range a.keys() {
		r, err := c.Run(ctx, read(key))
		if err != nil {
			return nil, err
		}
		if r.Out() == a.Value && !a.Imperative {
			continue
		}
		ch := module.Change{
			ID: host + "/" + key, Host: host, Summary: "set " + key + " to " + a.Value, Action: module.Update,
			Before: r.Out(), After: a.Value, Imperative: a.Imperative,
			Apply: func(ctx context.Context, t module.Target) error { return a.apply(ctx, t, host, key) },
		}
		if a.Temporary {
			ch.Undo = &module.Undo{Host: host, Summary: "unset " + key, Command: transport.Command{Argv: []string{"set", key, ""}}}
		}
		if a.Undoes != "" {
			ch.Undoes = []string{host + "/" + a.Undoes}
		}
		if a.Predicts && len(t.Planned()) > 0 {
			ch.Predicted = "it rests on " + t.Planned()[0].Summary
			ch.ID += "/forecast"
		}
		changes = append(changes, ch)
	}
	return changes, nil
}

func (a kv) apply(ctx context.Context, t module.Target, host, key string) error {
	c, err := t.Conn(ctx, host)
	if err != nil {
		return err
	}
	cmd := transport.Command{Argv: []string{"set", key, a.Value}, Mutates: true}
	r, err := c.Run(ctx, cmd)
	if err != nil {
		return err
	}
	if err := r.Err(cmd); err != nil || !a.Wait {
		return err
	}
	return t.WaitFor(ctx, module.Condition{Name: key + " is there", Timeout: time.Minute, Check: func(ctx context.Context) error {
		r, err := c.Run(ctx, read(key))
		if err == nil && r.Out() != a.Value {
			err = fmt.Errorf("%s is %q", key, r.Out())
		}
		return err
	}})
}

var kvModule = module.Define(module.Spec{Name: "kv", Summary: "a key"}, module.Funcs[kv, kvOut]{
	Probes: func(t module.Target, a kv) []module.Probe { return a.probes(t.Host().Name) },
	Plan: func(ctx context.Context, t module.Target, a kv) ([]module.Change, error) {
		return a.plan(ctx, t, t.Host().Name)
	},
	Read: func(ctx context.Context, t module.Target, a kv) (kvOut, error) {
		if a.Imperative {
			return kvOut{}, nil
		}
		c, err := t.Conn(ctx, t.Host().Name)
		if err != nil {
			return kvOut{}, err
		}
		r, err := c.Run(ctx, read(a.Key))
		return kvOut{Value: r.Out()}, err
	},
})

var clusterModule = module.Define(module.Spec{Name: "kv_cluster", Summary: "a key everywhere", Scope: module.PerCluster}, module.Funcs[kv, kvOut]{
	Probes: func(t module.Target, a kv) []module.Probe {
		var ps []module.Probe
		for _, h := range t.Hosts() {
			ps = append(ps, a.probes(h.Name)...)
		}
		return ps
	},
	Plan: func(ctx context.Context, t module.Target, a kv) ([]module.Change, error) {
		var all []module.Change
		for _, h := range t.Hosts() {
			changes, err := a.plan(ctx, t, h.Name)
			if err != nil {
				return nil, err
			}
			all = append(all, changes...)
		}
		return all, nil
	},
})

// task makes a task of the module kv; edit changes it.
func task(name string, args kv, edit ...func(*engine.Task)) *engine.Task {
	t := &engine.Task{Path: "site/" + name, Name: name, Module: kvModule, Args: always(args)}
	for _, e := range edit {
		e(t)
	}
	return t
}

func always(args kv) func(engine.Scope) (any, *engine.Unknown, diag.List) {
	return func(engine.Scope) (any, *engine.Unknown, diag.List) { return &args, nil, nil }
}

func on(hosts ...string) func(*engine.Task) {
	return func(t *engine.Task) { t.Hosts = hostList(hosts...) }
}

func hostList(hosts ...string) func(engine.Scope) ([]string, *engine.Unknown, diag.List) {
	return func(engine.Scope) ([]string, *engine.Unknown, diag.List) { return hosts, nil, nil }
}

func wholeCluster(t *engine.Task) { t.Module = clusterModule }

// whenChanged runs the task where an earlier one changed something.
func whenChanged(name string) func(*engine.Task) {
	return func(t *engine.Task) {
		t.When = func(s engine.Scope) (bool, *engine.Unknown, diag.List) {
			r, ok := s.Results[name]
			if !ok {
				return false, &engine.Unknown{Reason: "task." + name + " has not run yet"}, nil
			}
			return r.Hosts[s.Host.Name].Changed, nil, nil
		}
	}
}

// valueOf uses an output of an earlier task.
func valueOf(name, key string) func(*engine.Task) {
	return func(t *engine.Task) {
		t.Args = func(s engine.Scope) (any, *engine.Unknown, diag.List) {
			r, ok := s.Results[name]
			if !ok || r.Hosts[s.Host.Name].Outputs == cty.NilVal {
				return nil, &engine.Unknown{Reason: "task." + name + " has not run yet"}, nil
			}
			return &kv{Key: key, Value: r.Hosts[s.Host.Name].Outputs.GetAttr("value").AsString()}, nil, nil
		}
	}
}

func (w *world) runbook(steps ...engine.Step) *engine.Runbook {
	site, cluster := w.site("lab")
	return &engine.Runbook{Name: "site", Cluster: cluster, Site: site, Steps: steps}
}

// recorder keeps events. It counts as durable.
type recorder struct {
	mu     sync.Mutex
	events []event.Event
	// onEvent may fail, or do something at a moment of the run.
	onEvent func(event.Event) error
	onSync  func() error
}

func (r *recorder) Handle(_ context.Context, e event.Event) error {
	r.mu.Lock()
	r.events = append(r.events, e)
	on := r.onEvent
	r.mu.Unlock()
	if on != nil {
		return on(e)
	}
	return nil
}

func (r *recorder) Sync(context.Context) error {
	if r.onSync != nil {
		return r.onSync()
	}
	return nil
}

func (r *recorder) Close() error { return nil }

func (r *recorder) kinds() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, e := range r.events {
		all = append(all, strings.TrimSpace(e.Body.Kind()+" "+e.Host))
	}
	return all
}

func bodies[T event.Body](r *recorder) []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []T
	for _, e := range r.events {
		if b, ok := e.Body.(T); ok {
			all = append(all, b)
		}
	}
	return all
}

// rig is one engine on a world.
type rig struct {
	*engine.Engine
	rec *recorder
}

func (w *world) engine(t *testing.T, edit ...func(*engine.Config)) rig {
	t.Helper()
	rec := &recorder{}
	cfg := engine.Config{Dial: w.dial, RunID: "01RUN"}
	for _, e := range edit {
		e(&cfg)
	}
	cfg.Bus = event.NewBus(event.BusConfig{Run: cfg.RunID, Now: time.Now, Sinks: []event.Sink{rec}})
	e := engine.New(cfg)
	t.Cleanup(func() { _ = e.Close() })
	return rig{e, rec}
}

// apply plans and applies in one go.
func (g rig) apply(t *testing.T, rb *engine.Runbook) (event.Summary, error) {
	t.Helper()
	p, problems := g.Plan(t.Context(), rb)
	if problems.HasErrors() {
		t.Fatalf("plan: %v", problems)
	}
	return g.Apply(t.Context(), rb, p)
}

// told is a summary as short lines: "task host status: done; not: not done".
func told(s event.Summary) []string {
	var lines []string
	for _, step := range s.Steps {
		for _, h := range step.Hosts {
			line := strings.TrimPrefix(step.Step, "site/") + " " + h.Host + " " + string(h.Status)
			if len(h.Done) > 0 {
				line += ": " + strings.Join(h.Done, ", ")
			}
			if len(h.NotDone) > 0 {
				line += "; not: " + strings.Join(h.NotDone, ", ")
			}
			lines = append(lines, line)
		}
		if len(step.Hosts) == 0 {
			lines = append(lines, strings.TrimPrefix(step.Step, "site/")+" "+string(step.Status)+" ("+step.Reason+")")
		}
	}
	return lines
}
