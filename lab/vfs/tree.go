package vfs

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Tree is a machine's whole file system: mounted trees under one root. Its own methods act as root; View acts as
// somebody else. A Tree is safe for concurrent use.
type Tree struct {
	*View

	mu     sync.RWMutex
	mounts map[string]FS // by clean absolute path, "/" always there

	hooks atomic.Pointer[hooks]
}

// hooks are replaced as a whole, so that the paths that use them take no lock.
type hooks struct {
	audit  []func(Mutation)
	faults []Fault
}

// Fault is trouble with a part of a tree.
type Fault struct {
	// Below is the resolved path that it concerns, with all below it; "" is the whole tree.
	Below string
	// Ask is asked before every operation there: what it returns is the operation's error (a syscall.Errno). It may block until
	// ctx ends, which is how a hanging disk looks.
	Ask func(ctx context.Context, op Op, path string) error
}

// covers reports whether the fault concerns a path.
func (f Fault) covers(path string) bool { return f.Below == "" || within(path, f.Below) }

// within reports whether a path is another or lies below it.
func within(path, other string) bool {
	return strings.HasPrefix(path, other) && (len(path) == len(other) || path[len(other)] == '/')
}

// Op names what is done to a path.
type Op string

// The operations that faults and audits see.
const (
	OpLstat   Op = "lstat"
	OpOpen    Op = "open"
	OpReadDir Op = "readdir"
	OpRead    Op = "read"
	OpCreate  Op = "create"
	OpWrite   Op = "write"
	OpMkdir   Op = "mkdir"
	OpRemove  Op = "remove"
	OpRename  Op = "rename"
	OpSymlink Op = "symlink"
	OpLink    Op = "link"
	OpChmod   Op = "chmod"
	OpChown   Op = "chown"
	OpChtimes Op = "chtimes"
)

// Mutates reports whether the operation changes the tree.
func (o Op) Mutates() bool {
	switch o {
	case OpLstat, OpOpen, OpReadDir, OpRead:
		return false
	default:
		return true
	}
}

// Mutation is one change of the tree, told to the audit after it has happened.
type Mutation struct {
	Op   Op
	Path string // resolved: free of symbolic links
	To   string // the new path of a rename
	// Actor is the Actor of the View that did it: the lab tells by it which command wrote.
	Actor any
}

// NewTree returns a tree whose root is the given file system.
func NewTree(root FS) *Tree {
	t := &Tree{mounts: map[string]FS{"/": root}}
	t.View = &View{tree: t, Umask: 0o022}
	t.hooks.Store(&hooks{})
	return t
}

// Mount lays a file system over a path, which is created if it does not exist. What was below stays hidden until
// Unmount. Mounting again replaces.
func (t *Tree) Mount(path string, f FS) error {
	clean := Clean("/", path)
	if _, err := t.Lstat(clean); err != nil {
		if err := t.MkdirAll(clean, 0o755); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	mounts := make(map[string]FS, len(t.mounts)+1)
	for k, v := range t.mounts {
		mounts[k] = v
	}
	mounts[clean] = f
	t.remount(clean, mounts)
	return nil
}

// Unmount takes the file system at path away. Files that are open on it stay usable, as after a lazy unmount.
func (t *Tree) Unmount(path string) error {
	clean := Clean("/", path)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.mounts[clean]; !ok || clean == "/" {
		return &fs.PathError{Op: "umount", Path: path, Err: syscall.EINVAL}
	}
	mounts := make(map[string]FS, len(t.mounts))
	for k, v := range t.mounts {
		if k != clean {
			mounts[k] = v
		}
	}
	t.remount(clean, mounts)
	return nil
}

// remount puts other mounts in place: what is seen at a path changes by it as by a change of the file system. The lock is held.
func (t *Tree) remount(path string, mounts map[string]FS) {
	t.mounts = mounts
	if m, ok := mounts["/"].(*Mem); ok {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.touch(path)
	}
}

// Mounts lists the mount points in alphabetical order.
func (t *Tree) Mounts() []string {
	var names []string
	for path := range t.snapshot() {
		names = append(names, path)
	}
	slices.Sort(names)
	return names
}

// Mounted returns the file system mounted exactly at path, or nil.
func (t *Tree) Mounted(path string) FS { return t.snapshot()[Clean("/", path)] }

// MountOf returns the mount point that holds a path (which need not exist) and its file system.
func (t *Tree) MountOf(path string) (string, FS) {
	mounts := t.snapshot()
	clean := Clean("/", path)
	for at := clean; ; at = parent(at) {
		if f, ok := mounts[at]; ok {
			return at, f
		}
	}
}

func (t *Tree) snapshot() map[string]FS {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mounts
}

// OnMutation adds an audit: it is called after every change of the tree, in the goroutine that made it, with no lock
// held.
func (t *Tree) OnMutation(audit func(Mutation)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.hooks.Load()
	t.hooks.Store(&hooks{audit: append(slices.Clone(old.audit), audit), faults: old.faults})
}

// SetFaults replaces the faults of the tree. They are asked in order until one has an error.
func (t *Tree) SetFaults(list ...Fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hooks.Store(&hooks{audit: t.hooks.Load().audit, faults: slices.Clone(list)})
}

// Faultless reports whether no fault concerns a resolved path, anything above it, or anything below it.
func (t *Tree) Faultless(path string) bool {
	for _, f := range t.hooks.Load().faults {
		if f.covers(path) || within(f.Below, path) {
			return false
		}
	}
	return true
}

// Clean makes a path absolute against dir and lexically clean. It does not resolve symbolic links.
func Clean(dir, path string) string {
	if !strings.HasPrefix(path, "/") {
		path = dir + "/" + path
	}
	if isClean(path) {
		return path
	}
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "", ".":
		case "..":
			if len(parts) > 0 {
				parts = parts[:len(parts)-1]
			}
		default:
			parts = append(parts, part)
		}
	}
	return "/" + strings.Join(parts, "/")
}

// isClean spares the common case its allocations.
func isClean(path string) bool {
	if path == "/" {
		return true
	}
	if path[0] != '/' || strings.HasSuffix(path, "/") {
		return false
	}
	return !strings.Contains(path, "//") && !strings.Contains(path, "/.")
}

func parent(path string) string {
	i := strings.LastIndexByte(path, '/')
	if i <= 0 {
		return "/"
	}
	return path[:i]
}

func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
