package machine

import (
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"sync"
)

// poolBits is small, since a simulated cluster needs keys for all of its nodes at once and protects nothing.
const poolBits = 1024

// RSAKeys makes RSA keys for machines that protect nothing: each of two primes, but each prime in several keys, since nearly all
// of the work is to find primes. Nine make the keys of 32 nodes. The zero value is ready, and safe for concurrent use.
type RSAKeys struct {
	mu     sync.Mutex
	primes []*big.Int
	a, b   int // of the last key; a < b
}

// Next makes a key that it has not made before.
func (k *RSAKeys) Next() (*rsa.PrivateKey, error) {
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
		p, err := rand.Prime(rand.Reader, poolBits/2)
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
