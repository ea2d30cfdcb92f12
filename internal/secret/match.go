package secret

import (
	"slices"
	"strings"
)

// shortest is the length from which a needle is masked wherever it stands. A shorter secret, such as a PIN, would tear
// holes into every text: it is masked only where it stands as a word of its own.
const shortest = 4

// matcher is an immutable set of needles, by their first byte, longest first.
type matcher struct {
	byFirst [256][]string
	longest int
}

func newMatcher(secrets map[string]bool) *matcher {
	m := &matcher{}
	seen := map[string]bool{}
	for s := range secrets {
		for _, needle := range forms(s) {
			if needle == "" || seen[needle] {
				continue
			}
			seen[needle] = true
			m.byFirst[needle[0]] = append(m.byFirst[needle[0]], needle)
			m.longest = max(m.longest, len(needle))
		}
	}
	for i := range m.byFirst {
		slices.SortFunc(m.byFirst[i], func(a, b string) int { return len(b) - len(a) })
	}
	return m
}

// mayMatch is a quick look whether any needle begins in a text.
func (m *matcher) mayMatch(text string) bool {
	for i := range len(text) {
		for _, needle := range m.byFirst[text[i]] {
			if strings.HasPrefix(text[i:], needle) {
				return true
			}
		}
	}
	return false
}

// scan is a text on its way through a matcher.
type scan struct {
	m   *matcher
	buf []byte
	// covered is how much of the beginning of buf belongs to a mask that has already been written.
	covered int
	// last is the byte before buf; 0 at the beginning.
	last byte
}

// run writes what is certain and keeps the rest in buf: an end that might be the beginning of a needle. With final
// there is no more to come and nothing is kept.
func (s *scan) run(out *strings.Builder, final bool) {
	text := string(s.buf)
	keep := len(text)
	if !final {
		keep = s.undecided(text)
	}
	i, end := 0, s.covered // end: where the mask that is open ends
	for i < keep {
		if e := s.match(text, i, final); e > end {
			if i >= end {
				out.WriteString(Masked)
			}
			end = e
		}
		if i >= end {
			out.WriteByte(text[i])
		}
		i++
	}
	if i > 0 {
		s.last = text[i-1]
	}
	s.buf = append(s.buf[:0], text[i:]...)
	s.covered = max(0, end-i)
}

// match returns the end of the longest needle at i, or 0.
func (s *scan) match(text string, i int, final bool) int {
	for _, needle := range s.m.byFirst[text[i]] {
		if !strings.HasPrefix(text[i:], needle) {
			continue
		}
		if len(needle) < shortest && !s.alone(text, i, i+len(needle), final) {
			continue
		}
		return i + len(needle)
	}
	return 0
}

// alone reports whether text[from:to] is a word of its own.
func (s *scan) alone(text string, from, to int, final bool) bool {
	before := s.last
	if from > 0 {
		before = text[from-1]
	}
	if to == len(text) {
		return final && !wordByte(before)
	}
	return !wordByte(before) && !wordByte(text[to])
}

func wordByte(b byte) bool {
	return b == '_' || '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || b >= 0x80
}

// undecided returns the first place from which the text might go on to be a needle; its length if there is none.
func (s *scan) undecided(text string) int {
	for i := max(0, len(text)-s.m.longest); i < len(text); i++ {
		rest := text[i:]
		for _, needle := range s.m.byFirst[text[i]] {
			if len(needle) > len(rest) && strings.HasPrefix(needle, rest) {
				return i
			}
			if len(needle) < shortest && needle == rest { // what follows decides whether it is a word
				return i
			}
		}
	}
	return len(text)
}
