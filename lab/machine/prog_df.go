package machine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/vfs"
)

// mountOf returns the mount point of a path and the type of its file system.
func (p *Proc) mountOf(path string) (at, kind string) {
	if real, err := p.view.Realpath(path, true); err == nil {
		path = real
	}
	at, _ = p.Machine.FS.MountOf(vfs.Clean(p.Dir, path))
	return at, p.Machine.mountKind(at)
}

// mountInfo is implemented by mounted file systems that know what they are, such as those of a storage in the network.
// All others are known by where they lie.
type mountInfo interface {
	MountInfo() (source, kind, options string)
}

func (m *Machine) mountKind(at string) string {
	if f, ok := m.FS.Mounted(at).(mountInfo); ok {
		_, kind, _ := f.MountInfo()
		return kind
	}
	switch at {
	case "/":
		return "ext4"
	case "/proc":
		return "proc"
	case "/dev":
		return "devtmpfs"
	case "/etc/pve":
		return "fuse"
	}
	return "tmpfs"
}

// sizeOf returns the size and the use of a mounted file system.
func (p *Proc) sizeOf(at string) (size, used int64) {
	size = 96 << 30
	if f, ok := p.Machine.FS.Mounted(at).(interface{ Usage() (used, limit int64) }); ok {
		u, limit := f.Usage()
		used = u
		if limit > 0 {
			size = limit
		} else if at == "/" {
			used += 4 << 30
		}
	} else {
		size = 128 << 20
		used = 32 << 10
	}
	return size, used
}

func runDf(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("PhkB:TaiHl t:x:", "portability=P", "human-readable=h", "block-size=B", "print-type=T", "output=", "type=t", "exclude-type=x", "all=a", "local=l")
	if !ok {
		return 1
	}
	unit, title := int64(1024), "1K-blocks"
	if opts.has("P") {
		title = "1024-blocks"
	}
	if b := opts.last("B"); b != "" {
		n, valid := parseSize(strings.TrimLeft(b, "0"))
		if !isDigit(b[0]) {
			n, valid = parseSize("1" + b)
		}
		if !valid || n == 0 {
			return p.Fail(1, "invalid -B argument '%s'", b)
		}
		unit, title = n, b+"-blocks"
	}
	mounts, status := p.dfMounts(paths)
	show := func(n int64) string {
		if opts.has("h", "H") {
			return humanSize(n)
		}
		return strconv.FormatInt((n+unit-1)/unit, 10)
	}
	use := "Use%"
	if opts.has("P") {
		use = "Capacity"
	}
	if opts.has("h", "H") {
		title = "Size"
	}
	columns := []string{"source", "size", "used", "avail", "pcent", "target"}
	heads := map[string]string{"source": "Filesystem", "fstype": "Type", "size": title, "used": "Used", "avail": "Available", "pcent": use, "target": "Mounted on"}
	if opts.has("h", "H") {
		heads["avail"] = "Avail"
	}
	if opts.has("T") {
		columns = slices.Insert(columns, 1, "fstype")
	}
	if o := opts.last("output"); o != "" {
		columns = strings.Split(o, ",")
		heads["avail"], heads["pcent"] = "Avail", "Use%"
	}
	rows := [][]string{{}}
	for _, c := range columns {
		rows[0] = append(rows[0], heads[c])
	}
	for _, at := range mounts {
		size, used := p.sizeOf(at)
		percent := "0%"
		if size > 0 {
			percent = fmt.Sprintf("%d%%", (used*100+size-1)/size)
		}
		values := map[string]string{"source": p.Machine.mountSource(at), "fstype": p.Machine.mountKind(at), "size": show(size), "used": show(used), "avail": show(size - used), "pcent": percent, "target": at}
		var row []string
		for _, c := range columns {
			row = append(row, values[c])
		}
		rows = append(rows, row)
	}
	p.table(rows, columns)
	return status
}

func (p *Proc) dfMounts(paths []string) (mounts []string, status int) {
	if len(paths) == 0 {
		return slices.DeleteFunc(p.Machine.FS.Mounts(), func(at string) bool { return at == "/proc" }), 0
	}
	for _, path := range paths {
		if _, err := p.view.Stat(path); err != nil {
			status = p.Fail(1, "%s: %s", path, Reason(err))
			continue
		}
		at, _ := p.mountOf(path)
		mounts = append(mounts, at)
	}
	return mounts, status
}

func (m *Machine) mountSource(at string) string {
	if f, ok := m.FS.Mounted(at).(mountInfo); ok {
		source, _, _ := f.MountInfo()
		return source
	}
	switch at {
	case "/":
		return "/dev/mapper/pve-root"
	case "/dev":
		return "udev"
	case "/proc":
		return "proc"
	case "/etc/pve":
		return "/dev/fuse"
	}
	return "tmpfs"
}

// table prints rows in columns: text to the left, numbers to the right.
func (p *Proc) table(rows [][]string, columns []string) {
	width := make([]int, len(columns))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len(cell))
		}
	}
	for _, row := range rows {
		for i, cell := range row {
			left := columns[i] == "source" || columns[i] == "fstype" || columns[i] == "target"
			switch {
			case left && i == len(row)-1:
				row[i] = cell
			case left:
				row[i] = fmt.Sprintf("%-*s", width[i], cell)
			default:
				row[i] = fmt.Sprintf("%*s", width[i], cell)
			}
		}
		p.Println(strings.Join(row, " "))
	}
}

func runDu(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("shbkmacxd:", "summarize=s", "bytes=b", "human-readable=h", "max-depth=d", "apparent-size")
	if !ok {
		return 1
	}
	if len(paths) == 0 {
		paths = []string{"."}
	}
	status := 0
	var size func(path string) int64
	size = func(path string) int64 {
		info, err := p.view.Lstat(path)
		if err != nil {
			status = p.Fail(1, "cannot access '%s': %s", path, Reason(err))
			return 0
		}
		total := info.Size
		if info.Mode.IsDir() {
			list, err := p.view.ReadDir(path)
			if err != nil {
				status = p.Fail(1, "cannot read directory '%s': %s", path, Reason(err))
			}
			for _, entry := range list {
				total += size(strings.TrimRight(path, "/") + "/" + entry.Name)
			}
		}
		return total
	}
	for _, path := range paths {
		before := status
		n := size(path)
		switch {
		case status != before && n == 0:
			continue
		case opts.has("b"):
			p.Printf("%d\t%s\n", n, path)
		case opts.has("h"):
			p.Printf("%s\t%s\n", humanSize(n), path)
		default:
			p.Printf("%d\t%s\n", (n+4095)/4096*4, path)
		}
	}
	return status
}

func runFindmnt(_ context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("no:T:M:rJlt:", "noheadings=n", "output=o", "target=T", "mountpoint=M")
	if !ok {
		return 1
	}
	mounts := p.Machine.FS.Mounts()
	if len(rest) > 0 || opts.has("M") {
		want := cmp.Or(opts.last("M"), strings.Join(rest, ""))
		if !slices.Contains(mounts, vfs.Clean("/", want)) {
			return 1
		}
		mounts = []string{vfs.Clean("/", want)}
	}
	if t := opts.last("T"); t != "" {
		at, _ := p.mountOf(t)
		mounts = []string{at}
	}
	columns := strings.Split(strings.ToUpper(cmp.Or(opts.last("o"), "TARGET,SOURCE,FSTYPE,OPTIONS")), ",")
	if !opts.has("n") {
		p.Println(strings.Join(columns, " "))
	}
	for _, at := range mounts {
		var row []string
		for _, c := range columns {
			row = append(row, map[string]string{"TARGET": at, "SOURCE": p.Machine.mountSource(at), "FSTYPE": p.Machine.mountKind(at), "OPTIONS": "rw,relatime"}[c])
		}
		p.Println(strings.Join(row, " "))
	}
	return 0
}

func runMountpoint(_ context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("qd", "quiet=q")
	if !ok || len(rest) != 1 {
		return 1
	}
	is := p.Machine.FS.Mounted(vfs.Clean(p.Dir, rest[0])) != nil
	if !opts.has("q") {
		p.Printf("%s is %sa mountpoint\n", rest[0], map[bool]string{true: "", false: "not "}[is])
	}
	return boolStatus(is) * 32
}

func runMount(_ context.Context, p *Proc) int {
	if len(p.Argv) > 1 {
		return p.Fail(32, "only root can use \"--options\" option (mounting is not simulated)")
	}
	for line := range strings.Lines(string(p.Machine.mountTable())) {
		f := strings.Fields(line)
		p.Printf("%s on %s type %s (%s)\n", f[0], f[1], f[2], f[3])
	}
	return 0
}
