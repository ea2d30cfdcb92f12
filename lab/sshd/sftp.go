package sshd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/pkg/sftp"

	"github.com/pxrun/pxrun/lab/vfs"
)

// sftp serves the sftp subsystem on the session's channel.
func (s *session) sftp(ctx context.Context) {
	m := s.k.server.m
	view := m.ViewOf(s.k.user)
	view.Ctx = ctx
	view.Actor = &Exec{User: s.k.user.Name, Command: "sftp", Connection: s.k.number, Session: int(s.k.opened.Add(1))}
	h := &files{view: view}
	stop := context.AfterFunc(ctx, func() { s.channel.Close() })
	defer stop()
	server := sftp.NewRequestServer(s.channel, sftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h}, sftp.WithStartDirectory(s.k.user.Home))
	err := server.Serve()
	code := 0
	if err != nil && !errors.Is(err, io.EOF) {
		code = 1
	}
	s.exit(code, 0)
	server.Close()
}

// files serves sftp requests from a machine's file system.
type files struct{ view *vfs.View }

var (
	_ sftp.LstatFileLister    = (*files)(nil)
	_ sftp.ReadlinkFileLister = (*files)(nil)
)

// Fileread implements sftp.FileReader.
func (f *files) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	content, err := f.view.ReadFile(r.Filepath)
	if err != nil {
		return nil, status(err)
	}
	return bytes.NewReader(content), nil
}

// Filewrite implements sftp.FileWriter.
func (f *files) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	p := r.Pflags()
	flag := os.O_WRONLY
	for _, o := range []struct {
		on   bool
		flag int
	}{{p.Creat, os.O_CREATE}, {p.Trunc, os.O_TRUNC}, {p.Excl, os.O_EXCL}, {p.Append, os.O_APPEND}} {
		if o.on {
			flag |= o.flag
		}
	}
	file, err := f.view.Open(r.Filepath, flag, 0o666)
	if err != nil {
		return nil, status(err)
	}
	return &writerAt{file: file}, nil
}

// writerAt writes at offsets, or in order where the file system can do no better.
type writerAt struct {
	file vfs.File
	at   int64
}

func (w *writerAt) WriteAt(p []byte, offset int64) (int, error) {
	if at, ok := w.file.(io.WriterAt); ok {
		n, err := at.WriteAt(p, offset)
		if !errors.Is(err, syscall.ESPIPE) {
			return n, status(err)
		}
	}
	if offset != w.at {
		return 0, status(syscall.ESPIPE)
	}
	n, err := w.file.Write(p)
	w.at += int64(n)
	return n, status(err)
}

func (w *writerAt) Close() error { return w.file.Close() }

// Filecmd implements sftp.FileCmder.
func (f *files) Filecmd(r *sftp.Request) error {
	switch r.Method {
	case "Setstat":
		return status(f.setStat(r))
	case "Rename":
		return status(f.view.Rename(r.Filepath, r.Target))
	case "Rmdir", "Remove":
		return status(f.view.Remove(r.Filepath))
	case "Mkdir":
		return status(f.view.Mkdir(r.Filepath, 0o777))
	case "Symlink":
		return status(f.view.Symlink(r.Filepath, r.Target))
	case "Link":
		return status(f.view.Link(r.Filepath, r.Target))
	}
	return sftp.ErrSSHFxOpUnsupported
}

// PosixRename implements sftp.PosixRenameFileCmder: rename replaces here in any case.
func (f *files) PosixRename(r *sftp.Request) error {
	return status(f.view.Rename(r.Filepath, r.Target))
}

func (f *files) setStat(r *sftp.Request) error {
	which, to := r.AttrFlags(), r.Attributes()
	var errs []error
	if which.Size {
		file, err := f.view.Open(r.Filepath, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if t, ok := file.(vfs.Truncater); ok {
			err = t.Truncate(int64(to.Size))
		}
		errs = append(errs, err, file.Close())
	}
	if which.Permissions {
		errs = append(errs, f.view.Chmod(r.Filepath, to.FileMode()))
	}
	if which.UidGid {
		errs = append(errs, f.view.Chown(r.Filepath, int(to.UID), int(to.GID)))
	}
	if which.Acmodtime {
		errs = append(errs, f.view.Chtimes(r.Filepath, time.Unix(int64(to.Atime), 0), time.Unix(int64(to.Mtime), 0)))
	}
	return errors.Join(errs...)
}

// Filelist implements sftp.FileLister.
func (f *files) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	switch r.Method {
	case "List":
		list, err := f.view.ReadDir(r.Filepath)
		if err != nil {
			return nil, status(err)
		}
		out := make(lister, len(list))
		for i, info := range list {
			out[i] = fileInfo{info}
		}
		return out, nil
	case "Stat":
		info, err := f.view.Stat(r.Filepath)
		return lister{fileInfo{info}}, status(err)
	}
	return nil, sftp.ErrSSHFxOpUnsupported
}

// Lstat implements sftp.LstatFileLister.
func (f *files) Lstat(r *sftp.Request) (sftp.ListerAt, error) {
	info, err := f.view.Lstat(r.Filepath)
	return lister{fileInfo{info}}, status(err)
}

// Readlink implements sftp.ReadlinkFileLister.
func (f *files) Readlink(path string) (string, error) {
	target, err := f.view.Readlink(path)
	return target, status(err)
}

// status makes an error the one that the protocol has a code for.
func status(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return sftp.ErrSSHFxNoSuchFile
	case errors.Is(err, fs.ErrPermission):
		return sftp.ErrSSHFxPermissionDenied
	default:
		return errors.New(vfs.Errno(err).Error())
	}
}

// lister is a folder's content.
type lister []os.FileInfo

// ListAt implements sftp.ListerAt.
func (l lister) ListAt(to []os.FileInfo, offset int64) (int, error) {
	if offset >= int64(len(l)) {
		return 0, io.EOF
	}
	n := copy(to, l[offset:])
	if n < len(to) {
		return n, io.EOF
	}
	return n, nil
}

// fileInfo makes a vfs.Info an os.FileInfo with its owner.
type fileInfo struct{ i vfs.Info }

func (f fileInfo) Name() string       { return f.i.Name }
func (f fileInfo) Size() int64        { return f.i.Size }
func (f fileInfo) Mode() fs.FileMode  { return f.i.Mode }
func (f fileInfo) ModTime() time.Time { return f.i.ModTime }
func (f fileInfo) IsDir() bool        { return f.i.Mode.IsDir() }

// Sys carries the owner to the sftp server.
func (f fileInfo) Sys() any {
	return &syscall.Stat_t{Uid: uint32(f.i.UID), Gid: uint32(f.i.GID)}
}
