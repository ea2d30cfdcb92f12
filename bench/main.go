// Command bench compares pxrun with a client that does nothing but the work, and with other tools that are installed.
// It starts its own OpenSSH servers on loopback, so that nothing but this machine is measured, and prints medians and
// ratios. Only ratios within one run mean much: servers and clients share the processors.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		exit(worker(ctx, os.Args[2:]))
	}
	exit(compare(ctx))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// worker does one piece of work in a process of its own, whose time and memory the parent measures.
func worker(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("worker needs a farm, a way and a workload")
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var f farm
	if err := json.Unmarshal(data, &f); err != nil {
		return err
	}
	w, err := parseWorkload(args[2])
	if err != nil {
		return err
	}
	if profile := os.Getenv("BENCH_PROFILE"); profile != "" {
		out, err := os.Create(profile + "." + args[1])
		if err != nil {
			return err
		}
		defer out.Close()
		if err := pprof.StartCPUProfile(out); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if form, ok := strings.CutPrefix(args[1], "bare "); ok {
		return bare(ctx, &f, w, form)
	}
	return overTransport(ctx, &f, w)
}

// measure is one run.
type measure struct {
	wall, cpu time.Duration
	memory    int64 // KiB
}

func run(ctx context.Context, argv []string) (measure, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the benchmark's own command line
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	began := time.Now()
	err := cmd.Run()
	m := measure{wall: time.Since(began)}
	if err != nil {
		return m, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, lastLine(out.String()))
	}
	m.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	m.memory = maxRSS(cmd.ProcessState)
	return m, nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func median[T int64 | time.Duration](list []T) T {
	list = slices.Clone(list)
	slices.Sort(list)
	return list[len(list)/2]
}

func compare(ctx context.Context) error {
	hosts := flag.Int("hosts", 32, "hosts")
	rounds := flag.Int("rounds", 7, "rounds")
	flag.Parse()
	dir, err := os.MkdirTemp("", "pxrun-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f, err := newFarm(ctx, dir, "127.0.0.1", *hosts, nil)
	if err != nil {
		return err
	}
	defer f.stop()
	if err := f.ready(ctx); err != nil {
		return err
	}
	if err := f.save(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, w := range []workload{once(*hosts), twenty(*hosts), unchanged(*hosts)} {
		got := map[string][]measure{}
		ways := []string{"bare session", "bare shell", "bare batch", "transport"}
		for range *rounds {
			for _, way := range ways {
				m, err := run(ctx, []string{self, "worker", f.specFile(), way, w.key()})
				if err != nil {
					return err
				}
				got[way] = append(got[way], m)
			}
		}
		for _, way := range ways {
			var walls, cpus []time.Duration
			var mem []int64
			for _, m := range got[way] {
				walls, cpus, mem = append(walls, m.wall), append(cpus, m.cpu), append(mem, m.memory)
			}
			fmt.Printf("%-12s %-14s wall %6.0f ms  cpu %6.0f ms  mem %5.1f MiB\n", w.key(), way,
				median(walls).Seconds()*1000, median(cpus).Seconds()*1000, float64(median(mem))/1024)
		}
	}
	return nil
}
