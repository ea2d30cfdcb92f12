package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pxrun/pxrun/lab/vfs"
)

// place is one side of a copy between machines.
type copyPlace struct {
	view   *vfs.View
	path   string
	remote bool
	host   string
}

// copySide resolves [user@]host:path, logging in where it names another machine.
func (p *Proc) copySide(ctx context.Context, c *sshClient, text string) (copyPlace, int) {
	host, path, remote := strings.Cut(text, ":")
	if !remote || strings.Contains(host, "/") {
		return copyPlace{view: p.view, path: text}, 0
	}
	path = strings.TrimPrefix(path, ":")
	side := *c
	side.user = ""
	side.target(host)
	m, u, code := side.login(ctx)
	if code != 0 {
		return copyPlace{}, code
	}
	view := m.ViewOf(u)
	view.Ctx, view.Actor = ctx, p
	if path == "" {
		path = "."
	}
	return copyPlace{view: view, path: path, remote: true, host: side.host}, 0
}

// copyAcross copies a file or tree from one view to another.
func copyAcross(from *vfs.View, src string, to *vfs.View, dst string, recursive, preserve bool) error {
	info, err := from.Stat(src)
	if err != nil {
		return err
	}
	if info.Mode.IsDir() {
		if !recursive {
			return fmt.Errorf("not a regular file")
		}
		if err := to.Mkdir(dst, info.Mode.Perm()); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		list, err := from.ReadDir(src)
		if err != nil {
			return err
		}
		for _, entry := range list {
			if err := copyAcross(from, src+"/"+entry.Name, to, dst+"/"+entry.Name, true, preserve); err != nil {
				return err
			}
		}
		return nil
	}
	content, err := from.ReadFile(src)
	if err != nil {
		return err
	}
	if err := to.WriteFile(dst, content, info.Mode.Perm()); err != nil {
		return err
	}
	if !preserve {
		return nil
	}
	if err := to.Chmod(dst, info.Mode); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return to.Chtimes(dst, info.ModTime, info.ModTime)
}

// inFolder is the path of a copy within a folder, or the target itself.
func inFolder(view *vfs.View, source, target string) string {
	if info, err := view.Stat(target); err == nil && info.Mode.IsDir() {
		return strings.TrimRight(target, "/") + "/" + lastName(source)
	}
	return target
}

func runScp(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("346ABCpqRrsTvc:D:F:i:J:l:o:P:S:X:O")
	if !ok || len(rest) < 2 {
		return 1
	}
	c := p.newSSHClient()
	c.quiet = opts.has("q")
	c.identities = opts.all("i")
	for _, o := range opts.all("o") {
		c.set(o)
	}
	if port := opts.last("P"); port != "" {
		c.set("Port=" + port)
	}
	target, code := p.copySide(ctx, c, rest[len(rest)-1])
	if code != 0 {
		return code
	}
	status := 0
	for _, text := range rest[:len(rest)-1] {
		source, code := p.copySide(ctx, c, text)
		if code != 0 {
			return code
		}
		to := inFolder(target.view, source.path, target.path)
		if err := copyAcross(source.view, source.path, target.view, to, opts.has("r"), opts.has("p")); err != nil {
			where := source.path
			if source.remote {
				where = "stat remote: " + source.path
			}
			status = p.Fail(1, "%s: %s", where, Reason(err))
		}
	}
	return status
}

// runRsync copies files and trees; of its options those that choose what to copy are ignored.
func runRsync(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("avzrlptgoDHAXqncuhe:LWSPix", "rsh=e", "archive=a", "delete", "quiet=q", "inplace", "exclude=", "include=", "timeout=", "dry-run=n", "numeric-ids", "rsync-path=", "chmod=", "stats", "progress", "no-owner", "no-group", "checksum=c", "verbose=v", "compress=z", "relative", "partial", "whole-file=W", "sparse=S", "existing", "ignore-existing", "info=", "out-format=")
	if !ok || len(rest) < 2 {
		return p.Fail(1, "syntax or usage error (code 1)")
	}
	c := p.newSSHClient()
	words := strings.Fields(opts.last("e"))
	for i := 1; i < len(words); i++ {
		if words[i] == "-o" && i+1 < len(words) {
			i++
			c.set(words[i])
		} else if words[i] == "-i" && i+1 < len(words) {
			i++
			c.identities = append(c.identities, words[i])
		}
	}
	failed := func(code int) int {
		fmt.Fprintf(p.Stderr, "rsync: connection unexpectedly closed (0 bytes received so far) [Receiver]\nrsync error: unexplained error (code %d) at io.c(232) [Receiver=3.4.1]\n", code)
		return code
	}
	target, code := p.copySide(ctx, c, rest[len(rest)-1])
	if code != 0 {
		return failed(code)
	}
	status := 0
	for _, text := range rest[:len(rest)-1] {
		source, code := p.copySide(ctx, c, text)
		if code != 0 {
			return failed(code)
		}
		if opts.has("n") {
			continue
		}
		to := target.path
		info, err := source.view.Stat(strings.TrimRight(source.path, "/"))
		if err == nil && !(info.Mode.IsDir() && strings.HasSuffix(source.path, "/")) {
			to = inFolder(target.view, source.path, target.path)
		}
		if err == nil {
			err = copyAcross(source.view, strings.TrimRight(source.path, "/"), target.view, strings.TrimRight(to, "/"), opts.has("a", "r"), opts.has("a", "p", "t"))
		}
		if err != nil {
			fmt.Fprintf(p.Stderr, "rsync: [sender] link_stat \"%s\" failed: %s (2)\nrsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1338) [sender=3.4.1]\n", source.path, Reason(err))
			status = 23
		}
	}
	return status
}
