package machine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/pxrun/pxrun/lab/vfs"
)

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
