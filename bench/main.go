// Command bench compares pxrun with a client that does nothing but the work, and with other tools that are installed.
// It starts its own OpenSSH servers on loopback, so that nothing but this machine is measured, and prints medians and
// ratios. Only ratios within one run mean much: servers and clients share the processors.
//
// The bare client does the same work in three forms: a session for each step, one shell that gets step after step, and
// everything as one command. "transport" is pxrun's connection without its language and engine.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		err = worker(ctx, os.Args[2:])
	} else if len(os.Args) > 1 && os.Args[1] == proofRow {
		err = prove(os.Args[2:])
	} else {
		err = compare(ctx, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// worker does one workload in a process of its own, whose time and memory the parent measures.
func worker(ctx context.Context, args []string) (err error) {
	if len(args) != 3 {
		return errors.New("worker needs a farm, a way and a workload")
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
		out, err := os.Create(profile + "." + strings.ReplaceAll(args[1], " ", "_")) //nolint:gosec // the caller's own file
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
	if args[1] == "OpenSSH mux" {
		return mux(ctx, &f, w)
	}
	return overTransport(ctx, &f, w)
}

// options are the command line.
type options struct {
	program string
	rounds  int
	most    int
	best    bool
	peers   bool
	only    string
	site    string
	rtt     time.Duration
}

func compare(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.program, "pxrun", "./pxrun", "the built program; without it only the transport is measured")
	flags.IntVar(&o.rounds, "rounds", 5, "how often each client does each workload")
	flags.IntVar(&o.most, "hosts", 100, "leave out rows with more hosts")
	flags.BoolVar(&o.best, "best", false, "judge by the best round instead of the median: for a machine that has other work")
	flags.BoolVar(&o.peers, "peers", true, "measure other tools that are installed")
	flags.DurationVar(&o.rtt, "rtt", 10*time.Millisecond, "round trip of the row at a distance")
	flags.StringVar(&o.only, "only", "", "measure only the rows whose name contains this text")
	flags.StringVar(&o.site, "site", "examples/three-nodes/site.hcl", "the site that is planned a second time in a lab")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if !has(o.program) {
		fmt.Fprintf(os.Stderr, "bench: %s is not there: make build\n", o.program)
		o.program = ""
	}
	var err error
	if o.program != "" {
		if o.program, err = filepath.Abs(o.program); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "pxrun-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &report{out: os.Stdout, options: o}
	r.header()
	if err := measureAll(ctx, o, dir, r); err != nil {
		return err
	}
	r.targets()
	return nil
}

// measureAll measures what the options ask for.
func measureAll(ctx context.Context, o options, dir string, r *report) error {
	if err := r.proofs(ctx); err != nil {
		return err
	}
	if o.only == proofRow {
		return nil
	}
	if o.only != statusRow && o.only != upgradeRow {
		if err := measureFarm(ctx, o, dir, r); err != nil {
			return err
		}
		if err := r.planning(ctx, dir); err != nil {
			return err
		}
	}
	if err := r.upgrades(ctx, dir); err != nil {
		return err
	}
	return r.status(ctx, dir)
}

// measureFarm measures on loopback, and then at a distance.
func measureFarm(ctx context.Context, o options, dir string, r *report) error {
	var rows []workload
	most := 0
	for _, w := range []workload{once(10), once(32), once(100), twenty(10), twenty(32), twenty(100), unchanged(10), unchanged(32)} {
		if w.hosts <= o.most {
			rows, most = append(rows, w), max(most, w.hosts)
		}
	}
	f, err := newFarm(ctx, dir, netip.MustParseAddr("127.77.0.2"), most)
	if err != nil {
		return err
	}
	defer f.stop()
	if err := f.ready(ctx); err != nil {
		return err
	}
	for _, w := range rows {
		if err := r.row(ctx, f, w, w.key()); err != nil {
			return err
		}
	}
	if err := far(ctx, o, f, r); err != nil {
		return err
	}
	return r.single(ctx, f)
}

// far measures at a distance.
func far(ctx context.Context, o options, f *farm, r *report) error {
	w := twenty(10)
	if w.hosts > len(f.Addresses) {
		return nil
	}
	relay, away, err := newRelay(ctx, f, netip.MustParseAddr("127.78.0.2"), o.rtt)
	if err != nil {
		return err
	}
	defer relay.close()
	known, err := os.ReadFile(f.KnownHosts)
	if err != nil {
		return err
	}
	away.Dir = filepath.Join(f.Dir, "away")
	away.KnownHosts = away.path("known_hosts")
	if err := os.Mkdir(away.Dir, 0o700); err != nil {
		return err
	}
	if err := away.describe(strings.ReplaceAll(string(known), "[127.77.", "[127.78.")); err != nil {
		return err
	}
	return r.row(ctx, away, w, w.key()+" at "+o.rtt.String())
}
