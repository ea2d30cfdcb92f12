package cluster

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"strings"

	"golang.org/x/crypto/ssh"
)

// rootKeyBits is small, since a simulated cluster needs a key for each of its nodes at once and protects nothing.
const rootKeyBits = 1024

// ensureRootKey makes root's RSA key, which every Proxmox installation has.
func (n *Node) ensureRootKey() error {
	const name = "/root/.ssh/id_rsa"
	if exists(n.m.FS.View, name) {
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, rootKeyBits)
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
