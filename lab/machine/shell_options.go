package machine

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
)

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
