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
	for i, port := range f.Ports[:w.hosts] {
		h := inventory.Host{
			Name: fmt.Sprintf("host%d", i), Address: f.Address,
			SSH: inventory.SSH{User: "root", Port: port, IdentityFiles: []string{f.Identity}},
		}
		p.Go(func(ctx context.Context) error {
			c, err := d.Dial(ctx, h)
			if err != nil {
				return err
			}
			defer c.Close()
			return tasks(ctx, transport.NewPrefetch(c), w.tasks)
		})
	}
	return p.Wait()
}

// tasks works as the engine does: all checks ahead in one exchange, then each command with the next check behind it.
func tasks(ctx context.Context, c *transport.Prefetch, list []task) error {
	var checks []transport.Command
	for _, t := range list {
		if t.check != "" {
			checks = append(checks, transport.Command{Script: t.check})
		}
	}
	if err := c.Prefetch(ctx, checks); err != nil {
		return err
	}
	for i, t := range list {
		if t.check != "" {
			if _, err := c.Run(ctx, transport.Command{Script: t.check}); err != nil {
				return err
			}
		}
		if t.command == "" {
			continue
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
