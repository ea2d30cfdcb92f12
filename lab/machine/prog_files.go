package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

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

func runMktemp(_ context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("dqup:t", "directory=d", "dry-run=u", "tmpdir=p", "quiet=q", "suffix=")
	if !ok {
		return 1
	}
	template := "tmp.XXXXXXXXXX"
	dir := p.Env["TMPDIR"]
	if dir == "" {
		dir = "/tmp"
	}
	if opts.last("p") != "" {
		dir = opts.last("p")
	}
	inDir := len(rest) == 0 || opts.has("p", "t")
	if len(rest) > 0 {
		template = rest[0]
	}
	end := len(template)
	if i := strings.LastIndexByte(template, 'X'); i >= 0 {
		end = i + 1
	}
	start := end
	for start > 0 && template[start-1] == 'X' {
		start--
	}
	if end-start < 3 {
		return p.Fail(1, "too few X's in template ‘%s’", template)
	}
	if inDir {
		template, start, end = dir+"/"+template, start+len(dir)+1, end+len(dir)+1
	}
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	for range 100 {
		random := make([]byte, end-start)
		p.Machine.Random(random)
		for i := range random {
			random[i] = letters[int(random[i])%len(letters)]
		}
		path := template[:start] + string(random) + template[end:] + opts.last("suffix")
		var err error
		switch {
		case opts.has("u"):
		case opts.has("d"):
			err = p.view.Mkdir(path, 0o700)
		default:
			var f vfs.File
			if f, err = p.view.Open(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
				f.Close()
			}
		}
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			kind := "file"
			if opts.has("d") {
				kind = "directory"
			}
			return p.Fail(1, "failed to create %s via template ‘%s’: %s", kind, template, Reason(err))
		}
		p.Println(path)
		return 0
	}
	return 1
}

func runTruncate(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("cs:r:", "size=s", "no-create=c")
	if !ok {
		return 1
	}
	size, valid := parseSize(opts.last("s"))
	if !valid {
		return p.Fail(1, "Invalid number: ‘%s’", opts.last("s"))
	}
	for _, path := range paths {
		f, err := p.view.Open(path, os.O_WRONLY|os.O_CREATE, 0o666)
		if err == nil {
			err = f.(vfs.Truncater).Truncate(size)
			f.Close()
		}
		if err != nil {
			return p.Fail(1, "cannot open '%s' for writing: %s", path, Reason(err))
		}
	}
	return 0
}

// parseSize reads a number of bytes with a unit.
func parseSize(text string) (int64, bool) {
	units := map[string]int64{"": 1, "K": 1 << 10, "k": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "KB": 1000, "kB": 1000, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "B": 1, "c": 1}
	end := 0
	for end < len(text) && isDigit(text[end]) {
		end++
	}
	n, err := strconv.ParseInt(text[:end], 10, 64)
	unit, known := units[text[end:]]
	if err != nil || !known || n > 1<<40 || n*unit > 1<<34 {
		return 0, false
	}
	return n * unit, true
}

// runDd copies blocks: if=, of=, bs=, count=.
func runDd(ctx context.Context, p *Proc) int {
	in, out, block, count := p.Stdin, p.Stdout, int64(512), int64(-1)
	for _, arg := range p.Args() {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "if":
			f, err := p.Open(value, os.O_RDONLY, 0)
			if err != nil {
				return p.Fail(1, "failed to open '%s': %s", value, Reason(err))
			}
			defer f.Close()
			in = f
		case "of":
			f, err := p.Open(value, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
			if err != nil {
				return p.Fail(1, "failed to open '%s': %s", value, Reason(err))
			}
			defer f.Close()
			out = f
		case "bs", "count":
			n, ok := parseSize(value)
			if !ok || n <= 0 && key == "bs" {
				return p.Fail(1, "invalid number: ‘%s’", value)
			}
			if key == "bs" {
				block = min(n, 16<<20)
			} else {
				count = n
			}
		}
	}
	buf := make([]byte, block)
	total := int64(0)
	for blocks := int64(0); (count < 0 || blocks < count) && !ended(ctx); blocks++ {
		n, err := io.ReadFull(in, buf)
		total += int64(n)
		if _, werr := out.Write(buf[:n]); werr != nil && n > 0 {
			return p.Fail(1, "error writing: %s", Reason(werr))
		}
		if err != nil {
			break
		}
	}
	fmt.Fprintf(p.Stderr, "%d bytes copied, 0.001 s\n", total)
	return 0
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

func runBasename(_ context.Context, p *Proc) int {
	opts, args, ok := p.getopt("as:", "suffix=s", "multiple=a")
	if !ok || len(args) == 0 {
		return p.Fail(1, "missing operand")
	}
	suffix := opts.last("s")
	if !opts.has("a", "s") {
		if len(args) > 1 {
			suffix = args[1]
		}
		args = args[:1]
	}
	for _, path := range args {
		name := lastName(path)
		if name == "" && path != "" {
			name = "/"
		}
		if name != suffix {
			name = strings.TrimSuffix(name, suffix)
		}
		p.Println(name)
	}
	return 0
}

func runDirname(_ context.Context, p *Proc) int {
	if len(p.Argv) < 2 {
		return p.Fail(1, "missing operand")
	}
	for _, path := range p.Args() {
		trimmed := strings.TrimRight(path, "/")
		if trimmed == "" && path != "" {
			p.Println("/")
			continue
		}
		dir := strings.TrimRight(parentOf(trimmed), "/")
		if dir == "" {
			dir = "/"
		}
		p.Println(dir)
	}
	return 0
}

func runReadlink(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("femnqsvz", "canonicalize=f", "canonicalize-existing=e", "canonicalize-missing=m", "no-newline=n", "quiet=q")
	if !ok {
		return 1
	}
	if len(paths) == 0 {
		return p.Fail(1, "missing operand")
	}
	canonical := opts.has("f", "e", "m") || p.Name() == "realpath"
	end := "\n"
	if opts.has("n") {
		end = ""
	}
	status := 0
	for _, path := range paths {
		var text string
		var err error
		if canonical {
			text, err = p.view.Realpath(path, !opts.has("e"))
			if err != nil && opts.has("m") {
				text, err = vfs.Clean(p.Dir, path), nil
			}
		} else {
			text, err = p.view.Readlink(path)
		}
		if err != nil {
			if p.Name() == "realpath" && !opts.has("q") {
				p.Errorf("%s: %s", path, Reason(err))
			}
			status = 1
			continue
		}
		io.WriteString(p.Stdout, text+end)
	}
	return status
}

// parseDate reads the dates that scripts give to date -d and touch -d.
func parseDate(text string, now time.Time) (time.Time, bool) {
	if sec, ok := strings.CutPrefix(text, "@"); ok {
		n, err := strconv.ParseFloat(sec, 64)
		whole := int64(n)
		return time.Unix(whole, int64((n-float64(whole))*1e9)), err == nil
	}
	switch text {
	case "now", "":
		return now, true
	case "today":
		return now, true
	case "yesterday":
		return now.AddDate(0, 0, -1), true
	case "tomorrow":
		return now.AddDate(0, 0, 1), true
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02", "Jan _2 15:04:05 2006 MST", time.RFC1123, "2006-01-02 15:04:05 MST"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	return relativeDate(text, now)
}

func relativeDate(text string, now time.Time) (time.Time, bool) {
	fields := strings.Fields(strings.Replace(text, "+", "", 1))
	ago := len(fields) == 3 && fields[2] == "ago"
	if len(fields) != 2 && !ago {
		return time.Time{}, false
	}
	n, err := strconv.Atoi(fields[0])
	if err != nil {
		return time.Time{}, false
	}
	if ago {
		n = -n
	}
	switch strings.TrimSuffix(fields[1], "s") {
	case "second", "sec":
		return now.Add(time.Duration(n) * time.Second), true
	case "minute", "min":
		return now.Add(time.Duration(n) * time.Minute), true
	case "hour":
		return now.Add(time.Duration(n) * time.Hour), true
	case "day":
		return now.AddDate(0, 0, n), true
	case "week":
		return now.AddDate(0, 0, 7*n), true
	case "month":
		return now.AddDate(0, n, 0), true
	case "year":
		return now.AddDate(n, 0, 0), true
	}
	return time.Time{}, false
}
