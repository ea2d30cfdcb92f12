package machine

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
)

// grep is one run of the program.
type grep struct {
	p       *Proc
	opts    flags
	match   func(line string) [][]int
	max     int
	after   int
	before  int
	names   bool
	found   bool
	problem bool
}

func runGrep(_ context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("EFGPqvciInohHlLxwsrae:f:m:A:B:C:Rz", "extended-regexp=E", "fixed-strings=F", "quiet=q", "silent=q", "invert-match=v", "count=c",
		"ignore-case=i", "line-number=n", "only-matching=o", "no-filename=h", "with-filename=H", "files-with-matches=l", "files-without-match=L", "line-regexp=x",
		"word-regexp=w", "no-messages=s", "recursive=r", "text=a", "regexp=e", "file=f", "max-count=m", "after-context=A", "before-context=B", "context=C", "color=", "include=")
	if !ok {
		return 2
	}
	patterns, rest, code := grepPatterns(p, opts, rest)
	if code != 0 {
		return code
	}
	g := &grep{p: p, opts: opts, max: -1}
	if n, err := strconv.Atoi(opts.last("m")); err == nil {
		g.max = n
	}
	for _, c := range []struct {
		name string
		to   *int
	}{{"C", &g.after}, {"C", &g.before}, {"A", &g.after}, {"B", &g.before}} {
		if n, err := strconv.Atoi(opts.last(c.name)); err == nil {
			*c.to = n
		}
	}
	fixed := opts.has("F") || p.Name() == "fgrep"
	extended := opts.has("E", "P") || p.Name() == "egrep"
	re, err := grepRegexp(patterns, fixed, extended, opts)
	if err != nil {
		return p.Fail(2, "%v", err)
	}
	g.match = func(line string) [][]int { return re.FindAllStringIndex(line, -1) }
	paths := rest
	if len(paths) == 0 {
		paths = []string{"-"}
		if opts.has("r", "R") {
			paths = []string{"."}
		}
	}
	if opts.has("r", "R") {
		paths = p.walkFiles(paths)
		g.names = true
	}
	g.names = (g.names || len(paths) > 1 || opts.has("H")) && !opts.has("h")
	for _, path := range paths {
		if g.file(path) {
			return 0
		}
	}
	if g.problem && !(g.found && opts.has("q")) {
		return 2
	}
	return boolStatus(g.found)
}

func grepPatterns(p *Proc, opts flags, rest []string) (patterns, paths []string, code int) {
	for _, e := range opts.all("e") {
		patterns = append(patterns, strings.Split(e, "\n")...)
	}
	for _, f := range opts.all("f") {
		content, err := p.ReadInput(f)
		if err != nil {
			return nil, nil, p.Fail(2, "%s: %s", f, Reason(err))
		}
		patterns = append(patterns, lines(content)...)
	}
	if !opts.has("e", "f") {
		if len(rest) == 0 {
			io := "Usage: grep [OPTION]... PATTERNS [FILE]...\nTry 'grep --help' for more information.\n"
			p.Stderr.Write([]byte(io))
			return nil, nil, 2
		}
		patterns, rest = strings.Split(rest[0], "\n"), rest[1:]
	}
	return patterns, rest, 0
}

func grepRegexp(patterns []string, fixed, extended bool, opts flags) (*regexp.Regexp, error) {
	parts := make([]string, 0, len(patterns))
	for _, text := range patterns {
		part := regexp.QuoteMeta(text)
		if !fixed {
			var err error
			if part, err = translateRegexp(text, extended); err != nil {
				return nil, err
			}
		}
		switch {
		case opts.has("x"):
			part = "^(?:" + part + ")$"
		case opts.has("w"):
			part = `\b(?:` + part + `)\b`
		}
		parts = append(parts, "(?:"+part+")")
	}
	if len(parts) == 0 {
		parts = []string{`[^\x00-\x{10FFFF}]`} // no pattern matches nothing
	}
	expr := strings.Join(parts, "|")
	if opts.has("i") {
		expr = "(?i)" + expr
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, errors.New(regexpError(err))
	}
	re.Longest()
	return re, nil
}

// file searches one file; true ends the program at once.
func (g *grep) file(path string) bool {
	content, err := g.p.ReadInput(path)
	if err != nil {
		if IsCanceled(err) {
			return false
		}
		g.problem = true
		if !g.opts.has("s") {
			g.p.Errorf("%s: %s", path, Reason(err))
		}
		return false
	}
	name := path
	if path == "-" {
		name = "(standard input)"
	}
	if bytes.IndexByte(content, 0) >= 0 && !g.opts.has("a", "q", "c", "l", "L", "o") {
		if len(g.match(string(content))) > 0 {
			g.found = true
			g.p.Printf("grep: %s: binary file matches\n", name)
		}
		return false
	}
	count, done := g.search(name, lines(content))
	if done {
		return true
	}
	switch {
	case g.opts.has("q"):
	case g.opts.has("l"):
		if count > 0 {
			g.p.Println(name)
		}
	case g.opts.has("L"):
		if count == 0 {
			g.p.Println(name)
		}
	case g.opts.has("c"):
		g.p.Println(g.prefix(name, 0, ":") + strconv.Itoa(count))
	}
	return false
}

func (g *grep) prefix(name string, line int, sep string) string {
	out := ""
	if g.names {
		out = name + sep
	}
	if line > 0 && g.opts.has("n") {
		out += strconv.Itoa(line) + sep
	}
	return out
}

func (g *grep) search(name string, all []string) (count int, done bool) {
	silent := g.opts.has("q", "l", "L", "c")
	printed, last := -1, -1
	show := func(i int, sep string) {
		if i > printed {
			if (g.before > 0 || g.after > 0) && printed >= 0 && i > printed+1 {
				g.p.Println("--")
			}
			g.p.Println(g.prefix(name, i+1, sep) + all[i])
			printed = i
		}
	}
	for i, line := range all {
		found := g.match(line)
		if (len(found) > 0) == g.opts.has("v") {
			if last >= 0 && i <= last+g.after && !silent && !g.opts.has("o") {
				show(i, "-")
			}
			continue
		}
		if g.max >= 0 && count >= g.max {
			break
		}
		count++
		g.found = true
		last = i
		switch {
		case g.opts.has("q"):
			return count, true
		case silent:
		case g.opts.has("o"):
			for _, at := range found {
				if at[0] < at[1] {
					g.p.Println(g.prefix(name, i+1, ":") + line[at[0]:at[1]])
				}
			}
		default:
			for j := max(0, i-g.before); j < i; j++ {
				show(j, "-")
			}
			show(i, ":")
		}
	}
	return count, false
}

// walkFiles lists the regular files below paths.
func (p *Proc) walkFiles(paths []string) []string {
	var out []string
	for _, path := range paths {
		info, err := p.view.Stat(path)
		if err != nil || !info.Mode.IsDir() {
			out = append(out, path)
			continue
		}
		list, err := p.view.ReadDir(path)
		if err != nil {
			p.Errorf("%s: %s", path, Reason(err))
			continue
		}
		for _, entry := range list {
			full := strings.TrimRight(path, "/") + "/" + entry.Name
			if path == "." {
				full = entry.Name
			}
			switch {
			case entry.Mode.IsDir():
				out = append(out, p.walkFiles([]string{full})...)
			case entry.Mode.IsRegular():
				out = append(out, full)
			}
		}
	}
	return out
}
