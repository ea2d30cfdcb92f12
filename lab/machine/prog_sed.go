package machine

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// sed is one run of the program.
type sed struct {
	p        *Proc
	commands []*sedCommand
	extended bool
	quiet    bool
	last     *regexp.Regexp
	out      io.Writer

	pattern, hold string
	line          int
	lines         []string
	next          int
	appended      []string
	substituted   bool
	quit          bool
	status        int
	writes        map[string]*bytes.Buffer
}

func runSed(_ context.Context, p *Proc) int {
	args := p.Args()
	inPlace, suffix := false, ""
	kept := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			kept = append(kept, args[i:]...)
			break
		}
		switch {
		case strings.HasPrefix(arg, "-i") && !strings.HasPrefix(arg, "--"):
			inPlace, suffix = true, arg[2:]
		case arg == "--in-place" || strings.HasPrefix(arg, "--in-place="):
			inPlace, suffix = true, strings.TrimPrefix(strings.TrimPrefix(arg, "--in-place"), "=")
		default:
			kept = append(kept, arg)
		}
	}
	opts, rest, ok := p.getoptOf(kept, "nErsue:f:z", "quiet=n", "silent=n", "regexp-extended=E", "expression=e", "file=f", "separate=s")
	if !ok {
		return 1
	}
	script := opts.all("e")
	for _, f := range opts.all("f") {
		content, err := p.ReadInput(f)
		if err != nil {
			return p.Fail(1, "couldn't open file %s: %s", f, Reason(err))
		}
		script = append(script, strings.TrimSuffix(string(content), "\n"))
	}
	if script == nil {
		if len(rest) == 0 {
			io.WriteString(p.Stderr, "Usage: sed [OPTION]... {script-only-if-no-other-script} [input-file]...\n")
			return 1
		}
		script, rest = rest[:1], rest[1:]
	}
	s := &sed{p: p, extended: opts.has("E", "r"), quiet: opts.has("n"), writes: map[string]*bytes.Buffer{}}
	if err := s.parse(strings.Join(script, "\n")); err != nil {
		return p.Fail(1, "-e expression #1, char 0: %v", err)
	}
	if inPlace {
		return s.inPlace(rest, suffix)
	}
	s.out = p.Stdout
	var all []byte
	read := p.inputsFor(rest, func(_ string, c []byte) { all = append(all, c...) }, "can't read %s: %s")
	s.process(all)
	s.flushWrites()
	if !read && s.status == 0 {
		return 2
	}
	return s.status
}

// inputsFor is inputs with another wording of the complaint.
func (p *Proc) inputsFor(paths []string, f func(string, []byte), complaint string) bool {
	if len(paths) == 0 {
		paths = []string{"-"}
	}
	ok := true
	for _, path := range paths {
		content, err := p.ReadInput(path)
		if err != nil {
			p.Errorf(complaint, path, Reason(err))
			ok = false
			continue
		}
		f(path, content)
	}
	return ok
}

func (s *sed) inPlace(paths []string, suffix string) int {
	status := 0
	for _, path := range paths {
		content, err := s.p.view.ReadFile(path)
		if err != nil {
			status = s.p.Fail(4, "can't read %s: %s", path, Reason(err))
			continue
		}
		info, _ := s.p.view.Stat(path)
		var out bytes.Buffer
		s.out = &out
		s.line, s.quit = 0, false
		s.process(content)
		if suffix != "" {
			if err := s.p.view.WriteFile(path+suffix, content, info.Mode.Perm()); err != nil {
				return s.p.Fail(4, "couldn't open file %s: %s", path+suffix, Reason(err))
			}
		}
		temp := path + ".sedtmp"
		err = s.p.view.WriteFile(temp, out.Bytes(), info.Mode.Perm())
		if err == nil {
			err = s.p.view.Chmod(temp, info.Mode.Perm())
			if real, rerr := s.p.view.Realpath(path, false); rerr == nil && err == nil {
				err = s.p.view.Rename(temp, real)
			}
		}
		if err != nil {
			_ = s.p.view.Remove(temp)
			return s.p.Fail(4, "couldn't edit %s: %s", path, Reason(err))
		}
	}
	s.flushWrites()
	return max(status, s.status)
}

func (s *sed) flushWrites() {
	for path, b := range s.writes {
		if path == "/dev/stdout" {
			continue
		}
		if err := s.p.view.WriteFile(path, b.Bytes(), 0o666); err != nil {
			s.status = s.p.Fail(4, "couldn't open file %s: %s", path, Reason(err))
		}
	}
}

// process runs the script over an input.
func (s *sed) process(content []byte) {
	s.lines, s.next = lines(content), 0
	noNewline := len(content) > 0 && content[len(content)-1] != '\n'
	for s.next < len(s.lines) && !s.quit {
		s.pattern = s.lines[s.next]
		s.next++
		s.line++
		again := s.cycle()
		for again {
			again = s.cycle()
		}
	}
	if noNewline {
		if b, ok := s.out.(*bytes.Buffer); ok && b.Len() > 0 {
			b.Truncate(b.Len() - 1)
		}
	}
}

func (s *sed) emit(text string) { io.WriteString(s.out, text+"\n") }

// cycle runs the commands over the pattern space; true asks for another cycle without new input (D).
func (s *sed) cycle() bool {
	s.substituted = false
	show, again := s.execute()
	if show && !s.quiet {
		s.emit(s.pattern)
	}
	for _, text := range s.appended {
		io.WriteString(s.out, text)
	}
	s.appended = nil
	return again && !s.quit
}

func (s *sed) execute() (show, again bool) {
	for i, steps := 0, 0; i < len(s.commands); i++ {
		if steps++; steps > 100000 || len(s.pattern)+len(s.hold) > patternLimit {
			return true, false // a loop without end
		}
		c := s.commands[i]
		if !s.selects(c) {
			if c.name == '{' {
				i = c.block - 1
			}
			continue
		}
		switch c.name {
		case '{', ':':
		case '=':
			s.emit(strconv.Itoa(s.line))
		case 'a':
			s.appended = append(s.appended, c.text)
		case 'i':
			io.WriteString(s.out, c.text)
		case 'c':
			if c.to == nil || !c.active || c.negate {
				io.WriteString(s.out, c.text)
			}
			return false, false
		case 'd':
			return false, false
		case 'D':
			head, rest, more := strings.Cut(s.pattern, "\n")
			_ = head
			if !more {
				return false, false
			}
			s.pattern = rest
			return false, true
		case 'g':
			s.pattern = s.hold
		case 'G':
			s.pattern += "\n" + s.hold
		case 'h':
			s.hold = s.pattern
		case 'H':
			s.hold += "\n" + s.pattern
		case 'x':
			s.pattern, s.hold = s.hold, s.pattern
		case 'z':
			s.pattern = ""
		case 'l':
			s.emit(strings.ReplaceAll(strings.ReplaceAll(s.pattern, `\`, `\\`), "\t", `\t`) + "$")
		case 'n':
			if s.next >= len(s.lines) {
				s.quit = true
				return true, false
			}
			if !s.quiet {
				s.emit(s.pattern)
			}
			s.pattern = s.lines[s.next]
			s.next++
			s.line++
		case 'N':
			if s.next >= len(s.lines) {
				s.quit = true
				return true, false
			}
			s.pattern += "\n" + s.lines[s.next]
			s.next++
			s.line++
		case 'p':
			s.emit(s.pattern)
		case 'P':
			head, _, _ := strings.Cut(s.pattern, "\n")
			s.emit(head)
		case 'q':
			s.quit, s.status = true, c.nth
			return true, false
		case 'Q':
			s.quit, s.status = true, c.nth
			return false, false
		case 'r':
			if content, err := s.p.ReadInput(c.text); err == nil {
				s.appended = append(s.appended, string(content))
			}
		case 'w':
			s.writeTo(c.text)
		case 's':
			s.substitute(c)
		case 'y':
			s.pattern = strings.Map(func(r rune) rune {
				if at := strings.IndexRune(c.text, r); at >= 0 && r < 128 {
					return rune(c.replace[at])
				}
				return r
			}, s.pattern)
		case 'b', 't', 'T':
			jump := c.name == 'b' || c.name == 't' && s.substituted || c.name == 'T' && !s.substituted
			if c.name != 'b' {
				s.substituted = false
			}
			if jump {
				if c.text == "" {
					return true, false
				}
				i = s.label(c.text)
			}
		}
	}
	return true, false
}

func (s *sed) writeTo(path string) {
	if path == "/dev/stdout" {
		s.emit(s.pattern)
		return
	}
	b := s.writes[path]
	if b == nil {
		b = &bytes.Buffer{}
		s.writes[path] = b
	}
	b.WriteString(s.pattern + "\n")
}

func (s *sed) label(name string) int {
	for i, c := range s.commands {
		if c.name == ':' && c.text == name {
			return i
		}
	}
	return len(s.commands)
}

// selects tells whether a command's addresses select the current line.
func (s *sed) selects(c *sedCommand) bool { return s.inRange(c) != c.negate }

func (s *sed) inRange(c *sedCommand) bool {
	if c.from == nil {
		return true
	}
	if c.to == nil {
		return s.at(c.from)
	}
	if c.active {
		switch {
		case c.to.plus > 0 || c.to.line > 0 && c.to.re == nil:
			if s.line >= c.until {
				c.active = false
			}
			return s.line <= c.until
		case s.at(c.to):
			c.active = false
		}
		return true
	}
	if !s.at(c.from) {
		return false
	}
	switch {
	case c.to.plus > 0:
		c.until = s.line + c.to.plus
	case c.to.line > 0:
		c.until = c.to.line
	case c.to.last && s.next >= len(s.lines):
		return true
	default:
		c.active = true
		return true
	}
	c.active = c.until > s.line
	return true
}

func (s *sed) at(a *sedAddress) bool {
	switch {
	case a.last:
		return s.next >= len(s.lines)
	case a.step > 0:
		return s.line >= a.line && (s.line-a.line)%a.step == 0
	case a.line > 0:
		return s.line == a.line
	case a.plus > 0:
		return false
	}
	re := a.re
	if re == nil {
		re = s.last
	}
	s.last = re
	return re != nil && re.MatchString(s.pattern)
}

func (s *sed) substitute(c *sedCommand) {
	re := c.re
	if re == nil {
		re = s.last
	}
	if re == nil {
		return
	}
	s.last = re
	found := re.FindAllStringSubmatchIndex(s.pattern, -1)
	var b strings.Builder
	at, changed := 0, false
	for i, m := range found {
		if c.nth > 0 && (i+1 < c.nth || i+1 > c.nth && !c.global) || c.nth == 0 && !c.global && i > 0 {
			continue
		}
		b.WriteString(s.pattern[at:m[0]])
		b.WriteString(sedExpand(c.replace, s.pattern, m))
		at, changed = m[1], true
	}
	if !changed {
		return
	}
	b.WriteString(s.pattern[at:])
	s.pattern, s.substituted = b.String(), true
	if c.print {
		s.emit(s.pattern)
	}
	if c.text != "" {
		s.writeTo(c.text)
	}
}

// sedExpand fills & and \1 in a replacement, and changes case after \u \l \U \L.
func sedExpand(replace, text string, m []int) string {
	var b strings.Builder
	once, mode := byte(0), byte(0)
	write := func(part string) {
		switch mode {
		case 'U':
			part = strings.ToUpper(part)
		case 'L':
			part = strings.ToLower(part)
		}
		if once != 0 && part != "" {
			if once == 'u' {
				part = strings.ToUpper(part[:1]) + part[1:]
			} else {
				part = strings.ToLower(part[:1]) + part[1:]
			}
			once = 0
		}
		b.WriteString(part)
	}
	group := func(n int) string {
		if 2*n+1 < len(m) && m[2*n] >= 0 {
			return text[m[2*n]:m[2*n+1]]
		}
		return ""
	}
	for i := 0; i < len(replace); i++ {
		c := replace[i]
		if c == '&' {
			write(group(0))
			continue
		}
		if c != '\\' || i+1 == len(replace) {
			write(string(c))
			continue
		}
		i++
		switch c = replace[i]; {
		case isDigit(c):
			write(group(int(c - '0')))
		case c == 'n':
			write("\n")
		case c == 't':
			write("\t")
		case c == 'u' || c == 'l':
			once = c
		case c == 'U' || c == 'L':
			mode = c
		case c == 'E':
			mode = 0
		default:
			write(string(c))
		}
	}
	return b.String()
}
