package pve

import (
	"cmp"
	"strconv"
	"strings"
)

// KnownMajors are the releases of Proxmox VE that this program knows how to handle.
var KnownMajors = []int{8, 9}

// Major returns the major number of a version such as "9.1.4" or "9.1.4~rc1"; 0 if it has none.
func Major(version string) int {
	digits := version[:len(version)-len(strings.TrimLeft(version, "0123456789"))]
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

// CompareVersions orders two versions by Debian's rules, as far as Proxmox uses them: numbers compare as numbers,
// a "~" sorts before the end of the text, other characters by their code with letters first.
func CompareVersions(a, b string) int {
	for a != "" || b != "" {
		var ta, tb string
		ta, a = cutWhile(a, func(c byte) bool { return !isDigit(c) })
		tb, b = cutWhile(b, func(c byte) bool { return !isDigit(c) })
		if c := compareText(ta, tb); c != 0 {
			return c
		}
		var na, nb string
		na, a = cutWhile(a, isDigit)
		nb, b = cutWhile(b, isDigit)
		na, nb = strings.TrimLeft(na, "0"), strings.TrimLeft(nb, "0")
		if c := cmp.Or(cmp.Compare(len(na), len(nb)), cmp.Compare(na, nb)); c != 0 {
			return c
		}
	}
	return 0
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func cutWhile(s string, keep func(byte) bool) (head, tail string) {
	i := 0
	for i < len(s) && keep(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

func compareText(a, b string) int {
	for i := range max(len(a), len(b)) {
		if c := cmp.Compare(weight(a, i), weight(b, i)); c != 0 {
			return c
		}
	}
	return 0
}

// weight is the place of a character in Debian's order: ~, end of text, letters, everything else.
func weight(s string, i int) int {
	if i >= len(s) {
		return 0
	}
	c := s[i]
	switch {
	case c == '~':
		return -1
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		return int(c)
	default:
		return int(c) + 256
	}
}
