package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// call runs a simple command.
func (s *shell) call(c *syntax.CallExpr) {
	s.substStatus = 0
	args, ok := s.fields(c.Args)
	if !ok {
		return
	}
	if len(args) == 0 {
		s.assignments(c.Assigns)
		return
	}
	extra, ok := s.temporary(c.Assigns)
	if !ok {
		return
	}
	if s.opts.xtrace {
		s.trace(c.Assigns, extra, args)
	}
	s.invoke(args, extra)
}

// assignments sets variables for good: a command of nothing else.
func (s *shell) assignments(list []*syntax.Assign) {
	for _, a := range list {
		value, ok := s.literal(a.Value)
		if !ok {
			return
		}
		if a.Append {
			value = s.vars[a.Name.Value].value + value
		}
		if !s.assign(a.Name.Value, value) {
			s.readOnly(a.Name.Value)
			return
		}
		if s.opts.xtrace {
			s.trace(nil, nil, []string{a.Name.Value + "=" + value})
		}
	}
	s.status = s.substStatus
}

func (s *shell) readOnly(name string) {
	s.complain("%s: is read only", name)
	s.status, s.exiting = 2, true
}

// temporary expands the assignments that precede a command.
func (s *shell) temporary(list []*syntax.Assign) (map[string]string, bool) {
	if len(list) == 0 {
		return nil, true
	}
	extra := make(map[string]string, len(list))
	for _, a := range list {
		value, ok := s.literal(a.Value)
		if !ok {
			return nil, false
		}
		if s.vars[a.Name.Value].readonly {
			s.readOnly(a.Name.Value)
			return nil, false
		}
		extra[a.Name.Value] = value
	}
	return extra, true
}

func (s *shell) trace(assigns []*syntax.Assign, extra map[string]string, args []string) {
	prefix := s.vars["PS4"].value
	words := make([]string, 0, len(args)+len(assigns))
	for _, a := range assigns {
		words = append(words, a.Name.Value+"="+extra[a.Name.Value])
	}
	for _, arg := range args {
		if s.bash() {
			arg = traceQuote(arg)
		}
		words = append(words, arg)
	}
	fmt.Fprintf(s.writer(2), "%s%s\n", prefix, strings.Join(words, " "))
}

func traceQuote(word string) string {
	if word == "" || strings.ContainsAny(word, " \t\n'\"\\$`;&|<>()*?[]#~") {
		return "'" + strings.ReplaceAll(word, "'", `'"'"'`) + "'"
	}
	return word
}

// invoke runs a function, a builtin or a program.
func (s *shell) invoke(args []string, extra map[string]string) {
	name := args[0]
	special := specialBuiltin(name)
	if body := s.funcs[name]; body != nil && !special {
		s.withVariables(extra, func() { s.function(body, args[1:]) })
		return
	}
	if b := s.m.builtins[name]; b != nil {
		if special { // their assignments stay
			for k, v := range extra {
				s.assign(k, v)
			}
			s.status = b(s, args)
			return
		}
		s.withVariables(extra, func() { s.status = b(s, args) })
		return
	}
	s.status = s.external(s.ctx, args, extra)
	if s.gone() {
		s.end()
	}
}

// withVariables sets variables for the time of f.
func (s *shell) withVariables(extra map[string]string, f func()) {
	if len(extra) == 0 {
		f()
		return
	}
	old := make(map[string]variable, len(extra))
	for k, value := range extra {
		old[k] = s.vars[k]
		s.vars[k] = variable{value: value, set: true, exported: true}
	}
	f()
	for k, v := range old {
		if v == (variable{}) {
			delete(s.vars, k)
		} else {
			s.vars[k] = v
		}
	}
}

// function calls a shell function with its own parameters and local variables.
func (s *shell) function(body *syntax.Stmt, params []string) {
	if s.calls+s.depth >= maxDepth {
		s.complain("Maximum function recursion depth (%d) reached", maxDepth)
		s.status, s.exiting = 2, true
		return
	}
	saved, loops := s.params, s.loops
	s.params, s.loops = params, 0
	s.locals = append(s.locals, nil)
	s.calls++
	s.stmt(body)
	s.calls--
	for name, v := range s.locals[len(s.locals)-1] {
		if v == (variable{}) {
			delete(s.vars, name)
		} else {
			s.vars[name] = v
		}
	}
	s.locals = s.locals[:len(s.locals)-1]
	s.params, s.loops, s.returning = saved, loops, false
	s.breaks, s.continues = 0, 0
}

// external runs a program.
func (s *shell) external(ctx context.Context, args []string, extra map[string]string) int {
	p := s.proc.child(args)
	p.Env, p.Dir = s.environment(extra), s.dir
	umask := s.umask()
	p.umask, p.extra = &umask, nil
	program, err := s.m.find(&p)
	if err != nil {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			s.complain("%s: not found", args[0])
			return exitNotFound
		default:
			s.complain("%s: %s", args[0], Reason(err))
			return exitNotExecutable
		}
	}
	p.files = s.files
	var entry *process
	code := s.m.runProcess(ctx, p, program, func(e *process) { entry = e })
	if code > 128 && !s.gone() && entry != nil {
		s.mourn(entry.killed)
	}
	return code
}

// mourn prints how a child died, if by a signal that deserves a word.
func (s *shell) mourn(killed Signal) {
	text := map[Signal]string{SIGKILL: "Killed", SIGTERM: "Terminated", SIGSEGV: "Segmentation fault", SIGHUP: "Hangup", SIGABRT: "Aborted", SIGALRM: "Alarm clock"}[killed]
	if text != "" {
		fmt.Fprintln(s.writer(2), text)
	}
}
