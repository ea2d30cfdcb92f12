package machine

import (
	"errors"
	"fmt"
	"regexp"

	"mvdan.cc/sh/v3/syntax"
)

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
		return s.m.scripts.matches(pat, left) != (x.Op == syntax.TsNoMatch), nil
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
