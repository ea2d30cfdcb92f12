package machine

import (
	"context"
	"errors"
	"time"

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
	s.status = 128 + int(SIGHUP)
	if sig, ok := s.endedBy(); ok {
		s.status = 128 + int(sig)
	}
	if action, over, ok := s.outlive(); ok {
		s.inTrap = true
		s.evaluate(action)
		s.inTrap = false
		over()
	}
	s.exiting = true
}

// endedBy is the signal that ended the shell's session.
func (s *shell) endedBy() (sig Signal, ok bool) {
	return sig, errors.As(context.Cause(s.ctx), &sig)
}

// willTime bounds what a trap may do after its shell's session has ended.
const willTime = 10 * time.Second

// outlive gives a shell that has ended, but traps what ended it, such as the hangup of a lost connection, the time for its
// traps. It returns the signal's, and what ends the shell for good.
func (s *shell) outlive() (action string, over func(), ok bool) {
	sig, ok := s.endedBy()
	action = s.traps[sig.String()]
	if !ok || action == "" || sig == SIGKILL || s.inTrap {
		return "", nil, false
	}
	ended := s.ctx
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ended), willTime)
	s.ctx = ctx
	return action, func() { cancel(); s.ctx = ended }, true
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
