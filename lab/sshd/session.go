package sshd

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/pxrun/pxrun/lab/machine"
)

// session is one channel on which a command, a shell or sftp runs.
type session struct {
	k       *connection
	channel ssh.Channel
	env     map[string]string
	tty     *terminal
	started bool
	group   *machine.Session
	cancel  context.CancelCauseFunc
}

// session serves one channel to its end.
func (k *connection) session(ctx context.Context, c ssh.NewChannel) {
	channel, requests, err := c.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(machine.SIGHUP)
	s := &session{k: k, channel: channel, env: map[string]string{}, cancel: cancel}
	ctx, s.group = k.server.m.NewSession(ctx)
	ended := make(chan struct{})
	for {
		select {
		case r, ok := <-requests:
			if !ok { // the client closed the channel: what runs in it is hung up
				cancel(machine.SIGHUP)
				if s.started {
					<-ended
				}
				return
			}
			s.request(ctx, r, ended)
		case <-ended:
			channel.Close()
			for r := range requests {
				if r.WantReply {
					_ = r.Reply(false, nil)
				}
			}
			return
		}
	}
}

// request handles one channel request. A command runs in a goroutine that closes ended.
func (s *session) request(ctx context.Context, r *ssh.Request, ended chan struct{}) {
	ok := false
	var start func()
	switch r.Type {
	case "pty-req":
		var p struct {
			Term          string
			Columns, Rows uint32
			Width, Height uint32
			Modes         string
		}
		if ssh.Unmarshal(r.Payload, &p) == nil && !s.started {
			s.tty, ok = newTerminal(s), true
			s.env["TERM"] = p.Term
		}
	case "env":
		var kv struct{ Name, Value string }
		if ssh.Unmarshal(r.Payload, &kv) == nil && (kv.Name == "LANG" || strings.HasPrefix(kv.Name, "LC_")) {
			s.env[kv.Name], ok = kv.Value, true
		}
	case "window-change":
		ok = true
	case "signal":
		var sig struct{ Name string }
		if ssh.Unmarshal(r.Payload, &sig) == nil {
			if n, known := machine.ParseSignal(sig.Name); known {
				ok = s.group.Signal(n)
			}
		}
	case "shell":
		start = func() { s.run(ctx, "") }
	case "exec":
		var c struct{ Command string }
		if ssh.Unmarshal(r.Payload, &c) == nil {
			start = func() { s.run(ctx, c.Command) }
		}
	case "subsystem":
		var n struct{ Name string }
		if ssh.Unmarshal(r.Payload, &n) == nil && n.Name == "sftp" {
			start = func() { s.sftp(ctx) }
		}
	}
	if start != nil && !s.started {
		s.started, ok = true, true
	} else {
		start = nil
	}
	if r.WantReply {
		_ = r.Reply(ok, nil)
	}
	if start != nil {
		s.k.wg.Go(func() {
			defer close(ended)
			start()
		})
	}
}

// run runs a command (or a login shell) and tells the client how it ended.
func (s *session) run(ctx context.Context, command string) {
	srv := s.k.server
	if srv.opt.OnExec != nil {
		if err := srv.opt.OnExec(ctx, s.k.user.Name, command); err != nil {
			s.k.ssh.Close()
			return
		}
	}
	local, peer := s.k.peers()
	e := &Exec{User: s.k.user.Name, Command: command, Connection: s.k.number, Session: int(s.k.opened.Add(1))}
	var tag any = e
	if srv.opt.Tag != nil {
		tag = srv.opt.Tag(*e)
	}
	login := machine.Login{User: s.k.user, Command: command, TTY: s.tty != nil, Env: s.env, Local: local, Peer: peer, Tag: tag}
	if s.k.ssh.Permissions != nil {
		login.ForceCommand = s.k.ssh.Permissions.Extensions[forceCommand]
	}
	proc := srv.m.LoginProc(login)
	io := s.connect()
	proc.Stdin, proc.Stdout, proc.Stderr = io.in, io.out, io.err
	srv.mu.Lock()
	noise := srv.noise
	srv.mu.Unlock()
	if noise != "" {
		_, _ = io.out.Write([]byte(noise)) // a client that left hears nothing
	}
	code, killed := srv.m.ExecSignal(ctx, proc)
	io.finish()
	s.exit(code, killed)
}

// exit sends the exit status, or the signal that ended the session's program. A client that left hears neither.
func (s *session) exit(code int, killed machine.Signal) {
	if killed == 0 {
		_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(code)}))
		return
	}
	_, _ = s.channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
		Name     string
		Core     bool
		Message  string
		Language string
	}{Name: killed.String()}))
}

// streams join a program with a channel through pipes, so that a program can be killed while the client does not read.
type streams struct {
	in, out, err *machine.Pipe
	done         []chan struct{}
}

func (s *session) connect() *streams {
	st := &streams{in: machine.NewPipe(), out: machine.NewPipe(), err: machine.NewPipe()}
	var output io.Writer = s.channel
	if s.tty != nil {
		st.err = st.out
		output = s.tty
		s.k.wg.Go(func() { s.tty.input(st.in) })
	} else {
		s.k.wg.Go(func() {
			_, _ = io.Copy(st.in, s.channel) // ends with the channel or with the program
			st.in.CloseWrite()
		})
		st.drain(&s.k.wg, s.channel.Stderr(), st.err)
	}
	st.drain(&s.k.wg, output, st.out)
	return st
}

// drain copies what a program prints to the client.
func (st *streams) drain(wg interface{ Go(func()) }, to io.Writer, from *machine.Pipe) {
	done := make(chan struct{})
	st.done = append(st.done, done)
	wg.Go(func() {
		defer close(done)
		if _, err := io.Copy(to, from); err != nil && !errors.Is(err, syscall.EPIPE) {
			from.CloseRead()
		}
	})
}

// finish waits until the client has everything.
func (st *streams) finish() {
	st.in.CloseRead()
	st.out.CloseWrite()
	st.err.CloseWrite()
	for _, done := range st.done {
		<-done
	}
	st.out.CloseRead()
	st.err.CloseRead()
}
