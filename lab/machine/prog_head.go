package machine

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// count reads -n NUM or the obsolete -NUM.
func (p *Proc) countArgs(spec string, long ...string) (flags, []string, bool) {
	args := slices.Clone(p.Args())
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && isDigit(args[0][1]) {
		args = append([]string{"-n", args[0][1:]}, args[1:]...)
	}
	return p.getoptOf(args, spec, long...)
}

func runHead(_ context.Context, p *Proc) int {
	opts, paths, ok := p.countArgs("n:c:qv", "lines=n", "bytes=c", "quiet=q")
	if !ok {
		return 1
	}
	count, what := cmp.Or(opts.last("c"), opts.last("n"), "10"), "lines"
	if opts.has("c") {
		what = "bytes"
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return p.Fail(1, "invalid number of %s: ‘%s’", what, count)
	}
	if len(paths) == 0 {
		paths = []string{"-"}
	}
	status := 0
	for i, path := range paths {
		in, done, err := p.openInput(path)
		if err != nil {
			status = p.Fail(1, "cannot open '%s' for reading: %s", path, Reason(err))
			continue
		}
		if len(paths) > 1 && !opts.has("q") || opts.has("v") {
			if i > 0 {
				p.Println("")
			}
			p.Printf("==> %s <==\n", path)
		}
		readErr, writeErr := p.head(in, n, opts.has("c"))
		done()
		if readErr != nil {
			status = p.Fail(1, "error reading '%s': %s", path, Reason(readErr))
		}
		if writeErr != nil {
			return p.Fail(1, "error writing 'standard output': %s", Reason(writeErr))
		}
	}
	return status
}

// openInput opens a file for reading, or gives standard input for "-".
func (p *Proc) openInput(path string) (in io.Reader, done func(), err error) {
	if path == "-" {
		return p.Stdin, func() {}, nil
	}
	f, err := p.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { f.Close() }, nil
}

// head prints the beginning of in, reading no more than it must; a negative n leaves that much off the end. It returns
// the error of reading or of writing.
func (p *Proc) head(in io.Reader, n int, bytewise bool) (readErr, writeErr error) {
	if n < 0 {
		content, err := readAll(in)
		if err != nil {
			return err, nil
		}
		_, err = p.Stdout.Write(allBut(content, -n, bytewise))
		return nil, err
	}
	if bytewise {
		in = io.LimitReader(in, int64(n))
		n = 1 << 62
	}
	r := bufio.NewReader(in)
	for range n {
		line, err := r.ReadSlice('\n')
		for errors.Is(err, bufio.ErrBufferFull) {
			if _, err := p.Stdout.Write(line); err != nil {
				return nil, err
			}
			line, err = r.ReadSlice('\n')
		}
		if _, err := p.Stdout.Write(line); err != nil {
			return nil, err
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil, nil
		case err != nil:
			return err, nil
		}
	}
	return nil, nil
}

// allBut cuts n lines (or bytes) off the end.
func allBut(content []byte, n int, bytewise bool) []byte {
	if bytewise {
		return content[:max(0, len(content)-n)]
	}
	parts := bytes.SplitAfter(content, []byte("\n"))
	if len(parts[len(parts)-1]) == 0 {
		parts = parts[:len(parts)-1]
	}
	return bytes.Join(parts[:max(0, len(parts)-n)], nil)
}

func runTail(ctx context.Context, p *Proc) int {
	opts, paths, ok := p.countArgs("n:c:fFqv", "lines=n", "bytes=c", "follow=f", "quiet=q", "pid=")
	if !ok {
		return 1
	}
	count := cmp.Or(opts.last("n"), opts.last("c"), "10")
	n, err := strconv.Atoi(strings.TrimPrefix(count, "+"))
	if err != nil {
		return p.Fail(1, "invalid number of lines: ‘%s’", count)
	}
	fromStart := strings.HasPrefix(count, "+")
	n = max(n, -n)
	shown := 0
	status := boolStatus(p.inputs(paths, func(name string, c []byte) {
		if len(paths) > 1 && !opts.has("q") {
			if shown++; shown > 1 {
				p.Println("")
			}
			p.Printf("==> %s <==\n", name)
		}
		p.Stdout.Write(tail(c, n, fromStart, opts.has("c")))
	}))
	if opts.has("f", "F") && len(paths) == 1 {
		return p.follow(ctx, paths[0])
	}
	return status
}

func tail(c []byte, n int, fromStart, bytewise bool) []byte {
	if bytewise {
		if fromStart {
			return c[min(max(n-1, 0), len(c)):]
		}
		return c[max(0, len(c)-n):]
	}
	parts := bytes.SplitAfter(c, []byte("\n"))
	if len(parts[len(parts)-1]) == 0 {
		parts = parts[:len(parts)-1]
	}
	if fromStart {
		return bytes.Join(parts[min(max(n-1, 0), len(parts)):], nil)
	}
	return bytes.Join(parts[max(0, len(parts)-n):], nil)
}

// follow prints what is added to a file until the program is ended.
func (p *Proc) follow(ctx context.Context, path string) int {
	content, _ := p.ReadInput(path)
	at := len(content)
	for {
		if p.Machine.Sleep(ctx, 500*time.Millisecond) != nil {
			return 0
		}
		content, err := p.ReadInput(path)
		if err != nil {
			continue
		}
		if len(content) < at {
			at = 0
		}
		if _, err := p.Stdout.Write(content[at:]); err != nil {
			return 1
		}
		at = len(content)
	}
}
