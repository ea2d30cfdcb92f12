// Package testkit is what tests of modules and connections are made with: a scripted connection, a connection to a
// local shell, a stand-in for the engine, golden files, and the suites that every module and every connection must
// pass. Only tests import it.
package testkit

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pxrun/pxrun/internal/transport"
)

// Conn is a connection whose answers are written in the test. A command that no answer is written for fails the test.
type Conn struct {
	tb   testing.TB
	host string

	mu      sync.Mutex
	answers []*answer
	calls   []transport.Command
	files   map[string]PutFile
	sources map[string]string
	trips   int
}

// Reply is the answer to a command.
type Reply struct {
	Stdout, Stderr string
	Exit           int
	// Err is returned in place of a result: a lost connection.
	Err error
	// Do is called before the reply is given, for answers that change what later ones say.
	Do func(c transport.Command)
}

// PutFile is a file that a test's subject has put.
type PutFile struct {
	transport.File
	Text string
}

type answer struct {
	pattern string
	replies []Reply
	used    int
}

// NewConn makes a scripted connection to a host of that name.
func NewConn(tb testing.TB, host string) *Conn {
	tb.Helper()
	return &Conn{tb: tb, host: host, files: map[string]PutFile{}, sources: map[string]string{}}
}

// On scripts the answers to commands that contain a text: their arguments joined by spaces, or their script. Of several
// patterns that fit, the one written last counts. Each command takes the next reply; the last one repeats.
func (c *Conn) On(pattern string, replies ...Reply) *Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(replies) == 0 {
		replies = []Reply{{}}
	}
	c.answers = append(c.answers, &answer{pattern: pattern, replies: replies})
	return c
}

// OnOutput scripts a command that succeeds and prints.
func (c *Conn) OnOutput(pattern, stdout string) *Conn { return c.On(pattern, Reply{Stdout: stdout}) }

// OnGet scripts a file that can be fetched.
func (c *Conn) OnGet(path, text string) *Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sources[path] = text
	return c
}

// Calls lists the commands that were run, in order.
func (c *Conn) Calls() []transport.Command {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// Mutations lists, as text, the commands that were run and marked as mutating.
func (c *Conn) Mutations() []string {
	var texts []string
	for _, call := range c.Calls() {
		if call.Mutates {
			texts = append(texts, Text(call))
		}
	}
	return texts
}

// Files are what was put, by path.
func (c *Conn) Files() map[string]PutFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	files := make(map[string]PutFile, len(c.files))
	for path, f := range c.files {
		files[path] = f
	}
	return files
}

// RoundTrips counts Run, Batch, Put and Get calls.
func (c *Conn) RoundTrips() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trips
}

// Text is a command as patterns see it.
func Text(c transport.Command) string {
	if c.Script == "" {
		return strings.Join(c.Argv, " ")
	}
	return strings.TrimSpace(c.Script + "\n" + strings.Join(c.Argv, " "))
}

// Run gives the scripted answer.
func (c *Conn) Run(ctx context.Context, cmd transport.Command) (transport.Result, error) {
	c.mu.Lock()
	c.trips++
	c.mu.Unlock()
	return c.answer(ctx, cmd)
}

// Batch gives the scripted answers.
func (c *Conn) Batch(ctx context.Context, cs []transport.Command) ([]transport.Result, error) {
	c.mu.Lock()
	c.trips++
	c.mu.Unlock()
	results := make([]transport.Result, len(cs))
	for i, cmd := range cs {
		r, err := c.answer(ctx, cmd)
		if err != nil {
			return nil, err
		}
		results[i] = r
	}
	return results, nil
}

func (c *Conn) answer(ctx context.Context, cmd transport.Command) (transport.Result, error) {
	if err := ctx.Err(); err != nil {
		return transport.Result{}, err
	}
	reply, ok := c.next(cmd)
	if !ok {
		c.tb.Errorf("%s: unexpected command: %s", c.host, Text(cmd))
		return transport.Result{}, fmt.Errorf("%s: unexpected command: %s", c.host, Text(cmd))
	}
	if reply.Do != nil {
		reply.Do(cmd)
	}
	if reply.Err != nil {
		return transport.Result{}, reply.Err
	}
	if cmd.Output != nil {
		emitLines(cmd.Output, transport.Stdout, reply.Stdout)
		emitLines(cmd.Output, transport.Stderr, reply.Stderr)
	}
	return transport.Result{Stdout: []byte(reply.Stdout), Stderr: []byte(reply.Stderr), Exit: reply.Exit}, nil
}

func (c *Conn) next(cmd transport.Command) (Reply, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, cmd)
	text := Text(cmd)
	for _, a := range slices.Backward(c.answers) {
		if strings.Contains(text, a.pattern) {
			reply := a.replies[min(a.used, len(a.replies)-1)]
			a.used++
			return reply, true
		}
	}
	return Reply{}, false
}

func emitLines(to func(transport.Stream, string), stream transport.Stream, text string) {
	for line := range strings.Lines(text) {
		to(stream, strings.TrimSuffix(line, "\n"))
	}
}

// Put remembers the file.
func (c *Conn) Put(ctx context.Context, f transport.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	text, err := io.ReadAll(f.Content)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trips++
	c.files[f.Path] = PutFile{File: f, Text: string(text)}
	return nil
}

// Get gives a file scripted by OnGet.
func (c *Conn) Get(ctx context.Context, path string, w io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	c.trips++
	text, ok := c.sources[path]
	c.mu.Unlock()
	if !ok {
		c.tb.Errorf("%s: unexpected get of %s", c.host, path)
		return fmt.Errorf("%s: no such file", path)
	}
	_, err := io.WriteString(w, text)
	return err
}

// Close does nothing.
func (c *Conn) Close() error { return nil }
