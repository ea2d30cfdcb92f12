package sshx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"golang.org/x/crypto/ssh"
)

// bastion is the shared connection to a jump host, or the attempt to make it.
type bastion struct {
	done chan struct{}
	link *link
	err  error
}

// through opens a network connection by way of jump hosts.
func (d *Dialer) through(ctx context.Context, ep endpoint) (net.Conn, error) {
	for repeated := false; ; repeated = true {
		l, err := d.jump(ctx, ep.jump)
		if err != nil {
			return nil, err
		}
		c, err := l.client.DialContext(ctx, "tcp", ep.target())
		if err == nil {
			return c, nil
		}
		if _, refused := errors.AsType[*ssh.OpenChannelError](err); refused || ctx.Err() != nil || repeated {
			return nil, fmt.Errorf("by way of %s: %w", l.name, err)
		}
		l.giveUp() // the connection to the jump host is dead
	}
}

// jump returns the connection to the last of some jump hosts. All who want it at the same time share one attempt and
// its failure: a hundred hosts behind a dead bastion must not wait for it a hundred times.
func (d *Dialer) jump(ctx context.Context, hops []inventory.Host) (*link, error) {
	key := hopNames(hops)
	d.mu.Lock()
	b := d.bastions[key]
	if b == nil || b.spent() {
		b = &bastion{done: make(chan struct{})}
		d.bastions[key] = b
		d.wg.Go(func() {
			defer close(b.done)
			b.link, b.err = d.openBastion(d.ctx, hops)
		})
	}
	d.mu.Unlock()
	select {
	case <-b.done:
		return b.link, b.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// spent reports whether a new attempt must be made.
func (b *bastion) spent() bool {
	select {
	case <-b.done:
		return b.err != nil || !b.link.alive()
	default:
		return false
	}
}

// route completes the list of jump hosts: the first may itself be reached by way of others.
func (d *Dialer) route(hops []inventory.Host) ([]inventory.Host, error) {
	for len(hops) > 0 {
		first, err := resolve(hops[0], d.cfg, d.client)
		if err != nil {
			return nil, fmt.Errorf("jump host %s: %w", hops[0].Name, err)
		}
		if len(first.jump) == 0 {
			return hops, nil
		}
		for _, before := range first.jump {
			for _, after := range hops {
				if before.Name == after.Name {
					return nil, fmt.Errorf("the jump hosts lead in a circle: %s is reached by way of itself", before.Name)
				}
			}
		}
		hops = append(slices.Clone(first.jump), hops...)
	}
	return nil, nil
}

// openBastion logs in to the last of some hops by way of the others.
func (d *Dialer) openBastion(ctx context.Context, hops []inventory.Host) (*link, error) {
	last := hops[len(hops)-1]
	ep, err := resolve(last, d.cfg, d.client)
	if err != nil {
		return nil, &transport.UnreachableError{Host: last.Name, Phase: "configure", Cause: err, Hint: "correct the settings of the jump host"}
	}
	ep.jump = hops[:len(hops)-1]
	l, err := d.linkTo(ctx, ep)
	if err != nil {
		return nil, fmt.Errorf("jump host: %w", err)
	}
	return l, nil
}
