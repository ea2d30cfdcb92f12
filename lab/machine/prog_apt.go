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
	for _, o := range opts.all("o") {
		key, value, _ := strings.Cut(o, "=")
		switch strings.ToLower(key) {
		case "dpkg::lock::timeout":
			a.lockWait, _ = duration(value)
			if value == "-1" {
				a.lockWait = 1 << 62
			}
		case "debug::nolocking":
			a.noLock = value == "1" || value == "true"
		}
	}
	if len(rest) == 0 {
		return a.fail("Invalid operation ")
	}
	verb, names := rest[0], rest[1:]
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

// source is one repository of the sources.
type source struct{ uri, suite, components string }

// sources reads sources.list and the deb822 files.
func (m *Machine) sources() []source {
	var list []source
	if content, err := m.FS.ReadFile("/etc/apt/sources.list"); err == nil {
		list = append(list, oneLineSources(string(content))...)
	}
	entries, err := m.FS.ReadDir("/etc/apt/sources.list.d")
	if err != nil {
		return list
	}
	for _, entry := range entries {
		content, err := m.FS.ReadFile("/etc/apt/sources.list.d/" + entry.Name)
		if err != nil {
			continue
		}
		switch {
		case strings.HasSuffix(entry.Name, ".list"):
			list = append(list, oneLineSources(string(content))...)
		case strings.HasSuffix(entry.Name, ".sources"):
			list = append(list, deb822Sources(string(content))...)
		}
	}
	return list
}

func oneLineSources(content string) []source {
	var list []source
	for line := range strings.Lines(content) {
		f := strings.Fields(line)
		if len(f) > 1 && strings.HasPrefix(f[1], "[") {
			f = append(f[:1:1], f[2:]...)
		}
		if len(f) >= 3 && f[0] == "deb" {
			list = append(list, source{strings.TrimRight(f[1], "/"), f[2], strings.Join(f[3:], " ")})
		}
	}
	return list
}

func deb822Sources(content string) []source {
	var list []source
	for stanza := range strings.SplitSeq(content, "\n\n") {
		fields := map[string]string{}
		for line := range strings.Lines(stanza) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && !strings.HasPrefix(key, "#") {
				fields[key] = strings.TrimSpace(value)
			}
		}
		if fields["Enabled"] == "no" || fields["Enabled"] == "false" || !strings.Contains(fields["Types"], "deb") {
			continue
		}
		for _, uri := range strings.Fields(fields["URIs"]) {
			for _, suite := range strings.Fields(fields["Suites"]) {
				list = append(list, source{strings.TrimRight(uri, "/"), suite, fields["Components"]})
			}
		}
	}
	return list
}

func (a *apt) update() int {
	m, p := a.p.Machine, a.p
	f := m.AptFaults()
	if f.ListsLocked {
		fmt.Fprintf(p.Stderr, "E: Could not get lock /var/lib/apt/lists/lock. It is held by process %d (%s)\nN: Be aware that removing the lock file is not a solution and may break your system.\nE: Unable to lock directory /var/lib/apt/lists/\n", f.LockedPID, cmp.Or(f.LockedBy, "apt-get"))
		return aptError
	}
	if m.Sleep(a.ctx, 2*time.Second) != nil {
		return aptError
	}
	var failures []string
	for i, s := range m.sources() {
		host := strings.TrimPrefix(strings.TrimPrefix(s.uri, "https://"), "http://")
		host, _, _ = strings.Cut(host, "/")
		unauthorized := slices.ContainsFunc(f.Unauthorized, func(u string) bool { return strings.HasPrefix(s.uri, strings.TrimRight(u, "/")) })
		switch {
		case f.Offline:
			p.Printf("Ign:%d %s %s InRelease\n", i+1, s.uri, s.suite)
			failures = append(failures, fmt.Sprintf("W: Failed to fetch %s/dists/%s/InRelease  Temporary failure resolving '%s'", s.uri, s.suite, host))
		case unauthorized:
			p.Printf("Err:%d %s %s InRelease\n  401  Unauthorized [IP: 192.0.2.80 443]\n", i+1, s.uri, s.suite)
			failures = append(failures, fmt.Sprintf("E: Failed to fetch %s/dists/%s/InRelease  401  Unauthorized [IP: 192.0.2.80 443]\nE: The repository '%s %s InRelease' is not signed.\nN: Updating from such a repository can't be done securely, and is therefore disabled by default.\nN: See apt-secure(8) manpage for repository creation and user configuration details.", s.uri, s.suite, s.uri, s.suite))
		default:
			p.Printf("Hit:%d %s %s InRelease\n", i+1, s.uri, s.suite)
		}
	}
	p.Println("Reading package lists...")
	for _, text := range failures {
		fmt.Fprintln(p.Stderr, text)
	}
	if f.Offline {
		fmt.Fprintln(p.Stderr, "W: Some index files failed to download. They have been ignored, or old ones used instead.")
		return 0
	}
	if len(failures) > 0 {
		return aptError
	}
	m.packages.mu.Lock()
	m.packages.updates++
	m.packages.mu.Unlock()
	now := m.Now()
	_ = p.view.Chtimes("/var/lib/apt/lists", now, now) // as renaming the downloaded lists does
	return 0
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
	if f.Offline && len(c.install) > 0 {
		first := c.install[0].to
		fmt.Fprintf(p.Stderr, "E: Failed to fetch http://deb.debian.org/debian/pool/main/%s_%s_%s.deb  Temporary failure resolving 'deb.debian.org'\nE: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?\n", first.Name, first.Version, first.arch())
		return aptError
	}
	return a.perform(c, f)
}

func (a *apt) planInstall(c *change, names []string) int {
	p := a.p
	for _, word := range names {
		if strings.HasSuffix(word, "-") && len(word) > 1 {
			if pkg, ok := p.Machine.Installed(strings.TrimSuffix(word, "-")); ok {
				c.remove = append(c.remove, pkg)
				continue
			}
		}
		name, version, pinned := strings.Cut(word, "=")
		name, _, _ = strings.Cut(name, ":")
		target, ok := a.offered(name, version)
		have, installed := p.Machine.Installed(name)
		c.manual = append(c.manual, name)
		switch {
		case !ok && pinned:
			return a.fail(fmt.Sprintf("Version '%s' for '%s' was not found", version, name))
		case !ok && !installed:
			return a.fail("Unable to locate package " + name)
		case installed && (!ok || CompareVersions(have.Version, target.Version) >= 0 && !pinned || have.Version == target.Version):
			p.Printf("%s is already the newest version (%s).\n", name, have.Version)
			continue
		case a.upgrade && !installed:
			p.Printf("Skipping %s, it is not installed and only upgrades are requested.\n", name)
			continue
		}
		if code := a.add(c, target); code != 0 {
			return code
		}
	}
	return 0
}

func (a *apt) offered(name, version string) (Package, bool) {
	m := a.p.Machine
	if version == "" {
		return m.Candidate(name)
	}
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	for _, p := range m.packages.offered[name] {
		if p.Version == version {
			return p, true
		}
	}
	return Package{}, false
}

// add puts a package and what it needs into the plan.
func (a *apt) add(c *change, target Package) int {
	if slices.ContainsFunc(c.install, func(x pkgChange) bool { return x.to.Name == target.Name }) {
		return 0
	}
	have, installed := a.p.Machine.Installed(target.Name)
	for _, need := range target.Depends {
		name, _, _ := strings.Cut(need, " ")
		if _, ok := a.p.Machine.Installed(name); ok || name == target.Name {
			continue
		}
		dep, ok := a.p.Machine.Candidate(name)
		if !ok {
			fmt.Fprintf(a.p.Stdout, "Some packages could not be installed. This may mean that you have\nrequested an impossible situation or if you are using the unstable\ndistribution that some required packages have not yet been created\nor been moved out of Incoming.\nThe following information may help to resolve the situation:\n\nThe following packages have unmet dependencies:\n %s : Depends: %s but it is not installable\n", target.Name, name)
			return a.fail("Unable to correct problems, you have held broken packages.")
		}
		c.install = append(c.install, pkgChange{to: Package{Name: target.Name + " "}}) // guards against loops
		code := a.add(c, dep)
		c.install = slices.DeleteFunc(c.install, func(x pkgChange) bool { return x.to.Name == target.Name+" " })
		if code != 0 {
			return code
		}
	}
	c.install = append(c.install, pkgChange{to: target, from: have, upgrade: installed})
	return 0
}

func (a *apt) planRemove(c *change, names []string) int {
	m := a.p.Machine
	for _, name := range names {
		pkg, ok := m.Installed(name)
		if !ok {
			if _, offered := m.Candidate(name); !offered && !a.residual(name) {
				return a.fail("Unable to locate package " + name)
			}
			a.p.Printf("Package '%s' is not installed, so not removed\n", name)
			continue
		}
		c.remove = append(c.remove, pkg)
	}
	for changed := true; changed; { // what needs a removed package goes too
		changed = false
		for _, pkg := range m.InstalledPackages() {
			gone := func(name string) bool {
				return slices.ContainsFunc(c.remove, func(r Package) bool { return r.Name == name })
			}
			if !gone(pkg.Name) && slices.ContainsFunc(pkg.Depends, func(d string) bool { n, _, _ := strings.Cut(d, " "); return gone(n) }) {
				c.remove = append(c.remove, pkg)
				changed = true
			}
		}
	}
	if at := slices.IndexFunc(c.remove, func(p Package) bool { return p.Essential }); at >= 0 && !a.simulate {
		a.p.Printf("WARNING: The following essential packages will be removed.\nThis should NOT be done unless you know exactly what you are doing!\n  %s\n", c.remove[at].Name)
		return a.fail("Essential packages were removed and -y was used without --allow-remove-essential.")
	}
	return 0
}

func (a *apt) residual(name string) bool {
	m := a.p.Machine
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	_, ok := m.packages.residual[name]
	return ok
}

func (a *apt) planUpgrade(c *change, full bool) int {
	a.p.Println("Calculating upgrade...")
	m := a.p.Machine
	for _, have := range m.InstalledPackages() {
		target, ok := m.Candidate(have.Name)
		if !ok || CompareVersions(target.Version, have.Version) <= 0 {
			continue
		}
		m.packages.mu.Lock()
		held := m.packages.held[have.Name]
		m.packages.mu.Unlock()
		needsNew := slices.ContainsFunc(target.Depends, func(d string) bool {
			name, _, _ := strings.Cut(d, " ")
			_, installed := m.Installed(name)
			return !installed
		})
		if held || needsNew && !full {
			c.kept = append(c.kept, have.Name)
			continue
		}
		if code := a.add(c, target); code != 0 {
			return code
		}
	}
	return 0
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

func runAptCache(_ context.Context, p *Proc) int {
	args := slices.DeleteFunc(slices.Clone(p.Args()), func(a string) bool { return strings.HasPrefix(a, "-") })
	if len(args) == 0 {
		return 0
	}
	m := p.Machine
	switch args[0] {
	case "policy":
		for _, name := range args[1:] {
			p.aptPolicy(name)
		}
		return 0
	case "show", "madison":
		status := 0
		for _, name := range args[1:] {
			c, ok := m.Candidate(name)
			if !ok {
				fmt.Fprintln(p.Stderr, "N: Unable to locate package "+name)
				if args[0] == "show" {
					fmt.Fprintln(p.Stderr, "E: No packages found")
					status = aptError
				}
				continue
			}
			if args[0] == "madison" {
				p.Printf("%10s | %10s | http://deb.debian.org/debian trixie/main amd64 Packages\n", name, c.Version)
				continue
			}
			p.Printf("Package: %s\nVersion: %s\nArchitecture: %s\nDescription: %s\n\n", c.Name, c.Version, c.arch(), cmp.Or(c.Description, c.Name))
		}
		return status
	case "search":
		m.packages.mu.Lock()
		defer m.packages.mu.Unlock()
		for name := range m.packages.offered {
			if strings.Contains(name, args[len(args)-1]) {
				p.Println(name + " - " + name)
			}
		}
	}
	return 0
}

func (p *Proc) aptPolicy(name string) {
	m := p.Machine
	have, installed := m.Installed(name)
	candidate, offered := m.Candidate(name)
	if !installed && !offered {
		return
	}
	current, best := "(none)", "(none)"
	if installed {
		current, best = have.Version, have.Version
	}
	if offered && (!installed || CompareVersions(candidate.Version, have.Version) > 0) {
		best = candidate.Version
	}
	p.Printf("%s:\n  Installed: %s\n  Candidate: %s\n  Version table:\n", name, current, best)
	origin := "        500 http://deb.debian.org/debian trixie/main amd64 Packages"
	if offered && candidate.Version != current {
		p.Printf("     %s 500\n%s\n", candidate.Version, origin)
	}
	if installed {
		p.Printf(" *** %s 100\n", have.Version)
		if offered && candidate.Version == current {
			p.Println(origin)
		}
		p.Println("        100 /var/lib/dpkg/status")
	}
}

func runAptMark(_ context.Context, p *Proc) int {
	args := p.Args()
	if len(args) == 0 {
		return aptError
	}
	m := p.Machine
	switch args[0] {
	case "showhold":
		for _, k := range m.database() {
			if k.want == "hold" {
				p.Println(k.Name)
			}
		}
	case "hold", "unhold":
		for _, name := range args[1:] {
			if _, ok := m.Installed(name); !ok {
				fmt.Fprintf(p.Stderr, "E: Can't select installed nor candidate version from package '%s' as it has neither of them\n", name)
				return aptError
			}
			m.Hold(name, args[0] == "hold")
			if args[0] == "hold" {
				p.Printf("%s set on hold.\n", name)
			} else {
				p.Printf("Canceled hold on %s.\n", name)
			}
		}
	case "showmanual":
		for _, pkg := range m.InstalledPackages() {
			p.Println(pkg.Name)
		}
	}
	return 0
}
