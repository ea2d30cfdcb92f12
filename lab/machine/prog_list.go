package machine

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/vfs"
)

// listPrograms show what files there are.
func listPrograms() map[string]Program {
	return map[string]Program{"ls": runLs, "stat": runStat, "df": runDf, "du": runDu, "find": runFind, "findmnt": runFindmnt, "mountpoint": runMountpoint, "mount": runMount, "file": runFile}
}

// modeText is the first column of ls -l.
func modeText(m fs.FileMode) string {
	kind := byte('-')
	switch {
	case m.IsDir():
		kind = 'd'
	case m&fs.ModeSymlink != 0:
		kind = 'l'
	case m&fs.ModeCharDevice != 0:
		kind = 'c'
	case m&fs.ModeDevice != 0:
		kind = 'b'
	case m&fs.ModeNamedPipe != 0:
		kind = 'p'
	case m&fs.ModeSocket != 0:
		kind = 's'
	}
	text := []byte{kind, '-', '-', '-', '-', '-', '-', '-', '-', '-'}
	for i := range 9 {
		if m.Perm()&(1<<(8-i)) != 0 {
			text[i+1] = "rwx"[i%3]
		}
	}
	special := func(at int, on bool, lower byte) {
		if !on {
			return
		}
		if text[at] == 'x' {
			text[at] = lower
		} else {
			text[at] = lower - 32
		}
	}
	special(3, m&fs.ModeSetuid != 0, 's')
	special(6, m&fs.ModeSetgid != 0, 's')
	special(9, m&fs.ModeSticky != 0, 't')
	return string(text)
}

func runLs(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("1alAdtrSRhFpinCxgGoqsULNQv", "all=a", "almost-all=A", "directory=d", "human-readable=h", "color=", "reverse=r", "time-style=", "full-time", "recursive=R", "group-directories-first", "classify=F")
	if !ok {
		return 2
	}
	if len(paths) == 0 {
		paths = []string{"."}
	}
	status := 0
	var files []vfs.Info
	var dirs []string
	for _, path := range paths {
		info, err := p.view.Lstat(path)
		if err == nil && info.Mode&fs.ModeSymlink != 0 && !opts.has("d", "l") || err == nil && strings.HasSuffix(path, "/") {
			if target, terr := p.view.Stat(path); terr == nil {
				info = target
			}
		}
		if err != nil {
			status = p.Fail(2, "cannot access '%s': %s", path, Reason(err))
			continue
		}
		if info.Mode.IsDir() && !opts.has("d") {
			dirs = append(dirs, path)
			continue
		}
		info.Name = path
		files = append(files, info)
	}
	p.listInfos(files, opts, false)
	printed := len(files) > 0
	for i := 0; i < len(dirs); i++ {
		path := dirs[i]
		list, err := p.view.ReadDir(path)
		if err != nil {
			status = p.Fail(2, "cannot open directory '%s': %s", path, Reason(err))
			continue
		}
		if printed {
			p.Println("")
		}
		if len(paths) > 1 || opts.has("R") {
			p.Println(path + ":")
		}
		printed = true
		p.listInfos(p.visible(path, list, opts), opts, true)
		if opts.has("R") {
			var below []string
			for _, entry := range list {
				if entry.Mode.IsDir() {
					below = append(below, strings.TrimRight(path, "/")+"/"+entry.Name)
				}
			}
			dirs = slices.Insert(dirs, i+1, below...)
		}
	}
	return status
}

func (p *Proc) visible(path string, list []vfs.Info, opts flags) []vfs.Info {
	list = slices.DeleteFunc(list, func(i vfs.Info) bool { return strings.HasPrefix(i.Name, ".") && !opts.has("a", "A") })
	if !opts.has("a") {
		return list
	}
	for _, name := range []string{"..", "."} {
		if info, err := p.view.Stat(strings.TrimRight(path, "/") + "/" + name); err == nil {
			info.Name = name
			list = slices.Insert(list, 0, info)
		}
	}
	return list
}

// listInfos prints entries one a line, which is what ls does when its output is no terminal.
func (p *Proc) listInfos(list []vfs.Info, opts flags, total bool) {
	switch {
	case opts.has("t"):
		slices.SortStableFunc(list, func(a, b vfs.Info) int { return b.ModTime.Compare(a.ModTime) })
	case opts.has("S"):
		slices.SortStableFunc(list, func(a, b vfs.Info) int { return cmp.Compare(b.Size, a.Size) })
	}
	if opts.has("r") {
		slices.Reverse(list)
	}
	name := func(i vfs.Info) string {
		switch {
		case i.Mode.IsDir() && opts.has("F", "p"):
			return i.Name + "/"
		case opts.has("F") && i.Mode&fs.ModeSymlink != 0 && !opts.has("l"):
			return i.Name + "@"
		case opts.has("F") && i.Mode.IsRegular() && i.Mode&0o111 != 0:
			return i.Name + "*"
		}
		return i.Name
	}
	if !opts.has("l", "n", "g", "o", "full-time") {
		for _, i := range list {
			p.Println(name(i))
		}
		return
	}
	if total {
		blocks := int64(0)
		for _, i := range list {
			blocks += (i.Size + 4095) / 4096 * 4
		}
		p.Printf("total %d\n", blocks)
	}
	rows := make([][4]string, len(list))
	var width [4]int
	for n, i := range list {
		rows[n] = [4]string{"1", p.Machine.userName(i.UID), p.Machine.groupName(i.GID), strconv.FormatInt(i.Size, 10)}
		if opts.has("n") {
			rows[n][1], rows[n][2] = strconv.Itoa(i.UID), strconv.Itoa(i.GID)
		}
		if i.Mode.IsDir() {
			rows[n][0] = "2"
		}
		if opts.has("h") {
			rows[n][3] = humanSize(i.Size)
		}
		for c := range width {
			width[c] = max(width[c], len(rows[n][c]))
		}
	}
	now := p.Machine.Now()
	for n, i := range list {
		when := i.ModTime.UTC().Format("Jan _2 15:04")
		if age := now.Sub(i.ModTime); age > 180*24*time.Hour || age < -time.Hour {
			when = i.ModTime.UTC().Format("Jan _2  2006")
		}
		text := name(i)
		if i.Mode&fs.ModeSymlink != 0 {
			text += " -> " + i.Target
		}
		r := rows[n]
		p.Printf("%s %*s %-*s %-*s %*s %s %s\n", modeText(i.Mode), width[0], r[0], width[1], r[1], width[2], r[2], width[3], r[3], when, text)
	}
}

func humanSize(n int64) string {
	units := []string{"", "K", "M", "G", "T", "P"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f /= 1024
		u++
	}
	if u > 0 && f < 10 {
		return fmt.Sprintf("%.1f%s", f, units[u])
	}
	return fmt.Sprintf("%.0f%s", f, units[u])
}

// fileType is stat's %F.
func fileType(i vfs.Info) string {
	switch {
	case i.Mode.IsDir():
		return "directory"
	case i.Mode&fs.ModeSymlink != 0:
		return "symbolic link"
	case i.Mode&fs.ModeCharDevice != 0:
		return "character special file"
	case i.Mode&fs.ModeDevice != 0:
		return "block special file"
	case i.Mode&fs.ModeNamedPipe != 0:
		return "fifo"
	case i.Mode&fs.ModeSocket != 0:
		return "socket"
	case i.Size == 0:
		return "regular empty file"
	default:
		return "regular file"
	}
}

func rawMode(m fs.FileMode) uint32 {
	n := modeBits(m)
	switch {
	case m.IsDir():
		n |= 0o040000
	case m&fs.ModeSymlink != 0:
		n |= 0o120000
	case m&fs.ModeCharDevice != 0:
		n |= 0o020000
	case m&fs.ModeDevice != 0:
		n |= 0o060000
	case m&fs.ModeNamedPipe != 0:
		n |= 0o010000
	case m&fs.ModeSocket != 0:
		n |= 0o140000
	default:
		n |= 0o100000
	}
	return n
}

func runStat(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("c:Lft", "format=c", "printf=", "dereference=L", "file-system=f", "terse=t")
	if !ok {
		return 1
	}
	if len(paths) == 0 {
		return p.Fail(1, "missing operand")
	}
	layout, end := opts.last("c"), "\n"
	if opts.has("printf") {
		layout, end = opts.last("printf"), ""
		layout, _ = echoEscapes(layout)
	}
	status := 0
	for _, path := range paths {
		if opts.has("f") {
			if code := p.statFileSystem(path, layout, end); code != 0 {
				status = code
			}
			continue
		}
		info, err := p.view.Lstat(path)
		if opts.has("L") {
			info, err = p.view.Stat(path)
		}
		if err != nil {
			status = p.Fail(1, "cannot statx '%s': %s", path, Reason(err))
			continue
		}
		if layout == "" && !opts.has("printf") {
			p.defaultStat(path, info)
			continue
		}
		io.WriteString(p.Stdout, p.statFormat(layout, path, info)+end)
	}
	return status
}

func (p *Proc) defaultStat(path string, i vfs.Info) {
	shown := path
	if i.Mode&fs.ModeSymlink != 0 {
		shown += " -> " + i.Target
	}
	when := i.ModTime.UTC().Format("2006-01-02 15:04:05.000000000 -0700")
	p.Printf("  File: %s\n  Size: %-15d Blocks: %-10d IO Block: 4096   %s\nDevice: 252,1\tInode: %-11d Links: 1\nAccess: (%04o/%s)  Uid: (%5d/%8s)   Gid: (%5d/%8s)\nAccess: %s\nModify: %s\nChange: %s\n Birth: -\n",
		shown, i.Size, (i.Size+4095)/4096*8, fileType(i), inode(path), modeBits(i.Mode), modeText(i.Mode), i.UID, p.Machine.userName(i.UID), i.GID, p.Machine.groupName(i.GID), when, when, when)
}

// inode is a number that stays the same for a path.
func inode(path string) uint32 {
	h := uint32(2166136261)
	for i := range len(path) {
		h = (h ^ uint32(path[i])) * 16777619
	}
	return h >> 8
}

func (p *Proc) statFormat(layout, path string, i vfs.Info) string {
	var b strings.Builder
	for n := 0; n < len(layout); n++ {
		if layout[n] != '%' || n+1 == len(layout) {
			b.WriteByte(layout[n])
			continue
		}
		n++
		start := n
		for n < len(layout)-1 && strings.IndexByte("-+ 0#.123456789", layout[n]) >= 0 {
			n++
		}
		b.WriteString(fmt.Sprintf("%"+strings.TrimPrefix(layout[start:n], "#")+"s", p.statField(layout[n], path, i)))
	}
	return b.String()
}

func (p *Proc) statField(c byte, path string, i vfs.Info) string {
	switch c {
	case 'a':
		return strconv.FormatUint(uint64(modeBits(i.Mode)), 8)
	case 'A':
		return modeText(i.Mode)
	case 'f':
		return strconv.FormatUint(uint64(rawMode(i.Mode)), 16)
	case 'F':
		return fileType(i)
	case 'g':
		return strconv.Itoa(i.GID)
	case 'G':
		return p.Machine.groupName(i.GID)
	case 'u':
		return strconv.Itoa(i.UID)
	case 'U':
		return p.Machine.userName(i.UID)
	case 'n':
		return path
	case 'N':
		if i.Mode&fs.ModeSymlink != 0 {
			return "'" + path + "' -> '" + i.Target + "'"
		}
		return "'" + path + "'"
	case 's':
		return strconv.FormatInt(i.Size, 10)
	case 'b':
		return strconv.FormatInt((i.Size+4095)/4096*8, 10)
	case 'B':
		return "512"
	case 'o':
		return "4096"
	case 'h':
		return "1"
	case 'i':
		return strconv.FormatUint(uint64(inode(path)), 10)
	case 'd', 'D':
		return "64513"
	case 'm':
		at, _ := p.Machine.FS.MountOf(vfs.Clean(p.Dir, path))
		return at
	case 'X', 'Y', 'Z':
		return strconv.FormatInt(i.ModTime.Unix(), 10)
	case 'x', 'y', 'z':
		return i.ModTime.UTC().Format("2006-01-02 15:04:05.000000000 -0700")
	case 'W':
		return "0"
	case 'w':
		return "-"
	case 't', 'T':
		return "0"
	case '%':
		return "%"
	}
	return "?"
}

func (p *Proc) statFileSystem(path, layout, end string) int {
	if _, err := p.view.Stat(path); err != nil {
		return p.Fail(1, "cannot read file system information for '%s': %s", path, Reason(err))
	}
	_, kind := p.mountOf(path)
	if layout == "" {
		p.Printf("  File: \"%s\"\n    Type: %s\n", path, kind)
		return 0
	}
	io.WriteString(p.Stdout, strings.NewReplacer("%T", kind, "%n", path, "%t", "ef53").Replace(layout)+end)
	return 0
}

// mountOf returns the mount point of a path and the type of its file system.
func (p *Proc) mountOf(path string) (at, kind string) {
	if real, err := p.view.Realpath(path, true); err == nil {
		path = real
	}
	at, _ = p.Machine.FS.MountOf(vfs.Clean(p.Dir, path))
	return at, mountKind(at)
}

func mountKind(at string) string {
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
		values := map[string]string{"source": mountSource(at), "fstype": mountKind(at), "size": show(size), "used": show(used), "avail": show(size - used), "pcent": percent, "target": at}
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

func mountSource(at string) string {
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

// runFind supports the tests that scripts use: -name -path -type -maxdepth -mindepth -newer -mmin -size -empty -user, the
// actions -print -print0 -delete -exec, and ! and -o between them.
func runFind(ctx context.Context, p *Proc) int {
	args := p.Args()
	var paths []string
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") && args[0] != "!" && args[0] != "(" {
		paths, args = append(paths, args[0]), args[1:]
	}
	if len(paths) == 0 {
		paths = []string{"."}
	}
	f := &finder{p: p, ctx: ctx, max: -1}
	test, err := f.parse(args)
	if err != nil {
		return p.Fail(1, "%v", err)
	}
	for _, path := range paths {
		info, err := p.view.Lstat(path)
		if err != nil {
			f.status = p.Fail(1, "‘%s’: %s", path, Reason(err))
			continue
		}
		f.visit(path, info, 0, test)
	}
	f.flush()
	return f.status
}

type finder struct {
	p        *Proc
	ctx      context.Context //nolint:containedctx // lives as long as the program
	min, max int
	depth    bool
	acts     bool
	status   int
	batch    []string
	batches  []string
}

type findTest func(path string, i vfs.Info) bool

func (f *finder) parse(args []string) (findTest, error) {
	var any []findTest
	var all []findTest
	for len(args) > 0 {
		negate := false
		for len(args) > 0 && (args[0] == "!" || args[0] == "-not") {
			negate, args = !negate, args[1:]
		}
		if len(args) == 0 {
			return nil, fmt.Errorf("expected an expression after '!'")
		}
		word := args[0]
		args = args[1:]
		switch word {
		case "-o", "-or":
			any, all = append(any, both(all)), nil
			continue
		case "-a", "-and":
			continue
		case "(":
			depth, end := 1, -1
			for i, a := range args {
				if a == "(" {
					depth++
				} else if a == ")" {
					if depth--; depth == 0 {
						end = i
						break
					}
				}
			}
			if end < 0 {
				return nil, fmt.Errorf("invalid expression; I was expecting to find a ')' somewhere but did not see one.")
			}
			inner, err := f.parse(args[:end])
			if err != nil {
				return nil, err
			}
			all = append(all, not(inner, negate))
			args = args[end+1:]
			continue
		}
		test, rest, err := f.primary(word, args)
		if err != nil {
			return nil, err
		}
		args = rest
		if test != nil {
			all = append(all, not(test, negate))
		}
	}
	any = append(any, both(all))
	return func(path string, i vfs.Info) bool {
		return slices.ContainsFunc(any, func(t findTest) bool { return t(path, i) })
	}, nil
}

func both(all []findTest) findTest {
	return func(path string, i vfs.Info) bool {
		return !slices.ContainsFunc(all, func(t findTest) bool { return !t(path, i) })
	}
}

func not(t findTest, negate bool) findTest {
	if !negate {
		return t
	}
	return func(path string, i vfs.Info) bool { return !t(path, i) }
}

func (f *finder) primary(word string, args []string) (findTest, []string, error) {
	value := func() (string, error) {
		if len(args) == 0 {
			return "", fmt.Errorf("missing argument to `%s'", word)
		}
		v := args[0]
		args = args[1:]
		return v, nil
	}
	switch word {
	case "-print":
		f.acts = true
		return func(path string, _ vfs.Info) bool { f.p.Println(path); return true }, args, nil
	case "-print0":
		f.acts = true
		return func(path string, _ vfs.Info) bool { io.WriteString(f.p.Stdout, path+"\x00"); return true }, args, nil
	case "-delete":
		f.acts, f.depth = true, true
		return func(path string, _ vfs.Info) bool {
			if err := f.p.view.Remove(path); err != nil {
				f.status = f.p.Fail(1, "cannot delete ‘%s’: %s", path, Reason(err))
				return false
			}
			return true
		}, args, nil
	case "-empty":
		return func(path string, i vfs.Info) bool {
			if i.Mode.IsDir() {
				list, err := f.p.view.ReadDir(path)
				return err == nil && len(list) == 0
			}
			return i.Size == 0
		}, args, nil
	case "-depth", "-xdev", "-mount", "-follow", "-noleaf":
		f.depth = f.depth || word == "-depth"
		return nil, args, nil
	case "-true":
		return func(string, vfs.Info) bool { return true }, args, nil
	case "-exec", "-execdir", "-ok":
		f.acts = true
		end := slices.IndexFunc(args, func(a string) bool { return a == ";" || a == "+" })
		if end < 0 {
			return nil, nil, fmt.Errorf("missing argument to `%s'", word)
		}
		return f.exec(args[:end], args[end] == "+"), args[end+1:], nil
	}
	v, err := value()
	if err != nil {
		return nil, nil, err
	}
	test, err := f.valueTest(word, v)
	return test, args, err
}

func (f *finder) valueTest(word, v string) (findTest, error) {
	switch word {
	case "-name", "-iname":
		return func(path string, _ vfs.Info) bool {
			name := lastName(path)
			if word == "-iname" {
				return matches(strings.ToLower(v), strings.ToLower(name))
			}
			return matches(v, name)
		}, nil
	case "-path", "-wholename":
		return func(path string, _ vfs.Info) bool { return matches(v, path) }, nil
	case "-regex":
		re, err := regexp.Compile("^(?:" + v + ")$")
		return func(path string, _ vfs.Info) bool { return re.MatchString(path) }, err
	case "-type":
		return func(_ string, i vfs.Info) bool {
			return strings.Contains(v, modeText(i.Mode)[:1]) || v == "f" && i.Mode.IsRegular()
		}, nil
	case "-maxdepth", "-mindepth":
		n, err := strconv.Atoi(v)
		if word == "-maxdepth" {
			f.max = n
		} else {
			f.min = n
		}
		return nil, err
	case "-newer":
		ref, err := f.p.view.Stat(v)
		if err != nil {
			return nil, fmt.Errorf("‘%s’: %s", v, Reason(err))
		}
		return func(_ string, i vfs.Info) bool { return i.ModTime.After(ref.ModTime) }, nil
	case "-mmin", "-mtime":
		unit := time.Minute
		if word == "-mtime" {
			unit = 24 * time.Hour
		}
		n, err := strconv.Atoi(strings.TrimLeft(v, "+-"))
		return func(_ string, i vfs.Info) bool {
			age := int(f.p.Machine.Now().Sub(i.ModTime) / unit)
			return compareSigned(v, age, n)
		}, err
	case "-size":
		n, ok := parseSize(strings.TrimLeft(v, "+-"))
		if !ok {
			return nil, fmt.Errorf("invalid argument `%s' to `-size'", v)
		}
		return func(_ string, i vfs.Info) bool { return compareSigned(v, int(i.Size), int(n)) }, nil
	case "-user":
		return func(_ string, i vfs.Info) bool { return f.p.Machine.userName(i.UID) == v }, nil
	case "-group":
		return func(_ string, i vfs.Info) bool { return f.p.Machine.groupName(i.GID) == v }, nil
	case "-perm":
		n, err := strconv.ParseUint(strings.TrimLeft(v, "-/"), 8, 32)
		return func(_ string, i vfs.Info) bool {
			bits := uint64(modeBits(i.Mode))
			switch v[0] {
			case '-':
				return bits&n == n
			case '/':
				return bits&n != 0
			}
			return bits == n
		}, err
	case "-printf":
		f.acts = true
		return func(path string, i vfs.Info) bool {
			text, _ := echoEscapes(v)
			io.WriteString(f.p.Stdout, strings.NewReplacer("%p", path, "%f", lastName(path), "%s", strconv.FormatInt(i.Size, 10), "%m", strconv.FormatUint(uint64(modeBits(i.Mode)), 8),
				"%u", f.p.Machine.userName(i.UID), "%g", f.p.Machine.groupName(i.GID), "%y", modeText(i.Mode)[:1], "%l", i.Target, "%h", parentOf(path)).Replace(text))
			return true
		}, nil
	}
	return nil, fmt.Errorf("unknown predicate `%s'", word)
}

func compareSigned(spec string, have, want int) bool {
	switch spec[0] {
	case '+':
		return have > want
	case '-':
		return have < want
	}
	return have == want
}

func (f *finder) exec(argv []string, together bool) findTest {
	if together {
		f.batches = slices.DeleteFunc(slices.Clone(argv), func(a string) bool { return a == "{}" })
		return func(path string, _ vfs.Info) bool { f.batch = append(f.batch, path); return true }
	}
	return func(path string, _ vfs.Info) bool {
		run := make([]string, len(argv))
		for i, a := range argv {
			run[i] = strings.ReplaceAll(a, "{}", path)
		}
		return f.p.Run(f.ctx, run...) == 0
	}
}

func (f *finder) flush() {
	if len(f.batch) > 0 {
		if code := f.p.Run(f.ctx, append(f.batches, f.batch...)...); code != 0 {
			f.status = 1
		}
	}
}

func (f *finder) visit(path string, info vfs.Info, depth int, test findTest) {
	if ended(f.ctx) {
		return
	}
	act := func() {
		if depth >= f.min && test(path, info) && !f.acts {
			f.p.Println(path)
		}
	}
	if !f.depth {
		act()
	}
	if info.Mode.IsDir() && (f.max < 0 || depth < f.max) {
		list, err := f.p.view.ReadDir(path)
		if err != nil {
			f.status = f.p.Fail(1, "‘%s’: %s", path, Reason(err))
		}
		for _, entry := range list {
			f.visit(strings.TrimRight(path, "/")+"/"+entry.Name, entry, depth+1, test)
		}
	}
	if f.depth {
		act()
	}
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
			row = append(row, map[string]string{"TARGET": at, "SOURCE": mountSource(at), "FSTYPE": mountKind(at), "OPTIONS": "rw,relatime"}[c])
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

func runFile(_ context.Context, p *Proc) int {
	for _, path := range p.Args() {
		info, err := p.view.Lstat(path)
		if err != nil {
			p.Printf("%s: cannot open `%s' (%s)\n", path, path, Reason(err))
			continue
		}
		p.Printf("%s: %s\n", path, fileType(info))
	}
	return 0
}
