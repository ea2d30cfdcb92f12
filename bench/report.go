package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
)

// report prints rows as they are measured, and the targets at the end.
type report struct {
	out     io.Writer
	options options
	rows    map[string]map[string]series
	notes   []string
	bad     int // looks of status that count for nothing
}

func (r *report) header() {
	fmt.Fprintf(r.out, "%-22s %-14s %9s %9s %9s %9s   %s\n", "workload/hosts", "client", "wall ms", "CPU ms", "MiB", "× session", "× shell, × batch")
}

// row measures one workload with every client, in turn, so that all see the same machine.
func (r *report) row(ctx context.Context, f *farm, w workload, name string) error {
	if !strings.Contains(name, r.options.only) {
		return nil
	}
	if err := w.prepare(f); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	got := map[string]series{}
	var order []string
	for round := range r.options.rounds {
		for _, c := range ways(self, r.options.program) {
			lines := c.argv(f, w)
			if lines == nil || c.peer && (round > 0 || !r.options.peers) {
				continue
			}
			m, err := run(ctx, lines)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", name, c.name, err)
			}
			if round == 0 {
				order = append(order, c.name)
			}
			got[c.name] = append(got[c.name], m)
		}
	}
	if r.options.best {
		for c, s := range got {
			got[c] = s.best()
		}
	}
	if r.rows == nil {
		r.rows = map[string]map[string]series{}
	}
	r.rows[name] = got
	for _, c := range order {
		s := got[c]
		fmt.Fprintf(r.out, "%-22s %-14s %9.0f %9.0f %9.1f %9.2f   %.2f, %.2f\n", name, c, s.median(wall)*1000, s.median(cpu)*1000, s.median(memory),
			s.ratio(got["bare session"], wall), s.ratio(got["bare shell"], wall), s.ratio(got["bare batch"], wall))
	}
	return nil
}

// single measures what is no comparison: giant output and the start of the program.
func (r *report) single(ctx context.Context, f *farm) error {
	if r.options.program == "" || r.options.only != "" {
		return nil
	}
	w := once(1)
	w.tasks[0].command = oneGigabyte
	lines := pxrun(r.options.program, f, w)
	lines[0][len(lines[0])-1] = oneGigabyte
	m, err := run(ctx, lines)
	if err != nil {
		return err
	}
	r.note("1 GB of output of one command: %.1f s, %.1f MiB of memory", m.wall.Seconds(), memory(m))
	var starts series
	for range 5 {
		m, err := run(ctx, [][]string{{r.options.program, "version"}})
		if err != nil {
			return err
		}
		starts = append(starts, m)
	}
	r.note("pxrun version: %.0f ms (target: under 20)", starts.median(wall)*1000)
	return nil
}

func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// targets holds the figures against what pxrun promises.
func (r *report) targets() {
	fmt.Fprintln(r.out)
	for _, line := range r.notes {
		fmt.Fprintln(r.out, line)
	}
	for _, t := range []struct {
		row, client, to string
		of              func(measure) float64
		unit            string
		limit           float64
	}{
		{"true/32", "pxrun", "bare session", wall, "wall", 1.15},
		{"true/100", "pxrun", "bare session", wall, "wall", 1.15},
		{"true/32", "pxrun", "bare session", cpu, "CPU", 1.5},
		{"true/100", "pxrun", "bare session", cpu, "CPU", 1.5},
		{"tasks/32", "pxrun", "bare shell", wall, "wall", 1.3},
		{"tasks/10 at " + r.options.rtt.String(), "pxrun", "bare shell", wall, "wall", 1.3},
		{"unchanged/32", "pxrun", "bare batch", wall, "wall", 1.3},
	} {
		row := r.rows[t.row]
		for _, client := range []string{t.client, "transport"} {
			if len(row[client]) == 0 {
				continue
			}
			ratio := row[client].ratio(row[t.to], t.of)
			fmt.Fprintf(r.out, "%-20s %-10s %s × %s: %.2f (target %.2f) %s\n", t.row, client, t.unit, t.to, ratio, t.limit, verdict(ratio <= t.limit))
		}
	}
	if s := r.rows["tasks/100"]["pxrun"]; len(s) > 0 {
		fmt.Fprintf(r.out, "%-20s %-10s memory: %.1f MiB (target 40) %s\n", "tasks/100", "pxrun", s.median(memory), verdict(s.median(memory) <= 40))
	}
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}

// oneGigabyte is a command that prints 1 GB in lines.
const oneGigabyte = "yes 0123456789012345678901234567890123456789012345678 | head -c 1000000000"
