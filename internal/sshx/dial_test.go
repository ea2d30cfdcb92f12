package sshx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// refusedDial dials and returns the error, which must say that the host is unreachable, in which phase, and what to do.
func refusedDial(t *testing.T, d *Dialer, h inventory.Host) *transport.UnreachableError {
	t.Helper()
	_, err := d.Dial(t.Context(), h)
	var e *transport.UnreachableError
	require.ErrorAs(t, err, &e)
	require.Equal(t, "pve1", e.Host)
	require.NotEmpty(t, e.Hint)
	return e
}

func TestUnreachableHostsAreExplained(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := closed.Addr().(*net.TCPAddr).Port
	require.NoError(t, closed.Close())
	host := func(address string, port int) inventory.Host {
		return inventory.Host{Name: "pve1", Address: address, SSH: inventory.SSH{Port: port, ConnectTimeout: 300 * time.Millisecond}}
	}
	notSSH, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	slam, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	answer := func(l net.Listener, f func(net.Conn)) {
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				f(c)
			}
		})
		t.Cleanup(wg.Wait)
		t.Cleanup(func() { _ = l.Close() })
	}
	answer(notSSH, func(c net.Conn) {
		_, _ = c.Write([]byte(strings.Repeat("HTTP/1.1 400 Bad Request\r\n", 400)))
		_ = c.Close()
	})
	answer(slam, func(c net.Conn) { _ = c.Close() })
	answer(mute, func(c net.Conn) { t.Cleanup(func() { _ = c.Close() }) })
	at := func(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

	for name, tt := range map[string]struct {
		host        inventory.Host
		phase, text string
	}{
		"refused":      {host("127.0.0.1", port), "connect", "connection refused"},
		"no such name": {host("no-such-host.invalid", 22), "resolve", "no-such-host.invalid"},
		"no SSH":       {host("127.0.0.1", at(notSSH)), "handshake", ""},
		"hangs up":     {host("127.0.0.1", at(slam)), "handshake", "closed the connection before the key exchange"},
		"says nothing": {host("127.0.0.1", at(mute)), "handshake", "no answer in time (300ms)"},
		"no address":   {host("", 22), "configure", "no address"},
		"bad become":   {inventory.Host{Name: "pve1", Address: "127.0.0.1", SSH: inventory.SSH{Become: inventory.Become{Method: "doas"}}}, "configure", `"doas"`},
		"bad jump":     {inventory.Host{Name: "pve1", Address: "127.0.0.1", SSH: inventory.SSH{Jump: []string{"a@b:99999"}}}, "configure", "no port"},
	} {
		t.Run(name, func(t *testing.T) {
			d := New(Config{})
			t.Cleanup(d.Close)
			e := refusedDial(t, d, tt.host)
			require.Equal(t, tt.phase, e.Phase, e.Error())
			require.ErrorContains(t, e, tt.text)
		})
	}
}

func TestCancelledDialEndsAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // its backlog accepts, nobody answers
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	d := New(Config{})
	t.Cleanup(d.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = d.Dial(ctx, inventory.Host{Name: "pve1", Address: "127.0.0.1", SSH: inventory.SSH{Port: l.Addr().(*net.TCPAddr).Port}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestLoginWithEachKindOfProof(t *testing.T) {
	key, path := newKey(t)
	other, otherPath := newKey(t)
	encrypted := encryptedKey(t, "opensesame")
	socket, agentKey := startAgent(t)
	certified := certifiedKey(t, key)
	prompt := func(answer string) func(context.Context, string) (secret.String, error) {
		return func(context.Context, string) (secret.String, error) { return secret.New(answer), nil }
	}
	for name, tt := range map[string]struct {
		server func(*server)
		ssh    inventory.SSH
		cfg    Config
		fails  string
	}{
		"key file":               {func(s *server) { s.allow = []ssh.PublicKey{key.PublicKey()} }, inventory.SSH{IdentityFiles: []string{path}}, Config{}, ""},
		"second key file":        {func(s *server) { s.allow = []ssh.PublicKey{key.PublicKey()} }, inventory.SSH{IdentityFiles: []string{otherPath, path}}, Config{}, ""},
		"extra identity":         {func(s *server) { s.allow = []ssh.PublicKey{key.PublicKey()} }, inventory.SSH{}, Config{ExtraIdentities: []string{path}}, ""},
		"wrong key":              {func(s *server) { s.allow = []ssh.PublicKey{key.PublicKey()} }, inventory.SSH{IdentityFiles: []string{otherPath}}, Config{}, "login as root refused; offered: " + ssh.FingerprintSHA256(other.PublicKey())},
		"nothing to offer":       {func(s *server) { s.allow = []ssh.PublicKey{key.PublicKey()} }, inventory.SSH{}, Config{}, "there is no key, agent or password"},
		"missing key file":       {func(s *server) { s.allow = []ssh.PublicKey{key.PublicKey()} }, inventory.SSH{IdentityFiles: []string{"/nonexistent/key"}}, Config{}, "no such file"},
		"agent":                  {func(s *server) { s.allow = []ssh.PublicKey{agentKey} }, inventory.SSH{}, Config{Agent: socket}, ""},
		"certificate":            {func(s *server) { s.allow = []ssh.PublicKey{certified.authority} }, inventory.SSH{IdentityFiles: []string{certified.key}}, Config{}, ""},
		"passphrase from prompt": {func(s *server) { s.allow = []ssh.PublicKey{encrypted.public} }, inventory.SSH{IdentityFiles: []string{encrypted.path}}, Config{Prompt: prompt("opensesame")}, ""},
		"passphrase configured":  {func(s *server) { s.allow = []ssh.PublicKey{encrypted.public} }, inventory.SSH{IdentityFiles: []string{encrypted.path}, Passphrase: secret.New("opensesame")}, Config{}, ""},
		"wrong passphrase":       {func(s *server) { s.allow = []ssh.PublicKey{encrypted.public} }, inventory.SSH{IdentityFiles: []string{encrypted.path}, Passphrase: secret.New("x")}, Config{}, "decryption password incorrect"},
		"encrypted, nobody asks": {func(s *server) { s.allow = []ssh.PublicKey{encrypted.public} }, inventory.SSH{IdentityFiles: []string{encrypted.path}}, Config{}, "is encrypted"},
		"password":               {func(s *server) { s.password = "sesame" }, inventory.SSH{Password: secret.New("sesame")}, Config{}, ""},
		"password from prompt":   {func(s *server) { s.password = "sesame" }, inventory.SSH{}, Config{Prompt: prompt("sesame")}, ""},
		"wrong password":         {func(s *server) { s.password = "sesame" }, inventory.SSH{Password: secret.New("no")}, Config{}, "a password"},
		"keyboard-interactive":   {func(s *server) { s.questions = []string{"Password: "} }, inventory.SSH{Password: secret.New("sesame")}, Config{}, ""},
		"second factor":          {func(s *server) { s.questions = []string{"Password: ", "Code: "} }, inventory.SSH{Password: secret.New("sesame")}, Config{Prompt: prompt("sesame")}, ""},
		"second factor, nobody":  {func(s *server) { s.questions = []string{"Password: ", "Code: "} }, inventory.SSH{Password: secret.New("sesame")}, Config{}, "nobody is there to answer"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			tt.server(s)
			s.serve()
			h := s.host()
			tt.ssh.Port, tt.ssh.ConnectTimeout = h.SSH.Port, h.SSH.ConnectTimeout
			h.SSH = tt.ssh
			d := dialer(t, tt.cfg, s)
			if tt.fails != "" {
				e := refusedDial(t, d, h)
				require.Equal(t, "authenticate", e.Phase)
				require.ErrorContains(t, e, tt.fails)
				return
			}
			require.Equal(t, "in", run(t, connectTo(t, d, h), transport.Command{Argv: []string{"echo", "in"}}).Out())
		})
	}
}

type encryptedFile struct {
	path   string
	public ssh.PublicKey
}

func TestOnePassphraseQuestionForManyHosts(t *testing.T) {
	encrypted := encryptedKey(t, "opensesame")
	var asked atomic.Int64
	var servers []*server
	for range 5 {
		s := newServer(t)
		s.allow = []ssh.PublicKey{encrypted.public}
		servers = append(servers, s.serve())
	}
	d := dialer(t, Config{ExtraIdentities: []string{encrypted.path}, Prompt: func(context.Context, string) (secret.String, error) {
		asked.Add(1)
		return secret.New("opensesame"), nil
	}}, servers...)
	var wg sync.WaitGroup
	for _, s := range servers {
		wg.Go(func() {
			c, err := d.Dial(t.Context(), s.host())
			if err == nil {
				err = c.Close()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, asked.Load())
}

func TestKeyThatWorkedIsOfferedFirstToTheNextHost(t *testing.T) {
	home := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(home, ".ssh"), 0o700))
	_, wrong := newKey(t)
	key, right := newKey(t)
	for name, from := range map[string]string{"id_ed25519": wrong, "id_ecdsa": right} {
		data, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(home, ".ssh", name), data, 0o600))
	}
	a, b := newServer(t), newServer(t)
	a.allow, b.allow = []ssh.PublicKey{key.PublicKey()}, []ssh.PublicKey{key.PublicKey()}
	a.serve()
	b.serve()
	d := dialer(t, Config{Home: home}, a, b)
	connectTo(t, d, a.host())
	connectTo(t, d, b.host())
	require.EqualValues(t, 1, a.refused.Load())
	require.EqualValues(t, 0, b.refused.Load())
}

func TestJumpHosts(t *testing.T) {
	key, path := newKey(t)
	allow := []ssh.PublicKey{key.PublicKey()}
	outer, inner, target := newServer(t), newServer(t), newServer(t)
	outer.allow, inner.allow, target.allow = allow, allow, allow
	outer.serve()
	inner.serve()
	target.serve()
	named := func(s *server, name string, jump ...string) inventory.Host {
		h := s.host()
		h.Name, h.SSH.Jump = name, jump
		return h
	}
	direct := fmt.Sprintf("root@127.0.0.1:%d", outer.port)
	for name, tt := range map[string]struct {
		jump []string
		via  *server
	}{
		"by name":            {[]string{"outer"}, outer},
		"user@host:port":     {[]string{direct}, outer},
		"two hops":           {[]string{"outer", "inner"}, inner},
		"a hop with its own": {[]string{"far"}, inner},
	} {
		t.Run(name, func(t *testing.T) {
			site := &inventory.Site{Hosts: []inventory.Host{named(outer, "outer"), named(inner, "inner"), named(inner, "far", "outer"), named(target, "pve1", tt.jump...)}}
			d := dialer(t, Config{Site: site, ExtraIdentities: []string{path}}, outer, inner, target)
			before := [3]int64{outer.connections.Load(), inner.connections.Load(), target.connections.Load()}
			h, _ := site.Host("pve1")
			for range 3 {
				require.Equal(t, "in", run(t, connectTo(t, d, h), transport.Command{Argv: []string{"echo", "in"}}).Out())
			}
			require.EqualValues(t, 1, outer.connections.Load()-before[0], "the bastion's connection is shared")
			require.EqualValues(t, 3, target.connections.Load()-before[2])
		})
	}
	t.Run("dead bastion", func(t *testing.T) {
		d := dialer(t, Config{ExtraIdentities: []string{path}}, target)
		e := refusedDial(t, d, named(target, "pve1", "127.0.0.1:1"))
		require.ErrorContains(t, e, "jump host: 127.0.0.1:1: connect")
	})
	t.Run("circle", func(t *testing.T) {
		site := &inventory.Site{Hosts: []inventory.Host{named(outer, "a", "b"), named(inner, "b", "a")}}
		d := dialer(t, Config{Site: site}, target)
		e := refusedDial(t, d, named(target, "pve1", "a"))
		require.ErrorContains(t, e, "circle")
	})
}

func TestBastionThatDiedIsConnectedAgain(t *testing.T) {
	bastion, target := newServer(t).serve(), newServer(t).serve()
	d := dialer(t, Config{}, bastion, target)
	h := target.host()
	h.SSH.Jump = []string{bastion.addr}
	c := connectTo(t, d, h)
	bastion.drop()
	require.Equal(t, "again", run(t, c, transport.Command{Argv: []string{"echo", "again"}}).Out())
	require.EqualValues(t, 2, bastion.connections.Load())
}

func TestDialContextAndParallelBound(t *testing.T) {
	s := newServer(t).serve()
	var now, most atomic.Int64
	d := dialer(t, Config{Parallel: 2, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != "192.0.2.11:22" {
			return nil, errors.New("unexpected address " + address)
		}
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		return (&net.Dialer{}).DialContext(ctx, network, s.addr)
	}}, s)
	h := inventory.Host{Name: "pve1", Address: "192.0.2.11", SSH: inventory.SSH{HostKey: string(ssh.MarshalAuthorizedKey(s.hostKey.PublicKey()))}}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			c, err := d.Dial(t.Context(), h)
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.Close()
		})
	}
	wg.Wait()
	require.LessOrEqual(t, most.Load(), int64(2))
}

// encryptedKey makes a key file with a passphrase.
func encryptedKey(t *testing.T, phrase string) encryptedFile {
	t.Helper()
	signer, plain := newKey(t)
	return encryptedFile{encrypt(t, plain, phrase), signer.PublicKey()}
}

type certifiedFile struct {
	key       string
	authority ssh.PublicKey
}

// certifiedKey makes a key file with a certificate beside it.
func certifiedKey(t *testing.T, authority ssh.Signer) certifiedFile {
	t.Helper()
	signer, path := newKey(t)
	cert := &ssh.Certificate{
		Key: signer.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"root"}, ValidBefore: ssh.CertTimeInfinity,
	}
	require.NoError(t, cert.SignCert(zeroes{}, authority))
	require.NoError(t, os.WriteFile(path+"-cert.pub", ssh.MarshalAuthorizedKey(cert), 0o600))
	return certifiedFile{path, authority.PublicKey()}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { return len(p), nil }

// startAgent serves an agent with one key.
func startAgent(t *testing.T) (socket string, public ssh.PublicKey) {
	t.Helper()
	ring := agent.NewKeyring()
	signer, path := newKey(t)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	key, err := ssh.ParseRawPrivateKey(raw)
	require.NoError(t, err)
	require.NoError(t, ring.Add(agent.AddedKey{PrivateKey: key}))
	socket = filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { _ = agent.ServeAgent(ring, c) })
		}
	})
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { _ = l.Close() })
	return socket, signer.PublicKey()
}

// Every host waits for the agent's list of keys, so one that hangs must not hold the run.
func TestAgentThatHangsIsGivenUp(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket) // its backlog accepts, nobody answers
	require.NoError(t, err)
	defer l.Close()
	k := keyring{socket: socket, patience: 20 * time.Millisecond}
	defer k.close()
	_, err = k.agentKeys()
	require.ErrorContains(t, err, "timeout")
}

func encrypt(t *testing.T, path, phrase string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	key, err := ssh.ParseRawPrivateKey(raw)
	require.NoError(t, err)
	return writeEncrypted(t, key, phrase)
}

func TestAdviceFitsWhatTheNetworkSaid(t *testing.T) {
	for name, tt := range map[string]struct {
		said error
		want string
	}{
		"no power":      {syscall.EHOSTUNREACH, "nobody answers at that address: see whether the host has power"},
		"no way there":  {syscall.ENETUNREACH, "ip route get 192.0.2.11"},
		"refused":       {syscall.ECONNREFUSED, "the host is up and nothing listens there"},
		"nothing comes": {syscall.ETIMEDOUT, "no firewall drops port 22"},
		"reset":         {syscall.ECONNRESET, "something on the way ends connections to port 22"},
		"anything else": {syscall.EPIPE, "see whether the host is up and the network path works"},
	} {
		t.Run(name, func(t *testing.T) {
			d := New(Config{DialContext: func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", tt.said)}
			}})
			defer d.Close()
			e := refusedDial(t, d, inventory.Host{Name: "pve1", Address: "192.0.2.11"})
			require.Equal(t, "connect", e.Phase)
			require.Contains(t, e.Hint, tt.want)
		})
	}
}
