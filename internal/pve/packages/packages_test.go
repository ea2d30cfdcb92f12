package packages

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/stretchr/testify/require"
)

// The record is what a real node printed for a small dist-upgrade from a local repository.
func TestSimulationOfARealNode(t *testing.T) {
	text, err := os.ReadFile("testdata/apt-simulation.txt")
	require.NoError(t, err)
	s, err := ParseSimulation(string(text))
	require.NoError(t, err)
	require.Equal(t, []Change{
		{Name: "libpve-common-perl", Arch: "all", From: "9.1.9", To: "9.1.10", Origin: "localhost"},
		{Name: "pve-manager", Arch: "all", From: "9.1.8", To: "9.1.9", Origin: "localhost"},
	}, s.Installs)
	require.Equal(t, "2 upgraded", s.Count())
}

func TestSimulations(t *testing.T) {
	const head = "Reading package lists...\nBuilding dependency tree...\nReading state information...\nCalculating upgrade...\n"
	for name, c := range map[string]struct {
		text    string
		want    Simulation
		failure string
	}{
		"nothing to do": {head + "0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n", Simulation{}, ""},
		"new, upgraded, removed, kept back": {
			head + "The following packages will be REMOVED:\n  libold1\nThe following packages have been kept back:\n  qemu-server\n  zfs-zed\nThe following packages will be upgraded:\n  libc6\n" +
				"1 upgraded, 1 newly installed, 1 to remove and 2 not upgraded.\nRemv libold1 [1:2.3-4] []\nInst libc6:amd64 [2.41-12] (2.41-12+deb13u1 Debian:13.2/stable, Debian-Security:13/stable-security [amd64]) []\n" +
				"Inst proxmox-kernel-6.17.4-1-pve-signed (6.17.4-1 Proxmox:stable [amd64])\nConf libc6 (2.41-12+deb13u1 Debian:13.2/stable [amd64])\nConf proxmox-kernel-6.17.4-1-pve-signed (6.17.4-1 Proxmox:stable [amd64])\n",
			Simulation{
				Installs: []Change{
					{Name: "libc6", Arch: "amd64", From: "2.41-12", To: "2.41-12+deb13u1", Origin: "Debian:13.2/stable, Debian-Security:13/stable-security"},
					{Name: "proxmox-kernel-6.17.4-1-pve-signed", Arch: "amd64", To: "6.17.4-1", Origin: "Proxmox:stable"},
				},
				Removes: []Change{{Name: "libold1", From: "1:2.3-4"}}, KeptBack: []string{"qemu-server", "zfs-zed"},
			}, "",
		},
		"cut off":              {head + "The following packages will be upgraded:\n  libc6\n", Simulation{}, "did not say what it would do"},
		"cut off in the lines": {"2 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\nInst a [1] (2 x [all])\n", Simulation{}, "counts 2 packages to install and 0 to remove, and names 1 and 0"},
		"an error":             {"E: Unable to correct problems, you have held broken packages.\n", Simulation{}, "did not say"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseSimulation(c.text)
			if c.failure != "" {
				require.ErrorContains(t, err, c.failure)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestAudits(t *testing.T) {
	require.Empty(t, ParseAudit(""))
	text := "The following packages have been unpacked but not yet configured.\nThey must be configured using dpkg --configure or the configure\nmenu option in dselect for them to work:\n libtool1             a library\n\n" +
		"The following packages are only half configured, probably due to problems\nconfiguring them the first time.  The configuration should be retried using\ndpkg --configure <package> or the configure menu option in dselect:\n pve-manager          Proxmox Virtual Environment Management Tools\n\n" +
		"The following packages are missing the md5sums control file in the\ndatabase, they need to be reinstalled:\n oddity\n\nThe following packages are in a new kind of trouble:\n strange x\n"
	require.Equal(t, []Broken{{"libtool1", "unpacked"}, {"pve-manager", "half-configured"}, {"oddity", "incomplete"}, {"strange", "broken"}}, ParseAudit(text))
}

func TestURIsPoliciesAndSpace(t *testing.T) {
	require.Equal(t, []Archive{{"http://download.proxmox.com/x/pve-manager_9.1.9_all.deb", "pve-manager_9.1.9_all.deb", 172000}},
		ParseURIs("Reading package lists...\n'http://download.proxmox.com/x/pve-manager_9.1.9_all.deb' pve-manager_9.1.9_all.deb 172000 SHA256:00\n'file:/srv/apt/./a.deb' a.deb 648 SHA512:00\n'odd\n"))
	require.Equal(t, map[string]Policy{"pve-manager": {"9.1.8", "9.1.9"}, "ceph-mon": {"", "19.2.3-pve2"}},
		ParsePolicy("pve-manager:\n  Installed: 9.1.8\n  Candidate: 9.1.9\n  Version table:\n     9.1.9 500\nceph-mon:\n  Installed: (none)\n  Candidate: 19.2.3-pve2\n"))
	free, err := parseDF("at /\nFilesystem 1-blocks Used Available Capacity Mounted on\n/dev/mapper/pve-root 100 60 40 60% /\nat /boot\nFilesystem 1-blocks Used Available Capacity Mounted on\n/dev/sda2 100 90 10 90% /boot\n")
	require.NoError(t, err)
	require.Equal(t, map[string]Space{"/": {"/", 40}, "/boot": {"/boot", 10}}, free)
	_, err = parseDF("df: /: Input/output error\n")
	require.Error(t, err)
}

// node is a node at rest that has an upgrade to do.
func node() State {
	return State{
		OS: pve.OSRelease{Codename: "trixie"}, Installed: map[string]string{"pve-manager": "9.1.8", "proxmox-ve": "9.1.0", "ceph-mon": "19.2.3-pve2"},
		Policies: map[string]Policy{"pve-manager": {"9.1.8", "9.1.9"}, "ceph-mon": {"19.2.3-pve2", "19.2.3-pve4"}}, Subscribed: true,
		Files: pve.SourceFiles{
			"/etc/apt/sources.list.d/pve.sources":  "Types: deb\nURIs: http://download.proxmox.com/debian/pve\nSuites: trixie\nComponents: pve-no-subscription\n",
			"/etc/apt/sources.list.d/ceph.sources": "Types: deb\nURIs: http://download.proxmox.com/debian/ceph-squid\nSuites: trixie\nComponents: no-subscription\n",
		},
		Upgrade: Simulation{Installs: []Change{{Name: "pve-manager", From: "9.1.8", To: "9.1.9"}}},
		Free:    map[string]Space{"/": {"/", 10 << 30}, "/boot": {"/boot", 400 << 20}, archives: {"/", 10 << 30}},
		Boot:    Boot{Running: "6.17.2-1-pve", Kernels: []string{"6.17.2-1-pve"}, Initramfs: []string{"6.17.2-1-pve"}},
	}
}

var limits = Limits{FreeRoot: 2 << 30, FreeBoot: 200 << 20}

func TestObjections(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*State)
		wants  []string // in what is said; none means no objection
	}{
		"none":                       {func(*State) {}, nil},
		"another Debian":             {func(s *State) { s.OS.Codename = "bookworm" }, []string{`Proxmox VE 9.1.8 on Debian "bookworm"`, "has suite trixie"}},
		"an unknown release":         {func(s *State) { s.Installed["pve-manager"] = "12.0.1" }, []string{"a release of Proxmox VE that pxrun knows"}},
		"the testing suite":          {func(s *State) { s.Files["/etc/apt/sources.list"] = "deb http://deb.debian.org/debian testing main\n" }, []string{"has suite testing"}},
		"somebody else's suite":      {func(s *State) { s.Files["/etc/apt/sources.list"] = "deb http://repo.example.com/x stable main\n" }, nil},
		"a suite that is off":        {func(s *State) { s.Files["/etc/apt/sources.list"] = "# deb http://deb.debian.org/debian testing main\n" }, nil},
		"no repository":              {func(s *State) { delete(s.Files, "/etc/apt/sources.list.d/pve.sources") }, []string{"no repository of Proxmox VE is enabled"}},
		"the next release":           {func(s *State) { s.Policies["pve-manager"] = Policy{"9.1.8", "10.0.1"}; s.Upgrade.Installs = nil }, []string{"offer pve-manager 10.0.1"}},
		"the next Ceph":              {func(s *State) { s.Policies["ceph-mon"] = Policy{"", "20.2.0-pve1"} }, []string{"offer ceph-mon 20.2.0-pve1"}},
		"an older version":           {func(s *State) { s.Upgrade.Installs[0].To = "9.1.7" }, []string{"take pve-manager back from 9.1.8 to 9.1.7"}},
		"an epoch is no release":     {func(s *State) { s.Policies["ceph-mon"] = Policy{"", "1:19.2.3-pve4"} }, nil},
		"removal of a key package":   {func(s *State) { s.Upgrade.Removes = []Change{{Name: "corosync"}} }, []string{"apt would remove corosync"}},
		"removal of this kernel":     {func(s *State) { s.Upgrade.Removes = []Change{{Name: "proxmox-kernel-6.17.2-1-pve-signed"}} }, []string{"apt would remove proxmox-kernel-6.17.2-1-pve-signed"}},
		"removal of something":       {func(s *State) { s.Upgrade.Removes = []Change{{Name: "libfoo1"}} }, []string{`allow_removals = ["libfoo1"]`}},
		"a key package on hold":      {func(s *State) { s.Held = []string{"pve-qemu-kvm", "vim"} }, []string{"on hold: pve-qemu-kvm"}},
		"little room":                {func(s *State) { s.Free["/"] = Space{"/", 1 << 30} }, []string{"1.0 GiB free at /"}},
		"little room and a download": {func(s *State) { s.Missing = []Archive{{Bytes: 9 << 30}} }, []string{"10.0 GiB free at /"}},
		"little room in /boot":       {func(s *State) { s.Free["/boot"] = Space{"/boot", 10 << 20} }, []string{"10 MiB free at /boot"}},
		"half installed":             {func(s *State) { s.Unfinished = []Broken{{"libc6", "half-installed"}} }, []string{"libc6 (half-installed)"}},
		"half configured":            {func(s *State) { s.Unfinished = []Broken{{"libc6", "half-configured"}}; s.Unknown = "unmet" }, nil},
		"apt does not know":          {func(s *State) { s.Unknown = "held broken packages" }, []string{"apt cannot say what it would do: held broken packages"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := node()
			c.change(&s)
			var said []string
			for _, o := range s.Objections(limits) {
				require.NotEmpty(t, o.About)
				require.NotEmpty(t, o.Want)
				require.NotEmpty(t, o.Look)
				require.NotEmpty(t, o.Override)
				said = append(said, o.Saw+" | "+o.Want+" | "+o.Override)
			}
			if c.wants == nil {
				require.Empty(t, said)
			}
			for _, want := range c.wants {
				require.Contains(t, strings.Join(said, "\n"), want)
			}
		})
	}
	allowed := node()
	allowed.Upgrade.Removes, allowed.Held = []Change{{Name: "libfoo1"}}, []string{"pve-qemu-kvm"}
	require.Empty(t, allowed.Objections(Limits{Removals: []string{"libfoo1", "corosync"}, Holds: []string{"pve-qemu-kvm"}}))
}

func TestReasonsToRestart(t *testing.T) {
	for name, c := range map[string]struct {
		boot  Boot
		codes []string
		doubt string
	}{
		"none":                   {Boot{Running: "b", Kernels: []string{"a", "b"}}, nil, ""},
		"a newer kernel":         {Boot{Running: "a", Kernels: []string{"a", "b"}}, []string{"kernel"}, ""},
		"a newer kernel, pinned": {Boot{Running: "a", Kernels: []string{"a", "b"}, Pin: "a"}, nil, ""},
		"pinned to another":      {Boot{Running: "b", Kernels: []string{"a", "b"}, Pin: "a"}, []string{"kernel"}, ""},
		"pinned once":            {Boot{Running: "a", Kernels: []string{"a", "b"}, Pin: "a", OneShotPin: "b"}, []string{"kernel"}, ""},
		"pinned to what is gone": {Boot{Running: "a", Kernels: []string{"a"}, Pin: "z"}, []string{"kernel"}, "which is not in /boot"},
		"nothing in /boot":       {Boot{Running: "a"}, nil, "no kernel is in /boot"},
		"microcode":              {Boot{Running: "a", Kernels: []string{"a"}, Since: []string{"intel-microcode"}}, []string{"microcode"}, ""},
		"libraries":              {Boot{Running: "a", Kernels: []string{"a"}, Stale: []Stale{{"corosync", []string{"libc.so.6"}}}}, []string{"libraries"}, ""},
		"needrestart: corosync":  {Boot{Running: "a", Kernels: []string{"a"}, Needrestart: &Needrestart{Services: []string{"corosync.service", "ssh.service"}}}, []string{"libraries"}, ""},
		"needrestart: services":  {Boot{Running: "a", Kernels: []string{"a"}, Needrestart: &Needrestart{Kernel: 3, Services: []string{"ssh.service"}}}, nil, ""},
		"needrestart: microcode": {Boot{Running: "a", Kernels: []string{"a"}, Needrestart: &Needrestart{Microcode: 2}}, []string{"microcode"}, ""},
		"the flag alone":         {Boot{Running: "a", Kernels: []string{"a"}, Flag: true, FlaggedBy: []string{"dbus"}}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.boot.Initramfs = c.boot.Kernels
			var codes []string
			for _, r := range c.boot.Reasons() {
				codes = append(codes, r.Code)
			}
			require.Equal(t, c.codes, codes)
			require.Equal(t, c.doubt == "", c.boot.Doubt() == "", c.boot.Doubt())
			require.Contains(t, c.boot.Doubt(), c.doubt)
			needed, _ := c.boot.Reboot(RebootAuto)
			require.Equal(t, len(c.codes) > 0, needed)
			needed, _ = c.boot.Reboot(RebootNever)
			require.False(t, needed)
			needed, why := c.boot.Reboot(RebootAlways)
			require.True(t, needed)
			require.NotEmpty(t, why)
		})
	}
	require.Len(t, Boot{Running: "a", Kernels: []string{"a"}, Flag: true, Needrestart: &Needrestart{Kernel: 3, Services: []string{"ssh.service"}}}.Signals(), 3)
	require.Contains(t, Boot{Running: "a", Kernels: []string{"a", "b"}, Initramfs: []string{"a"}}.Doubt(), "kernel b, which the next start takes, has no initramfs")
}

func TestWhatAnUpgradeTouches(t *testing.T) {
	s := node()
	codes := func() []string {
		var out []string
		for _, touch := range s.Upgrade.Touches() {
			out = append(out, touch.Code)
		}
		return out
	}
	require.Empty(t, codes())
	require.Empty(t, s.Expect())
	s.Upgrade.Installs = []Change{
		{Name: "libknet1t64", From: "1", To: "2"}, {Name: "proxmox-kernel-6.17", From: "1", To: "2"}, {Name: "proxmox-kernel-6.17.4-1-pve-signed", To: "2"}, {Name: "proxmox-kernel-helper", From: "1", To: "2"},
		{Name: "pve-cluster", From: "1", To: "2"}, {Name: "pve-qemu-kvm", From: "1", To: "2"},
	}
	require.Equal(t, []string{"corosync", "pmxcfs", "qemu", "kernel"}, codes())
	require.Equal(t, "kernel", s.Expect()[0].Code)
	s.Boot.Pin = "6.17.2-1-pve"
	require.Empty(t, s.Expect(), "the next start is pinned")
	s.Boot.Pin, s.Upgrade.Installs = "", []Change{{Name: "proxmox-kernel-6.17.2-1-pve-signed", From: "1", To: "2"}}
	require.Empty(t, s.Expect(), "the image of the same version is rebuilt")
}

// answers are what a node says, as Read gets it.
func answers(change map[string]frame.Answer) map[string]frame.Answer {
	ok := func(text string) frame.Answer { return frame.Answer{Text: []byte(text)} }
	frames := map[string]frame.Answer{
		"os": ok("VERSION_CODENAME=trixie\n"), "files": ok("/etc/apt/sources.list:deb http://deb.debian.org/debian trixie main\n"),
		"installed": ok("pve-manager 9.1.8 installed\nceph-osd 19.2 config-files\n"), "policy": ok("pve-manager:\n  Installed: 9.1.8\n  Candidate: 9.1.9\n"),
		"subscription": ok(""), "age": ok("7200\n"), "simulation": ok("1 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\nInst pve-manager [9.1.8] (9.1.9 P [all])\n"),
		"uris": ok("'http://x/pve-manager_9.1.9_all.deb' pve-manager_9.1.9_all.deb 100 SHA256:0\n"), "audit": ok(""), "interrupted": ok(""), "held": ok("vim\n"),
		"df": ok("at /\n/dev/x 9 1 8 1% /\n"), "busy": ok("  812 unattended-upgr /usr/bin/python3 /usr/bin/unattended-upgrade\n"), "unattended": ok("APT::Periodic::Unattended-Upgrade \"1\";\ninstalled\n"),
		"offered": ok("/etc/issue.dpkg-dist\n"), "jobs": ok("pxrun-0123456789ab run1 running -1 0 upgrade\n"),
		"boot_kernel": ok("6.17.2-1-pve\n11111111-2222-4333-8444-555555555555\n"), "boot_pins": ok("proxmox-boot-pin 6.17.2-1-pve\nnext-boot-pin 6.17.4-1-pve\n"),
		"boot_files": ok("/boot/initrd.img-6.17.2-1-pve\n/boot/vmlinuz-6.17.10-1-pve\n/boot/vmlinuz-6.17.2-1-pve\n/boot/vmlinuz-6.12.0-amd64\n"),
		"boot_since": ok("btime 1000\n1001 /var/lib/dpkg/info/intel-microcode.list\n999 /var/lib/dpkg/info/amd64-microcode.list\n"),
		"boot_maps":  ok("corosync /usr/lib/x86_64-linux-gnu/libc.so.6\ncorosync /usr/lib/x86_64-linux-gnu/libc.so.6\npmxcfs /usr/lib/x86_64-linux-gnu/libqb.so.100\n"),
		"boot_flag":  ok("required\nlinux-base\nlinux-base\n"), "boot_needrestart": ok("NEEDRESTART-VER: 3.6\nNEEDRESTART-KSTA: 3\nNEEDRESTART-UCSTA: 1\nNEEDRESTART-SVC: cron.service\n"),
	}
	for k, v := range change {
		frames[k] = v
	}
	return frames
}

func TestStateOfANode(t *testing.T) {
	s, err := Parse(answers(nil))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"pve-manager": "9.1.8"}, s.Installed)
	require.Equal(t, 2*time.Hour, s.ListAge)
	require.True(t, s.Unattended)
	require.Equal(t, []string{"unattended-upgr (process 812)"}, s.Busy)
	require.Equal(t, int64(100), s.Download())
	job, ok := s.Running("upgrade")
	require.True(t, ok)
	require.Equal(t, "run1", job.Run)
	require.Equal(t, []string{"6.17.2-1-pve", "6.17.10-1-pve"}, s.Boot.Kernels)
	require.Equal(t, "6.17.4-1-pve", s.Boot.Next(), "the pin for one start counts first")
	require.Equal(t, []string{"intel-microcode"}, s.Boot.Since)
	require.Equal(t, []Stale{{"corosync", []string{"libc.so.6"}}, {"pmxcfs", []string{"libqb.so.100"}}}, s.Boot.Stale)
	require.Equal(t, []string{"linux-base"}, s.Boot.FlaggedBy)
	require.Equal(t, &Needrestart{Kernel: 3, Microcode: 1, Services: []string{"cron.service"}}, s.Boot.Needrestart)
	require.Len(t, s.Warnings(Limits{}), 3)
}

func TestWhatCannotBeReadIsNoGoodNews(t *testing.T) {
	bad := frame.Answer{Text: []byte("timeout\n"), RC: 124}
	for _, name := range []string{"os", "files", "installed", "policy", "age", "audit", "interrupted", "held", "df", "boot_kernel", "boot_pins", "boot_files", "boot_maps"} {
		_, err := Parse(answers(map[string]frame.Answer{name: bad}))
		require.Error(t, err, name)
	}
	s, err := Parse(answers(map[string]frame.Answer{"simulation": {Text: []byte("The following packages have unmet dependencies:\n a : Depends: b but it is not installable\nE: Unable to correct problems, you have held broken packages.\n"), RC: 100}}))
	require.NoError(t, err)
	require.Equal(t, "a : Depends: b but it is not installable; Unable to correct problems, you have held broken packages.", s.Unknown)
	s, err = Parse(answers(map[string]frame.Answer{"simulation": bad}))
	require.NoError(t, err)
	require.Contains(t, s.Unknown, "did not end in time")
	s, err = Parse(answers(map[string]frame.Answer{"audit": {Text: []byte("The following packages are only half configured, probably\n x y\n"), RC: 1}}))
	require.NoError(t, err)
	require.Equal(t, []Broken{{"x", "half-configured"}}, s.Unfinished)
	require.Equal(t, []string{"https://enterprise.proxmox.com/debian/pve"}, State{Files: pve.SourceFiles{"/etc/apt/sources.list": "deb https://enterprise.proxmox.com/debian/pve trixie pve-enterprise\n"}}.Unsubscribed())
}

func FuzzWhatAptSays(f *testing.F) {
	text, err := os.ReadFile("testdata/apt-simulation.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("Inst libc6:amd64 [1] (2 Debian:13/stable, Debian [amd64]) []\nInst x [\nInst y (\nInst z ()\nRemv a [1]\nPurg b\n2 upgraded, 0 newly installed, 1 to remove and 0 not upgraded.\n")
	f.Add("The following packages have been kept back:\n  a b\nThe following packages are only half configured\n x y\n\npve-manager:\n  Installed: (none)\n  Candidate: 2\n")
	f.Add("'http://x/a.deb' a.deb 99999999999999999999 SHA256:0\nNEEDRESTART-KSTA: 99999999\nNEEDRESTART-SVC:\nbtime 5\n9 /x/y.list\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSimulation(text)
		if err == nil && s.Nothing() != (s.Count() == "nothing to do") {
			t.Errorf("%q: %v", s.Count(), s)
		}
		state := node()
		state.Upgrade, state.Unfinished = s, ParseAudit(text)
		state.Objections(limits)
		state.Warnings(limits)
		state.Expect()
		ParsePolicy(text)
		for _, a := range ParseURIs(text) {
			if a.Bytes < 0 {
				t.Errorf("a negative size: %v", a)
			}
		}
		b := Boot{Kernels: kernelsOf(text, "/vmlinuz-"), Needrestart: ParseNeedrestart(text), Since: since(text), Stale: stale(text)}
		b.Reboot(RebootAuto)
		b.Signals()
		b.Doubt()
		if _, err := parseDF(text); err == nil && !strings.Contains(text, "at /") {
			t.Error("room from nowhere")
		}
	})
}
