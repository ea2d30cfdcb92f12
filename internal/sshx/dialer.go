// Package sshx connects to hosts over SSH and implements transport.Conn on them: one connection per host, commands
// through a few persistent remote shells with framed output, reconnection for what only reads. It knows nothing of
// what the commands mean.
package sshx

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/sourcegraph/conc"
)

// Config is what a Dialer needs to know of the world.
type Config struct {
	// Site gives the hosts that are named as jump hosts. May be nil.
	Site *inventory.Site
	// DialContext opens network connections; nil means the real network.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Home is the folder in which ~/.ssh lies. Empty means that no personal file is used.
	Home string
	// User is the login name where neither the inventory nor ssh_config has one; empty means root.
	User string
	// SSHConfigPath is the OpenSSH client configuration; empty means none.
	SSHConfigPath string
	// ExtraIdentities are key files to offer first. ExtraKnownHosts are read besides each host's own.
	ExtraIdentities, ExtraKnownHosts []string
	// Agent is the socket of an SSH agent; empty means none.
	Agent string
	// Prompt asks the user for a passphrase, a password or an answer, hidden. One question is asked at a time. nil means
	// that nobody can be asked.
	Prompt func(ctx context.Context, prompt string) (secret.String, error)
	// Note receives, once each, things that the user should know: an ssh_config line without effect, a new host key.
	Note func(text string)
	// Trace receives the steps of connecting, and every exchange with a connected host, with the time they took.
	Trace func(host, event string, took time.Duration)
	// Parallel bounds the connections that are being made at once; 0 means 128.
	Parallel int
	// Keepalive is the pause between two signs of life (0: 15 s); KeepaliveCount how many may be missing (0: 3).
	Keepalive      time.Duration
	KeepaliveCount int
}

// Dialer makes connections. It shares among them the keys, the known hosts, and the connections to jump hosts.
type Dialer struct {
	cfg      Config
	client   clientConfig
	broken   error // the ssh_config that could not be read
	keys     keyring
	known    knownFiles
	refusals refusals
	places   chan struct{}

	accepting sync.Mutex // writes to known_hosts
	prompting sync.Mutex // questions to the user

	mu       sync.Mutex
	noted    []string
	bastions map[string]*bastion
	closed   bool
	ctx      context.Context // ends with the dialer: jump hosts outlive the call that dialled them
	cancel   context.CancelFunc
	wg       conc.WaitGroup
}

// New prepares a Dialer. Nothing is connected before Dial. Close it.
func New(cfg Config) *Dialer {
	if cfg.Parallel <= 0 {
		cfg.Parallel = 128
	}
	if cfg.Keepalive <= 0 {
		cfg.Keepalive = 15 * time.Second
	}
	if cfg.KeepaliveCount <= 0 {
		cfg.KeepaliveCount = 3
	}
	if cfg.DialContext == nil {
		cfg.DialContext = (&net.Dialer{}).DialContext
	}
	d := &Dialer{
		cfg: cfg, keys: keyring{socket: cfg.Agent, patience: agentPatience}, places: make(chan struct{}, cfg.Parallel), bastions: map[string]*bastion{},
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	var notes []string
	d.client, notes, d.broken = loadClientConfig(cfg.SSHConfigPath, cfg.Home)
	for _, n := range notes {
		d.note(n)
	}
	return d
}

// Dial connects to a host and logs in. The connection must be closed; Close of the Dialer does not do it.
func (d *Dialer) Dial(ctx context.Context, h inventory.Host) (transport.Conn, error) {
	c := newConn(d, h)
	if _, err := c.live(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Close closes the connections to jump hosts and to the agent.
func (d *Dialer) Close() {
	d.cancel()
	d.wg.Wait()
	d.mu.Lock()
	d.closed = true
	open := d.bastions
	d.bastions = map[string]*bastion{}
	d.mu.Unlock()
	for _, b := range open {
		if b.link != nil {
			b.link.close()
		}
	}
	d.keys.close()
}

// note tells the user something once.
func (d *Dialer) note(text string) {
	d.mu.Lock()
	known := slices.Contains(d.noted, text)
	if !known {
		d.noted = append(d.noted, text)
	}
	d.mu.Unlock()
	if !known && d.cfg.Note != nil {
		d.cfg.Note(text)
	}
}

func (d *Dialer) trace(host, event string, since time.Time) {
	if d.cfg.Trace != nil {
		d.cfg.Trace(host, event, time.Since(since))
	}
}

// link makes a live connection to a host.
func (d *Dialer) link(ctx context.Context, h inventory.Host) (*link, error) {
	name := h.Name
	if name == "" {
		name = h.Address
	}
	if d.broken != nil {
		return nil, &transport.UnreachableError{Host: name, Phase: "configure", Cause: d.broken, Hint: "correct the file, or set no_config in the inventory"}
	}
	ep, err := resolve(h, d.cfg, d.client)
	if err == nil {
		ep.jump, err = d.route(ep.jump)
	}
	if err != nil {
		return nil, &transport.UnreachableError{Host: name, Phase: "configure", Cause: err, Hint: "correct the ssh settings of the host"}
	}
	return d.linkTo(ctx, ep)
}

// linkTo logs in, and again after a pause if a login that has worked before is refused: a node that joins a cluster
// knows no keys for some seconds.
func (d *Dialer) linkTo(ctx context.Context, ep endpoint) (*link, error) {
	id := ep.user + "@" + ep.target()
	for try := 0; ; try++ {
		if err := d.refusals.wait(ctx, id); err != nil {
			return nil, err
		}
		l, err := d.attempt(ctx, ep)
		if err == nil {
			d.refusals.welcome(id)
			return l, nil
		}
		if !isRefusal(err) || !d.refusals.refused(id, errors.Is(err, errTurnedAway)) || try == moreTries {
			return nil, err
		}
	}
}

// isRefusal reports whether the server has turned us away, rather than the network.
func isRefusal(err error) bool {
	e, ok := errors.AsType[*transport.UnreachableError](err)
	return ok && (e.Phase == phaseAuthenticate || e.Phase == phaseHandshake && errors.Is(err, errTurnedAway))
}

// hopNames joins the names of jump hosts to the key under which their connection is shared.
func hopNames(hops []inventory.Host) string {
	names := make([]string, len(hops))
	for i, h := range hops {
		names[i] = h.Name
	}
	return strings.Join(names, ",")
}
