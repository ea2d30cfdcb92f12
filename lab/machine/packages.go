package machine

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// Package is a Debian package, installed or on offer.
type Package struct {
	Name, Version string
	// Arch is "all" or "amd64" (the default). Section, Origin and Description are what apt shows.
	Arch, Section, Origin, Description string
	Size                               int64
	// Depends names packages that are installed first, of any version or of one: "ceph-base (= 19.2.3-pve2)".
	Depends []string
	// Files are written at installation and taken away at removal.
	Files map[string]string
	// Units are added (and started, if Enabled) at installation.
	Units []Unit
	// Programs are registered at installation.
	Programs map[string]Program
	// OnInstall runs when the package is set up, on upgrades too; an error makes dpkg fail. OnRemove runs before removal.
	OnInstall, OnRemove func(ctx context.Context, m *Machine) error
	// Essential packages are not removed by apt-get.
	Essential bool
	// Repo is the repository that has it: "pve", "ceph-squid", "debian"; "" is any. Suite is the release there, "" being any.
	Repo, Suite string
	// Conflicts names packages that must go for it.
	Conflicts []string
	// Conffiles are configuration files, which an upgrade does not simply replace.
	Conffiles map[string]string
	// Libraries are shared libraries that daemons have open: those of an old version stay in use until the daemon restarts.
	Libraries []Library
	// Takes is how long it takes to set up. 0 is a second.
	Takes time.Duration
}

// Library is a shared library with the commands of the daemons that use it; none means all.
type Library struct {
	Path   string
	UsedBy []string
}

func (p Package) arch() string { return cmp.Or(p.Arch, "amd64") }

// AptFaults are what may be wrong with packages on a machine.
type AptFaults struct {
	// LockedBy is the process that holds dpkg's lock ("apt-get", PID), or "".
	LockedBy  string
	LockedPID int
	// ListsLocked: the lock of the package lists is held too.
	ListsLocked bool
	// Interrupted: dpkg was interrupted and must be configured first.
	Interrupted bool
	// Unauthorized names repositories (URI and suite) that answer 401.
	Unauthorized []string
	// Broken names packages whose installation fails in their post-installation script.
	Broken []string
	// Offline: no repository can be reached. Unreachable names some (URI prefixes) that cannot be.
	Offline     bool
	Unreachable []string
	// Speed is how many bytes a second come from the repositories; 0 is much.
	Speed int64
}

type packages struct {
	mu        sync.Mutex
	installed map[string]Package
	residual  map[string]Package   // removed, configuration left
	offered   map[string][]Package // by name, any order of versions: what the lists know
	published []Package            // what the repositories have: the lists know of it after apt-get update
	held      map[string]bool
	unready   map[string]string        // of installed packages that are not set up: unpacked or half-configured
	unpacked  map[string]time.Duration // when a package was last unpacked over another
	holder    *Proc                    // of dpkg's lock
	faults    AptFaults
	phase     func(ctx context.Context, phase string) error
}

// Offer puts packages into the catalogue of the machine's repositories.
func (m *Machine) Offer(list ...Package) {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	for _, p := range list {
		versions := slices.DeleteFunc(m.packages.offered[p.Name], func(o Package) bool { return o.Version == p.Version })
		m.packages.offered[p.Name] = append(versions, p)
	}
}

// Withdraw takes all versions of packages out of the catalogue.
func (m *Machine) Withdraw(names ...string) {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	for _, name := range names {
		delete(m.packages.offered, name)
	}
}

// SetAptFaults sets what is wrong with packages.
func (m *Machine) SetAptFaults(f AptFaults) {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	m.packages.faults = f
}

// AptFaults returns what is wrong with packages.
func (m *Machine) AptFaults() AptFaults {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	return m.packages.faults
}

// Hold sets a package on hold, or takes the hold off.
func (m *Machine) Hold(name string, on bool) {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	if on {
		m.packages.held[name] = true
	} else {
		delete(m.packages.held, name)
	}
}

// Installed returns an installed package.
func (m *Machine) Installed(name string) (Package, bool) {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	p, ok := m.packages.installed[name]
	return p, ok
}

// InstalledPackages lists the installed packages by name.
func (m *Machine) InstalledPackages() []Package {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	list := make([]Package, 0, len(m.packages.installed))
	for _, p := range m.packages.installed {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Candidate returns the newest version on offer.
func (m *Machine) Candidate(name string) (Package, bool) {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	return m.packages.candidate(name)
}

func (s *packages) candidate(name string) (Package, bool) {
	list := s.offered[name]
	if len(list) == 0 {
		return Package{}, false
	}
	return slices.MaxFunc(list, func(a, b Package) int { return CompareVersions(a.Version, b.Version) }), true
}

// Install puts a package on the machine: its files, programs and units, and runs its hook.
func (m *Machine) Install(ctx context.Context, p Package) error {
	for path, content := range p.Files {
		if err := m.FS.MkdirAll(path[:strings.LastIndexByte(path, '/')+1], 0o755); err != nil {
			return err
		}
		if err := m.FS.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	for name, program := range p.Programs {
		m.Register(name, program)
	}
	m.packages.mu.Lock()
	m.packages.installed[p.Name] = p
	delete(m.packages.residual, p.Name)
	delete(m.packages.unready, p.Name)
	m.packages.mu.Unlock()
	for _, u := range p.Units {
		_, known := m.Unit(u.Name)
		m.AddUnit(u)
		if u.Enabled && !known {
			if err := m.StartUnit(ctx, u.Name); err != nil {
				return err
			}
		}
	}
	if p.OnInstall != nil {
		return p.OnInstall(ctx, m)
	}
	return nil
}

// Remove takes a package off the machine. With purge nothing is left of it.
func (m *Machine) Remove(ctx context.Context, name string, purge bool) error {
	p, ok := m.Installed(name)
	if !ok {
		return nil
	}
	if p.OnRemove != nil {
		if err := p.OnRemove(ctx, m); err != nil {
			return err
		}
	}
	for _, u := range p.Units {
		_ = m.StopUnit(ctx, u.Name) // the unit goes away in any case
		m.RemoveUnit(u.Name)
	}
	for program := range p.Programs {
		m.Unregister(program)
	}
	for path := range p.Files {
		if purge || !strings.HasPrefix(path, "/etc/") {
			_ = m.FS.Remove(path) // the admin may have removed it before
		}
	}
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	delete(m.packages.installed, name)
	delete(m.packages.unready, name)
	if !purge {
		m.packages.residual[name] = p
	} else {
		delete(m.packages.residual, name)
	}
	return nil
}

// basePackages is what a small Debian installation has, as far as scripts ask.
var basePackages = []struct{ name, version, section string }{
	{"adduser", "3.152", "admin"}, {"apt", "3.0.3", "admin"}, {"base-files", "13.8+deb13u2", "admin"}, {"bash", "5.2.37-2+b5", "shells"},
	{"bsdutils", "1:2.41-5", "utils"}, {"ca-certificates", "20250419", "misc"}, {"chrony", "4.6.1-3", "net"}, {"coreutils", "9.7-3", "utils"},
	{"cron", "3.0pl1-197", "admin"}, {"dash", "0.5.12-12", "shells"}, {"debianutils", "5.23.2", "utils"}, {"diffutils", "1:3.10-4", "utils"},
	{"dpkg", "1.22.21", "admin"}, {"findutils", "4.10.0-3", "utils"}, {"grep", "3.11-4", "utils"}, {"gzip", "1.13-1", "utils"},
	{"hostname", "3.25", "admin"}, {"iproute2", "6.15.0-1", "net"}, {"iputils-ping", "3:20240905-3", "net"}, {"libc6", "2.41-12", "libs"},
	{"mawk", "1.3.4.20250131-1", "utils"}, {"openssh-client", "1:10.0p1-7", "net"}, {"openssh-server", "1:10.0p1-7", "net"}, {"openssl", "3.5.1-1", "utils"},
	{"passwd", "1:4.17.4-2", "admin"}, {"procps", "2:4.0.4-9", "admin"}, {"rsync", "3.4.1+ds1-5", "net"}, {"sed", "4.9-2", "utils"},
	{"sudo", "1.9.16p2-3", "admin"}, {"systemd", "257.8-1~deb13u2", "admin"}, {"tar", "1.35+dfsg-3.1", "utils"}, {"util-linux", "2.41-5", "utils"},
}

// offeredPackages may be installed on every machine: harmless tools to try things with.
var offeredPackages = []struct{ name, version, description string }{
	{"jq", "1.7.1-6", "lightweight and flexible command-line JSON processor"}, {"htop", "3.4.1-5", "interactive processes viewer"},
	{"ethtool", "1:6.14.2-1", "display or change Ethernet device settings"}, {"curl", "8.14.1-2", "command line tool for transferring data with URL syntax"},
	{"tmux", "3.5a-3", "terminal multiplexer"}, {"tree", "2.2.1-1", "displays an indented directory tree, in color"}, {"vim", "2:9.1.1230-2", "Vi IMproved - enhanced vi editor"},
	{"sysstat", "12.7.5-2", "system performance tools for Linux"}, {"lldpd", "1.0.18-1", "implementation of IEEE 802.1ab (LLDP)"}, {"unattended-upgrades", "2.12", "automatic installation of security upgrades"},
}

// versionProgram is what the offered packages bring: something that is there and tells its version.
func versionProgram(name, version string) Program {
	return func(_ context.Context, p *Proc) int {
		if slices.Contains(p.Args(), "--version") || slices.Contains(p.Args(), "-V") {
			p.Println(name + " " + version)
			return 0
		}
		return p.Fail(2, "only --version is simulated")
	}
}

func (m *Machine) installPackages() {
	s := &m.packages
	s.installed, s.residual = make(map[string]Package, len(basePackages)), map[string]Package{}
	s.offered, s.held = map[string][]Package{}, map[string]bool{}
	s.unready, s.unpacked = map[string]string{}, map[string]time.Duration{}
	for _, b := range basePackages {
		s.installed[b.name] = Package{Name: b.name, Version: b.version, Section: b.section, Origin: "Debian", Essential: b.section == "shells" || b.name == "dpkg" || b.name == "apt"}
	}
	for _, b := range offeredPackages {
		s.offered[b.name] = []Package{{Name: b.name, Version: b.version, Section: "utils", Description: b.description, Origin: "Debian:13.2/stable", Programs: map[string]Program{b.name: versionProgram(b.name, b.version)}}}
	}
	for _, p := range m.opt.Packages {
		s.installed[p.Name] = p
		for name, program := range p.Programs {
			m.Register(name, program)
		}
	}
}

// CompareVersions orders Debian versions: epoch, then upstream, then revision; a tilde sorts before everything.
func CompareVersions(a, b string) int {
	epochA, restA := epoch(a)
	epochB, restB := epoch(b)
	if c := compareVerrevs(epochA, epochB); c != 0 {
		return c
	}
	upA, revA := revision(restA)
	upB, revB := revision(restB)
	if c := compareVerrevs(upA, upB); c != 0 {
		return c
	}
	return compareVerrevs(revA, revB)
}

func epoch(v string) (string, string) {
	if e, rest, ok := strings.Cut(v, ":"); ok {
		return e, rest
	}
	return "0", v
}

func revision(v string) (string, string) {
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return v, ""
}

// compareVerrevs compares alternating runs of other characters and digits, as dpkg does.
func compareVerrevs(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !isDigit(a[0]) || b != "" && !isDigit(b[0]) {
			if c := cmp.Compare(versionOrder(a), versionOrder(b)); c != 0 {
				return c
			}
			a, b = a[1:], b[1:]
		}
		na, restA := digits(a)
		nb, restB := digits(b)
		if c := cmp.Or(cmp.Compare(len(na), len(nb)), strings.Compare(na, nb)); c != 0 {
			return c
		}
		a, b = restA, restB
	}
	return 0
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// versionOrder ranks a string's first character: tilde, end or digit, letters, the rest.
func versionOrder(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z':
		return int(s[0])
	default:
		return int(s[0]) + 256
	}
}

// digits cuts the number at a string's beginning, without leading zeros.
func digits(s string) (number, rest string) {
	end := 0
	for end < len(s) && isDigit(s[end]) {
		end++
	}
	return strings.TrimLeft(s[:end], "0"), s[end:]
}
