package packages

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/detach"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/transport"
)

// State is what a host says about its packages.
type State struct {
	OS pve.OSRelease
	// Installed are the versions of the packages that decide: those of Proxmox VE and of Ceph.
	Installed map[string]string
	Policies  map[string]Policy
	Files     pve.SourceFiles
	// Subscribed tells that there is a subscription key, valid or not.
	Subscribed bool
	// ListAge is how old the package lists are; those from before the last change of the repositories are very old.
	ListAge time.Duration
	// Upgrade is what apt-get dist-upgrade would do with these lists, and Unknown why that is not known.
	Upgrade Simulation
	Unknown string
	// Missing are archives that would have to be fetched for it.
	Missing []Archive
	// Unfinished are packages that dpkg has not finished with; Interrupted that apt refuses to work before it has.
	Unfinished  []Broken
	Interrupted bool
	Held        []string
	// Free are the bytes that are free at /, /boot and the cache of archives, by file system: paths on one share an entry's value.
	Free map[string]Space
	// Busy are programs that are at work on packages, such as unattended-upgrades.
	Busy []string
	// Unattended tells that unattended-upgrades is switched on.
	Unattended bool
	// Offered are configuration files that packages brought and that lie beside those that were kept, with when they came.
	Offered []string
	// Loose are network cards in use whose names nothing pins to them.
	Loose []string
	// Jobs are commands of pxrun on the host that have not been waited for.
	Jobs []detach.Left
	Boot Boot
}

// Space is the room on a file system.
type Space struct {
	Mount string
	Free  int64
}

// tracked are the packages whose versions matter to decisions.
var tracked = []string{
	"pve-manager", "proxmox-ve", "pve-cluster", "pve-ha-manager", "pve-container", "pve-qemu-kvm", "qemu-server", "corosync",
	"ceph-base", "ceph-common", "ceph-mon", "ceph-mgr", "ceph-osd", "ceph-mds",
}

const (
	listsDir = "/var/lib/apt/lists"
	archives = "/var/cache/apt/archives"
)

// listAge prints how many seconds ago the lists were fetched; lists from before the last change of the sources count from 1970.
const listAge = `l=$(stat -c %Y ` + listsDir + ` 2>/dev/null || echo 0); c=$(stat -c %Y /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/sources.list.d/* 2>/dev/null | sort -n | tail -n 1); if [ "${c:-0}" -gt "$l" ]; then l=0; fi; echo $(($(date +%s) - l))`

// Reads are the reads that Parse needs. They change nothing and take no lock.
func Reads() []frame.Read {
	names := strings.Join(tracked, " ")
	return append([]frame.Read{
		{Name: "os", Seconds: 5, Command: `cat /etc/os-release`},
		{Name: "files", Seconds: 10, Command: `sh -c 'for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do if [ -f "$f" ]; then grep -H "" "$f"; fi; done; true'`},
		{Name: "installed", Seconds: 20, Command: `sh -c 'dpkg-query -W -f "\${Package} \${Version} \${db:Status-Status}\n" ` + names + ` 2>/dev/null; true'`},
		{Name: "policy", Seconds: 60, Command: `apt-cache policy ` + names},
		{Name: "subscription", Seconds: 5, Command: `sh -c 'if [ -s /etc/subscription ]; then echo yes; fi'`},
		{Name: "age", Seconds: 10, Command: `sh -c '` + listAge + `'`},
		{Name: "simulation", Seconds: 240, Command: `apt-get -s -q -o Debug::NoLocking=1 dist-upgrade`},
		{Name: "uris", Seconds: 120, Command: `apt-get -y -qq -o Debug::NoLocking=1 --print-uris dist-upgrade`},
		{Name: "audit", Seconds: 30, Command: `dpkg --audit`},
		{Name: "interrupted", Seconds: 5, Command: `sh -c 'for f in /var/lib/dpkg/updates/[0-9]*; do if [ -e "$f" ]; then echo yes; break; fi; done'`},
		{Name: "held", Seconds: 20, Command: `apt-mark showhold`},
		{Name: "df", Seconds: 10, Command: `sh -c 'for p in / /boot ` + archives + `; do echo "at $p"; df -PB1 "$p"; done'`},
		{Name: "busy", Seconds: 5, Command: `sh -c 'ps -e -o pid,comm,args | grep -E "^ *[0-9]+ (apt|apt-get|dpkg|aptitude|unattended-upgr|unattended-upgrade) " | grep -v NoLocking; true'`},
		{Name: "unattended", Seconds: 10, Command: `sh -c 'apt-config dump APT::Periodic::Unattended-Upgrade; dpkg-query -W -f "\${db:Status-Status}\n" unattended-upgrades 2>/dev/null; true'`},
		{Name: "offered", Seconds: 30, Command: `sh -c 'find /etc -xdev -name "*.dpkg-dist" -o -xdev -name "*.dpkg-new" -o -xdev -name "*.ucf-dist" 2>/dev/null; true'`},
		{Name: "nics", Seconds: 10, Command: nicsRead},
		{Name: "jobs", Seconds: 10, Command: detach.ListCommand("")},
	}, BootReads()...)
}

// Probe is the one command whose output Read takes.
func Probe() transport.Command {
	return transport.Command{Script: frame.Script(Reads()...), Timeout: 10 * time.Minute}
}

// Read reads the output of Probe.
func Read(out []byte) (State, error) {
	frames, err := frame.Parse(out)
	if err != nil {
		return State{}, fmt.Errorf("look at the packages: %w", err)
	}
	return Parse(frames)
}

// Parse takes what Reads brought. A read that decides and failed is an error; a simulation that apt refuses is Unknown.
func Parse(frames map[string]frame.Answer) (State, error) {
	s := State{}
	text := func(name string) string { return string(frames[name].Text) }
	for _, r := range Reads() {
		a, there := frames[r.Name]
		switch r.Name {
		case "simulation", "uris", "boot_needrestart", "unattended", "offered", "nics", "jobs", "audit":
			continue // judged below, or an extra
		}
		if !there || a.RC != 0 {
			return s, fmt.Errorf("look at the packages: the read %q failed: %s", r.Name, lastLine(string(a.Text)))
		}
	}
	var err error
	if s.Boot, err = ParseBoot(frames); err != nil {
		return s, err
	}
	s.OS, s.Files = pve.ParseOSRelease(frames["os"].Text), pve.ParseSourceFiles(frames["files"].Text)
	s.Installed, s.Policies = pve.ParsePackages(frames["installed"].Text), ParsePolicy(text("policy"))
	s.Subscribed = strings.TrimSpace(text("subscription")) == "yes"
	seconds, err := strconv.ParseInt(strings.TrimSpace(text("age")), 10, 64)
	if err != nil {
		return s, fmt.Errorf("look at the packages: the age of the lists is not understood: %q", text("age"))
	}
	s.ListAge = time.Duration(min(max(seconds, 0), 1<<31)) * time.Second
	s.simulation(frames["simulation"])
	s.Loose = nicsOf(text("nics"))
	if frames["uris"].RC == 0 {
		s.Missing = ParseURIs(text("uris"))
	}
	// dpkg --audit says by its exit status, in some versions, that there is something to tell.
	s.Unfinished = ParseAudit(text("audit"))
	if a := frames["audit"]; a.RC != 0 && len(s.Unfinished) == 0 {
		return s, fmt.Errorf("look at the packages: dpkg --audit failed: %s", lastLine(string(a.Text)))
	}
	s.Interrupted = strings.TrimSpace(text("interrupted")) == "yes"
	s.Held = strings.Fields(text("held"))
	if s.Free, err = parseDF(text("df")); err != nil {
		return s, err
	}
	for line := range strings.Lines(text("busy")) {
		if f := strings.Fields(line); len(f) > 2 {
			s.Busy = append(s.Busy, fmt.Sprintf("%s (process %s)", f[1], f[0]))
		}
	}
	u := text("unattended")
	s.Unattended = strings.Contains(u, `"1"`) && strings.Contains(u, "\ninstalled")
	s.Offered = strings.Fields(text("offered"))
	slices.Sort(s.Offered)
	s.Jobs = detach.ParseList(text("jobs"))
	return s, nil
}

// simulation takes what apt would do, or its complaint.
func (s *State) simulation(a frame.Answer) {
	if a.RC != 0 {
		s.Unknown = complaint(string(a.Text))
		if a.Hung() {
			s.Unknown = "apt-get -s dist-upgrade did not end in time"
		}
		return
	}
	var err error
	if s.Upgrade, err = ParseSimulation(string(a.Text)); err != nil {
		s.Unknown = err.Error()
	}
}

// complaint is what apt says in lines that begin with E:, and the dependencies that cannot be met.
func complaint(text string) string {
	var said []string
	unmet := false
	for line := range strings.Lines(text) {
		inner, bad := strings.CutPrefix(strings.TrimSpace(line), "E: ")
		if !strings.HasPrefix(line, " ") {
			unmet = strings.HasPrefix(line, "The following packages have unmet dependencies")
		}
		if bad || unmet && strings.HasPrefix(line, " ") {
			said = append(said, inner)
		}
	}
	if len(said) == 0 {
		return lastLine(text)
	}
	return strings.Join(said, "; ")
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	if text == "" {
		return "no answer"
	}
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}

// parseDF reads blocks "at PATH" and the two lines of df -PB1.
func parseDF(text string) (map[string]Space, error) {
	free, at := map[string]Space{}, ""
	for line := range strings.Lines(text) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "at "); ok {
			at = path
			continue
		}
		f := strings.Fields(line)
		if len(f) < 6 || f[0] == "Filesystem" {
			continue
		}
		free[at] = Space{Mount: strings.Join(f[5:], " "), Free: number(f[3])}
	}
	if _, ok := free["/"]; !ok {
		return free, errors.New("look at the packages: how much room there is was not understood")
	}
	return free, nil
}

// IsNode reports whether the host is a Proxmox VE node.
func (s State) IsNode() bool { return s.Installed["pve-manager"] != "" }

// Running finds a job of pxrun that is at work on the host.
func (s State) Running(name string) (detach.Left, bool) {
	for _, j := range s.Jobs {
		if j.Name == name && j.State == "running" {
			return j, true
		}
	}
	return detach.Left{}, false
}

// Download is how many bytes are still to be fetched.
func (s State) Download() int64 {
	var n int64
	for _, a := range s.Missing {
		n += a.Bytes
	}
	return n
}
