package machine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/pxrun/pxrun/lab/vfs"
)

// builtin is a command of the shell itself.
type builtin func(s *shell, args []string) int

// builtinTable holds the shell's own commands. A machine makes it once.
func builtinTable() map[string]builtin {
	return map[string]builtin{
		":": func(*shell, []string) int { return 0 }, "true": func(*shell, []string) int { return 0 },
		"false": func(*shell, []string) int { return 1 },
		".":     builtinSource, "source": builtinSource, "break": builtinBreak, "continue": builtinContinue, "cd": builtinCd, "chdir": builtinCd,
		"command": builtinCommand, "echo": builtinEcho, "eval": builtinEval, "exec": builtinExec, "exit": builtinExit,
		"export": builtinExport, "getopts": builtinGetopts, "hash": func(*shell, []string) int { return 0 }, "jobs": builtinJobs, "kill": builtinKill,
		"local": builtinLocal, "printf": builtinPrintf, "pwd": builtinPwd, "read": builtinRead, "readonly": builtinReadonly,
		"return": builtinReturn, "set": builtinSet, "shift": builtinShift, "test": builtinTest, "[": builtinTest,
		"times": builtinTimes, "trap": builtinTrap, "type": builtinType, "ulimit": builtinUlimit, "umask": builtinUmask,
		"unset": builtinUnset, "wait": builtinWait, "alias": func(*shell, []string) int { return 0 }, "unalias": func(*shell, []string) int { return 0 },
	}
}

func specialBuiltin(name string) bool {
	switch name {
	case ":", ".", "break", "continue", "eval", "exec", "exit", "export", "readonly", "return", "set", "shift", "times", "trap", "unset":
		return true
	}
	return false
}

func compiled(expr string) (*regexp.Regexp, error) { return regexp.Compile(expr) }

// evaluate runs text as commands of this shell.
func (s *shell) evaluate(text string) {
	interact, line := s.interact, s.line
	s.interact = false
	s.source(strings.NewReader(text))
	s.interact, s.line = interact, line
}

func builtinEval(s *shell, args []string) int {
	s.status = 0
	s.evaluate(strings.Join(args[1:], " "))
	return s.status
}

func builtinSource(s *shell, args []string) int {
	if len(args) < 2 {
		s.complain(".: filename argument required")
		s.exiting = true
		return 2
	}
	path := args[1]
	if !strings.Contains(path, "/") {
		for dir := range strings.SplitSeq(s.vars["PATH"].value, ":") {
			if _, err := s.view.Stat(dir + "/" + path); err == nil {
				path = dir + "/" + path
				break
			}
		}
	}
	content, err := s.view.ReadFile(vfs.Clean(s.dir, path))
	if err != nil {
		s.complain(".: cannot open %s: %s", args[1], openReason(err))
		s.exiting = true
		return 2
	}
	if s.depth+s.calls >= maxDepth {
		s.exiting = true
		return 2
	}
	s.calls++
	s.status = 0
	s.evaluate(string(content))
	s.calls--
	s.returning = false
	return s.status
}

func (s *shell) loopCount(args []string) int {
	n := 1
	if len(args) > 1 {
		n, _ = strconv.Atoi(args[1])
	}
	if n < 1 {
		s.complain("Illegal number: %s", args[1])
		s.exiting = true
		return 0
	}
	return min(n, s.loops)
}

func builtinBreak(s *shell, args []string) int {
	s.breaks = s.loopCount(args)
	return s.badNumber()
}

func builtinContinue(s *shell, args []string) int {
	s.continues = s.loopCount(args)
	return s.badNumber()
}

func (s *shell) badNumber() int {
	if s.exiting {
		return 2
	}
	return 0
}

func (s *shell) statusArgument(args []string) int {
	if len(args) < 2 {
		return s.status
	}
	n, err := strconv.Atoi(args[1])
	if err != nil || n < 0 {
		s.complain("%s: Illegal number: %s", args[0], args[1])
		return 2
	}
	return n & 255
}

func builtinExit(s *shell, args []string) int {
	status := s.statusArgument(args)
	s.exiting = true
	return status
}

func builtinReturn(s *shell, args []string) int {
	status := s.statusArgument(args)
	if s.calls > 0 {
		s.returning = true
	} else {
		s.exiting = true
	}
	return status
}

func builtinCd(s *shell, args []string) int {
	args = args[1:]
	for len(args) > 0 && (args[0] == "-P" || args[0] == "-L" || args[0] == "--") {
		args = args[1:]
	}
	target := s.vars["HOME"].value
	if len(args) > 0 {
		target = args[0]
	}
	show := false
	if target == "-" {
		target, show = s.vars["OLDPWD"].value, true
	}
	if target == "" {
		if len(args) == 0 {
			return 0
		}
		target = "."
	}
	path := vfs.Clean(s.dir, target)
	info, err := s.view.Stat(path)
	if err == nil && !info.Mode.IsDir() {
		err = &fs.PathError{Op: "chdir", Path: path, Err: fs.ErrInvalid}
	}
	if err == nil {
		err = s.view.Access(path, 1)
	}
	if err != nil {
		s.complain("cd: can't cd to %s", target)
		return 2
	}
	old := s.dir
	s.assign("OLDPWD", old)
	s.dir = path
	s.view.Dir = path
	s.setPWD()
	if show {
		fmt.Fprintln(s.writer(1), path)
	}
	return 0
}

func builtinPwd(s *shell, args []string) int {
	dir := s.dir
	if len(args) > 1 && args[1] == "-P" {
		if real, err := s.view.Realpath(dir, false); err == nil {
			dir = real
		}
	}
	fmt.Fprintln(s.writer(1), dir)
	return 0
}

func builtinExec(s *shell, args []string) int {
	if len(args) > 1 && args[1] == "--" {
		args = args[1:]
	}
	if len(args) == 1 {
		s.keepFiles = true
		return 0
	}
	delete(s.traps, "EXIT")
	status := s.external(s.ctx, args[1:], nil)
	s.exiting = true
	return status
}

func builtinCommand(s *shell, args []string) int {
	args = args[1:]
	describe := ""
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		switch args[0] {
		case "-v", "-V":
			describe = args[0]
		case "-p", "--":
		default:
			s.complain("command: Illegal option %s", args[0])
			return 2
		}
		args = args[1:]
	}
	if len(args) == 0 {
		return 0
	}
	if describe != "" {
		return s.describe(args[0], describe == "-V")
	}
	if b := s.m.builtins[args[0]]; b != nil {
		return b(s, args)
	}
	return s.external(s.ctx, args, nil)
}

// describe tells what a name would run.
func (s *shell) describe(name string, long bool) int {
	say := func(short, text string) int {
		if long {
			short = name + " is " + text
		}
		fmt.Fprintln(s.writer(1), short)
		return 0
	}
	switch {
	case syntax.IsKeyword(name):
		return say(name, "a shell keyword")
	case s.funcs[name] != nil:
		return say(name, "a shell function")
	case specialBuiltin(name):
		return say(name, "a special shell builtin")
	case s.m.builtins[name] != nil && name != "source":
		return say(name, "a shell builtin")
	}
	s.view.Dir = s.dir
	path, err := lookup(s.view, name, s.vars["PATH"].value)
	if err == nil && s.view.Access(vfs.Clean(s.dir, path), 1) == nil {
		return say(path, path)
	}
	if long {
		fmt.Fprintf(s.writer(1), "%s: not found\n", name)
	}
	return exitNotFound
}

func builtinType(s *shell, args []string) int {
	status := 0
	for _, name := range args[1:] {
		if code := s.describe(name, true); code != 0 {
			status = code
		}
	}
	return status
}

func builtinEcho(s *shell, args []string) int {
	args = args[1:]
	newline := "\n"
	if len(args) > 0 && args[0] == "-n" {
		newline, args = "", args[1:]
	} else if s.lang == syntax.LangBash && len(args) > 0 && args[0] == "-e" {
		args = args[1:]
	}
	text, stop := echoEscapes(strings.Join(args, " "))
	if stop {
		newline = ""
	}
	return s.print("echo", text+newline)
}

// print writes a builtin's output; dash reports a failed write.
func (s *shell) print(name, text string) int {
	f := s.files.get(1)
	if f == nil || f.w == nil {
		s.complain("%s: I/O error", name)
		return 1
	}
	if _, err := io.WriteString(s.writer(1), text); err != nil {
		if vfs.Errno(err).Error() == "broken pipe" {
			s.status, s.exiting = 128+int(SIGPIPE), true
			return s.status
		}
		s.complain("%s: %s", name, "I/O error")
		return 1
	}
	return 0
}

// export NAME[=VALUE]…, as arguments or as a parsed declaration.
func builtinExport(s *shell, args []string) int { return s.attribute(args, false) }

func builtinReadonly(s *shell, args []string) int { return s.attribute(args, true) }

func (s *shell) attribute(args []string, readonly bool) int {
	if len(args) == 1 || args[1] == "-p" {
		for _, name := range slices.Sorted(maps.Keys(s.vars)) {
			v := s.vars[name]
			if v.exported && !readonly || v.readonly && readonly {
				fmt.Fprintf(s.writer(1), "%s %s='%s'\n", args[0], name, strings.ReplaceAll(v.value, "'", `'"'"'`))
			}
		}
		return 0
	}
	for _, arg := range args[1:] {
		name, value, given := strings.Cut(arg, "=")
		if !syntax.ValidName(name) {
			s.complain("%s: %s: bad variable name", args[0], name)
			s.exiting = true
			return 2
		}
		if given && !s.assign(name, value) {
			s.readOnly(name)
			return 2
		}
		v := s.vars[name]
		if readonly {
			v.readonly = true
		} else {
			v.exported = true
		}
		s.vars[name] = v
	}
	return 0
}

func builtinLocal(s *shell, args []string) int {
	if len(s.locals) == 0 {
		s.complain("local: not in a function")
		s.exiting = true
		return 2
	}
	for _, arg := range args[1:] {
		name, value, given := strings.Cut(arg, "=")
		if !syntax.ValidName(name) {
			s.complain("local: %s: bad variable name", name)
			s.exiting = true
			return 2
		}
		scope := len(s.locals) - 1
		if s.locals[scope] == nil {
			s.locals[scope] = map[string]variable{}
		}
		if _, ok := s.locals[scope][name]; !ok {
			s.locals[scope][name] = s.vars[name]
		}
		if given {
			s.assign(name, value)
		}
	}
	return 0
}

// declare runs export, readonly and local where the parser made a declaration of them.
func (s *shell) declare(c *syntax.DeclClause) {
	args := []string{c.Variant.Value}
	for _, a := range c.Args {
		switch {
		case a.Name == nil:
			fields, ok := s.fields([]*syntax.Word{a.Value})
			if !ok {
				return
			}
			args = append(args, fields...)
		case a.Naked:
			args = append(args, a.Name.Value)
		default:
			value, ok := s.literal(a.Value)
			if !ok {
				return
			}
			args = append(args, a.Name.Value+"="+value)
		}
	}
	b := s.m.builtins[c.Variant.Value]
	if b == nil {
		s.complain("%s: not found", c.Variant.Value)
		s.status = exitNotFound
		return
	}
	s.status = b(s, args)
}

func builtinUnset(s *shell, args []string) int {
	functions := false
	for _, name := range args[1:] {
		switch {
		case name == "-f":
			functions = true
		case name == "-v":
		case functions:
			delete(s.funcs, name)
		case s.vars[name].readonly:
			s.readOnly(name)
			return 2
		default:
			delete(s.vars, name)
		}
	}
	return 0
}

func builtinShift(s *shell, args []string) int {
	n := 1
	if len(args) > 1 {
		n, _ = strconv.Atoi(args[1])
	}
	if n < 0 || n > len(s.params) {
		s.complain("shift: can't shift that many")
		s.exiting = true
		return 2
	}
	s.params = s.params[n:]
	return 0
}

func (s *shell) setOption(name string, on bool) bool {
	for _, o := range shellOptions {
		if o.name == name || o.letter != 0 && string(o.letter) == name {
			*o.field(&s.opts) = on
			s.prepareExpansion()
			return true
		}
	}
	switch name {
	case "b", "h", "m", "v", "E", "I", "V", "monitor", "notify", "verbose", "ignoreeof", "posix", "interactive", "stdin", "vi", "emacs":
		return true
	}
	return false
}

func (s *shell) optionLetters() string {
	var b strings.Builder
	for _, o := range shellOptions {
		if o.letter != 0 && *o.field(&s.opts) {
			b.WriteByte(o.letter)
		}
	}
	return b.String()
}

func builtinSet(s *shell, args []string) int {
	args = args[1:]
	if len(args) == 0 {
		for _, name := range slices.Sorted(maps.Keys(s.vars)) {
			if v := s.vars[name]; v.set {
				fmt.Fprintf(s.writer(1), "%s='%s'\n", name, strings.ReplaceAll(v.value, "'", `'"'"'`))
			}
		}
		return 0
	}
	for len(args) > 0 && len(args[0]) > 1 && (args[0][0] == '-' || args[0][0] == '+') {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			s.params = args
			return 0
		}
		if arg[1:] == "o" {
			if len(args) == 0 {
				for _, o := range shellOptions {
					fmt.Fprintf(s.writer(1), "%-15s %s\n", o.name, map[bool]string{true: "on", false: "off"}[*o.field(&s.opts)])
				}
				return 0
			}
			if !s.setOption(args[0], arg[0] == '-') {
				s.complain("set: Illegal option -o %s", args[0])
				s.exiting = true
				return 2
			}
			args = args[1:]
			continue
		}
		for _, c := range arg[1:] {
			if !s.setOption(string(c), arg[0] == '-') {
				s.complain("set: Illegal option %c%c", arg[0], c)
				s.exiting = true
				return 2
			}
		}
	}
	if len(args) > 0 {
		s.params = args
	}
	return 0
}

func builtinRead(s *shell, args []string) int {
	raw := false
	args = args[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && len(args[0]) > 1 {
		switch args[0] {
		case "-r":
			raw = true
		case "-p":
			if len(args) > 1 {
				io.WriteString(s.writer(2), args[1])
				args = args[1:]
			}
		default:
			s.complain("read: Illegal option %s", args[0])
			return 2
		}
		args = args[1:]
	}
	if len(args) == 0 {
		s.complain("read: arg count")
		return 2
	}
	line, ok := s.readInput(raw)
	values := expand.ReadFields(&s.cfg, line, len(args), raw)
	for i, name := range args {
		value := ""
		if i < len(values) {
			value = values[i]
		}
		if !s.assign(name, value) {
			s.readOnly(name)
			return 2
		}
	}
	return boolStatus(ok)
}

// readInput reads one logical line of standard input.
func (s *shell) readInput(raw bool) (string, bool) {
	var line []byte
	buf := make([]byte, 512)
	in := s.reader(0)
	for {
		n, err := readLine(s.ctx, in, buf)
		line = append(line, buf[:n]...)
		if err != nil {
			return string(line), false
		}
		if len(line) == 0 || line[len(line)-1] != '\n' {
			continue
		}
		line = line[:len(line)-1]
		if !raw && oddBackslashes(line) {
			line = line[:len(line)-1]
			continue
		}
		return string(line), true
	}
}

func oddBackslashes(line []byte) bool {
	n := 0
	for i := len(line) - 1; i >= 0 && line[i] == '\\'; i-- {
		n++
	}
	return n%2 == 1
}

func builtinGetopts(s *shell, args []string) int {
	if len(args) < 3 {
		s.complain("getopts: Usage: getopts optstring var [arg]")
		return 2
	}
	params := s.params
	if len(args) > 3 {
		params = args[3:]
	}
	spec, name := args[1], args[2]
	index, offset := s.optionPosition()
	done := func() int {
		s.assign(name, "?")
		s.setOptionPosition(index, 0)
		return 1
	}
	if index > len(params) || len(params[index-1]) < 2 || params[index-1][0] != '-' {
		return done()
	}
	if params[index-1] == "--" {
		index++
		return done()
	}
	word := params[index-1]
	letter := word[1+offset]
	offset++
	at := strings.IndexByte(strings.TrimPrefix(spec, ":"), letter)
	silent := strings.HasPrefix(spec, ":")
	wants := at >= 0 && at+1 < len(strings.TrimPrefix(spec, ":")) && strings.TrimPrefix(spec, ":")[at+1] == ':'
	value, result, status := "", string(letter), 0
	rest := word[1+offset:]
	if rest == "" || wants {
		index, offset = index+1, 0
	}
	switch {
	case at < 0 || letter == ':':
		result = "?"
		if silent {
			value = string(letter)
		} else {
			s.complain("Illegal option -%c", letter)
		}
	case wants && rest != "":
		value = rest
	case wants && index <= len(params):
		value = params[index-1]
		index++
	case wants:
		result = "?"
		if silent {
			result, value = ":", string(letter)
		} else {
			s.complain("No arg for -%c option", letter)
		}
	}
	s.assign(name, result)
	if value != "" || wants {
		s.assign("OPTARG", value)
	} else {
		delete(s.vars, "OPTARG")
	}
	s.setOptionPosition(index, offset)
	return status
}

// optionPosition keeps the place within a word of joined letters in a variable that scripts do not see: it resets
// when OPTIND is changed.
func (s *shell) optionPosition() (index, offset int) {
	index, err := strconv.Atoi(s.vars["OPTIND"].value)
	if err != nil || index < 1 {
		index = 1
	}
	at, rest, _ := strings.Cut(s.vars[" getopts"].value, " ")
	if n, _ := strconv.Atoi(at); n == index {
		offset, _ = strconv.Atoi(rest)
	}
	return index, offset
}

func (s *shell) setOptionPosition(index, offset int) {
	s.assign("OPTIND", strconv.Itoa(index))
	s.vars[" getopts"] = variable{value: fmt.Sprintf("%d %d", index, offset)}
}

func builtinUmask(s *shell, args []string) int {
	if len(args) == 1 {
		fmt.Fprintf(s.writer(1), "%04o\n", s.view.Umask)
		return 0
	}
	if args[1] == "-S" {
		m := ^s.view.Umask
		part := func(bits fs.FileMode) string {
			out := ""
			for i, c := range "rwx" {
				if bits&(4>>i) != 0 {
					out += string(c)
				}
			}
			return out
		}
		fmt.Fprintf(s.writer(1), "u=%s,g=%s,o=%s\n", part(m>>6), part(m>>3), part(m))
		return 0
	}
	mask, err := strconv.ParseUint(args[1], 8, 12)
	if err != nil {
		mode, err := symbolicMode(args[1], ^s.view.Umask&0o777, false, 0)
		if err != nil {
			s.complain("umask: Illegal mode: %s", args[1])
			return 2
		}
		s.view.Umask = ^mode & 0o777
		return 0
	}
	s.view.Umask = fs.FileMode(mask)
	return 0
}

func builtinUlimit(s *shell, args []string) int {
	if len(args) < 3 {
		fmt.Fprintln(s.writer(1), "unlimited")
	}
	return 0
}

func builtinTimes(s *shell, _ []string) int {
	return s.print("times", "0m0.000000s 0m0.000000s\n0m0.000000s 0m0.000000s\n")
}

func builtinPrintf(s *shell, args []string) int {
	dashed := len(args) > 1 && args[1] == "--"
	if dashed {
		args = append(args[:1:1], args[2:]...)
	}
	if len(args) > 1 && len(args[1]) > 1 && args[1][0] == '-' && !s.bash() && args[0] == "printf" && !dashed {
		s.complain("printf: Illegal option -%c", args[1][1])
		return 2
	}
	if len(args) < 2 {
		s.complain("printf: usage: printf format [arg ...]")
		return 2
	}
	text, errs := format(args[1], args[2:])
	status := s.print("printf", text)
	for _, e := range errs {
		s.complain("printf: %s", e)
		status = 1
	}
	return status
}

func builtinTest(s *shell, args []string) int {
	view := *s.view
	view.Dir = s.dir
	ok, err := evalTest(args, &view, s.isTerminal)
	if err != nil {
		s.complain("%s: %v", args[0], err)
		return 2
	}
	return boolStatus(ok)
}

func (s *shell) isTerminal(fd int) bool { return s.proc.TTY && s.files.get(fd) != nil && fd < 3 }

// testClause is bash's [[ ]].
func (s *shell) testClause(x syntax.TestExpr) {
	ok, err := s.testExpr(x)
	if err != nil {
		if !errors.Is(err, errExpansion) {
			s.complain("%v", err)
			s.status = 2
		}
		return
	}
	s.status = boolStatus(ok)
}

func (s *shell) testExpr(x syntax.TestExpr) (bool, error) {
	switch x := x.(type) {
	case *syntax.ParenTest:
		return s.testExpr(x.X)
	case *syntax.Word:
		text, ok := s.literal(x)
		if !ok {
			return false, errExpansion
		}
		return text != "", nil
	case *syntax.UnaryTest:
		if x.Op == syntax.TsNot {
			ok, err := s.testExpr(x.X)
			return !ok, err
		}
		word, _ := x.X.(*syntax.Word)
		text, ok := s.literal(word)
		if !ok {
			return false, errExpansion
		}
		return evalTest([]string{"test", x.Op.String(), text}, s.view, s.isTerminal)
	case *syntax.BinaryTest:
		return s.binaryTest(x)
	}
	return false, fmt.Errorf("unsupported test %T", x)
}

func (s *shell) binaryTest(x *syntax.BinaryTest) (bool, error) {
	if x.Op == syntax.AndTest || x.Op == syntax.OrTest {
		ok, err := s.testExpr(x.X)
		if err != nil || ok == (x.Op == syntax.OrTest) {
			return ok, err
		}
		return s.testExpr(x.Y)
	}
	lw, _ := x.X.(*syntax.Word)
	rw, _ := x.Y.(*syntax.Word)
	left, ok := s.literal(lw)
	if !ok {
		return false, errExpansion
	}
	switch x.Op {
	case syntax.TsMatchShort, syntax.TsMatch, syntax.TsNoMatch:
		pat, ok := s.pattern(rw)
		if !ok {
			return false, errExpansion
		}
		return matches(pat, left) != (x.Op == syntax.TsNoMatch), nil
	case syntax.TsReMatch:
		right, ok := s.literal(rw)
		if !ok {
			return false, errExpansion
		}
		re, err := regexp.Compile(right)
		return err == nil && re.MatchString(left), err
	}
	right, ok := s.literal(rw)
	if !ok {
		return false, errExpansion
	}
	return evalTest([]string{"test", left, x.Op.String(), right}, s.view, s.isTerminal)
}
