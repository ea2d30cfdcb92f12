package main

import (
	"context"
	"fmt"

	"github.com/pxrun/pxrun/internal/sshx"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/sourcegraph/conc/pool"
)

// overTransport does the work through pxrun's connections, without its language and engine.
func overTransport(ctx context.Context, f *farm, w workload) error {
	d := sshx.New(sshx.Config{ExtraKnownHosts: []string{f.KnownHosts}, Parallel: 1000})
	defer d.Close()
	p := pool.New().WithContext(ctx)
	reads, list := w.probes(f)
	for _, address := range f.Addresses[:w.hosts] {
		h := inventory.Host{
			Name: address, Address: address, SSH: inventory.SSH{User: "root", Port: f.Port, IdentityFiles: []string{f.Identity}},
		}
		p.Go(func(ctx context.Context) error {
			c, err := d.Dial(ctx, h)
			if err != nil {
				return err
			}
			defer c.Close()
			return work(ctx, transport.NewPrefetch(c), reads, list)
		})
	}
	return p.Wait()
}

// probes are the reads of a workload, and its tasks.
func (w workload) probes(f *farm) ([]transport.Command, []task) {
	var reads []transport.Command
	for _, name := range w.files {
		reads = append(reads, transport.Command{Script: fmt.Sprintf("stat -c '%%a %%U %%G' %s && sha256sum %s", f.path(name), f.path(name))})
	}
	return reads, w.tasks
}

// work does what the engine does: all checks ahead in one exchange, then each command with the next check behind it.
func work(ctx context.Context, c *transport.Prefetch, reads []transport.Command, list []task) error {
	for _, t := range list {
		if t.check != "" {
			reads = append(reads, transport.Command{Script: t.check})
		}
	}
	if err := c.Prefetch(ctx, reads); err != nil {
		return err
	}
	for i, t := range list {
		if t.check != "" {
			r, err := c.Run(ctx, transport.Command{Script: t.check})
			if err != nil {
				return err
			}
			if r.Exit != 0 {
				continue
			}
		}
		if i+1 < len(list) && list[i+1].check != "" {
			c.Follow([]transport.Command{{Script: list[i+1].check}})
		}
		r, err := c.Run(ctx, transport.Command{Script: t.command, Mutates: true})
		if err != nil {
			return err
		}
		if r.Exit != 0 {
			return fmt.Errorf("%s: exit %d", t.command, r.Exit)
		}
	}
	return nil
}
