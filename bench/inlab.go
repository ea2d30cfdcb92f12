package main

import (
	"context"
	"errors"
	"time"
)

// site is a folder or file with a runbook, and the state folder of the pxrun that works on it.
type site struct{ program, path, state string }

// pxrun is a command line of one command.
func (s site) pxrun(words ...string) [][]string {
	return [][]string{append([]string{s.program, "--state-dir", s.state}, words...)}
}

// inLab applies a site in a lab that another process serves, does something with it, and takes the lab down.
func (s site) inLab(ctx context.Context, do func() error) (err error) {
	if _, err := run(ctx, s.pxrun("lab", "up", "--detach", s.path)); err != nil {
		return err
	}
	defer func() {
		within, done := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer done()
		_, down := run(within, s.pxrun("lab", "down", "-i", s.path))
		err = errors.Join(err, down)
	}()
	if _, err := run(ctx, s.pxrun("apply", s.path, "--lab", "--auto-approve")); err != nil {
		return err
	}
	return do()
}
