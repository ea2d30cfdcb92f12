package machine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// systemPrograms tell about the machine, its users and its time.
func systemPrograms() map[string]Program {
	return map[string]Program{
		"id": runID, "whoami": runWhoami, "groups": runGroups, "logname": runWhoami, "hostname": runHostname, "uname": runUname, "date": runDate, "nproc": runNproc,
		"getent": runGetent, "uptime": runUptime, "free": runFree, "lsblk": runLsblk, "arch": runUname, "which": runWhich, "tty": runTty, "locale": runLocale,
		"logger": runLogger, "/usr/sbin/sysctl": runSysctl, "/usr/sbin/modprobe": runQuiet, "/usr/sbin/ldconfig": runQuiet, "clear": runQuiet, "dmesg": runQuiet, "lsmod": runLsmod,
		"/usr/sbin/update-initramfs": runQuiet, "/usr/sbin/update-grub": runQuiet, "getconf": runGetconf, "who": runQuiet, "w": runQuiet, "last": runQuiet,
		"/usr/sbin/useradd": runUseradd, "/usr/sbin/usermod": runQuiet, "/usr/sbin/groupadd": runGroupadd, "/usr/sbin/chpasswd": runChpasswd, "printenv": runPrintenv,
	}
}

func runQuiet(context.Context, *Proc) int { return 0 }

func runUname(_ context.Context, p *Proc) int {
	opts, _, ok := p.getopt("asnrvmpio", "all=a", "kernel-name=s", "nodename=n", "kernel-release=r", "kernel-version=v", "machine=m", "operating-system=o")
	if !ok {
		return 1
	}
	if p.Name() == "arch" {
		p.Println("x86_64")
		return 0
	}
	var out []string
	for _, f := range []struct{ letter, text string }{
		{"s", "Linux"}, {"n", p.Machine.Name()}, {"r", p.Machine.Kernel()}, {"v", "#1 SMP PREEMPT_DYNAMIC PMX 6.17.2-1 (2025-10-21T11:55Z)"}, {"m", "x86_64"}, {"o", "GNU/Linux"},
	} {
		if opts.has(f.letter, "a") || f.letter == "s" && len(opts.order) == 0 {
			out = append(out, f.text)
		}
	}
	if opts.has("p", "i") {
		out = append(out, "unknown")
	}
	p.Println(strings.Join(out, " "))
	return 0
}

func runNproc(_ context.Context, p *Proc) int {
	p.Println(strconv.Itoa(p.Machine.opt.CPUs))
	return 0
}

func runUptime(_ context.Context, p *Proc) int {
	opts, _, ok := p.getopt("sp", "since=s", "pretty=p")
	if !ok {
		return 1
	}
	up := p.Machine.Uptime()
	days, hours, minutes := int(up.Hours())/24, int(up.Hours())%24, int(up.Minutes())%60
	switch {
	case opts.has("s"):
		p.Println(p.Machine.Now().Add(-up).UTC().Format("2006-01-02 15:04:05"))
	case opts.has("p"):
		p.Printf("up %d days, %d hours, %d minutes\n", days, hours, minutes)
	default:
		p.Printf(" %s up %d days, %2d:%02d,  1 user,  load average: 0.08, 0.03, 0.01\n", p.Machine.Now().UTC().Format("15:04:05"), days, hours, minutes)
	}
	return 0
}

func runFree(_ context.Context, p *Proc) int {
	opts, _, ok := p.getopt("bkmgh", "bytes=b", "mebi=m", "human=h")
	if !ok {
		return 1
	}
	unit := int64(1 << 10)
	switch {
	case opts.has("b"):
		unit = 1
	case opts.has("m"):
		unit = 1 << 20
	case opts.has("g"):
		unit = 1 << 30
	}
	t := p.Machine.opt.Memory / unit
	p.Printf("               total        used        free      shared  buff/cache   available\nMem:    %12d%12d%12d%12d%12d%12d\nSwap:   %12d%12d%12d\n", t, t/5, t*6/10, t/100, t/5, t*8/10, int64(8<<30)/unit, 0, int64(8<<30)/unit)
	return 0
}

func runLsblk(_ context.Context, p *Proc) int {
	opts, _, ok := p.getopt("Jbdno:pr", "json=J", "bytes=b", "nodeps=d", "noheadings=n", "output=o", "paths=p")
	if !ok {
		return 1
	}
	if opts.has("J") {
		p.Println(`{
   "blockdevices": [
      {"name":"sda", "maj:min":"8:0", "rm":false, "size":"100G", "ro":false, "type":"disk", "mountpoints":[null],
         "children": [
            {"name":"pve-root", "maj:min":"252:1", "rm":false, "size":"96G", "ro":false, "type":"lvm", "mountpoints":["/"]}
         ]
      }
   ]
}`)

		return 0
	}
	if !opts.has("n") {
		p.Println("NAME       MAJ:MIN RM  SIZE RO TYPE MOUNTPOINTS")
	}
	p.Println("sda          8:0    0  100G  0 disk ")
	p.Println("└─pve-root 252:1    0   96G  0 lvm  /")
	return 0
}

func runWhich(_ context.Context, p *Proc) int {
	_, names, ok := p.getopt("as")
	if !ok {
		return 2
	}
	status := 0
	for _, name := range names {
		path, err := lookup(p.view, name, p.Env["PATH"])
		if err != nil || p.view.Access(path, 1) != nil {
			status = 1
			continue
		}
		p.Println(path)
	}
	return status
}

func runTty(_ context.Context, p *Proc) int {
	if !p.TTY {
		p.Println("not a tty")
		return 1
	}
	p.Println("/dev/pts/0")
	return 0
}

func runLocale(_ context.Context, p *Proc) int {
	p.Printf("LANG=%s\nLC_ALL=%s\n", p.Env["LANG"], p.Env["LC_ALL"])
	return 0
}

func runGetconf(_ context.Context, p *Proc) int {
	values := map[string]string{"_NPROCESSORS_ONLN": strconv.Itoa(p.Machine.opt.CPUs), "PAGESIZE": "4096", "PAGE_SIZE": "4096", "ARG_MAX": "2097152", "CLK_TCK": "100", "LONG_BIT": "64"}
	if len(p.Argv) < 2 || values[p.Argv[1]] == "" {
		return p.Fail(2, "Unrecognized variable `%s'", strings.Join(p.Args(), " "))
	}
	p.Println(values[p.Argv[1]])
	return 0
}

func runLogger(_ context.Context, p *Proc) int {
	opts, words, ok := p.getopt("t:p:isf:", "tag=t", "priority=p", "id=i", "stderr=s")
	if !ok {
		return 1
	}
	text := strings.Join(words, " ")
	if len(words) == 0 {
		content, err := p.ReadInput("-")
		if err != nil {
			return 1
		}
		text = strings.TrimSuffix(string(content), "\n")
	}
	priority := 5
	_, level, _ := strings.Cut(opts.last("p"), ".")
	if at := slices.Index([]string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}, level); at >= 0 {
		priority = at
	}
	for line := range strings.SplitSeq(text, "\n") {
		p.Machine.Log(Entry{Ident: cmp.Or(opts.last("t"), p.Machine.userName(p.UID)), PID: p.pid, Priority: priority, Text: line})
		if opts.has("s") {
			fmt.Fprintln(p.Stderr, line)
		}
	}
	return 0
}

func runSysctl(_ context.Context, p *Proc) int {
	opts, names, ok := p.getopt("nwpqea", "values=n", "write=w", "system")
	if !ok {
		return 1
	}
	for _, name := range names {
		key, value, set := strings.Cut(name, "=")
		path := "/sys/" + strings.ReplaceAll(key, ".", "/")
		if set {
			p.Machine.ProcFile(path, func() []byte { return []byte(value + "\n") })
			p.Printf("%s = %s\n", key, value)
			continue
		}
		content, err := p.view.ReadFile("/proc" + path)
		if err != nil {
			return p.Fail(1, "cannot stat /proc%s: %s", path, Reason(err))
		}
		if !opts.has("n") {
			p.Printf("%s = ", key)
		}
		p.Stdout.Write(content)
	}
	return 0
}

func runLsmod(_ context.Context, p *Proc) int {
	p.Println("Module                  Size  Used by\nsoftdog                16384  2")
	return 0
}

func runPrintenv(_ context.Context, p *Proc) int {
	if len(p.Argv) > 1 {
		value, ok := p.Env[p.Argv[1]]
		if ok {
			p.Println(value)
		}
		return boolStatus(ok)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Env)) {
		p.Println(name + "=" + p.Env[name])
	}
	return 0
}
