package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// SetPhases lets f hear of the points that apt and dpkg reach: apt:update, apt:download, apt:unpack, apt:setup, each also with
// ":package" where there is one, and apt:end. An error makes the program fail there; one that wraps ErrKilled ends it.
func (m *Machine) SetPhases(f func(ctx context.Context, phase string) error) {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	m.packages.phase = f
}

// ErrKilled, returned by the function of SetPhases, ends the program without a word.
var ErrKilled = errors.New("killed")

// atPhase tells of a phase, alone and with a package.
func (m *Machine) atPhase(ctx context.Context, phase, name string) error {
	m.packages.mu.Lock()
	f := m.packages.phase
	m.packages.mu.Unlock()
	if f == nil {
		return ctx.Err()
	}
	if err := f(ctx, phase); err != nil {
		return err
	}
	if name != "" {
		if err := f(ctx, phase+":"+name); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// lockPackages takes dpkg's lock for a program, unless another holds it.
func (m *Machine) lockPackages(p *Proc) (holder string, pid int, ok bool) {
	s := &m.packages
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.faults.LockedBy != "":
		return s.faults.LockedBy, s.faults.LockedPID, false
	case s.holder != nil && s.holder != p:
		name := s.holder.Name()
		return name[:min(len(name), 15)], s.holder.PID(), false // as the kernel cuts it
	}
	s.holder = p
	return "", 0, true
}

func (m *Machine) unlockPackages(p *Proc) {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	if m.packages.holder == p {
		m.packages.holder = nil
	}
}

// HoldPackages is a program that keeps dpkg's lock for some model time, 0 being for ever, as an upgrade in the background does.
func HoldPackages(d time.Duration) Program {
	return func(ctx context.Context, p *Proc) int {
		m := p.Machine
		for {
			if _, _, ok := m.lockPackages(p); ok {
				break
			}
			if m.Sleep(ctx, time.Second) != nil {
				return 1
			}
		}
		defer m.unlockPackages(p)
		if d > 0 {
			return boolStatus(m.Sleep(ctx, d) == nil)
		}
		<-ctx.Done()
		return 1
	}
}

// unpack puts the files of a package on the machine, which then waits to be set up.
func (m *Machine) unpack(x pkgChange) {
	s := &m.packages
	to := x.inherited()
	s.mu.Lock()
	s.installed[to.Name], s.unready[to.Name] = to, "unpacked"
	if x.upgrade {
		s.unpacked[to.Name] = m.clock.Elapsed()
	}
	delete(s.residual, to.Name)
	s.mu.Unlock()
	verb := "install " + to.Name + ":" + to.arch() + " <none> " + to.Version
	if x.upgrade {
		verb = "upgrade " + to.Name + ":" + to.arch() + " " + x.from.Version + " " + to.Version
	}
	m.packageLog(verb)
	m.packageLog("status unpacked " + to.Name + ":" + to.arch() + " " + to.Version)
	_ = m.FS.MkdirAll("/var/lib/dpkg/info", 0o755)                                                               // a full disk shows itself elsewhere
	_ = m.FS.WriteFile("/var/lib/dpkg/info/"+to.Name+".list", []byte("/.\n/usr/share/doc/"+to.Name+"\n"), 0o644) // as above
}

// inherited is the new version with what an update leaves unsaid: it brings what the old one brought.
func (x pkgChange) inherited() Package {
	to := x.to
	if !x.upgrade {
		return to
	}
	if to.Programs == nil {
		to.Programs = x.from.Programs
	}
	if to.Units == nil {
		to.Units = x.from.Units
	}
	if to.Files == nil {
		to.Files = x.from.Files
	}
	if to.OnRemove == nil {
		to.OnRemove = x.from.OnRemove
	}
	if to.Libraries == nil {
		to.Libraries = x.from.Libraries
	}
	to.Essential = to.Essential || x.from.Essential
	return to
}

// packageLog writes a line of /var/log/dpkg.log.
func (m *Machine) packageLog(text string) {
	const name = "/var/log/dpkg.log"
	old, _ := m.FS.ReadFile(name) // none yet is as good
	line := m.Now().UTC().Format("2006-01-02 15:04:05 ") + text + "\n"
	_ = m.FS.WriteFile(name, append(old, line...), 0o644) // on a full disk dpkg goes on too
}

// setUp configures a package that was unpacked: first its configuration files, then its script.
func (m *Machine) setUp(ctx context.Context, p *Proc, name string, force conffileRule) error {
	pkg, ok := m.Installed(name)
	if !ok {
		return nil
	}
	p.Printf("Setting up %s (%s) ...\n", name, pkg.Version)
	takes := pkg.Takes
	if takes == 0 {
		takes = time.Second
	}
	if m.Sleep(ctx, takes) != nil {
		return ErrKilled
	}
	for _, path := range slices.Sorted(maps.Keys(pkg.Conffiles)) {
		if err := m.placeConffile(p, pkg, path, force); err != nil {
			return err
		}
	}
	m.setUnready(name, "half-configured")
	m.packageLog("status half-configured " + name + ":" + pkg.arch() + " " + pkg.Version)
	if err := m.atPhase(ctx, "apt:setup", name); err != nil {
		return err
	}
	if slices.Contains(m.AptFaults().Broken, name) {
		return scriptFailed(name)
	}
	if err := m.Install(context.WithValue(ctx, outputKey{}, p.Stdout), pkg); err != nil {
		if ctx.Err() != nil {
			return ErrKilled
		}
		m.setUnready(name, "half-configured")
		if text := err.Error(); !errors.Is(err, ErrScript) {
			io.WriteString(p.Stdout, text+"\n")
		}
		return scriptFailed(name)
	}
	m.packageLog("status installed " + name + ":" + pkg.arch() + " " + pkg.Version)
	return nil
}

// ErrScript, returned by a package's hook, is a script that has printed its reason itself.
var ErrScript = errors.New("the script failed")

func scriptFailed(name string) error {
	return fmt.Errorf("installed %s package post-installation script subprocess returned error exit status 1", name)
}

type outputKey struct{}

// ScriptOutput is where a package's hook prints.
func ScriptOutput(ctx context.Context) io.Writer {
	if w, ok := ctx.Value(outputKey{}).(io.Writer); ok {
		return w
	}
	return io.Discard
}

func (m *Machine) setUnready(name, state string) {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	m.packages.unready[name] = state
}

// SetUnready leaves an installed package unpacked or half-configured, as a dpkg that was killed does.
func (m *Machine) SetUnready(name, state string) error {
	if _, ok := m.Installed(name); !ok {
		return fmt.Errorf("package %q is not installed", name)
	}
	m.setUnready(name, state)
	return nil
}

// unreadyPackages are those that wait to be set up, by name.
func (m *Machine) unreadyPackages() []string {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	return slices.Sorted(maps.Keys(m.packages.unready))
}

// replacedLibraries are the libraries that a process still uses although a newer version lies in their place.
func (m *Machine) replacedLibraries(one Process) []string {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	m.mu.Lock()
	booted := m.bootedAt
	m.mu.Unlock()
	command := lastName(one.Argv[0])
	var out []string
	for name, at := range m.packages.unpacked {
		if at <= booted+one.Started {
			continue
		}
		for _, l := range m.packages.installed[name].Libraries {
			if len(l.UsedBy) == 0 || slices.Contains(l.UsedBy, command) {
				out = append(out, l.Path)
			}
		}
	}
	slices.Sort(out)
	return out
}

// processMaps is /proc/PID/maps, as far as libraries are concerned.
func (m *Machine) processMaps(one Process) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "55d0c0a00000-55d0c0a20000 r-xp 00000000 fd:01 131 %s\n", one.Argv[0])
	for i, path := range m.replacedLibraries(one) {
		fmt.Fprintf(&b, "7f30%04d0000-7f30%04d8000 r-xp 00000000 fd:01 %d %s (deleted)\n", i, i, 2000+i, path)
	}
	return []byte(b.String())
}
