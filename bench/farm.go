package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sourcegraph/conc/pool"
	"golang.org/x/crypto/ssh"
)

// farm is a number of OpenSSH servers, each with an address and a host key of its own.
type farm struct {
	Dir        string   `json:"dir"`
	Identity   string   `json:"identity"`
	KnownHosts string   `json:"known_hosts"`
	Addresses  []string `json:"addresses"`
	Port       int      `json:"port"`

	servers []*exec.Cmd
}

// The servers' port. It is above 1024 and not sshd's own, so that nothing else is met by mistake.
const port = 22022

// newFarm starts n servers on the addresses from first on.
func newFarm(ctx context.Context, dir string, first netip.Addr, n int) (*farm, error) {
	f := &farm{
		Dir: dir, Identity: filepath.Join(dir, "id_ed25519"), KnownHosts: filepath.Join(dir, "known_hosts"), Port: port,
	}
	public, err := writeKey(f.Identity)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "authorized_keys"), ssh.MarshalAuthorizedKey(public), 0o600); err != nil {
		return nil, err
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		return nil, err
	}
	var known strings.Builder
	for address := first; len(f.Addresses) < n; address = address.Next() {
		key := filepath.Join(dir, "host_"+address.String())
		host, err := writeKey(key)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&known, "[%s]:%d %s", address, port, ssh.MarshalAuthorizedKey(host))
		f.Addresses = append(f.Addresses, address.String())
		if err := f.start(ctx, address.String(), key); err != nil {
			f.stop()
			return nil, err
		}
	}
	if err := f.describe(known.String()); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

// describe writes what clients need: the known hosts, OpenSSH's configuration, and the farm itself for workers.
func (f *farm) describe(known string) error {
	config := fmt.Sprintf("Host *\n User root\n Port %d\n IdentityFile %s\n IdentitiesOnly yes\n UserKnownHostsFile %s\n StrictHostKeyChecking yes\n LogLevel ERROR\n",
		f.Port, f.Identity, f.KnownHosts)
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(f.KnownHosts, []byte(known), 0o600),
		os.WriteFile(f.path("ssh_config"), []byte(config), 0o600),
		os.WriteFile(f.path("farm.json"), data, 0o600),
	)
}

// path is a file of the farm.
func (f *farm) path(name string) string { return filepath.Join(f.Dir, name) }

func (f *farm) start(ctx context.Context, address, key string) error {
	config := f.path("sshd_" + address)
	text := fmt.Sprintf("Port %d\nListenAddress %s\nHostKey %s\nAuthorizedKeysFile %s\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\nLogLevel ERROR\n",
		f.Port, address, key, f.path("authorized_keys"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	argv := append(apart(), "/usr/sbin/sshd", "-D", "-f", config)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the benchmark's own command line
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start sshd: %w", err)
	}
	f.servers = append(f.servers, cmd)
	return nil
}

// apart gives a server its own place for locks, since the servers stand for machines of their own, and hides root's
// .bashrc: sshd's shells read it, and what somebody keeps there may take longer than all that is measured.
func apart() []string {
	if os.Geteuid() != 0 || !has("unshare") {
		return nil
	}
	return []string{
		"unshare", "--mount", "--propagation", "private", "/bin/sh", "-c",
		`mount -t tmpfs tmpfs /run/lock && { ! test -e "$0" || mount --bind /dev/null "$0"; } && exec "$@"`,
		filepath.Join(os.Getenv("HOME"), ".bashrc"),
	}
}

// ready waits until every server answers.
func (f *farm) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	p := pool.New().WithContext(ctx).WithCancelOnError()
	for _, address := range f.Addresses {
		p.Go(func(ctx context.Context) error {
			for {
				c, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", address, f.Port))
				if err == nil {
					return c.Close()
				}
				select {
				case <-ctx.Done():
					return errors.Join(ctx.Err(), err)
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	return p.Wait()
}

func (f *farm) stop() {
	for _, s := range f.servers {
		_ = s.Process.Kill()
	}
	for _, s := range f.servers {
		_ = s.Wait() // killed: the status says nothing
	}
}

// writeKey makes an ed25519 key pair in OpenSSH's format.
func writeKey(path string) (ssh.PublicKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "bench")
	if err != nil {
		return nil, err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}
