package machine

import (
	"mvdan.cc/sh/v3/syntax"
)

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
			if s.m.scripts.matches(pat, word) {
				s.runList(item.Stmts)
				return
			}
		}
	}
}
