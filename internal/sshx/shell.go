package sshx

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc"
	"golang.org/x/crypto/ssh"
)

// shell is one remote sh that runs command after command. Commands are written to its input; their outputs come back
// framed on two streams. One goroutine opens it and reads its output, one reads its error output, one writes; all end with the
// channel.
type shell struct {
	link *link

	opened chan struct{} // closed when commands may be written, or the shell has failed
	ready  *call         // the first frame: everything before it is noise of the login shell
	ended  chan struct{} // closed when both streams have ended
	dead   chan struct{} // closed when nothing is left of the shell, or it could not be opened

	text    chan string // commands on their way out
	channel ssh.Channel // set before opened is closed
	err     error       // why it could not be opened; set before dead is closed
	garbled error

	mu        sync.Mutex
	abandoned bool
	queue     [2][]*call // calls that each stream has not ended yet
}

// newShell starts to open a shell. The caller has taken its place in the pool.
func newShell(l *link) *shell {
	s := &shell{link: l, opened: make(chan struct{}), ended: make(chan struct{}), dead: make(chan struct{}), text: make(chan string)}
	marker := newMarker()
	s.ready = newCall(marker, nil)
	s.push(s.ready)
	if !l.spawn(func() { s.serve(marker) }) {
		s.err = &lostShellError{cause: errClosed}
		close(s.opened)
		close(s.dead)
	}
	return s
}

// serve opens the channel and reads until its end.
func (s *shell) serve(ready string) {
	defer close(s.dead)
	channel, requests, err := s.link.openChannel()
	if err != nil {
		s.err = err
		close(s.opened)
		return
	}
	closed := make(chan struct{})
	s.mu.Lock()
	s.channel = channel
	abandoned := s.abandoned
	s.mu.Unlock()
	s.link.spawn(func() { s.write(requests, closed) })
	if abandoned {
		_ = channel.Close()
	}
	var defining conc.WaitGroup
	if s.link.become.password {
		word := newMarker() + ": "
		s.ready.observe = s.link.become.answer(word, channel)
		err = requestExec(channel, s.link.become.prefix(word)+"/bin/sh -c "+quote(shellAfterSudo(ready)))
		defining.Go(s.define)
	} else {
		err = s.start(ready)
		close(s.opened)
	}
	if err != nil {
		_ = channel.Close()
	}
	var streams conc.WaitGroup
	streams.Go(func() { s.read(transport.Stderr, channel.Stderr()) })
	s.read(transport.Stdout, channel)
	streams.Wait()
	close(s.ended)
	defining.Wait()
	_ = channel.Close() // the far end may still wait for ours
	// A session counts against the server's limit until it has closed its side.
	limit := time.NewTimer(endStep)
	defer limit.Stop()
	select {
	case <-closed:
	case <-limit.C:
	}
}

// write passes commands on until the end of the shell; a write that fails shows as that end. It also refuses what the
// server asks for, and closes closed when that can be nothing any more.
func (s *shell) write(requests <-chan *ssh.Request, closed chan<- struct{}) {
	for {
		select {
		case text := <-s.text:
			_, _ = io.WriteString(s.channel, text)
		case r, ok := <-requests:
			switch {
			case !ok:
				requests = nil
				close(closed)
			case r.WantReply:
				_ = r.Reply(false, nil)
			}
		case <-s.dead:
			return
		}
	}
}

// start asks for the shell and writes its first line. No answer is awaited: a refusal shows as the end of the channel.
func (s *shell) start(ready string) error {
	if err := requestExec(s.channel, s.link.become.prefix("")+"/bin/sh"); err != nil {
		return err
	}
	_, err := io.WriteString(s.channel, shellStart(ready))
	return err
}

// define writes the first line of a shell under sudo. What is written before sudo has asked would be taken for the
// password, so it waits for the shell's word.
func (s *shell) define() {
	defer close(s.opened)
	select {
	case <-s.ready.done:
		_, _ = io.WriteString(s.channel, definition+"\n") // a failure shows as the end of the shell
	case <-s.ended:
	}
}

// requestExec starts a command in a session without waiting for the server to agree.
func requestExec(channel ssh.Channel, command string) error {
	_, err := channel.SendRequest("exec", false, ssh.Marshal(struct{ Command string }{command}))
	return err
}

// read cuts one stream into the outputs of the calls.
func (s *shell) read(stream transport.Stream, r io.Reader) {
	buf := make([]byte, smallBuffer)
	for {
		n, err := r.Read(buf)
		p := buf[:n]
		for len(p) > 0 {
			c := s.front(stream)
			if c == nil {
				break // a background process of an earlier command still talks
			}
			rest, ended, bad := c.feed(stream, p)
			if bad != nil {
				s.fail(bad)
				return
			}
			if ended {
				s.pop(stream)
			}
			p = rest
		}
		if err != nil {
			return
		}
		if n == len(buf) && n < largeBuffer {
			buf = make([]byte, 4*len(buf))
		}
	}
}

// A stream is read into a small buffer until it has filled one: hundreds of hosts mostly print little.
const (
	smallBuffer = 2 << 10
	largeBuffer = 32 << 10
)

func (s *shell) fail(err error) {
	s.mu.Lock()
	s.garbled = err
	s.mu.Unlock()
	_ = s.channel.Close()
}

func (s *shell) push(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.queue {
		s.queue[i] = append(s.queue[i], c)
	}
}

func (s *shell) front(stream transport.Stream) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue[stream]) == 0 {
		return nil
	}
	return s.queue[stream][0]
}

func (s *shell) pop(stream transport.Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue[stream] = s.queue[stream][1:]
}

// alive reports whether the shell can be given commands.
func (s *shell) alive() bool {
	select {
	case <-s.dead:
		return false
	default:
		return true
	}
}

// run writes commands in one go and waits for them in turn. It returns the results up to the first that has none. After
// an error the shell must not be used again.
func (s *shell) run(ctx context.Context, commands []transport.Command) ([]transport.Result, error) {
	if err := s.awaitOpen(ctx); err != nil {
		return nil, err
	}
	var text strings.Builder
	calls := make([]*call, len(commands))
	for i, c := range commands {
		marker := newMarker()
		calls[i] = newCall(marker, c.Output)
		text.WriteString(shellLine(c, marker))
		s.push(calls[i])
	}
	// Written beside the waiting: a long list fills the channel's window while its first outputs already come back.
	select {
	case s.text <- text.String():
	case <-s.dead: // it shows where the answers are awaited
	case <-ctx.Done():
	}
	if err := s.awaitReady(ctx); err != nil {
		return nil, err
	}
	results := make([]transport.Result, 0, len(commands))
	for i, c := range calls {
		r, err := s.await(ctx, c, commands[i])
		if err != nil {
			return results, err
		}
		results = append(results, r)
	}
	s.link.wire.relax()
	return results, nil
}

// awaitOpen waits until commands can be written.
func (s *shell) awaitOpen(ctx context.Context) error { return s.awaitStart(ctx, s.opened) }

// awaitReady waits until the login shell has given way to ours.
func (s *shell) awaitReady(ctx context.Context) error { return s.awaitStart(ctx, s.ready.done) }

func (s *shell) awaitStart(ctx context.Context, began <-chan struct{}) error {
	select {
	case <-began:
		if s.err == nil {
			return nil
		}
	default:
		limit := time.NewTimer(s.link.timeout)
		defer limit.Stop()
		select {
		case <-began:
		case <-s.dead:
		case <-ctx.Done():
			s.stop()
			return ctx.Err()
		case <-limit.C:
			s.stop()
			return s.link.unreachable("shell", fmt.Errorf("the login shell did not start /bin/sh within %s%s", s.link.timeout, s.said()),
				"look for a command that waits in the login shell's start-up files")
		}
	}
	if s.err != nil {
		return s.err
	}
	select {
	case <-began:
		return nil
	default:
		return s.link.noShell(s.said(), &lostShellError{sent: true})
	}
}

// said gives what the login shell printed instead of starting ours.
func (s *shell) said() string {
	if s.alive() {
		return "" // it is still being written
	}
	return s.ready.said()
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}

// await waits for one call within its command's time.
func (s *shell) await(ctx context.Context, c *call, command transport.Command) (transport.Result, error) {
	start := time.Now()
	finish := func() transport.Result {
		r := c.result()
		r.Duration = time.Since(start)
		return r
	}
	select {
	case <-c.done:
		return finish(), nil
	default:
	}
	limit := time.NewTimer(timeoutOf(command))
	defer limit.Stop()
	var cause error
	select {
	case <-c.done:
		return finish(), nil
	case <-s.dead:
		if c.finished() {
			return finish(), nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.garbled != nil {
			return transport.Result{}, s.garbled
		}
		return transport.Result{}, &lostShellError{sent: true, cause: s.link.whyDead("the remote shell ended")}
	case <-ctx.Done():
		cause = ctx.Err()
	case <-limit.C:
		cause = &transport.TimeoutError{Host: s.link.name, Command: command.String(), After: timeoutOf(command)}
	}
	s.stop()
	return transport.Result{}, cause
}

func timeoutOf(c transport.Command) time.Duration {
	if c.Timeout > 0 {
		return c.Timeout
	}
	return transport.DefaultTimeout
}

// lostShellError is a shell or session that ended before its commands. If nothing was sent, nothing can have run.
type lostShellError struct {
	sent  bool
	cause error
}

func (e *lostShellError) Error() string { return e.cause.Error() }
func (e *lostShellError) Unwrap() error { return e.cause }

// stop ends the shell and what runs in it. One that is still being opened ends when it is open.
func (s *shell) stop() {
	s.mu.Lock()
	channel := s.channel
	s.abandoned = true
	s.mu.Unlock()
	if channel != nil {
		s.link.endSession(channel, s.dead, s.pid())
	}
}

// pid is the remote process id, 0 while it is not known.
func (s *shell) pid() int {
	if !s.ready.finished() {
		return 0
	}
	return s.ready.status[transport.Stdout]
}

// hangUp ends a shell that runs nothing: sshd closes its input.
func (s *shell) hangUp() {
	s.mu.Lock()
	channel := s.channel
	s.abandoned = true
	s.mu.Unlock()
	if channel != nil {
		_ = channel.Close()
	}
}
