package system

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
)

// run runs a command on the target's host. A status other than 0 is an error.
func run(ctx context.Context, t module.Target, c transport.Command) (transport.Result, error) {
	r, err := look(ctx, t, c)
	if err != nil {
		return r, err
	}
	return r, r.Err(c)
}

// look runs a command on the target's host, whose status is an answer.
func look(ctx context.Context, t module.Target, c transport.Command) (transport.Result, error) {
	conn, err := t.Conn(ctx, t.Host().Name)
	if err != nil {
		return transport.Result{}, err
	}
	return conn.Run(ctx, c)
}

// lookAll makes several reads of the target's host in one round trip.
func lookAll(ctx context.Context, t module.Target, cs []transport.Command) ([]transport.Result, error) {
	if len(cs) == 0 {
		return nil, nil
	}
	conn, err := t.Conn(ctx, t.Host().Name)
	if err != nil {
		return nil, err
	}
	results, err := conn.Batch(ctx, cs)
	if err == nil && len(results) != len(cs) {
		err = fmt.Errorf("%s: %d answers to %d reads", t.Host().Name, len(results), len(cs))
	}
	return results, err
}

// probesOf are reads of the target's host.
func probesOf(t module.Target, cs ...transport.Command) []module.Probe {
	probes := make([]module.Probe, len(cs))
	for i, c := range cs {
		probes[i] = module.Probe{Host: t.Host().Name, Command: c}
	}
	return probes
}

// limit is how long a command may take: as long as the task, where that has a timeout, else the module's own limit.
func limit(ctx context.Context, own time.Duration) time.Duration {
	if _, bounded := ctx.Deadline(); bounded {
		return 24 * time.Hour
	}
	return own
}

// oneLine shortens a text for a summary.
func oneLine(text string) string {
	const most = 72
	line, _, more := strings.Cut(strings.TrimSpace(text), "\n")
	if utf8.RuneCountInString(line) > most {
		line, more = string([]rune(line)[:most]), true
	}
	if more {
		line += " …"
	}
	return line
}

// exists succeeds for whatever has the name, a link to nowhere included.
func exists(path string) transport.Command {
	return transport.Command{Script: `[ -e "$1" ] || [ -L "$1" ]`, Argv: []string{path}}
}
