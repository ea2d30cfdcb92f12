package machine

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
)

// sortKey is one -k of sort.
type sortKey struct {
	from, to                                int // fields, from 1; to 0 is the end of the line
	numeric, reverse, version, fold, blanks bool
}

func parseSortKey(text string, base sortKey) (sortKey, bool) {
	k := base
	modified := false
	part := func(t string) (int, bool) {
		end := 0
		for end < len(t) && (isDigit(t[end]) || t[end] == '.') {
			end++
		}
		number, _, _ := strings.Cut(t[:end], ".")
		n, err := strconv.Atoi(number)
		for _, c := range t[end:] {
			if !modified {
				k.numeric, k.reverse, k.version, k.fold = false, false, false, false
				modified = true
			}
			switch c {
			case 'n', 'g', 'h':
				k.numeric = true
			case 'r':
				k.reverse = true
			case 'V':
				k.version = true
			case 'f':
				k.fold = true
			case 'b':
				k.blanks = true
			default:
				return 0, false
			}
		}
		return n, err == nil
	}
	from, to, ranged := strings.Cut(text, ",")
	var ok bool
	if k.from, ok = part(from); !ok || k.from < 1 {
		return k, false
	}
	if ranged {
		if k.to, ok = part(to); !ok {
			return k, false
		}
	}
	return k, true
}

// extract cuts the key's part out of a line.
func (k sortKey) extract(line, sep string) string {
	if k.from == 0 {
		return line
	}
	var fields []string
	if sep != "" {
		fields = strings.Split(line, sep)
	} else {
		fields = blankFields(line)
	}
	if k.from > len(fields) {
		return ""
	}
	to := len(fields)
	if k.to > 0 {
		to = min(k.to, to)
	}
	if to < k.from {
		return ""
	}
	text := strings.Join(fields[k.from-1:to], sep)
	if k.blanks || k.numeric {
		text = strings.TrimLeft(text, " \t")
	}
	return text
}

// blankFields splits before runs of blanks, which belong to the field that follows.
func blankFields(line string) []string {
	var fields []string
	start, i := 0, 0
	for i < len(line) {
		for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
			i++
		}
		for i < len(line) && line[i] != ' ' && line[i] != '\t' {
			i++
		}
		fields = append(fields, line[start:i])
		start = i
	}
	return fields
}

func (k sortKey) compare(a, b string) int {
	c := 0
	switch {
	case k.numeric:
		c = cmp.Compare(leadingNumber(a), leadingNumber(b))
	case k.version:
		c = CompareVersions(a, b)
	case k.fold:
		c = strings.Compare(strings.ToUpper(a), strings.ToUpper(b))
	default:
		c = strings.Compare(a, b)
	}
	if k.reverse {
		return -c
	}
	return c
}

func leadingNumber(text string) float64 {
	text = strings.TrimLeft(text, " \t")
	end := 0
	for end < len(text) && (isDigit(text[end]) || text[end] == '.' || end == 0 && text[end] == '-') {
		end++
	}
	n, err := strconv.ParseFloat(text[:end], 64)
	if err != nil {
		return 0
	}
	return n
}

func runSort(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("nrufVghbsct:k:o:zdM", "numeric-sort=n", "reverse=r", "unique=u", "version-sort=V", "key=k", "field-separator=t", "output=o", "ignore-case=f", "stable=s", "check=c")
	if !ok {
		return 2
	}
	base := sortKey{numeric: opts.has("n", "g", "h"), reverse: opts.has("r"), version: opts.has("V"), fold: opts.has("f"), blanks: opts.has("b")}
	keys := []sortKey{}
	for _, text := range opts.all("k") {
		k, ok := parseSortKey(text, base)
		if !ok {
			return p.Fail(2, "invalid field specification ‘%s’", text)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		keys = append(keys, base)
	}
	var all []string
	if !p.inputs(paths, func(_ string, c []byte) { all = append(all, lines(c)...) }) {
		return 2
	}
	sep := opts.last("t")
	byKeys := func(a, b string) int {
		for _, k := range keys {
			if c := k.compare(k.extract(a, sep), k.extract(b, sep)); c != 0 {
				return c
			}
		}
		return 0
	}
	full := func(a, b string) int {
		if c := byKeys(a, b); c != 0 || opts.has("u", "s") {
			return c
		}
		if base.reverse {
			return strings.Compare(b, a)
		}
		return strings.Compare(a, b)
	}
	if opts.has("c") {
		return boolStatus(slices.IsSortedFunc(all, full))
	}
	slices.SortStableFunc(all, full)
	if opts.has("u") {
		all = slices.CompactFunc(all, func(a, b string) bool { return byKeys(a, b) == 0 })
	}
	text := strings.Join(all, "\n")
	if len(all) > 0 {
		text += "\n"
	}
	if path := opts.last("o"); path != "" {
		if err := p.view.WriteFile(path, []byte(text), 0o666); err != nil {
			return p.Fail(2, "open failed: %s: %s", path, Reason(err))
		}
		return 0
	}
	if _, err := p.Stdout.Write([]byte(text)); err != nil {
		return 2
	}
	return 0
}

// runTr translates, deletes and squeezes bytes.
func runTr(_ context.Context, p *Proc) int {
	opts, sets, ok := p.getopt("+dsct:C", "delete=d", "squeeze-repeats=s", "complement=c")
	if !ok {
		return 1
	}
	if len(sets) == 0 {
		return p.Fail(1, "missing operand")
	}
	first := trSet(sets[0])
	var second []byte
	if len(sets) > 1 {
		second = trSet(sets[1])
	}
	in := [256]bool{}
	for _, c := range first {
		in[c] = true
	}
	if opts.has("c", "C") {
		first = first[:0]
		for i := range 256 {
			if in[i] = !in[i]; in[i] {
				first = append(first, byte(i))
			}
		}
	}
	table := trTable(first, second)
	squeeze := [256]bool{}
	if opts.has("s") {
		set := first
		if len(sets) > 1 {
			set = second
		}
		for _, c := range set {
			squeeze[c] = true
		}
	}
	translate := !opts.has("d") && len(sets) > 1
	buf := make([]byte, 8<<10)
	last := -1
	for {
		n, err := p.Stdin.Read(buf)
		out := make([]byte, 0, n)
		for _, c := range buf[:n] {
			if opts.has("d") && in[c] {
				continue
			}
			if translate && in[c] {
				c = table[c]
			}
			if squeeze[c] && last == int(c) {
				continue
			}
			last = int(c)
			out = append(out, c)
		}
		if len(out) > 0 {
			if _, werr := p.Stdout.Write(out); werr != nil {
				return 1
			}
		}
		if err != nil {
			return 0
		}
	}
}

func trTable(first, second []byte) [256]byte {
	var table [256]byte
	for i := range table {
		table[i] = byte(i)
	}
	for i, c := range first {
		if len(second) > 0 {
			table[c] = second[min(i, len(second)-1)]
		}
	}
	return table
}

// trClasses are tr's character classes.
var trClasses = map[string]func(byte) bool{
	"upper":  func(c byte) bool { return c >= 'A' && c <= 'Z' },
	"lower":  func(c byte) bool { return c >= 'a' && c <= 'z' },
	"digit":  isDigit,
	"alpha":  func(c byte) bool { return c|32 >= 'a' && c|32 <= 'z' },
	"alnum":  func(c byte) bool { return isDigit(c) || c|32 >= 'a' && c|32 <= 'z' },
	"space":  func(c byte) bool { return c == ' ' || c >= 9 && c <= 13 },
	"blank":  func(c byte) bool { return c == ' ' || c == '\t' },
	"punct":  func(c byte) bool { return c > 32 && c < 127 && !isDigit(c) && !(c|32 >= 'a' && c|32 <= 'z') },
	"print":  func(c byte) bool { return c >= 32 && c < 127 },
	"cntrl":  func(c byte) bool { return c < 32 || c == 127 },
	"xdigit": func(c byte) bool { return isDigit(c) || c|32 >= 'a' && c|32 <= 'f' },
}

// trSet expands a set: ranges, classes and escapes.
func trSet(text string) []byte {
	var set []byte
	for i := 0; i < len(text); i++ {
		if text[i] == '[' && strings.HasPrefix(text[i:], "[:") {
			if end := strings.Index(text[i:], ":]"); end > 0 {
				if class := trClasses[text[i+2:i+end]]; class != nil {
					for c := range 256 {
						if class(byte(c)) {
							set = append(set, byte(c))
						}
					}
					i += end + 1
					continue
				}
			}
		}
		c := text[i]
		if c == '\\' && i+1 < len(text) {
			var b strings.Builder
			used := escape(&b, text[i+1:])
			out := b.String()
			c = out[len(out)-1]
			i += used
		}
		if i+2 < len(text) && text[i+1] == '-' {
			for r := int(c); r <= int(text[i+2]); r++ {
				set = append(set, byte(r))
			}
			i += 2
			continue
		}
		set = append(set, c)
	}
	return set
}
