package machine

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
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
