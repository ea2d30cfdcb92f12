//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// block is the host's block with these lines in its ssh block.
func (h *host) block(ssh ...string) string {
	return fmt.Sprintf("host %q {\n  address = %q\n  ssh {\n    %s\n  }\n}\n", h.name, h.address, strings.Join(ssh, "\n    "))
}

func TestPasswordLogin(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, sshd string }{
		{"password", "PasswordAuthentication yes\n"},
		{"keyboard-interactive", "KbdInteractiveAuthentication yes\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, hostSpec{name: "app", sshd: test.sshd, setup: "useradd -m -s /bin/bash ops; echo 'ops:pass word-7' | chpasswd"})
			a := newStranger(t, h)
			a.env = []string{"THE_PASSWORD=pass word-7", "WRONG=word-8"}
			secrets := "secret \"good\" { env = \"THE_PASSWORD\" }\nsecret \"bad\" { env = \"WRONG\" }\n"
			a.write("site.hcl", secrets+h.block(`user = "ops"`, `password = secret.good`))
			a.exec("app", "id -un").exits(0).says("ops").hides("pass word-7")
			a.write("site.hcl", secrets+h.block(`user = "ops"`, `password = secret.bad`))
			a.exec("app", "id -un").exits(4).says("app", "authenticate", "a password").hides("word-8")
			failed := strings.Count(h.read("/var/log/sshd.log"), "Failed ") + strings.Count(h.read("/var/log/sshd.log"), "error: PAM: Authentication failure")
			require.LessOrEqual(t, failed, 2, "a wrong password was sent again and again")
		})
	}
}

func TestKeysOfAnAgent(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "app"})
	a := newStranger(t, h)
	a.write("site.hcl", h.block())
	a.exec("app", "id -un").exits(4).says("authenticate")
	a.agent(land.key.private)
	a.exec("app", "id -un").exits(0).says("root")
}

// agent starts a real ssh-agent that holds a key.
func (a *admin) agent(private string) {
	a.t.Helper()
	socket := a.path("agent.sock")
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	require.NoError(a.t, agent.Start())
	a.t.Cleanup(func() {
		_ = agent.Process.Kill()
		_ = agent.Wait()
	})
	require.Eventually(a.t, func() bool { _, err := os.Stat(socket); return err == nil }, 5*time.Second, 10*time.Millisecond)
	add := exec.Command("ssh-add", "-")
	add.Stdin = strings.NewReader(private)
	add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	out, err := add.CombinedOutput()
	require.NoError(a.t, err, "%s", out)
	a.env = append(a.env, "SSH_AUTH_SOCK="+socket)
}

func TestKeyWithPassphrase(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "app"})
	a := newAdmin(t, h)
	a.openssh("ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", a.path(".ssh/id_ed25519"))
	a.write("site.hcl", h.block())
	a.exec("app", "id -un").exits(4).says("passphrase")

	// At a terminal it is asked for, once.
	out, exit := a.atTerminal([]string{"exec", "-i", "site.hcl", "app", "--", "id -un"}, "assphrase", "open sesame\n")
	require.Zero(t, exit, "%s", out)
	require.Contains(t, out, "root")
	require.NotContains(t, out, "open sesame")

	a.env = []string{"PHRASE=open sesame"}
	a.write("site.hcl", "secret \"phrase\" { env = \"PHRASE\" }\n"+h.block("passphrase = secret.phrase"))
	a.exec("app", "id -un").exits(0).says("root").hides("open sesame")
}

// atTerminal runs pxrun at a terminal of its own and answers one question.
func (a *admin) atTerminal(args []string, question, answer string) (string, int) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(a.t, err)
	defer master.Close()
	require.NoError(a.t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(a.t, err)
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(a.t, err)
	cmd := a.command(ctx, land.binary, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(a.t, cmd.Start())
	require.NoError(a.t, slave.Close())
	var mu sync.Mutex
	var text strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		answered := false
		for p := make([]byte, 4096); ; {
			n, err := master.Read(p)
			mu.Lock()
			text.Write(p[:n])
			asked := strings.Contains(text.String(), question)
			mu.Unlock()
			if asked && !answered {
				answered = true
				_, _ = io.WriteString(master, answer)
			}
			if err != nil {
				return // the last process at the terminal is gone
			}
		}
	}()
	_ = cmd.Wait()
	<-done
	return text.String(), cmd.ProcessState.ExitCode()
}

// openssh runs one of OpenSSH's own programs as this admin, in the controller's namespace.
func (a *admin) openssh(name string, args ...string) string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := a.command(ctx, name, args...).CombinedOutput()
	require.NoError(a.t, err, "%s %s\n%s", name, strings.Join(args, " "), out)
	return string(out)
}

func TestCertificateOfAUser(t *testing.T) {
	t.Parallel()
	authority, err := newKey("users")
	require.NoError(t, err)
	h := newHost(t, hostSpec{
		name: "app", sshd: "TrustedUserCAKeys /etc/ssh/users.pub\n",
		files: map[string]string{"/etc/ssh/users.pub": authority.public, "/root/.ssh/authorized_keys": ""},
	})
	a := newAdmin(t, h)
	a.write("site.hcl", h.block())
	a.exec("app", "id -un").exits(4)
	a.write("users", authority.private)
	a.openssh("ssh-keygen", "-q", "-s", a.path("users"), "-I", "ops", "-n", "somebody", "-V", "+5m", a.path(".ssh/id_ed25519.pub"))
	a.exec("app", "id -un").exits(4) // for another user
	a.openssh("ssh-keygen", "-q", "-s", a.path("users"), "-I", "ops", "-n", "root", "-V", "+5m", a.path(".ssh/id_ed25519.pub"))
	a.exec("app", "id -un").exits(0).says("root")
	require.Contains(t, h.read("/var/log/sshd.log"), "ED25519-CERT")
	require.NoError(t, os.Rename(a.path(".ssh/id_ed25519-cert.pub"), a.path("elsewhere.pub")))
	a.exec("app", "id -un").exits(4)
	a.write("site.hcl", h.block(fmt.Sprintf("identity_file = %q", a.path(".ssh/id_ed25519")), fmt.Sprintf("certificate = %q", a.path("elsewhere.pub"))))
	a.exec("app", "id -un").exits(0).says("root")
}

func TestSudo(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "app", setup: `
for user in free asked barred; do
	useradd -m -s /bin/bash $user
	echo "$user:sudo-word-3" | chpasswd
	install -d -o $user -m 700 /home/$user/.ssh
	install -o $user -m 600 /root/.ssh/authorized_keys /home/$user/.ssh/
done
echo 'free ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/e2e
echo 'asked ALL=(ALL) ALL' >>/etc/sudoers.d/e2e
chmod 440 /etc/sudoers.d/e2e
`})
	a := newAdmin(t, h)
	a.env = []string{"SUDO=sudo-word-3", "WRONG=sudo-word-4"}
	site := func(ssh ...string) {
		a.write("site.hcl", "secret \"sudo\" { env = \"SUDO\" }\nsecret \"wrong\" { env = \"WRONG\" }\n"+h.block(ssh...)+`
runbook "r" {
  hosts = host.app
  task "file" "note" {
    path    = "/etc/note"
    content = "noted\n"
    mode    = "0600"
  }
}
`)
	}
	site(`user = "free"`)
	a.pxrun("apply", "site.hcl", "--auto-approve").exits(1).says("ermission denied")
	site(`user = "free"`, `become {}`)
	a.apply()
	require.Equal(t, "root 600\n", h.sh("stat -c '%U %a' /etc/note; rm /etc/note"))
	site(`user = "asked"`, `become { password = secret.sudo }`)
	a.apply("-vv").hides("sudo-word-3")
	require.Equal(t, "root 600\n", h.sh("stat -c '%U %a' /etc/note; rm /etc/note"))
	a.exec("app", "id -un; cat").exits(0).says("root") // stdin is not the password

	site(`user = "asked"`, `become {}`)
	a.pxrun("apply", "site.hcl", "--auto-approve").exits(4).says("app", "a password is required", "NOPASSWD")
	site(`user = "asked"`, `become { password = secret.wrong }`)
	a.pxrun("apply", "site.hcl", "--auto-approve").exits(4).says("the become password is wrong").hides("sudo-word-4")
	site(`user = "barred"`, `become { password = secret.sudo }`)
	a.pxrun("apply", "site.hcl", "--auto-approve").exits(4).says("not in the sudoers file").hides("sudo-word-3")
	_, exit := h.try("test -e /etc/note")
	require.NotZero(t, exit)
}

func TestHostKeys(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "app"})
	a := newAdmin(t)
	a.write("site.hcl", h.block())
	other, err := newKey("other")
	require.NoError(t, err)
	print := func(k key) string {
		a.write("print.pub", k.public)
		return strings.Fields(a.openssh("ssh-keygen", "-lf", a.path("print.pub")))[1]
	}

	// Unknown, under strict: refused, with a way to accept it that works.
	r := a.exec("app", "hostname").exits(4).says("host key", print(h.hostKey))
	_, accept, found := strings.Cut(strings.Join(strings.Fields(r.text()), " "), "echo '")
	require.True(t, found, r.text())
	line, _, _ := strings.Cut(accept, "'")
	require.Equal(t, h.address+" "+strings.TrimSpace(h.hostKey.public), strings.TrimSpace(line))
	_, err = os.Stat(a.path(".ssh/known_hosts"))
	require.True(t, err != nil || a.read(".ssh/known_hosts") == "", "something was written down under strict")

	// accept_new writes it down as ssh itself would, and strict then takes it.
	a.write("site.hcl", h.block(`host_keys = "accept_new"`))
	a.exec("app", "hostname").exits(0).says("app", print(h.hostKey))
	a.write("site.hcl", h.block())
	a.exec("app", "hostname").exits(0)
	a.openssh("ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile="+a.path(".ssh/known_hosts"), "-i", a.path(".ssh/id_ed25519"), "root@"+h.address, "true")

	// Hashed by OpenSSH's own tool.
	a.openssh("ssh-keygen", "-q", "-H", "-f", a.path(".ssh/known_hosts"))
	require.NotContains(t, a.read(".ssh/known_hosts"), h.address)
	a.exec("app", "hostname").exits(0)

	// Changed: refused whatever the settings say, with both fingerprints and the place.
	for _, policy := range []string{"strict", "accept_new"} {
		a.write(".ssh/known_hosts", "# a comment\n"+h.address+" "+other.public)
		a.write("site.hcl", h.block(fmt.Sprintf("host_keys = %q", policy)))
		a.exec("app", "hostname").exits(4).says("changed", print(h.hostKey), print(other), "known_hosts:2", "ssh-keygen -f")
	}

	// Pinned in the inventory.
	a.write(".ssh/known_hosts", "")
	a.write("site.hcl", fmt.Sprintf("host \"app\" {\n  address = %q\n  host_key = %q\n}\n", h.address, strings.TrimSpace(h.hostKey.public)))
	a.exec("app", "hostname").exits(0)
	a.write("site.hcl", fmt.Sprintf("host \"app\" {\n  address = %q\n  host_key = %q\n}\n", h.address, strings.TrimSpace(other.public)))
	a.exec("app", "hostname").exits(4).says("not as pinned", print(h.hostKey), print(other))

	// Revoked.
	a.write(".ssh/known_hosts", h.knownHosts()+"@revoked * "+h.hostKey.public)
	a.write("site.hcl", h.block())
	a.exec("app", "hostname").exits(4).says("revoked")
}

func TestHostKeysOfAnAuthority(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{name: "app"})
	a := newAdmin(t)
	a.write("site.hcl", h.block())
	authority, err := newKey("hosts")
	require.NoError(t, err)
	a.write("hosts", authority.private)
	a.write("host.pub", h.hostKey.public)
	certify := func(name string) {
		a.openssh("ssh-keygen", "-q", "-s", a.path("hosts"), "-I", "app", "-h", "-n", name, "-V", "+5m", a.path("host.pub"))
		h.write("/etc/ssh/ssh_host_ed25519_key-cert.pub", a.read("host-cert.pub"))
		h.sh("grep -q HostCertificate /etc/ssh/sshd_config || echo HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub >>/etc/ssh/sshd_config; systemctl restart ssh")
	}
	a.write(".ssh/known_hosts", "@cert-authority 198.51.100.* "+authority.public)
	a.exec("app", "hostname").exits(4) // a plain key that nobody knows
	certify(h.address)
	a.exec("app", "hostname").exits(0)
	certify("203.0.113.9") // a certificate of another host
	a.exec("app", "hostname").exits(4).says("certificate")
}

func TestHostKeyOfAKnownKindIsAskedFor(t *testing.T) {
	t.Parallel()
	h := newHost(t, hostSpec{
		name: "app", sshd: "HostKey /etc/ssh/rsa\n", setup: "ssh-keygen -q -t rsa -b 2048 -N '' -f /etc/ssh/rsa",
	})
	a := newAdmin(t)
	a.write(".ssh/known_hosts", h.address+" "+h.read("/etc/ssh/rsa.pub")) // the host has an ed25519 key too
	a.write("site.hcl", h.block())
	a.exec("app", "hostname").exits(0)
}

func TestJumpHosts(t *testing.T) {
	t.Parallel()
	near, far := newNetwork(t), newNetwork(t)
	bastion := newHost(t, hostSpec{name: "bastion", networks: []string{front, near}})
	second := newHost(t, hostSpec{name: "second", networks: []string{near, far}})
	first := newHost(t, hostSpec{name: "inner1", networks: []string{near}})
	deep := newHost(t, hostSpec{name: "deep", networks: []string{far}})
	all := []*host{bastion, second, first, deep}
	a := newAdmin(t, all...)
	runbook := `
runbook "r" {
  hosts = [host.inner1, host.deep]
  task "file" "note" {
    path    = "/etc/note"
    content = "noted on ${self.name}\n"
  }
}
`
	a.write("site.hcl", bastion.block()+second.block("jump = host.bastion")+first.block("jump = host.bastion")+
		deep.block("jump = [host.bastion, host.second]")+runbook)
	a.apply()
	require.Equal(t, "noted on inner1\n", first.read("/etc/note"))
	require.Equal(t, "noted on deep\n", deep.read("/etc/note"))
	logins := strings.Count(bastion.read("/var/log/sshd.log"), "Accepted publickey")
	a.pxrun("plan", "site.hcl").exits(0)
	require.Equal(t, logins+1, strings.Count(bastion.read("/var/log/sshd.log"), "Accepted publickey"), "the jump host is logged in to once a run")

	// The host's key is checked behind the jump host too.
	a.trust(bastion, second, deep)
	a.exec("inner1", "hostname").exits(4).says("inner1", "host key")
	a.trust(all...)

	// The same from ~/.ssh/config, with a Match block, which has no effect and is told of.
	a.write("site.hcl", first.block()+deep.block()+runbook)
	a.exec("inner1", "hostname").exits(4)
	a.write(".ssh/config", fmt.Sprintf(`
Host gate
  HostName %s
  User root
Host second
  HostName %s
  ProxyJump gate
Match exec "touch %s"
  User nobody
Host inner1
  ProxyJump root@gate
Host deep
  ProxyJump gate,second
Host *
  ServerAliveInterval 5
  SetEnv X=y
`, bastion.address, second.address, filepath.Join(a.home, "ran")))
	a.exec("all", "hostname").exits(0).says("inner1", "deep", "Match is not supported")
	require.NoFileExists(t, a.path("ran"))

	// A jump host that forbids forwarding, and one that is away.
	bastion.sh("echo AllowTcpForwarding no >>/etc/ssh/sshd_config; systemctl restart ssh")
	a.exec("inner1", "hostname").exits(4).says("inner1", "administratively prohibited")
	bastion.sh("systemctl stop ssh")
	a.exec("inner1", "hostname").exits(4).says("connection refused")
}
