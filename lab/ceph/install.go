package ceph

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// release is a release of Ceph as Proxmox packs it.
type release struct {
	name, short string // "squid", "19.2"
	version     string // of the packages
	hash        string
}

// releases are those on offer for a major version of Proxmox VE, the default first.
func releases(major int) []release {
	squid := release{"squid", "19.2", "19.2.3-pve2", "2f03f1cd83e5d40cdf1393cb64a662a8e8bb07c6"}
	if major >= 9 {
		return []release{squid, {"tentacle", "20.2", "20.2.0-pve1", "b5b5b2c1e1d6c5a4e9fd62ad5aa9e5d6f6ab4c11"}}
	}
	squid.version = "19.2.1-pve3"
	return []release{
		{"quincy", "17.2", "17.2.8-pve2", "f1b8fa2b5c0f0f0a7c2d3ad32bf1f4b9d90dbf47"}, {"reef", "18.2", "18.2.4-pve3", "e7ad5345525c7aa95470c26863873b581076945d"}, squid,
	}
}

func (r release) title() string { return r.short + " " + strings.ToUpper(r.name[:1]) + r.name[1:] }

// releaseOf is the release of a package version.
func releaseOf(version string) release {
	for _, major := range []int{9, 8} {
		for _, r := range releases(major) {
			if strings.HasPrefix(version, r.short+".") {
				r.version = version
				return r
			}
		}
	}
	return release{name: "unknown", short: version, version: version, hash: strings.Repeat("0", 40)}
}

// full is a version as Ceph's programs tell it.
func (r release) full() string {
	upstream, _, _ := strings.Cut(r.version, "-")
	return fmt.Sprintf("ceph version %s (%s) %s (stable)", upstream, r.hash, r.name)
}

// upstream is a package version without Proxmox's revision.
func upstream(version string) string {
	out, _, _ := strings.Cut(version, "-")
	return out
}

// offer installs what every node has, and puts Debian's own packages of Ceph on offer.
func (n *Node) offer() error {
	major := n.pve.Release().Major()
	first := releases(major)[0].version
	if err := n.m.Install(context.Background(), n.common(first)); err != nil {
		return err
	}
	n.m.Offer(machine.Package{Name: "gdisk", Version: "1.0.10-2", Programs: map[string]machine.Program{"/usr/sbin/sgdisk": n.disks.Sgdisk}}, machine.Package{Name: "nvme-cli", Version: "2.13-2"})
	return n.m.FS.MkdirAll("/etc/ceph", 0o755)
}

// common is the package with the command line, which every Proxmox node has.
func (n *Node) common(version string) machine.Package {
	return machine.Package{
		Name: "ceph-common", Version: version, Section: "admin", Origin: "Proxmox",
		Programs: map[string]machine.Program{"ceph": n.ceph, "rados": n.rados, "rbd": n.rbd, "ceph-authtool": quiet, "ceph-crash": quiet},
	}
}

func quiet(context.Context, *machine.Proc) int { return 0 }

// Packages are those of a version of Ceph.
func (n *Node) packages(version string) []machine.Package {
	tells := func(kind string) map[string]machine.Program {
		return map[string]machine.Program{"ceph-" + kind: func(_ context.Context, p *machine.Proc) int {
			if slices.Contains(p.Args(), "--version") || slices.Contains(p.Args(), "-v") {
				p.Println(releaseOf(version).full())
				return 0
			}
			fmt.Fprintf(p.Stderr, "ceph-%s: runs as a unit only\n", kind)
			return 1
		}}
	}
	one := func(name string, depends ...string) machine.Package {
		for i, d := range depends {
			depends[i] = d + " (= " + version + ")"
		}
		return machine.Package{Name: name, Version: version, Section: "admin", Origin: "Proxmox", Size: 8 << 20, Depends: depends}
	}
	mon, osd, mgr, mds, volume := one("ceph-mon", "ceph-base"), one("ceph-osd", "ceph-base"), one("ceph-mgr", "ceph-base", "ceph-mgr-modules-core"), one("ceph-mds", "ceph-base"), one("ceph-volume", "ceph-osd")
	mon.Programs, osd.Programs, mgr.Programs, mds.Programs = tells("mon"), tells("osd"), tells("mgr"), tells("mds")
	volume.Programs = map[string]machine.Program{"/usr/sbin/ceph-volume": n.volumeProgram}
	base := one("ceph-base", "ceph-common")
	base.Units = n.targetUnits()
	base.Programs = map[string]machine.Program{"crushtool": crushtool}
	return []machine.Package{
		one("ceph", "ceph-mgr", "ceph-mon", "ceph-osd"), base, n.common(version), one("ceph-fuse"), mds, volume, mgr, one("ceph-mgr-modules-core"), mon, osd,
	}
}

// installed is the version of an installed package, or "".
func (n *Node) installed(name string) string {
	p, _ := n.m.Installed(name)
	return p.Version
}

// repositories are Proxmox's with their components.
var repositories = []string{"enterprise", "no-subscription", "test", "manual"}

const installUsage = "pveceph install  [OPTIONS]"

// pvecephInstall is `pveceph install`.
func (n *Node) pvecephInstall(ctx context.Context, p *machine.Proc, args []string) int {
	major := n.pve.Release().Major()
	offered := releases(major)
	var names []string
	for _, r := range offered {
		names = append(names, r.name)
	}
	enum := func(list []string) func(string) string {
		return func(v string) string {
			if !slices.Contains(list, v) {
				return fmt.Sprintf("value '%s' does not have a value in the enumeration '%s'", v, strings.Join(list, ", "))
			}
			return ""
		}
	}
	o, perr := pvetool.Parse(args, map[string]pvetool.Option{
		"version": {Check: enum(names)}, "repository": {Check: enum(repositories)}, "allow-experimental": {Kind: pvetool.Bool}, "test-repository": {Kind: pvetool.Bool},
	})
	if perr == nil && len(o.Positional) > 0 {
		perr = &pvetool.ParamError{Head: "too many arguments"}
	}
	if perr != nil {
		return pvetool.Usage(p, perr, installUsage)
	}
	chosen := offered[0]
	if v := o.Values["version"]; v != "" {
		chosen = offered[slices.Index(names, v)]
	}
	repo := o.Values["repository"]
	if repo == "" {
		repo = "enterprise"
	}
	n.warnOfRepository(p, repo)
	if o.Values["version"] == "" && p.TTY {
		p.Printf("This will install Ceph %s - continue (y/N)? ", chosen.title())
		if answer := readLine(p.Stdin); !slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer))) {
			return pvetool.Die(p, pvetool.ExitDie, "Aborting installation as requested")
		}
	}
	return n.install(ctx, p, chosen, repo)
}

// warnOfRepository says what Proxmox thinks of the choice.
func (n *Node) warnOfRepository(p *machine.Proc, repo string) {
	subscribed := exists(p.View(), "/etc/subscription")
	switch {
	case subscribed && repo != "enterprise":
		fmt.Fprint(p.Stderr, "\nNOTE: The node has an active subscription but a non-production Ceph repository selected.\n\n")
	case subscribed:
	case repo == "enterprise":
		fmt.Fprint(p.Stderr, "\nWARN: Enterprise repository selected, but no active subscription!\n\n")
	case repo == "no-subscription":
		fmt.Fprint(p.Stderr, "\nHINT: The no-subscription repository is not the best choice for production setups.\nProxmox recommends using the enterprise repository with a valid subscription.\n")
	case repo == "test":
		fmt.Fprint(p.Stderr, "\nWARN: The test repository should only be used for test setups or after consulting the official Proxmox support!\n\n")
	}
}

// readLine reads a line without taking more than it.
func readLine(in io.Reader) string {
	var line []byte
	one := make([]byte, 1)
	for {
		n, err := in.Read(one)
		if n == 1 {
			line = append(line, one[0])
		}
		if err != nil || n == 1 && one[0] == '\n' {
			return string(line)
		}
	}
}

// sourceFile is the file of Ceph's repository with its content.
func (n *Node) sourceFile(r release, repo string) (path, text string) {
	rel := n.pve.Release()
	uri := "http://download.proxmox.com/debian/ceph-" + r.name
	if repo == "enterprise" {
		uri = "https://enterprise.proxmox.com/debian/ceph-" + r.name
	}
	if rel.Major() < 9 {
		return "/etc/apt/sources.list.d/ceph.list", fmt.Sprintf("deb %s %s %s\n", uri, rel.Codename, repo)
	}
	return "/etc/apt/sources.list.d/ceph.sources", fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: %s\nSigned-By: /usr/share/keyrings/proxmox-archive-keyring.gpg\n", uri, rel.Codename, repo)
}

// install writes the repository, updates the lists, whose errors it swallows, and runs apt-get, which asks unless it is
// told not to.
func (n *Node) install(ctx context.Context, p *machine.Proc, r release, repo string) int {
	path, text := n.sourceFile(r, repo)
	if repo != "manual" {
		if err := p.View().WriteFile(path, []byte(text), 0o644); err != nil {
			return pvetool.Die(p, pvetool.ExitAccess, "unable to open file '%s.tmp.2174' - %s", path, machine.Reason(err))
		}
	}
	p.Println("update available package list")
	env := func(in io.Reader, out io.Writer, argv ...string) int {
		child := machine.Proc{Argv: argv, Env: map[string]string{}, Dir: "/", UID: p.UID, Stdin: in, Stdout: out, Stderr: p.Stderr, Tag: p.Tag, TTY: p.TTY}
		for k, v := range p.Env {
			child.Env[k] = v
		}
		child.Env["PATH"], child.Env["DEBIAN_FRONTEND"] = "/sbin:/bin:/usr/sbin:/usr/bin", "noninteractive"
		return n.m.Exec(ctx, child)
	}
	env(nil, io.Discard, "apt-get", "-q", "update")
	n.refresh()
	if have, ok := n.m.Candidate("ceph"); ok && releaseOf(have.Version).name != r.name {
		return pvetool.Die(p, pvetool.ExitDie, "Selected Ceph version '%s' does not match the available version in the repository '%s'", r.name, upstream(have.Version))
	}
	if r.name == "tentacle" && n.pve.Release().Version < "9.1" {
		return pvetool.Die(p, pvetool.ExitDie, "Refusing to install tech-preview Ceph release %s without 'allow-experimental' parameter!", r.title())
	}
	p.Println("start installation")
	if err := p.View().WriteFile(installFlag, nil, 0o644); err != nil {
		return pvetool.Die(p, pvetool.ExitAccess, "could not create install flag - %s", machine.Reason(err))
	}
	if n.pve.Phase(ctx, "ceph:install", 0) != nil {
		return pvetool.ExitKilled
	}
	code := env(p.Stdin, p.Stdout, "apt-get", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confnew", "install", "--", "ceph", "ceph-common", "ceph-fuse", "ceph-mds", "ceph-volume", "gdisk", "nvme-cli")
	if ctx.Err() != nil {
		return pvetool.ExitKilled // the flag stays
	}
	_ = p.View().Remove(installFlag) // as below
	if code != 0 {
		return pvetool.Die(p, pvetool.ExitDie, "apt failed during ceph installation (%d)", code<<8)
	}
	p.Printf("\ninstalled Ceph %s successfully!\n", r.title())
	p.Println("\nreloading API to load new Ceph RADOS library...")
	for _, unit := range []string{"pvedaemon.service", "pveproxy.service"} {
		_ = n.m.ReloadUnit(ctx, unit) // one that does not run is not reloaded
	}
	return 0
}

// refresh puts on offer what the repositories of the sources have, unless they could not be reached.
func (n *Node) refresh() {
	f := n.m.AptFaults()
	if f.Offline {
		return
	}
	for _, r := range releases(n.pve.Release().Major()) {
		for i, one := range slices.DeleteFunc(n.sources(), func(s string) bool { return !strings.Contains(s, "debian/ceph-"+r.name) }) {
			if i == 0 {
				n.m.Withdraw("ceph", "ceph-base", "ceph-common", "ceph-fuse", "ceph-mds", "ceph-volume", "ceph-mgr", "ceph-mgr-modules-core", "ceph-mon", "ceph-osd")
			}
			if !slices.ContainsFunc(f.Unauthorized, func(u string) bool { return strings.Contains(one, strings.TrimRight(u, "/")) }) {
				n.m.Offer(n.packages(r.version)...)
			}
		}
	}
}

// sources are the entries of apt's sources that are switched on, one a line or a stanza.
func (n *Node) sources() []string {
	const dir = "/etc/apt/sources.list.d"
	list, err := n.m.FS.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, entry := range list {
		text, err := n.m.FS.ReadFile(dir + "/" + entry.Name)
		if err != nil {
			continue
		}
		separator := "\n"
		if strings.HasSuffix(entry.Name, ".sources") {
			separator = "\n\n"
		}
		for one := range strings.SplitSeq(string(text), separator) {
			if !strings.HasPrefix(one, "#") && !off.MatchString(one) {
				out = append(out, one)
			}
		}
	}
	return out
}

// off is a stanza that is switched off.
var off = regexp.MustCompile(`(?mi)^Enabled:\s*(no|false|0)\s*$`)

// checkInstalled is the first check of most commands.
func (n *Node) checkInstalled(names ...string) error {
	if len(names) == 0 {
		names = []string{"ceph-mon"}
	}
	v := n.m.FS.View
	for _, name := range names {
		path := "/usr/bin/" + name
		if name == "ceph-volume" {
			path = "/usr/sbin/ceph-volume"
		}
		if !exists(v, path) || exists(v, installFlag) {
			return &dieError{code: pvetool.ExitNoEntry, text: "binary not installed: " + path}
		}
	}
	return nil
}
