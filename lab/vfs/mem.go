package vfs

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxFile bounds one file: a program that writes without end must not take the computer's memory.
const maxFile = 256 << 20

// Mem is a file system in memory. It is safe for concurrent use.
type Mem struct {
	now func() time.Time

	mu    sync.RWMutex
	root  *memNode
	used  int64
	limit int64 // 0 is no limit
	ro    bool
	// changes counts what has been done to the names, bytes and modes below each folder of the root; "" is all of them.
	changes map[string]uint64
}

// memNode is a file, folder, link or device. Its fields are guarded by the lock of its Mem.
type memNode struct {
	mode     fs.FileMode
	uid, gid int
	mtime    time.Time
	target   string
	data     []byte
	links    int  // names beyond the first
	gone     bool // no name is left, only open files
	shared   bool // data belongs to somebody else too: copy before changing bytes in place
	children map[string]*memNode
	generate func() []byte
	device   func(flag int) (File, error)
}

// NewMem returns an empty file system whose times come from now.
func NewMem(now func() time.Time) *Mem {
	return &Mem{now: now, changes: map[string]uint64{}, root: &memNode{mode: fs.ModeDir | 0o755, mtime: now(), children: map[string]*memNode{}}}
}

// Changes counts the changes so far at or below folders of the root, given without slash: while the number is the same, what is
// there is the same.
func (m *Mem) Changes(folders ...string) uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n := m.changes[""]
	for _, f := range folders {
		n += m.changes[f]
	}
	return n
}

// touch counts a change. The lock is held.
func (m *Mem) touch(path string) { m.changes[folder(path)]++ }

// folder is the first name of a path.
func folder(path string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return name
}

// SetLimit bounds the bytes that files may hold together: writing more fails with ENOSPC. 0 is no limit.
func (m *Mem) SetLimit(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = bytes
}

// SetReadOnly makes every change fail with EROFS.
func (m *Mem) SetReadOnly(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ro = on
}

// Usage tells how many bytes files hold and the limit (0: none).
func (m *Mem) Usage() (used, limit int64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.used, m.limit
}

// Generate puts a file whose content is made anew each time it is opened. Writing to it fails with EACCES.
func (m *Mem) Generate(path string, mode fs.FileMode, content func() []byte) error {
	return m.place(path, &memNode{mode: mode.Perm(), generate: content})
}

// Device puts a character device whose files are made by open.
func (m *Mem) Device(path string, mode fs.FileMode, open func(flag int) (File, error)) error {
	return m.place(path, &memNode{mode: mode.Perm() | fs.ModeDevice | fs.ModeCharDevice, device: open})
}

// BlockDevice puts a block device whose files are made by open.
func (m *Mem) BlockDevice(path string, mode fs.FileMode, open func(flag int) (File, error)) error {
	return m.place(path, &memNode{mode: mode.Perm() | fs.ModeDevice, device: open})
}

// Seed puts a file whose content is shared with the caller and never changed in place, making folders as needed.
func (m *Mem) Seed(path string, mode fs.FileMode, content []byte) error {
	return m.place(path, &memNode{mode: mode.Perm(), data: content[:len(content):len(content)], shared: true})
}

func (m *Mem) place(path string, n *memNode) error {
	n.mtime = m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	dir := m.root
	for part := range strings.SplitSeq(strings.Trim(parent(path), "/"), "/") {
		if part == "" {
			continue
		}
		next := dir.children[part]
		if next == nil {
			next = &memNode{mode: fs.ModeDir | 0o755, mtime: n.mtime, children: map[string]*memNode{}}
			dir.children[part] = next
		}
		if next.children == nil {
			return fail("create", path, syscall.ENOTDIR)
		}
		dir = next
	}
	if old := dir.children[base(path)]; old != nil {
		m.drop(old)
	}
	m.touch(path)
	m.used += int64(len(n.data))
	dir.children[base(path)] = n
	return nil
}

func (m *Mem) find(path string) (*memNode, error) {
	n := m.root
	for rest := path[1:]; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		if n.children == nil {
			return nil, syscall.ENOTDIR
		}
		next := n.children[name]
		if next == nil {
			return nil, syscall.ENOENT
		}
		n = next
	}
	return n, nil
}

func (m *Mem) info(name string, n *memNode) Info {
	i := Info{Name: name, Mode: n.mode, Size: int64(len(n.data)), ModTime: n.mtime, UID: n.uid, GID: n.gid, Target: n.target}
	switch {
	case n.children != nil:
		i.Size = 4096
	case n.target != "":
		i.Size = int64(len(n.target))
	}
	return i
}

// Lstat implements FS.
func (m *Mem) Lstat(path string) (Info, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.find(path)
	if err != nil {
		return Info{}, err
	}
	return m.info(base(path), n), nil
}

// ReadDir implements FS.
func (m *Mem) ReadDir(path string) ([]Info, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.find(path)
	if err != nil {
		return nil, err
	}
	if n.children == nil {
		return nil, syscall.ENOTDIR
	}
	list := make([]Info, 0, len(n.children))
	for name, child := range n.children {
		list = append(list, m.info(name, child))
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Open implements FS.
func (m *Mem) Open(path string, flag int, mode fs.FileMode) (File, error) {
	writes := flag&(os.O_WRONLY|os.O_RDWR) != 0
	m.mu.Lock()
	n, err := m.find(path)
	switch {
	case err == syscall.ENOENT && flag&os.O_CREATE != 0:
		n, err = m.create(path, &memNode{mode: mode.Perm()})
	case err == nil && flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		err = syscall.EEXIST
	case err == nil && writes && n.children != nil:
		err = syscall.EISDIR
	case err == nil && writes && n.device == nil && m.ro:
		err = syscall.EROFS
	case err == nil && writes && n.generate != nil:
		err = syscall.EACCES
	}
	if err == nil && writes && flag&os.O_TRUNC != 0 && n.device == nil {
		if !n.gone {
			m.used -= int64(len(n.data))
		}
		n.data, n.shared, n.mtime = nil, false, m.now()
		m.wrote(n, folder(path))
	}
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	switch {
	case n.device != nil:
		return n.device(flag)
	case n.generate != nil:
		return &staticFile{name: base(path), mode: n.mode, mtime: n.mtime, data: n.generate()}, nil
	}
	return &memFile{fs: m, node: n, name: base(path), folder: folder(path), flag: flag}, nil
}

// wrote counts a change of a file's bytes; a file with several names may be anywhere. The lock is held.
func (m *Mem) wrote(n *memNode, folder string) {
	if n.links > 0 {
		folder = ""
	}
	m.changes[folder]++
}

// create adds a new node, for which a full disk has no room. The lock is held.
func (m *Mem) create(path string, n *memNode) (*memNode, error) {
	if !m.ro && m.limit > 0 && m.used >= m.limit {
		return nil, syscall.ENOSPC
	}
	return m.add(path, n)
}

// add puts a node into its folder. The lock is held.
func (m *Mem) add(path string, n *memNode) (*memNode, error) {
	if m.ro {
		return nil, syscall.EROFS
	}
	dir, err := m.find(parent(path))
	if err != nil {
		return nil, err
	}
	if dir.children == nil {
		return nil, syscall.ENOTDIR
	}
	if dir.children[base(path)] != nil {
		return nil, syscall.EEXIST
	}
	n.mtime = m.now()
	dir.mtime = n.mtime
	dir.children[base(path)] = n
	m.touch(path)
	return n, nil
}

// Mkdir implements FS.
func (m *Mem) Mkdir(path string, mode fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.create(path, &memNode{mode: fs.ModeDir | mode&(fs.ModePerm|fs.ModeSticky|fs.ModeSetgid|fs.ModeSetuid), children: map[string]*memNode{}})
	return err
}

// Symlink implements FS.
func (m *Mem) Symlink(target, path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.create(path, &memNode{mode: fs.ModeSymlink | 0o777, target: target})
	return err
}

// Link implements FS.
func (m *Mem) Link(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(from)
	if err != nil {
		return err
	}
	if n.children != nil {
		return syscall.EPERM
	}
	mtime := n.mtime
	if _, err = m.add(to, n); err == nil {
		n.mtime = mtime
		n.links++
	}
	return err
}

// Remove implements FS.
func (m *Mem) Remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(path)
	switch {
	case err != nil:
		return err
	case m.ro:
		return syscall.EROFS
	case path == "/":
		return syscall.EBUSY
	case len(n.children) > 0:
		return syscall.ENOTEMPTY
	}
	dir, err := m.find(parent(path))
	if err != nil {
		return err
	}
	delete(dir.children, base(path))
	dir.mtime = m.now()
	m.touch(path)
	m.drop(n)
	return nil
}

// drop takes one name off a node. The lock is held.
func (m *Mem) drop(n *memNode) {
	if n.links > 0 {
		n.links--
		return
	}
	n.gone = true
	m.used -= int64(len(n.data))
}

// Rename implements FS.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(from)
	if err != nil {
		return err
	}
	src, err := m.find(parent(from))
	if err != nil {
		return err
	}
	dst, err := m.find(parent(to))
	if err != nil {
		return err
	}
	old := dst.children[base(to)]
	switch {
	case m.ro:
		return syscall.EROFS
	case from == "/" || to == "/":
		return syscall.EBUSY
	case dst.children == nil:
		return syscall.ENOTDIR
	case old == n:
		return nil
	case strings.HasPrefix(to, from+"/"):
		return syscall.EINVAL
	case old != nil && old.children != nil && n.children == nil:
		return syscall.EISDIR
	case old != nil && old.children == nil && n.children != nil:
		return syscall.ENOTDIR
	case old != nil && len(old.children) > 0:
		return syscall.ENOTEMPTY
	}
	if old != nil {
		m.drop(old)
	}
	delete(src.children, base(from))
	dst.children[base(to)] = n
	m.touch(from)
	m.touch(to)
	src.mtime = m.now()
	dst.mtime = src.mtime
	return nil
}

func (m *Mem) change(path string, do func(*memNode)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find(path)
	if err != nil {
		return err
	}
	if m.ro {
		return syscall.EROFS
	}
	do(n)
	m.touch(path)
	return nil
}

// Chmod implements FS.
func (m *Mem) Chmod(path string, mode fs.FileMode) error {
	const bits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	return m.change(path, func(n *memNode) { n.mode = n.mode&^bits | mode&bits })
}

// Chown implements FS.
func (m *Mem) Chown(path string, uid, gid int) error {
	return m.change(path, func(n *memNode) { n.uid, n.gid = uid, gid })
}

// Chtimes implements FS.
func (m *Mem) Chtimes(path string, _, mtime time.Time) error {
	return m.change(path, func(n *memNode) { n.mtime = mtime })
}
