package machine

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/vfs"
)

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
