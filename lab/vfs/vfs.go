// Package vfs is the file system of a simulated machine: an in-memory tree with POSIX semantics as far as programs and
// shells notice them, and mount points for trees that a model generates or guards (/proc, /sys, /etc/pve). Errors are
// *fs.PathError or *os.LinkError around a syscall.Errno, so that programs print what real ones print.
package vfs

import (
	"io"
	"io/fs"
	"time"
)

// FS is one mounted tree. Paths are absolute, clean, and relative to the mount's root ("/").
// Symbolic links are resolved by the Tree that mounts it, never by the FS.
type FS interface {
	Lstat(path string) (Info, error)
	// Open follows os.OpenFile's flags (O_RDONLY, O_WRONLY|O_CREATE|O_TRUNC, O_EXCL, O_APPEND …).
	Open(path string, flag int, mode fs.FileMode) (File, error)
	ReadDir(path string) ([]Info, error)
	Mkdir(path string, mode fs.FileMode) error
	Remove(path string) error // a file, a link or an empty directory
	Rename(from, to string) error
	Symlink(target, path string) error
	Link(from, to string) error
	Chmod(path string, mode fs.FileMode) error
	Chown(path string, uid, gid int) error
	Chtimes(path string, atime, mtime time.Time) error
}

// File is an open file.
type File interface {
	io.Reader
	io.Writer
	io.Closer
	Stat() (Info, error)
}

// Info describes a file.
type Info struct {
	Name     string
	Mode     fs.FileMode // type bits included
	Size     int64
	ModTime  time.Time
	UID, GID int
	Target   string // of a symbolic link
}
