package cli

import (
	"fmt"
	"sync"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

// tracing shows on standard error what is done on hosts by a command that makes no run, as -vv shows it of a run. nil shows nothing.
type tracing struct {
	app *app
	mu  sync.Mutex // one line at a time
}

// tracing is what the flags call for. JSON has no place for it.
func (a *app) tracing() *tracing {
	if a.level() < report.Trace || a.global.json {
		return nil
	}
	return &tracing{app: a}
}

// connected tells of a new connection, and returns it so that its commands are told too.
func (t *tracing) connected(h inventory.Host, conn transport.Conn, took time.Duration) transport.Conn {
	if t == nil {
		return conn
	}
	t.line(t.look().Connected(h.Name, event.HostConnected{Address: h.Address, Duration: took}))
	return transport.Trace(h.Name, t.ran)(conn)
}

func (t *tracing) ran(c transport.Traced) {
	exit := c.Result.Exit
	if c.Err != nil {
		exit = -1
	}
	t.line(t.look().Command(c.Host, event.CommandRan{Command: engine.Shown(c.Command), Exit: exit, Mutates: c.Command.Mutates, Duration: c.Took}))
}

func (t *tracing) look() report.Look { return t.app.lookOn(t.app.ErrTerminal) }

func (t *tracing) line(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = fmt.Fprintln(t.app.Err, t.app.secrets.Redact(text))
}
