package sshx

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pxrun/pxrun/inventory"
	"github.com/skeema/knownhosts"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is an SSH server in the test's process that runs commands with the real /bin/sh of this machine.
type server struct {
	t       *testing.T
	hostKey ssh.Signer
	addr    string
	port    int

	// Set before the first connection.
	allow       []ssh.PublicKey
	password    string
	questions   []string
	login       string        // shell text that stands before every command, like an rc file
	env         []string      // added to the environment of commands
	maxSessions int           // 0: no limit
	noSignal    bool          // do not obey signal requests
	mute        chan struct{} // if set, answers stop until it is closed

	logins, connections, sessions, refused atomic.Int64

	mu    sync.Mutex
	conns []net.Conn
	execs []string
}

func newKey(t testing.TB) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "test")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "id_ed25519")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	return signer, path
}

// newServer makes a server; serve starts it.
func newServer(t *testing.T) *server {
	t.Helper()
	key, _ := newKey(t)
	return &server{t: t, hostKey: key}
}

func (s *server) serve() *server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s.t, err)
	s.addr = l.Addr().String()
	s.port = l.Addr().(*net.TCPAddr).Port
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.connections.Add(1)
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			wg.Go(func() { s.connection(c) })
		}
	})
	s.t.Cleanup(func() {
		_ = l.Close()
		s.drop()
		wg.Wait()
	})
	return s
}

// drop cuts every connection.
func (s *server) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
}

func (s *server) config() *ssh.ServerConfig {
	cfg := &ssh.ServerConfig{}
	cfg.AddHostKey(s.hostKey)
	ok := func() (*ssh.Permissions, error) { s.logins.Add(1); return nil, nil }
	no := func() (*ssh.Permissions, error) { s.refused.Add(1); return nil, io.ErrUnexpectedEOF }
	if s.allow != nil {
		cfg.PublicKeyCallback = func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			for _, k := range s.allow {
				plain := key
				if cert, certified := key.(*ssh.Certificate); certified {
					plain = cert.SignatureKey
				}
				if string(k.Marshal()) == string(plain.Marshal()) {
					return nil, nil
				}
			}
			s.refused.Add(1)
			return nil, io.ErrUnexpectedEOF
		}
	}
	if s.password != "" {
		cfg.PasswordCallback = func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
			if string(p) == s.password {
				return ok()
			}
			return no()
		}
	}
	if s.questions != nil {
		cfg.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			answers, err := ask("", "", s.questions, make([]bool, len(s.questions)))
			if err != nil {
				return nil, err
			}
			for _, a := range answers {
				if a != "sesame" {
					return no()
				}
			}
			return ok()
		}
	}
	if s.allow == nil && s.password == "" && s.questions == nil {
		cfg.NoClientAuth = true
	}
	return cfg
}

func (s *server) connection(raw net.Conn) {
	defer raw.Close()
	conn, channels, requests, err := ssh.NewServerConn(raw, s.config())
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	wg.Go(func() {
		for r := range requests {
			if s.mute != nil {
				<-s.mute
			}
			if r.WantReply {
				_ = r.Reply(false, nil)
			}
		}
	})
	var open atomic.Int64
	for nc := range channels {
		switch nc.ChannelType() {
		case "session":
			if s.maxSessions > 0 && open.Load() >= int64(s.maxSessions) {
				s.refused.Add(1)
				_ = nc.Reject(ssh.ConnectionFailed, "open failed")
				continue
			}
			open.Add(1)
			s.sessions.Add(1)
			channel, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer open.Add(-1)
				s.session(ctx, channel, reqs)
			})
		case "direct-tcpip":
			wg.Go(func() { s.forward(ctx, nc) })
		default:
			_ = nc.Reject(ssh.UnknownChannelType, "")
		}
	}
	_ = conn.Close()
}

func (s *server) forward(ctx context.Context, nc ssh.NewChannel) {
	var to struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	if ssh.Unmarshal(nc.ExtraData(), &to) != nil {
		return
	}
	out, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	channel, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = out.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { ssh.DiscardRequests(reqs) })
	wg.Go(func() { _, _ = io.Copy(out, channel); _ = out.Close() })
	wg.Go(func() { _, _ = io.Copy(channel, out); _ = channel.Close() })
	wg.Wait()
}

// session runs the command of an exec request as sshd does: login shell, own process group, signals to the group.
func (s *server) session(ctx context.Context, channel ssh.Channel, reqs <-chan *ssh.Request) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer channel.Close()
	var group int
	done := make(chan struct{})
	for {
		select {
		case <-done:
			return
		case r, ok := <-reqs:
			if !ok {
				if group > 0 {
					_ = syscall.Kill(-group, syscall.SIGHUP)
				}
				return
			}
			switch r.Type {
			case "exec":
				var m struct{ Command string }
				_ = ssh.Unmarshal(r.Payload, &m)
				s.mu.Lock()
				s.execs = append(s.execs, m.Command)
				s.mu.Unlock()
				cmd := exec.CommandContext(ctx, "/bin/sh", "-c", s.login+m.Command)
				cmd.Env = append(os.Environ(), s.env...)
				cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
				cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
				in, err := cmd.StdinPipe()
				require.NoError(s.t, err)
				cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
				if err := cmd.Start(); err != nil {
					return
				}
				group = cmd.Process.Pid
				wg.Go(func() { _, _ = io.Copy(in, channel); _ = in.Close() })
				wg.Go(func() {
					defer close(done)
					s.reportExit(channel, cmd.Wait())
				})
			case "signal":
				var m struct{ Name string }
				_ = ssh.Unmarshal(r.Payload, &m)
				if !s.noSignal && group > 0 {
					_ = syscall.Kill(-group, map[string]syscall.Signal{"TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[m.Name])
				}
			}
			if r.WantReply {
				_ = r.Reply(true, nil)
			}
		}
	}
}

func (s *server) reportExit(channel ssh.Channel, err error) {
	_ = channel.CloseWrite()
	status := 0
	if exit, ok := err.(*exec.ExitError); ok {
		status = exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			status = 128 + int(ws.Signal())
		}
	}
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ S uint32 }{uint32(status)}))
}

// knownHosts writes a file that trusts the servers.
func knownHostsFile(t *testing.T, servers ...*server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "known_hosts")
	var text string
	for _, s := range servers {
		text += knownhosts.Line([]string{s.addr}, s.hostKey.PublicKey()) + "\n"
	}
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func (s *server) host() inventory.Host {
	return inventory.Host{Name: "pve1", Address: "127.0.0.1", SSH: inventory.SSH{Port: s.port, ConnectTimeout: 30 * time.Second}}
}

// dialer makes a Dialer that trusts the servers and is closed with the test.
func dialer(t *testing.T, cfg Config, servers ...*server) *Dialer {
	t.Helper()
	cfg.ExtraKnownHosts = append(cfg.ExtraKnownHosts, knownHostsFile(t, servers...))
	d := New(cfg)
	t.Cleanup(d.Close)
	return d
}

// connect makes a connection to a server with default settings.
func connect(t *testing.T, s *server) *conn {
	t.Helper()
	return connectTo(t, dialer(t, Config{}, s), s.host())
}

func connectTo(t *testing.T, d *Dialer, h inventory.Host) *conn {
	t.Helper()
	c, err := d.Dial(t.Context(), h)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c.(*conn)
}

func writeEncrypted(t *testing.T, key any, phrase string) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKeyWithPassphrase(key, "test", []byte(phrase))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "id_encrypted")
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	return path
}
