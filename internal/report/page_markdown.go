package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
)

// Markdown writes the page as GitHub shows it: the same facts as HTML, the picture as a chart of letters. Its columns are
// aligned, so that it can be read as it is on a terminal.
func (p *Page) Markdown(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\n%s\n\n**%s**\n\n", markdownText(p.title()), markdownText(p.subtitle()), markdownText(p.Verdict))
	facts := pageTable{Columns: pageColumns("", "")}
	for _, f := range p.pageFacts() {
		facts.Rows = append(facts.Rows, []pageField{pageText(f[0]), pageText(f[1])})
	}
	markdownTable(&b, facts)
	for _, s := range p.urgent() {
		markdownSection(&b, s)
	}
	p.markdownChart(&b)
	for _, s := range slices.Concat(p.sections(), p.planned()) {
		markdownSection(&b, s)
	}
	fmt.Fprintf(&b, "\n%s\n", markdownText(p.footer()))
	_, err := w.Write(b.Bytes())
	return err
}

func markdownSection(b *bytes.Buffer, s pageSection) {
	fmt.Fprintf(b, "\n## %s\n", markdownText(s.Title))
	for _, text := range s.Lead {
		fmt.Fprintf(b, "\n%s\n", markdownText(text))
	}
	for _, t := range s.Tables {
		if t.Title != "" {
			fmt.Fprintf(b, "\n### %s\n", markdownText(t.Title))
		}
		b.WriteString("\n")
		markdownTable(b, t)
	}
	for _, text := range s.Notes {
		fmt.Fprintf(b, "\n%s\n", markdownText(text))
	}
	if len(s.Commands) > 0 {
		b.WriteString("\n```sh\n" + strings.ReplaceAll(pageClean(strings.Join(s.Commands, "\n")), "```", "'''") + "\n```\n")
	}
}

// markdownWide is how wide a column is made for alignment; longer cells stick out.
const markdownWide = 48

// markdownTable writes a table whose columns are aligned.
func markdownTable(b *bytes.Buffer, t pageTable) {
	lines := [][]string{nil}
	for _, c := range t.Columns {
		lines[0] = append(lines[0], markdownText(c.Name))
	}
	for _, row := range t.Rows {
		var cells []string
		for _, f := range row {
			cells = append(cells, markdownText(f.Text))
		}
		lines = append(lines, cells)
	}
	width := make([]int, len(t.Columns))
	for _, cells := range lines {
		for k, text := range cells {
			width[k] = max(width[k], 3, min(lipgloss.Width(text), markdownWide))
		}
	}
	for n, cells := range lines {
		for k, text := range cells {
			gap := strings.Repeat(" ", max(width[k]-lipgloss.Width(text), 0))
			if t.Columns[k].Right {
				text, gap = gap+text, ""
			}
			b.WriteString("| " + text + gap + " ")
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for k := range cells {
			rule := strings.Repeat("-", width[k])
			if t.Columns[k].Right {
				rule = rule[1:] + ":"
			}
			b.WriteString("| " + rule + " ")
		}
		b.WriteString("|\n")
	}
}

// markdownText shows a text as it is: nothing in it is markup, and it stays in its cell.
func markdownText(text string) string {
	var b strings.Builder
	letters := []rune(strings.TrimSpace(pageClean(text)))
	word := func(i int) bool {
		return i >= 0 && i < len(letters) && (letters[i] == '_' || letters[i] >= '0' && letters[i] <= '9' || letters[i] >= 'a' && letters[i] <= 'z' || letters[i] >= 'A' && letters[i] <= 'Z')
	}
	for i, r := range letters {
		switch {
		case r == '\n':
			b.WriteString("<br>")
		case r == '<':
			b.WriteString("&lt;")
		case r == '>':
			b.WriteString("&gt;")
		case r == '&':
			b.WriteString("&amp;")
		case r == '|':
			b.WriteString(`\|`)
		case strings.ContainsRune("\\`*[]~", r), r == '_' && !(word(i-1) && word(i+1)), r == '#' && i == 0:
			b.WriteString(`\` + string(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// markdownLetters are the kinds as letters.
var markdownLetters = map[string]rune{
	"plan": 'P', "check": 'C', "fetch": 'F', "drain": 'D', "upgrade": 'U', "reboot": 'R', "verify": 'V', "release": 'L', "soak": 'S', "work": 'W',
	"turn": '-', "wait": '~', "gap": 'x',
}

const markdownChartWidth = 64

// markdownChart draws the timeline with letters.
func (p *Page) markdownChart(b *bytes.Buffer) {
	rows, spans := p.bars()
	if len(rows) < 2 {
		return
	}
	scale := p.scale(spans, markdownChartWidth)
	names, used := 0, map[string]bool{}
	for _, r := range rows {
		names = max(names, lipgloss.Width(pageCut(pageClean(r), chartNames)))
	}
	axis := []rune(strings.Repeat(" ", markdownChartWidth+16))
	for _, m := range scale.marks(12, p.where()) {
		copy(axis[int(m.x):], []rune("|"+m.text))
	}
	b.WriteString("\n## Timeline\n\n```text\n")
	fmt.Fprintf(b, "%*s  %s\n", names, "", strings.TrimRight(string(axis), " "))
	failed := false
	for _, r := range rows {
		line := []rune(strings.Repeat(" ", markdownChartWidth))
		fill := func(from, to float64, kind string) {
			used[kind] = true
			first := min(int(from), markdownChartWidth-1)
			for i := first; i < max(min(int(to+0.5), markdownChartWidth), first+1); i++ {
				line[i] = markdownLetters[kind]
			}
		}
		for _, t := range p.Turns {
			if t.Host == r && !t.Began.IsZero() {
				end := t.Ended
				if end.IsZero() {
					end = p.Ended
				}
				fill(scale.at(t.Began), scale.at(end), "turn")
			}
		}
		for _, s := range spans[r] {
			fill(scale.at(s.From), scale.at(s.To), s.Kind)
			if isBad(s.Status) || s.Cut {
				failed = true
				line[min(max(int(scale.at(s.To)+0.5)-1, int(scale.at(s.From)), 0), markdownChartWidth-1)] = '!'
			}
		}
		name := strings.ReplaceAll(pageCut(pageClean(r), chartNames), "\n", " ")
		fmt.Fprintf(b, "%s  %s\n", pad(strings.ReplaceAll(name, "`", "'"), names), strings.TrimRight(string(line), " "))
	}
	var legend []string
	for _, k := range pageKindNames {
		if used[k.Class] {
			legend = append(legend, string(markdownLetters[k.Class])+" "+k.Name)
		}
	}
	if failed {
		legend = append(legend, "! failed or cut off")
	}
	fmt.Fprintf(b, "\n%s\n", strings.Join(legend, ", "))
	for _, piece := range scale.pieces {
		if piece.folded {
			fmt.Fprintf(b, "not to scale: %s from %s\n", pageTook(piece.to.Sub(piece.from)), p.clock(piece.from))
		}
	}
	b.WriteString("```\n")
}
