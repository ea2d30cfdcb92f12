package lab

import (
	"context"
	"crypto/ed25519"
	cryptorand "crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sourcegraph/conc"
	"golang.org/x/crypto/ssh"

	"github.com/pxrun/pxrun/lab/bmc"
	"github.com/pxrun/pxrun/lab/ceph"
	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/lab/ha"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/storage"
)

// Lab is a simulated site. It is safe for concurrent use. Close it.
type Lab struct {
	spec  Spec
	clock clock.Clock
	net   *network
	world *cluster.World
	hosts []*host

	guests *guest.World
	ha     *ha.Site

	ceph *ceph.Model

	storage *storage.World
	bmcs    *bmc.Network

	clientKey    string // private, PEM
	clientPublic string // a line of authorized_keys
	scripts      machine.Scripts
	keys         machine.RSAKeys
	faults       faults
	writes       audit

	cancel context.CancelFunc
	ctx    context.Context //nolint:containedctx // ends with Close; the machines live in it
	wg     conc.WaitGroup

	mu      sync.Mutex
	access  Access
	control net.Listener
	done    chan struct{}
	closed  bool
}

// New builds the machines of a lab. Nothing can be reached before Start.
func New(spec Spec) (*Lab, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	spec = spec.withDefaults()
	l := &Lab{spec: spec, clock: clock.New(spec.Speed), done: make(chan struct{})}
	l.faults.random = rand.New(rand.NewPCG(spec.Seed, spec.Seed)) //nolint:gosec // decides about simulated faults
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.net = newNetwork(l.clock, machine.Path{RTT: spec.RTT, MTU: spec.MTU})
	l.world = cluster.NewWorld(cluster.Options{
		Clock: l.clock, Now: time.Now, Path: l.net.Path, Knet: l.net.knet, Find: l.net.Find, Interrupt: l.interrupt,
	})
	l.bmcs = bmc.NewNetwork(l.clock)
	l.storage = storage.New(l.ctx, l.world)
	l.ceph = ceph.New(l.world)
	l.storage.SetCeph(l.ceph)
	l.guests = guest.New(l.world, guest.Options{RAMSpeed: int64(spec.RAMSpeed) << 20, DiskSpeed: int64(spec.DiskSpeed) << 20})
	l.ha = ha.New(l.world, l.guests)
	l.guests.OnMoved(l.storage.GuestMoved)
	l.guests.StorageUsable(l.storage.Usable)
	l.guests.AddResources(l.storage.Resources)
	if err := l.makeKey(); err != nil {
		return nil, err
	}
	for i, h := range spec.Hosts {
		if err := l.addHost(i, h); err != nil {
			l.Close()
			return nil, fmt.Errorf("lab host %q: %w", h.Name, err)
		}
	}
	l.writes.begin()
	return l, nil
}

// makeKey makes the key that may log in everywhere.
func (l *Lab) makeKey() error {
	public, private, err := ed25519.GenerateKey(cryptorand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, "pxrun lab")
	if err != nil {
		return err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return err
	}
	l.clientKey = string(pem.EncodeToMemory(block))
	l.clientPublic = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " pxrun-lab"
	return nil
}

// Start opens a loopback port for each machine and serves SSH on it until Close.
func (l *Lab) Start(ctx context.Context) error {
	var config net.ListenConfig
	for _, h := range l.hosts {
		listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("lab host %q: %w", h.spec.Name, err)
		}
		h.setListener(listener)
		l.wg.Go(func() { h.serve(listener) })
	}
	return nil
}

// Dial connects to a machine: any port of an address or name leads to its sshd. A machine that is off or cut off from
// the outside is unreachable, one whose sshd does not run refuses.
func (l *Lab) Dial(ctx context.Context, networkName, addr string) (net.Conn, error) {
	h, err := l.arrive(ctx, networkName, addr)
	if err != nil {
		return nil, err
	}
	if h.listen() == "" {
		return nil, &net.OpError{Op: "dial", Net: networkName, Addr: textAddr(addr), Err: errors.New("the lab is not started")}
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", h.listen())
}

// Accept gives a machine's sshd a connection that came to it some other way than through its port: for a lab that is not
// started and whose network is in memory. It fails where Dial would, and the connection is then the caller's.
func (l *Lab) Accept(addr string, conn net.Conn) error {
	h, err := l.reach(conn.RemoteAddr().Network(), addr)
	if err != nil {
		return err
	}
	l.wg.Go(func() { h.server.ServeConn(l.ctx, conn) })
	return nil
}

// reach finds the machine to which a connection from outside leads.
func (l *Lab) reach(networkName, addr string) (*host, error) {
	name, _, err := net.SplitHostPort(addr)
	if err != nil {
		name = addr
	}
	fail := func(err error) error {
		return &net.OpError{Op: "dial", Net: networkName, Addr: textAddr(addr), Err: err}
	}
	h := l.net.host(name)
	switch {
	case h == nil:
		return nil, fail(fmt.Errorf("lookup %s: no such host in the lab", name))
	case !h.machine.Up() || h.isolated():
		return nil, fail(os.NewSyscallError("connect", syscall.EHOSTUNREACH))
	case !h.machine.Accepting() || h.refusing():
		return nil, fail(os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	return h, nil
}

// textAddr is an address that is only shown.
type textAddr string

func (a textAddr) Network() string { return "tcp" }
func (a textAddr) String() string  { return string(a) }

// Spec returns what the lab was made of, defaults filled in.
func (l *Lab) Spec() Spec { return l.spec }

// Clock is the lab's time.
func (l *Lab) Clock() clock.Clock { return l.clock }

// ClientKey returns the private key (PEM) that may log in everywhere.
func (l *Lab) ClientKey() []byte { return []byte(l.clientKey) }

// Machine returns a machine by name or address, or nil.
func (l *Lab) Machine(name string) *machine.Machine { return l.net.Find(name) }

// Node returns what a Proxmox node knows of its cluster now. ok is false for a host that is none.
func (l *Lab) Node(name string) (view cluster.View, ok bool) {
	n := l.world.Node(name)
	if n == nil {
		return cluster.View{}, false
	}
	return n.View(), true
}

// Storage is what the lab's hosts export, for tests that put something there.
func (l *Lab) Storage() *storage.World { return l.storage }

// Ceph is the model of the lab's Ceph clusters.
func (l *Lab) Ceph() *ceph.Model { return l.ceph }

// Nodes returns the views of all Proxmox nodes in the order of the spec.
func (l *Lab) Nodes() []cluster.View {
	var out []cluster.View
	for _, h := range l.hosts {
		if v, ok := l.Node(h.spec.Name); ok {
			out = append(out, v)
		}
	}
	return out
}

// Wait returns when the lab is closed or taken down over its control socket, or with ctx's error.
func (l *Lab) Wait(ctx context.Context) error {
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Lab) setAccess(a Access) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.access = a
}

// down lets Wait return.
func (l *Lab) down() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
	default:
		close(l.done)
	}
}

// Close cuts all connections, ends all machines and removes the files of Access. It may be called again.
func (l *Lab) Close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	access, control := l.access, l.control
	l.mu.Unlock()
	l.down()
	l.cancel()
	if control != nil {
		_ = control.Close()
	}
	for _, h := range l.hosts {
		h.close()
	}
	for _, h := range l.hosts {
		h.machine.Close()
	}
	l.clock.Close()
	l.wg.Wait()
	if access.Dir != "" {
		_ = access.remove() // a folder that is gone needs no cleaning
	}
}

// prefix gives an address a network: the /24 (or /64) around it.
func prefix(addr string) netip.Prefix {
	a := netip.MustParseAddr(addr) // checked by Validate
	if a.Is4() {
		return netip.PrefixFrom(a, 24)
	}
	return netip.PrefixFrom(a, 64)
}
