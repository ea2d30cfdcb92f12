package machine

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

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
