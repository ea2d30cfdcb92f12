package machine

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
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

func runID(_ context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("ugGnr", "user=u", "group=g", "groups=G", "name=n")
	if !ok {
		return 1
	}
	uid := p.UID
	if len(rest) > 0 {
		u, found := p.Machine.User(rest[0])
		if !found {
			return p.Fail(1, "‘%s’: no such user", rest[0])
		}
		uid = u.UID
	}
	groups := p.Machine.groupsOf(uid)
	user, group := strconv.Itoa, strconv.Itoa
	if opts.has("n") {
		user, group = p.Machine.userName, p.Machine.groupName
	}
	switch {
	case opts.has("u"):
		p.Println(user(uid))
	case opts.has("g"):
		p.Println(group(groups[0]))
	case opts.has("G"):
		var names []string
		for _, g := range groups {
			names = append(names, group(g))
		}
		p.Println(strings.Join(names, " "))
	default:
		var names []string
		for _, g := range groups {
			names = append(names, fmt.Sprintf("%d(%s)", g, p.Machine.groupName(g)))
		}
		p.Printf("uid=%d(%s) gid=%d(%s) groups=%s\n", uid, p.Machine.userName(uid), groups[0], p.Machine.groupName(groups[0]), strings.Join(names, ","))
	}
	return 0
}

func runWhoami(_ context.Context, p *Proc) int {
	p.Println(p.Machine.userName(p.UID))
	return 0
}

func runGroups(_ context.Context, p *Proc) int {
	var names []string
	for _, g := range p.Machine.groupsOf(p.UID) {
		names = append(names, p.Machine.groupName(g))
	}
	p.Println(strings.Join(names, " "))
	return 0
}

func runHostname(_ context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("fsdIiAF:", "fqdn=f", "long=f", "short=s", "domain=d", "all-ip-addresses=I", "ip-address=i")
	if !ok {
		return 1
	}
	m := p.Machine
	name := m.Name()
	if len(rest) > 0 {
		m.ProcFile("/sys/kernel/hostname", func() []byte { return []byte(rest[0] + "\n") })
		return 0
	}
	switch {
	case opts.has("I"):
		for _, a := range m.Addresses() {
			p.Printf("%s ", a)
		}
		p.Println("")
	case opts.has("i"):
		found := m.Resolve(name)
		if len(found) == 0 {
			return p.Fail(1, "Name or service not known")
		}
		p.Println(found[0].String())
	case opts.has("f", "d"):
		fqdn := m.canonicalName(name)
		if fqdn == "" {
			return p.Fail(1, "Name or service not known")
		}
		if opts.has("d") {
			_, domain, _ := strings.Cut(fqdn, ".")
			p.Println(domain)
			return 0
		}
		p.Println(fqdn)
	case opts.has("s"):
		short, _, _ := strings.Cut(name, ".")
		p.Println(short)
	default:
		p.Println(name)
	}
	return 0
}

// hostsEntries reads /etc/hosts.
func (m *Machine) hostsEntries() [][]string {
	content, err := m.FS.ReadFile("/etc/hosts")
	if err != nil {
		return nil
	}
	var out [][]string
	for line := range strings.Lines(string(content)) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 1 {
			out = append(out, f)
		}
	}
	return out
}

// Resolve finds a name's addresses: /etc/hosts first, then the names of the network's machines. An address is itself.
func (m *Machine) Resolve(name string) []netip.Addr {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}
	}
	var out []netip.Addr
	for _, f := range m.hostsEntries() {
		if a, err := netip.ParseAddr(f[0]); err == nil && slices.Contains(f[1:], name) {
			out = append(out, a)
		}
	}
	if len(out) > 0 || m.network == nil {
		return out
	}
	if other := m.network.Find(name); other != nil && other != m {
		return other.Addresses()
	}
	return nil
}

func (m *Machine) canonicalName(name string) string {
	for _, f := range m.hostsEntries() {
		if slices.Contains(f[1:], name) {
			return f[1]
		}
	}
	return ""
}

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

func runDate(_ context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("uRd:r:I::s:f:", "utc=u", "date=d", "rfc-email=R", "iso-8601=", "rfc-3339=", "reference=r", "universal=u")
	if !ok {
		return 1
	}
	t := p.Machine.Now().UTC()
	if d := opts.last("d"); opts.has("d") {
		parsed, valid := parseDate(d, t)
		if !valid {
			return p.Fail(1, "invalid date ‘%s’", d)
		}
		t = parsed.UTC()
	}
	if r := opts.last("r"); r != "" {
		info, err := p.view.Stat(r)
		if err != nil {
			return p.Fail(1, "%s: %s", r, Reason(err))
		}
		t = info.ModTime.UTC()
	}
	layout := "%a %b %e %H:%M:%S UTC %Y"
	switch {
	case len(rest) > 0 && strings.HasPrefix(rest[0], "+"):
		layout = rest[0][1:]
	case len(rest) > 0:
		return p.Fail(1, "invalid date ‘%s’", rest[0])
	case opts.has("R"):
		layout = "%a, %d %b %Y %H:%M:%S +0000"
	case opts.has("I", "iso-8601"):
		layout = map[string]string{"": "%Y-%m-%d", "date": "%Y-%m-%d", "seconds": "%Y-%m-%dT%H:%M:%S+00:00", "s": "%Y-%m-%dT%H:%M:%S+00:00", "ns": "%Y-%m-%dT%H:%M:%S,%N+00:00"}[cmp.Or(opts.last("I"), opts.last("iso-8601"))]
	case opts.has("rfc-3339"):
		layout = "%Y-%m-%d %H:%M:%S+00:00"
	}
	p.Println(strftime(layout, t))
	return 0
}

// strftime formats a time as date does.
func strftime(layout string, t time.Time) string {
	simple := map[byte]string{
		'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'y': "06", 'b': "Jan", 'h': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday", 'I': "03", 'p': "PM",
		'e': "_2", 'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06", 'Z': "MST", 'z': "-0700", 'j': "002", 'c': "Mon Jan _2 15:04:05 2006", 'r': "03:04:05 PM",
	}
	var b strings.Builder
	for i := 0; i < len(layout); i++ {
		if layout[i] != '%' || i+1 == len(layout) {
			b.WriteByte(layout[i])
			continue
		}
		i++
		pad := byte(0)
		if layout[i] == '-' && i+1 < len(layout) {
			pad = '-'
			i++
		}
		digits := 0
		for i+1 < len(layout) && isDigit(layout[i]) {
			digits = digits*10 + int(layout[i]-'0')
			i++
		}
		c := layout[i]
		text := ""
		switch c {
		case 's':
			text = strconv.FormatInt(t.Unix(), 10)
		case 'N':
			text = fmt.Sprintf("%09d", t.Nanosecond())
			if digits > 0 && digits < 9 {
				text = text[:digits]
			}
		case 'u':
			text = strconv.Itoa((int(t.Weekday())+6)%7 + 1)
		case 'w':
			text = strconv.Itoa(int(t.Weekday()))
		case 'V':
			_, week := t.ISOWeek()
			text = fmt.Sprintf("%02d", week)
		case 'n':
			text = "\n"
		case 't':
			text = "\t"
		case '%':
			text = "%"
		default:
			if l := simple[c]; l != "" {
				text = t.Format(l)
			} else {
				text = "%" + string(c)
			}
		}
		if pad == '-' {
			text = strings.TrimLeft(text, "0 ")
			if text == "" {
				text = "0"
			}
		}
		b.WriteString(text)
	}
	return b.String()
}

func runNproc(_ context.Context, p *Proc) int {
	p.Println(strconv.Itoa(p.Machine.opt.CPUs))
	return 0
}

func runGetent(_ context.Context, p *Proc) int {
	_, args, ok := p.getopt("s:i", "service=s")
	if !ok || len(args) == 0 {
		return p.Fail(1, "wrong number of arguments")
	}
	m := p.Machine
	switch args[0] {
	case "hosts", "ahosts", "ahostsv4", "ahostsv6":
		return p.getentHosts(args[0], args[1:])
	case "passwd", "group", "shadow":
		path := "/etc/" + args[0]
		if len(args) == 1 {
			content, err := m.FS.ReadFile(path)
			if err != nil {
				return 2
			}
			p.Stdout.Write(content)
			return 0
		}
		status := 0
		for _, key := range args[1:] {
			f := m.record(path, func(f []string) bool { return f[0] == key || args[0] != "shadow" && f[2] == key })
			if f == nil {
				status = 2
				continue
			}
			p.Println(strings.Join(f, ":"))
		}
		return status
	case "services", "protocols":
		if len(args) > 1 && args[1] == "ssh" {
			p.Println("ssh                   22/tcp")
			return 0
		}
		return 2
	}
	io.WriteString(p.Stderr, "Unknown database: "+args[0]+"\n")
	return 1
}

func (p *Proc) getentHosts(database string, names []string) int {
	if len(names) == 0 {
		for _, f := range p.Machine.hostsEntries() {
			p.Printf("%-15s %s\n", f[0], strings.Join(f[1:], " "))
		}
		return 0
	}
	status := 0
	for _, name := range names {
		found := p.Machine.Resolve(name)
		if _, err := netip.ParseAddr(name); err == nil && database == "hosts" {
			found = nil
			for _, f := range p.Machine.hostsEntries() {
				if f[0] == name {
					p.Printf("%-15s %s\n", f[0], strings.Join(f[1:], " "))
					found = append(found, netip.Addr{})
					break
				}
			}
			if len(found) == 0 {
				status = 2
			}
			continue
		}
		if database == "ahostsv4" {
			found = slices.DeleteFunc(slices.Clone(found), func(a netip.Addr) bool { return !a.Is4() })
		}
		if database == "ahostsv6" {
			found = slices.DeleteFunc(slices.Clone(found), func(a netip.Addr) bool { return a.Is4() })
		}
		if len(found) == 0 {
			status = 2
			continue
		}
		canonical := cmp.Or(p.Machine.canonicalName(name), name)
		for i, a := range found {
			if database == "hosts" {
				p.Printf("%-15s %s\n", a, canonical)
				break
			}
			for j, kind := range []string{"STREAM", "DGRAM", "RAW"} {
				label := ""
				if i == 0 && j == 0 {
					label = canonical
				}
				p.Printf("%-15s %-6s %s\n", a, kind, label)
			}
		}
	}
	return status
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

func runUseradd(_ context.Context, p *Proc) int {
	opts, names, ok := p.getopt("mMrs:d:u:g:G:c:UN", "create-home=m", "system=r", "shell=s", "home-dir=d", "uid=u", "gid=g", "groups=G", "comment=c")
	if !ok || len(names) != 1 {
		return 2
	}
	if _, exists := p.Machine.User(names[0]); exists {
		return p.Fail(9, "user '%s' already exists", names[0])
	}
	if p.UID != 0 {
		return p.Fail(1, "Permission denied.")
	}
	uid, err := strconv.Atoi(opts.last("u"))
	if err != nil {
		for uid = 1000; ; uid++ {
			if _, taken := p.Machine.UserByID(uid); !taken {
				break
			}
		}
	}
	u := User{Name: names[0], UID: uid, Home: opts.last("d"), Shell: cmp.Or(opts.last("s"), "/bin/sh"), SkipCreate: !opts.has("m")}
	if g := opts.last("G"); g != "" {
		u.Groups = strings.Split(g, ",")
	}
	if err := p.Machine.AddUser(u); err != nil {
		return p.Fail(1, "%v", err)
	}
	return 0
}

func runGroupadd(_ context.Context, p *Proc) int {
	opts, names, ok := p.getopt("rg:f", "system=r", "gid=g", "force=f")
	if !ok || len(names) != 1 {
		return 2
	}
	if _, exists := p.Machine.groupID(names[0]); exists {
		if opts.has("f") {
			return 0
		}
		return p.Fail(9, "group '%s' already exists", names[0])
	}
	gid := cmp.Or(opts.last("g"), strconv.Itoa(3000+len(names[0])))
	if err := p.Machine.setRecord("/etc/group", names[0], names[0]+":x:"+gid+":"); err != nil {
		return p.Fail(1, "%v", err)
	}
	return 0
}

func runChpasswd(_ context.Context, p *Proc) int {
	content, err := p.ReadInput("-")
	if err != nil || p.UID != 0 {
		return 1
	}
	for _, line := range lines(content) {
		user, password, _ := strings.Cut(line, ":")
		f := p.Machine.record("/etc/shadow", func(f []string) bool { return f[0] == user })
		if f == nil {
			return p.Fail(1, "(line 1, user %s) password not changed", user)
		}
		f[1] = hashPassword(password)
		if err := p.Machine.setRecord("/etc/shadow", user, strings.Join(f, ":")); err != nil {
			return p.Fail(1, "%v", err)
		}
	}
	return 0
}
