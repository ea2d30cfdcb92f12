package machine

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/vfs"
)

// Machine is one simulated host. It is safe for concurrent use. Close it.
type Machine struct {
	// FS is the machine's file system.
	FS *vfs.Tree

	disk    *vfs.Mem // the root file system
	dev     *vfs.Mem
	proc    *procFS
	opt     Options
	scripts *Scripts
	network Network
	clock   clock.Clock
	ownTime bool // the clock is ours to close

	procs    processes
	units    units
	packages packages
	journal  journal
	locks    locks
	forks    atomic.Int64
	wg       sync.WaitGroup

	mu         sync.Mutex
	lookups    lookups
	programs   map[string]Program
	builtins   map[string]builtin // never changes
	interfaces []Interface
	skew       time.Duration
	random     *rand.Rand
	power      power
	rebooting  bool // the shutdown that goes on ends in a boot
	bootID     string
	bootedAt   time.Duration
	onPower    []func(up bool)
	onBoot     func(ctx context.Context) (Boot, error)
	endBoot    func()
	broken     map[string]string // units whose start fails, with the reason
	beforeExec []func(ctx context.Context, p *Proc) (code int, handled bool)
	closed     bool
	ports      []int // open, besides sshd's
}

// Options describe a machine to be made. Only Name is needed.
type Options struct {
	// Name is the host name without domain.
	Name   string
	Domain string
	// Network joins it to others. nil is a machine alone.
	Network Network
	// Clock is used without a Network; nil is real time.
	Clock      clock.Clock
	Interfaces []Interface
	// Seed makes boot ids, keys and the like repeatable.
	Seed uint64
	// Wall is the time of day; nil is time.Now. Skew is added to it.
	Wall func() time.Time
	Skew time.Duration
	// Kernel is what uname -r says. CPUs and Memory (bytes) are what /proc shows.
	Kernel string
	CPUs   int
	Memory int64
	// CPUModel is the processors' name; "" is one of the lab's. CPULevel is the x86-64 level whose flags they have: 1 to 4, 0 is 3.
	CPUModel string
	CPULevel int
	// Codename and Release are of Debian: "trixie", "13".
	Codename, Release string
	// RootPassword is for password logins; "" locks them.
	RootPassword string
	// Disk limits the bytes of all files together; 0 is no limit.
	Disk int64
	// BootTime and ShutdownTime are how long the parts of a reboot take, in model time.
	BootTime, ShutdownTime time.Duration
	// Packages are installed from the beginning, besides the base system's.
	Packages []Package
	// Scripts keeps what has been parsed; nil is one for this machine alone.
	Scripts *Scripts
	// Keys makes the RSA keys of sshd; nil is one for this machine alone.
	Keys *RSAKeys
}

func (o *Options) setDefaults() {
	if o.Domain == "" {
		o.Domain = "example.com"
	}
	if o.Wall == nil {
		o.Wall = time.Now
	}
	if o.Kernel == "" {
		o.Kernel = "6.17.2-1-pve"
	}
	if o.CPUs == 0 {
		o.CPUs = 4
	}
	if o.Memory == 0 {
		o.Memory = 16 << 30
	}
	if o.CPUModel == "" {
		o.CPUModel = "Lab CPU"
	}
	if o.CPULevel == 0 {
		o.CPULevel = 3
	}
	if o.Scripts == nil {
		o.Scripts = &Scripts{}
	}
	if o.Keys == nil {
		o.Keys = &RSAKeys{}
	}
	if o.Codename == "" {
		o.Codename, o.Release = "trixie", "13"
	}
	if o.BootTime == 0 {
		o.BootTime = 40 * time.Second
	}
	if o.ShutdownTime == 0 {
		o.ShutdownTime = 8 * time.Second
	}
}

// New makes a running machine with the base system of a Debian server.
func New(o Options) *Machine {
	o.setDefaults()
	m := &Machine{opt: o, scripts: o.Scripts, network: o.Network, skew: o.Skew, interfaces: slices.Clone(o.Interfaces)}
	seed := sha256.Sum256(fmt.Appendf(nil, "%d %s", o.Seed, o.Name))
	m.random = rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:]), binary.LittleEndian.Uint64(seed[8:])))
	switch {
	case o.Clock != nil:
		m.clock = o.Clock
	case o.Network != nil:
		m.clock = o.Network.Clock()
	default:
		m.clock, m.ownTime = clock.New(1), true
	}
	m.procs.all = map[int]*process{}
	m.locks.held, m.locks.wait = map[string]*openFile{}, make(chan struct{})
	m.bootID = m.uuid()
	m.bootedAt = m.clock.Elapsed() - time.Duration(m.random.Int64N(int64(72*time.Hour))) - time.Hour
	m.power = running

	m.disk = vfs.NewMem(m.Now)
	m.FS = vfs.NewTree(m.disk)
	m.programs, m.builtins = map[string]Program{}, builtinTable()
	m.installBase()
	m.disk.SetLimit(o.Disk)
	return m
}

// Close ends every process and waits for it. The machine must not be used afterwards.
func (m *Machine) Close() {
	m.mu.Lock()
	m.closed = true
	m.power = off
	if m.endBoot != nil {
		m.endBoot()
	}
	m.mu.Unlock()
	m.killAll()
	if m.ownTime {
		m.clock.Close()
	}
	m.wg.Wait()
}

// Name is the host name.
func (m *Machine) Name() string {
	content, err := m.FS.ReadFile("/proc/sys/kernel/hostname")
	if err != nil {
		return m.opt.Name
	}
	return string(content[:len(content)-1])
}

// Clock is the model's time.
func (m *Machine) Clock() clock.Clock { return m.clock }

// Network is what joins the machine to others; nil if nothing does.
func (m *Machine) Network() Network { return m.network }

// Now is the time of day as this machine believes it to be.
func (m *Machine) Now() time.Time {
	m.mu.Lock()
	skew := m.skew
	m.mu.Unlock()
	return m.opt.Wall().Add(skew)
}

// Skew is how far the machine's clock is ahead.
func (m *Machine) Skew() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.skew
}

// SetSkew sets the machine's clock ahead (or behind) by d.
func (m *Machine) SetSkew(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.skew = d
}

// Kernel is the running kernel's version.
func (m *Machine) Kernel() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.opt.Kernel
}

// SetKernel sets the version that runs after the next boot (and that uname shows at once if the machine is off).
func (m *Machine) SetKernel(version string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opt.Kernel = version
}

// Interfaces returns the network interfaces but the loopback.
func (m *Machine) Interfaces() []Interface {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.interfaces)
}

// SetInterfaces replaces the network interfaces.
func (m *Machine) SetInterfaces(list []Interface) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.interfaces = slices.Clone(list)
}

// SetInterfaceDown takes an interface down or up and reports whether there is one of that name.
func (m *Machine) SetInterfaceDown(name string, down bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.interfaces {
		if m.interfaces[i].Name == name {
			m.interfaces[i].Down = down
			return true
		}
	}
	return false
}

// Addresses are those of all interfaces that are up, in order.
func (m *Machine) Addresses() []netip.Addr {
	var list []netip.Addr
	for _, i := range m.Interfaces() {
		for _, prefix := range i.Addrs {
			if !i.Down {
				list = append(list, prefix.Addr())
			}
		}
	}
	return list
}

// Owns reports whether an address is one of the machine's own, the loopback included.
func (m *Machine) Owns(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, i := range m.interfaces {
		if !i.Down && slices.ContainsFunc(i.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return true
		}
	}
	return false
}

// Uptime is the model time since boot.
func (m *Machine) Uptime() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clock.Elapsed() - m.bootedAt
}

// BootID is /proc/sys/kernel/random/boot_id.
func (m *Machine) BootID() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bootID
}

// uuid makes a random UUID. The lock is held, or the machine is not yet shared.
func (m *Machine) uuid() string {
	a, b := m.random.Uint64(), m.random.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, 0x8000|b>>48&0x3fff, b&0xffffffffffff)
}

// Random fills b from the machine's seeded source. It is not for secrets.
func (m *Machine) Random(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range b {
		b[i] = byte(m.random.Uint32())
	}
}

// Sleep waits on the model's clock, as a program that sleeps does.
func (m *Machine) Sleep(ctx context.Context, d time.Duration) error { return m.clock.Sleep(ctx, d) }

// SetDiskLimit bounds what all files may hold together, to simulate a full disk. 0 is no limit.
func (m *Machine) SetDiskLimit(bytes int64) { m.disk.SetLimit(bytes) }

// Disk is the root file system.
func (m *Machine) Disk() *vfs.Mem { return m.disk }
