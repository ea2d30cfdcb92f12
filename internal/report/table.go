package report

import (
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/pxrun/pxrun/engine/module"
)

// marks are the roles of marked rows.
var marks = map[string]role{"": plain, "warn": caution, "block": bad}

// A text that is shorter than short is not broken into lines in a table; one that is longer gets at least least columns, or
// the table is shown row by row.
const (
	short = 18
	least = 16
)

// table shows a table. Columns in which no row says anything are left out where room is short. Long texts go on below in
// their columns; where there is no room for that either each row becomes a paragraph.
func (l Look) table(t module.Table) []string {
	rows := make([][]string, len(t.Rows))
	for i, row := range t.Rows {
		rows[i] = make([]string, len(t.Columns))
		for k := range min(len(row), len(t.Columns)) {
			rows[i][k] = Clean(row[k])
		}
	}
	shown := make([]int, len(t.Columns))
	for i := range shown {
		shown[i] = i
	}
	natural := func(i int) int {
		width := lipgloss.Width(t.Columns[i].Name)
		for _, row := range rows {
			width = max(width, lipgloss.Width(row[i]))
		}
		return width
	}
	width := map[int]int{}
	total := 0
	for _, i := range shown {
		width[i] = natural(i)
		total += width[i] + 2
	}
	if l.Width > 0 && total > l.Width {
		shown = slices.DeleteFunc(shown, func(i int) bool {
			return len(rows) > 0 && !slices.ContainsFunc(rows, func(row []string) bool { return says(row[i]) })
		})
		if !l.squeeze(t.Columns, rows, shown, width) {
			return l.paragraphs(t, rows)
		}
	}
	heads := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		heads[i] = c.Name
	}
	lines := l.cells(dim, t.Columns, heads, shown, width)
	for i, row := range rows {
		lines = append(lines, l.cells(marks[t.Marks[i]], t.Columns, row, shown, width)...)
	}
	return lines
}

// says reports whether a cell tells anything.
func says(cell string) bool { return cell != "" && cell != "-" && cell != "–" }

// squeeze makes columns narrower until all fit: headings are broken at their words, then what room is left is divided among
// the long texts. It is false where they would get too little.
func (l Look) squeeze(columns []module.Column, rows [][]string, shown []int, width map[int]int) bool {
	room := l.Width
	var long []int
	for _, i := range shown {
		w := 0
		for word := range strings.FieldsSeq(columns[i].Name) {
			w = max(w, lipgloss.Width(word))
		}
		for _, row := range rows {
			w = max(w, lipgloss.Width(row[i]))
		}
		width[i] = w
		room -= 2
		if w > short && !columns[i].Right {
			long = append(long, i)
			continue
		}
		room -= w
	}
	slices.SortStableFunc(long, func(a, b int) int { return width[a] - width[b] })
	for k, i := range long {
		share := room / (len(long) - k)
		if share < least && share < width[i] {
			return false
		}
		width[i] = min(width[i], share)
		room -= width[i]
	}
	return room >= 0
}

// cells are the lines of one row.
func (l Look) cells(r role, columns []module.Column, cells []string, shown []int, width map[int]int) []string {
	parts, height := map[int][]string{}, 1
	for _, i := range shown {
		parts[i] = []string{cells[i]}
		if l.Width > 0 {
			parts[i] = wrap(cells[i], width[i])
		}
		height = max(height, len(parts[i]))
	}
	lines := make([]string, height)
	for k := range lines {
		var b strings.Builder
		for _, i := range shown {
			text := ""
			if k < len(parts[i]) {
				text = parts[i][k]
			}
			gap := strings.Repeat(" ", max(width[i]-lipgloss.Width(text), 0))
			if columns[i].Right {
				b.WriteString("  " + gap + l.paint(r, text))
			} else {
				b.WriteString("  " + l.paint(r, text) + gap)
			}
		}
		lines[k] = strings.TrimRight(b.String(), " ")
	}
	return lines
}

// paragraphs show a table row by row: what the row is about, its short cells in a line, and a line for each long text.
func (l Look) paragraphs(t module.Table, rows [][]string) []string {
	var lines []string
	for n, row := range rows {
		r := marks[t.Marks[n]]
		about := slices.IndexFunc(t.Columns, func(c module.Column) bool { return !c.Right })
		about = max(about, 0)
		var brief, long []string
		for i, text := range row {
			switch pair := t.Columns[i].Name + " " + text; {
			case i == about || !says(text):
			case lipgloss.Width(text) > short:
				long = append(long, t.Columns[i].Name+": "+text)
			default:
				brief = append(brief, strings.ReplaceAll(pair, " ", hard))
			}
		}
		lines = append(lines, "  "+l.paint(max(r, strong), row[about]))
		if len(brief) > 0 {
			long = slices.Insert(long, 0, strings.Join(brief, ", "))
		}
		for _, text := range long {
			for k, line := range wrap(text, l.Width-8) {
				indent := "    "
				if k > 0 {
					indent = "      "
				}
				lines = append(lines, indent+l.paint(r, strings.ReplaceAll(line, hard, " ")))
			}
		}
	}
	return lines
}

// hard stands for a space at which no line is broken. It is of no script, so that no cell has it.
const hard = "\uE000"
