package engine

import (
	"slices"
	"sync"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
)

// record is what became of a task.
type record struct {
	n *node

	mu    sync.Mutex
	begun bool
	// announced says that the beginning of the task was told.
	announced bool
	start     time.Time
	reason    string // why it was not run, or not everywhere
	outcomes  map[string]*outcome
}

// outcome is what became of a task on a host.
type outcome struct {
	status  event.Status
	done    []made
	notDone []made
	err     error
	took    time.Duration
	result  HostResult
}

// made is a change for the summary.
type made struct{ host, summary string }

func (rec *record) put(host string, o *outcome) {
	rec.mu.Lock()
	rec.outcomes[host] = o
	rec.mu.Unlock()
}

// begin marks the task as begun.
func (rec *record) begin(now time.Time) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if !rec.begun {
		rec.begun, rec.start = true, now
	}
}

// announce reports whether the beginning of the task is still to be told: that it is left out on a host is no beginning.
func (rec *record) announce() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	first := !rec.announced
	rec.announced = true
	return first
}

func (rec *record) because(reason string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.reason == "" {
		rec.reason = reason
	}
}

// end closes an outcome with an error.
func (o *outcome) end(err error) {
	o.err, o.status = err, statusOf(err)
	o.result.Status, o.result.Error, o.result.Failed = o.status, err.Error(), isFailure(o.status)
}

// split tells the outcome of a task that runs once apart by host. A failure is that of the host whose change failed,
// or of all if nothing was being changed.
func (o *outcome) split(hosts []string) map[string]*outcome {
	parts := make(map[string]*outcome, len(hosts))
	culprit := ""
	if o.err != nil && len(o.notDone) > 0 {
		culprit = o.notDone[0].host
	}
	for _, h := range hosts {
		part := *o
		mine := func(all []made) []made {
			return slices.DeleteFunc(slices.Clone(all), func(m made) bool { return m.host != h })
		}
		part.done, part.notDone = mine(o.done), mine(o.notDone)
		switch {
		case o.err != nil && culprit != h && slices.Contains(hosts, culprit):
			part.status, part.err = event.OK, nil
			if len(part.notDone) > 0 {
				part.status = event.NotRun
			} else if len(part.done) > 0 {
				part.status = event.Changed
			}
		case o.err == nil && o.status == event.Changed && len(part.done) == 0:
			part.status = event.OK
		}
		parts[h] = &part
	}
	return parts
}

// promises are changes that are still to be made.
func promises(changes []module.Change) []made {
	all := make([]made, len(changes))
	for i, c := range changes {
		all[i] = made{c.Host, c.Summary}
	}
	return all
}
