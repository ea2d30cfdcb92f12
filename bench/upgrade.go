package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/snapshot/synthetic"
)

// What the row of upgrades measures: planning one of a large cluster, by the whole command line, and rehearsing one in which a
// single node is behind.
const (
	upgradeRow   = "upgrade"
	planTarget   = 500 // milliseconds of pxrun's own time
	upgradeNodes = 32
)

var (
	allBehind = synthetic.Size{Nodes: upgradeNodes, Guests: 1000, HA: 100, Behind: upgradeNodes}
	oneBehind = synthetic.Size{Nodes: upgradeNodes, Guests: 1000, HA: 100, Behind: 1}
)

// upgrades measures `pxrun plan rolling_upgrade` against a lab that another process serves, and `pxrun rehearse`, which serves its
// own.
func (r *report) upgrades(ctx context.Context, dir string) error {
	o := r.options
	if o.program == "" || !strings.Contains(upgradeRow, o.only) || o.most < upgradeNodes {
		return nil
	}
	dir = filepath.Join(dir, upgradeRow)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := r.planUpgrade(ctx, dir); err != nil {
		return err
	}
	return r.rehearseUpgrade(ctx, dir)
}

// planUpgrade plans the upgrade of all nodes.
func (r *report) planUpgrade(ctx context.Context, dir string) (err error) {
	s := site{r.options.program, filepath.Join(dir, "site.hcl"), filepath.Join(dir, "state")}
	if err := os.WriteFile(s.path, []byte(synthetic.Inventory(allBehind)), 0o600); err != nil {
		return err
	}
	file, err := writeSnapshot(dir, "all", allBehind)
	if err != nil {
		return err
	}
	if _, err := run(ctx, s.pxrun("lab", "up", "--detach", "-i", s.path, "--snapshot", file, "--speed", "1")); err != nil {
		return err
	}
	defer func() {
		within, done := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer done()
		_, down := run(within, s.pxrun("lab", "down", "-i", s.path))
		err = errors.Join(err, down)
	}()
	var plans series
	for range r.options.rounds {
		m, err := run(ctx, s.pxrun("plan", "rolling_upgrade", "-i", s.path, "--lab", "--arg", "containers=restart_container"))
		if err != nil {
			return err
		}
		plans = append(plans, m)
	}
	if r.options.best {
		plans = plans.best()
	}
	took := plans.median(cpu) * 1000
	r.note("plan of a rolling upgrade of %d nodes with %d guests, by the command line, connecting and reading included: %.0f ms of CPU (target: under %d) %s; %.0f ms of wall time with the lab's answers, %.0f MiB",
		allBehind.Nodes, allBehind.Guests, took, planTarget, verdict(took < planTarget), plans.median(wall)*1000, plans.median(memory))
	return nil
}

// rehearseUpgrade rehearses the upgrade of one node, once. The lab is in the same process, and does most of the work.
func (r *report) rehearseUpgrade(ctx context.Context, dir string) error {
	s := site{r.options.program, "", filepath.Join(dir, "state")}
	file, err := writeSnapshot(dir, "one", oneBehind)
	if err != nil {
		return err
	}
	m, err := run(ctx, s.pxrun("rehearse", "--snapshot", file, "--arg", "containers=restart_container", "--arg", "soak=0s"))
	if err != nil {
		return err
	}
	r.note("rehearsal of the upgrade of one node in such a cluster: %.1f s, %.1f s of CPU, %.0f MiB, all of the simulation included", wall(m), cpu(m), memory(m))
	return nil
}

func writeSnapshot(dir, name string, size synthetic.Size) (file string, err error) {
	file = filepath.Join(dir, name+".json")
	f, err := os.Create(file) //nolint:gosec // in the benchmark's own folder
	if err != nil {
		return "", fmt.Errorf("the snapshot: %w", err)
	}
	return file, errors.Join(synthetic.Cluster(size).Write(f), f.Close())
}
