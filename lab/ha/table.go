package ha

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// table lays rows out in a frame, as Proxmox's tools do.
func table(heads []string, rows [][]string) string {
	widths := make([]int, len(heads))
	for _, row := range append([][]string{heads}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	rule := func(left, line, cross, right string) string {
		parts := make([]string, len(widths))
		for i, w := range widths {
			parts[i] = strings.Repeat(line, w+2)
		}
		return left + strings.Join(parts, cross) + right + "\n"
	}
	cells := func(row []string) string {
		var b strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&b, "│ %s%s ", cell, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
		}
		return b.String() + "│\n"
	}
	var b strings.Builder
	b.WriteString(rule("┌", "─", "┬", "┐") + cells(heads))
	for i, row := range rows {
		if i == 0 {
			b.WriteString(rule("╞", "═", "╪", "╡"))
		} else {
			b.WriteString(rule("├", "─", "┼", "┤"))
		}
		b.WriteString(cells(row))
	}
	b.WriteString(rule("└", "─", "┴", "┘"))
	return b.String()
}
