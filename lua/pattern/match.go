package pattern

import "strings"

// Match is where a pattern was found: text[Start:End].
type Match struct {
	Start, End int
	Captures   []Capture
}

// Capture is one capture. A position capture has no text, only a place.
type Capture struct {
	Start, End int
	Position   bool
}

// stride is how many steps are made between two charges.
const stride = 1 << 10

// Charge is told how many steps were made. Its error ends the match.
type Charge func(steps int) error

// Find looks for the first match that begins at from or later. An anchored pattern is only tried at from.
func (p *Pattern) Find(text string, from int, charge Charge) (Match, bool, error) {
	m := matcher{pattern: p, text: text, charge: charge}
	for at := from; at <= len(text); at++ {
		if len(p.items) > 0 && !p.anchored && p.items[0].kind == single && (p.items[0].repeat == once || p.items[0].repeat == greedyOne) {
			skipped := m.skip(at)
			if at = skipped; at == len(text) {
				break
			}
		}
		end := m.match(0, at)
		if m.err != nil {
			return Match{}, false, m.err
		}
		if end >= 0 {
			return m.found(at, end), true, m.flush()
		}
		if p.anchored {
			break
		}
	}
	return Match{}, false, m.flush()
}

type matcher struct {
	pattern  *Pattern
	text     string
	captures [MaxCaptures]Capture
	charge   Charge
	steps    int
	err      error
}

func (m *matcher) found(start, end int) Match {
	result := Match{Start: start, End: end}
	if n := m.pattern.captures; n > 0 {
		result.Captures = append(make([]Capture, 0, n), m.captures[:n]...)
	}
	return result
}

// step counts n steps and reports whether to go on.
func (m *matcher) step(n int) bool {
	m.steps += n
	if m.steps >= stride {
		return m.flush() == nil
	}
	return true
}

func (m *matcher) flush() error {
	if m.err == nil && m.charge != nil && m.steps > 0 {
		m.err = m.charge(m.steps)
	}
	m.steps = 0
	return m.err
}

// skip goes to the next byte that a match can begin with.
func (m *matcher) skip(at int) int {
	first := &m.pattern.items[0].set
	for at < len(m.text) && !first.has(m.text[at]) {
		at++
		if !m.step(1) {
			return len(m.text)
		}
	}
	return at
}

// match returns where the items from i on end when they begin at s; -1 where they don't match. Every nested call stands for
// an item of the pattern, so the nesting is bounded by its length.
func (m *matcher) match(i, s int) int {
	for i < len(m.pattern.items) {
		if !m.step(1) {
			return -1
		}
		it := &m.pattern.items[i]
		switch it.kind {
		case single:
			if it.repeat != once {
				return m.repeated(it, i, s)
			}
			if s >= len(m.text) || !it.set.has(m.text[s]) {
				return -1
			}
			s++
		case open:
			return m.restoring(it.capture, Capture{Start: s, End: -1}, i, s)
		case position:
			return m.restoring(it.capture, Capture{Start: s, End: s, Position: true}, i, s)
		case closing:
			return m.restoring(it.capture, Capture{Start: m.captures[it.capture].Start, End: s}, i, s)
		case same:
			c := m.captures[it.capture]
			again := m.text[c.Start:c.End]
			if !m.step(len(again)/16) || !strings.HasPrefix(m.text[s:], again) {
				return -1
			}
			s += len(again)
		case balanced:
			if s = m.balance(it.x, it.y, s); s < 0 {
				return -1
			}
		case frontier:
			var before, after byte // the text is framed by zero bytes
			if s > 0 {
				before = m.text[s-1]
			}
			if s < len(m.text) {
				after = m.text[s]
			}
			if it.set.has(before) || !it.set.has(after) {
				return -1
			}
		case endOfInput:
			if s != len(m.text) {
				return -1
			}
		}
		i++
	}
	return s
}

// restoring sets a capture for the rest of the match, and puts back what was there if that fails.
func (m *matcher) restoring(n int, c Capture, i, s int) int {
	old := m.captures[n]
	m.captures[n] = c
	end := m.match(i+1, s)
	if end < 0 {
		m.captures[n] = old
	}
	return end
}

func (m *matcher) repeated(it *item, i, s int) int {
	fits := func(at int) bool { return at < len(m.text) && it.set.has(m.text[at]) }
	switch it.repeat {
	case optional:
		if fits(s) {
			if end := m.match(i+1, s+1); end >= 0 || m.err != nil {
				return end
			}
		}
		return m.match(i+1, s)
	case lazy:
		for {
			if end := m.match(i+1, s); end >= 0 || m.err != nil {
				return end
			}
			if !fits(s) || !m.step(1) {
				return -1
			}
			s++
		}
	}
	least := s
	if it.repeat == greedyOne {
		least++
	}
	most := s
	for fits(most) {
		most++
		if !m.step(1) {
			return -1
		}
	}
	for ; most >= least; most-- {
		if end := m.match(i+1, most); end >= 0 || m.err != nil {
			return end
		}
	}
	return -1
}

// balance returns the end of what begins with x at s and ends with its y.
func (m *matcher) balance(x, y byte, s int) int {
	if s >= len(m.text) || m.text[s] != x {
		return -1
	}
	depth := 1
	for s++; s < len(m.text); s++ {
		if !m.step(1) {
			return -1
		}
		switch m.text[s] {
		case y:
			if depth--; depth == 0 {
				return s + 1
			}
		case x:
			depth++
		}
	}
	return -1
}
