package machine

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// aptError is an apt-get that ends with 100.
const aptError = 100

// apt is one run of apt-get.
type apt struct {
	p        *Proc
	ctx      context.Context //nolint:containedctx // lives as long as the program
	simulate bool
	quiet    bool
	purge    bool
	upgrade  bool // install does not add what is missing
	lockWait time.Duration
	noLock   bool
	yes      bool // do not ask
	verb     string
}

// change is what apt would do.
type change struct {
	install []pkgChange // in order of installation
	remove  []Package
	kept    []string
	manual  []string // named on the command line
}

// pkgChange is a new version of a package, and the old one if there is.
type pkgChange struct {
	to      Package
	from    Package
	upgrade bool
}

func runAptGet(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("yqsdfo:t:uVmb", "yes=y", "assume-yes=y", "quiet=q", "simulate=s", "dry-run=s", "just-print=s", "download-only=d", "fix-broken=f", "option=o", "no-install-recommends", "install-recommends",
		"allow-downgrades", "allow-remove-essential", "allow-change-held-packages", "allow-releaseinfo-change", "only-upgrade", "purge", "auto-remove", "autoremove", "reinstall", "target-release=t", "fix-missing=m", "with-new-pkgs", "no-remove", "print-uris", "force-yes", "allow-unauthenticated", "no-upgrade")
	if !ok {
		fmt.Fprintf(p.Stderr, "E: Command line option is not understood\n")
		return aptError
	}
	a := &apt{p: p, ctx: ctx, simulate: opts.has("s"), quiet: opts.has("q"), purge: opts.has("purge"), upgrade: opts.has("only-upgrade")}
	a.configure()
	a.yes = a.yes || opts.has("y", "force-yes") || len(opts.all("q")) > 1
	for _, o := range opts.all("o") {
		key, value, _ := strings.Cut(o, "=")
		a.setting(key, value)
	}
	if len(rest) == 0 {
		return a.fail("Invalid operation ")
	}
	verb, names := rest[0], rest[1:]
	a.verb = verb
	if !a.simulate && p.UID != 0 && verb != "download" && verb != "check" {
		fmt.Fprintln(p.Stderr, "E: Could not open lock file /var/lib/dpkg/lock-frontend - open (13: Permission denied)\nE: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), are you root?")
		return aptError
	}
	switch verb {
	case "update":
		return a.update()
	case "install", "reinstall":
		return a.change(func(c *change) int { return a.planInstall(c, names) })
	case "remove", "purge":
		a.purge = a.purge || verb == "purge"
		return a.change(func(c *change) int { return a.planRemove(c, names) })
	case "dist-upgrade", "full-upgrade", "upgrade":
		return a.change(func(c *change) int { return a.planUpgrade(c, verb != "upgrade") })
	case "autoremove", "autopurge", "clean", "autoclean", "check", "download":
		if verb == "autoremove" || verb == "autopurge" {
			return a.change(func(*change) int { return 0 })
		}
		return 0
	}
	return a.fail("Invalid operation " + verb)
}

func (a *apt) fail(text string) int {
	fmt.Fprintln(a.p.Stderr, "E: "+text)
	return aptError
}

// locked waits for dpkg's lock as long as DPkg::Lock::Timeout says, and complains if it stays held.
func (a *apt) locked() bool {
	if a.noLock || a.simulate {
		return false
	}
	m := a.p.Machine
	end := m.clock.Elapsed() + a.lockWait
	told := false
	for {
		f := m.AptFaults()
		if f.LockedBy == "" {
			return false
		}
		if m.clock.Elapsed() >= end {
			fmt.Fprintf(a.p.Stderr, "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process %d (%s)\nN: Be aware that removing the lock file is not a solution and may break your system.\nE: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?\n", f.LockedPID, f.LockedBy)
			return true
		}
		if !told {
			fmt.Fprintf(a.p.Stdout, "Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process %d (%s)... \n", f.LockedPID, f.LockedBy)
			told = true
		}
		if m.Sleep(a.ctx, time.Second) != nil {
			return true
		}
	}
}

// change plans, shows and performs.
func (a *apt) change(plan func(*change) int) int {
	p := a.p
	if a.locked() {
		return aptError
	}
	f := p.Machine.AptFaults()
	if f.Interrupted && !a.simulate {
		return a.fail("dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem. ")
	}
	p.Println("Reading package lists...\nBuilding dependency tree...\nReading state information...")
	c := &change{}
	if code := plan(c); code != 0 {
		return code
	}
	a.announce(c)
	if a.simulate {
		a.show(c)
		return 0
	}
	if len(c.install)+len(c.remove) == 0 {
		return 0
	}
	if !a.confirmed(c, a.verb) {
		return 1
	}
	if f.Offline && len(c.install) > 0 {
		first := c.install[0].to
		fmt.Fprintf(p.Stderr, "E: Failed to fetch http://deb.debian.org/debian/pool/main/%s_%s_%s.deb  Temporary failure resolving 'deb.debian.org'\nE: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?\n", first.Name, first.Version, first.arch())
		return aptError
	}
	return a.perform(c, f)
}

// announce prints apt's summary.
func (a *apt) announce(c *change) {
	var upgraded, added, removed []string
	size := int64(0)
	extra := []string{}
	for _, x := range c.install {
		size += max(x.to.Size, 100<<10)
		if x.upgrade {
			upgraded = append(upgraded, x.to.Name)
			continue
		}
		added = append(added, x.to.Name)
		if c.manual != nil && !slices.Contains(c.manual, x.to.Name) {
			extra = append(extra, x.to.Name)
		}
	}
	for _, r := range c.remove {
		name := r.Name
		if a.purge {
			name += "*"
		}
		removed = append(removed, name)
	}
	for _, block := range []struct {
		title string
		names []string
	}{
		{"The following additional packages will be installed:", extra}, {"The following packages will be REMOVED:", removed}, {"The following NEW packages will be installed:", added},
		{"The following packages have been kept back:", c.kept}, {"The following packages will be upgraded:", upgraded},
	} {
		if len(block.names) > 0 {
			slices.Sort(block.names)
			a.p.Printf("%s\n  %s\n", block.title, strings.Join(block.names, " "))
		}
	}
	a.p.Printf("%d upgraded, %d newly installed, %d to remove and %d not upgraded.\n", len(upgraded), len(added), len(removed), len(c.kept))
	if !a.simulate && len(c.install)+len(c.remove) > 0 {
		if len(c.install) > 0 {
			a.p.Printf("Need to get %d kB of archives.\n", size/1000)
		}
		a.p.Println("After this operation, 0 B of additional disk space will be used.")
	}
}

// show prints a simulation.
func (a *apt) show(c *change) {
	for _, r := range c.remove {
		verb := "Remv"
		if a.purge {
			verb = "Purg"
		}
		a.p.Printf("%s %s [%s]\n", verb, r.Name, r.Version)
	}
	for _, x := range c.install {
		old := ""
		if x.upgrade {
			old = "[" + x.from.Version + "] "
		}
		a.p.Printf("Inst %s %s(%s %s [%s])\n", x.to.Name, old, x.to.Version, cmp.Or(x.to.Origin, "Debian:13.2/stable"), x.to.arch())
	}
	for _, x := range c.install {
		a.p.Printf("Conf %s (%s %s [%s])\n", x.to.Name, x.to.Version, cmp.Or(x.to.Origin, "Debian:13.2/stable"), x.to.arch())
	}
}

// perform does what was planned, with dpkg's lines and a little model time for each package.
func (a *apt) perform(c *change, f AptFaults) int {
	p, m := a.p, a.p.Machine
	for i, x := range c.install {
		p.Printf("Get:%d http://deb.debian.org/debian trixie/main amd64 %s %s %s [%d kB]\n", i+1, x.to.Name, x.to.arch(), x.to.Version, max(x.to.Size, 100<<10)/1000)
	}
	io.WriteString(p.Stdout, "(Reading database ... 45000 files and directories currently installed.)\n")
	for _, r := range c.remove {
		p.Printf("Removing %s (%s) ...\n", r.Name, r.Version)
		if m.Sleep(a.ctx, time.Second) != nil {
			return a.interrupted(r.Name)
		}
		if err := m.Remove(a.ctx, r.Name, a.purge); err != nil {
			return a.failed(r, "remove", err)
		}
	}
	for _, x := range c.install {
		p.Printf("Preparing to unpack .../%s_%s_%s.deb ...\n", x.to.Name, x.to.Version, x.to.arch())
		if x.upgrade {
			p.Printf("Unpacking %s (%s) over (%s) ...\n", x.to.Name, x.to.Version, x.from.Version)
		} else {
			p.Printf("Selecting previously unselected package %s.\nUnpacking %s (%s) ...\n", x.to.Name, x.to.Name, x.to.Version)
		}
		if m.Sleep(a.ctx, time.Second) != nil {
			return a.interrupted(x.to.Name)
		}
	}
	for _, x := range c.install {
		p.Printf("Setting up %s (%s) ...\n", x.to.Name, x.to.Version)
		if m.Sleep(a.ctx, time.Second) != nil {
			return a.interrupted(x.to.Name)
		}
		if slices.Contains(f.Broken, x.to.Name) {
			return a.failed(x.to, "configure", fmt.Errorf("installed %s package post-installation script subprocess returned error exit status 1", x.to.Name))
		}
		if err := m.Install(a.ctx, x.to); err != nil {
			return a.failed(x.to, "configure", err)
		}
	}
	return 0
}

// interrupted leaves dpkg in need of --configure -a: somebody killed it half-way.
func (a *apt) interrupted(name string) int {
	f := a.p.Machine.AptFaults()
	f.Interrupted = true
	a.p.Machine.SetAptFaults(f)
	_ = a.p.Machine.FS.MkdirAll("/var/lib/dpkg/updates", 0o755) // the sign that scripts look for
	_ = a.p.Machine.FS.WriteFile("/var/lib/dpkg/updates/0001", []byte("Package: "+name+"\n"), 0o644)
	return aptError
}

func (a *apt) failed(pkg Package, step string, err error) int {
	fmt.Fprintf(a.p.Stderr, "dpkg: error processing package %s (--%s):\n %v\nErrors were encountered while processing:\n %s\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n", pkg.Name, step, err, pkg.Name)
	return aptError
}
