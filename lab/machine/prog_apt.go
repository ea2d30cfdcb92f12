package machine

import (
	"context"
	"fmt"
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
	silent   bool // -qq: only what fails, and what is asked for
	uris     bool // print where archives come from, and do no more
	fetch    bool // download only
	force    conffileRule
	dpkg     []string // options for dpkg
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
	a := &apt{
		p: p, ctx: ctx, simulate: opts.has("s"), quiet: opts.has("q"), purge: opts.has("purge"), upgrade: opts.has("only-upgrade"),
		silent: len(opts.all("q")) > 1, uris: opts.has("print-uris"), fetch: opts.has("d"),
	}
	a.configure()
	a.yes = a.yes || opts.has("y", "force-yes") || len(opts.all("q")) > 1
	for _, o := range opts.all("o") {
		key, value, _ := strings.Cut(o, "=")
		a.setting(key, value)
	}
	a.force = forced(a.dpkg)
	if len(rest) == 0 {
		return a.fail("Invalid operation ")
	}
	verb, names := rest[0], rest[1:]
	a.verb = verb
	if !a.simulate && !a.uris && p.UID != 0 && verb != "download" && verb != "check" {
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
		if verb == "clean" {
			a.clean()
		}
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

// locked waits for dpkg's lock as long as DPkg::Lock::Timeout says, and complains if it stays held. Else it has it.
func (a *apt) locked() bool {
	if a.noLock || a.simulate || a.uris {
		return false
	}
	m := a.p.Machine
	end := m.clock.Elapsed() + a.lockWait
	told := false
	for {
		holder, pid, ok := m.lockPackages(a.p)
		if ok {
			return false
		}
		if m.clock.Elapsed() >= end {
			fmt.Fprintf(a.p.Stderr, "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process %d (%s)\nN: Be aware that removing the lock file is not a solution and may break your system.\nE: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?\n", pid, holder)
			return true
		}
		if !told {
			fmt.Fprintf(a.p.Stdout, "Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process %d (%s)... \n", pid, holder)
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
	defer p.Machine.unlockPackages(p)
	f := p.Machine.AptFaults()
	if p.Machine.interrupted() && !a.simulate && !a.uris {
		return a.fail("dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem. ")
	}
	a.say("Reading package lists...\nBuilding dependency tree...\nReading state information...")
	c := &change{}
	if code := plan(c); code != 0 {
		return code
	}
	if a.uris {
		for _, x := range a.missing(c) {
			p.Printf("'%s' %s %d SHA256:%064x\n", a.uri(x.to), archiveName(x.to), x.to.size(), len(x.to.Name)+len(x.to.Version))
		}
		return 0
	}
	a.announce(c)
	if a.simulate {
		a.show(c)
		return 0
	}
	if len(c.install)+len(c.remove)+len(p.Machine.unreadyPackages()) == 0 {
		return 0
	}
	if !a.fetch && !a.confirmed(c, a.verb) {
		return 1
	}
	if code := a.download(c, f); code != 0 || a.fetch {
		return code
	}
	if code := a.hook(c); code != 0 {
		return code
	}
	return a.perform(c)
}

// say prints a line of those that -qq keeps back.
func (a *apt) say(line string) {
	if !a.silent {
		a.p.Println(line)
	}
}

// announce prints apt's summary.
func (a *apt) announce(c *change) {
	if a.silent {
		return
	}
	var upgraded, added, removed []string
	size := int64(0)
	extra := []string{}
	for _, x := range c.install {
		size += x.to.size()
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
	if n := len(a.p.Machine.unreadyPackages()); n > 0 {
		a.p.Printf("%d not fully installed or removed.\n", n)
	}
	if !a.simulate && len(c.install)+len(c.remove) > 0 {
		if len(c.install) > 0 {
			a.p.Println(a.need(c, size))
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
		a.p.Printf("Inst %s %s(%s %s [%s])\n", x.to.Name, old, x.to.Version, x.to.origin(), x.to.arch())
	}
	for _, x := range c.install {
		a.p.Printf("Conf %s (%s %s [%s])\n", x.to.Name, x.to.Version, x.to.origin(), x.to.arch())
	}
}
