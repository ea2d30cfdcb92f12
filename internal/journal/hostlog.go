package journal

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pxrun/pxrun/engine/event"
)

// hostLogLimit bounds the log of one host. Output beyond it is left out, and the log says so.
const hostLogLimit = 64 << 20

// logBuffer is small, since hundreds of hosts each have one.
const logBuffer = 2 << 10

// hostLogs are the logs of a run's hosts, for people who look for what a command said. They are written with delay and
// are no part of what resume needs.
type hostLogs struct {
	dir    string
	byHost map[string]*hostLog
}

type hostLog struct {
	f       *os.File
	w       *bufio.Writer
	flushed time.Time // when it was last on its way to disk, by the time of events
	size    int
	err     error
}

// flushEvery bounds how far a log lags behind tasks that go well. A failure is in the log at once.
const flushEvery = time.Second

func newHostLogs(dir string) *hostLogs { return &hostLogs{dir: dir, byHost: map[string]*hostLog{}} }

func (l *hostLogs) write(e event.Event) {
	if e.Host == "" {
		return
	}
	text, flush := logLine(e)
	if text == "" {
		return
	}
	h := l.byHost[e.Host]
	if h == nil {
		h = l.open(e.Host)
		h.flushed = e.Time
		l.byHost[e.Host] = h
	}
	h.line(e.Time.Format("15:04:05.000 ") + text)
	if h.w != nil && (flush || e.Time.Sub(h.flushed) >= flushEvery) {
		h.flushed = e.Time
		h.err = errors.Join(h.err, h.w.Flush())
	}
}

func (l *hostLogs) open(host string) *hostLog {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return &hostLog{err: err}
	}
	f, err := os.OpenFile(filepath.Join(l.dir, fileName(host)+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return &hostLog{err: err}
	}
	return &hostLog{f: f, w: bufio.NewWriterSize(f, logBuffer)}
}

func (h *hostLog) line(text string) {
	if h.w == nil || h.err != nil || h.size > hostLogLimit {
		return
	}
	if h.size += len(text) + 1; h.size > hostLogLimit {
		text = "… the rest is left out: the log has reached its limit"
	}
	_, err := h.w.WriteString(text + "\n")
	h.err = err
}

// logLine is an event as a line of a host's log. A failure flushes the log.
func logLine(e event.Event) (text string, flush bool) {
	switch b := e.Body.(type) {
	case event.Output:
		mark := "| "
		if b.Stream == "stderr" {
			mark = "! "
		}
		return mark + b.Line, false
	case event.Dropped:
		return fmt.Sprintf("| … %d lines were left out", b.Lines), false
	case event.CommandRan:
		return fmt.Sprintf("$ %s  (exit %d, %s)", b.Command, b.Exit, b.Duration.Round(1e5)), false
	case event.HostConnected:
		if b.Error != "" {
			return "could not be reached: " + b.Error, true
		}
		return "connected to " + b.Address, false
	case event.ChangeStarted:
		return e.Step + ": " + b.Change.Summary, false
	case event.ChangeDone:
		if b.Error != "" {
			return e.Step + ": failed: " + b.Error, true
		}
		return e.Step + ": done", false
	case event.HostDone:
		if b.Error != "" {
			return fmt.Sprintf("%s: %s: %s", e.Step, b.Status, b.Error), true
		}
		return fmt.Sprintf("%s: %s", e.Step, b.Status), false
	case event.Note:
		return b.Text, false
	case event.Warning:
		return "warning: " + b.Text, false
	case event.UndoDone:
		if b.Error != "" {
			return fmt.Sprintf("could not be taken back: %s: %s", cmp.Or(b.Summary, b.ID), b.Error), true
		}
		return "taken back: " + cmp.Or(b.Summary, b.ID), true
	default:
		return "", false
	}
}

func (l *hostLogs) close() error {
	var all []error
	for _, h := range l.byHost {
		if h.w != nil {
			all = append(all, h.w.Flush(), h.f.Close())
		}
		all = append(all, h.err)
	}
	return errors.Join(all...)
}
