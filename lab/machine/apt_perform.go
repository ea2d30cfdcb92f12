package machine

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// overrideFile lets apt remove what makes a Proxmox VE node.
const overrideFile = "/please-remove-proxmox-ve"

// hook is the one that Proxmox VE has apt ask before it changes anything.
func (a *apt) hook(c *change) int {
	if _, err := a.p.Machine.FS.Stat(overrideFile); err == nil || !slices.ContainsFunc(c.remove, func(r Package) bool { return r.Name == "proxmox-ve" }) {
		return 0
	}
	for _, line := range []string{
		" !! WARNING !!", " You are attempting to remove the meta-package 'proxmox-ve'!", "", " If you really want to permanently remove 'proxmox-ve' from your system, run the following command",
		" \ttouch '" + overrideFile + "'", " run apt purge proxmox-ve to remove the meta-package", " and repeat your apt invocation.", "",
		" If you are unsure why 'proxmox-ve' would be removed, please verify", " \t- your APT repository settings", " \t- that you are using 'apt full-upgrade' to upgrade your system",
	} {
		fmt.Fprintln(a.p.Stderr, "W: (pve-apt-hook)"+line)
	}
	fmt.Fprintln(a.p.Stderr, "E: Sub-process /usr/share/proxmox-ve/pve-apt-hook returned an error code (1)\nE: Failure running script /usr/share/proxmox-ve/pve-apt-hook")
	return aptError
}

// perform does what was planned, with dpkg's lines and a little model time for each package. Like dpkg it goes on with other
// packages after one has failed.
func (a *apt) perform(c *change) int {
	p, m := a.p, a.p.Machine
	began := m.Now().UTC().Format("2006-01-02  15:04:05")
	io.WriteString(p.Stdout, "(Reading database ... 45000 files and directories currently installed.)\n")
	for _, r := range c.remove {
		p.Printf("Removing %s (%s) ...\n", r.Name, r.Version)
		if m.Sleep(a.ctx, time.Second) != nil {
			return a.cut()
		}
		if err := m.Remove(a.ctx, r.Name, a.purge); err != nil {
			fmt.Fprintf(p.Stderr, "dpkg: error processing package %s (--remove):\n %v\n", r.Name, err)
			return a.failed([]string{r.Name})
		}
	}
	for _, x := range c.install {
		p.Printf("Preparing to unpack .../%s ...\n", archiveName(x.to))
		if x.upgrade {
			p.Printf("Unpacking %s (%s) over (%s) ...\n", x.to.Name, x.to.Version, x.from.Version)
		} else {
			p.Printf("Selecting previously unselected package %s.\nUnpacking %s (%s) ...\n", x.to.Name, x.to.Name, x.to.Version)
		}
		if m.Sleep(a.ctx, time.Second) != nil {
			return a.cut()
		}
		if err := m.atPhase(a.ctx, "apt:unpack", x.to.Name); err != nil {
			return a.stopped(err)
		}
		m.unpack(x)
	}
	bad, code := a.setUpAll(c)
	if code != 0 {
		return code
	}
	a.history(c, began, len(bad) > 0)
	if len(bad) > 0 {
		return a.failed(bad)
	}
	if err := m.atPhase(a.ctx, "apt:end", ""); err != nil {
		return a.stopped(err)
	}
	return 0
}

// setUpAll sets up what is unpacked: what was left from before, then what this run brought, in its order.
func (a *apt) setUpAll(c *change) (bad []string, code int) {
	m := a.p.Machine
	todo := m.unreadyPackages()
	slices.SortStableFunc(todo, func(x, y string) int { return c.place(x) - c.place(y) })
	for _, name := range todo {
		err := m.setUp(a.ctx, a.p, name, a.force)
		switch {
		case errors.Is(err, ErrKilled) || a.ctx.Err() != nil:
			return nil, a.cut()
		case err != nil:
			fmt.Fprintf(a.p.Stderr, "dpkg: error processing package %s (--configure):\n %v\n", name, err)
			bad = append(bad, name)
		}
	}
	return bad, 0
}

// place is where a package comes in the order of a change; what is not in it comes first.
func (c *change) place(name string) int {
	return slices.IndexFunc(c.install, func(x pkgChange) bool { return x.to.Name == name })
}

// stopped ends the program at a phase that a fault has struck.
func (a *apt) stopped(err error) int {
	if errors.Is(err, ErrKilled) || a.ctx.Err() != nil {
		return a.cut()
	}
	fmt.Fprintf(a.p.Stderr, "E: %v\n", err)
	return aptError
}

// cut leaves dpkg in need of --configure -a: somebody killed it half-way.
func (a *apt) cut() int {
	if !a.fetch {
		a.p.Machine.SetInterrupted(true)
	}
	return aptError
}

func (a *apt) failed(names []string) int {
	fmt.Fprintf(a.p.Stderr, "Errors were encountered while processing:\n %s\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n", strings.Join(names, "\n "))
	return aptError
}

// history writes an entry of /var/log/apt/history.log.
func (a *apt) history(c *change, began string, bad bool) {
	var b strings.Builder
	fmt.Fprintf(&b, "\nStart-Date: %s\nCommandline: %s\n", began, strings.Join(a.p.Argv, " "))
	var fresh, upgraded []string
	for _, x := range c.install {
		if x.upgrade {
			upgraded = append(upgraded, fmt.Sprintf("%s:%s (%s, %s)", x.to.Name, x.to.arch(), x.from.Version, x.to.Version))
		} else {
			fresh = append(fresh, fmt.Sprintf("%s:%s (%s, automatic)", x.to.Name, x.to.arch(), x.to.Version))
		}
	}
	for title, list := range map[string][]string{"Install": fresh, "Upgrade": upgraded} {
		if len(list) > 0 {
			fmt.Fprintf(&b, "%s: %s\n", title, strings.Join(list, ", "))
		}
	}
	if bad {
		b.WriteString("Error: Sub-process /usr/bin/dpkg returned an error code (1)\n")
	}
	fmt.Fprintf(&b, "End-Date: %s\n", a.p.Machine.Now().UTC().Format("2006-01-02  15:04:05"))
	const name = "/var/log/apt/history.log"
	fs := a.p.Machine.FS
	_ = fs.MkdirAll("/var/log/apt", 0o755) // a full disk keeps apt from its log, not from its work
	old, _ := fs.ReadFile(name)            // none yet is as good
	_ = fs.WriteFile(name, append(old, b.String()...), 0o644)
}

const updatesDir = "/var/lib/dpkg/updates"

// SetInterrupted makes dpkg look as if it had been killed at work, or as if that had been mended.
func (m *Machine) SetInterrupted(on bool) {
	f := m.AptFaults()
	f.Interrupted = on
	m.SetAptFaults(f)
	if on {
		_ = m.FS.MkdirAll(updatesDir, 0o755) // the sign that scripts look for
		_ = m.FS.WriteFile(updatesDir+"/0001", []byte("Package: interrupted\n"), 0o644)
		return
	}
	_ = m.FS.RemoveAll(updatesDir) // none is as good
}

func (m *Machine) interrupted() bool { return m.AptFaults().Interrupted }
