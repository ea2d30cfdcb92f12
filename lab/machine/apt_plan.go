package machine

import (
	"fmt"
	"slices"
	"strings"
)

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
		name, version, _ := strings.Cut(need, " ")
		exact, bound := strings.CutPrefix(strings.TrimSuffix(version, ")"), "(= ")
		if have, ok := a.p.Machine.Installed(name); ok && (!bound || have.Version == exact) || name == target.Name {
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
	a.say("Calculating upgrade...")
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
	for _, x := range c.install {
		for _, name := range x.to.Conflicts {
			if pkg, ok := m.Installed(name); ok && !slices.ContainsFunc(c.remove, func(r Package) bool { return r.Name == name }) {
				c.remove = append(c.remove, pkg)
			}
		}
	}
	gone := func(name string) bool {
		return slices.ContainsFunc(c.remove, func(r Package) bool { return r.Name == name })
	}
	c.install = slices.DeleteFunc(c.install, func(x pkgChange) bool { return gone(x.to.Name) })
	return 0
}
