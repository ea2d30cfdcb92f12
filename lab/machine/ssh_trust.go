package machine

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what hashed known_hosts lines are made with
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/pxrun/pxrun/lab/vfs"
)

// knownLine is a line of a known_hosts file.
type knownLine struct {
	names, rest string // rest is "type base64 comment"
	text        string
	number      int
	revoked     bool
}

func parseKnownHosts(content []byte) []knownLine {
	var list []knownLine
	for i, text := range lines(content) {
		f := strings.Fields(text)
		l := knownLine{text: text, number: i + 1}
		if len(f) > 0 && f[0] == "@revoked" {
			l.revoked = true
			f = f[1:]
		}
		if len(f) >= 3 && !strings.HasPrefix(f[0], "#") && !strings.HasPrefix(f[0], "@") {
			l.names, l.rest = f[0], strings.Join(f[1:], " ")
		}
		list = append(list, l)
	}
	return list
}

// covers reports whether the line is about a host.
func (l knownLine) covers(host string) bool {
	if strings.HasPrefix(l.names, "|1|") {
		parts := strings.Split(l.names, "|")
		if len(parts) != 4 {
			return false
		}
		salt, err := base64.StdEncoding.DecodeString(parts[2])
		return err == nil && parts[3] == knownHash(salt, host)
	}
	found := false
	for pattern := range strings.SplitSeq(l.names, ",") {
		if rest, negated := strings.CutPrefix(pattern, "!"); negated {
			if matches(rest, host) {
				return false
			}
			continue
		}
		found = found || matches(strings.NewReplacer("[", `\[`, "]", `\]`).Replace(pattern), host)
	}
	return found
}

func knownHash(salt []byte, host string) string {
	mac := hmac.New(sha1.New, salt)
	mac.Write([]byte(host))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// hashKnownHost is a name as HashKnownHosts writes it.
func hashKnownHost(host string) string {
	salt := make([]byte, sha1.Size)
	_, _ = rand.Read(salt) // never fails
	return "|1|" + base64.StdEncoding.EncodeToString(salt) + "|" + knownHash(salt, host)
}

// knownName is the name under which a host and port are known.
func knownName(host string, port int) string {
	if port == 22 || port == 0 {
		return host
	}
	return fmt.Sprintf("[%s]:%d", host, port)
}

// hostKeyLines are the public host keys of a machine, "type base64", in the order of preference.
func (m *Machine) hostKeyLines(withRSA bool) []string {
	var out []string
	for _, kind := range hostKeyKinds {
		if kind.file == "rsa" && !withRSA {
			continue
		}
		content, err := m.FS.ReadFile("/etc/ssh/ssh_host_" + kind.file + "_key.pub")
		if f := strings.Fields(string(content)); err == nil && len(f) >= 2 {
			out = append(out, f[0]+" "+f[1])
		}
	}
	return out
}

// identity is a private key of a client.
type identity struct {
	path   string
	public ssh.PublicKey
}

// readIdentity reads a private key file; ok is false if there is none to use. Keys that others may read are refused by
// the caller.
func readIdentity(view *vfs.View, path string) (identity, bool) {
	content, err := view.ReadFile(path)
	if err != nil {
		return identity{}, false
	}
	signer, err := ssh.ParsePrivateKey(content)
	if err != nil {
		return identity{}, false
	}
	return identity{path: path, public: signer.PublicKey()}, true
}

// accepts reports whether a user's authorized_keys hold a key, read as sshd reads them.
func (m *Machine) accepts(u User, key ssh.PublicKey) bool {
	for _, name := range []string{"/.ssh/authorized_keys", "/.ssh/authorized_keys2"} {
		content, err := m.FS.ReadFile(u.Home + name)
		if err != nil {
			continue
		}
		for _, line := range lines(content) {
			parsed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
			if err == nil && bytes.Equal(parsed.Marshal(), key.Marshal()) {
				return true
			}
		}
	}
	return false
}

// reach finds the machine behind a name and tells whether packets get there: from is the address they leave from.
func (m *Machine) reach(host string) (to *Machine, from, at netip.Addr, path Path) {
	found := m.Resolve(host)
	if len(found) == 0 {
		return nil, from, at, path
	}
	at = found[0]
	if m.Owns(at) {
		return m, at, at, Path{Reachable: true, MTU: 65536}
	}
	if m.network == nil {
		return nil, from, at, path
	}
	from = m.sourceFor(at)
	if !from.IsValid() {
		return nil, from, at, path
	}
	to = m.network.Find(at.String())
	if to == nil {
		return nil, from, at, path
	}
	return to, from, at, m.network.Path(from, at)
}

// sourceFor picks the own address from which packets to another leave: one of the same network, or the first.
func (m *Machine) sourceFor(to netip.Addr) netip.Addr {
	var first netip.Addr
	for _, i := range m.Interfaces() {
		for _, prefix := range i.Addrs {
			if i.Down || prefix.Addr().Is4() != to.Is4() {
				continue
			}
			if prefix.Contains(to) {
				return prefix.Addr()
			}
			if !first.IsValid() {
				first = prefix.Addr()
			}
		}
	}
	return first
}
