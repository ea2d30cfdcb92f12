package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// minWatch is the shortest pause between two looks: pvestatd of the nodes itself looks every ten seconds.
const minWatch = time.Second

// watchStatus shows the state of a cluster until it is interrupted. On a terminal one picture replaces the other; elsewhere
// they follow each other under the time. An interrupt is how it ends: the exit status is that of the last look.
func (a *app) watchStatus(ctx context.Context, s *statusReader, o statusOptions) error {
	if o.every < minWatch {
		return invalid("--every %s is too short: at least %s", o.every, minWatch)
	}
	out := a.secrets.Writer(a.Out)
	code := exitOK
	for {
		r, left, err := s.read(ctx)
		if ctx.Err() != nil {
			return errors.Join(out.Close(), exitWith(code))
		}
		if err != nil {
			return errors.Join(err, out.Close())
		}
		code = statusCode(r, left)
		var picture bytes.Buffer
		fmt.Fprintf(&picture, "%s, every %s\n\n", a.Now().Format(time.TimeOnly), o.every)
		if err := a.writeStatus(&picture, r, left); err != nil {
			return errors.Join(err, out.Close())
		}
		if err := a.draw(out, picture.String()); err != nil {
			return errors.Join(err, out.Close())
		}
		select {
		case <-ctx.Done():
			return errors.Join(out.Close(), exitWith(code))
		case <-time.After(o.every):
		}
	}
}

// draw writes a picture over the last one without clearing the screen first, which would flicker. What the screen has no room for is left out: it
// would push the head of the picture out of sight.
func (a *app) draw(out io.Writer, picture string) error {
	if a.OutTerminal {
		if a.Height != nil {
			picture = clip(picture, a.Height())
		}
		picture = "\x1b[H" + strings.ReplaceAll(picture, "\n", "\x1b[K\n") + "\x1b[J"
	} else {
		picture += "\n"
	}
	_, err := io.WriteString(out, picture)
	return err
}

// clip leaves as many lines of a picture as a screen of that height shows, and says how many it left out. A height of 0 is not known.
func clip(picture string, height int) string {
	lines := strings.SplitAfter(strings.TrimRight(picture, "\n")+"\n", "\n")
	lines = lines[:len(lines)-1]
	// The line below the last one takes the cursor, the last one the remark.
	room := height - 2
	if height <= 0 || room < 1 || len(lines) <= height-1 {
		return picture
	}
	return strings.Join(lines[:room], "") + fmt.Sprintf("and %d more lines: pxrun status shows all of them\n", len(lines)-room)
}
