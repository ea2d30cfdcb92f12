package cluster

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pxrun/pxrun/lab/vfs"
)

// pveFS is /etc/pve as one node mounts it.
type pveFS struct{ n *Node }

func (n *Node) fs() vfs.FS { return pveFS{n} }

const (
	wwwData   = 33
	fileLimit = 1 << 20
)

// lock takes the world's lock and checks that the file system is mounted.
func (f pveFS) lock() (unlock func(), err error) {
	f.n.w.mu.Lock()
	if !f.n.pmx.running {
		f.n.w.mu.Unlock()
		return nil, syscall.ENOTCONN
	}
	return f.n.w.mu.Unlock, nil
}

// change is lock for operations that write.
func (f pveFS) change() (unlock func(), err error) {
	unlock, err = f.lock()
	if err != nil {
		return nil, err
	}
	if !f.n.writable() {
		unlock()
		return nil, syscall.EACCES
	}
	return unlock, nil
}

// ownLinks are the symbolic links that only exist inside the mount.
var ownLinks = []string{"/local", "/lxc", "/openvz", "/qemu-server"}

// link is where one of them leads.
func (n *Node) link(p string) (target string, ok bool) {
	switch p {
	case "/local":
		return "nodes/" + n.name, true
	case "/lxc", "/openvz", "/qemu-server":
		return "nodes/" + n.name + p, true
	}
	return "", false
}

// private reports whether only root may look at a path.
func private(p string) bool {
	parts := strings.Split(strings.Trim(p, "/"), "/")
	return parts[0] == "priv" || len(parts) > 2 && parts[0] == "nodes" && parts[2] == "priv"
}

// readOnly is what a mount that takes no changes leaves out of all modes. The caller holds the lock.
func (f pveFS) readOnly() fs.FileMode {
	if f.n.writable() {
		return 0
	}
	return 0o222
}

// info describes a path. The caller holds the lock.
func (f pveFS) info(p string, readOnly fs.FileMode) (vfs.Info, error) {
	info := vfs.Info{Name: path.Base(p), GID: wwwData, ModTime: time.Unix(0, 0)}
	if target, ok := f.n.link(p); ok {
		info.Mode, info.Target, info.Size = fs.ModeSymlink|0o755&^readOnly, target, int64(len(target))
		return info, nil
	}
	if content, ok := f.n.virtual(p); ok {
		info.Mode, info.Size = 0o440, int64(len(content))
		if p == "/.debug" || path.Dir(p) != "/" {
			info.Mode = 0o640 &^ readOnly
		}
		return info, nil
	}
	i := f.n.pmx.db.lookup(p)
	if i == nil {
		return vfs.Info{}, syscall.ENOENT
	}
	if p != "/" {
		info.ModTime = i.mtime
	}
	info.Mode, info.Size = 0o640, int64(len(i.data))
	if i.isDir() {
		info.Mode = fs.ModeDir | 0o755
	}
	if private(p) {
		info.Mode &^= 0o077
	}
	info.Mode &^= readOnly
	return info, nil
}

func (f pveFS) Lstat(p string) (vfs.Info, error) {
	unlock, err := f.lock()
	if err != nil {
		return vfs.Info{}, err
	}
	defer unlock()
	return f.info(p, f.readOnly())
}

func (f pveFS) ReadDir(p string) ([]vfs.Info, error) {
	unlock, err := f.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	dir := f.n.pmx.db.lookup(p)
	switch {
	case dir == nil:
		return nil, syscall.ENOENT
	case !dir.isDir():
		return nil, syscall.ENOTDIR
	}
	var names []string
	for name := range dir.children {
		names = append(names, path.Join(p, name))
	}
	if p == "/" {
		names = append(append(names, ownLinks...), virtualFiles...)
	}
	slices.Sort(names)
	readOnly := f.readOnly()
	out := make([]vfs.Info, 0, len(names))
	for _, name := range names {
		info, err := f.info(name, readOnly)
		if err != nil {
			return nil, err
		}
		out = append(out, info)
	}
	return out, nil
}

func (f pveFS) Open(p string, flag int, _ fs.FileMode) (vfs.File, error) {
	unlock, err := f.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	writes := flag&(os.O_WRONLY|os.O_RDWR) != 0
	if content, ok := f.n.virtual(p); ok {
		if writes {
			return nil, syscall.EACCES
		}
		return &pveFile{fs: f, path: p, fixed: []byte(content)}, nil
	}
	i := f.n.pmx.db.lookup(p)
	if (writes || i == nil && flag&os.O_CREATE != 0) && !f.n.writable() {
		return nil, syscall.EACCES
	}
	switch {
	case i == nil && flag&os.O_CREATE == 0:
		return nil, syscall.ENOENT
	case i == nil:
		if err := f.create(p, nil); err != nil {
			return nil, err
		}
	case flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, syscall.EEXIST
	case i.isDir() && writes:
		return nil, syscall.EISDIR
	case writes && flag&os.O_TRUNC != 0 && len(i.data) > 0:
		f.store(p, i, nil)
	}
	if !writes && isAged(p) {
		return &pveFile{fs: f, path: p, fixed: f.n.w.aged(i)}, nil
	}
	return &pveFile{fs: f, path: p, appends: flag&os.O_APPEND != 0}, nil
}

// create makes a file (children nil) or a folder. The caller holds the lock and has checked the quorum.
func (f pveFS) create(p string, children map[string]*inode) error {
	db := f.n.pmx.db
	parent := db.lookup(path.Dir(p))
	switch {
	case parent == nil:
		return syscall.ENOENT
	case !parent.isDir():
		return syscall.ENOTDIR
	case db.lookup(p) != nil:
		return syscall.EEXIST
	}
	if g, ok := guestOf(p); ok && children == nil {
		if _, taken := db.holderOf(g.id); taken {
			return syscall.EEXIST
		}
	}
	db.version++
	parent.children[path.Base(p)] = &inode{
		children: children, mtime: f.n.now(), writer: f.n.name, version: db.version, renewed: f.n.w.clock.Elapsed(),
		written: f.n.w.clock.Elapsed(), writtenWall: f.n.w.now(),
	}
	if isLockDir(path.Dir(p)) {
		parent.soiled = true
	}
	f.changed(p)
	return nil
}

// store replaces a file's content. The caller holds the lock.
func (f pveFS) store(p string, i *inode, data []byte) {
	db := f.n.pmx.db
	db.version++
	i.data, i.mtime, i.writer, i.version = data, f.n.now(), f.n.name, db.version
	i.written, i.writtenWall = f.n.w.clock.Elapsed(), f.n.w.now()
	f.changed(p)
}

// changed lets counters and the local corosync.conf follow a change. The caller holds the lock.
func (f pveFS) changed(p string) {
	db := f.n.pmx.db
	db.touched(p)
	if p != "/corosync.conf" {
		return
	}
	for _, n := range f.n.w.nodes {
		if n.pmx.running && n.pmx.db == db && n.pmx.clusteredSince {
			n.pmx.clinfo++
		}
	}
	if f.n.pmx.clusteredSince {
		f.n.w.confChanged(db)
	}
}

// isLockDir reports whether a folder is one that programs lock with.
func isLockDir(p string) bool { return path.Dir(p) == "/priv/lock" }

func (f pveFS) Mkdir(p string, _ fs.FileMode) error {
	unlock, err := f.change()
	if err != nil {
		return err
	}
	defer unlock()
	return f.create(p, map[string]*inode{})
}

func (f pveFS) Remove(p string) error {
	unlock, err := f.change()
	if err != nil {
		return err
	}
	defer unlock()
	db := f.n.pmx.db
	i := db.lookup(p)
	switch {
	case f.fixed(p):
		return syscall.EACCES
	case i == nil:
		return syscall.ENOENT
	case len(i.children) > 0:
		return syscall.ENOTEMPTY
	}
	db.version++
	delete(db.lookup(path.Dir(p)).children, path.Base(p))
	f.changed(p)
	return nil
}

// fixed reports whether a path is generated and cannot be replaced or removed.
func (f pveFS) fixed(p string) bool {
	return slices.Contains(ownLinks, p) || slices.Contains(virtualFiles, p)
}

func (f pveFS) Rename(from, to string) error {
	unlock, err := f.change()
	if err != nil {
		return err
	}
	defer unlock()
	db := f.n.pmx.db
	i, there := db.lookup(from), db.lookup(to)
	dir := db.lookup(path.Dir(to))
	switch {
	case f.fixed(from) || f.fixed(to):
		return syscall.EACCES
	case i == nil || dir == nil:
		return syscall.ENOENT
	case there != nil && there.isDir() && len(there.children) > 0:
		return syscall.ENOTEMPTY
	case from == to:
		return nil
	}
	db.version++
	delete(db.lookup(path.Dir(from)).children, path.Base(from))
	dir.children[path.Base(to)] = i
	i.version, i.writer = db.version, f.n.name
	f.changed(from)
	f.changed(to)
	return nil
}

// Symlink is not known to pmxcfs.
func (f pveFS) Symlink(string, string) error { return syscall.ENOSYS }

// Link is not known to pmxcfs; the kernel says so with EPERM.
func (f pveFS) Link(string, string) error { return syscall.EPERM }

// Chmod accepts only the mode that a file has anyway.
func (f pveFS) Chmod(p string, mode fs.FileMode) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	want := fs.FileMode(0o640)
	if private(p) {
		want = 0o600
	}
	info, err := f.info(p, 0)
	if err != nil {
		return err
	}
	if !info.Mode.IsDir() && mode.Perm() == want {
		return nil
	}
	return syscall.EPERM
}

// Chown accepts only root and www-data.
func (f pveFS) Chown(p string, uid, gid int) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := f.info(p, 0); err != nil {
		return err
	}
	if uid == 0 && gid == wwwData {
		return nil
	}
	return syscall.EPERM
}

// Chtimes renews a lock folder for the node that made it. With a time of zero it asks to have an expired lock taken
// away, and is refused all the same. On anything else it sets the time.
func (f pveFS) Chtimes(p string, _, mtime time.Time) error {
	unlock, err := f.change()
	if err != nil {
		return err
	}
	defer unlock()
	db := f.n.pmx.db
	i := db.lookup(p)
	if i == nil {
		return syscall.ENOENT
	}
	if isLockDir(p) && i.isDir() {
		now := f.n.w.clock.Elapsed()
		switch {
		case mtime.Unix() == 0:
			if f.n.lockAge(i) > f.n.w.timing.LockExpiry {
				delete(db.lookup(path.Dir(p)).children, path.Base(p))
				db.version++
			}
			return syscall.EACCES
		case i.writer != f.n.name || i.soiled:
			return syscall.EACCES
		}
		i.renewed = now
	}
	i.mtime = mtime
	db.version++
	return nil
}
