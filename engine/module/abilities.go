package module

import "context"

// Companions is a Target that knows the whole of its task: for a module that works on each host alone and has to mind the others.
type Companions interface {
	// TaskHosts are the names of all hosts that the task is for, those that have failed included.
	TaskHosts() []string
}

// Teller is a Target that shows results.
type Teller interface {
	// Tell reports what the user ran the task for, such as a measured time. It is shown whatever the verbosity, unless that is
	// quiet, and it is no warning.
	Tell(host, text string)
}

// TaskHosts are the names of all hosts that a task is for, as far as the target knows.
func TaskHosts(t Target) []string {
	if c, ok := t.(Companions); ok {
		return c.TaskHosts()
	}
	var names []string
	for _, h := range t.Hosts() {
		names = append(names, h.Name)
	}
	return names
}

// Tell reports a result, in the log where the target shows none.
func Tell(t Target, host, text string) {
	if teller, ok := t.(Teller); ok {
		teller.Tell(host, text)
		return
	}
	t.Log(host, text)
}

// Guarded is a Target that knows whether something may still be begun.
type Guarded interface {
	// GoOn is why nothing more may be begun on a host; nil if it may.
	GoOn(ctx context.Context, host string) error
}

// GoOn is why nothing more may be begun on a host: the run was told to stop, or it cannot be proved that no other one is at work. A change
// that waits before it takes a host down asks right before it does.
func GoOn(ctx context.Context, t Target, host string) error {
	if g, ok := t.(Guarded); ok {
		return g.GoOn(ctx, host)
	}
	return nil
}
