package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

// The certificates of a QDevice, as far as they decide whether a node's daemon gets to talk to the arbiter's: an arbiter
// has an authority of its own, a node's store trusts one and holds a certificate of one. All three must be the same.
const (
	deviceDir  = "/etc/corosync/qdevice"
	deviceCert = deviceDir + "/net/nssdb"
	// trustedCA is what the store trusts, ownCert what the node shows.
	trustedCA = deviceCert + "/cert9.db"
	ownCert   = deviceCert + "/node.crt"

	qnetdDir = "/etc/corosync/qnetd/nssdb"
	qnetdCA  = qnetdDir + "/qnetd-cacert.crt"
	sharedCA = "/etc/pve/qnetd-cacert.crt"
)

// onMember runs a command on a member as pvecm does: over SSH, on the node itself too.
func (n *Node) onMember(ctx context.Context, p *machine.Proc, member *Node, stdout, stderr io.Writer, argv ...string) error {
	code := pvetool.Run(ctx, p, stdout, stderr, append([]string{
		"ssh", "-o", "BatchMode=yes", "-o", "HostKeyAlias=" + member.name, "-o", "UserKnownHostsFile=/etc/pve/nodes/" + member.name + "/ssh_known_hosts",
		"-o", "GlobalKnownHostsFile=none", "root@" + member.ip.String(),
	}, argv...)...)
	if code == 0 {
		return nil
	}
	return commandFailed(code, append([]string{"ssh", "-o", "'BatchMode=yes'", "-lroot", member.ip.String()}, argv...)...)
}

func commandFailed(code int, argv ...string) error {
	return fmt.Errorf("command '%s' failed: exit code %d", strings.Join(argv, " "), code)
}

// deviceCertificates does the exchange between the arbiter and the nodes.
func (n *Node) deviceCertificates(ctx context.Context, p *machine.Proc, clusterName, host string, nodes []*Node) error {
	onArbiter := func(argv ...string) error {
		code := pvetool.Run(ctx, p, p.Stdout, p.Stderr, append([]string{"ssh", "-o", "BatchMode=yes", "root@" + host}, argv...)...)
		if code != 0 {
			return commandFailed(code, append([]string{"ssh", "-o", "'BatchMode=yes'", "root@" + host}, argv...)...)
		}
		return nil
	}
	p.Printf("\nINFO: initializing qnetd server\n")
	// An arbiter of several clusters has its database already: that failure is ignored, and so is every other here.
	_ = onArbiter("corosync-qnetd-certutil", "-i")
	if err := n.phase(ctx, "qdevice:qnetd", 0); err != nil {
		return err
	}
	p.Printf("\nINFO: copying CA cert and initializing on all nodes\n\n")
	if code := pvetool.Run(ctx, p, p.Stdout, p.Stderr, "scp", "-o", "BatchMode=yes", "root@"+host+":"+qnetdCA, sharedCA); code != 0 {
		return commandFailed(code, "scp", "root@"+host+":"+qnetdCA, sharedCA)
	}
	for _, member := range nodes {
		// A store that is there already makes this fail, and nobody looks.
		_ = n.onMember(ctx, p, member, prefixed(p.Stdout, member.name), io.Discard, "corosync-qdevice-net-certutil", "-i", "-c", sharedCA)
	}
	_ = p.View().Remove(sharedCA)
	if err := n.phase(ctx, "qdevice:ca", 500*time.Millisecond); err != nil {
		return err
	}
	p.Printf("INFO: generating cert request\n")
	if code := pvetool.Run(ctx, p, p.Stdout, p.Stderr, "corosync-qdevice-net-certutil", "-r", "-n", clusterName); code != 0 {
		return commandFailed(code, "corosync-qdevice-net-certutil", "-r", "-n", clusterName)
	}
	if err := n.phase(ctx, "qdevice:request", 0); err != nil {
		return err
	}
	p.Printf("\nINFO: copying exported cert request to qnetd server\n\nINFO: sign and export cluster cert\n")
	if err := onArbiter("corosync-qnetd-certutil", "-s", "-c", qnetdDir+"/qdevice-net-node.crq", "-n", clusterName); err != nil {
		return err
	}
	if err := n.phase(ctx, "qdevice:signed", 0); err != nil {
		return err
	}
	p.Printf("\nINFO: copy exported CRT\n")
	signed := "cluster-" + clusterName + ".crt"
	if code := pvetool.Run(ctx, p, p.Stdout, p.Stderr, "scp", "-o", "BatchMode=yes", "root@"+host+":"+qnetdDir+"/"+signed, deviceCert+"/"+signed); code != 0 {
		return commandFailed(code, "scp", "root@"+host+":"+qnetdDir+"/"+signed, deviceCert)
	}
	p.Printf("\nINFO: import certificate\n")
	if code := pvetool.Run(ctx, p, p.Stdout, p.Stderr, "corosync-qdevice-net-certutil", "-M", "-c", deviceCert+"/"+signed); code != 0 {
		return commandFailed(code, "corosync-qdevice-net-certutil", "-M", "-c", deviceCert+"/"+signed)
	}
	return n.deviceImport(ctx, p, nodes)
}

// deviceImport hands the cluster's certificate to all nodes.
func (n *Node) deviceImport(ctx context.Context, p *machine.Proc, nodes []*Node) error {
	const name, shared = "qdevice-net-node.p12", "/etc/pve/qdevice-net-node.p12"
	p.Printf("\nINFO: copy and import pk12 cert to all nodes\n\n")
	certificate, err := p.View().ReadFile(deviceCert + "/" + name)
	if err == nil {
		err = replace(p.View(), shared, certificate, 0o640)
	}
	if err != nil {
		return err
	}
	defer func() { _ = p.View().Remove(shared) }()
	for _, member := range nodes {
		if err := n.onMember(ctx, p, member, prefixed(p.Stdout, member.name), p.Stderr, "corosync-qdevice-net-certutil", "-m", "-c", shared); err != nil {
			return err
		}
	}
	return n.phase(ctx, "qdevice:imported", 500*time.Millisecond)
}

// prefixed puts a node's name before each line.
func prefixed(w io.Writer, node string) io.Writer { return &prefixWriter{w: w, node: node} }

type prefixWriter struct {
	w    io.Writer
	node string
	rest string
}

func (w *prefixWriter) Write(b []byte) (int, error) {
	w.rest += string(b)
	for {
		line, rest, whole := strings.Cut(w.rest, "\n")
		if !whole {
			return len(b), nil
		}
		w.rest = rest
		if _, err := fmt.Fprintf(w.w, "node '%s': %s\n", w.node, line); err != nil {
			return 0, err
		}
	}
}

// certutil is the program corosync-qdevice-net-certutil.
func (n *Node) certutil(_ context.Context, p *machine.Proc) int {
	args := p.Args()
	if len(args) == 0 {
		fmt.Fprintln(p.Stderr, "corosync-qdevice-net-certutil: [-i|-m|-M|-r|-s|-Q] [-c certificate] [-n cluster_name]")
		return 1
	}
	file := ""
	for i, a := range args {
		if a == "-c" && i+1 < len(args) {
			file = args[i+1]
		}
	}
	var err error
	switch args[0] {
	case "-i":
		if exists(p.View(), deviceCert) {
			fmt.Fprintf(p.Stderr, "Certificate database (%s) already exists. Delete it to initialize new db\n", deviceCert)
			return 1
		}
		err = initStore(p, file)
	case "-r":
		err = replace(p.View(), deviceCert+"/qdevice-net-node.crq", []byte("request\n"), 0o600)
		p.Printf("Creating new certificate request\n")
		fmt.Fprint(p.Stderr, "password file contains no data\npassword file contains no data\n\n\nGenerating key.  This may take a few moments...\n\nNotice: Trust flag u is set automatically if the private key is present.\n")
		p.Printf("Certificate request stored in %s/qdevice-net-node.crq\n", deviceCert)
	case "-M":
		p.Printf("Importing signed cluster certificate\npk12util: PKCS12 EXPORT SUCCESSFUL\nCertificate stored in %s/qdevice-net-node.p12\n", deviceCert)
		err = errors.Join(copyFile(p.View(), file, ownCert), copyFile(p.View(), file, deviceCert+"/qdevice-net-node.p12"))
	case "-m":
		p.Printf("Importing cluster certificate and key\npk12util: PKCS12 IMPORT SUCCESSFUL\n")
		err = errors.Join(copyFile(p.View(), file, ownCert), copyFile(p.View(), file, deviceCert+"/qdevice-net-node.p12"))
	}
	if err != nil {
		fmt.Fprintln(p.Stderr, machine.Reason(err))
		return 1
	}
	return 0
}

func initStore(p *machine.Proc, ca string) error {
	content, err := p.View().ReadFile(ca)
	if err != nil {
		return err
	}
	for _, line := range []string{"Creating " + deviceCert, "Creating new key and cert db", "Creating new noise file " + deviceCert + "/noise.txt", "Importing CA"} {
		p.Printf("%s\n", line)
	}
	return errors.Join(p.View().MkdirAll(deviceCert, 0o755), p.View().WriteFile(deviceCert+"/noise.txt", []byte("noise\n"), 0o600), p.View().WriteFile(trustedCA, content, 0o600))
}

func copyFile(v *vfs.View, from, to string) error {
	content, err := v.ReadFile(from)
	if err != nil {
		return err
	}
	return replace(v, to, content, 0o600)
}

// certified is the authority by which a node's store was made, "" if its parts do not fit together.
func (n *Node) certified() string {
	trusted, err := n.m.FS.ReadFile(trustedCA)
	own, err2 := n.m.FS.ReadFile(ownCert)
	if err != nil || err2 != nil || string(own) != string(trusted) {
		return ""
	}
	return string(trusted)
}

// initAuthority makes an arbiter's own authority, unless it has one.
func initAuthority(m *machine.Machine) error {
	if exists(m.FS.View, qnetdCA) {
		return nil
	}
	id := make([]byte, 16)
	m.Random(id)
	return errors.Join(m.FS.MkdirAll(qnetdDir, 0o755), m.FS.WriteFile(qnetdCA, fmt.Appendf(nil, "authority %x of %s\n", id, m.Name()), 0o600))
}

// qnetdCertutil is the program corosync-qnetd-certutil.
func qnetdCertutil(_ context.Context, p *machine.Proc) int {
	args := p.Args()
	if len(args) == 0 {
		fmt.Fprintln(p.Stderr, "corosync-qnetd-certutil: [-i|-s] [-c certificate] [-n cluster_name]")
		return 1
	}
	if args[0] == "-s" {
		name := args[len(args)-1]
		if err := copyFile(p.View(), qnetdCA, qnetdDir+"/cluster-"+name+".crt"); err != nil {
			fmt.Fprintln(p.Stderr, machine.Reason(err))
			return 1
		}
		p.Printf("Signing cluster certificate\nCertificate stored in %s/cluster-%s.crt\n", qnetdDir, name)
		return 0
	}
	if exists(p.View(), qnetdDir) {
		fmt.Fprintf(p.Stderr, "Certificate database (%s) already exists. Delete it to initialize new db\n", qnetdDir)
		return 1
	}
	if err := initAuthority(p.Machine); err != nil {
		fmt.Fprintln(p.Stderr, machine.Reason(err))
		return 1
	}
	p.Printf("Creating %s\nCreating new key and cert db\nCreating new noise file %s/noise.txt\nCreating new CA\n", qnetdDir, qnetdDir)
	return 0
}
