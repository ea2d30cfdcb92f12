// Package report tells people and programs what a run does: on a terminal, in plain lines for CI, and as a stable
// stream of JSON objects. Its sinks read the events of engine/event, which are redacted before they come here. The
// package decides nothing and connects to nothing, and it writes only to the writers that it is given.
package report

import (
	"strings"
	"unicode"

	"charm.land/lipgloss/v2"
	"github.com/pxrun/pxrun/engine/event"
)

// Look says what the place that a report is written to can show.
type Look struct {
	Color   bool // colours are wanted and understood
	Unicode bool // more than ASCII is understood
	Width   int  // columns; 0 means that lines are never cut
}

// role is what a piece of text means. Colours follow from it; meaning never rests on colour alone.
type role int

const (
	plain role = iota
	strong
	dim
	good
	caution
	bad
	accent
)

// style uses the sixteen basic colours only: they are the user's own theme, readable on light and on dark.
func (r role) style() lipgloss.Style {
	s := lipgloss.NewStyle()
	switch r {
	case strong:
		return s.Bold(true)
	case dim:
		return s.Faint(true)
	case good:
		return s.Foreground(lipgloss.Color("2"))
	case caution:
		return s.Foreground(lipgloss.Color("3"))
	case bad:
		return s.Foreground(lipgloss.Color("1")).Bold(true)
	case accent:
		return s.Foreground(lipgloss.Color("6"))
	default:
		return s
	}
}

func (l Look) paint(r role, text string) string {
	if !l.Color || r == plain || text == "" {
		return text
	}
	return r.style().Inline(true).Render(text)
}

// pick returns the first text where more than ASCII is understood, and the second elsewhere.
func (l Look) pick(unicode, ascii string) string {
	if l.Unicode {
		return unicode
	}
	return ascii
}

// fit cuts a text to a number of columns and marks the cut. Width 0 and less cuts nothing.
func (l Look) fit(text string, columns int) string {
	if l.Width == 0 || columns <= 0 || lipgloss.Width(text) <= columns {
		return text
	}
	ellipsis := l.pick("…", "...")
	if columns <= len(ellipsis) {
		return cut(text, columns)
	}
	return cut(text, columns-lipgloss.Width(ellipsis)) + ellipsis
}

// cut keeps as many characters as fit into a number of columns.
func cut(text string, columns int) string {
	width := 0
	for i, r := range text {
		width += lipgloss.Width(string(r))
		if width > columns {
			return text[:i]
		}
	}
	return text
}

// pad fills a text with spaces on the right.
func pad(text string, columns int) string {
	if missing := columns - lipgloss.Width(text); missing > 0 {
		return text + strings.Repeat(" ", missing)
	}
	return text
}

// wrap breaks a text at spaces. The first line may have its own room; words longer than a line stay whole.
func wrap(text string, columns int) []string {
	var lines []string
	for paragraph := range strings.SplitSeq(text, "\n") {
		if columns <= 0 || lipgloss.Width(paragraph) <= columns {
			lines = append(lines, paragraph)
			continue
		}
		line, indent := "", leadingSpace(paragraph)
		hang := indent
		if indent != "" {
			hang += "  " // what is indented has a label in front, or belongs to one
		}
		for word := range strings.FieldsSeq(paragraph) {
			switch {
			case line == "":
				line = indent + word
			case lipgloss.Width(line)+1+lipgloss.Width(word) > columns:
				lines = append(lines, line)
				line = hang + word
			default:
				line += " " + word
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func leadingSpace(text string) string { return text[:len(text)-len(strings.TrimLeft(text, " "))] }

// Clean makes a text from a host safe to show: control characters, which could move the cursor or retitle the
// terminal, are dropped or shown as spaces. Line breaks stay.
func Clean(text string) string {
	if !strings.ContainsFunc(text, unsafe) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		if n := escapeLength(text); n > 0 {
			text = text[n:]
			continue
		}
		r, size := rune(text[0]), 1
		for i, c := range text {
			if i > 0 {
				size = i
				break
			}
			r, size = c, len(text)
		}
		switch {
		case r == '\t':
			b.WriteString("    ")
		case !unsafe(r):
			b.WriteRune(r)
		}
		text = text[size:]
	}
	return b.String()
}

func unsafe(r rune) bool {
	return r != '\n' && (unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r))
}

// escapeLength measures a terminal escape sequence at the start of a text: CSI, OSC, or two characters.
func escapeLength(text string) int {
	if text[0] != '\x1b' {
		return 0
	}
	if len(text) == 1 {
		return 1
	}
	switch text[1] {
	case '[':
		for i := 2; i < len(text); i++ {
			if text[i] >= 0x40 && text[i] <= 0x7e {
				return i + 1
			}
		}
		return len(text)
	case ']':
		for i := 2; i < len(text); i++ {
			if text[i] == '\a' {
				return i + 1
			}
			if text[i] == '\x1b' && i+1 < len(text) && text[i+1] == '\\' {
				return i + 2
			}
		}
		return len(text)
	default:
		return 2
	}
}

// Title is a heading with the mark of a status in front.
func (l Look) Title(text string, s event.Status) string {
	return l.statusSymbol(s) + " " + l.paint(strong, text)
}
