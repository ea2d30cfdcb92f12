package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What the row of status measures: a cluster as large as they get.
const (
	statusRow    = "status"
	statusRTT    = 5 * time.Millisecond
	statusNodes  = 32
	statusOSDs   = 200
	statusGuests = 1000
	// statusFar is a round trip beside which the noise of a busy machine is small: it tells how many there are.
	statusFar = 100 * time.Millisecond
)

// status measures `pxrun status` of a large cluster, formed by pxrun itself in a lab that another process serves.
func (r *report) status(ctx context.Context, dir string) error {
	o := r.options
	if o.program == "" || !strings.Contains(statusRow, o.only) || o.most < statusNodes {
		return nil
	}
	s := site{o.program, filepath.Join(dir, "large"), filepath.Join(dir, "large-state")}
	if err := os.Mkdir(s.path, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.path, "site.hcl"), []byte(largeSite()), 0o600); err != nil {
		return err
	}
	return s.inLab(ctx, func() error {
		l, err := openLab(s.state)
		if err != nil {
			return err
		}
		if err := l.addGuests(ctx); err != nil {
			return err
		}
		return r.measureStatus(ctx, l, s)
	})
}

// measureStatus looks at the cluster from here, from the distance of the target, and from far away, in turn.
func (r *report) measureStatus(ctx context.Context, l *bigLab, s site) error {
	distances := []time.Duration{0, statusRTT, statusFar}
	seen := map[time.Duration]site{0: s}
	for i, rtt := range distances[1:] {
		away, err := l.away(ctx, fmt.Sprintf("127.79.%d.1", i), rtt, fmt.Sprintf("%s-%s", s.state, rtt))
		if err != nil {
			return err
		}
		defer away.relay.close()
		seen[rtt] = site{s.program, s.path, away.state}
	}
	looks := map[time.Duration][]look{}
	for range r.options.rounds {
		for _, rtt := range distances {
			one, err := r.goodLook(ctx, l, seen[rtt])
			if err != nil {
				return err
			}
			looks[rtt] = append(looks[rtt], one)
		}
	}
	for _, rtt := range distances {
		fmt.Fprintf(r.out, "%-22s %-14s %s\n", fmt.Sprintf("status/%d at %s", statusNodes, rtt), "pxrun", summary(looks[rtt], r.options.best))
	}
	trips := func(rtt time.Duration, of func(look) float64) float64 {
		return (figure(looks[rtt], of, r.options.best) - figure(looks[0], of, r.options.best)) / rtt.Seconds()
	}
	r.note("status of %d nodes, %d guests, %d OSDs: %d exchange with each node (target: 1)", statusNodes, statusGuests, statusOSDs, looks[statusRTT][0].exchanges)
	for _, rtt := range distances[1:] {
		r.note("  from %s away: %.1f round trips over the nodes' own time (target: at most 3), %.1f with connecting and logging in", rtt, trips(rtt, asked), trips(rtt, lookWall))
	}
	if r.bad > 0 {
		r.note("  %d more looks were left out, in which the lab had not answered within the limit of a read", r.bad)
	}
	memory := figure(looks[statusRTT], lookMemory, r.options.best)
	r.note("  memory: %.1f MiB (target 40) %s", memory, verdict(memory <= 40))
	return nil
}

// look is one status.
type look struct {
	measure
	asked     time.Duration // the longest exchange with a node: the answer of the last one
	exchanges int           // the most that one node had
	lab       time.Duration // CPU of the lab meanwhile
}

func lookWall(l look) float64   { return wall(l.measure) }
func lookCPU(l look) float64    { return cpu(l.measure) }
func lookMemory(l look) float64 { return memory(l.measure) }
func asked(l look) float64      { return l.asked.Seconds() }
func labCPU(l look) float64     { return l.lab.Seconds() }

// figure is the median of a figure, or the least.
func figure(looks []look, of func(look) float64, best bool) float64 {
	var list []float64
	for _, l := range looks {
		list = append(list, of(l))
	}
	if best {
		return slices.Min(list)
	}
	return median(list)
}

func summary(looks []look, best bool) string {
	ms := func(of func(look) float64) float64 { return figure(looks, of, best) * 1000 }
	return fmt.Sprintf("%9.0f %9.0f %9.1f   all nodes had answered after %.0f ms; CPU of the lab %.0f ms", ms(lookWall), ms(lookCPU), figure(looks, lookMemory, best), ms(asked), ms(labCPU))
}

// goodLook looks until status finds nothing critical. The lab's time runs faster than ours, so that on a busy machine its
// nodes reach the limit of a read, which is told and not what is to be measured.
func (r *report) goodLook(ctx context.Context, l *bigLab, s site) (look, error) {
	const tries = 20
	for i := 1; ; i++ {
		one, err := l.look(ctx, s)
		if err == nil || i == tries || ctx.Err() != nil {
			return one, err
		}
		r.bad++
	}
}

// look runs status once. A status that finds something critical is an error.
func (l *bigLab) look(ctx context.Context, s site) (look, error) {
	log := filepath.Join(filepath.Dir(s.path), "status.log")
	if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
		return look{}, err
	}
	before := cpuOf(l.PID)
	m, err := run(ctx, s.pxrun("status", "-i", s.path, "--lab", "--log", log))
	if err != nil {
		return look{}, err
	}
	one := look{measure: m, lab: cpuOf(l.PID) - before}
	text, err := os.ReadFile(log)
	if err != nil {
		return look{}, err
	}
	exchanges := map[string]int{}
	for line := range strings.Lines(string(text)) {
		host, took, ok := exchange(line)
		if !ok {
			continue
		}
		exchanges[host]++
		one.exchanges = max(one.exchanges, exchanges[host])
		one.asked = max(one.asked, took)
	}
	if len(exchanges) != statusNodes {
		return look{}, fmt.Errorf("status asked %d nodes instead of %d", len(exchanges), statusNodes)
	}
	return one, nil
}

// exchange reads a line of the debug log that tells of an exchange with a host.
func exchange(line string) (host string, took time.Duration, ok bool) {
	if !strings.Contains(line, " msg=exchange ") {
		return "", 0, false
	}
	for _, word := range strings.Fields(line) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "host":
			host = value
		case "took":
			took, _ = time.ParseDuration(value)
		}
	}
	return host, took, host != ""
}

// largeSite is the inventory and the runbook of the cluster.
func largeSite() string {
	var b strings.Builder
	b.WriteString("cluster \"large\" {\n  ssh {\n    user = \"root\"\n  }\n")
	osds := 0
	for i := 1; i <= statusNodes; i++ {
		fmt.Fprintf(&b, "  node \"pve%d\" {\n    address = \"192.0.2.%d\"\n    links = [\"10.0.1.%d\", \"10.0.2.%d\"]\n    vars = { ceph = \"10.0.3.%d\" }\n    osds = [\n", i, 10+i, i, i, i)
		for ; osds < statusOSDs*i/statusNodes; osds++ {
			fmt.Fprintf(&b, "      { device = \"/dev/disk/by-id/ata-ACME_SSD_%d\" },\n", osds)
		}
		b.WriteString("    ]\n  }\n")
	}
	b.WriteString(`}
runbook "form" {
  cluster = cluster.large
  task "cluster_create" "create" {
    name = "large"
  }
  task "node_join" "join" {
    nodes = cluster.large.nodes
  }
  task "ceph_init" "ceph" {
    network    = "10.0.3.0/24"
    repository = "no-subscription"
    pool "vm" {
      storage = true
    }
  }
}
`)
	return b.String()
}

// bigLab is the running lab: what pxrun wrote down of it.
type bigLab struct {
	PID     int               `json:"pid"`
	Control string            `json:"control"`
	Listen  map[string]string `json:"listen"`
	file    string
	text    map[string]json.RawMessage
}

func openLab(state string) (*bigLab, error) {
	files, err := filepath.Glob(filepath.Join(state, "lab", "*", "lab.json"))
	if err != nil || len(files) != 1 {
		return nil, fmt.Errorf("%s holds %d labs", state, len(files))
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	l := &bigLab{file: files[0]}
	return l, errors.Join(json.Unmarshal(text, l), json.Unmarshal(text, &l.text))
}
