package vfs

import (
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"
)

// memFile is an open file of a Mem.
type memFile struct {
	fs     *Mem
	node   *memNode
	name   string
	folder string // of the root, that it was opened below
	flag   int
	pos    int64 // guarded by fs.mu
}

func (f *memFile) Stat() (Info, error) {
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	return f.fs.info(f.name, f.node), nil
}

func (f *memFile) Close() error { return nil }

func (f *memFile) Read(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	n, err := f.readAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

// ReadAt implements io.ReaderAt.
func (f *memFile) ReadAt(p []byte, offset int64) (int, error) {
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	n, err := f.readAt(p, offset)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (f *memFile) readAt(p []byte, offset int64) (int, error) {
	if f.flag&os.O_WRONLY != 0 {
		return 0, syscall.EBADF
	}
	if f.node.children != nil {
		return 0, syscall.EISDIR
	}
	if offset < 0 {
		return 0, syscall.EINVAL
	}
	if offset >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	return copy(p, f.node.data[offset:]), nil
}

func (f *memFile) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.flag&os.O_APPEND != 0 {
		f.pos = int64(len(f.node.data))
	}
	n, err := f.writeAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

// WriteAt implements io.WriterAt.
func (f *memFile) WriteAt(p []byte, offset int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.writeAt(p, offset)
}

// writeAt writes what still fits: a full file system takes a part and then says ENOSPC, as a real one does.
func (f *memFile) writeAt(p []byte, offset int64) (int, error) {
	if f.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return 0, syscall.EBADF
	}
	if offset < 0 {
		return 0, syscall.EINVAL
	}
	var full error
	end := offset + int64(len(p))
	if end > maxFile {
		return 0, syscall.EFBIG
	}
	if grow := end - int64(len(f.node.data)); f.fs.limit > 0 && grow > 0 && f.fs.used+grow > f.fs.limit {
		fits := max(0, int64(len(p))-(f.fs.used+grow-f.fs.limit))
		p, end, full = p[:fits], offset+fits, syscall.ENOSPC
		if fits == 0 {
			return 0, full
		}
	}
	f.resize(max(end, int64(len(f.node.data))))
	copy(f.node.data[offset:], p)
	f.fs.wrote(f.node, f.folder)
	f.node.mtime = f.fs.now()
	return len(p), full
}

// resize makes the content a given length, its bytes our own. The lock is held.
func (f *memFile) resize(size int64) {
	n := f.node
	have := int64(len(n.data))
	if n.shared {
		n.data, n.shared = slices.Clone(n.data), false
	}
	if !n.gone {
		f.fs.used += size - have
	}
	if size <= have {
		n.data = n.data[:size:size]
		return
	}
	n.data = slices.Grow(n.data, int(size-have))[:size]
	clear(n.data[have:])
}

// Truncate implements Truncater.
func (f *memFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	switch {
	case size > maxFile:
		return syscall.EFBIG
	case size < 0 || f.flag&(os.O_WRONLY|os.O_RDWR) == 0:
		return syscall.EINVAL
	case f.fs.limit > 0 && f.fs.used+size-int64(len(f.node.data)) > f.fs.limit:
		return syscall.ENOSPC
	}
	f.resize(size)
	f.fs.wrote(f.node, f.folder)
	f.node.mtime = f.fs.now()
	return nil
}

// Seek implements io.Seeker.
func (f *memFile) Seek(offset int64, whence int) (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += f.pos
	case io.SeekEnd:
		offset += int64(len(f.node.data))
	}
	if offset < 0 {
		return 0, syscall.EINVAL
	}
	f.pos = offset
	return offset, nil
}

// staticFile is an open generated file: what it showed when it was opened.
type staticFile struct {
	name  string
	mode  fs.FileMode
	mtime time.Time
	data  []byte
	pos   int
}

// NewStaticFile returns an open read-only file with a content. File systems that generate their files use it.
func NewStaticFile(name string, mode fs.FileMode, mtime time.Time, content []byte) File {
	return &staticFile{name: name, mode: mode, mtime: mtime, data: content}
}

func (f *staticFile) Stat() (Info, error) {
	return Info{Name: f.name, Mode: f.mode, ModTime: f.mtime}, nil
}

func (f *staticFile) Read(p []byte) (int, error) {
	if f.pos >= len(f.data) {
		return 0, io.EOF
	}
	n := copy(p, f.data[f.pos:])
	f.pos += n
	return n, nil
}

func (f *staticFile) Write([]byte) (int, error) { return 0, syscall.EBADF }

func (f *staticFile) Close() error { return nil }
