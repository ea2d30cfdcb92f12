package vfs

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
)

// place is where a path leads: the file system, the path within it, and what is there.
type place struct {
	fs   FS
	rel  string // within fs
	path string // within the tree
	info Info
	ok   bool // info is there; false: the last component does not exist, its folder does
	dir  Info // of the folder that holds it
}

// maxLinks is the kernel's limit of symbolic links in one resolution.
const maxLinks = 40

// maxPath is PATH_MAX.
const maxPath = 4096

// resolve walks a path as the kernel does. With follow, a symbolic link in the last place is followed too. A missing
// last component is no error here; every other problem is an Errno.
func (v *View) resolve(path string, follow bool) (place, error) {
	if path == "" {
		return place{}, syscall.ENOENT
	}
	if len(path) >= maxPath {
		return place{}, syscall.ENAMETOOLONG
	}
	mounts := v.tree.snapshot()
	if !strings.HasPrefix(path, "/") {
		path = v.dir() + "/" + path
	}
	at, rest, err := v.begin(mounts, path)
	if err != nil {
		return place{}, err
	}
	links, needDir := 0, false
	for {
		rest = strings.TrimLeft(rest, "/")
		if rest == "" {
			break
		}
		name, tail, more := strings.Cut(rest, "/")
		last := strings.Trim(tail, "/") == ""
		needDir = last && more
		rest = tail
		if !at.ok {
			return place{}, syscall.ENOENT
		}
		if !at.info.Mode.IsDir() {
			return place{}, syscall.ENOTDIR
		}
		if !v.allowed(at.info, 1) {
			return place{}, syscall.EACCES
		}
		if name == "." {
			continue
		}
		if len(name) > 255 {
			return place{}, syscall.ENAMETOOLONG
		}
		next, err := v.step(mounts, at, name)
		if err != nil {
			return place{}, err
		}
		if next.ok && next.info.Mode&fs.ModeSymlink != 0 && (!last || follow || needDir) {
			if links++; links > maxLinks {
				return place{}, syscall.ELOOP
			}
			target := next.info.Target
			if target == "" {
				return place{}, syscall.ENOENT
			}
			rest = target + "/" + rest
			if last && !needDir {
				rest = target
			}
			if strings.HasPrefix(target, "/") {
				if at, rest, err = v.begin(mounts, rest); err != nil {
					return place{}, err
				}
			}
			continue
		}
		if !next.ok && !last {
			return place{}, syscall.ENOENT
		}
		at = next
	}
	if needDir && at.ok && !at.info.Mode.IsDir() {
		return place{}, syscall.ENOTDIR
	}
	return at, nil
}

// step goes from a folder to one of its names.
func (v *View) step(mounts map[string]FS, at place, name string) (place, error) {
	next := place{fs: at.fs, dir: at.info}
	if name == ".." {
		next.path = parent(at.path)
		mount := next.path
		for mounts[mount] == nil {
			mount = parent(mount)
		}
		next.fs, next.rel = mounts[mount], relative(mount, next.path)
	} else {
		next.path = join(at.path, name)
		if f := mounts[next.path]; f != nil {
			next.fs, next.rel = f, "/"
		} else {
			next.rel = join(at.rel, name)
		}
	}
	if err := v.fault(OpLstat, next.path); err != nil {
		return place{}, err
	}
	info, err := next.fs.Lstat(next.rel)
	switch {
	case err == nil:
		info.Name = base(next.path)
		next.info, next.ok = info, true
	case errors.Is(err, fs.ErrNotExist):
	default:
		return place{}, Errno(err)
	}
	return next, nil
}

func relative(mount, path string) string {
	if mount == "/" {
		return path
	}
	if path == mount {
		return "/"
	}
	return path[len(mount):]
}

func join(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}

// Errno digs the error number out of a file system's error. What has none becomes EIO.
func Errno(err error) syscall.Errno {
	var no syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &no):
		return no
	case errors.Is(err, fs.ErrNotExist):
		return syscall.ENOENT
	case errors.Is(err, fs.ErrExist):
		return syscall.EEXIST
	case errors.Is(err, fs.ErrPermission):
		return syscall.EACCES
	case errors.Is(err, fs.ErrClosed):
		return syscall.EBADF
	default:
		return syscall.EIO
	}
}
