package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Access is what a client needs to reach a running lab: a key, the host keys, and where on the loopback each machine
// listens. It is stored as lab.json in a folder.
type Access struct {
	// Dir is the folder that holds the files below.
	Dir string `json:"-"`
	// IdentityFile is the private key that may log in everywhere; KnownHosts names every host key under the addresses
	// and names of its machine; SSHConfig is for `ssh -F`; Control is the socket of the lab.
	IdentityFile string `json:"identity_file"`
	KnownHosts   string `json:"known_hosts"`
	SSHConfig    string `json:"ssh_config"`
	Control      string `json:"control"`
	// Listen maps each address and name to a loopback "host:port".
	Listen map[string]string `json:"listen"`
	PID    int               `json:"pid"`
	Spec   Spec              `json:"spec"`
}

// ErrNoLab says that a folder holds no running lab.
var ErrNoLab = errors.New("no lab is running here")

const accessFile = "lab.json"

// LoadAccess reads what a lab of another process has left in a folder. Without a lab it returns ErrNoLab.
func LoadAccess(dir string) (Access, error) {
	data, err := os.ReadFile(filepath.Join(dir, accessFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Access{}, ErrNoLab
	}
	if err != nil {
		return Access{}, err
	}
	var a Access
	if err := json.Unmarshal(data, &a); err != nil {
		return Access{}, fmt.Errorf("%s: %w", filepath.Join(dir, accessFile), err)
	}
	a.Dir = dir
	return a, nil
}

// Dial connects to a machine of the lab: any port of an address or name leads to its sshd. A machine that is off or cut off from the outside is
// unreachable, one whose sshd does not run refuses.
func (a Access) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	listen, err := a.listener(addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if err := a.reach(ctx, network, addr); err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", listen)
}

func (a Access) listener(addr string) (string, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	listen, ok := a.Listen[host]
	if !ok {
		return "", fmt.Errorf("no machine of the lab has the address or name %q", host)
	}
	return listen, nil
}

// write stores an Access in its folder.
func (a Access) write() error {
	data, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(a.Dir, accessFile), append(data, '\n'), 0o600)
}

// remove takes the files of an Access away.
func (a Access) remove() error {
	var failed error
	for _, name := range []string{filepath.Join(a.Dir, accessFile), a.Control, a.IdentityFile, a.KnownHosts, a.SSHConfig} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	if socketDir := filepath.Dir(a.Control); socketDir != a.Dir {
		failed = errors.Join(failed, os.Remove(socketDir)) // a short name was needed for the socket
	}
	return failed
}

// sshConfig is an ssh_config by which OpenSSH reaches every machine under its name and its addresses.
func (l *Lab) sshConfig(a Access) string {
	var b strings.Builder
	for _, h := range l.hosts {
		_, port, _ := net.SplitHostPort(h.listen())
		names := append([]string{h.spec.Name}, h.spec.addresses()...)
		fmt.Fprintf(&b, "Host %s\n  HostName 127.0.0.1\n  Port %s\n  HostKeyAlias %s\n  User root\n  IdentityFile %s\n  IdentitiesOnly yes\n  UserKnownHostsFile %s\n  GlobalKnownHostsFile /dev/null\n\n",
			strings.Join(names, " "), port, h.spec.Name, a.IdentityFile, a.KnownHosts)
	}
	return b.String()
}

// knownHosts names every machine's host keys under its name, its addresses and its loopback port.
func (l *Lab) knownHosts() string {
	var b strings.Builder
	for _, h := range l.hosts {
		names := append([]string{h.spec.Name}, h.spec.addresses()...)
		_, port, _ := net.SplitHostPort(h.listen())
		names = append(names, "[127.0.0.1]:"+port)
		for _, key := range h.hostKeys() {
			fmt.Fprintf(&b, "%s %s\n", strings.Join(names, ","), key)
		}
	}
	return b.String()
}

// Access writes what a client needs into a folder, which is made if it is missing, and opens the control socket there.
func (l *Lab) Access(dir string) (Access, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Access{}, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Access{}, err
	}
	a := Access{
		Dir: dir, IdentityFile: filepath.Join(dir, "id_ed25519"), KnownHosts: filepath.Join(dir, "known_hosts"),
		SSHConfig: filepath.Join(dir, "ssh_config"), PID: os.Getpid(), Spec: l.spec, Listen: map[string]string{},
	}
	for _, h := range l.hosts {
		for _, name := range slices.Concat([]string{h.spec.Name}, h.spec.addresses()) {
			a.Listen[name] = h.listen()
		}
	}
	for _, f := range []struct{ name, content string }{
		{a.IdentityFile, l.clientKey}, {a.KnownHosts, l.knownHosts()}, {a.SSHConfig, l.sshConfig(a)},
	} {
		if err := os.WriteFile(f.name, []byte(f.content), 0o600); err != nil {
			return Access{}, err
		}
	}
	if a.Control, err = l.serveControl(dir); err != nil {
		return Access{}, err
	}
	l.setAccess(a)
	return a, a.write()
}
