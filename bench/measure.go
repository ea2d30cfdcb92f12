package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// measure is one run of one client. CPU is the client's, with its child processes.
type measure struct {
	wall, cpu time.Duration
	memory    int64 // KiB, the largest process
}

// run measures command lines that run one after the other.
func run(ctx context.Context, lines [][]string) (measure, error) {
	var m measure
	began := time.Now()
	for _, argv := range lines {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the benchmark's own command line
		out := &strings.Builder{}
		cmd.Stdout, cmd.Stderr = out, out
		err := cmd.Run()
		if err != nil {
			return m, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, tail(out.String()))
		}
		m.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		m.memory = max(m.memory, maxRSS(cmd.ProcessState))
	}
	m.wall = time.Since(began)
	return m, nil
}

func tail(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// series are the runs of one client in one row.
type series []measure

func (s series) median(of func(measure) float64) float64 {
	var list []float64
	for _, m := range s {
		list = append(list, of(m))
	}
	return median(list)
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	list = slices.Clone(list)
	slices.Sort(list)
	return list[len(list)/2]
}

// best is one run with the least of everything.
func (s series) best() series {
	least := s[0]
	for _, m := range s[1:] {
		least.wall, least.cpu, least.memory = min(least.wall, m.wall), min(least.cpu, m.cpu), min(least.memory, m.memory)
	}
	return series{least}
}

// ratio compares two clients run by run: what disturbs the machine for a while disturbs both.
func (s series) ratio(to series, of func(measure) float64) float64 {
	var list []float64
	for i := range min(len(s), len(to)) {
		list = append(list, of(s[i])/of(to[i]))
	}
	return median(list)
}

func wall(m measure) float64   { return m.wall.Seconds() }
func cpu(m measure) float64    { return m.cpu.Seconds() }
func memory(m measure) float64 { return float64(m.memory) / 1024 }
