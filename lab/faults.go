package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/lab/ceph"
	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/ha"
)

// Fault is something that goes wrong. Kind says what, Target where, Value how much; the trigger fields say when. With
// none of them it happens at once.
type Fault struct {
	// ID is given by the lab.
	ID   int    `json:"id,omitempty"`
	Kind string `json:"kind"`
	// Target is the host, by name or address. partition takes groups of hosts in Value instead.
	Target string `json:"target,omitempty"`
	Value  string `json:"value,omitempty"`

	// Match is a regular expression on a program's command line, like "pvecm add": the fault happens when such a program
	// starts on the target.
	Match string `json:"match,omitempty"`
	// Phase is a point inside a long program, like "join:added".
	Phase string `json:"phase,omitempty"`
	// Nth says at which of the matching calls: 0 and 1 are the first.
	Nth int `json:"nth,omitempty"`
	// Every makes it happen at each matching call from the Nth on; else it happens once.
	Every bool `json:"every,omitempty"`
	// Chance is how likely it happens at each matching call: 0 and 1 mean always. The lab's seed decides.
	Chance float64 `json:"chance,omitempty"`
	// After is a model time that passes first.
	After time.Duration `json:"after,omitempty"`

	// Hits is how often it has happened.
	Hits int `json:"hits"`

	cleared <-chan struct{} // closed when the fault is taken away; given to those that make it happen
}

// String is one line for people.
func (f Fault) String() string {
	parts := []string{fmt.Sprintf("%d", f.ID), f.Kind}
	for _, p := range []struct{ name, value string }{{"target", f.Target}, {"value", f.Value}, {"match", f.Match}, {"phase", f.Phase}} {
		if p.value != "" {
			parts = append(parts, p.name+"="+p.value)
		}
	}
	if f.Nth > 1 {
		parts = append(parts, fmt.Sprintf("nth=%d", f.Nth))
	}
	if f.Every {
		parts = append(parts, "every")
	}
	if f.Chance > 0 {
		parts = append(parts, fmt.Sprintf("chance=%g", f.Chance))
	}
	if f.After > 0 {
		parts = append(parts, "after="+f.After.String())
	}
	return strings.Join(append(parts, fmt.Sprintf("hits=%d", f.Hits)), " ")
}

// FaultKind describes a kind of fault for lists and completion.
type FaultKind struct {
	Name, Summary string
	// Value says what Fault.Value means; "" if it means nothing.
	Value string
}

// planned is a fault in the lab with what it takes to undo it.
type planned struct {
	Fault
	match *regexp.Regexp
	gone  chan struct{} // closed when it is cleared
	calls int
	undo  []func() error
	stop  func() bool
}

// faults are the planned faults of a lab.
type faults struct {
	mu     sync.Mutex
	last   int
	list   []*planned
	random *rand.Rand
}

// joinPhases and createPhases are the points of `pvecm add` and `pvecm create` (and delnode) at which a fault can strike.
var (
	joinPhases = []string{
		"join:start", "join:copied", "join:connect", "join:login", "join:added", "join:fetched", "join:stopping", "join:stopped",
		"join:backed-up", "join:waiting", "join:quorate", "join:certs",
	}
	createPhases = []string{"create:start", "create:keygen", "create:conf", "create:restart", "create:end"}
)

// Phases lists the values of Fault.Phase, in the order in which programs reach them. copied and fetched are on the SSH
// path of a join only, connect and login on the API path.
func Phases() []string {
	return slices.Concat(createPhases, joinPhases, []string{"delnode:killed"}, cluster.DevicePhases(), migratePhases, storagePhases, aptPhases, bootPhases, ha.Phases(), ceph.Phases())
}

// AddFault plans a fault, or makes it happen at once when it has no trigger, and returns its id.
func (l *Lab) AddFault(f Fault) (int, error) {
	kind, ok := faultKinds[f.Kind]
	if !ok {
		return 0, fmt.Errorf("unknown fault %q; known are %s", f.Kind, strings.Join(faultNames(), ", "))
	}
	p := &planned{Fault: f, gone: make(chan struct{})}
	if f.Match != "" {
		match, err := regexp.Compile(f.Match)
		if err != nil {
			return 0, fmt.Errorf("fault %s: match: %w", f.Kind, err)
		}
		p.match = match
	}
	if f.Phase != "" && !slices.Contains(Phases(), phaseOf(f.Phase)) {
		return 0, fmt.Errorf("fault %s: unknown phase %q; known are %s", f.Kind, f.Phase, strings.Join(Phases(), ", "))
	}
	if kind.needsTarget && l.net.host(f.Target) == nil {
		return 0, fmt.Errorf("fault %s: no host %q in the lab", f.Kind, f.Target)
	}
	if kind.inProgram && f.Match == "" && f.Phase == "" {
		return 0, fmt.Errorf("fault %s: needs match= or phase=, which says where it happens", f.Kind)
	}
	l.faults.mu.Lock()
	l.faults.last++
	p.ID = l.faults.last
	l.faults.list = append(l.faults.list, p)
	l.faults.mu.Unlock()

	if f.Match != "" || f.Phase != "" {
		return p.ID, nil
	}
	if f.After > 0 {
		stop := l.clock.AfterFunc(f.After, func() { _ = l.strike(l.ctx, p) }) // a fault that cannot happen shows no hits
		l.faults.mu.Lock()
		p.stop = stop
		l.faults.mu.Unlock()
		return p.ID, nil
	}
	if err := l.strike(l.ctx, p); err != nil {
		_ = l.ClearFault(p.ID)
		return 0, fmt.Errorf("fault %s: %w", f.Kind, err)
	}
	return p.ID, nil
}

// Faults lists the planned faults.
func (l *Lab) Faults() []Fault {
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	out := make([]Fault, len(l.faults.list))
	for i, p := range l.faults.list {
		out[i] = p.Fault
	}
	return out
}

// ClearFault takes a fault away and undoes what of it can be undone; id 0 means all.
func (l *Lab) ClearFault(id int) error {
	l.faults.mu.Lock()
	var gone []*planned
	l.faults.list = slices.DeleteFunc(l.faults.list, func(p *planned) bool {
		hit := id == 0 || p.ID == id
		if hit {
			gone = append(gone, p)
		}
		return hit
	})
	l.faults.mu.Unlock()
	if id != 0 && len(gone) == 0 {
		return fmt.Errorf("no fault %d", id)
	}
	var failed error
	for _, p := range gone {
		close(p.gone)
		l.faults.mu.Lock()
		stop, undo := p.stop, p.undo
		p.stop, p.undo = nil, nil
		l.faults.mu.Unlock()
		if stop != nil {
			stop()
		}
		for _, u := range slices.Backward(undo) {
			failed = errors.Join(failed, u())
		}
	}
	return failed
}

// strike makes a fault happen. What it returns is the failure of the program in which it happened, if any.
func (l *Lab) strike(ctx context.Context, p *planned) error {
	kind := faultKinds[p.Kind]
	f := p.Fault
	f.cleared = p.gone
	undo, err := kind.strike(ctx, l, l.net.host(p.Target), f)
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	var text *programFailure
	if err == nil || errors.As(err, &text) {
		p.Hits++
	}
	if undo != nil {
		p.undo = append(p.undo, undo)
	}
	return err
}

// programFailure is what a fault makes a program print and return.
type programFailure struct {
	text   string
	exit   int
	killed bool
}

func (e *programFailure) Error() string { return e.text }

// Unwrap lets the model's programs know that they are to end without a word.
func (e *programFailure) Unwrap() error {
	if e.killed {
		return cluster.ErrKilled
	}
	return nil
}

// due returns the faults that happen now at a call, a call being counted for each that matches.
func (l *Lab) due(matches func(*planned) bool) []*planned {
	l.faults.mu.Lock()
	defer l.faults.mu.Unlock()
	var out []*planned
	for _, p := range l.faults.list {
		if !matches(p) {
			continue
		}
		p.calls++
		first := max(1, p.Nth)
		if p.calls != first && (!p.Every || p.calls < first) {
			continue
		}
		if p.Chance <= 0 || p.Chance >= 1 || l.faults.random.Float64() < p.Chance {
			out = append(out, p)
		}
	}
	return out
}

func (l *Lab) onTarget(p *planned, host string) bool {
	if p.Target == "" {
		return true
	}
	h := l.net.host(p.Target)
	return h != nil && h.spec.Name == host
}

// interrupt is asked by the model's long programs at their phases.
func (l *Lab) interrupt(ctx context.Context, node, phase string) error {
	for _, p := range l.due(func(p *planned) bool { return p.Phase != "" && p.Phase == phase && l.onTarget(p, node) }) {
		if p.After > 0 {
			if err := l.clock.Sleep(ctx, p.After); err != nil {
				return err
			}
		}
		if err := l.strike(ctx, p); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// beforeProgram is asked when a program starts on a machine. handled means that the program is not run.
func (l *Lab) beforeProgram(ctx context.Context, host string, argv []string) (failure *programFailure, handled bool) {
	matches := func(p *planned) bool {
		return p.match != nil && l.onTarget(p, host) && p.match.MatchString(strings.Join(argv, " "))
	}
	for _, p := range l.due(matches) {
		if p.After > 0 && l.clock.Sleep(ctx, p.After) != nil {
			return nil, false
		}
		err := l.strike(ctx, p)
		if errors.As(err, &failure) {
			return failure, true
		}
	}
	return nil, false
}
