package cluster

import (
	"io"
	"sync"
	"syscall"

	"github.com/pxrun/pxrun/lab/vfs"
)

// pveFile is an open file of pmxcfs. Every write is a change of the whole cluster at once.
type pveFile struct {
	fs      pveFS
	path    string
	fixed   []byte // of a generated file: as it was when opened
	appends bool

	mu  sync.Mutex
	off int64
}

func (f *pveFile) Stat() (vfs.Info, error) { return f.fs.Lstat(f.path) }

func (f *pveFile) Close() error { return nil }

// content is what a read sees. The caller holds the world's lock.
func (f *pveFile) content() ([]byte, error) {
	if f.fixed != nil {
		return f.fixed, nil
	}
	i := f.fs.n.pmx.db.lookup(f.path)
	switch {
	case i == nil:
		return nil, syscall.ENOENT
	case i.isDir():
		return nil, syscall.EISDIR
	}
	return i.data, nil
}

func (f *pveFile) Read(p []byte) (int, error) {
	unlock, err := f.fs.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	data, err := f.content()
	if err != nil {
		return 0, err
	}
	if f.off >= int64(len(data)) {
		return 0, io.EOF
	}
	n := copy(p, data[f.off:])
	f.off += int64(n)
	return n, nil
}

func (f *pveFile) Write(p []byte) (int, error) {
	unlock, err := f.fs.change()
	if err != nil {
		return 0, err
	}
	defer unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.fs.n.pmx.db.lookup(f.path)
	if i == nil {
		return 0, syscall.ENOENT
	}
	if f.appends {
		f.off = int64(len(i.data))
	}
	end := f.off + int64(len(p))
	if end > fileLimit {
		return 0, syscall.EFBIG
	}
	data := make([]byte, max(end, int64(len(i.data))))
	copy(data, i.data)
	copy(data[f.off:], p)
	f.fs.store(f.path, i, data)
	f.off = end
	return len(p), nil
}

// Seek moves the offset.
func (f *pveFile) Seek(offset int64, whence int) (int64, error) {
	unlock, err := f.fs.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	data, err := f.content()
	if err != nil {
		return 0, err
	}
	switch whence {
	case io.SeekCurrent:
		offset += f.off
	case io.SeekEnd:
		offset += int64(len(data))
	}
	if offset < 0 {
		return 0, syscall.EINVAL
	}
	f.off = offset
	return offset, nil
}

// Truncate cuts or extends the file.
func (f *pveFile) Truncate(size int64) error {
	unlock, err := f.fs.change()
	if err != nil {
		return err
	}
	defer unlock()
	i := f.fs.n.pmx.db.lookup(f.path)
	switch {
	case i == nil:
		return syscall.ENOENT
	case size > fileLimit:
		return syscall.EFBIG
	}
	data := make([]byte, size)
	copy(data, i.data)
	f.fs.store(f.path, i, data)
	return nil
}
