package main

import (
	"fmt"
	"strings"
)

// workload is what is done on every host, as a list of steps that a bare client sends one after the other.
type workload struct {
	name  string
	hosts int
	// steps are shell lines.
	steps []string
	// tasks are the same work for pxrun: a check that is not fulfilled, or is, and a command.
	tasks []task
}

type task struct {
	check, command string
}

// once runs true.
func once(hosts int) workload {
	return workload{name: "true", hosts: hosts, steps: []string{"true"}, tasks: []task{{command: "true"}}}
}

// twenty is a runbook of 20 tasks with a check and a command each.
func twenty(hosts int) workload {
	w := workload{name: "20 tasks", hosts: hosts}
	for i := range 20 {
		t := task{check: fmt.Sprintf("test -e /nonexistent-%d", i), command: "true"}
		w.tasks = append(w.tasks, t)
		w.steps = append(w.steps, t.check+" || "+t.command)
	}
	return w
}

// unchanged is 10 files and 5 commands that find everything as wanted.
func unchanged(hosts int) workload {
	w := workload{name: "unchanged", hosts: hosts}
	for i := range 10 {
		file := fileOf(i)
		w.steps = append(w.steps, fmt.Sprintf("stat -c '%%a %%U %%G' %s && sha256sum %s", file, file))
	}
	for i := range 5 {
		w.steps = append(w.steps, fmt.Sprintf("test -e %s", fileOf(i)))
	}
	for _, s := range w.steps {
		w.tasks = append(w.tasks, task{check: s})
	}
	return w
}

// fileOf names a file that exists on every Debian host.
func fileOf(i int) string {
	return []string{
		"/etc/passwd", "/etc/group", "/etc/hostname", "/etc/hosts", "/etc/profile", "/etc/shells", "/etc/fstab", "/etc/issue", "/etc/debian_version", "/etc/nsswitch.conf",
	}[i]
}

// parseWorkload reads "name/hosts".
func parseWorkload(s string) (workload, error) {
	name, count, _ := strings.Cut(s, "/")
	var hosts int
	if _, err := fmt.Sscan(count, &hosts); err != nil {
		return workload{}, fmt.Errorf("workload %q: %w", s, err)
	}
	for _, make := range []func(int) workload{once, twenty, unchanged} {
		if w := make(hosts); w.name == name {
			return w, nil
		}
	}
	return workload{}, fmt.Errorf("there is no workload %q", name)
}

// key is how a workload is named on a worker's command line.
func (w workload) key() string { return fmt.Sprintf("%s/%d", w.name, w.hosts) }
