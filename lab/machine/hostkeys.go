package machine

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/crypto/ssh"
)

// rsaBits is the size of simulated RSA keys, whatever was asked for: they protect nothing, and 4096 bits take seconds.
const rsaBits = 2048

// keyPair is a key as ssh-keygen writes it.
type keyPair struct {
	private []byte // OpenSSH's PEM
	public  string // "ssh-ed25519 AAAA… comment", without newline
}

// newKeyPair makes a key of a kind: ed25519, ecdsa or rsa. seed makes ed25519 keys repeatable; nil is random.
func newKeyPair(kind, comment string, seed []byte) (keyPair, error) {
	var private crypto.Signer
	var err error
	switch kind {
	case "ed25519":
		if seed == nil {
			seed = make([]byte, ed25519.SeedSize)
			if _, err := rand.Read(seed); err != nil {
				return keyPair{}, err
			}
		}
		private = ed25519.NewKeyFromSeed(seed)
	case "ecdsa":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
	default:
		err = fmt.Errorf("unknown key type %s", kind)
	}
	if err != nil {
		return keyPair{}, err
	}
	return encodeKeyPair(private, comment)
}

func encodeKeyPair(private crypto.Signer, comment string) (keyPair, error) {
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return keyPair{}, err
	}
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{private: pem.EncodeToMemory(block), public: publicLine(public, comment)}, nil
}

func publicLine(key ssh.PublicKey, comment string) string {
	line := string(ssh.MarshalAuthorizedKey(key))
	line = line[:len(line)-1]
	if comment != "" {
		line += " " + comment
	}
	return line
}

// installHostKeys writes the keys of sshd. The RSA key is made when somebody first reads it: it takes long, and few do.
func (m *Machine) installHostKeys() {
	comment := "root@" + m.opt.Name
	for _, kind := range []string{"ed25519", "ecdsa"} {
		seed := make([]byte, ed25519.SeedSize)
		m.Random(seed)
		pair, err := newKeyPair(kind, comment, seed)
		if err != nil {
			panic(fmt.Sprintf("host key %s: %v", kind, err)) // only a broken random source does that
		}
		path := "/etc/ssh/ssh_host_" + kind + "_key"
		_ = m.disk.Seed(path, 0o600, pair.private)
		_ = m.disk.Seed(path+".pub", 0o644, []byte(pair.public+"\n"))
	}
	lazy := sync.OnceValue(func() keyPair {
		key, err := m.opt.Keys.Next()
		if err != nil {
			panic(fmt.Sprintf("host key rsa: %v", err))
		}
		pair, err := encodeKeyPair(key, comment)
		if err != nil {
			panic(fmt.Sprintf("host key rsa: %v", err))
		}
		return pair
	})
	_ = m.disk.Generate("/etc/ssh/ssh_host_rsa_key", 0o600, func() []byte { return lazy().private })
	_ = m.disk.Generate("/etc/ssh/ssh_host_rsa_key.pub", 0o644, func() []byte { return []byte(lazy().public + "\n") })
}

// hostKeyKinds are the types of host keys in the order in which sshd offers them.
var hostKeyKinds = []struct{ file, algorithm string }{
	{"ed25519", ssh.KeyAlgoED25519}, {"ecdsa", ssh.KeyAlgoECDSA256}, {"rsa", ssh.KeyAlgoRSA},
}

// HostKeys are the signers of the machine's sshd, read from /etc/ssh as they are now. RSA keys are read when used.
func (m *Machine) HostKeys() []ssh.Signer {
	var list []ssh.Signer
	for _, kind := range hostKeyKinds {
		path := "/etc/ssh/ssh_host_" + kind.file + "_key"
		if _, err := m.FS.Stat(path); err != nil {
			continue
		}
		read := sync.OnceValues(func() (ssh.Signer, error) {
			content, err := m.FS.ReadFile(path)
			if err != nil {
				return nil, err
			}
			return ssh.ParsePrivateKey(content)
		})
		if kind.file == "rsa" {
			list = append(list, lazySigner{read: read})
			continue
		}
		if signer, err := read(); err == nil {
			list = append(list, signer)
		}
	}
	return list
}

// SetHostKey replaces one of sshd's keys, as a reinstallation does. The others are removed.
func (m *Machine) SetHostKey(private crypto.Signer) error {
	pair, err := encodeKeyPair(private, "root@"+m.opt.Name)
	if err != nil {
		return err
	}
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		return err
	}
	for _, kind := range hostKeyKinds {
		path := "/etc/ssh/ssh_host_" + kind.file + "_key"
		_ = m.FS.Remove(path)          // it may be gone already
		_ = m.FS.Remove(path + ".pub") // likewise
		if kind.algorithm != public.Type() {
			continue
		}
		if err := m.FS.WriteFile(path, pair.private, 0o600); err != nil {
			return err
		}
		if err := m.FS.WriteFile(path+".pub", []byte(pair.public+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// lazySigner is an RSA key that is made when a client wants it. Its type is known before.
type lazySigner struct {
	read func() (ssh.Signer, error)
}

var _ ssh.MultiAlgorithmSigner = lazySigner{}

func (l lazySigner) PublicKey() ssh.PublicKey { return lazyPublicKey(l) }

func (l lazySigner) Algorithms() []string {
	return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
}

func (l lazySigner) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return l.SignWithAlgorithm(random, data, ssh.KeyAlgoRSASHA512)
}

func (l lazySigner) SignWithAlgorithm(random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	signer, err := l.read()
	if err != nil {
		return nil, err
	}
	withAlgorithm, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return nil, errors.New("host key cannot sign with " + algorithm)
	}
	return withAlgorithm.SignWithAlgorithm(random, data, algorithm)
}

// lazyPublicKey is the public side of lazySigner.
type lazyPublicKey struct {
	read func() (ssh.Signer, error)
}

func (l lazyPublicKey) Type() string { return ssh.KeyAlgoRSA }

func (l lazyPublicKey) Marshal() []byte {
	signer, err := l.read()
	if err != nil {
		return nil
	}
	return signer.PublicKey().Marshal()
}

func (l lazyPublicKey) Verify(data []byte, sig *ssh.Signature) error {
	signer, err := l.read()
	if err != nil {
		return err
	}
	return signer.PublicKey().Verify(data, sig)
}
