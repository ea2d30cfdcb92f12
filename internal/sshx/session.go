package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc"
	"golang.org/x/crypto/ssh"
)

// streams are the near ends of a session of its own. Without an out the result keeps standard output.
type streams struct {
	in  io.Reader
	out io.Writer
}

// runAlone runs one command in a session of its own, within the pool's cap.
func (l *link) runAlone(ctx context.Context, c transport.Command, near streams) (transport.Result, error) {
	for try := 0; ; try++ {
		if err := l.pool.place(ctx, l); err != nil {
			return transport.Result{}, err
		}
		s, err := l.startSolo(ctx, c, near)
		if err == nil {
			r, err := s.wait(ctx, c)
			l.pool.gone()
			l.wire.relax()
			return r, err
		}
		if !errors.Is(err, errNoSession) {
			l.pool.gone()
			return transport.Result{}, err
		}
		if err := l.afterRefusal(ctx, try, err); err != nil {
			return transport.Result{}, err
		}
	}
}

// solo is a session for one command. Its one frame is the beginning: what stands before it is the login shell's.
type solo struct {
	link    *link
	channel ssh.Channel
	start   *call
	sinks   sinks
	near    streams
	exit    int           // -1 until the server tells it
	over    chan struct{} // closed when the far end has nothing more to say
	ended   chan struct{} // closed when the near end is done too

	mu     sync.Mutex
	failed error // reading or writing a near end
}

// fail ends the session because a near end failed: the command must not take a part for the whole.
func (s *solo) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
		_ = s.channel.Close()
	}
}

func (s *solo) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// startSolo opens a session and starts the command.
func (l *link) startSolo(ctx context.Context, c transport.Command, near streams) (*solo, error) {
	marker := newMarker()
	text := sessionText(c, marker, near.in != nil)
	if len(text) > maxExec {
		return nil, fmt.Errorf("the command %q is too long for a session of its own: %d bytes", c.String(), len(text))
	}
	channel, requests, err := l.openWithin(ctx)
	if err != nil {
		return nil, err
	}
	s := &solo{
		link: l, channel: channel, start: newCall(marker, nil), sinks: newSinks(c.Output), near: near, exit: -1,
		over: make(chan struct{}), ended: make(chan struct{}),
	}
	prompt := ""
	if l.become.password {
		prompt = newMarker() + ": "
		s.start.observe = l.become.answer(prompt, channel)
	}
	if err := requestExec(channel, l.become.prefix(prompt)+"/bin/sh -c "+quote(text)); err != nil {
		_ = channel.Close()
		return nil, &lostShellError{cause: l.whyDead(err.Error())}
	}
	if !l.spawn(func() { s.serve(requests) }) {
		return nil, &lostShellError{cause: errClosed}
	}
	return s, nil
}

// openWithin opens a channel, and closes it again if that comes too late.
func (l *link) openWithin(ctx context.Context) (ssh.Channel, <-chan *ssh.Request, error) {
	var channel ssh.Channel
	var requests <-chan *ssh.Request
	var err error
	opened := make(chan struct{})
	if !l.spawn(func() {
		defer close(opened)
		channel, requests, err = l.openChannel()
	}) {
		return nil, nil, &lostShellError{cause: errClosed}
	}
	select {
	case <-opened:
		return channel, requests, err
	case <-ctx.Done():
		l.spawn(func() {
			<-opened
			if err == nil {
				_ = channel.Close()
				ssh.DiscardRequests(requests)
			}
		})
		return nil, nil, ctx.Err()
	}
}

// serve moves the streams until the session has ended.
func (s *solo) serve(requests <-chan *ssh.Request) {
	defer close(s.ended)
	var moving, feeding conc.WaitGroup
	moving.Go(func() { s.read(transport.Stdout, s.channel) })
	moving.Go(func() { s.read(transport.Stderr, s.channel.Stderr()) })
	moving.Go(func() { s.watch(requests) })
	feeding.Go(s.feed)
	moving.Wait()
	close(s.over)
	_ = s.channel.Close()
	feeding.Wait()
}

// feed sends standard input. Under a password nothing is sent before the command has begun, since sudo reads from the
// same stream.
func (s *solo) feed() {
	if s.link.become.password {
		select {
		case <-s.start.done:
		case <-s.over:
			return
		}
	}
	if s.near.in == nil {
		_ = s.channel.CloseWrite()
		return
	}
	source := &errorReader{r: s.near.in}
	_, _ = io.Copy(s.channel, source) // a command may end without reading all
	if source.err != nil {
		s.fail(source.err)
		return
	}
	_ = s.channel.CloseWrite()
}

// errorReader remembers why reading stopped, to tell a bad source from a closed session.
type errorReader struct {
	r   io.Reader
	err error
}

func (e *errorReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.err = err
	}
	return n, err
}

// read passes one stream on, without what comes before the command.
func (s *solo) read(stream transport.Stream, r io.Reader) {
	buf := make([]byte, 32<<10)
	begun := false
	for {
		n, err := r.Read(buf)
		p := buf[:n]
		if !begun && n > 0 {
			p, begun, _ = s.start.feed(stream, p)
		}
		if begun && len(p) > 0 {
			s.pass(stream, p)
		}
		if err != nil {
			s.sinks[stream].end()
			return
		}
	}
}

func (s *solo) pass(stream transport.Stream, p []byte) {
	if stream == transport.Stderr || s.near.out == nil {
		s.sinks[stream].write(p)
		return
	}
	if s.failure() != nil {
		return
	}
	if _, err := s.near.out.Write(p); err != nil {
		s.fail(err)
	}
}

// watch takes the exit status from the channel's requests.
func (s *solo) watch(requests <-chan *ssh.Request) {
	for r := range requests {
		switch r.Type {
		case "exit-status":
			var m struct{ Status uint32 }
			if ssh.Unmarshal(r.Payload, &m) == nil {
				s.exit = int(m.Status)
			}
		case "exit-signal":
			var m struct {
				Signal     string
				Core       bool
				Text, Lang string
			}
			if ssh.Unmarshal(r.Payload, &m) == nil {
				s.exit = 128 + signalNumber[m.Signal]
			}
		}
		_ = r.Reply(false, nil)
	}
}

// signalNumber are Linux's numbers for the names that SSH sends.
var signalNumber = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13,
	"ALRM": 14, "TERM": 15,
}

// wait waits for the end of the command within its time.
func (s *solo) wait(ctx context.Context, c transport.Command) (transport.Result, error) {
	began := time.Now()
	limit := time.NewTimer(timeoutOf(c))
	defer limit.Stop()
	var cause error
	select {
	case <-s.ended:
		return s.outcome(time.Since(began))
	case <-ctx.Done():
		cause = ctx.Err()
	case <-limit.C:
		cause = &transport.TimeoutError{Host: s.link.name, Command: c.String(), After: timeoutOf(c)}
	}
	pid := 0
	if s.start.finished() {
		pid = s.start.status[transport.Stdout]
	}
	s.link.endSession(s.channel, s.ended, pid)
	return transport.Result{}, cause
}

// outcome tells how the session ended.
func (s *solo) outcome(took time.Duration) (transport.Result, error) {
	failed := s.failure()
	switch {
	case failed != nil:
		return transport.Result{}, failed
	case !s.start.finished():
		return transport.Result{}, s.link.noShell(s.start.said(), &lostShellError{sent: true})
	case s.exit < 0:
		return transport.Result{}, &lostShellError{sent: true, cause: s.link.whyDead("the session ended without a status")}
	}
	r := s.sinks.result(s.exit)
	r.Duration = took
	return r, nil
}
