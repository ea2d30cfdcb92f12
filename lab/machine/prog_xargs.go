package machine

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
)

func runXargs(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+0n:I:rP:L:d:tx", "null=0", "max-args=n", "no-run-if-empty=r", "max-procs=P", "delimiter=d", "max-lines=L")
	if !ok {
		return 1
	}
	content, err := p.ReadInput("-")
	if err != nil {
		return 1
	}
	items := xargsItems(string(content), opts)
	if len(rest) == 0 {
		rest = []string{"echo"}
	}
	if len(items) == 0 && (opts.has("r") || opts.has("I")) {
		return 0
	}
	var runs [][]string
	n, _ := strconv.Atoi(cmp.Or(opts.last("n"), opts.last("L")))
	switch {
	case opts.has("I"):
		for _, item := range items {
			argv := make([]string, len(rest))
			for i := range rest {
				argv[i] = strings.ReplaceAll(rest[i], opts.last("I"), item)
			}
			runs = append(runs, argv)
		}
	case n > 0:
		for chunk := range slices.Chunk(items, n) {
			runs = append(runs, append(slices.Clone(rest), chunk...))
		}
	default:
		runs = append(runs, append(slices.Clone(rest), items...))
	}
	return p.xargsRun(ctx, runs, opts.last("P"))
}

func xargsItems(text string, opts flags) []string {
	sep := ""
	switch {
	case opts.has("0"):
		sep = "\x00"
	case opts.has("d"):
		sep, _ = echoEscapes(opts.last("d"))
	case opts.has("I", "L"):
		sep = "\n"
	}
	if sep == "" {
		return xargsWords(text)
	}
	var items []string
	for _, item := range strings.Split(strings.TrimSuffix(text, sep), sep) {
		if opts.has("I") {
			item = strings.TrimLeft(item, " \t")
		}
		if item != "" {
			items = append(items, item)
		}
	}
	return items
}

// xargsWords splits at blanks, minding quotes and backslashes.
func xargsWords(text string) []string {
	var items []string
	var b strings.Builder
	quote, open := byte(0), false
	flush := func() {
		if open {
			items = append(items, b.String())
		}
		b.Reset()
		open = false
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(c)
		case c == '\'' || c == '"':
			quote, open = c, true
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
			open = true
		case c == ' ' || c == '\t' || c == '\n':
			flush()
		default:
			b.WriteByte(c)
			open = true
		}
	}
	flush()
	return items
}

func (p *Proc) xargsRun(ctx context.Context, runs [][]string, parallel string) int {
	limit, err := strconv.Atoi(parallel)
	if err != nil || limit < 1 {
		limit = 1
	}
	status := 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, limit)
	for _, argv := range runs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			child := p.child(argv)
			code := p.Spawn(ctx, child.Argv, eofReader{}, p.Stdout, p.Stderr)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case code == exitNotFound || code == exitNotExecutable:
				status = code
			case code != 0 && status == 0:
				status = 123
			}
		})
	}
	wg.Wait()
	return status
}
