package machine

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// packagePrograms are dpkg, apt and their relatives.
func packagePrograms() map[string]Program {
	return map[string]Program{
		"dpkg-query": runDpkgQuery, "dpkg": runDpkg, "apt-get": runAptGet, "apt": runAptGet, "apt-cache": runAptCache, "apt-mark": runAptMark, "apt-config": runAptConfig,
		"dpkg-reconfigure": runQuiet, "debconf-set-selections": runDebconf,
	}
}

func runDebconf(_ context.Context, p *Proc) int {
	_, err := p.ReadInput("-")
	return boolStatus(err == nil)
}

// known is a package of the dpkg database with its state.
type known struct {
	Package
	status string // "installed" or "config-files"
	want   string // "install", "hold", "deinstall"
}

// database lists what dpkg knows, by name.
func (m *Machine) database() []known {
	s := &m.packages
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []known
	for _, p := range s.installed {
		want := "install"
		if s.held[p.Name] {
			want = "hold"
		}
		status := "installed"
		if s.faults.Interrupted && slices.Contains(s.faults.Broken, p.Name) {
			status = "half-configured"
		}
		if state := s.unready[p.Name]; state != "" {
			status = state
		}
		list = append(list, known{p, status, want})
	}
	for _, p := range s.residual {
		list = append(list, known{p, "config-files", "deinstall"})
	}
	slices.SortFunc(list, func(a, b known) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (k known) abbreviation() string {
	want := map[string]string{"install": "i", "hold": "h", "deinstall": "r"}[k.want]
	return want + map[string]string{"installed": "i ", "config-files": "c ", "half-configured": "F ", "unpacked": "U ", "half-installed": "H "}[k.status]
}

// field fills one ${…} of dpkg-query's format.
func (k known) field(name string) string {
	name, width, _ := strings.Cut(name, ";")
	value := ""
	switch name {
	case "Package", "binary:Package":
		value = k.Name
	case "Version":
		value = k.Version
	case "Architecture":
		value = k.arch()
	case "Status":
		value = k.want + " ok " + k.status
	case "db:Status-Status":
		value = k.status
	case "db:Status-Want":
		value = k.want
	case "db:Status-Eflag":
		value = "ok"
	case "db:Status-Abbrev":
		value = k.abbreviation()
	case "Section":
		value = k.Section
	case "Installed-Size":
		value = fmt.Sprint(k.Size / 1024)
	case "source:Package", "Source":
		value = k.Name
	case "source:Version":
		value = k.Version
	case "binary:Summary", "Description":
		value = k.Description
	case "Maintainer":
		value = "Debian"
	case "Priority":
		value = "optional"
	}
	if width != "" {
		return fmt.Sprintf("%"+strings.TrimLeft(width, "+")+"s", value)
	}
	return value
}

func (k known) format(spec string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(spec, "${")
		text, _ := echoEscapes(before)
		b.WriteString(text)
		if !ok {
			return b.String()
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return b.String()
		}
		b.WriteString(k.field(name))
		spec = after
	}
}

func runDpkgQuery(_ context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("WlsLSf:", "show=W", "list=l", "status=s", "listfiles=L", "search=S", "showformat=f", "no-pager")
	if !ok {
		return 2
	}
	switch {
	case opts.has("s"):
		return p.dpkgStatus(rest)
	case opts.has("l"):
		return p.dpkgList(rest)
	case opts.has("L"):
		return p.dpkgFiles(rest)
	case opts.has("S"):
		return p.dpkgSearch(rest)
	case opts.has("W"):
		spec := `${binary:Package}\t${Version}\n`
		if opts.has("f") {
			spec = opts.last("f")
		}
		return p.dpkgSelect(rest, func(k known) { io.WriteString(p.Stdout, k.format(spec)) })
	}
	fmt.Fprintln(p.Stderr, "dpkg-query: error: need an action option")
	return 2
}

// dpkgSelect calls show for packages that match names or patterns; a name that none matches is reported.
func (p *Proc) dpkgSelect(names []string, show func(known)) int {
	all := p.Machine.database()
	if len(names) == 0 {
		for _, k := range all {
			show(k)
		}
		return 0
	}
	shown := map[string]bool{}
	status := 0
	for _, name := range names {
		bare, _, _ := strings.Cut(name, ":")
		found := false
		for _, k := range all {
			if matches(bare, k.Name) {
				found = true
				shown[k.Name] = true
			}
		}
		if !found {
			fmt.Fprintf(p.Stderr, "dpkg-query: no packages found matching %s\n", name)
			status = 1
		}
	}
	for _, k := range all {
		if shown[k.Name] {
			show(k)
		}
	}
	return status
}

func (p *Proc) dpkgStatus(names []string) int {
	status := 0
	for _, name := range names {
		at := slices.IndexFunc(p.Machine.database(), func(k known) bool { return k.Name == name })
		if at < 0 {
			fmt.Fprintf(p.Stderr, "dpkg-query: package '%s' is not installed and no information is available\nUse dpkg --info (= dpkg-deb --info) to examine archive files.\n", name)
			status = 1
			continue
		}
		k := p.Machine.database()[at]
		p.Printf("Package: %s\nStatus: %s ok %s\nPriority: optional\nSection: %s\nInstalled-Size: %d\nMaintainer: Debian\nArchitecture: %s\nVersion: %s\nDescription: %s\n\n", k.Name, k.want, k.status, cmp.Or(k.Section, "admin"), k.Size/1024, k.arch(), k.Version, cmp.Or(k.Description, k.Name))
	}
	return status
}

func (p *Proc) dpkgList(names []string) int {
	head := "Desired=Unknown/Install/Remove/Purge/Hold\n| Status=Not/Inst/Conf-files/Unpacked/halF-conf/Half-inst/trig-aWait/Trig-pend\n|/ Err?=(none)/Reinst-required (Status,Err: uppercase=bad)\n||/ Name           Version      Architecture Description\n+++-==============-============-============-=================================\n"
	return p.dpkgSelect(names, func(k known) {
		io.WriteString(p.Stdout, head)
		head = ""
		p.Printf("%s %-14s %-12s %-12s %s\n", k.abbreviation(), k.Name, k.Version, k.arch(), cmp.Or(k.Description, k.Name))
	})
}

func (p *Proc) dpkgFiles(names []string) int {
	for _, name := range names {
		pkg, ok := p.Machine.Installed(name)
		if !ok {
			fmt.Fprintf(p.Stderr, "dpkg-query: package '%s' is not installed\n", name)
			return 1
		}
		p.Println("/.")
		for _, path := range slices.Sorted(maps.Keys(pkg.Files)) {
			p.Println(path)
		}
		for _, program := range slices.Sorted(maps.Keys(pkg.Programs)) {
			p.Println("/usr/bin/" + lastName(program))
		}
	}
	return 0
}

func (p *Proc) dpkgSearch(paths []string) int {
	status := 0
	for _, path := range paths {
		found := false
		for _, pkg := range p.Machine.InstalledPackages() {
			if _, ok := pkg.Files[path]; ok || pkg.Programs[lastName(path)] != nil {
				p.Printf("%s: %s\n", pkg.Name, path)
				found = true
			}
		}
		if !found {
			fmt.Fprintf(p.Stderr, "dpkg-query: no path found matching pattern %s\n", path)
			status = 1
		}
	}
	return status
}

func runDpkg(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("slLSiCPra", "status=s", "list=l", "listfiles=L", "search=S", "audit=C", "print-architecture", "configure", "pending=a", "get-selections", "compare-versions", "install=i", "remove=r", "purge=P", "force-confold", "force-confdef", "force-confnew", "print-foreign-architectures", "verify", "version", "add-architecture=")
	if !ok {
		args := p.Args()
		if len(args) == 2 && args[0] == "--configure" && args[1] == "-a" {
			return p.dpkgConfigure(ctx)
		}
		return 2
	}
	switch {
	case opts.has("s"):
		return p.dpkgStatus(rest)
	case opts.has("l"):
		return p.dpkgList(rest)
	case opts.has("L"):
		return p.dpkgFiles(rest)
	case opts.has("S"):
		return p.dpkgSearch(rest)
	case opts.has("print-architecture"):
		p.Println("amd64")
	case opts.has("print-foreign-architectures"), opts.has("verify"):
	case opts.has("C"):
		return p.dpkgAudit()
	case opts.has("configure"):
		return p.dpkgConfigure(ctx)
	case opts.has("get-selections"):
		for _, k := range p.Machine.database() {
			p.Printf("%-48s%s\n", k.Name, k.want)
		}
	case opts.has("compare-versions"):
		return p.dpkgCompare(rest)
	case opts.has("version"):
		p.Println("Debian 'dpkg' package management program version 1.22.21 (amd64).")
	case opts.has("P", "r"):
		for _, name := range rest {
			if err := p.Machine.Remove(ctx, name, opts.has("P")); err != nil {
				fmt.Fprintf(p.Stderr, "dpkg: error processing package %s (--remove):\n %v\n", name, err)
				return 1
			}
		}
	default:
		fmt.Fprintln(p.Stderr, "dpkg: error: need an action option")
		return 2
	}
	return 0
}

func (p *Proc) dpkgCompare(args []string) int {
	if len(args) != 3 {
		fmt.Fprintln(p.Stderr, "dpkg: error: --compare-versions takes three arguments: <version> <relation> <version>")
		return 2
	}
	c := CompareVersions(args[0], args[2])
	switch args[1] {
	case "lt", "<<":
		return boolStatus(c < 0)
	case "le", "<=":
		return boolStatus(c <= 0)
	case "eq", "=":
		return boolStatus(c == 0)
	case "ne":
		return boolStatus(c != 0)
	case "ge", ">=":
		return boolStatus(c >= 0)
	case "gt", ">>":
		return boolStatus(c > 0)
	}
	fmt.Fprintln(p.Stderr, "dpkg: error: --compare-versions bad relation")
	return 2
}
