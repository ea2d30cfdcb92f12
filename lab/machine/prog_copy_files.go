package machine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/pxrun/pxrun/lab/vfs"
)

// into makes the path of a thing within a folder, or is the target itself.
func (p *Proc) into(source, target string) string {
	if info, err := p.view.Stat(target); err == nil && info.Mode.IsDir() {
		return strings.TrimRight(target, "/") + "/" + lastName(source)
	}
	return target
}

func lastName(path string) string {
	path = strings.TrimRight(path, "/")
	return path[strings.LastIndexByte(path, '/')+1:]
}

// sourcesAndTarget splits operands, with -t and -T.
func (p *Proc) sourcesAndTarget(opts flags, paths []string) (sources []string, target string, code int) {
	if t := opts.last("t"); t != "" {
		return paths, t, 0
	}
	switch len(paths) {
	case 0:
		return nil, "", p.Fail(1, "missing file operand")
	case 1:
		return nil, "", p.Fail(1, "missing destination file operand after '%s'", paths[0])
	}
	sources, target = paths[:len(paths)-1], paths[len(paths)-1]
	if len(sources) > 1 {
		if info, err := p.view.Stat(target); err != nil || !info.Mode.IsDir() {
			return nil, "", p.Fail(1, "target '%s': %s", target, Reason(syscall.ENOTDIR))
		}
	}
	return sources, target, 0
}

func runMv(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("fnvTt:iuZ", "force=f", "no-clobber=n", "no-target-directory=T", "target-directory=t", "verbose=v", "update=u")
	if !ok {
		return 1
	}
	sources, target, code := p.sourcesAndTarget(opts, paths)
	if code != 0 {
		return code
	}
	status := 0
	for _, source := range sources {
		to := target
		if !opts.has("T") {
			to = p.into(source, target)
		}
		if opts.has("n") {
			if _, err := p.view.Lstat(to); err == nil {
				continue
			}
		}
		if _, err := p.view.Lstat(source); err != nil {
			status = p.Fail(1, "cannot stat '%s': %s", source, Reason(err))
			continue
		}
		err := p.view.Rename(source, to)
		if errors.Is(err, syscall.EXDEV) {
			if err = p.copyTree(source, to, copyOptions{recursive: true, preserve: true}); err == nil {
				err = p.view.RemoveAll(source)
			}
		}
		if err != nil {
			status = p.Fail(1, "cannot move '%s' to '%s': %s", source, to, Reason(err))
		}
	}
	return status
}

// copyOptions are how cp copies.
type copyOptions struct {
	recursive, preserve, links, update bool
	mode                               *fs.FileMode
}

func runCp(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("arRpdfnTt:uviLPH", "archive=a", "recursive=r", "preserve", "preserve=", "force=f", "no-clobber=n", "no-target-directory=T", "target-directory=t", "update=u", "reflink=", "remove-destination", "no-dereference=P", "dereference=L")
	if !ok {
		return 1
	}
	sources, target, code := p.sourcesAndTarget(opts, paths)
	if code != 0 {
		return code
	}
	o := copyOptions{recursive: opts.has("a", "r", "R"), preserve: opts.has("a", "p", "preserve"), links: opts.has("a", "d", "P") || opts.has("r", "R") && !opts.has("L")}
	status := 0
	for _, source := range sources {
		to := target
		if !opts.has("T") {
			to = p.into(source, target)
		}
		info, err := p.view.Stat(source)
		if o.links {
			info, err = p.view.Lstat(source)
		}
		if err != nil {
			status = p.Fail(1, "cannot stat '%s': %s", source, Reason(err))
			continue
		}
		if info.Mode.IsDir() && !o.recursive {
			status = p.Fail(1, "-r not specified; omitting directory '%s'", source)
			continue
		}
		existing, err := p.view.Stat(to)
		if err == nil && (opts.has("n") || opts.has("u") && !info.ModTime.After(existing.ModTime)) {
			continue
		}
		if err == nil && p.sameFile(source, to) {
			status = p.Fail(1, "'%s' and '%s' are the same file", source, to)
			continue
		}
		if err := p.copyTree(source, to, o); err != nil {
			var path *fs.PathError
			verb := "create regular file"
			if errors.As(err, &path) && path.Op == "read" {
				verb = "open"
			}
			status = p.Fail(1, "cannot %s '%s': %s", verb, to, Reason(err))
		}
	}
	return status
}

func (p *Proc) sameFile(a, b string) bool {
	ra, errA := p.view.Realpath(a, false)
	rb, errB := p.view.Realpath(b, false)
	return errA == nil && errB == nil && ra == rb
}

func (p *Proc) copyTree(from, to string, o copyOptions) error {
	info, err := p.view.Stat(from)
	if o.links {
		info, err = p.view.Lstat(from)
	}
	if err != nil {
		return err
	}
	switch {
	case info.Mode&fs.ModeSymlink != 0:
		_ = p.view.Remove(to) // it need not exist
		return p.view.Symlink(info.Target, to)
	case info.Mode.IsDir():
		if err := p.view.Mkdir(to, info.Mode.Perm()); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		list, err := p.view.ReadDir(from)
		if err != nil {
			return err
		}
		for _, entry := range list {
			if err := p.copyTree(from+"/"+entry.Name, to+"/"+entry.Name, o); err != nil {
				return err
			}
		}
	default:
		if err := p.copyContent(from, to, info.Mode.Perm()); err != nil {
			return err
		}
	}
	if o.preserve {
		return p.preserve(to, info)
	}
	return nil
}

func (p *Proc) preserve(to string, info vfs.Info) error {
	if err := p.view.Chmod(to, info.Mode); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_ = p.view.Chown(to, info.UID, info.GID) // only root may give away; cp -p says nothing either
	return p.view.Chtimes(to, info.ModTime, info.ModTime)
}

func (p *Proc) copyContent(from, to string, mode fs.FileMode) error {
	in, err := p.Open(from, os.O_RDONLY, 0)
	if err != nil {
		return &fs.PathError{Op: "read", Path: from, Err: err}
	}
	defer in.Close()
	out, err := p.Open(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(struct{ io.Writer }{out}, struct{ io.Reader }{in})
	return errors.Join(err, out.Close())
}

func runInstall(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("dm:o:g:Dt:TpcC", "directory=d", "mode=m", "owner=o", "group=g", "target-directory=t", "no-target-directory=T")
	if !ok {
		return 1
	}
	mode := fs.FileMode(0o755)
	if opts.has("m") {
		var err error
		if mode, err = parseMode(opts.last("m"), 0, false, 0); err != nil {
			return p.Fail(1, "invalid mode ‘%s’", opts.last("m"))
		}
	}
	finish := func(path string) error {
		if err := p.view.Chmod(path, mode); err != nil {
			return err
		}
		uid, gid := -1, -1
		if u, ok := p.Machine.User(opts.last("o")); ok {
			uid = u.UID
		}
		if n, ok := p.Machine.groupID(opts.last("g")); ok && opts.has("g") {
			gid = n
		}
		return p.view.Chown(path, uid, gid)
	}
	if opts.has("d") {
		for _, path := range paths {
			err := p.view.MkdirAll(path, 0o755)
			if err == nil {
				err = finish(path)
			}
			if err != nil {
				return p.Fail(1, "cannot create directory ‘%s’: %s", path, Reason(err))
			}
		}
		return 0
	}
	sources, target, code := p.sourcesAndTarget(opts, paths)
	if code != 0 {
		return code
	}
	for _, source := range sources {
		to := target
		if opts.has("D") {
			if err := p.view.MkdirAll(parentOf(to), 0o755); err != nil {
				return p.Fail(1, "cannot create directory '%s': %s", parentOf(to), Reason(err))
			}
		}
		if !opts.has("T") {
			to = p.into(source, target)
		}
		_ = p.view.Remove(to) // install replaces
		err := p.copyContent(source, to, 0o600)
		if err == nil {
			err = finish(to)
		}
		if err != nil {
			return p.Fail(1, "cannot create regular file '%s': %s", to, Reason(err))
		}
	}
	return 0
}

func parentOf(path string) string {
	i := strings.LastIndexByte(path, '/')
	switch {
	case i < 0:
		return "."
	case i == 0:
		return "/"
	}
	return path[:i]
}
