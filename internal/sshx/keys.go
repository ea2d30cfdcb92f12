package sshx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/melbahja/goph"
	"github.com/pxrun/pxrun/internal/secret"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// keyring holds the keys of one dialer: each file is read and decrypted once, the agent asked once.
type keyring struct {
	mu       sync.Mutex
	files    map[string]*keyFile
	socket   string
	patience time.Duration // with the agent's list
	asked    bool
	conn     net.Conn
	agent    []ssh.Signer
	err      error
	best     string // the fingerprint that opened the last host: its neighbours likely take it too
}

// keyFile is a private key on disk. An encrypted one is opened when a server has agreed to its public half.
type keyFile struct {
	path   string
	raw    []byte
	public ssh.PublicKey // nil for an encrypted key in an old format without a .pub beside it
	mu     sync.Mutex
	signer ssh.Signer
}

// load reads a key file.
func (k *keyring) load(path string) (*keyFile, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f, ok := k.files[path]; ok {
		return f, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := &keyFile{path: path, raw: raw}
	signer, err := ssh.ParsePrivateKey(raw)
	if locked, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		f.public = locked.PublicKey
		if f.public == nil {
			f.public = readPublic(path + ".pub")
		}
	} else if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	} else {
		f.signer, f.public = signer, signer.PublicKey()
	}
	if k.files == nil {
		k.files = map[string]*keyFile{}
	}
	k.files[path] = f
	return f, nil
}

// readPublic reads a public key or certificate; nil if there is none.
func readPublic(path string) ssh.PublicKey {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil
	}
	return key
}

// agentPatience is how long the agent may take to list its keys. All hosts wait for it.
const agentPatience = 10 * time.Second

// agentKeys lists the agent's keys. Without an agent there are none.
func (k *keyring) agentKeys() ([]ssh.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asked || k.socket == "" {
		return k.agent, k.err
	}
	k.asked = true
	k.conn, k.err = net.DialTimeout("unix", k.socket, k.patience)
	if k.err != nil {
		return nil, k.err
	}
	k.err = k.conn.SetDeadline(time.Now().Add(k.patience))
	if k.err == nil {
		k.agent, k.err = agent.NewClient(k.conn).Signers()
	}
	if k.err == nil {
		k.err = k.conn.SetDeadline(time.Time{}) // a signature may wait for a person
	}
	return k.agent, k.err
}

func (k *keyring) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn != nil {
		_ = k.conn.Close()
	}
}

// prefer remembers the key that was accepted.
func (k *keyring) prefer(fingerprint string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.best = fingerprint
}

func (k *keyring) preferred() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.best
}

// ask is a question to the user.
type ask func(ctx context.Context, prompt string) (secret.String, error)

// lockedKey signs with a key file that may have to be opened first. It is what is offered to a server.
type lockedKey struct {
	ctx        context.Context
	file       *keyFile
	passphrase secret.String
	ask        ask
	pause      func() (resume func()) // stops the clock of the handshake
}

// PublicKey gives the half that needs no passphrase.
func (l *lockedKey) PublicKey() ssh.PublicKey {
	public, _ := l.file.state()
	return public
}

// Sign signs with the key's own algorithm.
func (l *lockedKey) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return l.SignWithAlgorithm(random, data, "")
}

// SignWithAlgorithm opens the key if need be, and signs.
func (l *lockedKey) SignWithAlgorithm(random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	signer, err := l.open()
	if err != nil {
		return nil, err
	}
	if s, ok := signer.(ssh.AlgorithmSigner); ok && algorithm != "" {
		return s.SignWithAlgorithm(random, data, algorithm)
	}
	return signer.Sign(random, data)
}

func (l *lockedKey) open() (ssh.Signer, error) {
	defer l.pause()() // another host may be asking for the same passphrase
	l.file.mu.Lock()
	defer l.file.mu.Unlock()
	if l.file.signer != nil {
		return l.file.signer, nil
	}
	phrase := l.passphrase
	if phrase.Empty() {
		if l.ask == nil {
			return nil, fmt.Errorf("%s is encrypted; load it into the agent or set passphrase", l.file.path)
		}
		var err error
		if phrase, err = l.ask(l.ctx, "Passphrase for "+l.file.path+": "); err != nil {
			return nil, fmt.Errorf("passphrase for %s: %w", l.file.path, err)
		}
	}
	signer, err := goph.GetSignerForRawKey(l.file.raw, phrase.Reveal())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", l.file.path, err)
	}
	l.file.signer = signer
	l.file.public = signer.PublicKey()
	return signer, nil
}

// state gives what is known of the key now.
func (f *keyFile) state() (public ssh.PublicKey, signer ssh.Signer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.public, f.signer
}

// offer is a key with its name for messages.
type offer struct {
	ssh.Signer
	source string
}

func (o offer) fingerprint() string { return ssh.FingerprintSHA256(o.PublicKey()) }

// offers lists the keys for an endpoint, the likeliest first: sshd answers each wrong one late, and hangs up after six.
func (d *Dialer) offers(ctx context.Context, ep endpoint, question ask, pause func() func()) ([]offer, error) {
	inAgent, err := d.keys.agentKeys()
	if err != nil {
		d.note(fmt.Sprintf("the SSH agent cannot be used: %v", err))
	}
	var list []offer
	used := map[string]bool{}
	add := func(s ssh.Signer, source string) {
		id := string(s.PublicKey().Marshal())
		if !used[id] {
			used[id] = true
			list = append(list, offer{s, source})
		}
	}
	for _, path := range d.identityPaths(ep) {
		signer, err := d.fileSigner(&lockedKey{ctx: ctx, passphrase: ep.passphrase, ask: question, pause: pause}, path, inAgent)
		if err != nil {
			if ep.named {
				return nil, err
			}
			d.note(err.Error())
			continue
		}
		for _, cert := range certificates(path, ep.certificates, signer) {
			add(cert, path+" with its certificate")
		}
		add(signer, path)
	}
	if !ep.identitiesOnly {
		for _, s := range inAgent {
			add(s, "agent")
		}
	}
	if best := d.keys.preferred(); best != "" && !ep.named {
		slices.SortStableFunc(list, func(a, b offer) int { return rank(a, best) - rank(b, best) })
	}
	return list, nil
}

func rank(o offer, best string) int {
	if o.fingerprint() == best {
		return 0
	}
	return 1
}

// identityPaths lists the key files to try.
func (d *Dialer) identityPaths(ep endpoint) []string {
	paths := append(append([]string{}, d.cfg.ExtraIdentities...), ep.identities...)
	if ep.defaults && d.cfg.Home != "" {
		for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
			path := filepath.Join(d.cfg.Home, ".ssh", name)
			if _, err := os.Stat(path); err == nil {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// fileSigner gives the signer of a key file: the agent's if it holds the same key, since that asks nobody.
func (d *Dialer) fileSigner(key *lockedKey, path string, inAgent []ssh.Signer) (ssh.Signer, error) {
	file, err := d.keys.load(path)
	var public ssh.PublicKey
	var signer ssh.Signer
	if err == nil {
		public, signer = file.state()
	} else {
		public = readPublic(path + ".pub") // the private half may live in the agent alone
	}
	if public != nil {
		for _, s := range inAgent {
			if string(s.PublicKey().Marshal()) == string(public.Marshal()) {
				return s, nil
			}
		}
	}
	switch key.file = file; {
	case err != nil:
		return nil, fmt.Errorf("identity file: %w", err)
	case signer != nil:
		return signer, nil
	case public == nil:
		return key.open() // nothing can be offered without its public half
	default:
		return key, nil
	}
}

// certificates finds the certificates that go with a key: its -cert.pub, or one that was named.
func certificates(path string, named []string, signer ssh.Signer) []ssh.Signer {
	var list []ssh.Signer
	for _, file := range append([]string{path + "-cert.pub"}, named...) {
		cert, ok := readPublic(file).(*ssh.Certificate)
		if !ok {
			continue
		}
		if s, err := ssh.NewCertSigner(cert, signer); err == nil {
			list = append(list, s)
		}
	}
	return list
}
