package vfs

import (
	"io/fs"
	"strings"
)

// begin is where the walk along an absolute path begins: at the root, or further on where the way there needs no care. rest is
// the part of the path that is left to walk.
func (v *View) begin(mounts map[string]FS, path string) (at place, rest string, err error) {
	if v.UID == 0 && !strings.HasSuffix(path, "/") && v.tree.Faultless(path) {
		if m, ok := mounts["/"].(*Mem); ok {
			return v.leap(m, mounts, path)
		}
	}
	at = place{fs: mounts["/"], rel: "/", path: "/", ok: true}
	if at.info, err = at.fs.Lstat("/"); err != nil {
		return place{}, "", Errno(err)
	}
	return at, path, nil
}

// leaper walks along names that are plain folders in memory, holding the lock of the file system where it is.
type leaper struct {
	path  string
	end   int // of the part of path that is behind
	mem   *Mem
	mount int // the length of the path of mem's mount point; 0 is the root
	node  *memNode
	// Of the folder that holds node: in mem, or else (a mount point) as described.
	dir     *memNode
	dirEnd  int
	dirInfo Info
}

// leap walks along a path as root where no fault lies: through folders that are in memory and no links, and onto what is in the
// last place unless that is a link. A mounted file system of another kind ends it.
func (v *View) leap(root *Mem, mounts map[string]FS, path string) (place, string, error) {
	l := leaper{path: path, mem: root, node: root.root}
	l.mem.mu.RLock()
	for l.end < len(path) {
		name, _, more := strings.Cut(path[l.end+1:], "/")
		if name == "" || name == "." || name == ".." || len(name) > 255 {
			break
		}
		end := l.end + 1 + len(name)
		if f := mounts[path[:end]]; f != nil {
			l.dirInfo, l.dir = l.info(l.node, l.end), nil
			l.mem.mu.RUnlock()
			next, ok := f.(*Mem)
			if !ok {
				return v.enter(f, path[:end], l.dirInfo, path[end:])
			}
			l.mem, l.mount, l.node, l.end = next, end, next.root, end
			l.mem.mu.RLock()
			continue
		}
		child := l.node.children[name]
		if child == nil && !more {
			defer l.mem.mu.RUnlock()
			return place{fs: l.mem, rel: relative(l.prefix(), path), path: path, dir: l.info(l.node, l.end)}, "", nil
		}
		if child == nil || child.mode&fs.ModeSymlink != 0 || more && child.children == nil {
			break
		}
		l.dir, l.dirEnd, l.node, l.end = l.node, l.end, child, end
	}
	defer l.mem.mu.RUnlock()
	return l.place(), path[l.end:], nil
}

// enter is the place of a mounted file system's root.
func (v *View) enter(f FS, path string, dir Info, rest string) (place, string, error) {
	info, err := f.Lstat("/")
	if err != nil {
		return place{}, "", Errno(err)
	}
	info.Name = base(path)
	return place{fs: f, rel: "/", path: path, info: info, ok: true, dir: dir}, rest, nil
}

// prefix is the path of the mount point of mem.
func (l *leaper) prefix() string {
	if l.mount == 0 {
		return "/"
	}
	return l.path[:l.mount]
}

// info describes a folder or what is in it at a part of the path.
func (l *leaper) info(n *memNode, end int) Info {
	if end == 0 {
		return l.mem.info("", n)
	}
	return l.mem.info(base(l.path[:end]), n)
}

// place is where the leap has got to.
func (l *leaper) place() place {
	if l.end == 0 {
		return place{fs: l.mem, rel: "/", path: "/", info: l.info(l.node, 0), ok: true}
	}
	at := place{fs: l.mem, path: l.path[:l.end], info: l.info(l.node, l.end), ok: true, dir: l.dirInfo}
	at.rel = relative(l.prefix(), at.path)
	if l.dir != nil {
		at.dir = l.info(l.dir, l.dirEnd)
	}
	return at
}
