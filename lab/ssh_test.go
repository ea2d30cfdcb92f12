package lab_test

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/pxrun/pxrun/lab"
)

// client logs in over a lab's Access, checking the host key.
func client(t *testing.T, a lab.Access, dial func(network, addr string) (net.Conn, error), addr string) (*ssh.Client, error) {
	t.Helper()
	key, err := os.ReadFile(a.IdentityFile)
	require.NoError(t, err)
	signer, err := ssh.ParsePrivateKey(key)
	require.NoError(t, err)
	check, err := knownhosts.New(a.KnownHosts)
	require.NoError(t, err)
	conn, err := dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c, channels, requests, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: check, Timeout: 10 * time.Second,
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// login connects to a host of a started lab for the length of the test.
func login(t *testing.T, l *lab.Lab, a lab.Access, addr string) *ssh.Client {
	t.Helper()
	c, err := client(t, a, func(n, addr string) (net.Conn, error) { return l.Dial(t.Context(), n, addr) }, addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// remote runs a command over SSH.
func remote(t *testing.T, c *ssh.Client, command string) (string, error) {
	t.Helper()
	s, err := c.NewSession()
	require.NoError(t, err)
	defer s.Close()
	out, err := s.Output(command)
	return string(out), err
}

func TestEveryHostAnswersOverSSHUnderItsAddressesAndName(t *testing.T) {
	l := start(t, threeNodes())
	a, err := l.Access(t.TempDir())
	require.NoError(t, err)
	for _, addr := range []string{"192.0.2.12:22", "10.0.1.2:22", "pve2:22"} {
		out, err := remote(t, login(t, l, a, addr), "hostname")
		require.NoError(t, err)
		require.Equal(t, "pve2\n", out)
	}
	_, err = l.Dial(t.Context(), "tcp", "203.0.113.1:22")
	require.ErrorContains(t, err, "no such host")
}

func TestClusterIsFormedOverSSHWithPreparedKeys(t *testing.T) {
	l := start(t, threeNodes())
	a, err := l.Access(t.TempDir())
	require.NoError(t, err)
	one, two := login(t, l, a, "pve1:22"), login(t, l, a, "pve2:22")
	_, err = remote(t, one, "pvecm create lab --link0 10.0.1.1 --link1 10.0.2.1")
	require.NoError(t, err)
	eventually(t, l, "pve1 is writable", writable(l, "pve1"))

	out, err := remote(t, two, "pvecm add 192.0.2.11 --use_ssh 1 --link0 10.0.1.2 --link1 10.0.2.2 2>&1")
	require.NoError(t, err, "it exits 0 although it failed")
	require.Equal(t, "unable to copy ssh ID: exit code 1\n", out)

	key, err := remote(t, two, "cat /root/.ssh/id_rsa.pub")
	require.NoError(t, err)
	_, err = remote(t, one, "cat >>/etc/pve/priv/authorized_keys <<'END'\n"+key+"END")
	require.NoError(t, err)
	host, err := remote(t, one, "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub")
	require.NoError(t, err)
	_, err = remote(t, two, "echo '192.0.2.11 "+strings.TrimSpace(host)+"' >>/root/.ssh/known_hosts")
	require.NoError(t, err)

	out, err = remote(t, two, "pvecm add 192.0.2.11 --use_ssh 1 --link0 10.0.1.2 --link1 10.0.2.2 2>&1")
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(out, "successfully added node 'pve2' to cluster.\n"), out)
	eventually(t, l, "both see each other", func() bool {
		v, _ := l.Node("pve1")
		w, _ := l.Node("pve2")
		return len(v.Members) == 2 && len(w.Members) == 2
	})
	_, err = remote(t, login(t, l, a, "pve2:22"), "true")
	require.NoError(t, err, "the lab's key is in the cluster's file")
}

func TestKeyLoginsFailWhilePmxcfsIsAwayAndOpenConnectionsStay(t *testing.T) {
	l := start(t, threeNodes())
	a, err := l.Access(t.TempDir())
	require.NoError(t, err)
	open := login(t, l, a, "pve1:22")
	_, err = remote(t, open, "systemctl stop pve-cluster")
	require.NoError(t, err)
	_, err = client(t, a, func(n, addr string) (net.Conn, error) { return l.Dial(t.Context(), n, addr) }, "pve1:22")
	require.ErrorContains(t, err, "unable to authenticate")
	_, err = remote(t, open, "systemctl start pve-cluster")
	require.NoError(t, err)
	_, err = remote(t, login(t, l, a, "pve1:22"), "true")
	require.NoError(t, err)
}

func TestCutConnectionKillsTheForegroundJoin(t *testing.T) {
	l := start(t, threeNodes())
	create(t, l)
	a, err := l.Access(t.TempDir())
	require.NoError(t, err)
	addFault(t, l, lab.Fault{Kind: "cut-ssh", Target: "pve2", Phase: "join:stopped"})
	_, err = remote(t, login(t, l, a, "pve2:22"), joinScript(t, l, "--link0 10.0.1.2 --link1 10.0.2.2"))
	var missing *ssh.ExitMissingError
	require.True(t, errors.As(err, &missing), "%v", err)
	require.NoError(t, l.Clock().Sleep(t.Context(), time.Minute))
	v, _ := l.Node("pve2")
	require.False(t, v.Mounted, "pve-cluster stays stopped")
	require.False(t, v.CorosyncRunning)
}

func TestHostsThatAreDownRefuseOrHang(t *testing.T) {
	l := start(t, threeNodes())
	addFault(t, l, lab.Fault{Kind: "power-off", Target: "pve1"})
	_, err := l.Dial(t.Context(), "tcp", "192.0.2.11:22")
	require.ErrorIs(t, err, syscall.EHOSTUNREACH)

	addFault(t, l, lab.Fault{Kind: "sshd-refuse", Target: "pve2"})
	_, err = l.Dial(t.Context(), "tcp", "192.0.2.12:22")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)

	addFault(t, l, lab.Fault{Kind: "sshd-hang", Target: "pve3"})
	conn, err := l.Dial(t.Context(), "tcp", "192.0.2.13:22")
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// TestAnotherProcessSeesThatAMachineIsOff: behind every address stands a loopback port that is always there.
func TestAnotherProcessSeesThatAMachineIsOff(t *testing.T) {
	l := start(t, threeNodes())
	dir := t.TempDir()
	_, err := l.Access(dir)
	require.NoError(t, err)
	a, err := lab.LoadAccess(dir)
	require.NoError(t, err)
	dial := func(addr string) error {
		conn, err := a.Dial(t.Context(), "tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err
	}
	require.NoError(t, dial("192.0.2.11:22"))
	addFault(t, l, lab.Fault{Kind: "power-off", Target: "pve1"})
	began := l.Clock().Elapsed()
	err = dial("192.0.2.11:22")
	require.ErrorIs(t, err, syscall.EHOSTUNREACH)
	require.EqualError(t, err, "dial tcp 192.0.2.11:22: connect: no route to host")
	require.GreaterOrEqual(t, l.Clock().Elapsed()-began, 3*time.Second, "it takes a while until that is known")
	addFault(t, l, lab.Fault{Kind: "sshd-refuse", Target: "pve2"})
	require.ErrorIs(t, dial("pve2:22"), syscall.ECONNREFUSED)
	require.NoError(t, dial("pve3:22"))
}

func TestChangedHostKeyIsNoticed(t *testing.T) {
	l := start(t, threeNodes())
	a, err := l.Access(t.TempDir())
	require.NoError(t, err)
	id := addFault(t, l, lab.Fault{Kind: "key-changed", Target: "pve1"})
	dial := func(n, addr string) (net.Conn, error) { return l.Dial(t.Context(), n, addr) }
	_, err = client(t, a, dial, "pve1:22")
	var changed *knownhosts.KeyError
	require.True(t, errors.As(err, &changed), "%v", err)
	require.NoError(t, l.ClearFault(id))
	_, err = remote(t, login(t, l, a, "pve1:22"), "true")
	require.NoError(t, err)
}

func TestWritesNameTheCommandThatWrote(t *testing.T) {
	l := start(t, threeNodes())
	a, err := l.Access(t.TempDir())
	require.NoError(t, err)
	c := login(t, l, a, "pve1:22")
	_, err = remote(t, c, "pvecm status; cat /etc/pve/.members; systemctl show pve-cluster; ls -la /etc/pve >/dev/null")
	require.NoError(t, err)
	require.Empty(t, l.Writes(), "reading changes nothing")
	_, err = remote(t, c, "touch /root/new")
	require.NoError(t, err)
	writes := l.Writes()
	require.NotEmpty(t, writes)
	require.Equal(t, "touch /root/new", writes[0].Session)
	require.Equal(t, "/root/new", writes[0].Path)
	require.Equal(t, "root", writes[0].User)
	l.ResetWrites()
	require.Empty(t, l.Writes())
}

func TestAnotherProcessDialsThroughAccess(t *testing.T) {
	l := start(t, threeNodes())
	dir := t.TempDir()
	_, err := l.Access(dir)
	require.NoError(t, err)
	a, err := lab.LoadAccess(dir)
	require.NoError(t, err)
	c, err := client(t, a, func(n, addr string) (net.Conn, error) { return a.Dial(t.Context(), n, addr) }, "192.0.2.13:22")
	require.NoError(t, err)
	defer c.Close()
	out, err := remote(t, c, "hostname")
	require.NoError(t, err)
	require.Equal(t, "pve3\n", out)
	_, err = a.Dial(t.Context(), "tcp", "203.0.113.1:22")
	require.Error(t, err)
}

func TestDetachedJoinOutlivesItsConnection(t *testing.T) {
	l := start(t, threeNodes())
	create(t, l)
	a, err := l.Access(t.TempDir())
	require.NoError(t, err)
	c := login(t, l, a, "pve2:22")
	join := strings.ReplaceAll(joinScript(t, l, "--link0 10.0.1.2 --link1 10.0.2.2"), "'", "")
	_, err = remote(t, c, "mkdir -p /run/job && systemd-run --quiet --collect --unit=job-join -p WorkingDirectory=/ /bin/sh -c '"+join+" >/run/job/out 2>/run/job/err; echo $? >/run/job/rc'")
	require.NoError(t, err)
	c.Close()
	eventually(t, l, "pve2 is unmounted", func() bool { v, _ := l.Node("pve2"); return !v.Mounted })
	eventually(t, l, "the job is done", func() bool {
		_, _, code := sh(t, l, "pve2", "test -s /run/job/rc")
		return code == 0
	})
	out, _, _ := sh(t, l, "pve2", "cat /run/job/out /run/job/err; cat /run/job/rc")
	require.True(t, strings.HasSuffix(out, "successfully added node 'pve2' to cluster.\n0\n"), out)
	_, err = remote(t, login(t, l, a, "pve2:22"), "true")
	require.NoError(t, err)
}
