package sshx

import (
	"bufio"
	"net"
	"sync/atomic"
	"syscall"
)

// wireConn is the TCP connection below SSH. It reads through a buffer, because x/crypto takes the version line byte by
// byte, and it acknowledges at once while eager: sshd holds its answers back until its last packet is acknowledged, and
// a client with nothing to send acknowledges 40 ms late.
type wireConn struct {
	net.Conn
	r     *bufio.Reader
	raw   syscall.RawConn // nil for a connection through a jump host
	eager atomic.Bool
	heard atomic.Int64 // how many reads brought something
}

// versionBuffer is enough for a version line. What comes after it goes into x/crypto's own buffer.
const versionBuffer = 512

func newWireConn(c net.Conn) *wireConn {
	w := &wireConn{Conn: c, r: bufio.NewReaderSize(c, versionBuffer)}
	if sc, ok := c.(*net.TCPConn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			w.raw = raw
			w.eager.Store(true)
			quickACK(raw)
		}
	}
	return w
}

func (w *wireConn) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.heard.Add(1)
	}
	if w.eager.Load() {
		quickACK(w.raw)
	}
	return n, err
}

// relax ends the eagerness: the first command has run, and sshd has switched Nagle's algorithm off.
func (w *wireConn) relax() { w.eager.Store(false) }
