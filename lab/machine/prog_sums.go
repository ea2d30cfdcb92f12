package machine

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"io"
	"os"
	"strconv"
	"strings"
)

func runBase64(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("dw:i", "decode=d", "wrap=w", "ignore-garbage=i")
	if !ok {
		return 1
	}
	width, err := strconv.Atoi(cmp.Or(opts.last("w"), "76"))
	if err != nil {
		return p.Fail(1, "invalid wrap size: ‘%s’", opts.last("w"))
	}
	status := 0
	read := p.inputs(paths, func(_ string, c []byte) {
		if opts.has("d") {
			out, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(c)), ""))
			p.Stdout.Write(out)
			if err != nil {
				status = p.Fail(1, "invalid input")
			}
			return
		}
		text := base64.StdEncoding.EncodeToString(c)
		for width > 0 && len(text) > width {
			p.Println(text[:width])
			text = text[width:]
		}
		if text != "" {
			io.WriteString(p.Stdout, text)
			if width > 0 {
				p.Println("")
			}
		}
	})
	return max(status, boolStatus(read))
}

// sumProgram makes sha256sum and its like.
func sumProgram(newHash func() hash.Hash) Program {
	return func(_ context.Context, p *Proc) int {
		opts, paths, ok := p.getopt("cbtwz", "check=c", "quiet", "status", "binary=b", "strict", "ignore-missing")
		if !ok {
			return 1
		}
		if opts.has("c") {
			return p.checkSums(newHash, paths, opts)
		}
		if len(paths) == 0 {
			paths = []string{"-"}
		}
		status := 0
		for _, path := range paths {
			h := newHash()
			if err := p.copyFile(path, h); err != nil {
				p.Errorf("%s: %s", path, Reason(err))
				status = 1
				continue
			}
			p.Printf("%s  %s\n", hex.EncodeToString(h.Sum(nil)), path)
		}
		return status
	}
}

func (p *Proc) checkSums(newHash func() hash.Hash, paths []string, opts flags) int {
	bad, unreadable := 0, 0
	p.inputs(paths, func(_ string, c []byte) {
		for _, line := range lines(c) {
			want, path, ok := strings.Cut(line, " ")
			if !ok {
				continue
			}
			path = path[1:]
			h := newHash()
			if err := p.copyFile(path, h); err != nil {
				if opts.has("ignore-missing") {
					continue
				}
				p.Errorf("%s: %s", path, Reason(err))
				unreadable++
				if !opts.has("status") {
					p.Printf("%s: FAILED open or read\n", path)
				}
				continue
			}
			good := hex.EncodeToString(h.Sum(nil)) == strings.ToLower(want)
			if !good {
				bad++
			}
			switch {
			case opts.has("status") || good && opts.has("quiet"):
			case good:
				p.Printf("%s: OK\n", path)
			default:
				p.Printf("%s: FAILED\n", path)
			}
		}
	})
	if bad > 0 && !opts.has("status") {
		p.Errorf("WARNING: %d computed checksum%s did NOT match", bad, map[bool]string{true: "", false: "s"}[bad == 1])
	}
	return boolStatus(bad+unreadable == 0)
}

// runHexdump is od -An -tx1 and xxd -p, the forms that scripts use to read random bytes.
func runHexdump(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("A:t:N:vpc:l:n:", "read-bytes=N")
	if !ok {
		return 1
	}
	limit := -1
	if n, err := strconv.Atoi(cmp.Or(opts.last("N"), opts.last("l"))); err == nil {
		limit = n
	}
	in := p.Stdin
	if len(paths) > 0 && paths[0] != "-" {
		f, err := p.Open(paths[0], os.O_RDONLY, 0)
		if err != nil {
			return p.Fail(1, "%s: %s", paths[0], Reason(err))
		}
		defer f.Close()
		in = f
	}
	if limit >= 0 {
		in = io.LimitReader(in, int64(limit))
	}
	content, err := io.ReadAll(in)
	if err != nil {
		return 1
	}
	if p.Name() == "xxd" {
		p.Println(hex.EncodeToString(content))
		return 0
	}
	for i := 0; i < len(content); i += 16 {
		for _, b := range content[i:min(i+16, len(content))] {
			p.Printf(" %02x", b)
		}
		p.Println("")
	}
	return 0
}
