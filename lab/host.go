package lab

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/pxrun/pxrun/lab/bmc"
	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/disk"
	"github.com/pxrun/pxrun/lab/hardware"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/sshd"
	"github.com/pxrun/pxrun/lab/storage"
	"github.com/pxrun/pxrun/lab/updates"
	"github.com/pxrun/pxrun/lab/vfs"
)

// host is one machine of a lab with its SSH server.
type host struct {
	lab     *Lab
	spec    HostSpec
	machine *machine.Machine
	disks   *disk.Disks     // of a Proxmox node
	bmc     *bmc.Controller // nil without one
	bonds   *hardware.Bonds
	chrony  *hardware.Chrony
	updates *updates.Node
	loader  *hardware.Loader // of a Proxmox node
	server  *sshd.Server
	// codename is Debian's, "" being the newest.
	codename string

	mu       sync.Mutex
	listener net.Listener
	refused  bool
	files    []*vfs.Fault // of the machine's tree
}

// addHost builds one machine.
func (l *Lab) addHost(number int, spec HostSpec) error {
	h := &host{lab: l, spec: spec}
	options := machine.Options{
		Name: spec.Name, Network: l.net, Interfaces: spec.interfaces(l.spec.MTU), Seed: l.spec.Seed + uint64(number),
		Skew: spec.Skew, CPUs: spec.CPUs, Memory: int64(spec.MemoryMiB) << 20, RootPassword: spec.RootPassword,
		CPUModel: spec.CPUModel, CPULevel: spec.CPULevel, BootTime: spec.BootTime,
	}
	var release cluster.Release
	if spec.PVE != "" {
		var err error
		if release, err = cluster.ReleaseOf(spec.PVE); err != nil {
			return err
		}
		options.Kernel, options.Codename, options.Release = cmp.Or(spec.Kernel, release.Kernel), release.Codename, release.Debian
		for _, p := range release.Packages {
			options.Packages = append(options.Packages, machine.Package{Name: p.Name, Version: p.Version})
		}
	} else {
		options.Kernel = "6.12.57+deb13-amd64"
	}
	options.Scripts, options.Keys = &l.scripts, &l.keys
	h.machine = machine.New(options)
	l.hosts = append(l.hosts, h)
	l.net.change(func(n *network) {
		n.hosts[spec.Name] = h
		for _, addr := range spec.addresses() {
			n.hosts[addr] = h
		}
	})
	h.server = sshd.New(h.machine, sshd.Options{Dial: h.forward})
	h.codename = options.Codename
	h.server.SetPenalties(h.penalises(h.codename))
	h.machine.OnPower(func(bool) { l.world.NetworkChanged() })
	h.machine.OnBoot(h.boot)
	h.machine.BeforeExec(func(ctx context.Context, p *machine.Proc) (int, bool) {
		failure, handled := l.beforeProgram(ctx, spec.Name, p.Argv)
		if handled && failure.text != "" {
			fmt.Fprintln(p.Stderr, failure.text)
		}
		if handled {
			return failure.exit, true
		}
		return 0, false
	})
	l.writes.watch(h.machine)
	if err := h.accounts(); err != nil {
		return err
	}
	return h.software(release)
}

// penalises reports whether the host's OpenSSH closes connections of addresses whose logins it refused: since 9.8, which
// Debian 12 has not.
func (h *host) penalises(codename string) bool { return codename != "bookworm" }

// interfaces gives the host one interface for its address and one for each further link.
func (h HostSpec) interfaces(mtu int) []machine.Interface {
	if h.MTU != 0 {
		mtu = h.MTU
	}
	var out []machine.Interface
	for _, one := range h.Interfaces {
		i := machine.Interface{Name: one.Name, MTU: cmp.Or(one.MTU, mtu)}
		for _, a := range one.Addresses {
			i.Addrs = append(i.Addrs, netip.MustParsePrefix(a)) // validated
		}
		out = append(out, i)
	}
	if len(out) > 0 { // the machine's name resolves to its first address
		slices.SortStableFunc(out, func(a, b machine.Interface) int { return h.distance(a) - h.distance(b) })
		return out
	}
	for i, addr := range h.addresses() {
		out = append(out, machine.Interface{Name: fmt.Sprintf("vmbr%d", i), MTU: mtu, Addrs: []netip.Prefix{prefix(addr)}})
	}
	for _, name := range h.Bridges {
		if !slices.ContainsFunc(out, func(i machine.Interface) bool { return i.Name == name }) {
			out = append(out, machine.Interface{Name: name, MTU: mtu})
		}
	}
	return out
}

// distance is 0 for the interface that has the host's main address.
func (h HostSpec) distance(i machine.Interface) int {
	if slices.ContainsFunc(i.Addrs, func(p netip.Prefix) bool { return p.Addr().String() == h.Address }) {
		return 0
	}
	return 1
}

// mtuOf is the MTU of the interface that has an address.
func (h *host) mtuOf(addr string) int {
	for _, one := range h.machine.Interfaces() {
		for _, p := range one.Addrs {
			if p.Addr().String() == addr && one.MTU > 0 {
				return one.MTU
			}
		}
	}
	return 65536
}

// accounts lets the lab's key into root's account and those of the spec.
func (h *host) accounts() error {
	if h.spec.PVE == "" {
		if err := h.authorize("/root", 0, 0); err != nil {
			return err
		}
	}
	for i, u := range h.spec.Users {
		sudo := map[string]machine.SudoRule{"password": machine.SudoPassword, "nopasswd": machine.SudoNoPassword}[u.Sudo]
		account := machine.User{Name: u.Name, UID: 1000 + i, GID: 1000 + i, Password: u.Password, Sudo: sudo}
		if err := h.machine.AddUser(account); err != nil {
			return err
		}
		if err := h.authorize("/home/"+u.Name, account.UID, account.GID); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) authorize(home string, uid, gid int) error {
	fs, dir := h.machine.FS, home+"/.ssh"
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := fs.WriteFile(dir+"/authorized_keys", []byte(h.lab.clientPublic+"\n"), 0o600); err != nil {
		return err
	}
	for _, name := range []string{dir, dir + "/authorized_keys"} {
		if err := fs.Chown(name, uid, gid); err != nil {
			return err
		}
	}
	return nil
}

// software puts Proxmox on the machine where the spec says so, and the packages of QDevices.
func (h *host) software(release cluster.Release) error {
	l := h.lab
	packages := []machine.Package{l.world.ArbiterPackage(h.machine), l.bmcs.Package(h.machine)}
	if h.spec.BMC != nil {
		h.bmc = l.bmcs.Add(h.machine, *h.spec.BMC)
	}
	if h.spec.PVE != "" {
		var err error
		if h.loader, err = hardware.InstallLoader(h.machine, h.spec.ESP); err != nil {
			return err
		}
		node, err := l.world.Install(l.ctx, cluster.NodeOptions{
			Machine: h.machine, Release: release, Address: netip.MustParseAddr(h.spec.Address), Domain: "example.com",
			CPUs: h.spec.CPUs, Memory: int64(h.spec.MemoryMiB) << 20, AuthorizedKeys: []string{l.clientPublic},
		})
		if err != nil {
			return err
		}
		packages = append(packages, node.DevicePackage())
		if h.disks, err = disk.New(h.machine, h.spec.Disks); err != nil {
			return err
		}
		if err := l.ceph.Attach(node, h.disks); err != nil {
			return err
		}
		if _, err := l.guests.Install(node); err != nil {
			return err
		}
		if _, err := l.ha.Install(node); err != nil {
			return err
		}
		l.storage.Attach(node, storage.NodeOptions{
			Pools: h.spec.Pools, Groups: h.spec.Groups,
			Fault: h.fileFault,
		})
	}
	if err := l.storage.Serve(l.ctx, h.machine, h.spec.Exports); err != nil {
		return err
	}
	if err := h.surroundings(release); err != nil {
		return err
	}
	if err := h.installUpdates(l.ctx, h.machine.Kernel()); err != nil {
		return err
	}
	if err := h.kernels(); err != nil {
		return err
	}
	h.machine.Offer(packages...)
	wanted := map[string]bool{}
	for _, name := range h.spec.Packages {
		wanted[name] = true
	}
	for _, p := range packages {
		if !wanted[p.Name] {
			continue
		}
		delete(wanted, p.Name)
		if err := h.machine.Install(l.ctx, p); err != nil {
			return err
		}
	}
	for name := range wanted {
		if err := h.machine.Install(l.ctx, machine.Package{Name: name, Version: "1.0-1"}); err != nil {
			return err
		}
	}
	return h.addGuests()
}

// surroundings gives the machine its clock, its bonds, and a node its repositories.
func (h *host) surroundings(release cluster.Release) error {
	var err error
	if h.chrony, err = hardware.InstallChrony(h.lab.ctx, h.machine); err != nil {
		return err
	}
	if h.bonds, err = hardware.InstallBonds(h.machine, h.spec.Bonds); err != nil {
		return err
	}
	if h.spec.PVE != "" {
		if err = hardware.InstallInterfaces(h.machine); err != nil {
			return err
		}
		if _, err = hardware.InstallRepositories(h.machine, release.Codename, h.spec.Subscription); err == nil {
			err = h.sources()
		}
	}
	return err
}

// sources replaces the files that apt reads by those of the spec.
func (h *host) sources() error {
	if len(h.spec.Sources) == 0 {
		return nil
	}
	const dir = "/etc/apt/sources.list.d"
	fs := h.machine.FS
	list, err := fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range list {
		if err := fs.Remove(dir + "/" + entry.Name); err != nil {
			return err
		}
	}
	_ = fs.Remove("/etc/apt/sources.list") // newer installations have none
	for path, text := range h.spec.Sources {
		if err := fs.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// kernels puts the further kernels of the spec into /boot, and pins what it pins.
func (h *host) kernels() error {
	fs := h.machine.FS
	for _, k := range h.spec.Kernels {
		for _, beginning := range []string{"vmlinuz-", "initrd.img-"} {
			if err := fs.WriteFile("/boot/"+beginning+k, []byte("kernel\n"), 0o644); err != nil {
				return err
			}
		}
		p := machine.Package{Name: "proxmox-kernel-" + k + "-signed", Version: strings.TrimSuffix(k, "-pve"), Section: "kernel", Origin: "Proxmox"}
		if err := h.machine.Install(h.lab.ctx, p); err != nil {
			return err
		}
	}
	for name, kernel := range map[string]string{"proxmox-boot-pin": h.spec.Pin, "next-boot-pin": h.spec.NextPin} {
		if kernel == "" {
			continue
		}
		if err := fs.WriteFile("/etc/kernel/"+name, []byte(kernel+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// setVersion changes the release of Proxmox VE that a host shows.
func setVersion(h *host, node *cluster.Node, version string) error {
	release, err := cluster.ReleaseOf(version)
	if err != nil {
		return err
	}
	for _, p := range release.Packages {
		if err := h.machine.Install(h.lab.ctx, machine.Package{Name: p.Name, Version: p.Version}); err != nil {
			return err
		}
	}
	return node.SetRelease(release)
}

func (h *host) setListener(listener net.Listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listener = listener
}

// listen is the loopback "host:port" of the machine, or "" before Start.
func (h *host) listen() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listener == nil {
		return ""
	}
	return h.listener.Addr().String()
}

// fileFault adds a fault of the machine's files and returns how to take it away.
func (h *host) fileFault(f vfs.Fault) (undo func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	one := &f
	h.files = append(h.files, one)
	h.setFileFaults()
	return func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.files = slices.DeleteFunc(h.files, func(other *vfs.Fault) bool { return other == one })
		h.setFileFaults()
		return nil
	}
}

// setFileFaults tells the machine's tree its faults. The lock is held.
func (h *host) setFileFaults() {
	list := make([]vfs.Fault, len(h.files))
	for i, f := range h.files {
		list[i] = *f
	}
	h.machine.FS.SetFaults(list...)
}
