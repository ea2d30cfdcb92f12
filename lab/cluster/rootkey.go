package cluster

import (
	"encoding/pem"
	"strings"

	"golang.org/x/crypto/ssh"
)

// ensureRootKey makes root's RSA key, which every Proxmox installation has.
func (n *Node) ensureRootKey() error {
	const name = "/root/.ssh/id_rsa"
	if exists(n.m.FS.View, name) {
		return nil
	}
	key, err := n.w.keys.Next()
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
