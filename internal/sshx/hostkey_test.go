package sshx

import (
	"crypto/rand"
	"crypto/rsa"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/skeema/knownhosts"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	xknown "golang.org/x/crypto/ssh/knownhosts"
	"pgregory.net/rapid"
)

func TestHostKeyIsCheckedAgainstKnownHosts(t *testing.T) {
	s := newServer(t).serve()
	other, _ := newKey(t)
	authority, _ := newKey(t)
	own := s.hostKey.PublicKey()
	line := func(name string, key ssh.PublicKey) string { return knownhosts.Line([]string{name}, key) + "\n" }
	bracketed := knownhosts.Normalize(s.addr)
	for name, tt := range map[string]struct {
		file    string
		pinned  ssh.PublicKey
		problem string // "" means: accepted
	}{
		"known":                      {file: line(s.addr, own)},
		"among others":               {file: "# comment\n\nbroken line\n* ssh-ed25519 !!!\nother ssh-rsa AAAA\n" + line(s.addr, own)},
		"several keys":               {file: line(s.addr, other.PublicKey()) + line(s.addr, own)},
		"hashed":                     {file: strings.Replace(line(s.addr, own), bracketed, xknown.HashHostname(bracketed), 1)},
		"wildcard":                   {file: strings.Replace(line(s.addr, own), bracketed, "[127.0.*]:*", 1)},
		"negated":                    {file: strings.Replace(line(s.addr, own), bracketed, "!"+bracketed+",[127.0.*]:*", 1), problem: "unknown"},
		"portless name of same key":  {file: line("127.0.0.1", own)},
		"portless name of other key": {file: line("127.0.0.1", other.PublicKey()), problem: "unknown"},
		"unknown":                    {file: line("192.0.2.1", own), problem: "unknown"},
		"empty":                      {problem: "unknown"},
		"changed":                    {file: line(s.addr, other.PublicKey()), problem: "changed"},
		"revoked":                    {file: line(s.addr, own) + "@revoked * " + strings.TrimPrefix(line("x", own), "x "), problem: "revoked"},
		"another authority":          {file: "@cert-authority * " + strings.TrimPrefix(line("x", authority.PublicKey()), "x "), problem: "unknown"},
		"pinned":                     {pinned: own},
		"pinned wins":                {file: line(s.addr, other.PublicKey()), pinned: own},
		"not as pinned":              {file: line(s.addr, own), pinned: other.PublicKey(), problem: "not as pinned"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "known_hosts")
			require.NoError(t, os.WriteFile(path, []byte(tt.file), 0o600))
			h := s.host()
			h.SSH.KnownHosts = []string{path}
			if tt.pinned != nil {
				h.SSH.HostKey = string(ssh.MarshalAuthorizedKey(tt.pinned))
			}
			d := New(Config{})
			t.Cleanup(d.Close)
			if tt.problem == "" {
				connectTo(t, d, h)
				return
			}
			e := refusedDial(t, d, h)
			var bad *HostKeyError
			require.ErrorAs(t, e, &bad)
			require.Equal(t, "host key", e.Phase)
			require.Equal(t, tt.problem, bad.Problem)
			require.ErrorContains(t, e, ssh.FingerprintSHA256(own), "the key that the host shows is named")
			switch tt.problem {
			case "changed":
				require.ErrorContains(t, e, ssh.FingerprintSHA256(other.PublicKey())+" ("+path+":1)")
				require.Contains(t, e.Hint, "ssh-keygen -f "+path+" -R '"+bracketed+"'")
			case "unknown":
				require.Contains(t, e.Hint, "echo '"+strings.TrimSpace(line(s.addr, own))+"' >> "+path)
			}
		})
	}
}

func TestHostCertificateOfAKnownAuthority(t *testing.T) {
	authority, _ := newKey(t)
	for name, tt := range map[string]struct {
		principal string
		refused   bool
	}{"for this host": {"127.0.0.1", false}, "for another host": {"192.0.2.9", true}} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			cert := &ssh.Certificate{
				Key: s.hostKey.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{tt.principal}, ValidBefore: ssh.CertTimeInfinity,
			}
			require.NoError(t, cert.SignCert(zeroes{}, authority))
			signer, err := ssh.NewCertSigner(cert, s.hostKey)
			require.NoError(t, err)
			s.hostKey = signer
			s.serve()
			path := filepath.Join(t.TempDir(), "known_hosts")
			text := "@cert-authority [127.0.0.*]:* " + string(ssh.MarshalAuthorizedKey(authority.PublicKey()))
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			d := New(Config{ExtraKnownHosts: []string{path}})
			t.Cleanup(d.Close)
			if tt.refused {
				require.ErrorContains(t, refusedDial(t, d, s.host()), "certificate is not valid")
				return
			}
			connectTo(t, d, s.host())
		})
	}
}

func TestAcceptNewWritesTheKeyDownOnceAndThenHoldsToIt(t *testing.T) {
	s := newServer(t).serve()
	home := t.TempDir()
	path := filepath.Join(home, ".ssh", "known_hosts")
	require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte("# no newline at the end"), 0o600))
	var notes []string
	d := New(Config{Home: home, Note: func(text string) { notes = append(notes, text) }})
	t.Cleanup(d.Close)
	h := s.host()
	h.SSH.HostKeys = inventory.HostKeysAcceptNew
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			c, err := d.Dial(t.Context(), h)
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.Close()
		})
	}
	wg.Wait()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "# no newline at the end\n"+knownhosts.Line([]string{s.addr}, s.hostKey.PublicKey())+"\n", string(text))
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], ssh.FingerprintSHA256(s.hostKey.PublicKey()))

	key, _ := newKey(t)
	again := New(Config{Home: home})
	t.Cleanup(again.Close)
	require.NoError(t, os.WriteFile(path, []byte(knownhosts.Line([]string{s.addr}, key.PublicKey())), 0o600))
	e := refusedDial(t, again, h)
	require.ErrorContains(t, e, "the host key is changed")
}

func TestKnownKindsOfKeysAreAskedForFirst(t *testing.T) {
	ed, _ := newKey(t)
	text := knownhosts.Line([]string{"pve1"}, ed.PublicKey()) + "\n" + rsaLine(t, "pve2")
	lines := parseKnownHosts("known_hosts", []byte(text))
	require.Equal(t, []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256}, find(lines, "pve1:22").algorithms()[:2])
	require.Equal(t, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoED25519}, find(lines, "pve2:22").algorithms()[:3])
	require.NotContains(t, find(lines, "pve2:22").algorithms(), ssh.KeyAlgoRSA, "no SHA-1")
	ca := parseKnownHosts("f", []byte("@cert-authority * "+string(ssh.MarshalAuthorizedKey(ed.PublicKey()))))
	require.Equal(t, ssh.CertAlgoED25519v01, find(ca, "pve1:22").algorithms()[0])
}

// rsaLine is the known_hosts line of a new RSA key.
func rsaLine(t *testing.T, host string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	public, err := ssh.NewPublicKey(&key.PublicKey)
	require.NoError(t, err)
	return knownhosts.Line([]string{host}, public) + "\n"
}

// * stands for any text and ? for one byte, as in OpenSSH.
func TestPatternsMatchAsInOpenSSH(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		pattern := rapid.StringMatching(`[ab*?.]{1,6}`).Draw(rt, "pattern")
		host := rapid.StringMatching(`[ab.]{0,6}`).Draw(rt, "host")
		want := regexp.MustCompile("^" + strings.NewReplacer("*", ".*", "?", ".", ".", `\.`).Replace(pattern) + "$").MatchString(host)
		require.Equal(rt, want, wildcard(pattern, host))
	})
}

func FuzzKnownHosts(f *testing.F) {
	f.Add("pve1,192.0.2.11 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ", "pve1:22")
	f.Add("@cert-authority *.example.org ssh-ed25519 AAAA", "a.example.org:22")
	f.Add("|1|c2FsdA==|aGFzaA== ssh-ed25519 AAAA\n@revoked * x y", "[::1]:2222")
	f.Add("[*]:* ssh-rsa", "")
	f.Fuzz(func(t *testing.T, text, address string) {
		k := find(parseKnownHosts("f", []byte(text)), address)
		for _, key := range k.keys {
			if key.public == nil || key.number < 1 {
				t.Fatal("a found key must be usable and have a place")
			}
		}
		if len(k.algorithms()) == 0 {
			t.Fatal("there is always an algorithm to ask for")
		}
	})
}

func TestUnreadableKnownHostsIsSaid(t *testing.T) {
	s := newServer(t).serve()
	d := New(Config{ExtraKnownHosts: []string{t.TempDir()}})
	t.Cleanup(d.Close)
	e := refusedDial(t, d, s.host())
	require.Equal(t, "host key", e.Phase)
	require.NotErrorAs(t, e, new(*transport.LostError))
}
