package machine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// auditTexts are dpkg's words about packages that it has not finished with.
var auditTexts = []struct{ status, text string }{
	{"half-installed", "The following packages are only half installed, due to problems during\ninstallation.  The installation can probably be completed by retrying it;\nthe packages can be removed using dselect or dpkg --remove:"},
	{"unpacked", "The following packages have been unpacked but not yet configured.\nThey must be configured using dpkg --configure or the configure\nmenu option in dselect for them to work:"},
	{"half-configured", "The following packages are only half configured, probably due to problems\nconfiguring them the first time.  The configuration should be retried using\ndpkg --configure <package> or the configure menu option in dselect:"},
}

// dpkgAudit is dpkg --audit: nothing when all is well.
func (p *Proc) dpkgAudit() int {
	all := p.Machine.database()
	for _, a := range auditTexts {
		head := a.text + "\n"
		for _, k := range all {
			if k.status == a.status {
				p.Printf("%s %-20s %s\n", head, k.Name, cmp.Or(k.Description, k.Name))
				head = ""
			}
		}
		if head == "" {
			p.Println("")
		}
	}
	return 0
}

// dpkgConfigure is dpkg --configure -a: it finishes what was interrupted.
func (p *Proc) dpkgConfigure(ctx context.Context) int {
	m := p.Machine
	if p.UID != 0 {
		fmt.Fprintln(p.Stderr, "dpkg: error: requested operation requires superuser privilege")
		return 2
	}
	if holder, pid, ok := m.lockPackages(p); !ok {
		fmt.Fprintf(p.Stderr, "dpkg: error: dpkg frontend lock was locked by %s process with pid %d\n", holder, pid)
		return 2
	}
	defer m.unlockPackages(p)
	var options []string
	for _, arg := range p.Args() {
		if strings.HasPrefix(arg, "--force-") {
			options = append(options, arg)
		}
	}
	f := m.AptFaults()
	todo := m.unreadyPackages()
	if f.Interrupted { // what a fault says is broken was only interrupted
		for _, name := range f.Broken {
			if _, ok := m.Installed(name); ok && !slices.Contains(todo, name) {
				todo = append(todo, name)
			}
		}
		f.Broken = nil
		m.SetAptFaults(f)
	}
	var bad []string
	for _, name := range todo {
		err := m.setUp(ctx, p, name, forced(options))
		switch {
		case errors.Is(err, ErrKilled) || ctx.Err() != nil:
			m.SetInterrupted(true)
			return 1
		case err != nil:
			fmt.Fprintf(p.Stderr, "dpkg: error processing package %s (--configure):\n %v\n", name, err)
			bad = append(bad, name)
		}
	}
	if f.Interrupted {
		m.SetInterrupted(false)
	}
	if len(bad) > 0 {
		fmt.Fprintf(p.Stderr, "Errors were encountered while processing:\n %s\n", strings.Join(bad, "\n "))
		return 1
	}
	return 0
}
