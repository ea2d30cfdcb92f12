// Package sshd puts a real SSH server in front of a simulated machine. What it lets in is decided by the machine's own
// files (host keys, sshd_config, authorized_keys, shadow), read when they are needed: a login fails while the files are
// away, exactly as on a real node. What it runs are the machine's simulated programs.
package sshd

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pxrun/pxrun/lab/machine"
)

// Options change how a server behaves. The zero value is OpenSSH's default.
type Options struct {
	// Dial opens what a client forwards to through this machine (direct-tcpip). nil forbids forwarding.
	Dial func(ctx context.Context, host string, port int) (net.Conn, error)
	// OnConnect hears of each connection before the first byte; an error drops it.
	OnConnect func(ctx context.Context, remote net.Addr) error
	// OnAuth hears of each login that would be let in; an error refuses it.
	OnAuth func(ctx context.Context, user, method string) error
	// OnExec hears of each command before it starts; an error drops the connection. It may wait, until ctx ends.
	OnExec func(ctx context.Context, user, command string) error
	// Tag marks the processes of a session; nil uses an *Exec.
	Tag func(e Exec) any
	// Grace bounds a login in real time; 0 is two minutes.
	Grace time.Duration
	// MaxSessions bounds the sessions of one connection; 0 is 10.
	MaxSessions int
}

// Exec is one session as the machine's processes know it: the Tag of each of them is an *Exec.
type Exec struct {
	User    string
	Command string
	// Connection counts the server's connections, Session those of the connection.
	Connection, Session int
}

// Server serves one machine.
type Server struct {
	m   *machine.Machine
	opt Options

	mu        sync.Mutex
	conns     map[net.Conn]struct{}
	hang      chan struct{} // closed when connections need not wait
	refuse    bool
	noise     string
	penalties bool
	penalty   map[string]penalty
	count     int
	wg        sync.WaitGroup
}

// New makes a server for a machine. It also hears when the machine goes down, and drops its connections.
func New(m *machine.Machine, o Options) *Server {
	o.Grace = cmp.Or(o.Grace, 2*time.Minute)
	o.MaxSessions = cmp.Or(o.MaxSessions, 10)
	s := &Server{m: m, opt: o, conns: map[net.Conn]struct{}{}, hang: make(chan struct{}), penalties: true, penalty: map[string]penalty{}}
	close(s.hang)
	m.OnPower(func(up bool) {
		if !up {
			s.DropAll()
		}
	})
	return s
}

// Serve accepts connections until ctx ends or the listener is closed, then ends those that are open and waits for them.
// It closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.wg.Wait()
	defer s.DropAll()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		s.wg.Go(func() { s.ServeConn(ctx, conn) })
	}
}

// ServeConn serves one connection to its end and closes it.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(machine.SIGHUP)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	number, ok := s.admit(ctx, conn)
	if !ok {
		return
	}
	defer s.forget(conn)
	s.handshake(ctx, conn, number)
}

// admit decides whether a connection gets as far as the version line.
func (s *Server) admit(ctx context.Context, conn net.Conn) (number int, ok bool) {
	s.mu.Lock()
	if s.refuse || !s.m.Accepting() {
		s.mu.Unlock()
		reset(conn)
		return 0, false
	}
	s.conns[conn] = struct{}{}
	s.count++
	number = s.count
	hang := s.hang
	s.mu.Unlock()
	if !s.awaits(ctx, conn, hang) || s.banned(conn.RemoteAddr()) {
		s.forget(conn)
		return 0, false
	}
	return number, true
}

// awaits holds a connection while the server hangs.
func (s *Server) awaits(ctx context.Context, conn net.Conn, hang chan struct{}) bool {
	select {
	case <-hang:
	case <-ctx.Done():
		return false
	}
	if s.opt.OnConnect != nil {
		return s.opt.OnConnect(ctx, conn.RemoteAddr()) == nil
	}
	return true
}

// reset closes a connection so that the other side sees it refused rather than ended.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // then Close resets; if it cannot be set, the end is only milder
	}
	conn.Close()
}

func (s *Server) forget(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// DropAll cuts every connection, without a word to the other side.
func (s *Server) DropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		reset(conn)
	}
}

// Connections is how many are open.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Hang makes new connections wait for the server's first byte, or lets those that wait go on.
func (s *Server) Hang(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.hang:
		if on {
			s.hang = make(chan struct{})
		}
	default:
		if !on {
			close(s.hang)
		}
	}
}

// Refuse makes the server close new connections at once, as if it did not run.
func (s *Server) Refuse(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = on
}

// SetNoise makes every shell that a login starts print a text first, as a careless .bashrc does.
func (s *Server) SetNoise(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noise = text
}

// HostKeys are the public keys that clients may know. An RSA key that nobody has asked for yet is left out: making one
// takes a while.
func (s *Server) HostKeys() []ssh.PublicKey {
	var keys []ssh.PublicKey
	for _, signer := range s.m.HostKeys() {
		if key := signer.PublicKey(); key.Type() != ssh.KeyAlgoRSA {
			keys = append(keys, key)
		}
	}
	if len(keys) > 0 {
		return keys
	}
	for _, signer := range s.m.HostKeys() {
		keys = append(keys, signer.PublicKey())
	}
	return keys
}
