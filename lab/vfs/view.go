package vfs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// View is a tree as one actor sees it: with a user, a working directory, a umask, and a name for the audit. Copying a
// View is cheap and the way to change one.
type View struct {
	tree *Tree
	// Ctx ends operations that hang in a fault. nil never ends.
	Ctx context.Context //nolint:containedctx // a View lives as long as one program, whose context this is
	// UID and GIDs are who acts; UID 0 may everything. The first GID owns what is created.
	UID  int
	GIDs []int
	// Dir is what relative paths start from; "" is the root.
	Dir   string
	Umask fs.FileMode
	// Actor is passed to the audit.
	Actor any
}

// As returns a view of the tree; change its fields before use.
func (t *Tree) As(uid int, gids ...int) *View {
	return &View{tree: t, UID: uid, GIDs: gids, Umask: 0o022}
}

// Tree returns the tree that is viewed.
func (v *View) Tree() *Tree { return v.tree }

func (v *View) dir() string { return v.Dir }

func (v *View) context() context.Context {
	if v.Ctx == nil {
		return context.Background()
	}
	return v.Ctx
}

func (v *View) fault(op Op, path string) error {
	for _, f := range v.tree.hooks.Load().faults {
		if !f.covers(path) {
			continue
		}
		if err := f.Ask(v.context(), op, path); err != nil {
			return Errno(err)
		}
		if v.context().Err() != nil { // it hung until its actor was ended
			return syscall.EINTR
		}
	}
	return nil
}

func (v *View) audit(op Op, path, to string) {
	for _, f := range v.tree.hooks.Load().audit {
		f(Mutation{Op: op, Path: path, To: to, Actor: v.Actor})
	}
}

// allowed tells whether the view's user has all of the rwx bits in want on something.
func (v *View) allowed(i Info, want fs.FileMode) bool {
	if v.UID == 0 {
		return true
	}
	bits := i.Mode.Perm()
	switch {
	case i.UID == v.UID:
		bits >>= 6
	case slices.Contains(v.GIDs, i.GID):
		bits >>= 3
	}
	return bits&want == want
}

// Access reports whether the user may read (4), write (2) or execute (1) a path, as access(2) does.
func (v *View) Access(path string, want fs.FileMode) error {
	i, err := v.Stat(path)
	if err != nil {
		return err
	}
	if v.UID == 0 && want&1 != 0 && !i.Mode.IsDir() && i.Mode.Perm()&0o111 == 0 {
		return &fs.PathError{Op: "access", Path: path, Err: syscall.EACCES}
	}
	if !v.allowed(i, want) {
		return &fs.PathError{Op: "access", Path: path, Err: syscall.EACCES}
	}
	return nil
}

func fail(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: path, Err: Errno(err)}
}

// Lstat describes a path; a symbolic link in the last place is described itself.
func (v *View) Lstat(path string) (Info, error) { return v.stat("lstat", path, false) }

// Stat describes what a path leads to.
func (v *View) Stat(path string) (Info, error) { return v.stat("stat", path, true) }

func (v *View) stat(op, path string, follow bool) (Info, error) {
	p, err := v.resolve(path, follow)
	if err != nil {
		return Info{}, fail(op, path, err)
	}
	if !p.ok {
		return Info{}, fail(op, path, syscall.ENOENT)
	}
	return p.info, nil
}

// Realpath returns the absolute path free of symbolic links. With missing, the last component need not exist.
func (v *View) Realpath(path string, missing bool) (string, error) {
	p, err := v.resolve(path, true)
	if err != nil {
		return "", fail("realpath", path, err)
	}
	if !p.ok && !missing {
		return "", fail("realpath", path, syscall.ENOENT)
	}
	return p.path, nil
}

// Readlink returns the target of a symbolic link.
func (v *View) Readlink(path string) (string, error) {
	i, err := v.Lstat(path)
	if err != nil {
		return "", fail("readlink", path, err)
	}
	if i.Mode&fs.ModeSymlink == 0 {
		return "", fail("readlink", path, syscall.EINVAL)
	}
	return i.Target, nil
}

// ReadDir lists a folder in alphabetical order.
func (v *View) ReadDir(path string) ([]Info, error) {
	p, err := v.resolve(path, true)
	if err == nil && !p.ok {
		err = syscall.ENOENT
	}
	if err == nil && !v.allowed(p.info, 4) {
		err = syscall.EACCES
	}
	if err == nil && !p.info.Mode.IsDir() {
		err = syscall.ENOTDIR
	}
	if err == nil {
		err = v.fault(OpReadDir, p.path)
	}
	if err != nil {
		return nil, fail("open", path, err)
	}
	list, err := p.fs.ReadDir(p.rel)
	if err != nil {
		return nil, fail("readdir", path, err)
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Open opens or creates a file as os.OpenFile does. The umask is taken off mode.
func (v *View) Open(path string, flag int, mode fs.FileMode) (File, error) {
	f, err := v.open(path, flag, mode)
	if err != nil {
		return nil, fail("open", path, err)
	}
	return f, nil
}

func (v *View) open(path string, flag int, mode fs.FileMode) (File, error) {
	exclusive := flag&os.O_EXCL != 0 && flag&os.O_CREATE != 0
	p, err := v.resolve(path, !exclusive)
	if err != nil {
		return nil, err
	}
	writes := flag&(os.O_WRONLY|os.O_RDWR) != 0
	op, want := OpOpen, fs.FileMode(4)
	if writes {
		op, want = OpWrite, 2
	}
	created := false
	switch {
	case p.ok && exclusive:
		return nil, syscall.EEXIST
	case p.ok && p.info.Mode.IsDir() && (writes || flag&os.O_CREATE != 0):
		return nil, syscall.EISDIR
	case p.ok && !v.allowed(p.info, want):
		return nil, syscall.EACCES
	case p.ok && p.info.Mode&fs.ModeSymlink != 0:
		return nil, syscall.ELOOP
	case !p.ok && flag&os.O_CREATE == 0:
		return nil, syscall.ENOENT
	case !p.ok && strings.HasSuffix(path, "/"):
		return nil, syscall.EISDIR
	case !p.ok && !v.allowed(p.dir, 3):
		return nil, syscall.EACCES
	case !p.ok:
		op, created = OpCreate, true
	}
	if err := v.fault(op, p.path); err != nil {
		return nil, err
	}
	f, err := p.fs.Open(p.rel, flag, mode&^v.Umask)
	if err != nil {
		return nil, err
	}
	if created {
		v.own(p)
		v.audit(OpCreate, p.path, "")
	} else if writes && flag&os.O_TRUNC != 0 && p.info.Mode.IsRegular() {
		v.audit(OpWrite, p.path, "")
	}
	if p.info.Mode.IsDir() {
		return f, nil
	}
	return &watched{File: f, view: v, path: p.path, device: p.ok && !p.info.Mode.IsRegular()}, nil
}

// own gives a new node to the view's user. File systems without owners (pmxcfs) refuse, and that is all right.
func (v *View) own(p place) {
	if v.UID == 0 && len(v.GIDs) == 0 {
		return
	}
	gid := 0
	if len(v.GIDs) > 0 {
		gid = v.GIDs[0]
	}
	if v.UID != 0 || gid != 0 {
		_ = p.fs.Chown(p.rel, v.UID, gid)
	}
}

// ReadFile returns a file's content.
func (v *View) ReadFile(path string) ([]byte, error) {
	f, err := v.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	room := 512
	if i, err := f.Stat(); err == nil && i.Size > 0 && i.Size < maxFile {
		room = int(i.Size) + 1 // the end is seen without growing
	}
	content, err := readAll(f, make([]byte, 0, room))
	if err != nil {
		return nil, fail("read", path, err)
	}
	return content, nil
}

// readAll is io.ReadAll into a buffer that is there.
func readAll(r io.Reader, into []byte) ([]byte, error) {
	for {
		n, err := r.Read(into[len(into):cap(into)])
		into = into[:len(into)+n]
		if err == io.EOF {
			return into, nil
		}
		if err != nil {
			return into, err
		}
		if len(into) == cap(into) {
			into = slices.Grow(into, len(into)+512)
		}
	}
}

// WriteFile creates or replaces a file's content.
func (v *View) WriteFile(path string, content []byte, mode fs.FileMode) error {
	f, err := v.Open(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		return fail("write", path, err)
	}
	return nil
}

// change resolves the place of something that is to be made or taken away, and asks permission and faults.
func (v *View) change(op Op, path string, exists bool) (place, error) {
	p, err := v.resolve(path, false)
	switch {
	case err != nil:
		return p, err
	case exists && !p.ok:
		return p, syscall.ENOENT
	case !exists && p.ok:
		return p, syscall.EEXIST
	case !v.allowed(p.dir, 3):
		return p, syscall.EACCES
	case exists && v.UID != 0 && p.dir.Mode&fs.ModeSticky != 0 && p.info.UID != v.UID && p.dir.UID != v.UID:
		return p, syscall.EPERM
	}
	return p, v.fault(op, p.path)
}

// Mkdir makes a folder.
func (v *View) Mkdir(path string, mode fs.FileMode) error {
	p, err := v.change(OpMkdir, path, false)
	if err == nil {
		err = p.fs.Mkdir(p.rel, mode&^v.Umask)
	}
	if err != nil {
		return fail("mkdir", path, err)
	}
	v.own(p)
	v.audit(OpMkdir, p.path, "")
	return nil
}

// MkdirAll makes a folder and those above it that are missing.
func (v *View) MkdirAll(path string, mode fs.FileMode) error {
	if i, err := v.Stat(path); err == nil {
		if i.Mode.IsDir() {
			return nil
		}
		return fail("mkdir", path, syscall.ENOTDIR)
	}
	clean := Clean(v.dir(), path)
	if up := parent(clean); up != clean {
		if err := v.MkdirAll(up, mode); err != nil {
			return err
		}
	}
	if err := v.Mkdir(clean, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Remove takes away a file, a link or an empty folder.
func (v *View) Remove(path string) error {
	p, err := v.change(OpRemove, path, true)
	if err == nil && v.tree.Mounted(p.path) != nil {
		err = syscall.EBUSY
	}
	if err == nil {
		err = p.fs.Remove(p.rel)
	}
	if err != nil {
		return fail("remove", path, err)
	}
	v.audit(OpRemove, p.path, "")
	return nil
}

// RemoveAll takes away a path and all below it. What is not there is no error.
func (v *View) RemoveAll(path string) error {
	i, err := v.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if i.Mode.IsDir() {
		list, err := v.ReadDir(path)
		if err != nil {
			return err
		}
		for _, entry := range list {
			if err := v.RemoveAll(join(strings.TrimRight(path, "/"), entry.Name)); err != nil {
				return err
			}
		}
	}
	return v.Remove(path)
}

// Rename moves a path, replacing what stands in its place as rename(2) does.
func (v *View) Rename(from, to string) error {
	src, dst, err := v.renamePlaces(from, to)
	if err == nil {
		err = src.fs.Rename(src.rel, dst.rel)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: Errno(err)}
	}
	v.audit(OpRename, src.path, dst.path)
	return nil
}

func (v *View) renamePlaces(from, to string) (src, dst place, err error) {
	if src, err = v.change(OpRename, from, true); err != nil {
		return src, dst, err
	}
	if dst, err = v.resolve(to, false); err != nil {
		return src, dst, err
	}
	switch {
	case !v.allowed(dst.dir, 3):
		err = syscall.EACCES
	case v.tree.Mounted(src.path) != nil || v.tree.Mounted(dst.path) != nil:
		err = syscall.EBUSY
	case src.fs != dst.fs:
		err = syscall.EXDEV
	case src.info.Mode.IsDir() && strings.HasPrefix(dst.path, src.path+"/"):
		err = syscall.EINVAL
	case dst.ok && dst.info.Mode.IsDir() && !src.info.Mode.IsDir():
		err = syscall.EISDIR
	case dst.ok && !dst.info.Mode.IsDir() && src.info.Mode.IsDir():
		err = syscall.ENOTDIR
	default:
		err = v.fault(OpRename, dst.path)
	}
	return src, dst, err
}

// Symlink makes a symbolic link at path.
func (v *View) Symlink(target, path string) error {
	p, err := v.change(OpSymlink, path, false)
	if err == nil {
		err = p.fs.Symlink(target, p.rel)
	}
	if err != nil {
		return &os.LinkError{Op: "symlink", Old: target, New: path, Err: Errno(err)}
	}
	v.own(p)
	v.audit(OpSymlink, p.path, "")
	return nil
}

// Link gives a file a second name.
func (v *View) Link(from, to string) error {
	src, err := v.resolve(from, false)
	if err == nil && !src.ok {
		err = syscall.ENOENT
	}
	var dst place
	if err == nil {
		dst, err = v.change(OpLink, to, false)
	}
	if err == nil && src.fs != dst.fs {
		err = syscall.EXDEV
	}
	if err == nil {
		err = src.fs.Link(src.rel, dst.rel)
	}
	if err != nil {
		return &os.LinkError{Op: "link", Old: from, New: to, Err: Errno(err)}
	}
	v.audit(OpLink, dst.path, "")
	return nil
}

// attribute changes what only the owner (or root) may change.
func (v *View) attribute(op Op, path string, follow, ownerOnly bool, do func(place) error) error {
	p, err := v.resolve(path, follow)
	switch {
	case err != nil:
	case !p.ok:
		err = syscall.ENOENT
	case v.UID != 0 && (ownerOnly && p.info.UID != v.UID):
		err = syscall.EPERM
	default:
		err = v.fault(op, p.path)
	}
	if err == nil {
		err = do(p)
	}
	if err != nil {
		return fail(string(op), path, err)
	}
	v.audit(op, p.path, "")
	return nil
}

// Chmod sets the permission bits (and setuid, setgid, sticky).
func (v *View) Chmod(path string, mode fs.FileMode) error {
	return v.attribute(OpChmod, path, true, true, func(p place) error { return p.fs.Chmod(p.rel, mode) })
}

// Chown sets owner and group; -1 leaves one as it is. Only root may give away.
func (v *View) Chown(path string, uid, gid int) error { return v.chown(path, uid, gid, true) }

// Lchown is Chown on a symbolic link itself.
func (v *View) Lchown(path string, uid, gid int) error { return v.chown(path, uid, gid, false) }

func (v *View) chown(path string, uid, gid int, follow bool) error {
	return v.attribute(OpChown, path, follow, true, func(p place) error {
		if uid < 0 {
			uid = p.info.UID
		}
		if gid < 0 {
			gid = p.info.GID
		}
		if v.UID != 0 && (uid != p.info.UID || gid != p.info.GID && !slices.Contains(v.GIDs, gid)) {
			return syscall.EPERM
		}
		return p.fs.Chown(p.rel, uid, gid)
	})
}

// Chtimes sets the times of access and modification.
func (v *View) Chtimes(path string, atime, mtime time.Time) error {
	return v.attribute(OpChtimes, path, true, true, func(p place) error { return p.fs.Chtimes(p.rel, atime, mtime) })
}
