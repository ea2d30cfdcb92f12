package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/event"
)

// pageChart is the picture of a run, laid out: only drawing is left to do.
type pageChart struct {
	Width, Height, Gutter string
	Desc                  string
	Rows                  []chartText
	Lines                 []chartBox // faint ones behind each row
	Marks                 []chartText
	AxisTop, AxisBottom   string
	Bands, Bars           []chartBox
	Folds                 []chartFold
	Moves                 []chartBox
	Votes                 *chartVotes
	Legend                []pageKindName
}

type chartText struct{ X, Y, Text, Title string }

// chartBox is a rectangle. Label is written into it if it is wide enough.
type chartBox struct{ X, Y, W, H, Class, Title, Label, LX, LY string }

// chartFold is a stretch of time that is not drawn to scale.
type chartFold struct{ X, Y, W, H, LX, LY, Label, Title string }

// chartVotes is the line of votes below the rows.
type chartVotes struct {
	Path, Need, Top, Bottom string
	Labels                  []chartText
	Points                  []chartBox
}

type pageKindName struct{ Class, Name string }

// pageKindNames are all kinds in the order of the legend.
var pageKindNames = []pageKindName{
	{"plan", "connect, plan, ask"}, {"check", "check"}, {"fetch", "fetch"}, {"drain", "drain"}, {"upgrade", "upgrade"}, {"reboot", "reboot"},
	{"verify", "verify"}, {"release", "release"}, {"soak", "soak"}, {"work", "work"}, {"turn", "a node's turn"}, {"wait", "pause"}, {"gap", "between attempts"},
}

const (
	chartWidth  = 1000.0
	chartRow    = 22.0
	chartBar    = 14.0
	chartTop    = 24.0
	chartLetter = 6.6 // width of a letter
	chartSmall  = 5.9 // of one in a bar
	chartNames  = 22  // letters of a host's name
)

// pageRun is the row of the run itself.
const pageRun = "run"

// bars are the rows of the picture by name, with their stretches of time, the run's own first.
func (p *Page) bars() (rows []string, spans map[string][]PageSpan) {
	spans = map[string][]PageSpan{}
	for i, a := range p.Attempts {
		acted := a.Acted
		if acted.IsZero() {
			acted = a.Ended
		}
		spans[pageRun] = append(spans[pageRun], PageSpan{Kind: "plan", Label: a.Command + ": connect, plan, ask", From: a.Began, To: acted})
		if i+1 < len(p.Attempts) {
			how := "ended"
			if a.CutOff {
				how = "cut off"
			}
			spans[pageRun] = append(spans[pageRun], PageSpan{
				Kind: "gap", Label: how + "; taken up again by " + p.Attempts[i+1].Command, From: a.Ended, To: p.Attempts[i+1].Began, Cut: a.CutOff,
			})
		}
	}
	for _, w := range p.Waits {
		spans[pageRun] = append(spans[pageRun], PageSpan{Kind: "wait", Label: w.Reason, From: w.From, To: w.From.Add(w.length(p.Ended))})
	}
	for _, s := range p.Spans {
		spans[s.Host] = append(spans[s.Host], s)
	}
	rows = []string{pageRun}
	for _, h := range p.Hosts {
		if len(spans[h]) > 0 && h != pageRun {
			rows = append(rows, h)
		}
	}
	return rows, spans
}

// scale is the time axis: what counts as work is drawn to scale, what lies between may be folded.
func (p *Page) scale(spans map[string][]PageSpan, width float64) *pageScale {
	var busy [][2]time.Time
	for _, list := range spans {
		for _, s := range list {
			if s.Kind != "wait" && s.Kind != "gap" {
				busy = append(busy, [2]time.Time{s.From, s.To})
			}
		}
	}
	return newPageScale(p.Began, p.Ended, busy, width)
}

// chart lays the picture out.
func (p *Page) chart() *pageChart {
	rows, spans := p.bars()
	names := 0
	for _, r := range rows {
		names = max(names, len([]rune(r)))
	}
	gutter := max(10+chartLetter*float64(min(names, chartNames)+1), 68)
	d := &chartDrawing{p: p, left: gutter, scale: p.scale(spans, chartWidth-gutter-8), row: map[string]float64{}, used: map[string]bool{}}
	y := chartTop
	for _, r := range rows {
		d.row[r] = y
		d.c.Rows = append(d.c.Rows, chartText{X: "4", Y: px(y + 11), Text: pageCut(pageClean(r), chartNames), Title: pageClean(r)})
		d.c.Lines = append(d.c.Lines, chartBox{X: px(gutter), Y: px(y), W: px(chartWidth - gutter - 8), H: px(chartBar)})
		y += chartRow
	}
	d.turns()
	for _, r := range rows {
		d.bars(r, spans[r])
	}
	d.moves()
	bottom := y
	if len(p.Votes) > 0 {
		bottom = d.votes(y + 6)
	}
	d.axis(bottom)
	d.folds(bottom)
	for _, k := range pageKindNames {
		if d.used[k.Class] {
			d.c.Legend = append(d.c.Legend, k)
		}
	}
	d.c.Width, d.c.Height, d.c.Gutter = px(chartWidth), px(bottom+6), px(gutter)
	d.c.Desc = fmt.Sprintf("What was done on %s from %s to %s. The same is in the tables below.", Count(len(rows)-1, "host"), p.clock(p.Began), p.clock(p.Ended))
	return &d.c
}

// chartDrawing is a chart that is being laid out.
type chartDrawing struct {
	c     pageChart
	p     *Page
	scale *pageScale
	left  float64
	row   map[string]float64 // top of each row
	used  map[string]bool    // kinds
}

func px(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		v = 0
	}
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}

func pageCut(text string, most int) string {
	letters := []rune(text)
	if len(letters) <= most {
		return text
	}
	return string(letters[:most-1]) + "…"
}

func (d *chartDrawing) x(t time.Time) float64 { return d.left + d.scale.at(t) }

// turns are the bands behind the bars: a node's turn is longer than its tasks by what it soaks and waits.
func (d *chartDrawing) turns() {
	for _, t := range d.p.Turns {
		y, shown := d.row[t.Host]
		if !shown || t.Began.IsZero() {
			continue
		}
		end := t.Ended
		if end.IsZero() {
			end = d.p.Ended
		}
		x, to := d.x(t.Began), d.x(end)
		d.used["turn"] = true
		d.c.Bands = append(d.c.Bands, chartBox{
			X: px(x), Y: px(y - 3), W: px(max(to-x, 1)), H: px(chartBar + 6), Class: "turn",
			Title: pageClean(fmt.Sprintf("%s: its turn, %s to %s (%s), %s", t.Host, d.p.clock(t.Began), d.p.clock(end), Duration(end.Sub(t.Began)), t.outcome().Text)),
		})
	}
}

// bars draws a row. Stretches too short to be seen are drawn as one with what stands there already.
func (d *chartDrawing) bars(name string, spans []PageSpan) {
	y := d.row[name]
	spans = slices.Clone(spans)
	slices.SortStableFunc(spans, func(a, b PageSpan) int { return a.From.Compare(b.From) })
	end := math.Inf(-1)
	for _, s := range spans {
		x, to := d.x(s.From), d.x(s.To)
		bad := s.Cut || isBad(s.Status)
		if to-x < 0.8 && to-end < 0.8 && !bad {
			continue
		}
		end = max(to, x+0.8)
		d.bar(name, s, x, y, bad)
	}
}

func (d *chartDrawing) bar(name string, s PageSpan, x, y float64, bad bool) {
	w := max(d.x(s.To)-x, 0.8)
	b := chartBox{X: px(x), Y: px(y), W: px(w), H: px(chartBar), Class: "k-" + s.Kind}
	d.used[s.Kind] = true
	label := stepName(s.Label, d.p.Runbook)
	b.Title = fmt.Sprintf("%s: %s, %s to %s (%s)", name, label, d.p.clock(s.From), d.p.clock(s.To), pageTook(s.To.Sub(s.From)))
	if s.Status != "" {
		b.Title += ", " + statusWord(s.Status)
	}
	if s.Cut && s.Kind != "gap" {
		b.Title += ", cut off"
	}
	if bad {
		b.Class += " bad"
	}
	word := s.Kind
	switch s.Kind {
	case "work", "check":
		word = label
	case "wait":
		word = "pause"
	case "gap":
		word = "stopped"
	}
	if bad {
		word = "✗ " + word
	}
	if float64(len([]rune(word)))*chartSmall+6 <= w {
		b.Label, b.LX, b.LY = word, px(x+4), px(y+11)
	} else if bad && w > 8 {
		b.Label, b.LX, b.LY = "✗", px(x+1), px(y+11)
	}
	b.Title, b.Label = pageClean(b.Title), pageClean(b.Label)
	d.c.Bars = append(d.c.Bars, b)
}

func isBad(s event.Status) bool {
	return s == event.Failed || s == event.Unreachable || s == event.Refused || s == event.Cancelled
}

// moves are ticks below the bars of the node that guests left; those that fall together are one.
func (d *chartDrawing) moves() {
	type tick struct {
		from string
		x    int
	}
	ticks := map[tick][]PageMove{}
	var order []tick
	for _, m := range d.p.Moves {
		if _, shown := d.row[m.From]; !shown {
			continue
		}
		t := tick{m.From, int(d.x(m.At) / 3)}
		if ticks[t] == nil {
			order = append(order, t)
		}
		ticks[t] = append(ticks[t], m)
	}
	for _, t := range order {
		all := ticks[t]
		b := chartBox{X: px(float64(t.x) * 3), Y: px(d.row[t.from] + chartBar + 1), W: "2", H: "5", Class: "move"}
		if slices.ContainsFunc(all, func(m PageMove) bool { return m.Error != "" }) {
			b.Class = "move bad"
		}
		b.Title = fmt.Sprintf("%s: %s → %s at %s", all[0].Guest, all[0].From, all[0].To, d.p.clock(all[0].At))
		if all[0].Error != "" {
			b.Title += ": " + all[0].Error
		}
		if len(all) > 1 {
			b.Title = fmt.Sprintf("%s from %s at %s: %s …", Count(len(all), "move"), t.from, d.p.clock(all[0].At), all[0].Guest)
		}
		b.Title = pageClean(b.Title)
		d.c.Moves = append(d.c.Moves, b)
	}
}

// votes draws the votes that were present, and those needed, below the rows; it gives the bottom.
func (d *chartDrawing) votes(top float64) float64 {
	const height = 44.0
	most := 1
	for _, v := range d.p.Votes {
		most = max(most, v.Present, v.Needed)
	}
	y := func(n int) float64 { return top + height - height*float64(max(n, 0))/float64(most) }
	line := func(of func(PageVotes) int) string {
		var b strings.Builder
		for i, v := range d.p.Votes {
			if i == 0 {
				fmt.Fprintf(&b, "M%s %s", px(d.x(v.At)), px(y(of(v))))
			} else {
				fmt.Fprintf(&b, "H%sV%s", px(d.x(v.At)), px(y(of(v))))
			}
			fmt.Fprintf(&b, "H%s", px(max(d.x(v.Until), d.x(v.At)+2)))
		}
		return b.String()
	}
	c := &chartVotes{Path: line(func(v PageVotes) int { return v.Present }), Need: line(func(v PageVotes) int { return v.Needed }), Top: px(top), Bottom: px(top + height)}
	last := d.p.Votes[len(d.p.Votes)-1]
	c.Labels = []chartText{
		{X: "4", Y: px(top + 10), Text: "votes"}, {X: px(d.left - 5), Y: px(top + 10), Text: strconv.Itoa(most)}, {X: px(d.left - 5), Y: px(top + height), Text: "0"},
	}
	if last.Needed != most && last.Needed > 0 {
		c.Labels = append(c.Labels, chartText{X: px(d.left - 5), Y: px(max(y(last.Needed)+4, top+20)), Text: strconv.Itoa(last.Needed), Title: "needed"})
	}
	at := -10.0
	for _, v := range d.p.Votes {
		if x := d.x(v.At); x-at >= 3 {
			at = x
			c.Points = append(c.Points, chartBox{X: px(x), Y: px(y(v.Present)), Title: fmt.Sprintf("%s: %d of %d votes, %d needed", d.p.clock(v.At), v.Present, v.Expected, v.Needed)})
		}
	}
	d.c.Votes = c
	return top + height + 6
}

func (d *chartDrawing) axis(bottom float64) {
	d.c.AxisTop, d.c.AxisBottom = px(chartTop-6), px(bottom)
	for _, m := range d.scale.marks(90, d.p.where()) {
		d.c.Marks = append(d.c.Marks, chartText{X: px(d.left + m.x), Y: "12", Text: m.text})
	}
}

// folds mark where the axis jumps.
func (d *chartDrawing) folds(bottom float64) {
	for _, p := range d.scale.pieces {
		if !p.folded {
			continue
		}
		took := pageTook(p.to.Sub(p.from))
		f := chartFold{X: px(d.left + p.x), Y: px(chartTop - 6), W: px(p.w), H: px(bottom - chartTop + 6), Title: fmt.Sprintf("%s in which nothing was done, not drawn to scale", took)}
		f.LX, f.LY, f.Label = px(d.left+p.x+p.w/2), px(bottom-2), took
		d.c.Folds = append(d.c.Folds, f)
	}
}
