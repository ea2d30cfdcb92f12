package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/updates"
)

// Pending are the newer packages that the repositories of a host have.
type Pending struct {
	Host     string   `json:"host"`
	Packages []string `json:"packages"` // "name=version"
}

// AddUpdates puts newer packages into the repositories of hosts, for the next apt-get update to find: sets such as "release",
// and packages as "name=version". No host named means all.
func (l *Lab) AddUpdates(hosts []string, words ...string) error {
	if err := updates.Validate(words); err != nil {
		return err
	}
	var failed error
	for _, name := range hosts {
		if l.net.host(name) == nil {
			failed = errors.Join(failed, fmt.Errorf("no host %q in the lab", name))
		}
	}
	if failed != nil {
		return failed
	}
	for _, h := range l.hosts {
		if len(hosts) == 0 || slices.Contains(hosts, h.spec.Name) {
			failed = errors.Join(failed, h.updates.Add(words...))
		}
	}
	return failed
}

// Updates lists what the repositories of each host have that is newer than what is installed.
func (l *Lab) Updates() []Pending {
	out := make([]Pending, len(l.hosts))
	for i, h := range l.hosts {
		out[i] = Pending{h.spec.Name, h.updates.Pending()}
	}
	return out
}

// installUpdates gives the machine its repositories' content.
func (h *host) installUpdates(ctx context.Context, kernel string) error {
	o := updates.Options{Machine: h.machine, Node: h.lab.world.Node(h.spec.Name), Kernel: kernel}
	if o.Node != nil {
		o.Ceph = h.lab.ceph.PackagesOf(h.spec.Name)
	}
	h.machine.SetPhases(func(ctx context.Context, phase string) error {
		err := h.lab.interrupt(ctx, h.spec.Name, phase)
		if errors.Is(err, cluster.ErrKilled) {
			return machine.ErrKilled
		}
		return err
	})
	var err error
	if h.updates, err = updates.Install(ctx, o); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(h.spec.Versions)) {
		if err := h.updates.Set(ctx, name, h.spec.Versions[name]); err != nil {
			return err
		}
	}
	return h.updates.Add(h.spec.Updates...)
}

// aptPhases are the points of apt and dpkg at which a fault can strike. Those with packages are also reached as
// "apt:setup:pve-manager", for the one package.
var aptPhases = []string{"apt:update", "apt:download", "apt:unpack", "apt:setup", "apt:end"}

func updateFaults(add func(name, summary, value string, target bool, strike func(context.Context, *Lab, *host, Fault) (func() error, error))) {
	add("conffile", "an admin has changed a configuration file that an update wants to replace", "the file; /etc/vzdump.conf without", true, changeConffile)
	add("apt-401", "a repository answers 401, as without a subscription", "the beginning of its address; https://enterprise.proxmox.com/ without", true, refuseRepository)
	add("apt-away", "repositories cannot be reached", "the beginning of an address; all without", true, loseRepository)
	add("apt-slow", "packages come slowly", "KiB a second; 100 without", true, slowRepository)
	add("apt-hold", "somebody has put a package on hold", "the package", true, holdPackage)
	add("apt-removes", "an update conflicts with proxmox-ve: apt would remove it", "another package that would go", true, removesPackage)
	add("apt-major", "the repositories hold the next major release", "ceph; Proxmox VE without", true, nextMajor)
	add("apt-broken", "the script of a package fails when it is set up", "the package", true, breakPackage)
	add("dpkg-lock", "another program holds the lock of dpkg", "for how long; for ever without", true, lockDpkg)
	add("apt-lists-lock", "another program holds the lock of the package lists", "", true, lockLists)
	add("dpkg-interrupted", "somebody has killed dpkg at work: a package is half configured", "the package; pve-manager without", true, interruptDpkg)
	add("boot-full", "/boot is a partition of its own and full", "how many MiB are free; 20 without", true, fillBoot)
}

func changeConffile(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	name := f.Value
	if name == "" {
		name = "/etc/vzdump.conf"
	}
	before, err := h.machine.FS.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	after := append(slices.Clone(before), "# changed here\nbwlimit: 50000\n"...)
	return func() error { return h.machine.FS.WriteFile(name, before, 0o644) }, h.machine.FS.WriteFile(name, after, 0o644)
}

// changeFaults alters what is wrong with packages, and returns how to alter it back.
func changeFaults(m *machine.Machine, on, off func(*machine.AptFaults)) func() error {
	set := func(change func(*machine.AptFaults)) {
		f := m.AptFaults()
		f.Unauthorized, f.Unreachable, f.Broken = slices.Clone(f.Unauthorized), slices.Clone(f.Unreachable), slices.Clone(f.Broken)
		change(&f)
		m.SetAptFaults(f)
	}
	set(on)
	return func() error { set(off); return nil }
}

func without(list []string, one string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return s == one })
}

func refuseRepository(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	uri := f.Value
	if uri == "" {
		uri = "https://enterprise.proxmox.com/"
	}
	return changeFaults(h.machine,
		func(a *machine.AptFaults) { a.Unauthorized = append(a.Unauthorized, uri) },
		func(a *machine.AptFaults) { a.Unauthorized = without(a.Unauthorized, uri) }), nil
}

func loseRepository(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	uri := f.Value
	if uri == "" {
		uri = "http"
	}
	return changeFaults(h.machine,
		func(a *machine.AptFaults) { a.Unreachable = append(a.Unreachable, uri) },
		func(a *machine.AptFaults) { a.Unreachable = without(a.Unreachable, uri) }), nil
}

func slowRepository(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	speed := int64(100)
	if f.Value != "" {
		n, err := strconv.ParseInt(f.Value, 10, 64)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a number of KiB a second", f.Value)
		}
		speed = n
	}
	return changeFaults(h.machine, func(a *machine.AptFaults) { a.Speed = speed << 10 }, func(a *machine.AptFaults) { a.Speed = 0 }), nil
}

func breakPackage(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	if f.Value == "" {
		return nil, errors.New("which package?")
	}
	return changeFaults(h.machine,
		func(a *machine.AptFaults) { a.Broken = append(a.Broken, f.Value) },
		func(a *machine.AptFaults) { a.Broken = without(a.Broken, f.Value) }), nil
}

func lockLists(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	return changeFaults(h.machine, func(a *machine.AptFaults) { a.ListsLocked, a.LockedPID = true, 812 }, func(a *machine.AptFaults) { a.ListsLocked, a.LockedPID = false, 0 }), nil
}

func holdPackage(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	if _, ok := h.machine.Installed(f.Value); !ok {
		return nil, fmt.Errorf("package %q is not installed on %s", f.Value, h.spec.Name)
	}
	h.machine.Hold(f.Value, true)
	return func() error { h.machine.Hold(f.Value, false); return nil }, nil
}

var foreignPackage = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*$`)

// removesPackage publishes a newer package that conflicts with others.
func removesPackage(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	gone := []string{"proxmox-ve"}
	if f.Value != "" {
		if !foreignPackage.MatchString(f.Value) {
			return nil, fmt.Errorf("%q is no name of a package", f.Value)
		}
		gone = []string{f.Value}
	}
	p := machine.Package{Name: "sudo", Version: "1.9.17p2-1", Repo: "debian", Conflicts: gone}
	h.machine.Publish(p)
	return func() error {
		h.machine.Unpublish(func(o machine.Package) bool { return o.Name == p.Name && o.Version == p.Version })
		return nil
	}, nil
}

// nextMajor lets the repositories of this release bring the next one, as a mirror does that was switched over.
func nextMajor(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	node := l.world.Node(h.spec.Name)
	if node == nil {
		return nil, fmt.Errorf("%s is no Proxmox node", h.spec.Name)
	}
	words := []string{"pve-manager=10.0.3", "proxmox-ve=10.0.0", "qemu-server=10.0.1"}
	switch {
	case f.Value == "ceph":
		words = []string{"ceph=20.2.0-pve1"}
	case node.Release().Major() == 8:
		words = []string{"pve-manager=9.1.8", "proxmox-ve=9.1.0", "qemu-server=9.1.6"}
	}
	if err := h.updates.Add(words...); err != nil {
		return nil, err
	}
	if f.Value == "ceph" { // the repository of the installed release has them
		h.updates.Misplace("ceph-tentacle", "ceph-squid")
	}
	return func() error {
		for _, w := range words {
			name, version, _ := strings.Cut(w, "=")
			h.machine.Unpublish(func(o machine.Package) bool {
				return o.Version == version && (o.Name == name || name == "ceph" && strings.HasPrefix(o.Name, "ceph"))
			})
		}
		return nil
	}, nil
}

// lockDpkg starts a program that holds dpkg's lock.
func lockDpkg(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	var d time.Duration
	if f.Value != "" {
		var err error
		if d, err = time.ParseDuration(f.Value); err != nil {
			return nil, err
		}
	}
	const name = "/usr/bin/unattended-upgr"
	h.machine.Register(name, machine.HoldPackages(d))
	ctx, stop := context.WithCancel(l.ctx)
	l.wg.Go(func() { h.machine.Exec(ctx, machine.Proc{Argv: []string{name}, Dir: "/"}) })
	return func() error { stop(); return nil }, nil
}

func interruptDpkg(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	name := f.Value
	if name == "" {
		name = "pve-manager"
	}
	if err := h.machine.SetUnready(name, "half-configured"); err != nil {
		return nil, err
	}
	h.machine.SetInterrupted(true)
	return nil, nil //nolint:nilnil // dpkg --configure -a mends it
}

func fillBoot(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	free := 20
	if f.Value != "" {
		var err error
		if free, err = strconv.Atoi(f.Value); err != nil {
			return nil, fmt.Errorf("%q is not a number of MiB", f.Value)
		}
	}
	return h.updates.FillBoot(int64(free) << 20)
}
