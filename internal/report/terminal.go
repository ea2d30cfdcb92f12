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

// Terminal is the sink for a person who watches. Lines that stay scroll by above; below them one bar for the whole run
// and a row for each host at work are drawn over and over, by one goroutine.
type Terminal struct {
	w     io.Writer
	t     transcript
	bar   *bar
	stop  chan struct{}
	ended sync.WaitGroup

	mu      sync.Mutex
	pending []string // lines to write above the live part
	drawn   int      // lines of the live part that are on the screen
	paused  bool
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
			t.mu.Lock()
			t.draw()
			t.mu.Unlock()
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
	t.pending = append(t.pending, t.t.lines(e, s)...)
	if _, over := e.Body.(event.RunDone); over {
		t.erase()
	}
	return t.err
}

// Suspend takes the live part off the screen while f uses the terminal, such as for a question.
func (t *Terminal) Suspend(f func() error) error {
	t.mu.Lock()
	t.erase()
	t.paused = true
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.paused = false
		t.mu.Unlock()
	}()
	return f()
}

// Close writes what is left, takes the live part away and ends the goroutine.
func (t *Terminal) Close() error {
	close(t.stop)
	t.ended.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erase()
	return t.err
}

// erase writes the pending lines and leaves no live part behind. t.mu is held.
func (t *Terminal) erase() {
	t.write(t.up() + t.takePending())
	t.drawn = 0
}

// draw writes the pending lines and the live part below them, in one piece so that nothing flickers. t.mu is held.
func (t *Terminal) draw() {
	if t.paused {
		return
	}
	frame := t.t.frame(t.bar, t.t.Now())
	if len(frame) == 0 && t.drawn == 0 && len(t.pending) == 0 {
		return
	}
	text := t.up() + t.takePending()
	for _, line := range frame {
		text += line + "\n"
	}
	t.drawn = len(frame)
	t.write(text)
}

// up moves to the first line of the live part and clears everything below.
func (t *Terminal) up() string {
	if t.drawn == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", t.drawn)
}

func (t *Terminal) takePending() string {
	if len(t.pending) == 0 {
		return ""
	}
	text := strings.Join(t.pending, "\n") + "\n"
	t.pending = nil
	return text
}

func (t *Terminal) write(text string) {
	if text == "" || t.err != nil {
		return
	}
	_, t.err = io.WriteString(t.w, text)
}
