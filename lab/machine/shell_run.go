package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"mvdan.cc/sh/v3/pattern"
	"mvdan.cc/sh/v3/syntax"
)

// run executes a list as the body of a subshell.
func (s *shell) run(stmts []*syntax.Stmt) {
	s.runList(stmts)
	s.exiting, s.returning, s.breaks, s.continues = false, false, 0, 0
	s.runExitTrap()
}

func (s *shell) runList(stmts []*syntax.Stmt) {
	for _, st := range stmts {
		s.stmt(st)
		if s.unwinding() {
			return
		}
	}
}

// stmt runs one statement: negation, background, redirections, and what set -e makes of the status.
func (s *shell) stmt(st *syntax.Stmt) {
	if s.gone() {
		s.end()
		return
	}
	s.runTraps()
	if s.exiting || s.opts.noexec {
		return
	}
	s.line = st.Pos().Line()
	if st.Background {
		s.startJob(st)
		return
	}
	if st.Negated {
		s.lenient++
	}
	s.redirected(st)
	if st.Negated {
		s.lenient--
		if !s.unwinding() {
			s.status = boolStatus(s.status != 0)
		}
		return
	}
	if s.opts.errexit && s.status != 0 && s.lenient == 0 && !s.unwinding() && !isAndOr(st) {
		s.exiting = true
	}
	s.runTraps()
}

func isAndOr(st *syntax.Stmt) bool {
	b, ok := st.Cmd.(*syntax.BinaryCmd)
	return ok && (b.Op == syntax.AndStmt || b.Op == syntax.OrStmt)
}

// end marks the shell as ended from outside.
func (s *shell) end() {
	var sig Signal
	s.status = 128 + int(SIGHUP)
	if errors.As(context.Cause(s.ctx), &sig) {
		s.status = 128 + int(sig)
	}
	s.exiting = true
}

func boolStatus(ok bool) int {
	if ok {
		return 0
	}
	return 1
}

// redirected runs a statement's command with its redirections in place.
func (s *shell) redirected(st *syntax.Stmt) {
	if len(st.Redirs) == 0 {
		s.command(st.Cmd)
		return
	}
	saved := s.files.clone()
	if err := s.redirect(st.Redirs); err != nil {
		s.files.release()
		s.files = saved
		if s.exiting {
			return
		}
		s.complain("%v", err)
		s.status = 2
		if s.bash() {
			s.status = 1
			return
		}
		if call, ok := st.Cmd.(*syntax.CallExpr); ok && len(call.Args) > 0 && specialBuiltin(call.Args[0].Lit()) {
			s.exiting = true
		}
		return
	}
	s.keepFiles = false
	s.command(st.Cmd)
	if s.keepFiles {
		s.keepFiles = false
		saved.release()
		return
	}
	s.files.release()
	s.files = saved
}

func (s *shell) command(c syntax.Command) {
	switch c := c.(type) {
	case nil: // only redirections
		s.status = 0
	case *syntax.CallExpr:
		s.call(c)
	case *syntax.BinaryCmd:
		s.binary(c)
	case *syntax.Block:
		s.runList(c.Stmts)
	case *syntax.Subshell:
		sub := s.subshell()
		sub.run(c.Stmts)
		sub.files.release()
		s.status = sub.status
		if s.gone() {
			s.end()
		}
	case *syntax.IfClause:
		s.ifClause(c)
	case *syntax.WhileClause:
		s.while(c)
	case *syntax.ForClause:
		s.forLoop(c)
	case *syntax.CaseClause:
		s.caseClause(c)
	case *syntax.FuncDecl:
		if s.funcs == nil {
			s.funcs = map[string]*syntax.Stmt{}
		}
		s.funcs[c.Name.Value] = c.Body
		s.status = 0
	case *syntax.DeclClause:
		s.declare(c)
	case *syntax.TestClause:
		s.testClause(c.X)
	case *syntax.ArithmCmd:
		if n, ok := s.arithmetic(c.X); ok {
			s.status = boolStatus(n != 0)
		}
	case *syntax.TimeClause:
		if c.Stmt != nil {
			s.stmt(c.Stmt)
		}
	default:
		s.complain("Syntax error: %T is not supported", c)
		s.status, s.exiting = 2, true
	}
}

func (s *shell) binary(b *syntax.BinaryCmd) {
	switch b.Op {
	case syntax.Pipe, syntax.PipeAll:
		s.pipeline(b)
		return
	}
	s.lenient++
	s.stmt(b.X)
	s.lenient--
	if s.unwinding() {
		return
	}
	if b.Op == syntax.AndStmt && s.status == 0 || b.Op == syntax.OrStmt && s.status != 0 {
		s.stmt(b.Y)
	}
}

// pipeline runs all its commands at once, each in a subshell.
func (s *shell) pipeline(b *syntax.BinaryCmd) {
	var parts []*syntax.Stmt
	var both []bool // |& joins stderr
	for {
		parts, both = append([]*syntax.Stmt{b.Y}, parts...), append([]bool{b.Op == syntax.PipeAll}, both...)
		next, ok := b.X.Cmd.(*syntax.BinaryCmd)
		if !ok || next.Op != syntax.Pipe && next.Op != syntax.PipeAll || len(b.X.Redirs) > 0 || b.X.Negated {
			parts = append([]*syntax.Stmt{b.X}, parts...)
			break
		}
		b = next
	}
	for i := range len(parts) - 1 {
		if !s.m.fork() {
			for range i {
				s.m.unfork()
			}
			s.cannotFork()
			return
		}
	}
	statuses := make([]int, len(parts))
	shells := make([]*shell, len(parts))
	for i := range parts {
		shells[i] = s.subshell()
		shells[i].lenient = 0
	}
	for i := range both {
		pipe := NewPipe()
		out := &openFile{w: pipe, close: pipe.CloseWrite}
		in := &openFile{r: pipe, close: pipe.CloseRead}
		out.refs.Store(1)
		in.refs.Store(1)
		shells[i].files.set(1, out)
		if both[i] {
			shells[i].files.set(2, out.retain())
		}
		shells[i+1].files.set(0, in)
	}
	last := len(parts) - 1
	done := make(chan struct{}, last)
	one := func(i int) {
		shells[i].run(parts[i : i+1])
		statuses[i] = shells[i].status
		shells[i].files.release()
	}
	for i := range last {
		s.m.wg.Go(func() {
			defer s.m.unfork()
			one(i)
			done <- struct{}{}
		})
	}
	one(last)
	for range last {
		<-done
	}
	s.status = statuses[last]
	if s.opts.pipefail {
		for _, status := range statuses {
			if status != 0 {
				s.status = status
			}
		}
	}
	if s.gone() {
		s.end()
	}
}

func (s *shell) condition(stmts []*syntax.Stmt) bool {
	s.lenient++
	s.status = 0
	s.runList(stmts)
	s.lenient--
	return s.status == 0
}

func (s *shell) ifClause(c *syntax.IfClause) {
	for ; c != nil; c = c.Else {
		if len(c.Cond) == 0 || s.condition(c.Cond) {
			if s.unwinding() {
				return
			}
			s.status = 0
			s.runList(c.Then)
			return
		}
		if s.unwinding() {
			return
		}
	}
	s.status = 0
}

// leaveLoop consumes a break or continue meant for the innermost loop and tells whether the loop ends.
func (s *shell) leaveLoop() bool {
	switch {
	case s.breaks > 0:
		s.breaks--
		return true
	case s.continues > 1:
		s.continues--
		return true
	case s.continues == 1:
		s.continues = 0
	}
	return s.exiting || s.returning
}

func (s *shell) while(c *syntax.WhileClause) {
	s.loops++
	defer func() { s.loops-- }()
	status := 0
	for {
		ok := s.condition(c.Cond)
		if s.unwinding() {
			if s.leaveLoop() {
				return
			}
			continue
		}
		if ok == c.Until {
			break
		}
		s.runList(c.Do)
		status = s.status
		if s.unwinding() && s.leaveLoop() {
			return
		}
	}
	s.status = status
}

func (s *shell) forLoop(c *syntax.ForClause) {
	loop, ok := c.Loop.(*syntax.WordIter)
	if !ok {
		s.complain("Syntax error: Bad for loop variable")
		s.status, s.exiting = 2, true
		return
	}
	items := s.params
	if loop.InPos.IsValid() {
		if items, ok = s.fields(loop.Items); !ok {
			return
		}
	}
	s.loops++
	defer func() { s.loops-- }()
	s.status = 0
	for _, item := range items {
		if !s.assign(loop.Name.Value, item) {
			s.readOnly(loop.Name.Value)
			return
		}
		s.runList(c.Do)
		if s.unwinding() && s.leaveLoop() {
			return
		}
		if s.gone() {
			s.end()
			return
		}
	}
}

func (s *shell) caseClause(c *syntax.CaseClause) {
	word, ok := s.literal(c.Word)
	if !ok {
		return
	}
	s.status = 0
	for _, item := range c.Items {
		for _, p := range item.Patterns {
			pat, ok := s.pattern(p)
			if !ok {
				return
			}
			if matches(pat, word) {
				s.runList(item.Stmts)
				return
			}
		}
	}
}

// matches tells whether a shell pattern matches all of a text.
func matches(pat, text string) bool {
	if !strings.ContainsAny(pat, `*?[\`) {
		return pat == text
	}
	expr, err := pattern.Regexp(pat, pattern.EntireString)
	if err != nil {
		return pat == text
	}
	re, err := compiled(expr)
	return err == nil && re.MatchString(text)
}

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
