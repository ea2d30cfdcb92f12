package cluster

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/vfs"
)

const (
	caCertPath = "/etc/pve/pve-root-ca.pem"
	caKeyPath  = "/etc/pve/priv/pve-root-ca.key"
)

// updateCerts is `pvecm updatecerts`: it makes the node's folders, keys and certificates where they are missing (or, with
// force, the certificate anew) and merges the SSH keys. It tells out what the real one prints.
func (n *Node) updateCerts(v *vfs.View, force bool, out func(string)) error {
	home := "/etc/pve/nodes/" + n.name
	out("(re)generate node files")
	for _, dir := range []string{"/etc/pve/priv/lock", home + "/lxc", home + "/openvz", home + "/qemu-server", home + "/priv"} {
		if err := v.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if !exists(v, home+"/lrm_status") {
		if err := put(v, home+"/lrm_status", []byte(lrmStatus(n.now())), 0o640); err != nil {
			return err
		}
	}
	if err := n.ensureCA(v); err != nil {
		return err
	}
	if force {
		out("generate new node certificate")
	}
	if force || !exists(v, home+"/pve-ssl.pem") {
		if err := n.newCertificate(v); err != nil {
			return err
		}
	}
	out("merge authorized SSH keys")
	return n.mergeKeys(v)
}

// ensureCA makes the cluster's certificate authority and its other keys once.
func (n *Node) ensureCA(v *vfs.View) error {
	if exists(v, caCertPath) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	id := make([]byte, 16)
	n.m.Random(id)
	subject := pkix.Name{
		CommonName: "Proxmox Virtual Environment", Organization: []string{"PVE Cluster Manager CA"},
		OrganizationalUnit: []string{fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])},
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: subject, NotBefore: n.now().Add(-time.Hour), NotAfter: n.now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	files := map[string][]byte{
		caCertPath: encodeCert(der), caKeyPath: keyPEM, "/etc/pve/priv/pve-root-ca.srl": []byte("02\n"),
	}
	for _, name := range []string{"/etc/pve/authkey.pub", "/etc/pve/priv/authkey.key", "/etc/pve/pve-www.key"} {
		if files[name], err = newKeyFile(strings.HasSuffix(name, ".pub")); err != nil {
			return err
		}
	}
	for name, data := range files {
		if err := put(v, name, data, 0o640); err != nil {
			return err
		}
	}
	return nil
}

func newKeyFile(public bool) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil || !public {
		if err != nil {
			return nil, err
		}
		return encodeKey(key)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// readCA reads the cluster's authority.
func readCA(v *vfs.View) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certPEM, err := v.ReadFile(caCertPath)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := v.ReadFile(caKeyPath)
	if err != nil {
		return nil, nil, err
	}
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return nil, nil, errors.New("unable to parse the cluster's certificate authority")
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, errors.New("the cluster's certificate authority has an unknown kind of key")
	}
	return cert, key, nil
}

// newCertificate makes the node's API certificate.
func (n *Node) newCertificate(v *vfs.View) error {
	ca, caKey, err := readCA(v)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial := make([]byte, 8)
	n.m.Random(serial)
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject: pkix.Name{
			CommonName: n.name + "." + n.domain, Organization: []string{"Proxmox Virtual Environment"},
			OrganizationalUnit: []string{"PVE Cluster Node"},
		},
		NotBefore: n.now().Add(-time.Hour), NotAfter: n.now().AddDate(2, 0, 0),
		DNSNames:    []string{"localhost", n.name, n.name + "." + n.domain},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, n.ip.AsSlice()},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	home := "/etc/pve/nodes/" + n.name
	if err := put(v, home+"/pve-ssl.key", keyPEM, 0o640); err != nil {
		return err
	}
	return put(v, home+"/pve-ssl.pem", encodeCert(der), 0o640)
}

// apiFingerprint is the SHA-256 fingerprint of the certificate that the node's API shows.
func (n *Node) apiFingerprint(name string) string {
	home := "/etc/pve/nodes/" + name
	data, err := n.m.FS.ReadFile(home + "/pveproxy-ssl.pem")
	if err != nil {
		if data, err = n.m.FS.ReadFile(home + "/pve-ssl.pem"); err != nil {
			return ""
		}
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return ""
	}
	sum := sha256.Sum256(block.Bytes)
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

const (
	rootKeys    = "/root/.ssh/authorized_keys"
	clusterKeys = "/etc/pve/priv/authorized_keys"
)

// mergeKeys puts root's authorized keys into pmxcfs and adds the node's own. Only RSA and DSS keys are compared, so
// others may come to stand there twice.
func (n *Node) mergeKeys(v *vfs.View) error {
	if target, err := v.Readlink(rootKeys); err != nil || target != clusterKeys {
		if exists(v, rootKeys) {
			if err := v.Rename(rootKeys, rootKeys+".org"); err != nil {
				return err
			}
		}
		if err := v.MkdirAll("/root/.ssh", 0o700); err != nil {
			return err
		}
		if err := v.Symlink(clusterKeys, rootKeys); err != nil {
			return err
		}
	}
	var merged []string
	old, err := v.ReadFile(clusterKeys)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	backup, _ := v.ReadFile(rootKeys + ".org")
	own, _ := v.ReadFile("/root/.ssh/id_rsa.pub")
	for _, line := range slices.Concat(lines(old), lines(backup), lines(own)) {
		if (strings.HasPrefix(line, "ssh-rsa ") || strings.HasPrefix(line, "ssh-dss ")) && hasKey(merged, line) {
			continue
		}
		merged = append(merged, line)
	}
	content := []byte(strings.Join(merged, "\n") + "\n")
	if len(merged) > 0 && !bytes.Equal(content, old) {
		if err := put(v, clusterKeys, content, 0o600); err != nil {
			return err
		}
	}
	if len(backup) > 0 {
		if err := v.Remove(rootKeys + ".org"); err != nil {
			return err
		}
	}
	return n.publishHostKey(v)
}

func hasKey(list []string, line string) bool {
	key := strings.Fields(line)
	return slices.ContainsFunc(list, func(other string) bool {
		fields := strings.Fields(other)
		return len(fields) > 1 && len(key) > 1 && fields[0] == key[0] && fields[1] == key[1]
	})
}

// publishHostKey writes the host key by which the other nodes know this one. The real one takes the RSA key, which is
// dear to make.
func (n *Node) publishHostKey(v *vfs.View) error {
	key, err := v.ReadFile("/etc/ssh/ssh_host_ed25519_key.pub")
	if err != nil {
		return nil //nolint:nilerr // a machine without a host key publishes none
	}
	fields := strings.Fields(string(key))
	if len(fields) < 2 {
		return nil
	}
	line := n.name + " " + fields[0] + " " + fields[1] + "\n"
	name := "/etc/pve/nodes/" + n.name + "/ssh_known_hosts"
	if old, err := v.ReadFile(name); err == nil && string(old) == line {
		return nil
	}
	return put(v, name, []byte(line), 0o640)
}

func lrmStatus(now time.Time) string {
	return fmt.Sprintf(`{"timestamp":%d,"results":{},"mode":"active","state":"wait_for_agent_lock"}`, now.Unix())
}
