package packages

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/pve"
)

// Limits are what an upgrade is allowed.
type Limits struct {
	// Removals are packages that may be removed, by their exact names. Those that make a node are never among them.
	Removals []string
	// Holds are packages that are meant to be on hold.
	Holds []string
	// FreeRoot and FreeBoot are the bytes that have to be free at / and at /boot.
	FreeRoot, FreeBoot int64
}

// Objection is why an upgrade must not begin.
type Objection struct {
	// About is sources, dpkg, release, removals, holds or space.
	About                     string
	Saw, Want, Look, Override string
}

// Objections are all that is said against an upgrade.
type Objections []Objection

// Only are those about some subjects.
func (o Objections) Only(about ...string) Objections {
	return slices.DeleteFunc(slices.Clone(o), func(one Objection) bool { return !slices.Contains(about, one.About) })
}

// Except are those that are not about some subjects.
func (o Objections) Except(about ...string) Objections {
	return slices.DeleteFunc(slices.Clone(o), func(one Objection) bool { return slices.Contains(about, one.About) })
}

// nodePackages are what makes a host a Proxmox VE node. Without one of them it is none any more (reference §7.3).
var nodePackages = []string{
	"proxmox-ve", "pve-manager", "pve-cluster", "pve-ha-manager", "pve-container", "pve-qemu-kvm", "qemu-server", "corosync", "libpve-common-perl",
	"libpve-storage-perl", "libpve-access-control", "pve-firewall", "ceph-mon", "ceph-osd", "ceph-mgr", "ceph-mds",
}

// codenames are Debian's of each release of Proxmox VE.
var codenames = map[int]string{8: "bookworm", 9: "trixie"}

const simulate = "apt-get -s -o Debug::NoLocking=1 dist-upgrade"

// Objections are all reasons against an upgrade with the present lists (reference §7.2, §7.3). None means that it may begin.
func (s State) Objections(l Limits) Objections {
	return slices.Concat(s.sources(), s.dpkg(), s.jumps(), s.removals(l), s.holds(l), s.space(l))
}

// sources are the reasons against even fetching the lists: repositories of another release, or none of Proxmox VE.
func (s State) sources() Objections {
	var out Objections
	major := pve.Major(s.Installed["pve-manager"])
	if want := codenames[major]; s.IsNode() && want != s.OS.Codename {
		out = append(out, Objection{
			About: "sources", Saw: fmt.Sprintf("Proxmox VE %s on Debian %q", s.Installed["pve-manager"], s.OS.Codename), Want: "a release of Proxmox VE that pxrun knows (8, 9) on the Debian that belongs to it",
			Look: "cat /etc/os-release; pveversion", Override: "none",
		})
	}
	ours := false
	for _, e := range s.Files.Sources() {
		if suite := e.WrongSuite(s.OS.Codename); suite != "" {
			out = append(out, Objection{
				About: "sources", Saw: fmt.Sprintf("%s has suite %s (%s), and this host is Debian %s", e.File, suite, strings.Join(e.URIs, " "), s.OS.Codename),
				Want: "repositories of the installed release only", Look: "grep -r . " + e.File,
				Override: "none: a new release is no minor upgrade. " + majorPath(major),
			})
		}
		ours = ours || e.Enabled && e.Product() == "pve" && slices.Contains(e.Types, "deb")
	}
	if s.IsNode() && !ours {
		out = append(out, Objection{
			About: "sources", Saw: "no repository of Proxmox VE is enabled", Want: "one: without it an upgrade keeps Proxmox VE back, or removes parts of it",
			Look: "grep -rs proxmox /etc/apt/sources.list /etc/apt/sources.list.d", Override: `none; enable one with the module repository: pve = "no-subscription"`,
		})
	}
	return out
}

// majorPath says how the next release is reached.
func majorPath(major int) string {
	if major != 8 {
		return "Follow the upgrade guide of the release."
	}
	return "The path from 8 to 9: bring all nodes to the newest 8.4, Ceph to squid, run pve8to9 --full on every node until it has no failure, then change the suites and upgrade node by node by Proxmox's guide."
}

func (s State) dpkg() Objections {
	var out Objections
	var lost []string
	for _, b := range s.Unfinished {
		if b.State == "half-installed" || b.State == "broken" {
			lost = append(lost, b.Name+" ("+b.State+")")
		}
	}
	if len(lost) > 0 {
		out = append(out, Objection{
			About: "dpkg", Saw: "dpkg left packages that it cannot finish by configuring them: " + strings.Join(lost, ", "), Want: "packages that are whole",
			Look: "dpkg --audit", Override: "mend them yourself, most often with apt-get -f install, after reading what it would remove",
		})
	}
	if s.Unknown != "" && !s.Interrupted && len(s.Unfinished) == 0 {
		out = append(out, Objection{About: "dpkg", Saw: "apt cannot say what it would do: " + s.Unknown, Want: "a simulated upgrade without an error", Look: simulate, Override: "none"})
	}
	return out
}

// jumps are key packages that would cross a major release, or go back.
func (s State) jumps() Objections {
	var out Objections
	told := map[int]bool{}
	for _, name := range tracked {
		have := s.Installed[name]
		to := s.Policies[name].Candidate
		if c, ok := s.Upgrade.Find(name); ok {
			to = c.To
		}
		if have == "" || to == "" {
			continue
		}
		release := name == "pve-manager" || name == "proxmox-ve" || strings.HasPrefix(name, "ceph-")
		switch from, next := pve.Major(withoutEpoch(have)), pve.Major(withoutEpoch(to)); {
		case release && from != next && from > 0:
			kind := 0
			override := "none: a new release is no minor upgrade. " + majorPath(from)
			if strings.HasPrefix(name, "ceph-") {
				kind, override = 1, "none: Ceph's next release has a procedure of its own. Point the repository at the installed release (module repository, ceph_release)"
			}
			if told[kind] {
				continue
			}
			told[kind] = true
			out = append(out, Objection{
				About: "release", Saw: fmt.Sprintf("the repositories offer %s %s, and %s is installed", name, to, have), Want: fmt.Sprintf("%s %d.x", name, from),
				Look: "apt-cache policy " + name, Override: override,
			})
		case compare(to, have) < 0:
			if c, ok := s.Upgrade.Find(name); ok {
				out = append(out, Objection{About: "release", Saw: fmt.Sprintf("apt would take %s back from %s to %s", name, have, c.To), Want: "no older version", Look: simulate, Override: "none; see the pins in /etc/apt/preferences.d"})
			}
		}
	}
	return out
}

func withoutEpoch(version string) string {
	if _, rest, ok := strings.Cut(version, ":"); ok {
		return rest
	}
	return version
}

// compare orders versions of one package, epochs included.
func compare(a, b string) int {
	epoch := func(v string) string {
		if e, _, ok := strings.Cut(v, ":"); ok {
			return e
		}
		return "0"
	}
	if c := pve.CompareVersions(epoch(a), epoch(b)); c != 0 {
		return c
	}
	return pve.CompareVersions(withoutEpoch(a), withoutEpoch(b))
}

func (s State) removals(l Limits) Objections {
	var vital, others []string
	for _, c := range s.Upgrade.Removes {
		switch {
		case slices.Contains(nodePackages, c.Name) && s.IsNode(), s.Boot.Running != "" && strings.Contains(c.Name, s.Boot.Running):
			vital = append(vital, c.Name)
		case !slices.Contains(l.Removals, c.Name):
			others = append(others, c.Name)
		}
	}
	var out Objections
	if len(vital) > 0 {
		out = append(out, Objection{
			About: "removals", Saw: "apt would remove " + strings.Join(vital, ", "), Want: "Proxmox VE left whole", Look: simulate,
			Override: "none; most often the repositories are wrong or incomplete, or another package conflicts: see which with apt-get -s install pve-manager",
		})
	}
	if len(others) > 0 {
		out = append(out, Objection{
			About: "removals", Saw: "apt would remove " + strings.Join(others, ", "), Want: "no removal that nobody asked for", Look: simulate,
			Override: fmt.Sprintf(`allow_removals = ["%s"]`, strings.Join(others, `", "`)),
		})
	}
	return out
}

func (s State) holds(l Limits) Objections {
	var wrong []string
	for _, name := range s.Held {
		if (slices.Contains(nodePackages, name) || strings.HasPrefix(name, "pve-") || strings.HasPrefix(name, "proxmox-")) && !slices.Contains(l.Holds, name) {
			wrong = append(wrong, name)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return Objections{{
		About: "holds", Saw: "on hold: " + strings.Join(wrong, ", "), Want: "no part of Proxmox VE on hold: the others would be upgraded past it",
		Look: "apt-mark showhold", Override: fmt.Sprintf(`apt-mark unhold %s, or hold = ["%s"] if it is meant`, strings.Join(wrong, " "), strings.Join(wrong, `", "`)),
	}}
}

// space compares the room with what is wanted. Archives that have to be fetched come on top.
func (s State) space(l Limits) Objections {
	var out Objections
	root, boot := s.Free["/"], s.Free["/boot"]
	need := l.FreeRoot
	if s.Free[archives].Mount == root.Mount {
		need += s.Download()
	} else if a, ok := s.Free[archives]; ok && a.Free < s.Download() {
		out = append(out, Objection{
			About: "space", Saw: fmt.Sprintf("%s free at %s", Bytes(a.Free), archives), Want: Bytes(s.Download()) + " for the packages that are to be fetched", Look: "df -h " + archives, Override: "make room: apt-get clean",
		})
	}
	if root.Free < need {
		out = append(out, Objection{
			About: "space", Saw: fmt.Sprintf("%s free at /", Bytes(root.Free)), Want: Bytes(need), Look: "df -h /", Override: "make room (apt-get clean, old logs), or min_free_root",
		})
	}
	if boot.Mount != "" && boot.Free < l.FreeBoot {
		out = append(out, Objection{
			About: "space", Saw: fmt.Sprintf("%s free at /boot", Bytes(boot.Free)), Want: Bytes(l.FreeBoot) + " for a kernel and its initramfs", Look: "df -h /boot; ls /boot",
			Override: "remove a kernel that is neither running nor the newest (apt-get purge its package), or min_free_boot",
		})
	}
	return out
}

// Bytes is a size for people.
func Bytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

// Warnings are what the user should know and what stops nothing.
func (s State) Warnings(l Limits) []string {
	var out []string
	if s.Unattended {
		out = append(out, "unattended-upgrades is switched on: it upgrades this node by itself, whatever the rest of the cluster does; switch it off on cluster nodes (apt-get remove unattended-upgrades)")
	}
	var held []string
	for _, name := range s.Held {
		if !slices.Contains(l.Holds, name) {
			held = append(held, name)
		}
	}
	if len(held) > 0 {
		out = append(out, "on hold and not upgraded: "+strings.Join(held, ", "))
	}
	back := slices.DeleteFunc(slices.Clone(s.Upgrade.KeptBack), func(name string) bool { return slices.Contains(s.Held, name) || slices.Contains(l.Holds, name) })
	if len(back) > 0 {
		out = append(out, "kept back by apt and not upgraded: "+strings.Join(back, ", "))
	}
	if text := s.nicWarning(); text != "" {
		out = append(out, text)
	}
	if len(s.Busy) > 0 {
		out = append(out, "another program is at work on packages: "+strings.Join(s.Busy, ", ")+"; pxrun waits for it")
	}
	if s.Installed["ceph-osd"]+s.Installed["ceph-mon"] != "" && !slices.ContainsFunc(s.Files.Sources(), func(e pve.Source) bool { return e.Enabled && strings.HasPrefix(e.Product(), "ceph-") }) {
		out = append(out, "Ceph is installed and no repository of Ceph is enabled: it stays as it is")
	}
	for _, e := range s.Files.Sources() {
		if e.Enabled && e.Product() == "" {
			out = append(out, "a repository that is neither Debian's nor Proxmox's is enabled: "+strings.Join(e.URIs, " "))
		}
	}
	return out
}

// Unsubscribed are enabled enterprise repositories on a host without a subscription key: they will answer 401.
func (s State) Unsubscribed() []string {
	if s.Subscribed {
		return nil
	}
	var out []string
	for _, e := range s.Files.Sources() {
		for _, uri := range e.URIs {
			if e.Enabled && strings.Contains(uri, "://enterprise.proxmox.com/") {
				out = append(out, uri)
			}
		}
	}
	return out
}
