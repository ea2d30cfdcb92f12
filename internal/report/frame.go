package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/schollz/progressbar/v3"
)

// frameRows is how many hosts at work are shown at most.
const frameRows = 8

// bar is the bar of the whole run. progressbar draws it into a text; only the Terminal writes to the screen.
type bar struct {
	Look
	drawing *progressbar.ProgressBar
	total   int
}

func newBar(l Look) *bar { return &bar{Look: l} }

// text draws the bar with done of total tasks.
func (b *bar) text(done, total int) string {
	if b.drawing == nil || b.total != total {
		theme := progressbar.Theme{Saucer: "=", SaucerHead: ">", SaucerPadding: " ", BarStart: "[", BarEnd: "]"}
		if b.Unicode {
			theme = progressbar.Theme{Saucer: "━", SaucerHead: "╸", SaucerPadding: "─", BarStart: "", BarEnd: ""}
		}
		b.total = total
		b.drawing = progressbar.NewOptions(max(total, 1),
			progressbar.OptionSetWriter(io.Discard), progressbar.OptionSetWidth(24), progressbar.OptionSetTheme(theme),
			progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(false),
			progressbar.OptionThrottle(0), progressbar.OptionUseANSICodes(true), progressbar.OptionSetRenderBlankState(true))
	}
	// A full bar refuses to be drawn again, so it is left a little short of full: the summary says when all is done.
	if done < total {
		_ = b.drawing.Set(done) // it writes to io.Discard, which cannot fail
	}
	text := strings.TrimSuffix(strings.TrimPrefix(b.drawing.String(), "\r"), "\x1b[0K")
	_, drawn, ok := strings.Cut(text, "%")
	if !ok {
		drawn = text
	}
	return strings.TrimSpace(drawn)
}

// frame is the live part: the bar, and a row for each host at work.
func (t transcript) frame(b *bar, now time.Time) []string {
	if t.run == "" && t.start.Command == "" {
		return nil
	}
	if len(t.active) == 0 && t.finished > 0 && t.finished >= t.start.Tasks {
		return nil
	}
	what := "connecting"
	if t.connected > 0 {
		what = fmt.Sprintf("connected to %s", Count(t.connected, "host"))
	}
	if n := len(t.active); n > 0 {
		last := t.active[n-1]
		what = stepName(last.path, t.start.Runbook)
		if last.planning {
			what = "planning " + what
		}
	}
	head := fmt.Sprintf("%s %d/%d  %s", t.paint(accent, b.text(t.finished, t.start.Tasks)), min(t.finished, t.start.Tasks), t.start.Tasks, t.fit(what, 24))
	lines := []string{head + t.paint(dim, "  "+since(t.began, now))}
	lines = append(lines, t.rows(now)...)
	if t.Width > 0 {
		for i, line := range lines {
			lines[i] = ansi.Truncate(line, t.Width-1, "") // a line that wraps would be counted as one and left behind
		}
	}
	return lines
}

func (t transcript) rows(now time.Time) []string {
	width := 0
	for _, s := range t.active {
		for _, host := range s.hosts {
			width = max(width, len(host))
		}
	}
	var rows []string
	waiting := 0
	for _, s := range t.active {
		for _, host := range s.hosts {
			h, known := s.at[host]
			if known && h.done {
				continue
			}
			if !known || h.doing == "" || len(rows) == frameRows {
				waiting++
				continue
			}
			elapsed := since(h.since, now)
			text := t.fit(Clean(h.doing), t.Width-width-len(elapsed)-8)
			rows = append(rows, fmt.Sprintf("  %s  %s", pad(host, width), text)+t.paint(dim, "  "+elapsed))
		}
	}
	if waiting > 0 {
		what := Count(waiting, "host") + " checking"
		if len(rows) > 0 {
			what = Count(waiting, "more host") + " waiting or checking"
		}
		rows = append(rows, t.paint(dim, "  "+what))
	}
	return rows
}
