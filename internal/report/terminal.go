package report

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/engine/event"
)

// refresh is how often the live part of the terminal is drawn anew.
const refresh = 120 * time.Millisecond

// backlog is how many lines wait for a terminal that does not take them before output lines are left out.
const backlog = 5000

// Terminal is the sink for a person who watches. Lines that stay scroll by above; below them one bar for the whole run
// and a row for each host at work are drawn over and over, by one goroutine. A terminal that takes nothing for a while
// does not hold the run up.
type Terminal struct {
	stop  chan struct{}
	ended sync.WaitGroup

	mu      sync.Mutex // guards what is to be shown; never held while writing
	t       transcript
	pending []string // lines to write above the live part
	left    int      // output lines left out

	drawing sync.Mutex // guards the screen; taken before mu
	w       io.Writer
	bar     *bar
	drawn   int // lines of the live part that are on the screen
	err     error
}

// NewTerminal makes the sink and starts its goroutine; Close ends it.
func NewTerminal(w io.Writer, o Options) *Terminal {
	t := &Terminal{w: w, t: transcript{o, newTracker()}, bar: newBar(o.Look), stop: make(chan struct{})}
	t.ended.Go(t.loop)
	return t
}

func (t *Terminal) loop() {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if t.drawing.TryLock() { // else somebody asks a question; the next tick comes soon
				t.draw(true)
				t.drawing.Unlock()
			}
		case <-t.stop:
			return
		}
	}
}

// Handle takes an event in. The screen follows within a tenth of a second.
func (t *Terminal) Handle(_ context.Context, e event.Event) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.t.see(e)
	lines := t.t.lines(e, s)
	if len(t.pending)+len(lines) > backlog {
		switch e.Body.(type) {
		case event.Output, event.CommandRan:
			t.left += len(lines)
			return nil
		}
	}
	t.pending = append(t.pending, lines...)
	return nil
}

// Suspend takes the live part off the screen while f uses the terminal, such as for a question.
func (t *Terminal) Suspend(f func() error) error {
	t.drawing.Lock()
	defer t.drawing.Unlock()
	t.draw(false)
	return f()
}

// Close writes what is left, takes the live part away and ends the goroutine.
func (t *Terminal) Close() error {
	close(t.stop)
	t.ended.Wait()
	t.drawing.Lock()
	defer t.drawing.Unlock()
	t.draw(false)
	return t.err
}

// draw writes the pending lines and, if wanted, the live part below them, in one piece so that nothing flickers.
// t.drawing is held.
func (t *Terminal) draw(live bool) {
	t.mu.Lock()
	lines := t.pending
	if t.left > 0 {
		lines = append(lines, t.t.paint(dim, fmt.Sprintf("(%s of output left out)", Count(t.left, "line"))))
	}
	t.pending, t.left = nil, 0
	var frame []string
	if t.t.Columns != nil {
		t.t.Width = t.t.Columns() // the window may have been resized
	}
	if live {
		frame = t.t.frame(t.bar, t.t.Now())
	}
	t.mu.Unlock()
	var text strings.Builder
	if t.drawn > 0 {
		fmt.Fprintf(&text, "\x1b[%dA\r\x1b[J", t.drawn)
	}
	for _, line := range append(lines, frame...) {
		text.WriteString(line + "\n")
	}
	t.drawn = len(frame)
	if text.Len() > 0 && t.err == nil {
		_, t.err = io.WriteString(t.w, text.String())
	}
}
