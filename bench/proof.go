package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/pxrun/pxrun/internal/pve/rolling"
	"github.com/pxrun/pxrun/internal/pve/rolling/synthetic"
)

const proofRow = "proof"

// proofs measures how long it takes to prove a rolling upgrade, and in how much memory: of pxrun's own work, nothing is read.
// The making of the cluster is in the figures.
func (r *report) proofs(ctx context.Context) error {
	if r.options.only != "" && r.options.only != proofRow {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, size := range []struct{ nodes, guests, milliseconds, mebibytes int }{{32, 1000, 500, 100}, {1000, 100_000, 10_000, 500}} {
		var proofs series
		for range r.options.rounds {
			m, err := run(ctx, [][]string{{self, proofRow, strconv.Itoa(size.nodes), strconv.Itoa(size.guests)}})
			if err != nil {
				return err
			}
			proofs = append(proofs, m)
		}
		if r.options.best {
			proofs = proofs.best()
		}
		met := proofs.median(wall)*1000 <= float64(size.milliseconds) && proofs.median(memory) <= float64(size.mebibytes)
		r.note("proof of a rolling upgrade of %d nodes with %d guests: %.0f ms, %.0f ms of CPU (target: under %d), %.0f MiB of memory (target: under %d) %s", size.nodes, size.guests,
			proofs.median(wall)*1000, proofs.median(cpu)*1000, size.milliseconds, proofs.median(memory), size.mebibytes, verdict(met))
	}
	return nil
}

// prove proves one, in a process of its own.
func prove(args []string) error {
	if len(args) != 2 {
		return errors.New("proof needs a number of nodes and one of guests")
	}
	nodes, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	guests, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if p := rolling.Prove(synthetic.Cluster(nodes, guests)); !p.Holds() {
		return fmt.Errorf("it does not fit: %s", p.Blocks[0])
	}
	return nil
}
