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
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sourcegraph/conc/pool"
	"golang.org/x/crypto/ssh"
)

// farm is a number of OpenSSH servers on loopback, each with a port and a host key of its own.
type farm struct {
	Dir        string `json:"dir"`
	Identity   string `json:"identity"`
	KnownHosts string `json:"known_hosts"`
	Address    string `json:"address"`
	Ports      []int  `json:"ports"`
	Program    string `json:"program"` // pxrun; empty if there is none
	servers    []*exec.Cmd
	prefix     []string // stands before the servers' command line: a network namespace
}

// specFile is where workers find the farm.
func (f *farm) specFile() string { return filepath.Join(f.Dir, "farm.json") }

// newFarm starts n servers.
func newFarm(ctx context.Context, dir, address string, n int, prefix []string) (*farm, error) {
	f := &farm{
		Dir: dir, Identity: filepath.Join(dir, "id_ed25519"), KnownHosts: filepath.Join(dir, "known_hosts"), Address: address, prefix: prefix,
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
	for i := range n {
		port := 20000 + i
		key := filepath.Join(dir, fmt.Sprintf("host_%d", port))
		host, err := writeKey(key)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&known, "[%s]:%d %s", address, port, ssh.MarshalAuthorizedKey(host))
		f.Ports = append(f.Ports, port)
		if err := f.start(ctx, port, key); err != nil {
			f.stop()
			return nil, err
		}
	}
	if err := os.WriteFile(f.KnownHosts, []byte(known.String()), 0o600); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *farm) start(ctx context.Context, port int, key string) error {
	config := filepath.Join(f.Dir, fmt.Sprintf("sshd_%d", port))
	text := fmt.Sprintf(`Port %d
ListenAddress %s
HostKey %s
AuthorizedKeysFile %s
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
LogLevel ERROR
`, port, f.Address, key, filepath.Join(f.Dir, "authorized_keys"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	argv := append(append([]string{}, f.prefix...), "/usr/sbin/sshd", "-D", "-f", config)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the benchmark's own command line
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start sshd: %w", err)
	}
	f.servers = append(f.servers, cmd)
	return nil
}

// ready waits until every server answers.
func (f *farm) ready(ctx context.Context) error {
	p := pool.New().WithContext(ctx).WithCancelOnError()
	for _, port := range f.Ports {
		p.Go(func(ctx context.Context) error {
			for {
				c, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("%s:%d", f.Address, port))
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

// save writes the farm's description for workers.
func (f *farm) save() error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return os.WriteFile(f.specFile(), data, 0o600)
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
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return key, os.WriteFile(path+".pub", ssh.MarshalAuthorizedKey(key), 0o644) //nolint:gosec // a public key
}
