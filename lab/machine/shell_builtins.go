package machine

import (
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

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

// evaluate runs text as commands of this shell.
func (s *shell) evaluate(text string) {
	interact, line := s.interact, s.line
	s.interact = false
	s.sourceText(text)
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
