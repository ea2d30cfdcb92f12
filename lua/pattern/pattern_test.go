package pattern_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/lua/pattern"
	"github.com/stretchr/testify/require"
	"github.com/yuin/gopher-lua/pm"
	"pgregory.net/rapid"
)

// found shows a match: where it is, and its captures.
func found(t require.TestingT, p, text string, from int) string {
	compiled, err := pattern.Compile(p, true)
	if err != nil {
		return "error: " + err.Error()
	}
	m, ok, err := compiled.Find(text, from, nil)
	require.NoError(t, err)
	if !ok {
		return "none"
	}
	parts := []string{fmt.Sprintf("%d-%d", m.Start, m.End)}
	for _, c := range m.Captures {
		if c.Position {
			parts = append(parts, fmt.Sprintf("@%d", c.Start))
		} else {
			parts = append(parts, fmt.Sprintf("%q", text[c.Start:c.End]))
		}
	}
	return strings.Join(parts, " ")
}

func TestFind(t *testing.T) {
	for _, tt := range []struct{ pattern, text, want string }{
		{"", "abc", "0-0"},
		{"b", "abc", "1-2"},
		{"^b", "abc", "none"},
		{"c$", "abc", "2-3"},
		{"b$", "abc", "none"},
		{"$", "abc", "3-3"},
		{"a$b", "a$b", "0-3"},
		{".-b", "aab", "0-3"},
		{"a*", "aaab", "0-3"},
		{"a*b", "aaab", "0-4"},
		{"a+", "baa", "1-3"},
		{"ab?c", "ac abc", "0-2"},
		{"%d+", "v8.4.1", "1-2"},
		{"(%d+)%.(%d+)", "v8.4.1", `1-4 "8" "4"`},
		{"()ll()", "hello", "2-4 @2 @4"},
		{"((a)(b))", "xab", `1-3 "ab" "a" "b"`},
		{"(.)%1", "abccd", `2-4 "c"`},
		{`(["'])(.-)%1`, `say "it's"`, `4-10 "\"" "it's"`},
		{"%b()", "f(a(b)c)d", "1-8"},
		{"%b()", "f(a", "none"},
		{"%f[%w]%w+", "  word", "2-6"},
		{"%f[%z]", "ab", "2-2"},
		{"[]]", "a]", "1-2"},
		{"[^]]", "]a", "1-2"},
		{"[a-]", "-", "0-1"},
		{"[-a]", "-", "0-1"},
		{"[%-x]+", "a-x-", "1-4"},
		{"[^%s]+", "  ab ", "2-4"},
		{"%S+$", "a bc", "2-4"},
		{"%%", "50%", "2-3"},
		{"[a-c]+", "xxabcd", "2-5"},
		{"%u%l+", "the Node", "4-8"},
		{"a%z", "a\x00", "0-2"},
		{"^(%w+)%s*=%s*(.-)%s*$", "key = some value  ", `0-18 "key" "some value"`},
		{"(", "x", "error: unfinished capture"},
		{")", "x", "error: invalid pattern capture"},
		{"%", "x", "error: malformed pattern (ends with '%')"},
		{"[a", "x", "error: malformed pattern (missing ']')"},
		{"[]", "x", "error: malformed pattern (missing ']')"},
		{"%1", "x", "error: invalid capture index %1"},
		{"(%1)", "x", "error: invalid capture index %1"},
		{"%b(", "x", "error: unbalanced pattern (%b needs two characters)"},
		{"%fa", "x", "error: missing '[' after '%f' in pattern"},
		{strings.Repeat("()", 33), "x", "error: too many captures"},
		{strings.Repeat("a?", 5000), "x", "error: pattern too complex"},
	} {
		require.Equal(t, tt.want, found(t, tt.pattern, tt.text, 0), "%q in %q", tt.pattern, tt.text)
	}
}

func TestAPatternThatExplodesEndsWithItsBudget(t *testing.T) {
	left := 100_000
	charge := func(steps int) error {
		if left -= steps; left < 0 {
			return context.DeadlineExceeded
		}
		return nil
	}
	for p, length := range map[string]int{
		strings.Repeat("a*", 30) + "b":                                   100_000,
		strings.Repeat(".-", 12) + "b":                                   100_000,
		"(" + strings.Repeat("a?", 200) + ")" + strings.Repeat("a", 200): 200,
	} {
		left = 100_000
		compiled, err := pattern.Compile(p, true)
		require.NoError(t, err)
		_, _, err = compiled.Find(strings.Repeat("a", length), 0, charge)
		require.ErrorIs(t, err, context.DeadlineExceeded, p)
		require.Greater(t, left, -200_000, "the budget is overdrawn by little")
	}
}

func TestTheDeepestPatternStaysWithinTheStack(t *testing.T) {
	compiled, err := pattern.Compile(strings.Repeat("a?", 4000), true)
	require.NoError(t, err)
	m, ok, err := compiled.Find(strings.Repeat("a", 4000), 0, nil)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 4000, m.End)
}

// oracle is what gopher-lua's own matcher finds.
func oracle(p, text string) (string, error) {
	all, err := pm.Find(p, []byte(text), 0, 1)
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "none", nil
	}
	m := all[0]
	parts := []string{fmt.Sprintf("%d-%d", m.Capture(0), m.Capture(1))}
	for i := 2; i < m.CaptureLength(); i += 2 {
		if m.IsPosCapture(i) {
			parts = append(parts, fmt.Sprintf("@%d", m.Capture(i)-1))
		} else {
			parts = append(parts, fmt.Sprintf("%q", text[m.Capture(i):m.Capture(i+1)]))
		}
	}
	return strings.Join(parts, " "), nil
}

func TestFindAgreesWithTheInterpretersOwnMatcher(t *testing.T) {
	atom := rapid.OneOf(
		rapid.SampledFrom([]string{"a", "b", "1", ".", "%a", "%d", "%w", "%s", "%A", "[ab]", "[^a]", "[a-c]", "[%d_]", "%.", " "}),
	)
	piece := rapid.Custom(func(t *rapid.T) string {
		return atom.Draw(t, "atom") + rapid.SampledFrom([]string{"", "", "*", "+", "-", "?"}).Draw(t, "repeat")
	})
	rapid.Check(t, func(t *rapid.T) {
		p := strings.Join(rapid.SliceOfN(piece, 0, 4).Draw(t, "pieces"), "")
		if rapid.Bool().Draw(t, "capture") {
			p = "(" + p + ")" + piece.Draw(t, "behind")
		}
		if rapid.Bool().Draw(t, "anchored") {
			p = "^" + p
		}
		if rapid.Bool().Draw(t, "end") {
			p += "$"
		}
		text := rapid.StringOfN(rapid.RuneFrom([]rune("aab1c _.")), 0, 10, -1).Draw(t, "text")
		want, err := oracle(p, text)
		if err != nil {
			t.Skip(err.Error())
		}
		if got := found(t, p, text, 0); got != want {
			t.Fatalf("%q in %q: %s, and the other matcher says %s", p, text, got, want)
		}
	})
}

func FuzzFind(f *testing.F) {
	for _, seed := range []string{"a*b", "(%d+)%.()", "%b()x-", "[^%s]+$", "%f[%w].-%1", "^(.)(.)%2%1"} {
		f.Add(seed, "ab(12.5)ba abba")
	}
	f.Fuzz(func(t *testing.T, p, text string) {
		compiled, err := pattern.Compile(p, true)
		if err != nil {
			return
		}
		left, spent := 1_000_000, errors.New("spent")
		m, ok, err := compiled.Find(text, 0, func(steps int) error {
			if left -= steps; left < 0 {
				return spent
			}
			return nil
		})
		if err != nil || !ok {
			return
		}
		if m.Start > m.End || m.End > len(text) {
			t.Fatalf("%q in %q: %+v", p, text, m)
		}
		for _, c := range m.Captures {
			if c.Start > c.End || c.Start < 0 || c.End > len(text) {
				t.Fatalf("%q in %q: %+v", p, text, m)
			}
		}
	})
}

func BenchmarkFind(b *testing.B) {
	p, err := pattern.Compile("(%w+)%s*=%s*(%d+)", true)
	require.NoError(b, err)
	text := strings.Repeat("nothing here, ", 20) + "quorate = 1"
	for b.Loop() {
		if _, ok, err := p.Find(text, 0, nil); !ok || err != nil {
			b.Fatal(err)
		}
	}
}
