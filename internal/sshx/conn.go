package sshx

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

// conn is the connection to one host that callers hold. It outlives the link below it.
type conn struct {
	dialer *Dialer
	host   inventory.Host
	ended  context.Context // ends with Close, and takes an attempt to connect along
	end    context.CancelFunc

	turn chan struct{} // held while link is looked at or made; a channel, so that waiting for it can be cancelled
	link *link
}

func newConn(d *Dialer, h inventory.Host) *conn {
	c := &conn{dialer: d, host: h, turn: make(chan struct{}, 1)}
	c.ended, c.end = context.WithCancel(context.Background())
	return c
}

// traceExchange is the step that Config.Trace is told of when commands have gone to a host together and their answers are
// there: one round trip.
const traceExchange = "exchange"

// errClosed is the use of a closed connection.
var errClosed = errors.New("the connection was closed")

// live returns the link, and makes a new one if it is lost. Only one caller dials; the others wait for it.
func (c *conn) live(ctx context.Context) (*link, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c.ended.Err() != nil {
		return nil, errClosed
	}
	if c.link != nil {
		if c.link.alive() {
			if err := c.link.prove(ctx); err != nil {
				return nil, err
			}
			return c.link, nil
		}
		c.link.close()
		c.link = nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ended, cancel)()
	l, err := c.dialer.link(ctx, c.host)
	if err != nil {
		return nil, err
	}
	c.link = l
	return l, nil
}

// Close ends the connection and waits for everything that belongs to it.
func (c *conn) Close() error {
	c.end()
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	if c.link != nil {
		c.link.close()
		c.link = nil
	}
	return nil
}

// Run runs one command.
func (c *conn) Run(ctx context.Context, command transport.Command) (transport.Result, error) {
	results, err := c.Batch(ctx, []transport.Command{command})
	if err != nil {
		return transport.Result{}, err
	}
	return results[0], nil
}

// maxUnsent bounds how often commands are tried again that a dying connection did not take at all. Those that were sent
// and only read are sent again once.
const maxUnsent = 3

// Batch runs commands in their order. Those that fit into a shared shell and follow each other cost one round trip. After
// an error the results are those of the commands that certainly ended.
func (c *conn) Batch(ctx context.Context, commands []transport.Command) ([]transport.Result, error) {
	for _, command := range commands {
		if err := check(command); err != nil {
			return nil, err
		}
	}
	results := make([]transport.Result, 0, len(commands))
	unsent, resent := 0, false
	for len(results) < len(commands) {
		rest := commands[len(results):]
		l, err := c.live(ctx)
		if err != nil {
			return results, err
		}
		began := time.Now()
		some, err := l.run(ctx, rest)
		c.dialer.trace(c.host.Name, traceExchange, began)
		results = append(results, some...)
		lost, ok := errors.AsType[*lostShellError](err)
		switch {
		case err == nil:
		case !ok:
			return results, err
		case lost.sent && (resent || mutates(commands[len(results):])) || unsent == maxUnsent:
			return results, &transport.LostError{Host: l.name, Command: unfinished(commands[len(results):]), Cause: lost.cause}
		case lost.sent:
			resent = true
		default:
			unsent++
		}
	}
	return results, nil
}

// run runs the first of some commands: all that can share a shell, or one that needs a session of its own.
func (l *link) run(ctx context.Context, commands []transport.Command) ([]transport.Result, error) {
	n := slices.IndexFunc(commands, needsSession)
	if n < 0 {
		n = len(commands)
	}
	if n > 0 {
		return l.runInShell(ctx, commands[:n])
	}
	near := streams{}
	if len(commands[0].Stdin) > 0 {
		near.in = bytes.NewReader(commands[0].Stdin)
	}
	r, err := l.runAlone(ctx, commands[0], near)
	if err != nil {
		return nil, err
	}
	return []transport.Result{r}, nil
}

func mutates(commands []transport.Command) bool {
	return slices.ContainsFunc(commands, func(c transport.Command) bool { return c.Mutates })
}

// unfinished names the command whose end is in doubt: the first that may have changed something.
func unfinished(commands []transport.Command) string {
	for _, c := range commands {
		if c.Mutates {
			return c.String()
		}
	}
	return commands[0].String()
}
