package pattern

import (
	"errors"
	"fmt"
)

// MaxCaptures is how many captures a pattern may have, as in Lua.
const MaxCaptures = 32

// maxItems bounds the length of a pattern, and so how deep a match can nest.
const maxItems = 4000

// Pattern is a compiled pattern. It is immutable and may be shared.
type Pattern struct {
	anchored bool // begins with ^
	items    []item
	captures int
}

type kind uint8

const (
	single     kind = iota // one byte of a set, repeated as its quantifier says
	open                   // ( of a capture
	position               // () as a whole
	closing                // )
	same                   // %1: what a capture holds, again
	balanced               // %bxy
	frontier               // %f[set]
	endOfInput             // $ at the end of the pattern
)

type quantifier uint8

const (
	once quantifier = iota
	optional
	greedy
	greedyOne
	lazy
)

type item struct {
	kind    kind
	repeat  quantifier
	set     set
	capture int // number of the capture, from 0
	x, y    byte
}

// set is which bytes match.
type set [4]uint64

func (s *set) add(b byte)      { s[b>>6] |= 1 << (b & 63) }
func (s *set) has(b byte) bool { return s[b>>6]&(1<<(b&63)) != 0 }
func (s *set) addAll(o set) {
	for i := range s {
		s[i] |= o[i]
	}
}

func (s *set) invert() {
	for i := range s {
		s[i] = ^s[i]
	}
}

// Compile reads a pattern. With anchor a ^ at its beginning holds the match to where it is tried; without, as in gmatch,
// it is a character like others.
func Compile(text string, anchor bool) (*Pattern, error) {
	p := &Pattern{}
	if anchor && text != "" && text[0] == '^' {
		p.anchored, text = true, text[1:]
	}
	c := compiler{text: text, pattern: p}
	for c.at < len(text) {
		if err := c.next(); err != nil {
			return nil, err
		}
		if len(p.items) > maxItems {
			return nil, errors.New("pattern too complex")
		}
	}
	if len(c.opened) > 0 {
		return nil, errors.New("unfinished capture")
	}
	return p, nil
}

type compiler struct {
	text    string
	at      int
	pattern *Pattern
	opened  []int
}

func (c *compiler) add(i item) { c.pattern.items = append(c.pattern.items, i) }

func (c *compiler) next() error {
	ch := c.text[c.at]
	c.at++
	switch ch {
	case '(':
		return c.open()
	case ')':
		if len(c.opened) == 0 {
			return errors.New("invalid pattern capture")
		}
		last := len(c.opened) - 1
		c.add(item{kind: closing, capture: c.opened[last]})
		c.opened = c.opened[:last]
		return nil
	case '$':
		if c.at == len(c.text) {
			c.add(item{kind: endOfInput})
			return nil
		}
	case '%':
		if done, err := c.special(); done || err != nil {
			return err
		}
	}
	c.at--
	s, err := c.one()
	if err != nil {
		return err
	}
	c.add(item{kind: single, set: s, repeat: c.quantifier()})
	return nil
}

func (c *compiler) open() error {
	if c.pattern.captures == MaxCaptures {
		return errors.New("too many captures")
	}
	n := c.pattern.captures
	c.pattern.captures++
	if c.at < len(c.text) && c.text[c.at] == ')' {
		c.at++
		c.add(item{kind: position, capture: n})
		return nil
	}
	c.opened = append(c.opened, n)
	c.add(item{kind: open, capture: n})
	return nil
}

// special reads what follows a % if that is more than a character or a class.
func (c *compiler) special() (bool, error) {
	if c.at == len(c.text) {
		return false, errors.New("malformed pattern (ends with '%')")
	}
	switch ch := c.text[c.at]; {
	case ch == 'b':
		if c.at+2 >= len(c.text) {
			return false, errors.New("unbalanced pattern (%b needs two characters)")
		}
		c.add(item{kind: balanced, x: c.text[c.at+1], y: c.text[c.at+2]})
		c.at += 3
		return true, nil
	case ch == 'f':
		c.at++
		if c.at == len(c.text) || c.text[c.at] != '[' {
			return false, errors.New("missing '[' after '%f' in pattern")
		}
		s, err := c.one()
		if err != nil {
			return false, err
		}
		c.add(item{kind: frontier, set: s})
		return true, nil
	case '0' <= ch && ch <= '9':
		n := int(ch-'0') - 1
		if n < 0 || n >= c.pattern.captures || c.isOpen(n) {
			return false, fmt.Errorf("invalid capture index %%%c", ch)
		}
		c.at++
		c.add(item{kind: same, capture: n})
		return true, nil
	}
	return false, nil
}

func (c *compiler) isOpen(n int) bool {
	for _, o := range c.opened {
		if o == n {
			return true
		}
	}
	return false
}

func (c *compiler) quantifier() quantifier {
	if c.at == len(c.text) {
		return once
	}
	c.at++
	switch c.text[c.at-1] {
	case '*':
		return greedy
	case '+':
		return greedyOne
	case '-':
		return lazy
	case '?':
		return optional
	}
	c.at--
	return once
}

// one reads what stands for one byte: a character, a class or a set.
func (c *compiler) one() (set, error) {
	var s set
	ch := c.text[c.at]
	c.at++
	switch ch {
	case '.':
		s.invert()
	case '%':
		if c.at == len(c.text) {
			return s, errors.New("malformed pattern (ends with '%')")
		}
		s = class(c.text[c.at])
		c.at++
	case '[':
		return c.brackets()
	default:
		s.add(ch)
	}
	return s, nil
}

// brackets reads a set from behind its [. The first character is never its end.
func (c *compiler) brackets() (set, error) {
	var s set
	missing := errors.New("malformed pattern (missing ']')")
	inverted := c.at < len(c.text) && c.text[c.at] == '^'
	if inverted {
		c.at++
	}
	for first := true; ; first = false {
		if c.at == len(c.text) {
			return s, missing
		}
		ch := c.text[c.at]
		c.at++
		switch {
		case ch == ']' && !first:
			if inverted {
				s.invert()
			}
			return s, nil
		case ch == '%':
			if c.at == len(c.text) {
				return s, missing
			}
			s.addAll(class(c.text[c.at]))
			c.at++
		case c.at+1 < len(c.text) && c.text[c.at] == '-' && c.text[c.at+1] != ']':
			for b := int(ch); b <= int(c.text[c.at+1]); b++ {
				s.add(byte(b))
			}
			c.at += 2
		default:
			s.add(ch)
		}
	}
}

// Anchored reports whether the pattern is held to where it is tried, by a ^ at its beginning.
func (p *Pattern) Anchored() bool { return p.anchored }
