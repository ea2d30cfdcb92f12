package machine

import (
	"fmt"
	"strconv"
	"strings"
)

// echoEscapes interprets backslashes as dash's echo and printf %b do. stop means \c.
func echoEscapes(text string) (out string, stop bool) {
	if !strings.Contains(text, `\`) {
		return text, false
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		i++
		if text[i] == 'c' {
			return b.String(), true
		}
		if text[i] == '0' { // \0ooo
			n, used := octal(text[i+1:], 3)
			b.WriteByte(n)
			i += used
			continue
		}
		i += escape(&b, text[i:]) - 1
	}
	return b.String(), false
}

// escape writes what the letters after a backslash mean and returns how many it used.
func escape(b *strings.Builder, rest string) int {
	const from, to = `abfnrtv\`, "\a\b\f\n\r\t\v\\"
	if at := strings.IndexByte(from, rest[0]); at >= 0 {
		b.WriteByte(to[at])
		return 1
	}
	if rest[0] >= '0' && rest[0] <= '7' {
		n, used := octal(rest, 3)
		b.WriteByte(n)
		return used
	}
	b.WriteByte('\\')
	b.WriteByte(rest[0])
	return 1
}

func octal(text string, limit int) (value byte, used int) {
	n := 0
	for used < limit && used < len(text) && text[used] >= '0' && text[used] <= '7' {
		n = n*8 + int(text[used]-'0')
		used++
	}
	return byte(n), used
}

// format is printf: it repeats the format while arguments are left. What is not a number counts as what its beginning
// is and is reported.
func format(spec string, args []string) (out string, problems []string) {
	f := formatter{args: args}
	for {
		before := f.used
		if f.once(spec) || f.used >= len(args) || f.used == before || f.out.Len() > patternLimit {
			return f.out.String(), f.problems
		}
	}
}

type formatter struct {
	out      strings.Builder
	args     []string
	used     int
	problems []string
}

func (f *formatter) next() (string, bool) {
	if f.used >= len(f.args) {
		f.used++
		return "", false
	}
	f.used++
	return f.args[f.used-1], true
}

// once writes the format one time; true means stop for good.
func (f *formatter) once(spec string) bool {
	for i := 0; i < len(spec); i++ {
		switch {
		case spec[i] == '\\' && i+1 < len(spec):
			if spec[i+1] == 'c' {
				return true
			}
			if strings.IndexByte(`"'`, spec[i+1]) >= 0 {
				f.out.WriteByte(spec[i+1])
				i++
				continue
			}
			i += escape(&f.out, spec[i+1:])
		case spec[i] != '%':
			f.out.WriteByte(spec[i])
		case i+1 < len(spec) && spec[i+1] == '%':
			f.out.WriteByte('%')
			i++
		default:
			used, stop := f.directive(spec[i:])
			if stop {
				return true
			}
			i += used - 1
		}
	}
	return false
}

// directive writes one %… and returns its length.
func (f *formatter) directive(spec string) (used int, stop bool) {
	i := 1
	for i < len(spec) && strings.IndexByte("-+ 0#'", spec[i]) >= 0 {
		i++
	}
	flags := spec[1:i]
	width, i := f.size(spec, i)
	precision := ""
	if i < len(spec) && spec[i] == '.' {
		precision, i = f.size(spec, i+1)
		precision = "." + precision
	}
	if i >= len(spec) {
		f.problems = append(f.problems, spec+": invalid directive")
		return len(spec), true
	}
	if strings.HasPrefix(width, "-") {
		flags, width = flags+"-", width[1:]
	}
	verb := "%" + flags + width + precision
	switch c := spec[i]; c {
	case 's':
		arg, _ := f.next()
		fmt.Fprintf(&f.out, verb+"s", arg)
	case 'b':
		arg, _ := f.next()
		text, end := echoEscapes(arg)
		fmt.Fprintf(&f.out, verb+"s", text)
		if end {
			return i + 1, true
		}
	case 'c':
		arg, _ := f.next()
		fmt.Fprintf(&f.out, verb+"s", arg[:min(1, len(arg))])
	case 'd', 'i':
		fmt.Fprintf(&f.out, verb+"d", f.integer())
	case 'u':
		fmt.Fprintf(&f.out, verb+"d", uint64(f.integer()))
	case 'o', 'x', 'X':
		fmt.Fprintf(&f.out, verb+string(c), uint64(f.integer()))
	case 'e', 'E', 'f', 'F', 'g', 'G':
		fmt.Fprintf(&f.out, verb+string(c), f.float())
	default:
		f.problems = append(f.problems, fmt.Sprintf("%%%c: invalid directive", c))
		return len(spec), true
	}
	return i + 1, false
}

func (f *formatter) size(spec string, i int) (string, int) {
	if i < len(spec) && spec[i] == '*' {
		arg, _ := f.next()
		n, err := strconv.Atoi(arg)
		if err != nil {
			n = 0
		}
		return strconv.Itoa(max(-9999, min(n, 9999))), i + 1
	}
	start := i
	for i < len(spec) && spec[i] >= '0' && spec[i] <= '9' {
		i++
	}
	if i-start > 4 {
		return "9999", i // wider than anything that is read
	}
	return spec[start:i], i
}

func (f *formatter) integer() int64 {
	arg, ok := f.next()
	if !ok || arg == "" {
		return 0
	}
	if arg[0] == '\'' || arg[0] == '"' {
		if len(arg) > 1 {
			return int64([]rune(arg[1:])[0])
		}
		return 0
	}
	text := strings.TrimSpace(arg)
	for end := len(text); end > 0; end-- {
		n, err := strconv.ParseInt(text[:end], 0, 64)
		if err != nil {
			u, errU := strconv.ParseUint(text[:end], 0, 64)
			if errU != nil {
				continue
			}
			n = int64(u)
		}
		if end < len(text) {
			f.problems = append(f.problems, arg+": not completely converted")
		}
		return n
	}
	f.problems = append(f.problems, arg+": expected numeric value")
	return 0
}

func (f *formatter) float() float64 {
	arg, ok := f.next()
	if !ok || arg == "" {
		return 0
	}
	n, err := strconv.ParseFloat(arg, 64)
	if err != nil {
		f.problems = append(f.problems, arg+": expected numeric value")
	}
	return n
}
