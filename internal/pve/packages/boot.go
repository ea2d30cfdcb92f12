package packages

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/transport"
)

// Boot is what decides whether a host has to be restarted.
type Boot struct {
	// Running is the kernel that runs, Kernels are those in /boot, oldest first.
	Running string
	Kernels []string
	// Initramfs are the kernels that have one: the others do not start.
	Initramfs []string
	// OneShotPin and Pin are kernels that proxmox-boot-tool was told to take: for the next start only, and for all. "" if none.
	OneShotPin, Pin string
	// BootID is that of the running system.
	BootID string
	// Since are packages, of those that matter only at the next start, that were installed after the last one.
	Since []string
	// Stale are daemons that still use libraries which have been replaced.
	Stale []Stale
	// Needrestart is what that program says; nil where it is not installed.
	Needrestart *Needrestart
	// Flag tells that /var/run/reboot-required exists, which Proxmox's packages never make, and FlaggedBy who made it.
	Flag      bool
	FlaggedBy []string
}

// Stale is a daemon with replaced libraries.
type Stale struct {
	Process   string
	Libraries []string
}

// Needrestart is what needrestart -b reports.
type Needrestart struct {
	// Kernel and Microcode are its verdicts: 0 unknown, 1 current, 2 and 3 something newer waits (for microcode 2).
	Kernel, Microcode int
	Services          []string
}

// microcode, and what else takes effect at a start only.
var bootPackages = []string{"intel-microcode", "amd64-microcode"}

// staleDaemons are the daemons whose libraries matter to a cluster node: on the others a restart of the service is enough.
var staleDaemons = []string{"corosync", "pmxcfs"}

// BootReads are the reads that ParseBoot needs.
func BootReads() []frame.Read {
	info := make([]string, len(bootPackages))
	for i, p := range bootPackages {
		info[i] = "/var/lib/dpkg/info/" + p + ".list"
	}
	return []frame.Read{
		{Name: "boot_kernel", Seconds: 5, Command: `sh -c 'uname -r; cat /proc/sys/kernel/random/boot_id'`},
		{Name: "boot_pins", Seconds: 5, Command: `sh -c 'for p in next-boot-pin proxmox-boot-pin; do if [ -s /etc/kernel/$p ]; then echo "$p $(head -n 1 /etc/kernel/$p)"; fi; done; true'`},
		{Name: "boot_files", Seconds: 5, Command: `sh -c 'ls /boot/vmlinuz-* /boot/initrd.img-* 2>/dev/null; true'`},
		{Name: "boot_since", Seconds: 5, Command: `sh -c 'grep ^btime /proc/stat; stat -c "%Y %n" ` + strings.Join(info, " ") + ` 2>/dev/null; true'`},
		{Name: "boot_maps", Seconds: 10, Command: `sh -c 'for n in ` + strings.Join(staleDaemons, " ") + `; do for p in $(pidof $n); do sed -n "s|^.* \(/.*\.so[^ ]*\) (deleted)$|$n \1|p" /proc/$p/maps 2>/dev/null; done; done; true'`},
		{Name: "boot_flag", Seconds: 5, Command: `sh -c 'if [ -e /var/run/reboot-required ]; then echo required; cat /var/run/reboot-required.pkgs 2>/dev/null; fi; true'`},
		{Name: "boot_needrestart", Seconds: 60, Command: `sh -c 'if command -v needrestart >/dev/null; then exec needrestart -b -r l; fi'`},
	}
}

// BootProbe is the one command whose output ReadBoot takes.
func BootProbe() transport.Command {
	return transport.Command{Script: frame.Script(BootReads()...), Timeout: 100 * time.Second}
}

// ReadBoot reads the output of BootProbe.
func ReadBoot(out []byte) (Boot, error) {
	frames, err := frame.Parse(out)
	if err != nil {
		return Boot{}, fmt.Errorf("look at the kernels: %w", err)
	}
	return ParseBoot(frames)
}

// ParseBoot takes what BootReads brought. What could not be read is an error: it must not pass for "no restart needed".
func ParseBoot(frames map[string]frame.Answer) (Boot, error) {
	b := Boot{}
	for _, r := range BootReads() {
		a, there := frames[r.Name]
		if r.Name == "boot_needrestart" {
			continue // an extra
		}
		if !there || a.RC != 0 {
			return b, fmt.Errorf("look at the kernels: the read %q failed: %s", r.Name, strings.TrimSpace(string(a.Text)))
		}
	}
	text := func(name string) string { return string(frames[name].Text) }
	id := strings.Fields(text("boot_kernel"))
	if len(id) != 2 {
		return b, fmt.Errorf("look at the kernels: which one runs is not understood: %q", strings.TrimSpace(text("boot_kernel")))
	}
	b.Running, b.BootID = id[0], id[1]
	for line := range strings.Lines(text("boot_pins")) {
		switch kind, version, _ := strings.Cut(strings.TrimSpace(line), " "); kind {
		case "next-boot-pin":
			b.OneShotPin = strings.TrimSpace(version)
		case "proxmox-boot-pin":
			b.Pin = strings.TrimSpace(version)
		}
	}
	b.Kernels, b.Initramfs = kernelsOf(text("boot_files"), "/vmlinuz-"), kernelsOf(text("boot_files"), "/initrd.img-")
	b.Since = since(text("boot_since"))
	b.Stale = stale(text("boot_maps"))
	if lines := strings.Fields(text("boot_flag")); len(lines) > 0 {
		b.Flag, b.FlaggedBy = true, slices.Compact(slices.Sorted(slices.Values(lines[1:])))
	}
	if a := frames["boot_needrestart"]; a.RC == 0 {
		b.Needrestart = ParseNeedrestart(string(a.Text))
	}
	return b, nil
}

// kernelsOf reads the versions from a list of files with one beginning: the kernels of Proxmox if there are any, else all.
func kernelsOf(text, beginning string) []string {
	var own, all []string
	for line := range strings.Lines(text) {
		_, version, ok := strings.Cut(strings.TrimSpace(line), beginning)
		if !ok {
			continue
		}
		all = append(all, version)
		if strings.HasSuffix(version, "-pve") {
			own = append(own, version)
		}
	}
	if len(own) > 0 {
		all = own
	}
	slices.SortFunc(all, pve.CompareVersions)
	return all
}

// since reads the time of the start, "btime N", and times of files, "N path": those that are newer.
func since(text string) []string {
	var started int64
	var out []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		if f[0] == "btime" {
			started = number(f[1])
			continue
		}
		if name, ok := strings.CutSuffix(f[1][strings.LastIndexByte(f[1], '/')+1:], ".list"); ok && started > 0 && number(f[0]) > started {
			out = append(out, name)
		}
	}
	return out
}

// stale reads lines "daemon library".
func stale(text string) []Stale {
	var list []Stale
	for line := range strings.Lines(text) {
		name, library, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		library = library[strings.LastIndexByte(library, '/')+1:]
		i := slices.IndexFunc(list, func(s Stale) bool { return s.Process == name })
		if i < 0 {
			list = append(list, Stale{Process: name})
			i = len(list) - 1
		}
		if !slices.Contains(list[i].Libraries, library) {
			list[i].Libraries = append(list[i].Libraries, library)
		}
	}
	return list
}

// ParseNeedrestart reads the output of needrestart -b: "NEEDRESTART-KEY: value" lines. nil if there are none.
func ParseNeedrestart(text string) *Needrestart {
	var n *Needrestart
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		key, ours := strings.CutPrefix(key, "NEEDRESTART-")
		if !ok || !ours {
			continue
		}
		if n == nil {
			n = &Needrestart{}
		}
		switch value = strings.TrimSpace(value); key {
		case "KSTA":
			n.Kernel = int(min(number(value), 9))
		case "UCSTA":
			n.Microcode = int(min(number(value), 9))
		case "SVC":
			n.Services = append(n.Services, value)
		}
	}
	return n
}

// Next is the kernel that the next start will take: the one-shot pin, the pin, or the newest (reference §7.4). "" if that
// cannot be told.
func (b Boot) Next() string {
	switch {
	case b.OneShotPin != "":
		return b.OneShotPin
	case b.Pin != "":
		return b.Pin
	case len(b.Kernels) > 0:
		return b.Kernels[len(b.Kernels)-1]
	}
	return ""
}
