package machine

import (
	"context"
	"io"
	"regexp"
	"strings"

	"github.com/pxrun/pxrun/lab/machine/awk"
)

// runAwk runs a program over its files, read one after the other.
func runAwk(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+F:v:f:", "field-separator=F", "assign=v", "file=f", "posix")
	if !ok {
		return 2
	}
	var program []string
	for _, path := range opts.all("f") {
		content, err := p.ReadInput(path)
		if err != nil {
			return p.Fail(2, "cannot open %s (%s)", path, Reason(err))
		}
		program = append(program, string(content))
	}
	if program == nil {
		if len(rest) == 0 {
			io.WriteString(p.Stderr, "usage: awk [-F fs][-v var=value][prog | -f progfile][file ...]\n")
			return 2
		}
		program, rest = rest[:1], rest[1:]
	}
	o := awk.Options{
		Program: strings.Join(program, "\n"), Output: p.Stdout, Assign: opts.all("v"), FieldSeparator: opts.last("F"), Env: p.Env, Canceled: func() bool { return ended(ctx) },
		Regexp: func(text string) (*regexp.Regexp, error) { return posixRegexp(text, true, false) },
	}
	if o.FieldSeparator == "t" {
		o.FieldSeparator = "\t"
	}
	var inputs []io.Reader
	status := 0
	for _, path := range rest {
		if name, _, ok := strings.Cut(path, "="); ok && !strings.Contains(name, "/") {
			o.Assign = append(o.Assign, path)
			continue
		}
		in, done, err := p.openInput(path)
		if err != nil {
			status = p.Fail(2, "cannot open %s (%s)", path, Reason(err))
			continue
		}
		defer done()
		o.Filename = path
		inputs = append(inputs, in)
	}
	switch {
	case len(inputs) > 0:
		o.Input = io.MultiReader(inputs...)
	case status != 0:
		return status
	default:
		o.Input = p.Stdin
	}
	code, err := awk.Run(o)
	if err != nil && !ended(ctx) {
		return p.Fail(2, "%v", err)
	}
	return max(code, status)
}
