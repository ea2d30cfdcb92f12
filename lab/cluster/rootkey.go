package cluster

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"math/big"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// rootKeyBits is small, since a simulated cluster needs a key for each of its nodes at once and protects nothing.
const rootKeyBits = 1024

// keys makes RSA keys for machines that protect nothing: each of two primes, but each prime in several keys, since nearly all
// of the work is to find primes. Nine make the keys of 32 nodes.
type keys struct {
	mu     sync.Mutex
	primes []*big.Int
	a, b   int // of the last key; a < b
}

func (k *keys) next() (*rsa.PrivateKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a, b := k.a+1, k.b
	if a >= b {
		a, b = 0, b+1
	}
	for len(k.primes) <= b {
		p, err := newPrime()
		if err != nil {
			return nil, err
		}
		k.primes = append(k.primes, p)
	}
	k.a, k.b = a, b
	return keyOf(k.primes[a], k.primes[b]), nil
}

var publicExponent = big.NewInt(65537)

// newPrime finds a prime that keys of that exponent can be made of.
func newPrime() (*big.Int, error) {
	for {
		p, err := rand.Prime(rand.Reader, rootKeyBits/2)
		if err != nil {
			return nil, err
		}
		if new(big.Int).ModInverse(publicExponent, less(p)) != nil {
			return p, nil
		}
	}
}

func less(p *big.Int) *big.Int { return new(big.Int).Sub(p, big.NewInt(1)) }

func keyOf(p, q *big.Int) *rsa.PrivateKey {
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: int(publicExponent.Int64())},
		D:         new(big.Int).ModInverse(publicExponent, new(big.Int).Mul(less(p), less(q))),
		Primes:    []*big.Int{p, q},
	}
	key.Precompute()
	return key
}

// ensureRootKey makes root's RSA key, which every Proxmox installation has.
func (n *Node) ensureRootKey() error {
	const name = "/root/.ssh/id_rsa"
	if exists(n.m.FS.View, name) {
		return nil
	}
	key, err := n.w.keys.next()
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(key, "root@"+n.name)
	if err != nil {
		return err
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return err
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))) + " root@" + n.name + "\n"
	if err := n.writeSystemFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	return n.writeSystemFile(name+".pub", []byte(line), 0o644)
}
