package machine

import (
	"context"
	"fmt"
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
