package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/pxrun/pxrun/lab/vfs"
)

// filePrograms make, move and change files.
func filePrograms() map[string]Program {
	return map[string]Program{
		"mkdir": runMkdir, "rmdir": runRmdir, "rm": runRm, "mv": runMv, "cp": runCp, "ln": runLn, "chmod": runChmod, "chown": runChown, "chgrp": runChown,
		"touch": runTouch, "install": runInstall, "mktemp": runMktemp, "truncate": runTruncate, "unlink": runUnlink, "sync": runSync, "mkfifo": runTouch, "dd": runDd,
		"basename": runBasename, "dirname": runDirname, "readlink": runReadlink, "realpath": runReadlink, "tempfile": runMktemp,
	}
}

func runSync(context.Context, *Proc) int { return 0 }

func runMkdir(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("pm:v", "parents=p", "mode=m")
	if !ok {
		return 1
	}
	if len(paths) == 0 {
		return p.Fail(1, "missing operand")
	}
	status := 0
	for _, path := range paths {
		var err error
		_, missing := p.view.Lstat(path)
		if opts.has("p") {
			err = p.view.MkdirAll(path, 0o777)
		} else {
			err = p.view.Mkdir(path, 0o777)
		}
		if err != nil {
			status = p.Fail(1, "cannot create directory ‘%s’: %s", path, Reason(err))
			continue
		}
		if opts.has("m") && missing != nil {
			mode, err := parseMode(opts.last("m"), fs.FileMode(0o777), true, 0)
			if err != nil {
				return p.Fail(1, "invalid mode ‘%s’", opts.last("m"))
			}
			if err := p.view.Chmod(path, mode); err != nil {
				status = p.Fail(1, "cannot change permissions of ‘%s’: %s", path, Reason(err))
			}
		}
	}
	return status
}

func runRmdir(_ context.Context, p *Proc) int {
	_, paths, ok := p.getopt("p", "ignore-fail-on-non-empty")
	if !ok {
		return 1
	}
	status := 0
	for _, path := range paths {
		info, err := p.view.Lstat(path)
		if err == nil && !info.Mode.IsDir() {
			err = syscall.ENOTDIR
		}
		if err == nil {
			err = p.view.Remove(path)
		}
		if err != nil {
			status = p.Fail(1, "failed to remove '%s': %s", path, Reason(err))
		}
	}
	return status
}

func runRm(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("rRfidv", "recursive=r", "force=f", "dir=d", "one-file-system", "no-preserve-root", "preserve-root")
	if !ok {
		return 1
	}
	if len(paths) == 0 {
		if opts.has("f") {
			return 0
		}
		return p.Fail(1, "missing operand")
	}
	status := 0
	for _, path := range paths {
		info, err := p.view.Lstat(path)
		switch {
		case err != nil && opts.has("f") && errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
		case vfs.Clean(p.Dir, path) == "/":
			status = p.Fail(1, "it is dangerous to operate recursively on '/'")
			continue
		case info.Mode.IsDir() && opts.has("r", "R"):
			err = p.removeAll(path)
		case info.Mode.IsDir() && !opts.has("d"):
			err = syscall.EISDIR
		default:
			err = p.view.Remove(path)
		}
		if err != nil {
			status = p.Fail(1, "cannot remove '%s': %s", path, Reason(err))
		}
	}
	return status
}

// removeAll goes on over what cannot be removed, as rm does, and tells of the first.
func (p *Proc) removeAll(path string) error {
	list, err := p.view.ReadDir(path)
	if err != nil {
		return err
	}
	var first error
	for _, entry := range list {
		full := strings.TrimRight(path, "/") + "/" + entry.Name
		if entry.Mode.IsDir() {
			err = p.removeAll(full)
		} else {
			err = p.view.Remove(full)
		}
		if err != nil && first == nil {
			first = err
		}
	}
	if first != nil {
		return first
	}
	return p.view.Remove(path)
}

func runLn(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("sfnTvrt:b", "symbolic=s", "force=f", "no-dereference=n", "no-target-directory=T", "relative=r")
	if !ok {
		return 1
	}
	if len(paths) == 1 {
		paths = append(paths, "./"+lastName(paths[0]))
	}
	sources, target, code := p.sourcesAndTarget(opts, paths)
	if code != 0 {
		return code
	}
	status := 0
	for _, source := range sources {
		to := target
		info, err := p.view.Lstat(target)
		if !(opts.has("T") || opts.has("n") && err == nil && info.Mode&fs.ModeSymlink != 0) {
			to = p.into(source, target)
		}
		if opts.has("f") {
			if existing, err := p.view.Lstat(to); err == nil && !existing.Mode.IsDir() {
				_ = p.view.Remove(to) // what stays makes the link fail
			}
		}
		kind := "hard"
		if opts.has("s") {
			kind, err = "symbolic", p.view.Symlink(source, to)
		} else {
			err = p.view.Link(source, to)
		}
		if err != nil {
			status = p.Fail(1, "failed to create %s link '%s': %s", kind, to, Reason(err))
		}
	}
	return status
}

// each applies do to paths, and with recursive to all below them.
func (p *Proc) each(paths []string, recursive bool, do func(path string, info vfs.Info) error, complaint string) int {
	status := 0
	var visit func(path string, top bool)
	visit = func(path string, top bool) {
		info, err := p.view.Stat(path)
		if !top {
			info, err = p.view.Lstat(path)
		}
		if err != nil {
			status = p.Fail(1, "cannot access '%s': %s", path, Reason(err))
			return
		}
		if info.Mode&fs.ModeSymlink != 0 {
			return
		}
		if err := do(path, info); err != nil {
			status = p.Fail(1, complaint, path, Reason(err))
		}
		if !recursive || !info.Mode.IsDir() {
			return
		}
		list, err := p.view.ReadDir(path)
		if err != nil {
			status = p.Fail(1, "cannot read directory '%s': %s", path, Reason(err))
		}
		for _, entry := range list {
			visit(strings.TrimRight(path, "/")+"/"+entry.Name, false)
		}
	}
	for _, path := range paths {
		visit(path, true)
	}
	return status
}

func runChmod(_ context.Context, p *Proc) int {
	args := p.Args()
	for i, arg := range args { // chmod -x looks like an option
		if len(arg) > 1 && arg[0] == '-' && strings.Trim(arg[1:], "rwxXst") == "" && strings.Trim(arg[1:], "R") != "" {
			args = append(append(append([]string{}, args[:i]...), "--", arg), args[i+1:]...)
			break
		}
	}
	opts, rest, ok := p.getoptOf(args, "Rcfv", "recursive=R", "reference=", "quiet=f")
	if !ok {
		return 1
	}
	spec := ""
	if ref := opts.last("reference"); ref != "" {
		info, err := p.view.Stat(ref)
		if err != nil {
			return p.Fail(1, "failed to get attributes of '%s': %s", ref, Reason(err))
		}
		spec = fmt.Sprintf("%o", modeBits(info.Mode))
	} else {
		if len(rest) < 2 {
			return p.Fail(1, "missing operand")
		}
		spec, rest = rest[0], rest[1:]
	}
	if _, err := parseMode(spec, 0, false, 0); err != nil {
		return p.Fail(1, "invalid mode: ‘%s’", spec)
	}
	return p.each(rest, opts.has("R"), func(path string, info vfs.Info) error {
		mode, err := parseMode(spec, info.Mode, info.Mode.IsDir(), p.view.Umask)
		if err != nil {
			return err
		}
		return p.view.Chmod(path, mode)
	}, "changing permissions of '%s': %s")
}

func runChown(_ context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("Rhcfv", "recursive=R", "no-dereference=h", "reference=")
	if !ok {
		return 1
	}
	uid, gid := -1, -1
	if ref := opts.last("reference"); ref != "" {
		info, err := p.view.Stat(ref)
		if err != nil {
			return p.Fail(1, "failed to get attributes of '%s': %s", ref, Reason(err))
		}
		uid, gid = info.UID, info.GID
	} else {
		if len(rest) < 2 {
			return p.Fail(1, "missing operand")
		}
		var code int
		if uid, gid, code = p.owner(rest[0]); code != 0 {
			return code
		}
		rest = rest[1:]
	}
	complaint := "changing ownership of '%s': %s"
	if p.Name() == "chgrp" {
		complaint = "changing group of '%s': %s"
	}
	if opts.has("h") {
		status := 0
		for _, path := range rest {
			if err := p.view.Lchown(path, uid, gid); err != nil {
				status = p.Fail(1, complaint, path, Reason(err))
			}
		}
		return status
	}
	return p.each(rest, opts.has("R"), func(path string, _ vfs.Info) error { return p.view.Chown(path, uid, gid) }, complaint)
}

// owner reads USER, USER:GROUP, :GROUP, or a group for chgrp.
func (p *Proc) owner(spec string) (uid, gid, code int) {
	uid, gid = -1, -1
	user, group, both := strings.Cut(strings.Replace(spec, ".", ":", 1), ":")
	if p.Name() == "chgrp" {
		user, group, both = "", spec, true
	}
	if user != "" {
		u, ok := p.Machine.User(user)
		if ok {
			uid = u.UID
			if both && group == "" {
				gid = u.GID
			}
		} else if n, err := strconv.Atoi(user); err == nil {
			uid = n
		} else {
			return 0, 0, p.Fail(1, "invalid user: ‘%s’", spec)
		}
	}
	if group != "" {
		n, ok := p.Machine.groupID(group)
		if !ok {
			return 0, 0, p.Fail(1, "invalid group: ‘%s’", spec)
		}
		gid = n
	}
	return uid, gid, 0
}

func runTouch(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("acmd:r:t:h", "no-create=c", "date=d", "reference=r")
	if !ok {
		return 1
	}
	at := p.Machine.Now()
	switch {
	case opts.has("r"):
		info, err := p.view.Stat(opts.last("r"))
		if err != nil {
			return p.Fail(1, "failed to get attributes of '%s': %s", opts.last("r"), Reason(err))
		}
		at = info.ModTime
	case opts.has("d"):
		parsed, ok := parseDate(opts.last("d"), at)
		if !ok {
			return p.Fail(1, "invalid date format ‘%s’", opts.last("d"))
		}
		at = parsed
	}
	status := 0
	for _, path := range paths {
		if _, err := p.view.Stat(path); errors.Is(err, fs.ErrNotExist) {
			if opts.has("c") {
				continue
			}
			f, err := p.view.Open(path, os.O_WRONLY|os.O_CREATE, 0o666)
			if err != nil {
				status = p.Fail(1, "cannot touch '%s': %s", path, Reason(err))
				continue
			}
			f.Close()
			if !opts.has("r", "d") {
				continue
			}
		}
		if err := p.view.Chtimes(path, at, at); err != nil {
			status = p.Fail(1, "cannot touch '%s': %s", path, Reason(err))
		}
	}
	return status
}

func runUnlink(_ context.Context, p *Proc) int {
	if len(p.Argv) != 2 {
		return p.Fail(1, "missing operand")
	}
	if err := p.view.Remove(p.Argv[1]); err != nil {
		return p.Fail(1, "cannot unlink '%s': %s", p.Argv[1], Reason(err))
	}
	return 0
}
