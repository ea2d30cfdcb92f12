package module

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
