package machine

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/aymanbagabas/go-udiff"
)

// runDiff compares two files line by line, in the normal or the unified form.
func runDiff(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("uqNrwbaU:sB", "unified=u", "brief=q", "new-file=N", "recursive=r", "label=", "report-identical-files=s")
	if !ok {
		return 2
	}
	if len(paths) != 2 {
		return p.Fail(2, "missing operand after '%s'", strings.Join(paths, " "))
	}
	var text [2]string
	for i, path := range paths {
		content, err := p.ReadInput(path)
		if err != nil && !opts.has("N") {
			return p.Fail(2, "%s: %s", path, Reason(err))
		}
		text[i] = string(content)
	}
	if text[0] == text[1] {
		if opts.has("s") {
			p.Printf("Files %s and %s are identical\n", paths[0], paths[1])
		}
		return 0
	}
	labels := append(opts.all("label"), paths...)
	if len(opts.all("label")) == 1 {
		labels = []string{opts.last("label"), paths[1]}
	}
	switch {
	case opts.has("q"):
		p.Printf("Files %s and %s differ\n", paths[0], paths[1])
	case opts.has("u", "U"):
		p.Printf("%s", udiff.Unified(labels[0], labels[1], text[0], text[1]))
	default:
		p.normalDiff(text[0], text[1])
	}
	return 1
}

// normalDiff prints hunks in ed's style.
func (p *Proc) normalDiff(a, b string) {
	unified, err := udiff.ToUnifiedDiff("a", "b", a, udiff.Lines(a, b), 0)
	if err != nil {
		return
	}
	for _, h := range unified.Hunks {
		var old, added []string
		for _, l := range h.Lines {
			text := strings.TrimSuffix(l.Content, "\n")
			switch l.Kind {
			case udiff.Delete:
				old = append(old, text)
			case udiff.Insert:
				added = append(added, text)
			}
		}
		from, to := diffRange(h.FromLine, len(old)), diffRange(h.ToLine, len(added))
		verb := "c"
		switch {
		case len(old) == 0:
			verb, from = "a", fmt.Sprint(h.FromLine-1)
		case len(added) == 0:
			verb, to = "d", fmt.Sprint(h.ToLine-1)
		}
		p.Println(from + verb + to)
		for _, l := range old {
			p.Println("< " + l)
		}
		if verb == "c" {
			p.Println("---")
		}
		for _, l := range added {
			p.Println("> " + l)
		}
	}
}

func diffRange(from, n int) string {
	if n <= 1 {
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d,%d", from, from+n-1)
}

func runCmp(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("sl", "silent=s", "quiet=s")
	if !ok || len(paths) == 0 {
		return 2
	}
	if len(paths) == 1 {
		paths = append(paths, "-")
	}
	var content [2][]byte
	for i, path := range paths[:2] {
		var err error
		if content[i], err = p.ReadInput(path); err != nil {
			if !opts.has("s") {
				p.Errorf("%s: %s", path, Reason(err))
			}
			return 2
		}
	}
	a, b := content[0], content[1]
	if bytes.Equal(a, b) {
		return 0
	}
	if opts.has("s") {
		return 1
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			p.Printf("%s %s differ: char %d, line %d\n", paths[0], paths[1], i+1, 1+bytes.Count(a[:i], []byte("\n")))
			return 1
		}
	}
	short := 0
	if len(b) < len(a) {
		short = 1
	}
	p.Errorf("EOF on %s after byte %d, line %d", paths[short], len(content[short]), bytes.Count(content[short], []byte("\n")))
	return 1
}

func runComm(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("123")
	if !ok || len(paths) != 2 {
		return p.Fail(1, "missing operand")
	}
	var sides [2][]string
	for i, path := range paths {
		content, err := p.ReadInput(path)
		if err != nil {
			return p.Fail(1, "%s: %s", path, Reason(err))
		}
		sides[i] = lines(content)
	}
	a, b := sides[0], sides[1]
	show := func(column string, indent int, line string) {
		if !opts.has(column) {
			for c := 1; c <= indent; c++ {
				if !opts.has(strconv.Itoa(c)) {
					line = "\t" + line
				}
			}
			p.Println(line)
		}
	}
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			show("1", 0, a[0])
			a = a[1:]
		case len(a) == 0 || b[0] < a[0]:
			show("2", 1, b[0])
			b = b[1:]
		default:
			show("3", 2, a[0])
			a, b = a[1:], b[1:]
		}
	}
	return 0
}
