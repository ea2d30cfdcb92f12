package vfs

import (
	"io"
	"syscall"
)

// Truncater is a File that can be cut or extended. Files of a Tree pass Truncate, Seek, ReadAt and WriteAt on and answer
// ESPIPE or EINVAL where the file system below cannot.
type Truncater interface{ Truncate(size int64) error }

// watched reports the writes of an open file to the tree's audit and asks its faults.
type watched struct {
	File
	view   *View
	path   string
	device bool
}

var (
	_ io.Seeker   = (*watched)(nil)
	_ io.ReaderAt = (*watched)(nil)
	_ io.WriterAt = (*watched)(nil)
	_ Truncater   = (*watched)(nil)
)

func (w *watched) Read(p []byte) (int, error) {
	if err := w.view.fault(OpRead, w.path); err != nil {
		return 0, err
	}
	return w.File.Read(p)
}

func (w *watched) Write(p []byte) (int, error) {
	return w.write(func() (int, error) { return w.File.Write(p) })
}

func (w *watched) write(do func() (int, error)) (int, error) {
	if err := w.view.fault(OpWrite, w.path); err != nil {
		return 0, err
	}
	n, err := do()
	if n > 0 && !w.device {
		w.view.audit(OpWrite, w.path, "")
	}
	return n, err
}

func (w *watched) Seek(offset int64, whence int) (int64, error) {
	if s, ok := w.File.(io.Seeker); ok {
		return s.Seek(offset, whence)
	}
	return 0, syscall.ESPIPE
}

func (w *watched) ReadAt(p []byte, offset int64) (int, error) {
	if r, ok := w.File.(io.ReaderAt); ok {
		return r.ReadAt(p, offset)
	}
	return 0, syscall.ESPIPE
}

func (w *watched) WriteAt(p []byte, offset int64) (int, error) {
	at, ok := w.File.(io.WriterAt)
	if !ok {
		return 0, syscall.ESPIPE
	}
	return w.write(func() (int, error) { return at.WriteAt(p, offset) })
}

func (w *watched) Truncate(size int64) error {
	t, ok := w.File.(Truncater)
	if !ok {
		return syscall.EINVAL
	}
	if err := w.view.fault(OpWrite, w.path); err != nil {
		return err
	}
	if err := t.Truncate(size); err != nil {
		return err
	}
	w.view.audit(OpWrite, w.path, "")
	return nil
}
