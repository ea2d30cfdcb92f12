package sshx

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the format of hashed known_hosts entries prescribes it
	"encoding/base64"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// hostLine is one line of a known_hosts file. Its key is decoded when the line matches a host: a file may hold
// thousands of others, and a line that cannot be understood must not spoil the rest.
type hostLine struct {
	file   string
	number int
	marker string // "", "@cert-authority" or "@revoked"
	hosts  string // patterns separated by commas, or one hash
	kind   string
	blob   string
}

const (
	markerAuthority = "@cert-authority"
	markerRevoked   = "@revoked"
)

// parseKnownHosts reads the lines of a known_hosts file. Comments and what is no entry are passed over.
func parseKnownHosts(file string, data []byte) []hostLine {
	var lines []hostLine
	for i, text := range bytes.Split(data, []byte("\n")) {
		words := strings.Fields(string(text))
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		l := hostLine{file: file, number: i + 1}
		if words[0][0] == '@' {
			l.marker, words = words[0], words[1:]
			if l.marker != markerAuthority && l.marker != markerRevoked {
				continue
			}
		}
		if len(words) < 3 {
			continue
		}
		l.hosts, l.kind, l.blob = words[0], words[1], words[2]
		lines = append(lines, l)
	}
	return lines
}

// key decodes the line's key; nil if it is damaged or of an unknown kind.
func (l hostLine) key() ssh.PublicKey {
	blob, err := base64.StdEncoding.DecodeString(l.blob)
	if err != nil {
		return nil
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil || key.Type() != l.kind {
		return nil
	}
	return key
}

// matches reports whether the line is about a host, given as known_hosts writes it: "name" or "[name]:port".
func (l hostLine) matches(host string) bool {
	if strings.HasPrefix(l.hosts, "|") {
		return matchesHash(l.hosts, host)
	}
	found := false
	for pattern := range strings.SplitSeq(strings.ToLower(l.hosts), ",") {
		pattern, negated := strings.CutPrefix(pattern, "!")
		if !wildcard(pattern, host) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// matchesHash compares a host with "|1|salt|hash".
func matchesHash(entry, host string) bool {
	parts := strings.Split(entry, "|")
	if len(parts) != 4 || parts[1] != "1" {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return false
	}
	want, err := base64.StdEncoding.DecodeString(parts[3])
	if err != nil {
		return false
	}
	mac := hmac.New(sha1.New, salt)
	mac.Write([]byte(host))
	return hmac.Equal(mac.Sum(nil), want)
}

// wildcard matches * and ?, in time linear in both for each star.
func wildcard(pattern, s string) bool {
	star, resume := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p, i = p+1, i+1
		case star >= 0:
			resume++
			p, i = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// knownKey is a key that a known_hosts file holds for a host.
type knownKey struct {
	hostLine
	public ssh.PublicKey
}

// known is what the files say about one host.
type known struct {
	keys, authorities, revoked []knownKey
	// portless are keys that stand under the bare name of a host that is reached at another port. OpenSSH accepts them,
	// but does not count them as the host's own.
	portless []knownKey
}

// find collects what lines say about an address "host:port".
func find(lines []hostLine, address string) known {
	host := strings.ToLower(knownhosts.Normalize(address))
	bare, _, other := strings.Cut(strings.TrimPrefix(host, "["), "]:")
	other = other && host[0] == '['
	var k known
	for _, l := range lines {
		exact := l.matches(host)
		if !exact && (!other || l.marker != "" || !l.matches(bare)) {
			continue
		}
		key := l.key()
		if key == nil {
			continue
		}
		found := knownKey{hostLine: l, public: key}
		switch {
		case l.marker == markerRevoked:
			k.revoked = append(k.revoked, found)
		case l.marker == markerAuthority:
			k.authorities = append(k.authorities, found)
		case exact:
			k.keys = append(k.keys, found)
		default:
			k.portless = append(k.portless, found)
		}
	}
	return k
}

// has reports whether one of the keys is the given one.
func has(keys []knownKey, key ssh.PublicKey) bool {
	return slices.ContainsFunc(keys, func(k knownKey) bool { return bytes.Equal(k.public.Marshal(), key.Marshal()) })
}

// algorithms orders the host key algorithms so that the server shows a key that can be checked: certificates where an
// authority is known, then the kinds of the known keys, then the rest, cheap ones first.
func (k known) algorithms() []string {
	var list []string
	add := func(names ...string) {
		for _, n := range names {
			if !slices.Contains(list, n) {
				list = append(list, n)
			}
		}
	}
	if len(k.authorities) > 0 {
		add(ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
			ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01)
	}
	for _, key := range append(slices.Clone(k.keys), k.portless...) {
		add(algorithmsOf(key.kind)...)
	}
	add(ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
	return list
}

func algorithmsOf(kind string) []string {
	if kind == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256} // never SHA-1
	}
	return []string{kind}
}

// knownFiles reads known_hosts files once for all hosts.
type knownFiles struct {
	mu    sync.Mutex
	files map[string][]hostLine
}

// lines returns the lines of several files, one after the other. A file that is not there has none.
func (f *knownFiles) lines(paths []string) ([]hostLine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []hostLine
	for _, path := range paths {
		lines, ok := f.files[path]
		if !ok {
			data, err := os.ReadFile(path)
			if err != nil && !os.IsNotExist(err) {
				return nil, err
			}
			lines = parseKnownHosts(path, data)
			if f.files == nil {
				f.files = map[string][]hostLine{}
			}
			f.files[path] = lines
		}
		all = append(all, lines...)
	}
	return all, nil
}

// forget makes the next reading of a file real.
func (f *knownFiles) forget(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.files, path)
}
