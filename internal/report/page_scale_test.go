package report

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestPageScaleKeepsOrder checks what every picture rests on: later is never further left, nothing leaves the width, and only time
// without work is folded.
func TestPageScaleKeepsOrder(t *testing.T) {
	from := time.Date(2026, 11, 20, 22, 0, 0, 0, time.UTC)
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		return from.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(100*time.Hour)).Draw(t, "moment")))
	})
	rapid.Check(t, func(t *rapid.T) {
		to := moment.Draw(t, "to")
		var busy [][2]time.Time
		for range rapid.IntRange(0, 12).Draw(t, "stretches") {
			busy = append(busy, [2]time.Time{moment.Draw(t, "begin"), moment.Draw(t, "end")})
		}
		s := newPageScale(from, to, busy, 1000)
		a, b := moment.Draw(t, "a"), moment.Draw(t, "b")
		if b.Before(a) {
			a, b = b, a
		}
		if xa, xb := s.at(a), s.at(b); xa < 0 || xb > 1000.001 || xa > xb+0.001 {
			t.Fatalf("%v is drawn at %v, %v at %v", a, xa, b, xb)
		}
		for _, p := range s.pieces {
			for _, w := range busy {
				if p.folded && w[1].After(w[0]) && w[0].Before(p.to) && w[1].After(p.from) {
					t.Fatalf("work from %v to %v is folded", w[0], w[1])
				}
			}
		}
		last := -1000.0
		for _, m := range s.marks(90, time.UTC) {
			if m.x < last+90 {
				t.Fatalf("two marks of the axis stand at %v and %v", last, m.x)
			}
			last = m.x
		}
	})
}

func TestPageScaleShowsWorkBesideALongPause(t *testing.T) {
	from := time.Date(2026, 11, 20, 22, 0, 0, 0, time.UTC)
	morning := from.Add(10 * time.Hour)
	s := newPageScale(from, morning.Add(5*time.Minute), [][2]time.Time{{from, from.Add(5 * time.Minute)}, {morning, morning.Add(5 * time.Minute)}}, 1000)
	if night := s.at(morning) - s.at(from.Add(5*time.Minute)); night > 50 {
		t.Errorf("a night without work takes %v of 1000", night)
	}
	if work := s.at(from.Add(5 * time.Minute)); work < 400 {
		t.Errorf("half of the work takes only %v of 1000", work)
	}
}
