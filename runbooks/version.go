package runbooks

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// version is a release number: major, minor, patch. What follows a hyphen or plus is not compared.
type version [3]int

var versionForm = regexp.MustCompile(`^v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?(?:[-+].*)?$`)

func parseVersion(text string) (v version, parts int, ok bool) {
	m := versionForm.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return v, 0, false
	}
	for i := range v {
		if m[i+1] != "" {
			v[i], _ = strconv.Atoi(m[i+1]) // the form allows no more digits than fit
			parts++
		}
	}
	return v, parts, true
}

func (v version) compare(w version) int {
	return cmp.Or(cmp.Compare(v[0], w[0]), cmp.Compare(v[1], w[1]), cmp.Compare(v[2], w[2]))
}

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

var constraintForm = regexp.MustCompile(`^(>=|<=|!=|~>|>|<|=)?\s*(.+)$`)

// meets tells whether a version meets constraints such as ">= 0.2, < 1.0" or "~> 0.3".
func (v version) meets(constraints string) (bool, error) {
	all := true
	for c := range strings.SplitSeq(constraints, ",") {
		m := constraintForm.FindStringSubmatch(strings.TrimSpace(c))
		if m == nil {
			return false, fmt.Errorf("%q is no version constraint such as \">= 0.2\"", c)
		}
		want, parts, ok := parseVersion(m[2])
		if !ok {
			return false, fmt.Errorf("%q is no version such as 0.2 or 1.4.1", m[2])
		}
		all = all && v.holds(m[1], want, parts)
	}
	return all, nil
}

func (v version) holds(operator string, want version, parts int) bool {
	c := v.compare(want)
	switch operator {
	case ">=":
		return c >= 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	case "<":
		return c < 0
	case "!=":
		return c != 0
	case "~>":
		// The last part that is written may grow, those before it may not.
		for i := range max(parts-1, 1) {
			if v[i] != want[i] {
				return false
			}
		}
		return c >= 0
	}
	return c == 0
}
