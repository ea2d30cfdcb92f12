package report

import (
	"slices"
	"time"
)

// pageScale maps times to a width. Long stretches in which nothing was done are folded: a run that waited for its window over
// night is drawn as readably as one that did not.
type pageScale struct {
	from, to time.Time
	pieces   []pagePiece
	width    float64
}

// pagePiece is a stretch of the scale.
type pagePiece struct {
	from, to time.Time
	x, w     float64
	folded   bool
}

const (
	pageFoldFrom  = 0.12 // a stretch without work is folded if it is longer than this part of the work
	pageFoldWidth = 0.04 // and then takes this part of the width
)

// newPageScale draws the time from the run's beginning to its end. busy are stretches in which something was done.
func newPageScale(from, to time.Time, busy [][2]time.Time, width float64) *pageScale {
	s := &pageScale{from: from, to: to, width: width}
	if !to.After(from) {
		s.to = from.Add(time.Second)
	}
	busy = pageUnion(busy, s.from, s.to)
	var work time.Duration
	for _, b := range busy {
		work += b[1].Sub(b[0])
	}
	least := time.Duration(float64(work) * pageFoldFrom)
	at := s.from
	add := func(until time.Time, idle bool) {
		if !until.After(at) {
			return
		}
		fold := idle && work > 0 && until.Sub(at) > least
		if n := len(s.pieces); n > 0 && !fold && !s.pieces[n-1].folded {
			s.pieces[n-1].to = until
		} else {
			s.pieces = append(s.pieces, pagePiece{from: at, to: until, folded: fold})
		}
		at = until
	}
	for _, b := range busy {
		add(b[0], true)
		add(b[1], false)
	}
	add(s.to, true)
	s.layOut()
	return s
}

// layOut gives the pieces their widths.
func (s *pageScale) layOut() {
	folds, straight := 0, time.Duration(0)
	for _, p := range s.pieces {
		if p.folded {
			folds++
		} else {
			straight += p.to.Sub(p.from)
		}
	}
	foldWidth := pageFoldWidth * s.width
	if folds > 0 {
		foldWidth = min(foldWidth, 0.4*s.width/float64(folds))
	}
	rest := s.width - foldWidth*float64(folds)
	x := 0.0
	for i := range s.pieces {
		p := &s.pieces[i]
		p.x, p.w = x, foldWidth
		if !p.folded {
			p.w = rest * float64(p.to.Sub(p.from)) / float64(straight)
		}
		x += p.w
	}
}

// pageUnion sorts stretches, cuts them to the run and puts together those that touch.
func pageUnion(busy [][2]time.Time, from, to time.Time) [][2]time.Time {
	busy = slices.Clone(busy)
	slices.SortFunc(busy, func(a, b [2]time.Time) int { return a[0].Compare(b[0]) })
	var out [][2]time.Time
	for _, b := range busy {
		if b[0].Before(from) {
			b[0] = from
		}
		if b[1].After(to) {
			b[1] = to
		}
		if !b[1].After(b[0]) {
			continue
		}
		if n := len(out); n > 0 && !b[0].After(out[n-1][1]) {
			if b[1].After(out[n-1][1]) {
				out[n-1][1] = b[1]
			}
			continue
		}
		out = append(out, b)
	}
	return out
}

// at is where a time is drawn.
func (s *pageScale) at(t time.Time) float64 {
	if len(s.pieces) == 0 || !t.After(s.from) {
		return 0
	}
	for _, p := range s.pieces {
		if t.Before(p.to) {
			return p.x + p.w*float64(t.Sub(p.from))/float64(p.to.Sub(p.from))
		}
	}
	return s.width
}

// pageSteps are the distances between the marks of an axis.
var pageSteps = []time.Duration{
	10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour,
}

// pageMark is a mark of the axis.
type pageMark struct {
	x    float64
	text string
}

// marks are times on the axis, at least gap apart.
func (s *pageScale) marks(gap float64, where *time.Location) []pageMark {
	perUnit := 0.0 // time per unit of width in the straight pieces
	for _, p := range s.pieces {
		if !p.folded && p.w > 0 {
			perUnit = float64(p.to.Sub(p.from)) / p.w
			break
		}
	}
	step := pageSteps[len(pageSteps)-1]
	for _, candidate := range pageSteps {
		if float64(candidate) >= gap*perUnit {
			step = candidate
			break
		}
	}
	layout := "15:04"
	switch {
	case step < time.Second:
		layout = "15:04:05.000"
	case step < time.Minute:
		layout = "15:04:05"
	}
	var marks []pageMark
	day, last := -1, -gap
	for _, p := range s.pieces {
		if p.folded || p.w <= 0 {
			continue
		}
		for t, n := pageNext(p.from, step, where), 0; t.Before(p.to) && n < 1000; t, n = t.Add(step), n+1 {
			x := s.at(t)
			if x-last < gap {
				continue
			}
			text := t.Format(layout)
			if day >= 0 && day != t.YearDay() {
				text = t.Format("Jan 2 ") + text
			}
			day, last = t.YearDay(), x
			marks = append(marks, pageMark{x, text})
		}
	}
	return marks
}

// pageNext is the first round time of day from t on.
func pageNext(t time.Time, step time.Duration, where *time.Location) time.Time {
	t = t.In(where)
	midnight := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, where)
	steps := (t.Sub(midnight) + step - 1) / step
	return midnight.Add(steps * step)
}
