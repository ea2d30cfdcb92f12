package disk

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/vfs"
)

// register puts the programs on the machine.
func (d *Disks) register() {
	for path, program := range map[string]machine.Program{
		"/usr/bin/lsblk": d.lsblk, "/usr/sbin/blkid": d.blkid, "/usr/sbin/wipefs": d.wipefs, "/usr/sbin/smartctl": d.smartctl,
		"/usr/sbin/pvs": d.report, "/usr/sbin/vgs": d.report, "/usr/sbin/lvs": d.report,
		"/usr/sbin/pvcreate": d.pvcreate, "/usr/sbin/vgcreate": d.vgcreate, "/usr/sbin/lvcreate": d.lvcreate,
		"/usr/sbin/pvremove": d.lvmRemove, "/usr/sbin/vgremove": d.lvmRemove, "/usr/sbin/lvremove": d.lvmRemove, "/usr/sbin/lvchange": quiet, "/usr/sbin/vgchange": quiet,
		"/usr/bin/udevadm": quiet, "/usr/sbin/partprobe": quiet,
	} {
		d.m.Register(path, program)
	}
}

func quiet(context.Context, *machine.Proc) int { return 0 }

// Sgdisk is the program of the package gdisk.
func (d *Disks) Sgdisk(_ context.Context, p *machine.Proc) int {
	o, rest, bad := options(p.Args(), "n:t:c:d:", "new", "typecode", "change-name", "delete")
	if bad != "" || len(rest) != 1 {
		fmt.Fprintln(p.Stderr, "Usage: sgdisk [OPTION...] <device>")
		return 1
	}
	name := d.Resolve(p.View(), rest[0])
	if name == "" {
		fmt.Fprintf(p.Stderr, "Problem opening %s for reading! Error is 2.\nThe specified file does not exist!\n", rest[0])
		return 2
	}
	d.mu.Lock()
	on := d.byName(name)
	switch {
	case on == nil:
		d.mu.Unlock()
		return 2
	case o.has("Z", "zap-all", "z", "zap", "o", "clear"):
		if d.busy(&on.block, on) == "mounted" {
			fmt.Fprintln(p.Stderr, "Warning: The kernel is still using the old partition table.")
		}
		lvm := on.group
		if lvm == "" { // an LVM label on the whole disk is not a partition table
			d.wipe(&on.block)
		}
		if o.has("o", "clear") {
			d.label(on)
		}
		d.mu.Unlock()
		p.Println("GPT data structures destroyed! You may now partition the disk using fdisk or\nother utilities.")
	case o.has("p", "print"):
		p.Printf("Disk /dev/%s: %d sectors, %.1f GiB\nNumber  Start (sector)    End (sector)  Size       Code  Name\n", name, on.size/512, float64(on.size)/gib)
		at := int64(2048)
		for _, part := range on.parts {
			p.Printf("%4d  %14d  %14d   %.1f GiB  8300  %s\n", part.partnum, at, at+part.size/512-1, float64(part.size)/gib, part.kind)
			at += part.size / 512
		}
		d.mu.Unlock()
		return 0
	default:
		d.mu.Unlock()
		fmt.Fprintln(p.Stderr, "only -Z, -z, -o and -p are simulated")
		return 1
	}
	d.link()
	return 0
}

// flags are options of a program as getopt gives them.
type flags map[string][]string

func (f flags) has(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return f[n] != nil })
}

// get is the value given last under any of the names.
func (f flags) get(names ...string) string {
	out := ""
	for _, n := range names {
		if v := f[n]; len(v) > 0 {
			out = v[len(v)-1]
		}
	}
	return out
}

// options reads arguments: short is getopt's string of the letters that take a value ("o:"), long names those of the long
// options that do. All other options are taken as they come.
func options(args []string, short string, long ...string) (o flags, rest []string, bad string) {
	o = flags{}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return o, append(rest, args[i+1:]...), ""
		case strings.HasPrefix(arg, "--"):
			name, value, inline := strings.Cut(arg[2:], "=")
			if !inline && slices.Contains(long, name) {
				if i++; i >= len(args) {
					return o, rest, name
				}
				value = args[i]
			}
			o[name] = append(o[name], value)
		case len(arg) > 1 && arg[0] == '-':
			for j := 1; j < len(arg); j++ {
				letter := arg[j : j+1]
				if !strings.Contains(short, letter+":") {
					o[letter] = append(o[letter], "")
					continue
				}
				value := arg[j+1:]
				if value == "" {
					if i++; i >= len(args) {
						return o, rest, letter
					}
					value = args[i]
				}
				o[letter] = append(o[letter], value)
				break
			}
		default:
			rest = append(rest, arg)
		}
	}
	return o, rest, ""
}

func (d *Disks) blkid(_ context.Context, p *machine.Proc) int {
	o, rest, bad := options(p.Args(), "o:s:t:u:n:", "output", "match-tag", "match-token")
	if bad != "" {
		return 4
	}
	d.mu.Lock()
	all := d.everything()
	d.mu.Unlock()
	status := 2
	for _, r := range all {
		if len(rest) > 0 && !slices.ContainsFunc(rest, func(path string) bool { return d.Resolve(p.View(), path) == r.b.name }) {
			continue
		}
		tags := [][2]string{}
		for _, t := range [][2]string{{"LABEL", r.b.label}, {"UUID", r.b.uuid}, {"TYPE", r.b.fs}, {"PTTYPE", r.table}, {"PARTLABEL", r.b.kind}} {
			if t[1] != "" && (r.b.fs != "" || t[0] != "UUID") && (!o.has("s", "match-tag") || slices.Contains(append(o["s"], o["match-tag"]...), t[0])) && (t[0] != "PTTYPE" || r.b.fs == "") {
				tags = append(tags, t)
			}
		}
		if len(tags) == 0 {
			continue
		}
		status = 0
		var parts []string
		for _, t := range tags {
			switch o.get("o", "output") {
			case "value":
				p.Println(t[1])
			case "export", "udev":
				p.Println(t[0] + "=" + t[1])
			default:
				parts = append(parts, fmt.Sprintf("%s=%q", t[0], t[1]))
			}
		}
		if len(parts) > 0 {
			p.Println(r.path() + ": " + strings.Join(parts, " "))
		}
	}
	return status
}

func (d *Disks) wipefs(_ context.Context, p *machine.Proc) int {
	o, rest, bad := options(p.Args(), "o:t:O:", "offset", "types", "output")
	if bad != "" || len(rest) == 0 {
		fmt.Fprintln(p.Stderr, "wipefs: no device specified")
		return 1
	}
	for _, path := range rest {
		name := d.Resolve(p.View(), path)
		if name == "" {
			fmt.Fprintf(p.Stderr, "wipefs: error: %s: probing initialization failed: No such file or directory\n", path)
			return 1
		}
		d.mu.Lock()
		b, on := d.find(name)
		signs := signatures(b, on)
		all, pretend := o.has("a", "all"), o.has("n", "no-act")
		busy := d.busy(b, on)
		if all && !pretend && busy != "" && !o.has("f", "force") {
			d.mu.Unlock()
			fmt.Fprintf(p.Stderr, "wipefs: error: %s: probing initialization failed: Device or resource busy\n", path)
			return 1
		}
		if all && !pretend {
			d.wipe(b)
		}
		d.mu.Unlock()
		for i, s := range signs {
			switch {
			case all:
				p.Printf("%s: %d bytes were erased at offset 0x%08x (%s): 00 00\n", path, 8, 0x200*(i+1), s[0])
			default:
				if i == 0 && !o.has("noheadings", "i") {
					p.Println("DEVICE OFFSET TYPE UUID LABEL")
				}
				p.Println(strings.TrimRight(fmt.Sprintf("%s 0x%x %s %s %s", b.name, 0x200*(i+1), s[0], s[1], s[2]), " "))
			}
		}
	}
	if o.has("a", "all") && !o.has("n", "no-act") {
		d.link()
	}
	return 0
}

// signatures are what a probe of a device finds.
func signatures(b *block, on *device) [][3]string {
	var out [][3]string
	if b.fs != "" {
		out = append(out, [3]string{b.fs, b.uuid, b.label})
	}
	if on != nil && b == &on.block && on.table != "" {
		out = append(out, [3]string{on.table})
	}
	return out
}

func (d *Disks) smartctl(_ context.Context, p *machine.Proc) int {
	o, rest, _ := options(p.Args(), "d:n:l:", "device", "nocheck", "log")
	if len(rest) != 1 {
		p.Println("smartctl: no device specified")
		return 1
	}
	d.mu.Lock()
	_, on := d.find(d.resolveLocked(p.View(), rest[0]))
	d.mu.Unlock()
	if on == nil {
		p.Printf("Smartctl open device: %s failed: No such device\n", rest[0])
		return 2
	}
	if o.has("j", "json") {
		p.Printf(`{"device":{"name":"/dev/%s"},"model_name":%q,"serial_number":%q,"smart_status":{"passed":true},"rotation_rate":%d}`+"\n", on.name, on.spec.Model, on.spec.Serial, on.rpm())
		return 0
	}
	p.Printf("smartctl 7.4 2024-10-15 r5620 [x86_64-linux-%s] (local build)\n\n", p.Machine.Kernel())
	if o.has("i", "a", "x", "info", "all") {
		p.Printf("=== START OF INFORMATION SECTION ===\nDevice Model:     %s\nSerial Number:    %s\nUser Capacity:    %d bytes\n\n", on.spec.Model, on.spec.Serial, on.size)
	}
	if o.has("H", "a", "x", "health", "all") {
		p.Println("=== START OF READ SMART DATA SECTION ===\nSMART overall-health self-assessment test result: PASSED")
	}
	return 0
}

func (on *device) rpm() int {
	if on.spec.Rotational {
		return 7200
	}
	return 0
}

// resolveLocked is Resolve for who holds the lock; /dev is not guarded by it.
func (d *Disks) resolveLocked(view *vfs.View, path string) string {
	real, err := view.Realpath(path, false)
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(real, "/dev/")
}
