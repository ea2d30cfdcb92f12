package sshx

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/melbahja/goph"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc"
	"golang.org/x/crypto/ssh"
)

// link is one live SSH connection. When it is lost it stays lost: conn makes a new one.
type link struct {
	name    string
	client  *goph.Client
	wire    *wireConn
	become  become
	timeout time.Duration
	pool    *pool

	wg     conc.WaitGroup
	dead   chan struct{}
	mu     sync.Mutex
	closed bool
	cause  error // why it died, when that is known better than x/crypto knows it
	silent int64 // what had been heard when the server last let a session's end be asked for in vain; 0 if it did not
}

// newLink takes over a connection that is logged in. One goroutine looks after it: ssh.NewClient would start three.
func newLink(ep endpoint, peer *peer, wire *wireConn, every time.Duration, count int) *link {
	l := &link{
		name: ep.name, client: &goph.Client{Client: &ssh.Client{Conn: peer.conn}}, wire: wire, become: newBecome(ep.become),
		timeout: ep.timeout, pool: newPool(ep.sessions), dead: make(chan struct{}),
	}
	l.spawn(func() { l.tend(peer, every, count) })
	return l
}

// peer is the far end of a connection, and what it asks of us.
type peer struct {
	conn     ssh.Conn
	channels <-chan ssh.NewChannel
	requests <-chan *ssh.Request
}

// tend refuses what the server asks for, sees to it that the server is alive, and notes the end of the connection.
func (l *link) tend(p *peer, every time.Duration, count int) {
	defer close(l.dead)
	tick := time.NewTimer(every)
	defer tick.Stop()
	alive := make(chan struct{}, 1)
	channels, requests := p.channels, p.requests
	for channels != nil || requests != nil {
		select {
		case c, ok := <-channels:
			if !ok {
				channels = nil
				continue
			}
			// Beside: an answer that cannot be written must not keep us from noticing that.
			l.spawn(func() { _ = c.Reject(ssh.UnknownChannelType, "pxrun opens no channels for servers") })
		case r, ok := <-requests:
			if !ok {
				requests = nil
				continue
			}
			if r.WantReply {
				l.spawn(func() { _ = r.Reply(false, nil) })
			}
		case <-tick.C:
			l.spawn(func() {
				l.askForLife(every * time.Duration(count))
				alive <- struct{}{}
			})
		case <-alive:
			tick.Reset(every)
		}
	}
	l.blame(p.conn.Wait())
}

// spawn starts a goroutine that close waits for. After close it refuses.
func (l *link) spawn(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.wg.Go(f)
	}
	return !l.closed
}

func (l *link) blame(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil {
		l.cause = err
	}
}

// askForLife asks the server for a sign of life, and cuts the connection when it gives none.
func (l *link) askForLife(within time.Duration) {
	answered := make(chan struct{})
	l.spawn(func() {
		defer close(answered)
		_, _, _ = l.client.SendRequest("keepalive@openssh.com", true, nil)
	})
	silence := time.NewTimer(within)
	defer silence.Stop()
	select {
	case <-answered:
	case <-l.dead:
	case <-silence.C:
		l.blame(fmt.Errorf("no sign of life for %s", within))
		_ = l.wire.Close()
	}
}

// alive reports whether the connection still stands.
func (l *link) alive() bool {
	select {
	case <-l.dead:
		return false
	default:
		return true
	}
}

// whyDead gives the connection's end as the cause, or the given text if it stands.
func (l *link) whyDead(otherwise string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return l.cause
	}
	return errors.New(otherwise)
}

// close ends the connection and waits for its goroutines.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	_ = l.client.Close()
	l.wg.Wait()
}

// wait waits for something on this connection.
func (l *link) wait(ctx context.Context, until <-chan struct{}) error {
	select {
	case <-until:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.dead:
		return &lostShellError{cause: l.whyDead("the connection ended")}
	}
}

func (l *link) unreachable(phase string, cause error, hint string) error {
	return &transport.UnreachableError{Host: l.name, Phase: phase, Cause: cause, Hint: hint}
}

// errNoSession is a server that refused one more session.
var errNoSession = errors.New("the server refused to open a session")

// openChannel opens a session. Its place has been taken in the pool.
func (l *link) openChannel() (ssh.Channel, <-chan *ssh.Request, error) {
	channel, requests, err := l.client.OpenChannel("session", nil)
	if err == nil {
		return channel, requests, nil
	}
	if refusal, ok := errors.AsType[*ssh.OpenChannelError](err); ok {
		return nil, nil, fmt.Errorf("%w: %s (%s)", errNoSession, refusal.Message, refusal.Reason)
	}
	l.giveUp()
	return nil, nil, &lostShellError{cause: l.whyDead(err.Error())}
}

// giveUp ends a connection that has shown itself to be dead, so that nobody takes it for alive any more.
func (l *link) giveUp() {
	_ = l.wire.Close()
	<-l.dead
}

// runInShell runs commands one after the other in one shell and one round trip. It asks again when the server has no
// room for a session.
func (l *link) runInShell(ctx context.Context, commands []transport.Command) ([]transport.Result, error) {
	for try := 0; ; try++ {
		s, err := l.pool.shell(ctx, l)
		if err != nil {
			return nil, err
		}
		results, err := s.run(ctx, commands)
		if err == nil {
			l.pool.back(s)
			return results, nil
		}
		if !errors.Is(err, errNoSession) {
			l.discard(s)
			return results, err
		}
		if err := l.afterRefusal(ctx, try, err); err != nil {
			return nil, err
		}
	}
}

// afterRefusal waits until opening a session again makes sense.
func (l *link) afterRefusal(ctx context.Context, try int, refusal error) error {
	if l.pool.refused() {
		return nil // the pool waits for one of the others
	}
	if try == refusalTries {
		return l.unreachable("session", refusal, "check MaxSessions in the server's sshd_config")
	}
	pause := time.NewTimer(refusalPause(try))
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.dead:
		return &lostShellError{cause: l.whyDead("the connection ended")}
	}
}

// discard gives up the place of a shell when it has really ended.
func (l *link) discard(s *shell) {
	s.hangUp()
	if !s.alive() {
		l.pool.gone()
		return
	}
	l.spawn(func() {
		<-s.dead
		l.pool.gone()
	})
}

// noShell explains a session that ended before our own shell ran.
func (l *link) noShell(said string, lost *lostShellError) error {
	if !l.alive() {
		lost.cause = l.whyDead("the connection ended")
		return lost
	}
	if l.become.sudo {
		return l.unreachable("become", fmt.Errorf("sudo refused%s", said), explainSudo(said))
	}
	hint := "the user needs a login shell that can run /bin/sh"
	if strings.Contains(said, "not available") {
		hint = "the user's login shell is nologin; log in as another user"
	}
	return l.unreachable("shell", fmt.Errorf("the login shell ended at once%s", said), hint)
}

// The steps of ending a session, each waited for this long.
const endStep = time.Second

// endSession stops what runs in a session: politely, by force, by force from a second session where sshd will not
// signal (a shell under sudo belongs to root), and at last by closing the channel.
func (l *link) endSession(channel ssh.Channel, ended <-chan struct{}, pid int) {
	signal := func(name string) {
		_, _ = channel.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{name}))
	}
	steps := []func(){
		func() { signal("TERM") },
		func() { signal("KILL") },
		func() { l.kill(pid) },
		func() { _ = channel.Close() },
	}
	if l.become.sudo {
		steps = steps[2:]
	}
	heard := l.wire.heard.Load()
	for _, step := range steps {
		step()
		limit := time.NewTimer(endStep)
		select {
		case <-ended:
			limit.Stop()
			return
		case <-l.dead:
			limit.Stop()
			return
		case <-limit.C:
		}
	}
	l.doubt(heard)
}

// doubt notes that the server has said nothing since, although it was asked several times. It may be frozen, or only
// very busy: others may have commands on this connection, so it is not cut for that alone.
func (l *link) doubt(heard int64) {
	if l.wire.heard.Load() != heard {
		return
	}
	l.mu.Lock()
	l.silent = heard
	l.mu.Unlock()
}

// doubted reports whether nothing was heard since the server was found silent.
func (l *link) doubted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.silent != 0 && l.silent == l.wire.heard.Load()
}

// silencePatience is what a server gets to say anything that was silent for the seconds of endSession before.
const silencePatience = 2 * time.Second

// prove asks a server in doubt for a sign of life. One that gives none is taken for hanging, and the connection for lost:
// whoever comes next would wait for as long as a connection may take, or a command.
func (l *link) prove(ctx context.Context) error {
	if !l.doubted() {
		return nil
	}
	answered := make(chan struct{})
	l.spawn(func() {
		defer close(answered)
		_, _, _ = l.client.SendRequest("keepalive@openssh.com", true, nil)
	})
	limit := time.NewTimer(silencePatience)
	defer limit.Stop()
	select {
	case <-answered:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-limit.C:
	}
	l.blame(fmt.Errorf("no sign of life for %s", 4*endStep+silencePatience))
	l.giveUp()
	return l.unreachable("session", l.whyDead("the connection ended"), "the host or its SSH server hangs: look at it from its console")
}

// kill kills the process group of a remote process from a session of its own.
func (l *link) kill(pid int) {
	if pid == 0 {
		return
	}
	script := fmt.Sprintf(`g=%d;if read -r s </proc/$g/stat;then s=${s##*") "};set -- $s;g=$3;fi;kill -s KILL -- -"$g"`, pid)
	ctx, cancel := context.WithTimeout(context.Background(), endStep)
	defer cancel()
	killer, err := l.startSolo(ctx, transport.Command{Script: script}, streams{})
	if err != nil {
		return // it shows as a session that does not end; the caller closes it then
	}
	select {
	case <-killer.ended:
	case <-ctx.Done():
		_ = killer.channel.Close()
	}
}
