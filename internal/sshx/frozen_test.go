package sshx

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
)

// frost is a network whose connections can freeze: what is written goes nowhere in particular, and nothing comes back.
type frost struct {
	mu     sync.Mutex
	thawed chan struct{} // closed while not
}

type frostyConn struct {
	net.Conn
	f    *frost
	gone chan struct{}
	once sync.Once
}

func newFrost() *frost {
	f := &frost{thawed: make(chan struct{})}
	close(f.thawed)
	return f
}

func (f *frost) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.thawed = make(chan struct{})
}

func (f *frost) thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.thawed)
}

func (f *frost) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &frostyConn{Conn: c, f: f, gone: make(chan struct{})}, nil
}

// Read gives what comes, once it is not frozen.
func (c *frostyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.f.mu.Lock()
	thawed := c.f.thawed
	c.f.mu.Unlock()
	select {
	case <-thawed:
		return n, err
	case <-c.gone:
		return 0, net.ErrClosed
	}
}

func (c *frostyConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

func TestFrozenServerIsGivenUpByTheNextCommand(t *testing.T) {
	t.Parallel()
	s := newServer(t).serve()
	f := newFrost()
	c := connectTo(t, dialer(t, Config{DialContext: f.dial}, s), s.host())
	_, err := c.Run(t.Context(), transport.Command{Script: "echo warm"})
	require.NoError(t, err)
	f.freeze()
	_, err = c.Run(t.Context(), transport.Command{Script: "sleep 600", Mutates: true, Timeout: 100 * time.Millisecond})
	require.ErrorAs(t, err, new(*transport.TimeoutError))
	_, err = c.Run(t.Context(), transport.Command{Script: "echo back", Mutates: true})
	require.ErrorAs(t, err, new(*transport.UnreachableError))
	require.ErrorContains(t, err, "no sign of life")

	f.thaw()
	r, err := c.Run(t.Context(), transport.Command{Script: "echo back"})
	require.NoError(t, err, "it is connected anew")
	require.Equal(t, "back", r.Out())
	require.EqualValues(t, 2, s.connections.Load())
}

func TestServerThatSpeaksAgainIsNotGivenUp(t *testing.T) {
	t.Parallel()
	s := newServer(t).serve()
	f := newFrost()
	c := connectTo(t, dialer(t, Config{DialContext: f.dial}, s), s.host())
	_, err := c.Run(t.Context(), transport.Command{Script: "echo warm"})
	require.NoError(t, err)
	f.freeze()
	_, err = c.Run(t.Context(), transport.Command{Script: "sleep 600", Mutates: true, Timeout: 100 * time.Millisecond})
	require.ErrorAs(t, err, new(*transport.TimeoutError))
	f.thaw()
	r, err := c.Run(t.Context(), transport.Command{Script: "echo on"})
	require.NoError(t, err)
	require.Equal(t, "on", r.Out())
	require.EqualValues(t, 1, s.connections.Load())
}
