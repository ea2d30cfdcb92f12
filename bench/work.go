package main

import (
	"fmt"
	"os"
	"strings"
)

// workload is what is done on every host. The same work is written down for each kind of client.
type workload struct {
	name  string
	hosts int
	tasks []task
	files []string // that must have the content they have
}

// task is a check and a command that runs if the check succeeds; either may be empty.
type task struct {
	check, command string
}

// once runs true.
func once(hosts int) workload {
	return workload{name: "true", hosts: hosts, tasks: []task{{command: "true"}}}
}

// twenty is a runbook of 20 tasks with a check and a command each.
func twenty(hosts int) workload {
	w := workload{name: "tasks", hosts: hosts}
	for i := range 20 {
		w.tasks = append(w.tasks, task{check: fmt.Sprintf("test -d /tmp -a %d = %d", i, i), command: "true"})
	}
	return w
}

// unchanged is 10 files and 5 commands that find everything as wanted.
func unchanged(hosts int) workload {
	w := workload{name: "unchanged", hosts: hosts}
	for i := range 10 {
		w.files = append(w.files, fmt.Sprintf("wanted_%d", i))
	}
	for i := range 5 {
		w.tasks = append(w.tasks, task{check: fmt.Sprintf("test -d /nonexistent-%d", i), command: "true"})
	}
	return w
}

// prepare writes the files of a workload: 1 KiB each, the same for every server, since all are on this machine.
func (w workload) prepare(f *farm) error {
	for i, name := range w.files {
		if err := os.WriteFile(f.path(name), []byte(strings.Repeat(fmt.Sprintf("line %02d of a file\n", i), 54)), 0o644); err != nil { //nolint:gosec // not secret
			return err
		}
	}
	return nil
}

// steps is the work as shell lines, each of which exits with 0.
func (w workload) steps(f *farm) []string {
	var list []string
	for _, name := range w.files {
		list = append(list, fmt.Sprintf("stat -c '%%a %%U %%G' %s && sha256sum %s", f.path(name), f.path(name)))
	}
	for _, t := range w.tasks {
		line := t.command
		if t.check != "" {
			line = "if " + t.check + "; then " + t.command + "; fi"
		}
		list = append(list, line)
	}
	return list
}

// parseWorkload reads what key wrote.
func parseWorkload(s string) (workload, error) {
	name, count, _ := strings.Cut(s, "/")
	var hosts int
	if _, err := fmt.Sscan(count, &hosts); err != nil {
		return workload{}, fmt.Errorf("workload %q: %w", s, err)
	}
	for _, kind := range []func(int) workload{once, twenty, unchanged} {
		if w := kind(hosts); w.name == name {
			return w, nil
		}
	}
	return workload{}, fmt.Errorf("there is no workload %q", name)
}

// key is how a workload is named on a worker's command line.
func (w workload) key() string { return fmt.Sprintf("%s/%d", w.name, w.hosts) }
