package machine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

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
	from := (&apt{p: p}).repository(candidate)
	component, _, _ := strings.Cut(from.components, " ")
	origin := fmt.Sprintf("        500 %s %s/%s amd64 Packages", from.uri, from.suite, component)
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

// runAptConfig is apt-config dump, for what files in apt.conf.d say of single keys: `Key "value";`.
func runAptConfig(_ context.Context, p *Proc) int {
	args := p.Args()
	if len(args) == 0 || args[0] != "dump" {
		fmt.Fprintln(p.Stderr, "E: Arguments not in pairs")
		return aptError
	}
	const dir = "/etc/apt/apt.conf.d"
	list, _ := p.Machine.FS.ReadDir(dir) // none is an empty configuration
	for _, entry := range list {
		text, err := p.Machine.FS.ReadFile(dir + "/" + entry.Name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if key, _, ok := strings.Cut(line, " "); ok && strings.HasSuffix(line, ";") && (len(args) == 1 || strings.EqualFold(key, args[1])) {
				p.Println(line)
			}
		}
	}
	return 0
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
