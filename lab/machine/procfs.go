package machine

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pxrun/pxrun/lab/vfs"
)

// procFS is /proc: generated files, and a folder for each process.
type procFS struct {
	m     *Machine
	mu    sync.RWMutex
	files map[string]func() []byte
	dirs  map[string]bool
}

func newProcFS(m *Machine) *procFS {
	p := &procFS{m: m, files: map[string]func() []byte{}, dirs: map[string]bool{"/": true}}
	hostname := m.opt.Name
	line := func(f func() string) func() []byte { return func() []byte { return []byte(f() + "\n") } }
	p.add("/sys/kernel/random/boot_id", line(m.BootID))
	p.add("/sys/kernel/random/uuid", line(func() string {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.uuid()
	}))
	p.add("/sys/kernel/hostname", line(func() string { return hostname }))
	p.add("/sys/kernel/osrelease", line(m.Kernel))
	p.add("/sys/kernel/ostype", line(func() string { return "Linux" }))
	p.add("/sys/net/ipv4/ip_forward", line(func() string { return "0" }))
	p.add("/sys/fs/file-max", line(func() string { return "9223372036854775807" }))
	p.add("/uptime", line(func() string {
		up := m.Uptime().Seconds()
		return fmt.Sprintf("%.2f %.2f", up, up*float64(m.opt.CPUs)*0.97)
	}))
	p.add("/loadavg", line(func() string { return fmt.Sprintf("0.08 0.03 0.01 1/%d %d", 200+len(m.Processes()), m.lastPID()) }))
	p.add("/meminfo", m.meminfo)
	p.add("/cpuinfo", m.cpuinfo)
	p.add("/version", line(func() string {
		return "Linux version " + m.Kernel() + " (build@lab) (gcc (Debian) 14.2.0) #1 SMP PREEMPT_DYNAMIC"
	}))
	p.add("/cmdline", line(func() string { return "BOOT_IMAGE=/boot/vmlinuz-" + m.Kernel() + " root=/dev/mapper/pve-root ro quiet" }))
	p.add("/mounts", m.mountTable)
	p.add("/self/mounts", m.mountTable)
	p.add("/modules", func() []byte { return []byte("softdog 16384 2 - Live 0x0000000000000000\n") })
	p.add("/net/dev", m.netDev)
	return p
}

// ProcFile puts a generated file into /proc, at a path without the prefix.
func (m *Machine) ProcFile(path string, content func() []byte) { m.proc.add(path, content) }

func (p *procFS) add(path string, content func() []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[path] = content
	for dir := path[:strings.LastIndexByte(path, '/')]; dir != ""; dir = dir[:strings.LastIndexByte(dir, '/')] {
		p.dirs[dir] = true
	}
}

func (m *Machine) lastPID() int {
	m.procs.mu.Lock()
	defer m.procs.mu.Unlock()
	return m.procs.last
}

func (m *Machine) meminfo() []byte {
	total := m.opt.Memory / 1024
	return fmt.Appendf(nil, "MemTotal:       %8d kB\nMemFree:        %8d kB\nMemAvailable:   %8d kB\nBuffers:        %8d kB\nCached:         %8d kB\nSwapTotal:      %8d kB\nSwapFree:       %8d kB\n",
		total, total*6/10, total*8/10, total/50, total/6, 8<<20, 8<<20)
}

// cpuFlags are what each x86-64 level adds.
var cpuFlags = []string{
	"fpu vmx lm cmov cx8 fxsr mmx syscall sse2 aes", "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3", "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave",
	"avx512f avx512bw avx512cd avx512dq avx512vl",
}

func (m *Machine) cpuinfo() []byte {
	m.mu.Lock()
	model, level := m.opt.CPUModel, m.opt.CPULevel
	m.mu.Unlock()
	vendor := "GenuineIntel"
	if strings.HasPrefix(model, "AMD") {
		vendor = "AuthenticAMD"
	}
	flags := strings.Join(cpuFlags[:min(max(level, 1), len(cpuFlags))], " ")
	var b []byte
	for i := range m.opt.CPUs {
		b = fmt.Appendf(b, "processor\t: %d\nvendor_id\t: %s\nmodel name\t: %s\ncpu MHz\t\t: 2400.000\nflags\t\t: %s\n\n", i, vendor, model, flags)
	}
	return b
}

// SetCPU changes the processors, as when the machine is replaced by another, and returns what they were.
func (m *Machine) SetCPU(model string, level int) (oldModel string, oldLevel int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	oldModel, oldLevel = m.opt.CPUModel, m.opt.CPULevel
	m.opt.CPUModel, m.opt.CPULevel = model, level
	return oldModel, oldLevel
}

// CPU is the processors' name and the x86-64 level whose flags they have.
func (m *Machine) CPU() (model string, level int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.opt.CPUModel, m.opt.CPULevel
}

func (m *Machine) mountTable() []byte {
	var b []byte
	for _, at := range m.FS.Mounts() {
		if f, ok := m.FS.Mounted(at).(mountInfo); ok {
			source, kind, options := f.MountInfo()
			b = fmt.Appendf(b, "%s %s %s %s 0 0\n", source, at, kind, options)
			continue
		}
		switch at {
		case "/":
			b = append(b, "/dev/mapper/pve-root / ext4 rw,relatime,errors=remount-ro 0 0\n"...)
		case "/proc":
			b = append(b, "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n"...)
		case "/dev":
			b = append(b, "udev /dev devtmpfs rw,nosuid,relatime 0 0\n"...)
		case "/etc/pve":
			b = append(b, "/dev/fuse /etc/pve fuse rw,nosuid,nodev,relatime,user_id=0,group_id=0,default_permissions,allow_other 0 0\n"...)
		default:
			b = fmt.Appendf(b, "none %s tmpfs rw,relatime 0 0\n", at)
		}
	}
	return b
}

func (m *Machine) netDev() []byte {
	b := []byte("Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n")
	b = append(b, "    lo: 1000 10 0 0 0 0 0 0 1000 10 0 0 0 0 0 0\n"...)
	for _, i := range m.Interfaces() {
		b = fmt.Appendf(b, "%6s: 1000000 1000 0 0 0 0 0 0 1000000 1000 0 0 0 0 0 0\n", i.Name)
	}
	return b
}

// process finds the process whose folder a path is in, and the name within it.
func (p *procFS) process(path string) (proc Process, rest string, ok bool) {
	first, rest, _ := strings.Cut(path[1:], "/")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return Process{}, "", false
	}
	for _, one := range p.m.Processes() {
		if one.PID == pid {
			return one, rest, true
		}
	}
	return Process{}, "", false
}

var processFiles = []string{"cmdline", "comm", "maps", "stat", "status"}

func (p *procFS) processFile(one Process, name string) ([]byte, bool) {
	command := one.Argv[0][strings.LastIndexByte(one.Argv[0], '/')+1:]
	switch name {
	case "cmdline":
		return []byte(strings.Join(one.Argv, "\x00") + "\x00"), true
	case "comm":
		return []byte(command + "\n"), true
	case "maps":
		return p.m.processMaps(one), true
	case "stat":
		start := one.Started.Milliseconds() / 10
		return fmt.Appendf(nil, "%d (%s) S %d %d %d 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", one.PID, command, one.PPID, one.PID, one.PID, start), true
	case "status":
		return fmt.Appendf(nil, "Name:\t%s\nState:\tS (sleeping)\nPid:\t%d\nPPid:\t%d\nUid:\t%d\t%d\t%d\t%d\n", command, one.PID, one.PPID, one.UID, one.UID, one.UID, one.UID), true
	}
	return nil, false
}

// Lstat implements vfs.FS.
func (p *procFS) Lstat(path string) (vfs.Info, error) {
	p.mu.RLock()
	file, dir := p.files[path] != nil, p.dirs[path]
	p.mu.RUnlock()
	name, now := path[strings.LastIndexByte(path, '/')+1:], p.m.Now()
	switch {
	case file:
		return vfs.Info{Name: name, Mode: 0o444, ModTime: now}, nil
	case dir:
		return vfs.Info{Name: name, Mode: fs.ModeDir | 0o555, ModTime: now}, nil
	}
	one, rest, ok := p.process(path)
	if !ok {
		return vfs.Info{}, syscall.ENOENT
	}
	if rest == "" {
		return vfs.Info{Name: name, Mode: fs.ModeDir | 0o555, ModTime: now, UID: one.UID, GID: one.UID}, nil
	}
	if _, ok := p.processFile(one, rest); ok {
		return vfs.Info{Name: name, Mode: 0o444, ModTime: now}, nil
	}
	return vfs.Info{}, syscall.ENOENT
}

// Open implements vfs.FS.
func (p *procFS) Open(path string, flag int, _ fs.FileMode) (vfs.File, error) {
	info, err := p.Lstat(path)
	if err != nil {
		return nil, err
	}
	if flag&(os.O_WRONLY|os.O_RDWR) != 0 {
		return nil, syscall.EACCES
	}
	if info.Mode.IsDir() {
		return vfs.NewStaticFile(info.Name, info.Mode, info.ModTime, nil), nil
	}
	p.mu.RLock()
	content := p.files[path]
	p.mu.RUnlock()
	if content != nil {
		return vfs.NewStaticFile(info.Name, info.Mode, info.ModTime, content()), nil
	}
	one, rest, ok := p.process(path)
	if !ok {
		return nil, syscall.ENOENT
	}
	text, _ := p.processFile(one, rest)
	return vfs.NewStaticFile(info.Name, info.Mode, info.ModTime, text), nil
}

// ReadDir implements vfs.FS.
func (p *procFS) ReadDir(path string) ([]vfs.Info, error) {
	prefix := strings.TrimRight(path, "/") + "/"
	names := map[string]bool{}
	p.mu.RLock()
	for _, set := range []func(func(string)){
		func(f func(string)) {
			for name := range p.files {
				f(name)
			}
		},
		func(f func(string)) {
			for name := range p.dirs {
				f(name)
			}
		},
	} {
		set(func(name string) {
			if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" && !strings.Contains(rest, "/") {
				names[rest] = true
			}
		})
	}
	known := p.dirs[path]
	p.mu.RUnlock()
	if path == "/" {
		for _, one := range p.m.Processes() {
			names[strconv.Itoa(one.PID)] = true
		}
	} else if !known {
		if _, rest, ok := p.process(path); !ok || rest != "" {
			return nil, syscall.ENOENT
		}
		for _, name := range processFiles {
			names[name] = true
		}
	}
	var list []vfs.Info
	for name := range names {
		if info, err := p.Lstat(prefix + name); err == nil {
			list = append(list, info)
		}
	}
	slices.SortFunc(list, func(a, b vfs.Info) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// /proc cannot be changed.

// Mkdir implements vfs.FS.
func (p *procFS) Mkdir(string, fs.FileMode) error { return syscall.ENOENT }

// Remove implements vfs.FS.
func (p *procFS) Remove(string) error { return syscall.EPERM }

// Rename implements vfs.FS.
func (p *procFS) Rename(string, string) error { return syscall.EPERM }

// Symlink implements vfs.FS.
func (p *procFS) Symlink(string, string) error { return syscall.ENOENT }

// Link implements vfs.FS.
func (p *procFS) Link(string, string) error { return syscall.EPERM }

// Chmod implements vfs.FS.
func (p *procFS) Chmod(string, fs.FileMode) error { return syscall.EPERM }

// Chown implements vfs.FS.
func (p *procFS) Chown(string, int, int) error { return syscall.EPERM }

// Chtimes implements vfs.FS.
func (p *procFS) Chtimes(string, time.Time, time.Time) error { return syscall.EPERM }
