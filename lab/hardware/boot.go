package hardware

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pxrun/pxrun/lab/machine"
)

// Loader is the boot loader of a Proxmox node with proxmox-boot-tool, which configures it.
type Loader struct {
	m *machine.Machine

	mu sync.Mutex
	// pinned is the kernel that the loader's own configuration on the ESPs names, as of the last refresh.
	pinned string
	// stale: the loader was never told of newer kernels. hang is the kernel that hangs; any but sound does if it is "*". late
	// says that it does so once the first units have run.
	stale bool
	hang  string
	sound string
	late  bool
}

// Files of proxmox-boot-tool.
const (
	espList    = "/etc/kernel/proxmox-boot-uuids"
	pinFile    = "/etc/kernel/proxmox-boot-pin"
	onceFile   = "/etc/kernel/next-boot-pin"
	manualFile = "/etc/kernel/proxmox-boot-manual-kernels"
)

// InstallLoader gives a node its boot loader: GRUB on the root file system, or with esp on an EFI system partition, where
// nothing counts before a refresh.
func InstallLoader(m *machine.Machine, esp bool) (*Loader, error) {
	l := &Loader{m: m}
	err := m.FS.MkdirAll("/etc/kernel", 0o755)
	if esp {
		err = errors.Join(err, m.FS.WriteFile(espList, []byte("3C2A-91F4\n"), 0o644))
	}
	m.Register("/usr/sbin/proxmox-boot-tool", l.program)
	// What is pinned for one start is taken back by a unit, once that start has come far enough, and not by the boot loader.
	m.AddUnit(machine.Unit{
		Name: "proxmox-boot-cleanup.service", Description: "Clean up bootloader next-boot setting", Enabled: true, Oneshot: true,
		Condition: func() bool { return l.first(onceFile) != "" || l.exists(onceFile) },
		OnStart:   func(context.Context) error { l.cleanUp(); return nil },
	})
	return l, err
}

// Boot decides how the node comes up.
func (l *Loader) Boot() machine.Boot {
	kernel := l.next()
	l.mu.Lock()
	hangs := l.hang == kernel || l.hang == "*" && kernel != l.sound
	late := l.late
	l.mu.Unlock()
	if hangs && late {
		l.cleanUp()
	}
	return machine.Boot{Kernel: kernel, Stuck: hangs}
}

// next is the kernel that the boot loader takes.
func (l *Loader) next() string {
	l.mu.Lock()
	stale, pinned := l.stale, l.pinned
	l.mu.Unlock()
	kernels := l.kernels()
	if !l.esp() {
		pinned = l.wanted()
	}
	switch {
	case stale || len(kernels) == 0:
		return l.m.Kernel()
	case slices.Contains(kernels, pinned):
		return pinned
	}
	return kernels[len(kernels)-1]
}

// wanted is what the pins say.
func (l *Loader) wanted() string {
	if once := l.first(onceFile); once != "" {
		return once
	}
	return l.first(pinFile)
}

// SetStale decides whether the boot loader hears of other kernels than the one that runs.
func (l *Loader) SetStale(stale bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stale = stale
}

// SetHang lets a kernel hang at its start, with "*" all but the one that runs now, with "" none. With late it does so after the
// first units have run.
func (l *Loader) SetHang(kernel string, late bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hang, l.late, l.sound = kernel, late, l.m.Kernel()
}

func (l *Loader) esp() bool { return l.exists(espList) }

func (l *Loader) exists(name string) bool {
	_, err := l.m.FS.Lstat(name)
	return err == nil
}

// first is the first line of a file.
func (l *Loader) first(name string) string {
	text, err := l.m.FS.ReadFile(name)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// kernels are those in /boot, oldest first.
func (l *Loader) kernels() []string {
	list, err := l.m.FS.ReadDir("/boot")
	if err != nil {
		return nil
	}
	var out []string
	for _, entry := range list {
		if version, ok := strings.CutPrefix(entry.Name, "vmlinuz-"); ok && strings.HasSuffix(version, "-pve") {
			out = append(out, version)
		}
	}
	slices.SortFunc(out, compareKernels)
	return out
}

// compareKernels orders versions by their numbers.
func compareKernels(a, b string) int {
	split := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	}
	x, y := split(a), split(b)
	for i := range min(len(x), len(y)) {
		n, _ := strconv.Atoi(x[i])
		k, _ := strconv.Atoi(y[i])
		if n != k {
			return n - k
		}
	}
	return len(x) - len(y)
}

func (l *Loader) cleanUp() {
	_ = l.m.FS.Remove(onceFile)
	l.refresh()
}

// refresh tells the boot loader on the ESPs what the pins say.
func (l *Loader) refresh() {
	wanted := l.wanted()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pinned = wanted
}

// program is proxmox-boot-tool.
func (l *Loader) program(_ context.Context, p *machine.Proc) int {
	args := p.Argv[1:]
	at := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch at(0) {
	case "refresh":
		return l.refreshCommand(p)
	case "status":
		return l.status(p)
	case "kernel", "kernels":
		return l.kernelCommand(p, args[1:])
	}
	fmt.Fprintf(p.Stderr, "Invalid/unknown command '%s'.\n", at(0))
	return 1
}

func (l *Loader) refreshCommand(p *machine.Proc) int {
	fmt.Fprintln(p.Stdout, "Running hook script 'proxmox-auto-removal'..")
	fmt.Fprintln(p.Stdout, "Running hook script 'zz-proxmox-boot'..")
	if !l.esp() {
		fmt.Fprintf(p.Stderr, "No %s found, skipping ESP sync.\n", espList)
		return 0
	}
	fmt.Fprintln(p.Stderr, "Copying and configuring kernels on /dev/disk/by-uuid/"+l.first(espList))
	for _, k := range l.kernels() {
		fmt.Fprintln(p.Stderr, "\tCopying kernel "+k)
	}
	l.refresh()
	return 0
}

func (l *Loader) status(p *machine.Proc) int {
	if !l.esp() {
		fmt.Fprintf(p.Stderr, "E: %s does not exist.\n", espList)
		return 2
	}
	fmt.Fprintf(p.Stdout, "System currently booted with uefi\n%s is configured with: grub (versions: %s)\n", l.first(espList), strings.Join(l.kernels(), ", "))
	return 0
}

func (l *Loader) kernelCommand(p *machine.Proc, args []string) int {
	switch {
	case len(args) == 1 && args[0] == "list":
		return l.list(p)
	case len(args) >= 1 && args[0] == "pin" && (len(args) == 2 || len(args) == 3 && args[2] == "--next-boot"):
		return l.pin(p, args[1], len(args) == 3)
	case len(args) >= 1 && args[0] == "unpin" && (len(args) == 1 || len(args) == 2 && args[1] == "--next-boot"):
		return l.unpin(p, len(args) == 2)
	}
	fmt.Fprintln(p.Stderr, "  /usr/sbin/proxmox-boot-tool kernel pin <kernel-version> [--next-boot]\n  /usr/sbin/proxmox-boot-tool kernel unpin [--next-boot]\n  /usr/sbin/proxmox-boot-tool kernel list")
	return 1
}

func (l *Loader) list(p *machine.Proc) int {
	manual := l.first(manualFile)
	if manual == "" {
		manual = "None."
	}
	fmt.Fprintf(p.Stdout, "Manually selected kernels:\n%s\n\nAutomatically selected kernels:\n%s\n", manual, strings.Join(l.kernels(), "\n"))
	if pin := l.first(pinFile); pin != "" {
		fmt.Fprintf(p.Stdout, "\nPinned kernel:\n%s\n", pin)
	}
	if once := l.first(onceFile); once != "" {
		fmt.Fprintf(p.Stdout, "\nKernel pinned on next-boot:\n%s\n", once)
	}
	return 0
}

func (l *Loader) pin(p *machine.Proc, version string, once bool) int {
	if !l.exists("/boot/vmlinuz-" + version) {
		fmt.Fprintf(p.Stderr, "E: no kernel image found in /boot for '%s', not setting default.\n\nPossible Proxmox kernel versions are:\n%s\n", version, strings.Join(l.kernels(), "\n"))
		return 1
	}
	file := pinFile
	if once {
		file = onceFile
	}
	if old := l.first(file); old != "" && old != version {
		fmt.Fprintf(p.Stdout, "Overriding previously pinned version '%s' with '%s'\n", old, version)
	}
	if err := p.View().WriteFile(file, []byte(version+"\n"), 0o644); err != nil {
		fmt.Fprintf(p.Stderr, "/usr/sbin/proxmox-boot-tool: cannot create %s: %v\n", file, reason(err))
		return 2
	}
	if l.esp() {
		fmt.Fprintf(p.Stdout, "Set kernel '%s' in %s. Use the 'refresh' command to update the ESPs.\n", version, file)
	} else {
		fmt.Fprintf(p.Stdout, "Setting '%s' as grub default entry and running update-grub.\n", l.wanted())
		l.updateGrub(p)
	}
	if once {
		fmt.Fprintln(p.Stdout, "Pinned for next boot only.")
	}
	return 0
}

func (l *Loader) unpin(p *machine.Proc, once bool) int {
	last := l.first(onceFile)
	_ = p.View().Remove(onceFile)
	fmt.Fprintf(p.Stdout, "Removed %s.\n", onceFile)
	if !once {
		if old := l.first(pinFile); old != "" {
			last = old
		}
		_ = p.View().Remove(pinFile)
		fmt.Fprintf(p.Stdout, "Removed %s.\n", pinFile)
	}
	switch {
	case !l.esp():
		fmt.Fprintln(p.Stdout, "Reset default grub entry and running update-grub.")
		l.updateGrub(p)
	case last != "":
		fmt.Fprintf(p.Stdout, "Unpinned kernel '%s'. Use the 'refresh' command to update the ESPs.\n", last)
	}
	return 0
}

func (l *Loader) updateGrub(p *machine.Proc) {
	fmt.Fprintln(p.Stderr, "Generating grub configuration file ...")
	for _, k := range slices.Backward(l.kernels()) {
		fmt.Fprintf(p.Stderr, "Found linux image: /boot/vmlinuz-%s\n", k)
	}
	fmt.Fprintln(p.Stderr, "done")
}

func reason(err error) string {
	if cause, ok := errors.AsType[*fs.PathError](err); ok {
		return cause.Err.Error()
	}
	if errors.Is(err, os.ErrPermission) {
		return "Permission denied"
	}
	return err.Error()
}
