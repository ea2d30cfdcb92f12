package machine

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/md5"  //nolint:gosec // md5sum is a program that scripts use
	"crypto/sha1" //nolint:gosec // likewise sha1sum
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// textPrograms print, cut and sort text.
func textPrograms() map[string]Program {
	return map[string]Program{
		"cat": runCat, "head": runHead, "tail": runTail, "wc": runWc, "cut": runCut, "sort": runSort, "uniq": runUniq, "tr": runTr,
		"tee": runTee, "base64": runBase64, "seq": runSeq, "rev": runRev, "tac": runTac, "nl": runNl, "paste": runPaste, "fold": runCat, "yes": runYes,
		"md5sum": sumProgram(md5.New), "sha1sum": sumProgram(sha1.New), "sha256sum": sumProgram(sha256.New), "sha512sum": sumProgram(sha512.New),
		"cmp": runCmp, "diff": runDiff, "comm": runComm, "column": runColumn, "xxd": runHexdump, "od": runHexdump,
	}
}

// inputs calls f with each operand's content, standard input if there is none, and complains about what cannot be
// read. It returns false if anything could not.
func (p *Proc) inputs(paths []string, f func(name string, content []byte)) bool {
	if len(paths) == 0 {
		paths = []string{"-"}
	}
	ok := true
	for _, path := range paths {
		content, err := p.ReadInput(path)
		if err != nil {
			if !IsCanceled(err) {
				p.Errorf("%s: %s", path, Reason(err))
			}
			ok = false
			continue
		}
		f(path, content)
	}
	return ok
}

// lines splits text into lines without their ends; a last line without one counts.
func lines(text []byte) []string {
	if len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// copyFile writes a file, or standard input for "-", to w as it comes.
func (p *Proc) copyFile(path string, w io.Writer) error {
	in, room := p.Stdin, int64(8<<10)
	if path != "-" {
		f, err := p.Open(path, os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
		if i, err := f.Stat(); err == nil && i.Mode.IsRegular() && i.Size > 0 {
			room = min(32<<10, i.Size)
		}
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{in}, make([]byte, room))
	return err
}

func runCat(ctx context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("nbsAEvtTu", "number=n", "show-all=A")
	if !ok {
		return 1
	}
	if len(paths) == 0 {
		paths = []string{"-"}
	}
	status, n := 0, 0
	for _, path := range paths {
		var err error
		if opts.has("n", "A", "E") {
			var content []byte
			content, err = p.ReadInput(path)
			for line := range strings.Lines(string(content)) {
				n++
				if opts.has("n") {
					line = fmt.Sprintf("%6d\t%s", n, line)
				}
				if text, ok := strings.CutSuffix(line, "\n"); ok && opts.has("A", "E") {
					line = text + "$\n"
				}
				if opts.has("A", "T") {
					line = strings.ReplaceAll(line, "\t", "^I")
				}
				io.WriteString(p.Stdout, line)
			}
		} else {
			err = p.copyFile(path, p.Stdout)
		}
		if err != nil && !ended(ctx) {
			p.Errorf("%s: %s", path, Reason(err))
			status = 1
		}
	}
	return status
}

func runWc(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("lwcmL", "lines=l", "words=w", "bytes=c", "chars=m")
	if !ok {
		return 1
	}
	all := !opts.has("l", "w", "c", "m", "L")
	var total [4]int
	files := 0
	show := func(counts [4]int, name string, width int) {
		var fields []string
		for i, letter := range []string{"l", "w", "m", "c"} {
			if opts.has(letter) || all && letter != "m" {
				fields = append(fields, fmt.Sprintf("%*d", width, counts[i]))
			}
		}
		if name != "" {
			fields = append(fields, name)
		}
		p.Println(strings.Join(fields, " "))
	}
	width := 1
	if len(paths) == 0 && (all || len(opts.order) > 1) {
		width = 7
	}
	type result struct {
		counts [4]int
		name   string
	}
	var results []result
	read := p.inputs(paths, func(name string, c []byte) {
		counts := [4]int{bytes.Count(c, []byte("\n")), len(bytes.Fields(c)), utf8.RuneCount(c), len(c)}
		for i := range counts {
			total[i] += counts[i]
		}
		files++
		if name == "-" && len(paths) == 0 {
			name = ""
		}
		results = append(results, result{counts, name})
	})
	if len(paths) > 0 && (all || len(opts.order) > 1 || len(paths) > 1) {
		width = len(strconv.Itoa(total[3]))
	}
	for _, r := range results {
		show(r.counts, r.name, width)
	}
	if len(paths) > 1 {
		show(total, "total", width)
	}
	return boolStatus(read)
}

// ranges is a list like 1,3-5,7- of cut.
type ranges [][2]int

func parseRanges(text string) (ranges, bool) {
	var list ranges
	for part := range strings.SplitSeq(text, ",") {
		from, to, dash := strings.Cut(part, "-")
		r := [2]int{1, 1 << 30}
		var err error
		if from != "" {
			if r[0], err = strconv.Atoi(from); err != nil || r[0] < 1 {
				return nil, false
			}
		}
		switch {
		case !dash:
			r[1] = r[0]
		case to != "":
			if r[1], err = strconv.Atoi(to); err != nil || r[1] < r[0] {
				return nil, false
			}
		case from == "":
			return nil, false
		}
		list = append(list, r)
	}
	return list, true
}

func (r ranges) contains(n int) bool {
	return slices.ContainsFunc(r, func(one [2]int) bool { return n >= one[0] && n <= one[1] })
}

func runCut(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("d:f:c:b:s", "delimiter=d", "fields=f", "characters=c", "bytes=b", "only-delimited=s", "output-delimiter=", "complement")
	if !ok {
		return 1
	}
	spec := cmp.Or(opts.last("f"), opts.last("c"), opts.last("b"))
	if spec == "" {
		return p.Fail(1, "you must specify a list of bytes, characters, or fields")
	}
	list, valid := parseRanges(spec)
	if !valid {
		return p.Fail(1, "invalid field value ‘%s’", spec)
	}
	delimiter := cmp.Or(opts.last("d"), "\t")
	if len([]rune(delimiter)) != 1 {
		return p.Fail(1, "the delimiter must be a single character")
	}
	joiner := delimiter
	if opts.has("output-delimiter") {
		joiner = opts.last("output-delimiter")
	}
	keep := func(n int) bool { return list.contains(n) != opts.has("complement") }
	return boolStatus(p.inputs(paths, func(_ string, c []byte) {
		for _, line := range lines(c) {
			if !opts.has("f") {
				var out []byte
				for i := range len(line) {
					if keep(i + 1) {
						out = append(out, line[i])
					}
				}
				p.Println(string(out))
				continue
			}
			if !strings.Contains(line, delimiter) {
				if !opts.has("s") {
					p.Println(line)
				}
				continue
			}
			var out []string
			for i, field := range strings.Split(line, delimiter) {
				if keep(i + 1) {
					out = append(out, field)
				}
			}
			p.Println(strings.Join(out, joiner))
		}
	}))
}

func runUniq(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("cduif:", "count=c", "repeated=d", "unique=u")
	if !ok {
		return 1
	}
	if len(paths) > 1 {
		paths = paths[:1]
	}
	skip, _ := strconv.Atoi(opts.last("f"))
	key := func(line string) string {
		for range skip {
			line = strings.TrimLeft(line, " \t")
			if i := strings.IndexAny(line, " \t"); i >= 0 {
				line = line[i:]
			} else {
				line = ""
			}
		}
		if opts.has("i") {
			line = strings.ToLower(line)
		}
		return line
	}
	return boolStatus(p.inputs(paths, func(_ string, c []byte) {
		all := lines(c)
		for i := 0; i < len(all); {
			j := i + 1
			for j < len(all) && key(all[j]) == key(all[i]) {
				j++
			}
			n := j - i
			if !(opts.has("d") && n == 1 || opts.has("u") && n > 1) {
				if opts.has("c") {
					p.Printf("%7d ", n)
				}
				p.Println(all[i])
			}
			i = j
		}
	}))
}

func runTee(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("ai", "append=a")
	if !ok {
		return 1
	}
	flag, status := os.O_TRUNC, 0
	if opts.has("a") {
		flag = os.O_APPEND
	}
	outs := []io.Writer{p.Stdout}
	for _, path := range paths {
		f, err := p.Open(path, os.O_WRONLY|os.O_CREATE|flag, 0o666)
		if err != nil {
			p.Errorf("%s: %s", path, Reason(err))
			status = 1
			continue
		}
		defer f.Close()
		outs = append(outs, f)
	}
	buf := make([]byte, 16<<10)
	for {
		n, err := p.Stdin.Read(buf)
		for i, w := range outs {
			if _, werr := w.Write(buf[:n]); werr != nil && n > 0 {
				name := "standard output"
				if i > 0 {
					name = paths[i-1]
				}
				p.Errorf("%s: %s", name, Reason(werr))
				status = 1
			}
		}
		if err != nil {
			return status
		}
	}
}

func runSeq(ctx context.Context, p *Proc) int {
	args := p.Args()
	sep := "\n"
	pad := false
	for len(args) > 1 && len(args[0]) > 1 && args[0][0] == '-' && (args[0][1] == 's' || args[0] == "-w") {
		switch {
		case args[0] == "-w":
			pad = true
		case args[0] == "-s":
			sep, args = args[1], args[1:]
		default:
			sep = args[0][2:]
		}
		args = args[1:]
	}
	var n [3]int
	for i, arg := range args {
		v, err := strconv.Atoi(arg)
		if err != nil || i > 2 {
			return p.Fail(1, "invalid floating point argument: ‘%s’", arg)
		}
		n[i] = v
	}
	from, step, to := 1, 1, n[0]
	switch len(args) {
	case 0:
		return p.Fail(1, "missing operand")
	case 2:
		from, to = n[0], n[1]
	case 3:
		from, step, to = n[0], n[1], n[2]
	}
	if step == 0 {
		return p.Fail(1, "invalid Zero increment value: ‘0’")
	}
	width := 0
	if pad {
		width = max(len(strconv.Itoa(from)), len(strconv.Itoa(to)))
	}
	first := true
	w := bufio.NewWriter(p.Stdout)
	for i := from; step > 0 && i <= to || step < 0 && i >= to; i += step {
		if !first {
			w.WriteString(sep)
		}
		first = false
		if _, err := fmt.Fprintf(w, "%0*d", width, i); err != nil || ended(ctx) {
			return 1
		}
	}
	if !first {
		w.WriteString("\n")
	}
	w.Flush()
	return 0
}

func runRev(_ context.Context, p *Proc) int {
	return boolStatus(p.inputs(p.Args(), func(_ string, c []byte) {
		for _, line := range lines(c) {
			r := []rune(line)
			slices.Reverse(r)
			p.Println(string(r))
		}
	}))
}

func runTac(_ context.Context, p *Proc) int {
	return boolStatus(p.inputs(p.Args(), func(_ string, c []byte) {
		all := lines(c)
		slices.Reverse(all)
		for _, line := range all {
			p.Println(line)
		}
	}))
}

func runNl(_ context.Context, p *Proc) int {
	n := 0
	_, paths, ok := p.getopt("b:")
	if !ok {
		return 1
	}
	return boolStatus(p.inputs(paths, func(_ string, c []byte) {
		for _, line := range lines(c) {
			if line == "" {
				p.Println("       ")
				continue
			}
			n++
			p.Printf("%6d\t%s\n", n, line)
		}
	}))
}

func runPaste(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("sd:", "serial=s", "delimiters=d")
	if !ok {
		return 1
	}
	sep := cmp.Or(opts.last("d"), "\t")
	if opts.has("s") {
		return boolStatus(p.inputs(paths, func(_ string, c []byte) { p.Println(strings.Join(lines(c), sep)) }))
	}
	var columns [][]string
	rows := 0
	read := p.inputs(paths, func(_ string, c []byte) {
		columns = append(columns, lines(c))
		rows = max(rows, len(lines(c)))
	})
	for i := range rows {
		fields := make([]string, len(columns))
		for j := range columns {
			if i < len(columns[j]) {
				fields[j] = columns[j][i]
			}
		}
		p.Println(strings.Join(fields, sep))
	}
	return boolStatus(read)
}

func runYes(ctx context.Context, p *Proc) int {
	text := strings.Join(p.Args(), " ")
	if text == "" {
		text = "y"
	}
	for !ended(ctx) {
		if _, err := io.WriteString(p.Stdout, text+"\n"); err != nil {
			return 1
		}
	}
	return 1
}

func runColumn(_ context.Context, p *Proc) int {
	opts, paths, ok := p.getopt("ts:o:")
	if !ok {
		return 1
	}
	return boolStatus(p.inputs(paths, func(_ string, c []byte) {
		var rows [][]string
		var widths []int
		for _, line := range lines(c) {
			fields := strings.Fields(line)
			if opts.has("s") {
				fields = strings.Split(line, opts.last("s"))
			}
			for i, f := range fields {
				if i >= len(widths) {
					widths = append(widths, 0)
				}
				widths[i] = max(widths[i], len(f))
			}
			rows = append(rows, fields)
		}
		for _, row := range rows {
			for i := range row[:max(0, len(row)-1)] {
				row[i] = fmt.Sprintf("%-*s", widths[i], row[i])
			}
			p.Println(strings.Join(row, "  "))
		}
	}))
}
