package machine

import (
	"context"
	"fmt"
	"net/netip"
)

// Session is the processes that one login started. Those that made a session of their own (setsid, systemd-run) have
// left it.
type Session struct {
	m *Machine
}

type sessionKey struct{}

// NewSession returns a context in which processes belong to a new session.
func (m *Machine) NewSession(ctx context.Context) (context.Context, *Session) {
	s := &Session{m: m}
	return context.WithValue(ctx, sessionKey{}, s), s
}

func sessionOf(ctx context.Context) *Session {
	s, _ := ctx.Value(sessionKey{}).(*Session)
	return s
}

// leaveSession is a context whose processes belong to no session.
func leaveSession(ctx context.Context) context.Context {
	return context.WithValue(ctx, sessionKey{}, (*Session)(nil))
}

// Signal sends a signal to every process of the session and reports whether there was one.
func (s *Session) Signal(sig Signal) bool {
	t := &s.m.procs
	t.mu.Lock()
	var members []*process
	for _, p := range t.all {
		if p.session == s {
			members = append(members, p)
		}
	}
	t.mu.Unlock()
	for _, p := range members {
		p.signal(sig)
	}
	return len(members) > 0
}

// Login is what sshd knows when it starts a user's shell.
type Login struct {
	User User
	// Command is run by the user's shell; "" is an interactive shell.
	Command      string
	TTY          bool
	Env          map[string]string
	Local, Peer  netip.AddrPort
	Tag          any
	ForceCommand string
}

// LoginProc is the process that sshd starts for a login, without its streams.
func (m *Machine) LoginProc(l Login) Proc {
	env := map[string]string{
		"HOME": l.User.Home, "USER": l.User.Name, "LOGNAME": l.User.Name, "SHELL": l.User.Shell, "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/games", "PWD": l.User.Home,
		"SSH_CLIENT":     fmt.Sprintf("%s %d %d", l.Peer.Addr(), l.Peer.Port(), l.Local.Port()),
		"SSH_CONNECTION": fmt.Sprintf("%s %d %s %d", l.Peer.Addr(), l.Peer.Port(), l.Local.Addr(), l.Local.Port()),
	}
	if l.User.UID == 0 {
		env["PATH"] = defaultPath
	}
	for k, v := range l.Env {
		env[k] = v
	}
	command := l.Command
	if l.ForceCommand != "" {
		env["SSH_ORIGINAL_COMMAND"] = command
		command = l.ForceCommand
	}
	argv := []string{l.User.Shell, "-c", command}
	if command == "" {
		argv = []string{l.User.Shell, "-l"}
	}
	dir := l.User.Home
	if _, err := m.FS.Stat(dir); err != nil {
		dir = "/"
	}
	return Proc{Argv: argv, Env: env, Dir: dir, UID: l.User.UID, TTY: l.TTY, Tag: l.Tag}
}
