package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pxrun/pxrun/lab/machine"
)

// connection is one authenticated client.
type connection struct {
	server   *Server
	net      net.Conn
	ssh      *ssh.ServerConn
	user     machine.User
	number   int
	sessions atomic.Int32
	opened   atomic.Int32
	wg       sync.WaitGroup
}

// handshake logs a client in and serves it.
func (s *Server) handshake(ctx context.Context, conn net.Conn, number int) {
	c, err := s.authConfig(ctx, conn.RemoteAddr())
	if err != nil {
		return
	}
	_ = conn.SetDeadline(time.Now().Add(s.opt.Grace)) // a connection without deadlines is closed by ctx
	client, channels, requests, err := ssh.NewServerConn(conn, c)
	if err != nil {
		var refused *ssh.ServerAuthError
		if errors.As(err, &refused) {
			s.penalise(conn.RemoteAddr())
		}
		return
	}
	_ = conn.SetDeadline(time.Time{})
	u, ok := s.m.User(client.User())
	if !ok {
		client.Close()
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	k := &connection{server: s, net: conn, ssh: client, user: u, number: number}
	k.wg.Go(func() { k.global(requests) })
	k.serve(ctx, channels)
	cancel(machine.SIGHUP)
	client.Close()
	k.wg.Wait()
}

// global answers global requests: a keepalive gets its failure, which is an answer too.
func (k *connection) global(requests <-chan *ssh.Request) {
	for r := range requests {
		if r.WantReply {
			_ = r.Reply(false, nil) // a connection that broke ends the loop by itself
		}
	}
}

func (k *connection) serve(ctx context.Context, channels <-chan ssh.NewChannel) {
	for c := range channels {
		switch c.ChannelType() {
		case "session":
			if int(k.sessions.Add(1)) > k.server.opt.MaxSessions {
				k.sessions.Add(-1)
				_ = c.Reject(ssh.ConnectionFailed, "open failed")
				continue
			}
			k.wg.Go(func() {
				defer k.sessions.Add(-1)
				k.session(ctx, c)
			})
		case "direct-tcpip":
			k.wg.Go(func() { k.forward(ctx, c) })
		default:
			_ = c.Reject(ssh.UnknownChannelType, "unknown channel type")
		}
	}
}

// forward connects a channel with something else, which is how jump hosts work.
func (k *connection) forward(ctx context.Context, c ssh.NewChannel) {
	var to struct {
		Host   string
		Port   uint32
		Origin string
		From   uint32
	}
	if err := ssh.Unmarshal(c.ExtraData(), &to); err != nil {
		_ = c.Reject(ssh.ConnectionFailed, "bad request")
		return
	}
	if k.server.opt.Dial == nil || !readConfig(k.server.m).yes("allowtcpforwarding", true) {
		_ = c.Reject(ssh.Prohibited, "administratively prohibited: open failed")
		return
	}
	out, err := k.server.opt.Dial(ctx, to.Host, int(to.Port))
	if err != nil {
		_ = c.Reject(ssh.ConnectionFailed, fmt.Sprintf("Connection refused (%v)", err))
		return
	}
	defer out.Close()
	channel, requests, err := c.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	stop := context.AfterFunc(ctx, func() { out.Close(); channel.Close() })
	defer stop()
	k.wg.Go(func() { ssh.DiscardRequests(requests) })
	back := make(chan struct{})
	k.wg.Go(func() {
		defer close(back)
		_, _ = io.Copy(channel, out) // either end breaking ends both
		_ = channel.CloseWrite()
	})
	_, _ = io.Copy(out, channel)
	if half, ok := out.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	} else {
		out.Close()
	}
	<-back
}

// peers are the addresses of a connection as SSH_CONNECTION shows them.
func (k *connection) peers() (local, peer netip.AddrPort) {
	peer = addrPort(k.net.RemoteAddr())
	local = netip.AddrPortFrom(netip.IPv4Unspecified(), 22)
	if list := k.server.m.Addresses(); len(list) > 0 {
		local = netip.AddrPortFrom(list[0], 22)
	}
	return local, peer
}

func addrPort(a net.Addr) netip.AddrPort {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPortFrom(netip.IPv6Loopback(), 0)
	}
	return p
}
