package cli

import (
	"sync"

	"github.com/pxrun/pxrun/internal/transport"
)

// closers are connections that are closed together. It is safe for concurrent use.
type closers struct {
	mu    sync.Mutex
	conns []transport.Conn
}

func (c *closers) add(conn transport.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, conn)
}

func (c *closers) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close() // nothing was written over them
	}
}
