package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// planning measures what it takes to plan a site that is as it should be: the example's cluster, formed in a lab that
// another process serves. The time is that of the planning process alone, the wall time with the lab's answers.
func (r *report) planning(ctx context.Context, dir string) error {
	o := r.options
	if o.program == "" || o.only != "" {
		return nil
	}
	path, err := filepath.Abs(o.site)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		r.note("planning was not measured: %s is not there", o.site)
		return nil
	}
	s := site{o.program, path, filepath.Join(dir, "planning")}
	return s.inLab(ctx, func() error {
		var plans series
		for range o.rounds {
			m, err := run(ctx, s.pxrun("plan", path, "--lab", "--detailed-exitcode")) // which fails if anything is left to do
			if err != nil {
				return fmt.Errorf("the second plan of %s: %w", o.site, err)
			}
			plans = append(plans, m)
		}
		r.note("planning the example again: %.0f ms of pxrun's own time (target: under 1000), %.0f ms with the lab's answers", plans.median(cpu)*1000, plans.median(wall)*1000)
		return nil
	})
}
