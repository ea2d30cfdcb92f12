package report

import (
	"fmt"
	"io"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
)

// Diagnostics shows problems with the place in the file: line, excerpt, caret. Values of variables are never shown: one
// of them could be a secret that nobody marked. source gives a file's bytes, or nil.
func Diagnostics(w io.Writer, list diag.List, source func(file string) []byte, l Look) error {
	var b strings.Builder
	for _, d := range diag.Sort(list) {
		l.diagnostic(&b, d, source)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (l Look) diagnostic(b *strings.Builder, d *hcl.Diagnostic, source func(string) []byte) {
	label, r := "Error", bad
	if d.Severity == hcl.DiagWarning {
		label, r = "Warning", caution
	}
	bar := l.paint(r, l.pick("│", "|"))
	write := func(text string) {
		b.WriteString(strings.TrimRight(bar+" "+text, " ") + "\n")
	}
	write(l.paint(r, label+":") + " " + l.paint(strong, Clean(d.Summary)))
	if d.Subject != nil {
		write("")
		write(fmt.Sprintf("  %s:%d:%d", Clean(d.Subject.Filename), d.Subject.Start.Line, d.Subject.Start.Column))
		if text := source(d.Subject.Filename); text != nil {
			for _, line := range l.excerpt(text, *d.Subject) {
				write("  " + line)
			}
		}
	}
	if d.Detail != "" {
		write("")
		for _, line := range wrap(Clean(d.Detail), l.Width-2) {
			write(line)
		}
	}
	b.WriteByte('\n')
}

// excerptWidth is how many columns of a line are shown where the width is not known. Longer lines are cut around the
// place: a generated file may have one line of megabytes.
const excerptWidth = 100

// excerpt is the source line with its number, and carets under the range.
func (l Look) excerpt(source []byte, at diag.Range) []string {
	line, start, ok := lineAround(source, at.Start)
	if !ok {
		return nil
	}
	from := min(max(at.Start.Byte-start, 0), len(line))
	to := min(max(at.End.Byte-start, from), len(line))
	if at.End.Line != at.Start.Line {
		to = len(strings.TrimRight(line, " \t\r"))
	}
	number := fmt.Sprintf("%d", at.Start.Line)
	room := excerptWidth
	if l.Width > 0 {
		room = max(l.Width-len(number)-8, 20)
	}
	before, marked, after := window(line, from, max(to, from), room)
	bar := l.pick("│", "|")
	carets := strings.Repeat("^", max(lipgloss.Width(marked), 1))
	return []string{
		l.paint(dim, number+" "+bar) + " " + before + l.paint(strong, marked) + after,
		l.paint(dim, strings.Repeat(" ", len(number)+1)+bar) + " " + strings.Repeat(" ", lipgloss.Width(before)) + l.paint(bad, carets),
	}
}

// lineAround finds the line that holds a position.
func lineAround(source []byte, at hcl.Pos) (line string, start int, ok bool) {
	if at.Byte < 0 || at.Byte > len(source) {
		return "", 0, false
	}
	start = strings.LastIndexByte(string(source[:at.Byte]), '\n') + 1
	end := strings.IndexByte(string(source[at.Byte:]), '\n')
	if end < 0 {
		end = len(source)
	} else {
		end += at.Byte
	}
	return string(source[start:end]), start, true
}

// window cuts a line to the part around a range, and makes it safe to show.
func window(line string, from, to, room int) (before, marked, after string) {
	before, marked, after = Clean(line[:from]), Clean(line[from:to]), Clean(line[to:])
	if lipgloss.Width(marked) > room/2 {
		marked, after = cut(marked, room/2), ""
	}
	if spare := room - lipgloss.Width(marked); lipgloss.Width(before) > spare*2/3 {
		keep := []rune(before)
		before = "…" + string(keep[max(len(keep)-spare*2/3, 0):])
	}
	if spare := room - lipgloss.Width(marked) - lipgloss.Width(before); lipgloss.Width(after) > spare {
		after = cut(after, max(spare-1, 0)) + "…"
	}
	return before, marked, after
}
