package engine

import (
	"maps"
	"reflect"
	"sync"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/zclconf/go-cty/cty"
)

// results are what earlier tasks left for the expressions of later ones. Readers get a map that is never written again.
type results struct {
	mu     sync.Mutex
	byName map[string]TaskResult
}

// view is the state of now.
func (r *results) view() map[string]TaskResult {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byName
}

// put adds what a task did on some hosts to what is known of it.
func (r *results) put(name string, hosts map[string]HostResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := maps.Clone(r.byName[name].Hosts)
	if all == nil {
		all = make(map[string]HostResult, len(hosts))
	}
	maps.Copy(all, hosts)
	byName := maps.Clone(r.byName)
	if byName == nil {
		byName = map[string]TaskResult{}
	}
	byName[name] = taskResult(all)
	r.byName = byName
}

// taskResult sums up hosts: the worst status that any has.
func taskResult(hosts map[string]HostResult) TaskResult {
	t := TaskResult{Status: event.Skipped, Hosts: hosts}
	for _, h := range hosts {
		t.Changed = t.Changed || h.Changed
		t.Failed = t.Failed || h.Failed
		t.Status = worse(t.Status, h.Status)
	}
	return t
}

// severity orders statuses from nothing to worst. No status at all is less than any.
var severity = map[event.Status]int{
	"": -1, event.Skipped: 0, event.OK: 1, event.Changed: 2, event.Deferred: 3, event.NotRun: 4, event.Cancelled: 5,
	event.Unreachable: 6, event.Refused: 7, event.Failed: 8,
}

func worse(a, b event.Status) event.Status {
	if severity[b] > severity[a] {
		return b
	}
	return a
}

// stepStatus adds a host to the status of a task. A task that ran on some hosts has run, though others had dropped out.
func stepStatus(step, host event.Status) event.Status {
	switch {
	case host == event.NotRun && (step == event.OK || step == event.Changed):
		return step
	case step == event.NotRun && (host == event.OK || host == event.Changed):
		return host
	default:
		return worse(step, host)
	}
}

func isFailure(s event.Status) bool { return severity[s] >= severity[event.Unreachable] }

// encode makes the outputs of a module a value. Those of a sensitive task carry the mark. Most hosts have the same
// outputs; those share a value.
func (n *node) encode(outputs any) cty.Value {
	same := reflect.ValueOf(outputs)
	sharable := same.Kind() == reflect.Struct && same.Comparable()
	n.mu.Lock()
	defer n.mu.Unlock()
	if sharable && n.encoded != nil && n.encoded.outputs == outputs {
		return n.encoded.value
	}
	v := n.task.Module.Outputs().Encode(outputs)
	if v != cty.NilVal && n.task.Sensitive {
		v = v.Mark(secret.Mark)
	}
	if sharable {
		n.encoded = &encoded{outputs, v}
	}
	return v
}

// encoded is a value that was made of outputs.
type encoded struct {
	outputs any
	value   cty.Value
}
