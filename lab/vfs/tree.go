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
	audit []func(Mutation)
	fault func(ctx context.Context, op Op, path string) error
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
	t.mounts = mounts
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
	t.mounts = mounts
	return nil
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
	t.hooks.Store(&hooks{audit: append(slices.Clone(old.audit), audit), fault: old.fault})
}

// SetFault installs a function that is asked before every operation: what it returns is the operation's error (a
// syscall.Errno). It may block until ctx ends, which is how a hanging disk looks. nil takes it away.
func (t *Tree) SetFault(fault func(ctx context.Context, op Op, path string) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hooks.Store(&hooks{audit: t.hooks.Load().audit, fault: fault})
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
