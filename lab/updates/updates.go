// Package updates gives the nodes of a lab newer packages to be upgraded to: what a minor release of Proxmox VE brings, what
// installing each package does to a running node, and kernels with their files in /boot. The main type is Node. The machine's
// apt and dpkg do the rest.
package updates

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/machine"
)

// Options are what Install is told of a node.
type Options struct {
	Machine *machine.Machine
	// Node is nil for a host without Proxmox VE.
	Node *cluster.Node
	// Kernel is the one that is installed.
	Kernel string
	// Ceph makes the packages of a version of Ceph; nil where there is none.
	Ceph func(version string) []machine.Package
}

// Node is a host whose packages can become newer.
type Node struct {
	Options
	boot *partition // nil while /boot is a folder of the root file system
}

// Install prepares a host: the package of its kernel, the files in /boot.
func Install(ctx context.Context, o Options) (*Node, error) {
	n := &Node{Options: o}
	m := o.Machine
	var started atomic.Int64 // seconds since 1970
	started.Store(m.Now().Add(-m.Uptime()).Unix())
	m.OnPower(func(up bool) {
		if up {
			started.Store(m.Now().Unix())
		}
	})
	m.ProcFile("/stat", func() []byte {
		return fmt.Appendf(nil, "cpu  11250 0 8420 9876543 1200 0 310 0 0 0\nctxt 22441100\nbtime %d\nprocesses 48210\n", started.Load())
	})
	m.Offer(needrestart())
	// The repositories have not been touched since the installation.
	installed := m.Now().AddDate(0, -1, 0)
	const sources = "/etc/apt/sources.list.d"
	list, _ := m.FS.ReadDir(sources) // every Debian has it
	for _, entry := range list {
		if err := m.FS.Chtimes(sources+"/"+entry.Name, installed, installed); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{sources, "/etc/apt/sources.list"} {
		if _, err := m.FS.Stat(name); err == nil {
			if err := m.FS.Chtimes(name, installed, installed); err != nil {
				return nil, err
			}
		}
	}
	for name, libraries := range baseLibraries {
		if p, ok := m.Installed(name); ok {
			p.Libraries = libraries
			if err := m.Install(ctx, p); err != nil {
				return nil, err
			}
		}
	}
	if err := m.FS.WriteFile("/boot/initrd.img-"+o.Kernel, []byte("initramfs\n"), 0o644); err != nil {
		return nil, err
	}
	if o.Node == nil {
		return n, nil
	}
	if err := n.base(ctx); err != nil {
		return nil, err
	}
	if o.Node.Release().Major() == 8 { // what a suite of the next release would bring
		next, err := cluster.ReleaseOf("9.1.8")
		if err != nil {
			return nil, err
		}
		for _, p := range next.Packages {
			m.Publish(n.update(p.Name, p.Version, "trixie"))
		}
	}
	return n, nil
}

// base makes the installed packages what a node has from its installation.
func (n *Node) base(ctx context.Context) error {
	m := n.Machine
	list := []machine.Package{{Name: "proxmox-kernel-" + n.Kernel + "-signed", Version: strings.TrimSuffix(n.Kernel, "-pve"), Section: "kernel", Origin: "Proxmox"}}
	if n.Node.Release().Major() == 8 {
		for _, p := range [][2]string{{"libc6", "2.36-9+deb12u10"}, {"systemd", "252.36-1~deb12u1"}, {"base-files", "12.4+deb12u10"}} {
			list = append(list, machine.Package{Name: p[0], Version: p[1], Section: "libs", Origin: "Debian", Libraries: baseLibraries[p[0]]})
		}
	}
	for _, p := range list {
		if err := m.Install(ctx, p); err != nil {
			return err
		}
	}
	for name, files := range conffiles {
		p, ok := m.Installed(name)
		if !ok {
			continue
		}
		p.Conffiles = map[string]string{}
		for path, text := range files {
			p.Conffiles[path] = text
			if err := ship(m, name, path, text); err != nil {
				return err
			}
		}
		if err := m.Install(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// ship puts a configuration file where a package brought it, with dpkg's knowledge of what that was.
func ship(m *machine.Machine, name, path, text string) error {
	if err := m.FS.MkdirAll("/var/lib/dpkg/info", 0o755); err != nil {
		return err
	}
	if err := m.FS.WriteFile("/var/lib/dpkg/info/"+name+".conffile"+strings.ReplaceAll(path, "/", "-"), []byte(text), 0o644); err != nil {
		return err
	}
	return m.FS.WriteFile(path, []byte(text), 0o644)
}

// Sets are the words that Add knows besides packages.
var Sets = []string{"release", "kernel", "qemu", "corosync", "libc", "microcode", "ceph"}

// Validate checks words of Add without a lab.
func Validate(words []string) error {
	for _, w := range words {
		name, version, pinned := strings.Cut(w, "=")
		if pinned && (name == "" || version == "" || strings.ContainsAny(w, " /'\"\n")) || !pinned && !slices.Contains(Sets, w) {
			return fmt.Errorf("update %q is none of %s, nor a package and its version: pve-manager=9.1.9", w, strings.Join(Sets, ", "))
		}
	}
	return nil
}

// Add puts updates into the repositories of the host, for the next apt-get update to find: sets by their names, and packages as
// "name=version". It is as if a day had passed since the host has fetched its lists.
func (n *Node) Add(words ...string) error {
	if err := Validate(words); err != nil || len(words) == 0 {
		return err
	}
	dayAgo := n.Machine.Now().Add(-25 * time.Hour)
	if err := n.Machine.FS.Chtimes("/var/lib/apt/lists", dayAgo, dayAgo); err != nil {
		return err
	}
	for _, w := range words {
		if name, version, pinned := strings.Cut(w, "="); pinned {
			n.publish(name, version, "")
			continue
		}
		if n.Node == nil && w != "libc" {
			continue // a plain host has none of it
		}
		for _, p := range n.set(w) {
			n.publish(p.name, p.version, "")
		}
	}
	return nil
}

// Pending are the packages that the repositories have in a newer version than is installed, as "name=version".
func (n *Node) Pending() []string {
	var out []string
	codename := "trixie"
	if n.Node != nil {
		codename = n.Node.Release().Codename
	}
	for _, p := range n.Machine.Published() {
		have, ok := n.Machine.Installed(p.Name)
		if (!ok || machine.CompareVersions(p.Version, have.Version) > 0) && (p.Suite == "" || p.Suite == codename) {
			out = append(out, p.Name+"="+p.Version)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// publish puts one version into the repositories; a kernel brings its image, a package of Ceph its siblings' programs.
func (n *Node) publish(name, version, suite string) {
	m := n.Machine
	if strings.HasPrefix(name, "ceph") && n.Ceph != nil {
		for _, p := range n.Ceph(version) {
			if p.Name == name || name == "ceph" {
				p.Repo, p.Suite, p.Origin = "ceph-"+cephRelease(version), suite, "Ceph:squid"
				m.Publish(p)
			}
		}
		return
	}
	p := n.update(name, version, suite)
	if image, ok := imageOf(name, version); ok {
		p.Depends = []string{image}
		m.Publish(n.update(image, version, suite))
	}
	m.Publish(p)
}

func cephRelease(version string) string {
	return map[string]string{"17": "quincy", "18": "reef", "19": "squid", "20": "tentacle"}[version[:min(2, len(version))]]
}

// imageOf is the package with the image that a version of a kernel's meta package asks for.
func imageOf(name, version string) (string, bool) {
	series, ok := strings.CutPrefix(name, "proxmox-kernel-")
	if !ok || strings.Contains(series, "-pve") || strings.Trim(series, "0123456789.") != "" {
		return "", false
	}
	return "proxmox-kernel-" + version + "-pve-signed", true
}

// update is a package as the repositories have it, with what it does when it is set up.
func (n *Node) update(name, version, suite string) machine.Package {
	p := machine.Package{Name: name, Version: version, Suite: suite, Repo: "debian", Size: sizes[name], Libraries: baseLibraries[name]}
	if proxmox(name) {
		p.Repo, p.Origin = "pve", "Proxmox:stable"
	}
	for _, all := range []string{"pve-manager", "proxmox-ve", "pve-ha-manager", "pve-container", "pve-docs", "proxmox-kernel-6."} {
		if strings.HasPrefix(name, all) || strings.HasPrefix(name, "libpve-") {
			p.Arch = "all"
		}
	}
	if strings.HasSuffix(name, "-pve-signed") {
		p.Arch, p.Section = "amd64", "kernel"
	}
	if files := conffiles[name]; files != nil {
		p.Conffiles = map[string]string{}
		for path, text := range files {
			p.Conffiles[path] = text + "# as of " + version + "\n"
		}
	}
	p.OnInstall = func(ctx context.Context, m *machine.Machine) error {
		n.advance(name, version)
		return n.effect(ctx, name)
	}
	if kernel, ok := kernelOf(name); ok {
		p.Size, p.Takes = 110<<20, 8*time.Second
		p.OnInstall = func(ctx context.Context, _ *machine.Machine) error { return n.addKernel(ctx, kernel) }
		p.OnRemove = func(context.Context, *machine.Machine) error { return n.removeKernel(kernel) }
	}
	return p
}

// kernelOf is the version of the kernel in a package.
func kernelOf(name string) (string, bool) {
	kernel, ok := strings.CutPrefix(name, "proxmox-kernel-")
	kernel = strings.TrimSuffix(kernel, "-signed")
	return kernel, ok && strings.HasSuffix(kernel, "-pve")
}

// proxmox reports whether a package is in the repository of Proxmox VE.
func proxmox(name string) bool {
	for _, prefix := range []string{"pve-", "proxmox-", "libpve-", "qemu-server", "corosync", "libcorosync", "libknet", "zfsutils", "ifupdown2", "lxc", "ksm", "spiceterm", "vncterm", "swtpm", "libproxmox", "smartmontools", "ceph"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// advance lets the node show the new version of a package.
func (n *Node) advance(name, version string) {
	if n.Node == nil {
		return
	}
	r := n.Node.Release()
	r.Packages = slices.Clone(r.Packages)
	for i := range r.Packages {
		if r.Packages[i].Name == name {
			r.Packages[i].Version = version
		}
	}
	if parts := strings.Split(version, "."); name == "pve-manager" && len(parts) == 3 {
		if major, err := strconv.Atoi(parts[0]); err == nil && major > 0 {
			r.Version, r.Hash = version, "b76d3178c7a1b4e5"
		}
	}
	_ = n.Node.SetRelease(r) // it has a version
}

// Set makes an installed package one of another version, as if the host had been installed with it.
func (n *Node) Set(ctx context.Context, name, version string) error {
	p, ok := n.Machine.Installed(name)
	if !ok {
		p = machine.Package{Name: name}
	}
	p.Version, p.OnInstall = version, nil
	if err := n.Machine.Install(ctx, p); err != nil {
		return err
	}
	n.advance(name, version)
	return nil
}

// Misplace puts what belongs into one repository into another, as a mirror that mixes releases does.
func (n *Node) Misplace(from, to string) {
	var moved []machine.Package
	for _, p := range n.Machine.Published() {
		if p.Repo == from {
			p.Repo = to
			moved = append(moved, p)
		}
	}
	n.Machine.Unpublish(func(p machine.Package) bool { return p.Repo == from })
	n.Machine.Publish(moved...)
}
