package sshd_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/sshd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a machine behind a server that a test can log in to.
type host struct {
	t       *testing.T
	m       *machine.Machine
	s       *sshd.Server
	clock   *clock.Manual
	address string
	key     ssh.Signer
}

func newHost(t *testing.T, o sshd.Options) *host {
	t.Helper()
	manual := clock.NewManual()
	m := machine.New(machine.Options{Name: "pve1", Clock: manual, RootPassword: "geheim", Seed: 1})
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	key, err := ssh.NewSignerFromSigner(private)
	require.NoError(t, err)
	require.NoError(t, m.FS.WriteFile("/root/.ssh/authorized_keys", ssh.MarshalAuthorizedKey(key.PublicKey()), 0o600))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h := &host{t: t, m: m, s: sshd.New(m, o), clock: manual, address: l.Addr().String(), key: key}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- h.s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
		m.Close()
		manual.Close()
	})
	return h
}

func (h *host) dial(user string, auth ...ssh.AuthMethod) (*ssh.Client, error) {
	if len(auth) == 0 {
		auth = []ssh.AuthMethod{ssh.PublicKeys(h.key)}
	}
	client, err := ssh.Dial("tcp", h.address, &ssh.ClientConfig{
		User: user, Auth: auth, HostKeyCallback: ssh.FixedHostKey(h.s.HostKeys()[0]), HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}, Timeout: 10 * time.Second,
	})
	if err == nil {
		h.t.Cleanup(func() { client.Close() })
	}
	return client, err
}

func (h *host) client() *ssh.Client {
	h.t.Helper()
	client, err := h.dial("root")
	require.NoError(h.t, err)
	return client
}

// run runs one command in a session of its own.
func run(t *testing.T, c *ssh.Client, command, stdin string) (stdout, stderr string, err error) {
	t.Helper()
	s, err := c.NewSession()
	require.NoError(t, err)
	defer s.Close()
	var out, errs bytes.Buffer
	s.Stdin, s.Stdout, s.Stderr = strings.NewReader(stdin), &out, &errs
	err = s.Run(command)
	return out.String(), errs.String(), err
}

func TestCommandsHaveStreamsAndStatus(t *testing.T) {
	h := newHost(t, sshd.Options{})
	out, errs, err := run(t, h.client(), `read x; echo "got $x in $PWD as $USER"; echo bad >&2; exit 7`, "hello\n")
	require.Equal(t, "got hello in /root as root\n", out)
	require.Equal(t, "bad\n", errs)
	var exit *ssh.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 7, exit.ExitStatus())
}

func TestLoginMethods(t *testing.T) {
	_, other, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	stranger, err := ssh.NewSignerFromSigner(other)
	require.NoError(t, err)
	ask := func(answer string) ssh.AuthMethod {
		return ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			if len(questions) == 0 {
				return nil, nil
			}
			return []string{answer}, nil
		})
	}
	for _, c := range []struct {
		name, config string
		auth         ssh.AuthMethod
		ok           bool
	}{
		{"password", "", ssh.Password("geheim"), true},
		{"wrong password", "", ssh.Password("falsch"), false},
		{"passwords off", "PasswordAuthentication no\n", ssh.Password("geheim"), false},
		{"root only by key", "PermitRootLogin prohibit-password\n", ssh.Password("geheim"), false},
		{"unknown key", "", ssh.PublicKeys(stranger), false},
		{"keyboard-interactive", "KbdInteractiveAuthentication yes\n", ask("geheim"), true},
		{"keyboard-interactive off", "", ask("geheim"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, sshd.Options{})
			require.NoError(t, h.m.FS.WriteFile("/etc/ssh/sshd_config", []byte(c.config+"PermitRootLogin yes\n"), 0o644))
			_, err := h.dial("root", c.auth)
			require.Equal(t, c.ok, err == nil, "%v", err)
		})
	}
}

func TestKeyLoginNeedsTheFileBehindTheLink(t *testing.T) {
	h := newHost(t, sshd.Options{})
	fs := h.m.FS
	require.NoError(t, fs.MkdirAll("/etc/pve/priv", 0o700))
	require.NoError(t, fs.Rename("/root/.ssh/authorized_keys", "/etc/pve/priv/authorized_keys"))
	require.NoError(t, fs.Symlink("/etc/pve/priv/authorized_keys", "/root/.ssh/authorized_keys"))
	open := h.client()
	require.NoError(t, fs.Rename("/etc/pve", "/etc/gone"))
	_, err := h.dial("root")
	require.Error(t, err)
	out, _, err := run(t, open, "echo still here", "")
	require.NoError(t, err, "a connection that was open before stays usable")
	require.Equal(t, "still here\n", out)
	require.NoError(t, fs.Rename("/etc/gone", "/etc/pve"))
	h.client()
}

func TestRefusedLoginsBanTheSource(t *testing.T) {
	h := newHost(t, sshd.Options{})
	for range 4 {
		_, err := h.dial("root", ssh.Password("falsch"))
		require.ErrorContains(t, err, "unable to authenticate")
	}
	require.Eventually(t, func() bool { // the server counts a login as refused when its connection has ended
		c, err := h.dial("root")
		if err != nil {
			require.NotContains(t, err.Error(), "unable to authenticate", "the connection is closed before the version line")
			return true
		}
		c.Close()
		return false
	}, 5*time.Second, time.Millisecond)
	h.clock.Advance(39 * time.Second)
	_, err := h.dial("root")
	require.Error(t, err)
	h.clock.Advance(2 * time.Second)
	h.client()
}

func TestPersistentShellAnswersLineByLine(t *testing.T) {
	h := newHost(t, sshd.Options{})
	s, err := h.client().NewSession()
	require.NoError(t, err)
	in, err := s.StdinPipe()
	require.NoError(t, err)
	out, err := s.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, s.Start("exec /bin/sh"))
	lines := bufio.NewReader(out)
	say := func(command string, want ...string) {
		t.Helper()
		_, err := io.WriteString(in, command)
		require.NoError(t, err)
		for _, w := range want {
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, w, strings.TrimSuffix(line, "\n"))
		}
	}
	say("__m() { __s=$?; printf '\\n%s %s\\n' \"$1\" \"$__s\"; }\n")
	say("( echo 'a b' )</dev/null;__m M1\n", "a b", "", "M1 0")
	say("( exit 9 )</dev/null;__m M2\n( set -- x 'y z';eval 'for i; do\n  echo \"<$i>\"\ndone' )</dev/null;__m M3\n", "", "M2 9", "<x>", "<y z>", "", "M3 0")
	say("( eval 'if true; then' ) 2>/dev/null </dev/null;__m M4\n", "", "M4 2")
	say("( cat ) <<'X';__m M5\nhere $HOME\nX\n", "here $HOME", "", "M5 0")
	say("printf %s 'in put'|( cat; exit 3 );__m M6\n", "in put", "M6 3")
	require.NoError(t, in.Close())
	require.NoError(t, s.Wait())
}

func TestSignalEndsTheSession(t *testing.T) {
	h := newHost(t, sshd.Options{})
	s, err := h.client().NewSession()
	require.NoError(t, err)
	out, err := s.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, s.Start("echo ready; sleep 1000"))
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, s.Signal(ssh.SIGTERM))
	var exit *ssh.ExitError
	require.ErrorAs(t, s.Wait(), &exit)
	require.Equal(t, "TERM", exit.Signal())
}

func TestClosedChannelEndsForegroundOnly(t *testing.T) {
	h := newHost(t, sshd.Options{})
	client := h.client()
	s, err := client.NewSession()
	require.NoError(t, err)
	out, err := s.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, s.Start("nohup sleep 1001 >/dev/null 2>&1 & systemd-run -q --unit=keep sleep 1002; echo ready; sleep 1003"))
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Eventually(t, func() bool {
		found := map[string]bool{}
		for _, p := range h.m.Processes() {
			found[p.Command()] = true
		}
		return found["sleep 1001"] && found["sleep 1002"] && !found["sleep 1003"]
	}, 5*time.Second, time.Millisecond)
}

// TestHungUpShellCleansUp closes the channel of a shell that traps the hangup, between commands and in the middle of one.
func TestHungUpShellCleansUp(t *testing.T) {
	for name, wait := range map[string]string{"in a command": "sleep 1003", "at the end of one": "sleep 1003 || exit"} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, sshd.Options{})
			s, err := h.client().NewSession()
			require.NoError(t, err)
			out, err := s.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, s.Start("trap 'rm -f /tmp/half' EXIT; trap 'exit 1' HUP; touch /tmp/half; echo ready; "+wait+"; touch /tmp/after"))
			_, err = bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			require.NoError(t, s.Close())
			require.Eventually(t, func() bool {
				_, err := h.m.FS.Stat("/tmp/half")
				return errors.Is(err, fs.ErrNotExist)
			}, 5*time.Second, time.Millisecond)
			_, err = h.m.FS.Stat("/tmp/after")
			require.ErrorIs(t, err, fs.ErrNotExist)
		})
	}
}

func TestSessionsAreLimited(t *testing.T) {
	h := newHost(t, sshd.Options{})
	client := h.client()
	for range 10 {
		s, err := client.NewSession()
		require.NoError(t, err)
		_, err = s.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, s.Start("cat"))
		defer s.Close()
	}
	_, err := client.NewSession()
	var open *ssh.OpenChannelError
	require.ErrorAs(t, err, &open)
}

func TestKeepaliveIsAnswered(t *testing.T) {
	h := newHost(t, sshd.Options{})
	_, _, err := h.client().SendRequest("keepalive@openssh.com", true, nil)
	require.NoError(t, err)
}

func TestForwardingReachesWhatDialGives(t *testing.T) {
	h := newHost(t, sshd.Options{Dial: func(_ context.Context, host string, port int) (net.Conn, error) {
		if host != "10.0.0.9" || port != 22 {
			return nil, errors.New("no route")
		}
		near, far := net.Pipe()
		go func() {
			io.WriteString(far, "SSH-2.0-inner\n")
			far.Close()
		}()
		return near, nil
	}})
	client := h.client()
	conn, err := client.Dial("tcp", "10.0.0.9:22")
	require.NoError(t, err)
	text, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "SSH-2.0-inner\n", string(text))
	require.NoError(t, conn.Close())
	_, err = client.Dial("tcp", "10.0.0.8:22")
	require.ErrorContains(t, err, "no route")
}

func TestDroppedAndRefusedConnections(t *testing.T) {
	h := newHost(t, sshd.Options{})
	client := h.client()
	h.s.DropAll()
	require.Error(t, client.Wait())
	h.s.Refuse(true)
	_, err := h.dial("root")
	require.Error(t, err)
	h.s.Refuse(false)
	h.client()
}

func TestPowerLossDropsAndBootLetsInAgain(t *testing.T) {
	h := newHost(t, sshd.Options{})
	client := h.client()
	before := h.m.BootID()
	h.m.PowerOff()
	require.Error(t, client.Wait())
	_, err := h.dial("root")
	require.Error(t, err)
	up := make(chan struct{})
	h.m.OnPower(func(on bool) {
		if on {
			close(up)
		}
	})
	h.m.PowerOn()
	require.Eventually(t, func() bool {
		h.clock.Advance(10 * time.Second)
		select {
		case <-up:
			return true
		default:
			return false
		}
	}, 5*time.Second, time.Millisecond)
	out, _, err := run(t, h.client(), "cat /proc/sys/kernel/random/boot_id", "")
	require.NoError(t, err)
	require.NotEqual(t, before, strings.TrimSpace(out))
}

func TestTerminalEchoesAndPrompts(t *testing.T) {
	h := newHost(t, sshd.Options{})
	s, err := h.client().NewSession()
	require.NoError(t, err)
	require.NoError(t, s.RequestPty("xterm", 24, 80, ssh.TerminalModes{}))
	in, err := s.StdinPipe()
	require.NoError(t, err)
	out, err := s.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, s.Shell())
	var seen strings.Builder
	until := func(text string) {
		t.Helper()
		buf := make([]byte, 256)
		for !strings.HasSuffix(seen.String(), text) {
			n, err := out.Read(buf)
			require.NoError(t, err, seen.String())
			seen.Write(buf[:n])
		}
	}
	const prompt = "root@pve1:~# "
	until(prompt)
	_, err = io.WriteString(in, "echo hallx\x7fo\r")
	require.NoError(t, err)
	until("echo hallx\b \bo\r\nhallo\r\n" + prompt)
	_, err = io.WriteString(in, "exit 4\r")
	require.NoError(t, err)
	var exit *ssh.ExitError
	require.ErrorAs(t, s.Wait(), &exit)
	require.Equal(t, 4, exit.ExitStatus())
}

func TestSftp(t *testing.T) {
	h := newHost(t, sshd.Options{})
	c, err := sftp.NewClient(h.client())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.MkdirAll("/srv/a/b"))
	f, err := c.Create("/srv/a/b/x")
	require.NoError(t, err)
	content := bytes.Repeat([]byte("0123456789abcdef"), 10000)
	_, err = f.ReadFrom(bytes.NewReader(content))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, c.Chmod("/srv/a/b/x", 0o640))
	require.NoError(t, c.PosixRename("/srv/a/b/x", "/srv/a/y"))
	info, err := c.Stat("/srv/a/y")
	require.NoError(t, err)
	require.EqualValues(t, len(content), info.Size())
	require.EqualValues(t, 0o640, info.Mode().Perm())
	r, err := c.Open("/srv/a/y")
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.Equal(t, content, got)
	require.NoError(t, c.Symlink("/srv/a/y", "/srv/link"))
	target, err := c.ReadLink("/srv/link")
	require.NoError(t, err)
	require.Equal(t, "/srv/a/y", target)
	_, err = c.Stat("/srv/none")
	require.ErrorContains(t, err, "not exist")
	list, err := c.ReadDir("/srv/a")
	require.NoError(t, err)
	require.Len(t, list, 2)
}
