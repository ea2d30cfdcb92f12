package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pxrun/pxrun/internal/testkit/distance"
	"github.com/sourcegraph/conc"
)

// relay stands for distance: it passes TCP connections on, and every byte half a round trip late. A new connection costs
// a whole one, as the handshake of TCP does.
type relay struct {
	rtt       time.Duration
	listeners []net.Listener
	cancel    context.CancelFunc
	wg        conc.WaitGroup
}

// newRelay listens on addresses from first on, one for each server of the farm, and returns a farm that looks the same
// from further away.
func newRelay(ctx context.Context, f *farm, first netip.Addr, rtt time.Duration) (*relay, *farm, error) {
	r := &relay{rtt: rtt}
	ctx, r.cancel = context.WithCancel(ctx)
	away := *f
	away.Addresses, away.servers = nil, nil
	address := first
	for _, server := range f.Addresses {
		if _, err := r.listen(ctx, fmt.Sprintf("%s:%d", address, f.Port), fmt.Sprintf("%s:%d", server, f.Port)); err != nil {
			r.close()
			return nil, nil, err
		}
		away.Addresses = append(away.Addresses, address.String())
		address = address.Next()
	}
	return r, &away, nil
}

// listen passes on what connects to one address, and returns that address with its port.
func (r *relay) listen(ctx context.Context, at, server string) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
	if err != nil {
		return "", err
	}
	r.listeners = append(r.listeners, l)
	r.wg.Go(func() { r.accept(ctx, l, server) })
	return l.Addr().String(), nil
}

func (r *relay) close() {
	r.cancel()
	for _, l := range r.listeners {
		_ = l.Close()
	}
	r.wg.Wait()
}

func (r *relay) accept(ctx context.Context, l net.Listener, server string) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.connect(ctx, client, server) })
	}
}

func (r *relay) connect(ctx context.Context, client net.Conn, server string) {
	time.Sleep(r.rtt)
	far, err := (&net.Dialer{}).DialContext(ctx, "tcp", server)
	if err != nil {
		_ = client.Close()
		return
	}
	stop := context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = far.Close()
	})
	defer stop()
	distance.Join(far, client, r.rtt)
}
