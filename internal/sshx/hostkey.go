package sshx

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/pxrun/pxrun/inventory"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// HostKeyError is a host whose key cannot be trusted.
type HostKeyError struct {
	// Problem is "unknown", "changed", "revoked" or "not as pinned".
	Problem string
	// Kind and Fingerprint are those of the key that the host showed.
	Kind, Fingerprint string
	// Known says what was expected and where that is written.
	Known []KnownHostKey
}

// KnownHostKey is a key that was trusted before.
type KnownHostKey struct {
	Kind, Fingerprint string
	// Place is "file:line", or the inventory.
	Place string
}

// Error names both keys and where the trusted one is written.
func (e *HostKeyError) Error() string {
	shown := e.Kind + " " + e.Fingerprint
	if e.Problem == "unknown" {
		return "the host key is not known: the host shows " + shown
	}
	text := "the host key is " + e.Problem + ": the host shows " + shown
	for _, k := range e.Known {
		text += fmt.Sprintf(", known is %s %s (%s)", k.Kind, k.Fingerprint, k.Place)
	}
	return text
}

// hostKeyCheck decides about the key of one endpoint.
type hostKeyCheck struct {
	ep     endpoint
	name   string // "host:port" as known_hosts is asked
	known  known
	pinned ssh.PublicKey
	accept func(name string, key ssh.PublicKey) error // writes a new key down; nil under strict
	shown  ssh.PublicKey                              // for the hint
}

// hostKeys prepares the check of an endpoint's host key.
func (d *Dialer) hostKeys(ep endpoint) (*hostKeyCheck, error) {
	c := &hostKeyCheck{ep: ep, name: ep.target()}
	if ep.keyName != "" {
		c.name = net.JoinHostPort(ep.keyName, "22")
	}
	if ep.pinned != "" {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(ep.pinned))
		if err != nil {
			return nil, fmt.Errorf("host_key %q is no public key: %w", ep.pinned, err)
		}
		c.pinned = key
		return c, nil
	}
	lines, err := d.known.lines(append(append([]string{}, d.cfg.ExtraKnownHosts...), ep.knownHosts...))
	if err != nil {
		return nil, err
	}
	c.known = find(lines, c.name)
	if ep.policy == inventory.HostKeysAcceptNew && len(ep.knownHosts) > 0 {
		file := ep.knownHosts[0]
		c.accept = func(name string, key ssh.PublicKey) error { return d.accept(file, name, key) }
	}
	return c, nil
}

// algorithms lists the host key algorithms in the order of preference.
func (c *hostKeyCheck) algorithms() []string {
	if c.pinned != nil {
		return algorithmsOf(c.pinned.Type())
	}
	return c.known.algorithms()
}

// check is the callback of the handshake. The server has proved by then that it holds the key.
func (c *hostKeyCheck) check(_ string, remote net.Addr, key ssh.PublicKey) error {
	c.shown = key
	plain := key
	cert, certified := key.(*ssh.Certificate)
	if certified {
		plain = cert.Key
	}
	switch {
	case c.pinned != nil:
		if string(c.pinned.Marshal()) == string(plain.Marshal()) {
			return nil
		}
		return c.refuse("not as pinned", plain, []KnownHostKey{{c.pinned.Type(), ssh.FingerprintSHA256(c.pinned), "host_key in the inventory"}})
	case has(c.known.revoked, plain) || certified && has(c.known.revoked, cert.SignatureKey):
		return c.refuse("revoked", plain, places(c.known.revoked))
	case certified && has(c.known.authorities, cert.SignatureKey):
		return c.checkCertificate(remote, cert)
	case has(c.known.keys, plain) || has(c.known.portless, plain):
		return nil
	case len(c.known.keys) > 0:
		return c.refuse("changed", plain, places(c.known.keys))
	case c.accept != nil:
		return c.accept(c.name, plain)
	default:
		return c.refuse("unknown", plain, nil)
	}
}

// checkCertificate lets x/crypto judge validity and principals of a certificate from a known authority.
func (c *hostKeyCheck) checkCertificate(remote net.Addr, cert *ssh.Certificate) error {
	checker := ssh.CertChecker{IsHostAuthority: func(authority ssh.PublicKey, _ string) bool { return has(c.known.authorities, authority) }}
	if err := checker.CheckHostKey(c.name, remote, cert); err != nil {
		return fmt.Errorf("the host's certificate is not valid: %w", err)
	}
	return nil
}

func (c *hostKeyCheck) refuse(problem string, key ssh.PublicKey, known []KnownHostKey) error {
	return &HostKeyError{Problem: problem, Kind: key.Type(), Fingerprint: ssh.FingerprintSHA256(key), Known: known}
}

func places(keys []knownKey) []KnownHostKey {
	var list []KnownHostKey
	for _, k := range keys {
		list = append(list, KnownHostKey{k.kind, ssh.FingerprintSHA256(k.public), fmt.Sprintf("%s:%d", k.file, k.number)})
	}
	return list
}

// hint says what to do about a refused key.
func (c *hostKeyCheck) hint(e *HostKeyError) string {
	switch e.Problem {
	case "unknown":
		file := "~/.ssh/known_hosts"
		if len(c.ep.knownHosts) > 0 {
			file = c.ep.knownHosts[0]
		}
		return fmt.Sprintf("compare the fingerprint with what `ssh-keygen -lf /etc/ssh/ssh_host_%s_key.pub` prints on the host's console; if it is the same, accept it: echo %s >> %s",
			keyFileWord(e.Kind), quote(knownhosts.Line([]string{c.name}, c.shown)), quote(file))
	case "changed":
		name := knownhosts.Normalize(c.name)
		file, _, _ := strings.Cut(e.Known[0].Place, ":")
		return fmt.Sprintf("either the host was set up anew or someone stands between; find out which. If it is the host, remove the old key: ssh-keygen -f %s -R %s", quote(file), quote(name))
	case "revoked":
		return "the key must not be used any more: make new host keys on the host (ssh-keygen -A after removing the old ones)"
	default:
		return "correct host_key in the inventory if the host was set up anew"
	}
}

// keyFileWord is the word in the name of the server's key file.
func keyFileWord(kind string) string {
	switch {
	case strings.HasPrefix(kind, "ecdsa"):
		return "ecdsa"
	case kind == ssh.KeyAlgoRSA:
		return "rsa"
	default:
		return "ed25519"
	}
}

// lockPatience is how long another process may hold the file of known hosts.
const lockPatience = 5 * time.Second

// accept writes a new host's key down. The file is locked and read again first, so that two runs that meet the host at
// the same moment do not trust two keys.
func (d *Dialer) accept(file, name string, key ssh.PublicKey) error {
	d.accepting.Lock()
	defer d.accepting.Unlock()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("write down the host key: %w", err)
	}
	lock := flock.New(file, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	within, done := context.WithTimeout(d.ctx, lockPatience)
	defer done()
	if _, err := lock.TryLockContext(within, 10*time.Millisecond); err != nil {
		return fmt.Errorf("write down the host key: lock %s: %w", file, err)
	}
	defer func() { _ = lock.Unlock() }()
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("write down the host key: %w", err)
	}
	now := find(parseKnownHosts(file, data), name)
	if has(now.keys, key) {
		return nil
	}
	if len(now.keys) > 0 {
		return &HostKeyError{Problem: "changed", Kind: key.Type(), Fingerprint: ssh.FingerprintSHA256(key), Known: places(now.keys)}
	}
	line := knownhosts.Line([]string{name}, key) + "\n"
	if len(data) > 0 && data[len(data)-1] != '\n' {
		line = "\n" + line
	}
	out, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write down the host key: %w", err)
	}
	_, err = out.WriteString(line) // one write: a reader sees the whole line or none
	if closing := out.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("write down the host key: %w", err)
	}
	d.known.forget(file)
	d.note(fmt.Sprintf("%s: new host key %s %s written to %s", name, key.Type(), ssh.FingerprintSHA256(key), file))
	return nil
}
