package diag

import (
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Suggest returns the name that given was most likely meant to be, or "" when none is close.
func Suggest(given string, among []string) string {
	// A third of the letters may differ, but one always may: "ue" for "run" is no typing mistake, "hsot" for "host" is.
	limit := min(3, max(1, (len(given)+1)/3))
	if len(given) == 4 {
		limit = 2
	}
	best, distance := "", limit+1
	for _, name := range slices.Sorted(slices.Values(among)) {
		if strings.EqualFold(name, given) && name != given {
			return name
		}
		d := levenshtein.Distance(given, name, nil)
		if d == 2 && len(given) == len(name) && sameLetters(given, name) {
			d = 1 // two letters in the wrong order are one mistake
		}
		if d < distance && d < len(name) {
			best, distance = name, d
		}
	}
	return best
}

// DidYouMean is Suggest as a sentence that starts with a space, or "".
func DidYouMean(given string, among []string) string {
	if name := Suggest(given, among); name != "" {
		return ` Did you mean "` + name + `"?`
	}
	return ""
}

func sameLetters(a, b string) bool {
	x, y := []byte(a), []byte(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}
