package machine

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/vfs"
)

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
