package cli

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/sshx"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/spf13/pflag"
)

// networkOptions say which machines stand behind the addresses of the inventory.
type networkOptions struct {
	lab     bool
	speed   float64
	release string
	// rehearsal is a lab that is there already, clock its time.
	rehearsal *labAccess
	clock     engine.Clock
}

func (o *networkOptions) flags(f *pflag.FlagSet) {
	f.BoolVar(&o.lab, "lab", false, "use a simulated cluster made from the inventory: a running one (pxrun lab up), else one for this command alone")
	f.Float64Var(&o.speed, "lab-speed", defaultSpeed, "how many times faster than real time a lab for this command alone runs")
	f.StringVar(&o.release, "lab-pve", defaultRelease, "the version of Proxmox VE in a lab for this command alone")
}

// network connects to the hosts of a site, each once.
type network struct {
	site   *inventory.Site
	dialer *sshx.Dialer
	close  func() // of a lab made for this command; may be nil
	trace  *tracing

	mu    sync.Mutex
	conns map[string]transport.Conn
}

// network prepares connections; nothing is connected yet. With --lab only the way to dial differs, with one more key and
// one more file of known hosts.
func (a *app) network(ctx context.Context, doc *runbooks.Document, o networkOptions, note func(string)) (*network, error) {
	n := &network{site: doc.Site, conns: map[string]transport.Conn{}, trace: a.tracing()}
	cfg := sshx.Config{
		Site: doc.Site, DialContext: a.Dial, Home: a.Home, Agent: a.Env("SSH_AUTH_SOCK"), Note: note, Trace: a.traceDial,
	}
	if a.Home != "" {
		cfg.SSHConfigPath = filepath.Join(a.Home, ".ssh", "config")
	}
	if a.InTerminal {
		cfg.Prompt = func(_ context.Context, question string) (secret.String, error) {
			line, err := a.askSecret(question)
			return secret.New(line), err
		}
	}
	if o.lab {
		access, stop, err := o.rehearsal, func() {}, error(nil)
		if access == nil {
			access, stop, err = a.labFor(ctx, doc, o.release, o.speed)
		}
		if err != nil {
			return nil, err
		}
		n.close, n.site, cfg.Site = stop, access.site, access.site
		// The user's own keys and configuration have no business in the lab.
		cfg.Home, cfg.SSHConfigPath, cfg.Agent = "", "", ""
		cfg.DialContext = access.DialContext
		cfg.ExtraIdentities, cfg.ExtraKnownHosts = []string{access.IdentityFile}, []string{access.KnownHostsFile}
	}
	n.dialer = sshx.New(cfg)
	return n, nil
}

// dial makes a new connection to a host of the inventory.
func (n *network) dial(ctx context.Context, h inventory.Host) (transport.Conn, error) {
	if reached, ok := n.site.Host(h.Name); ok {
		h = reached
	}
	return n.dialer.Dial(ctx, h)
}

// look is dial for a command that makes no run, which would tell of its connections and commands by itself.
func (n *network) look(ctx context.Context, h inventory.Host) (transport.Conn, error) {
	began := time.Now()
	conn, err := n.dial(ctx, h)
	if err != nil {
		return nil, err
	}
	return n.trace.connected(h, conn, time.Since(began)), nil
}

// conn returns the connection to a host, and makes it first if there is none.
func (n *network) conn(ctx context.Context, name string) (transport.Conn, error) {
	n.mu.Lock()
	conn, ok := n.conns[name]
	n.mu.Unlock()
	if ok {
		return conn, nil
	}
	h, ok := n.site.Host(name)
	if !ok {
		return nil, invalid("%q is not a host of this site", name)
	}
	conn, err := n.look(ctx, h)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.conns[name] = conn
	n.mu.Unlock()
	return conn, nil
}

// Close closes all connections and a lab that was made for this command.
func (n *network) Close() error {
	var err error
	for _, conn := range n.conns {
		err = errors.Join(err, conn.Close())
	}
	n.dialer.Close()
	if n.close != nil {
		n.close()
	}
	return err
}
