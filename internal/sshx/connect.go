package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"golang.org/x/crypto/ssh"
)

// The phases of connecting, as transport.UnreachableError names them.
const (
	phaseResolve      = "resolve"
	phaseConnect      = "connect"
	phaseHandshake    = "handshake"
	phaseHostKey      = "host key"
	phaseAuthenticate = "authenticate"
)

// attempt is one try to connect and log in.
func (d *Dialer) attempt(ctx context.Context, ep endpoint) (*link, error) {
	began := time.Now()
	var raw net.Conn
	var err error
	if len(ep.jump) > 0 {
		if raw, err = d.through(ctx, ep); err != nil {
			return nil, d.explainConnect(ctx, ep, err)
		}
	}
	select {
	case d.places <- struct{}{}:
		defer func() { <-d.places }()
	case <-ctx.Done():
		if raw != nil {
			_ = raw.Close()
		}
		return nil, ctx.Err()
	}
	h := &handshake{dialer: d, ep: ep}
	ctx, stop := h.bound(ctx)
	defer stop()
	if raw == nil {
		if raw, err = d.cfg.DialContext(ctx, "tcp", ep.target()); err != nil {
			return nil, d.explainConnect(ctx, ep, err)
		}
	}
	d.trace(ep.name, phaseConnect, began)
	began = time.Now()
	wire := newWireConn(raw)
	server, err := h.login(ctx, wire)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	d.trace(ep.name, phaseAuthenticate, began)
	return newLink(ep, server, wire, d.cfg.Keepalive, d.cfg.KeepaliveCount), nil
}

// handshake is one attempt from the first byte to the login.
type handshake struct {
	dialer  *Dialer
	ep      endpoint
	timer   *time.Timer
	trusted atomic.Bool // the host key was accepted

	mu     sync.Mutex
	pauses int
}

// errSlow is why a connection attempt is given up.
var errSlow = errors.New("no answer in time")

// errTurnedAway is a server that hangs up before it says anything.
var errTurnedAway = errors.New("the server closed the connection before the key exchange")

// bound limits the whole attempt, except the time that the user takes to answer.
func (h *handshake) bound(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	h.timer = time.AfterFunc(h.ep.timeout, func() { cancel(errSlow) })
	return ctx, func() {
		h.timer.Stop() // no pause can begin any more
		cancel(nil)
	}
}

// pause stops the clock while the user is asked something, or a key is opened. Pauses may nest.
func (h *handshake) pause() (resume func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pauses++
	h.timer.Stop()
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.pauses--; h.pauses == 0 {
			h.timer.Reset(h.ep.timeout)
		}
	}
}

// question asks the user, one question at a time over all hosts. It is nil when nobody can be asked.
func (h *handshake) question() ask {
	d := h.dialer
	if d.cfg.Prompt == nil {
		return nil
	}
	return func(ctx context.Context, prompt string) (secret.String, error) {
		defer h.pause()()
		d.prompting.Lock()
		defer d.prompting.Unlock()
		return d.cfg.Prompt(ctx, prompt)
	}
}

// login makes the SSH connection on an open network connection.
func (h *handshake) login(ctx context.Context, wire *wireConn) (*peer, error) {
	keys, err := h.dialer.hostKeys(h.ep)
	if err != nil {
		return nil, h.unreachable(phaseHostKey, err, "correct the file or the inventory")
	}
	offers, err := h.dialer.offers(ctx, h.ep, h.question(), h.pause)
	if err != nil {
		return nil, h.unreachable(phaseAuthenticate, err, "correct identity_file in the inventory")
	}
	try := &login{ctx: ctx, ep: h.ep, offers: offers, ask: h.question()}
	cut := context.AfterFunc(ctx, func() { _ = wire.Close() })
	conn, channels, requests, err := ssh.NewClientConn(wire, h.ep.target(), h.clientConfig(keys, try))
	if !cut() && err == nil {
		_ = conn.Close() // the limit struck at the last moment
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, h.explain(ctx, err, keys, try)
	}
	if o := try.accepted(); o != nil {
		h.dialer.keys.prefer(o.fingerprint())
	}
	return &peer{conn, channels, requests}, nil
}

// clientConfig prefers what is cheap: curve25519 and AES-GCM cost a fraction of the alternatives on both sides.
func (h *handshake) clientConfig(keys *hostKeyCheck, try *login) *ssh.ClientConfig {
	return &ssh.ClientConfig{
		Config: ssh.Config{
			KeyExchanges: []string{
				ssh.KeyExchangeCurve25519, ssh.KeyExchangeECDHP256, ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeECDHP384,
				ssh.KeyExchangeECDHP521, ssh.KeyExchangeDH14SHA256, ssh.KeyExchangeDH16SHA512,
			},
			Ciphers: []string{
				ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES128CTR, ssh.CipherAES192CTR,
				ssh.CipherAES256CTR,
			},
			MACs: []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM, ssh.HMACSHA256, ssh.HMACSHA512},
		},
		User:              h.ep.user,
		Auth:              try.methods(),
		HostKeyAlgorithms: keys.algorithms(),
		ClientVersion:     "SSH-2.0-pxrun",
		HostKeyCallback: func(name string, remote net.Addr, key ssh.PublicKey) error {
			if err := keys.check(name, remote, key); err != nil {
				return err
			}
			h.trusted.Store(true)
			return nil
		},
	}
}

func (h *handshake) unreachable(phase string, cause error, hint string) error {
	return &transport.UnreachableError{Host: h.ep.name, Phase: phase, Cause: cause, Hint: hint}
}

// explain turns a failed handshake into what happened and what to do.
func (h *handshake) explain(ctx context.Context, err error, keys *hostKeyCheck, try *login) error {
	phase := phaseHandshake
	if h.trusted.Load() {
		phase = phaseAuthenticate
	}
	if ctx.Err() != nil {
		if errors.Is(context.Cause(ctx), errSlow) {
			return h.unreachable(phase, fmt.Errorf("%w (%s)", errSlow, h.ep.timeout), "the host accepts connections but its SSH server does not answer: look at its load and its sshd")
		}
		return ctx.Err()
	}
	if bad, ok := errors.AsType[*HostKeyError](err); ok {
		return h.unreachable(phaseHostKey, bad, keys.hint(bad))
	}
	text := strings.TrimPrefix(err.Error(), "ssh: handshake failed: ")
	switch {
	case phase == phaseAuthenticate && strings.Contains(text, "unable to authenticate"):
		return h.unreachable(phase, fmt.Errorf("login as %s refused; offered: %s", h.ep.user, try.tried()),
			fmt.Sprintf("see whether `ssh -p %d %s@%s` works, and that the key stands in the user's authorized_keys", h.ep.port, h.ep.user, h.ep.address))
	case phase == phaseAuthenticate:
		return h.unreachable(phase, errors.New(text), "look at the log of sshd on the host")
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
		return h.unreachable(phase, fmt.Errorf("%w (%s)", errTurnedAway, text),
			"sshd does so after refused logins (PerSourcePenalties) and when too many log in at once (MaxStartups): wait a minute")
	case strings.Contains(text, "no common algorithm"):
		return h.unreachable(phase, errors.New(text), "the host's SSH server offers only algorithms that are no longer safe: update it")
	default:
		return h.unreachable(phase, errors.New(text), "see whether an SSH server listens there: nc "+h.ep.address+" "+fmt.Sprint(h.ep.port))
	}
}

// connectAdvice is what to do about a connection that could not be made, by what the network said.
func connectAdvice(ep endpoint, err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the host is up and nothing listens there: see whether sshd runs and on which port"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "nobody answers at that address: see whether the host has power (its console or management controller) and is on its network"
	case errors.Is(err, syscall.ENETUNREACH):
		return "this machine has no way into that network: ip route get " + ep.address
	case errors.Is(err, syscall.ETIMEDOUT):
		return fmt.Sprintf("see whether the host is up and no firewall drops port %d", ep.port)
	case errors.Is(err, syscall.ECONNRESET):
		return fmt.Sprintf("something on the way ends connections to port %d: look for a firewall or a proxy", ep.port)
	}
	return "see whether the host is up and the network path works"
}

// explainConnect tells why there is no network connection.
func (d *Dialer) explainConnect(ctx context.Context, ep endpoint, err error) error {
	make := func(phase string, cause error, hint string) error {
		return &transport.UnreachableError{Host: ep.name, Phase: phase, Cause: cause, Hint: hint}
	}
	if _, nested := errors.AsType[*transport.UnreachableError](err); nested {
		return make(phaseConnect, err, "reach the jump host first")
	}
	if errors.Is(context.Cause(ctx), errSlow) {
		return make(phaseConnect, fmt.Errorf("%s: %w (%s)", ep.target(), errSlow, ep.timeout), "see whether the host is up and no firewall drops port "+fmt.Sprint(ep.port))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, dns := errors.AsType[*net.DNSError](err); dns {
		return make(phaseResolve, err, "use an address that exists, or an IP address")
	}
	return make(phaseConnect, err, connectAdvice(ep, err))
}
