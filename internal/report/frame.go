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
	if n := len(t.turns); n > 0 {
		what = fmt.Sprintf("host %d of %d", t.through.Index, t.through.Of)
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
	if len(t.turns) > 0 {
		return t.turnRows(now)
	}
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

// turnRows has a row for each host whose turn it is: in which step it is, what it does there and since when, and for how long
// its turn has lasted.
func (t transcript) turnRows(now time.Time) []string {
	width, steps := 0, 0
	for _, h := range t.turns {
		width, steps = max(width, len(h.host)), max(steps, len(t.turnStep(h)))
	}
	var rows []string
	for i, h := range t.turns {
		if i == frameRows {
			return append(rows, t.paint(dim, "  "+Count(len(t.turns)-i, "more host")))
		}
		doing, elapsed := "checking", ""
		if s := t.steps[h.at]; s != nil {
			if at, known := s.at[h.host]; known && at.doing != "" {
				doing, elapsed = Clean(at.doing), "  "+since(at.since, now)
			}
		}
		lasts := "  in all " + since(h.began, now)
		if h.takes > 0 {
			lasts += " of about " + since(now, now.Add(h.takes))
		}
		room := t.Width - width - steps - len(elapsed) - len(lasts) - 7
		rows = append(rows, fmt.Sprintf("  %s  %s  %s", t.paint(strong, pad(h.host, width)), pad(t.turnStep(h), steps), t.fit(doing, max(room, 12)))+t.paint(dim, elapsed+lasts))
	}
	return rows
}

// turnStep is the name of the step in which a host is.
func (t transcript) turnStep(h *turnState) string {
	if h.at == "" {
		return "-"
	}
	name := stepName(h.at, t.start.Runbook)
	return name[strings.LastIndex(name, "/")+1:]
}
