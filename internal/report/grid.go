package report

import (
	"io"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
)

// cell is one field of a grid.
type cell struct {
	text string
	role role
}

// grid is a table that leaves out columns without content.
type grid struct {
	Look
	titles []string
	rows   [][]cell
	// spare are the titles of columns that are left out, the first one first, where all of them have no room.
	spare []string
}

func (g *grid) head(titles ...string) { g.titles = titles }

func (g *grid) row(cells ...cell) { g.rows = append(g.rows, cells) }

func (g *grid) lines() []string {
	width := make([]int, len(g.titles))
	for i, title := range g.titles {
		if slices.ContainsFunc(g.rows, func(r []cell) bool { return r[i].text != "" }) {
			width[i] = lipgloss.Width(title)
			for _, r := range g.rows {
				width[i] = max(width[i], lipgloss.Width(r[i].text))
			}
		}
	}
	g.narrow(width)
	line := func(paint func(i int) string) string {
		var b strings.Builder
		for i, w := range width {
			if w > 0 {
				b.WriteString("  " + pad(paint(i), w))
			}
		}
		return strings.TrimRight(b.String(), " ")
	}
	lines := []string{line(func(i int) string { return g.paint(dim, g.titles[i]) })}
	for _, r := range g.rows {
		lines = append(lines, line(func(i int) string {
			if r[i].text == "" {
				return g.paint(dim, g.pick("–", "-"))
			}
			return g.paint(r[i].role, r[i].text)
		}))
	}
	return lines
}

// narrow leaves columns out that may be, until the others fit.
func (g *grid) narrow(width []int) {
	for _, title := range g.spare {
		total := 0
		for _, w := range width {
			if w > 0 {
				total += w + 2
			}
		}
		if g.Width <= 0 || total <= g.Width {
			return
		}
		if i := slices.Index(g.titles, title); i >= 0 {
			width[i] = 0
		}
	}
}

// Table shows rows under titles; columns without content are left out.
func Table(w io.Writer, titles []string, rows [][]string, l Look) error {
	g := grid{Look: l, titles: titles}
	for _, row := range rows {
		cells := make([]cell, len(titles))
		for i, text := range row {
			cells[i] = cell{Clean(text), plain}
		}
		g.row(cells...)
	}
	return writeLines(w, g.lines())
}
