//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// hostSpec says how a host differs from a plain one: Debian with sshd, on the front network, with a root who is opened
// by the controller's key.
type hostSpec struct {
	name     string
	networks []string          // in place of the front network
	sshd     string            // lines of sshd_config; they win over the usual ones
	setup    string            // shell that root runs inside before the host comes up
	files    map[string]string // content by path
	disk     string            // size of the disk
}

// host is a running host.
type host struct {
	t       *testing.T
	name    string
	address string // on its first network
	on      map[string]string
	hostKey key
	ns      string
	pid     int // of its first process, as this machine counts
	log     bytes.Buffer
	ended   chan struct{}
}

const usualSSHD = `
HostKey /etc/ssh/ssh_host_ed25519_key
UsePAM yes
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
PrintMotd no
LogLevel VERBOSE
Subsystem sftp internal-sftp
`

// newHost starts a host and waits until it is up. It is gone when the test ends.
func newHost(t *testing.T, spec hostSpec) *host {
	t.Helper()
	h, err := land.start(t, spec)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := os.Stat(h.path("/run/up"))
		return err == nil
	}, 30*time.Second, 10*time.Millisecond, "host %s does not come up", spec.name)
	return h
}

// newHosts starts plain hosts, all at once.
func newHosts(t *testing.T, names ...string) []*host {
	t.Helper()
	var hosts []*host
	for _, name := range names {
		h, err := land.start(t, hostSpec{name: name})
		require.NoError(t, err)
		hosts = append(hosts, h)
	}
	for _, h := range hosts {
		require.Eventually(t, func() bool { _, err := os.Stat(h.path("/run/up")); return err == nil }, 30*time.Second, 10*time.Millisecond)
	}
	return hosts
}

func (w *world) start(t *testing.T, spec hostSpec) (*host, error) {
	t.Helper()
	number := w.seq.Add(1)
	h := &host{t: t, name: spec.name, ns: fmt.Sprintf("%s-%d-%s", prefix, number, spec.name), on: map[string]string{}, ended: make(chan struct{})}
	var err error
	if h.hostKey, err = newKey(spec.name); err != nil {
		return nil, err
	}
	dir := filepath.Join(w.dir, h.ns)
	if err := w.seed(dir, h, spec); err != nil {
		return nil, err
	}
	group := filepath.Join(w.cgroup, h.ns)
	if err := os.Mkdir(group, 0o755); err != nil {
		return nil, err
	}
	if err := ip("netns", "add", h.ns); err != nil {
		return nil, err
	}
	t.Cleanup(func() { h.remove(group, dir) })
	if len(spec.networks) == 0 {
		spec.networks = []string{front}
	}
	for i, network := range spec.networks {
		address, err := w.address(network)
		if err != nil {
			return nil, err
		}
		if err := w.plug(h.ns, fmt.Sprintf("eth%d", i), network, address); err != nil {
			return nil, err
		}
		h.on[network] = address.Addr().String()
	}
	h.address = h.on[spec.networks[0]]
	return h, h.boot(group, dir, spec)
}

// seed writes what is copied over the host's root.
func (w *world) seed(dir string, h *host, spec hostSpec) error {
	setup := spec.setup
	files := map[string]string{
		"/root/.ssh/authorized_keys":     w.key.public,
		"/etc/ssh/ssh_host_ed25519_key":  h.hostKey.private,
		"/etc/ssh/sshd_config":           spec.sshd + usualSSHD,
		"/etc/default/ssh":               "SSHD_OPTS='-E /var/log/sshd.log'\n",
		"/etc/hosts":                     "127.0.0.1 localhost\n127.0.1.1 " + spec.name + "\n",
		"/etc/apt/sources.list":          "",
		"/etc/systemd/system/up.service": "[Unit]\nAfter=ssh.service\n[Service]\nType=oneshot\nExecStart=/bin/touch /run/up\n",
	}
	if setup != "" {
		files["/.setup"] = setup
	}
	for path, content := range spec.files {
		files[path] = content
	}
	for path, content := range files {
		full := filepath.Join(dir, "seed", path)
		mode := os.FileMode(0o644)
		if strings.HasPrefix(path, "/root/") || strings.HasSuffix(path, "_key") {
			mode = 0o600
		}
		if strings.HasPrefix(path, "/usr/local/bin/") {
			mode = 0o755
		}
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, []byte(content), mode); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(dir, "seed", "root"), 0o700); err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(dir, "root"), 0o755)
}

// address gives out the next address of a network.
func (w *world) address(network string) (netip.Prefix, error) {
	if network == front {
		n := w.front.Add(1)
		if n > 254 {
			return netip.Prefix{}, fmt.Errorf("the front network is full")
		}
		a := frontNet.Addr().As4()
		a[3] = byte(n)
		return netip.PrefixFrom(netip.AddrFrom4(a), frontNet.Bits()), nil
	}
	var number int
	if _, err := fmt.Sscanf(network, "inner%d", &number); err != nil {
		return netip.Prefix{}, fmt.Errorf("network %q: %w", network, err)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(number >> 8), byte(number), byte(w.seq.Add(1)%250 + 2)}), 24), nil
}

// newNetwork makes a network that the controller is not on.
func newNetwork(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("inner%d", land.seq.Add(1))
	require.NoError(t, land.bridge(name))
	return name
}

// boot starts the host's first process. It dies with this one.
func (h *host) boot(group, dir string, spec hostSpec) error {
	if spec.disk == "" {
		spec.disk = "512m"
	}
	script, err := filepath.Abs("testdata/host.sh")
	if err != nil {
		return err
	}
	cgroup, err := os.Open(group)
	if err != nil {
		return err
	}
	defer cgroup.Close()
	cmd := exec.Command("ip", "netns", "exec", h.ns, "unshare", "--mount", "--uts", "--ipc", "--cgroup",
		"/bin/sh", script, filepath.Join(dir, "root"), filepath.Join(dir, "seed"), spec.name, spec.disk)
	cmd.Stdout, cmd.Stderr = &h.log, &h.log
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	if err := cmd.Start(); err != nil {
		return err
	}
	h.pid = cmd.Process.Pid
	go func() {
		defer close(h.ended)
		_ = cmd.Wait()
	}()
	return nil
}

// remove ends the host with all its processes. The host's own root goes with its namespace.
func (h *host) remove(group, dir string) {
	if h.t.Failed() {
		if log, err := os.ReadFile(h.path("/var/log/sshd.log")); err == nil {
			h.t.Logf("sshd of %s:\n%s", h.name, log)
		}
	}
	if h.pid != 0 {
		_ = unix.Kill(h.pid, unix.SIGKILL)
		<-h.ended
		if h.t.Failed() && h.log.Len() > 0 {
			h.t.Logf("console of %s:\n%s", h.name, h.log.String())
		}
	}
	if err := endNamespace(h.ns); err != nil {
		h.t.Error(err)
	}
	if err := removeCgroup(group); err != nil {
		h.t.Error(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		h.t.Error(err)
	}
}

// path is a path of the host as this machine reaches it.
func (h *host) path(path string) string {
	return "/proc/" + strconv.Itoa(h.pid) + "/root" + path
}

// read reads a file of the host.
func (h *host) read(path string) string {
	h.t.Helper()
	data, err := os.ReadFile(h.path(path))
	require.NoError(h.t, err)
	return string(data)
}

// write writes a file of the host.
func (h *host) write(path, content string) {
	h.t.Helper()
	require.NoError(h.t, os.WriteFile(h.path(path), []byte(content), 0o644))
}

// try runs shell on the host as root, past SSH, and gives what it printed and how it ended.
func (h *host) try(script string) (string, int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(h.pid), "-a", "env", "-i", "LC_ALL=C",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "/bin/sh", "-c", script)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		require.NoError(h.t, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// sh is try for what must succeed.
func (h *host) sh(script string) string {
	h.t.Helper()
	out, exit := h.try(script)
	require.Zero(h.t, exit, "on %s: %s\n%s", h.name, script, out)
	return out
}

// knownHosts is the host's line of a known_hosts file.
func (h *host) knownHosts() string {
	return h.address + " " + h.hostKey.public
}

// answers tells whether something takes connections on a port of the host, as seen from the controller's network.
func (h *host) answers(port int) bool {
	out, exit := h.try(fmt.Sprintf("ss -Hltn 'sport = :%d'", port))
	return exit == 0 && strings.Contains(out, ":"+strconv.Itoa(port))
}

// endpoint is the host's address with the port of SSH.
func (h *host) endpoint() string { return net.JoinHostPort(h.address, "22") }
